"""Trend records of earlier reports, from the artifact that the last report left.

Anybody who may open a pull request may leave artifacts of any name. Taken are only those of this
repository's own default branch, and from them only files whose names are those of records; each
record is checked when it is read.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

from controller.errors import CertfleetError
from controller.report.trend import MAX_RECORD_BYTES

from .api import GitHub

ARTIFACT = "drift-history"
MAX_RECORDS = 20_000
_RECORD = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?/[0-9]{8}T[0-9]{6}Z\.json")


def fetch_history(github: GitHub, repository_id: int, branch: str, folder: Path) -> int:
    """Put a branch's records of the repository_id into ``folder``; return how many; there may be none yet."""
    newest = next((a for a in github.artifacts(ARTIFACT) if _is_trusted(a, repository_id, branch)), None)
    return 0 if newest is None else _unpack(github.artifact(newest["id"]), folder)


def _is_trusted(artifact: dict[str, Any] | Any, repository_id: int, branch: str) -> bool:
    run = artifact.get("workflow_run") or {}
    origin = (run.get("repository_id"), run.get("head_repository_id"), run.get("head_branch"))
    return origin == (repository_id, repository_id, branch) and not artifact["expired"]


def _unpack(data: bytes, folder: Path) -> int:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [member for member in archive.infolist() if _RECORD.fullmatch(member.filename)]
            for member in members[-MAX_RECORDS:]:
                if member.file_size <= MAX_RECORD_BYTES:
                    target = folder / member.filename
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise CertfleetError(
            f"the artifact {ARTIFACT} cannot be unpacked: {error}", "Delete it: the trend begins anew."
        ) from error
    return len(members)
