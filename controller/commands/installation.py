"""Where this program was installed from, as pip wrote it down."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

DISTRIBUTION = "certfleet"


def version_of(name: str) -> str:
    """Return the installed version of a distribution."""
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return "(not installed)"


def installed_commit() -> str | None:
    """Return the commit; None unless the installation came from a repository."""
    found = _origin().get("vcs_info", {}).get("commit_id")
    return str(found) if found else None


def requirement(extra: str) -> str:
    """Return what ``pip install`` takes to add an extra to this installation.

    It names the place that this installation came from, never a bare name.
    """
    origin = _origin()
    repository = origin.get("vcs_info")
    if repository:
        return f"{DISTRIBUTION}[{extra}] @ {repository['vcs']}+{origin['url']}@{repository['commit_id']}"
    if origin:
        return f"{DISTRIBUTION}[{extra}] @ {origin['url']}"
    return f"./{DISTRIBUTION}-{version_of(DISTRIBUTION)}-py3-none-any.whl[{extra}]"


def _origin() -> dict[str, Any]:
    """Return the content of ``direct_url.json`` (PEP 610): the folder, file or repository that pip installed this from.

    Empty if pip kept none.
    """
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    return dict(json.loads(text)) if text else {}
