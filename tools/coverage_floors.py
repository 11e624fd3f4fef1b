"""Fail if the coverage of a package is below its floor.

Reads the data that the test run left, through ``coverage json``. The floors are of lines and
branches together, per folder, in per cent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FLOORS = {
    "controller/": 95.0,
    "protocol/": 95.0,
    "backend/functions/": 100.0,
}


def percent_covered(report: dict[str, dict[str, dict[str, dict[str, int]]]], folder: str) -> float:
    """Return lines and branches of the folder that ran, as a percentage of all."""
    covered = total = 0
    for path, entry in report["files"].items():
        if path.startswith(folder):
            summary = entry["summary"]
            covered += summary["covered_lines"] + summary["covered_branches"]
            total += summary["num_statements"] + summary["num_branches"]
    if total == 0:
        sys.exit(f"coverage: nothing was measured under {folder}")
    return 100.0 * covered / total


def main() -> None:
    """Print each folder's figure beside its floor; exit 1 if one is below."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "coverage.json")
        subprocess.run([sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(path)], check=True)  # noqa: S603
        report = json.loads(path.read_text(encoding="utf-8"))
    failed = False
    for name, floor in FLOORS.items():
        found = percent_covered(report, name)
        failed |= found < floor
        print(f"coverage of {name:<20} {found:6.2f} %  (floor {floor:.0f} %)")  # noqa: T201
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
