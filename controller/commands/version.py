"""What is running: version, commit, and the formats it speaks."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from git import InvalidGitRepositoryError, NoSuchPathError, Repo

from controller.reconcile.values import FORMAT_VERSION

DISTRIBUTION = "certfleet"
PARTS = ("boto3", "botocore", "cryptography", "pydantic")


def version_text() -> str:
    """A line for the program, one for what it reads and writes, one for what it stands on."""
    libraries = " ".join(f"{name} {_version(name)}" for name in PARTS)
    return (
        f"certfleet {_version(DISTRIBUTION)} (commit {commit() or 'unknown'})\n"
        f"desired state certfleet/v1, plan format {FORMAT_VERSION}\n"
        f"Python {platform.python_version()} {libraries}\n"
    )


def commit() -> str | None:
    """The commit this program was installed or is run from; None where that cannot be told."""
    return _installed_commit() or _checked_out_commit()


def _version(name: str) -> str:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return "(not installed)"


def _installed_commit() -> str | None:
    """From ``direct_url.json`` (PEP 610), where the installation came from a repository."""
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    found = json.loads(text).get("vcs_info", {}).get("commit_id") if text else None
    return str(found) if found else None


def _checked_out_commit() -> str | None:
    try:
        with Repo(Path(__file__).parents[2]) as repository:
            return repository.head.commit.hexsha
    except (InvalidGitRepositoryError, NoSuchPathError, ValueError):
        return None
