"""The install step: put the pinned requirements where the run step finds them.

Standard library only. Where this interpreter has the pinned versions already (an image that brings
them), nothing is done; else ``venv`` is made in the working folder. With a ``wheelhouse`` folder in
the artifact nothing is downloaded. Hashes are checked in either case.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import Dict, Set

DIRECT = ("asn1crypto", "awscrt", "awsiotsdk", "cryptography", "python-pkcs11", "pyyaml")
"""What the component imports; the rest are their requirements."""

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^\s;]+)", re.MULTILINE)


def main() -> int:
    """Install if need be; the exit code is pip's."""
    artifact = Path(__file__).resolve().parent.parent
    requirements = artifact / "requirements.txt"
    pinned = pins(requirements.read_text(encoding="utf-8"))
    if all(_installed(name) in pinned[name] for name in DIRECT):
        sys.stdout.write("the requirements are installed already\n")
        return 0
    folder = Path.cwd() / "venv"
    venv.create(str(folder), with_pip=True, clear=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python3")
    wheelhouse = artifact / "wheelhouse"
    source = ["--no-index", "--find-links", str(wheelhouse)] if wheelhouse.is_dir() else []
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:"]
    return subprocess.call([*command, "--require-hashes", *source, "-r", str(requirements)])  # noqa: S603


def pins(text: str) -> Dict[str, Set[str]]:
    """The pinned versions of each requirement: several where they differ between versions of Python."""
    found: Dict[str, Set[str]] = {}
    for match in _PIN.finditer(text):
        found.setdefault(match["name"], set()).add(match["version"])
    return found


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
