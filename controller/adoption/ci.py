"""The files with which a repository of documents lets CI reconcile: each calls a workflow of certfleet's own."""

from __future__ import annotations

import re
from pathlib import Path

from controller.errors import CertfleetError

CI_FOLDERS = {"github": ".github/workflows", "gitlab": "."}
"""Where a system looks for its files, by the system's name."""

_NAMES = {"gitlab-ci.yml": ".gitlab-ci.yml"}  # a hidden file is easily left out of a wheel

_PINNED = {
    "github": re.compile(r"[\w.-]+/[\w.-]+@([0-9a-f]{40}|v\d+\.\d+\.\d+)"),
    "gitlab": re.compile(r"[\w.-]+(/[\w.-]+)+@([0-9a-f]{40}|v\d+\.\d+\.\d+)"),  # groups may have groups
}


def ci_files(system: str, workflows: str) -> dict[str, str]:
    """Write the files for one system.

    Args:
        system: One of ``CI_FOLDERS``.
        workflows: The repository that holds certfleet's workflows, and the commit that is called:
            ``OWNER/REPOSITORY@COMMIT``, with all 40 digits, or the tag of a release.

    Returns:
        The text of each file, by its name.

    Raises:
        CertfleetError: The repository is not named so.
    """
    if not _PINNED[system].fullmatch(workflows):
        raise CertfleetError(
            f"--workflows is {workflows!r}; expected the copy of certfleet's repository that CI may call, and a commit",
            f"certfleet init --ci {system} --workflows OWNER/REPOSITORY@COMMIT   (40 digits, or a tag such as v1.2.3)",
        )
    repository, _, commit = workflows.partition("@")
    files = sorted(Path(__file__).with_name(system).glob("*.yml"))
    return {_NAMES.get(path.name, path.name): _filled(path, repository, commit) for path in files}


def _filled(path: Path, repository: str, commit: str) -> str:
    return re.sub(r"\bCOMMIT\b", commit, path.read_text(encoding="utf-8").replace("OWNER/certfleet", repository))
