"""Whether a tag may be released: program, changelog with upgrade notes, and what it leaves for tests are there.

python tools/release_check.py v1.2.3
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def found(tag: str) -> list[str]:
    """Return what stands in the way, each with what to do."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if tag != f"v{version}":
        return [
            f"the tag is {tag}, the program's version is {version}: set version in pyproject.toml, or tag v{version}"
        ]
    heading = re.search(rf"^## {re.escape(version)}\b.*$", changelog, re.MULTILINE)
    if heading is None:
        return [f"CHANGELOG.md has no heading '## {version}': write one in place of '## Unreleased'"]
    section = changelog[heading.end() :].partition("\n## ")[0]
    if "\n### Upgrade\n" not in section:
        return [f"CHANGELOG.md shows of {version} nothing under '### Upgrade': what must be deployed, or has changed"]
    kept = f"tests/cli/kept/{version}"
    if not (ROOT / kept).is_dir():
        return [f"nothing that {version} leaves is kept for later ones to read: python tests/cli/cli_kept.py {kept}"]
    return []


def main() -> int:
    """Print what stands in the way; return whether anything does."""
    problems = found(sys.argv[1])
    sys.stdout.write("".join(f"::error title=release::{problem}\n" for problem in problems))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
