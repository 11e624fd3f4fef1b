"""The running program: version, commit, and the formats it speaks."""

from __future__ import annotations

import platform
from pathlib import Path

from controller.commands.installation import DISTRIBUTION, installed_commit, version_of
from controller.desired.repository import GitCommandError, find_repository
from controller.errors import GitError
from controller.reconcile.values import FORMAT_VERSION

PARTS = ("boto3", "botocore", "cryptography", "pydantic")


def version_text() -> str:
    """Return a line for the program, one for what it reads and writes, one for what it stands on."""
    libraries = " ".join(f"{name} {version_of(name)}" for name in PARTS)
    return (
        f"certfleet {version_of(DISTRIBUTION)} (commit {commit() or 'unknown'})\n"
        f"desired state certfleet/v1, plan format {FORMAT_VERSION}\n"
        f"Python {platform.python_version()} {libraries}\n"
    )


def commit() -> str | None:
    """Return the commit this program was installed or is run from; None if it is not known."""
    return installed_commit() or _checked_out_commit()


def _checked_out_commit() -> str | None:
    checkout = Path(__file__).parents[2]
    try:
        repository = find_repository(checkout)
        if repository is None or repository.top != checkout:
            return None
        return repository.ask("rev-parse", "--verify", "--quiet", "HEAD")
    except (GitCommandError, GitError):
        return None
