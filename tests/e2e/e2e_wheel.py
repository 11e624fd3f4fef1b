"""Builds what is released of the Python program, as any front end of PEP 517 does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = (
    "backend", "component", "controller", "desired_state", "protocol", "sandbox", "LICENSE", "README.md",
    "pyproject.toml",
)  # fmt: skip


def copy_sources(folder):
    """A copy, so that a build finds nothing of an earlier one; its files are as old as the copy is."""
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def build(what, sources, **environment):
    """The path of the built wheel or sdist."""
    done = subprocess.run(
        [sys.executable, "-c", f"from hatchling.build import build_{what}; print(build_{what}('dist'))"],
        cwd=sources, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return sources / "dist" / done.stdout.splitlines()[-1]
