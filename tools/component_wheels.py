"""Report whether every requirement of the component has a wheel wherever a device may run: ``make component-wheels``.

Each Python from 3.9 to 3.13, on x86-64 and arm64, Linux with glibc 2.28 or later: pip fetches wheels only, for that
platform, and checks their hashes. Nothing is installed. ``--download DIR`` keeps what was fetched: a wheelhouse for
each platform, as ``python -m component.build --wheelhouse`` takes it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from component_matrix import VERSIONS

ROOT = Path(__file__).resolve().parent.parent
PATCH = 2  # any but the first two: some packages refuse 3.9.0 and 3.9.1
MACHINES = ("x86_64", "aarch64")
GLIBC = ("manylinux_2_28", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux_2_12", "manylinux_2_5",
         "manylinux2014", "manylinux2010", "manylinux1")  # fmt: skip


def main() -> int:
    """Return 0 if every wheel is there."""
    parser = argparse.ArgumentParser(prog="component_wheels", description="Find the wheels of the requirements.")
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="of Python; all when none is named")
    parser.add_argument("--download", type=Path, help="keep the wheels, in DIR/PYTHON-MACHINE")
    options = parser.parse_args()
    complete = True
    with tempfile.TemporaryDirectory() as temporary:
        for version in options.versions or VERSIONS:
            for machine in MACHINES:
                target = (options.download or Path(temporary)) / f"{version}-{machine}"
                problem = download(version, machine, target)
                wheels = sorted(path.name for path in target.glob("*.whl"))
                sys.stdout.write(f"Python {version} on {machine}: {problem or f'{len(wheels)} wheels'}\n")
                complete = complete and not problem
    return 0 if complete else 1


def download(version: str, machine: str, target: Path) -> str:
    """Fetch the wheels of one platform, hashes checked; return pip's error if one is missing, else an empty text."""
    pinned = target.with_suffix(".txt")
    pinned.parent.mkdir(parents=True, exist_ok=True)
    pinned.write_text(requirements_for(version), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
               "--only-binary=:all:", "--require-hashes", "-r", str(pinned), "-d", str(target),
               "--implementation", "cp", "--python-version", f"{version}.{PATCH}",
               *(word for tag in GLIBC for word in ("--platform", f"{tag}_{machine}"))]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # own words
    pinned.unlink()
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else (errors or [f"pip ended with {done.returncode}"])[-1]


def requirements_for(version: str) -> str:
    """Return the locked list without what is for other Pythons: pip asks its own Python, not the one that is meant."""
    from packaging.requirements import Requirement  # noqa: PLC0415  # comes with pytest

    text = (ROOT / "component" / "requirements.txt").read_text(encoding="utf-8")
    kept = []
    for block in re.split(r"\n(?=\S)", text.strip()):
        head, *hashes = block.split("\\\n")
        requirement = Requirement(head.strip())
        environment = {"python_version": version, "python_full_version": f"{version}.{PATCH}", "sys_platform": "linux"}
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            kept.append(" ".join([str(requirement), *(part.strip() for part in hashes)]))
    return "\n".join(kept) + "\n"


if __name__ == "__main__":
    sys.exit(main())
