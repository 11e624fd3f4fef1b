"""The desired state in one file, for a reconcile run that has no git: written by CI, read by the Lambda.

A bundle is one line of JSON, the header, and a body of canonical JSON. The header shows length and
SHA-256 of the body, and holds the signature over that digest if there is one. The body shows the
repository, the commit and, for each file, its path, size, SHA-256 and text. Equal input gives equal
bytes.

A digest only shows damage. The signature shows the author of a bundle; without one, anybody may be the author
who may write to the bundle's place. ``require_successor`` refuses what must not follow the bundle last applied.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol

from controller.errors import BundleError
from controller.reconcile.values import follows

from .limits import Limits
from .sources import DocumentFile, Gatherer, Snapshot

FORMAT = "certfleet-bundle"
FORMAT_VERSION = 2  # 1 had no ancestors


class Signer(Protocol):
    """Signs a bundle's digest."""

    @property
    def key_id(self) -> str:
        """Names the key, for people and for the verifier."""
        ...

    def sign(self, digest: bytes) -> bytes:
        """Return the signature over a SHA-256 digest."""
        ...


class Verifier(Protocol):
    """Checks whether a signature is that of the key it trusts."""

    def verify(self, digest: bytes, signature: bytes) -> bool:
        """Return whether the signature over the SHA-256 digest is good."""
        ...


@dataclass(frozen=True, slots=True)
class BundledFile:
    """One file of documents."""

    path: str  # from the repository's root, as messages show it
    inner: str  # inside the desired-state folder
    text: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """The content of a bundle."""

    repository: str  # host and path, such as github.com/acme/fleet
    commit: str  # full hash
    committed_at: datetime
    created_at: datetime
    files: tuple[BundledFile, ...]
    ancestors: tuple[str, ...] | None = None  # commits that this one contains; None: whoever packed it did not know


@dataclass(frozen=True, slots=True)
class LastApplied:
    """The bundle that was applied last, as the reconcile run remembers it."""

    repository: str
    commit: str
    committed_at: datetime
    created_at: datetime


def make_bundle(snapshot: Snapshot, created_at: datetime, repository: str | None = None) -> Bundle:
    """Bundle a committed snapshot, created now; ``repository`` names one that has no origin. Raises BundleError."""
    name = repository or snapshot.repository
    if snapshot.commit is None or snapshot.committed_at is None or snapshot.is_dirty:
        raise BundleError(
            "found documents that are not committed; a bundle holds one commit",
            "Commit them, or name a commit: --ref HEAD.",
        )
    if name is None:
        raise BundleError("found a repository without a remote called origin", "Name it: --repository NAME.")
    if snapshot.problems:
        raise BundleError(f"found files that cannot be read: {snapshot.problems[0]}", "Run certfleet validate.")
    try:
        files = [BundledFile(file.path, file.inner, file.data.decode("utf-8")) for file in snapshot.files]
    except UnicodeDecodeError as error:
        raise BundleError(f"found a file that is not text in UTF-8: {error}", "Run certfleet validate.") from None
    ordered = tuple(sorted(files, key=lambda file: file.inner))
    return Bundle(name, snapshot.commit, snapshot.committed_at, created_at, ordered, snapshot.ancestors)


def write_bundle(bundle: Bundle, signer: Signer | None = None) -> bytes:
    """Return the bundle's bytes, signed if there is a signer."""
    body = _canonical(
        {
            "repository": bundle.repository,
            "commit": bundle.commit,
            "committed_at": _instant_text(bundle.committed_at),
            "created_at": _instant_text(bundle.created_at),
            "ancestors": bundle.ancestors,
            "files": [_file_fields(file) for file in bundle.files],
        }
    )
    digest = sha256(body)
    header: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "length": len(body),
        "sha256": digest.hexdigest(),
    }
    if signer is not None:
        signature = base64.b64encode(signer.sign(digest.digest())).decode()
        header |= {"key_id": signer.key_id, "signature": signature}
    return _canonical(header) + b"\n" + body


def require_successor(bundle: Bundle, last: LastApplied | None) -> None:
    """Raise BundleError if the bundle must not be applied after ``last``: replay, or another repository."""
    if last is None:
        return
    if bundle.repository != last.repository:
        raise BundleError(
            f"found a bundle of {bundle.repository}; {last.repository} was applied before",
            "Publish from that repository, or remove the record of the last bundle if the move is meant.",
        )
    if bundle.commit == last.commit:
        return
    # A commit may carry a date to come: it counts from when it was packed, or nothing could follow it for years.
    committed_at = min(last.committed_at, last.created_at)
    is_next = follows(bundle.ancestors, bundle.committed_at, last.commit, committed_at)
    if not is_next or bundle.created_at < last.created_at:
        raise BundleError(
            f"found a bundle of {bundle.commit[:12]}, packed {_instant_text(bundle.created_at)}, which does not follow "
            f"the one applied last, {last.commit[:12]}, packed {_instant_text(last.created_at)}",
            "Publish the newest commit; to go back, revert with a new commit. If the branch was replaced for good, "
            "remove the record of the last bundle.",
        )


def snapshot_of(bundle: Bundle, limits: Limits) -> Snapshot:
    """Return the bundle's files as a source gives them."""
    gatherer = Gatherer(limits)
    for file in bundle.files:
        data = file.text.encode("utf-8")
        if gatherer.admits_size(file.path, len(data)):
            gatherer.take(DocumentFile(file.path, file.inner, data))
    return Snapshot(
        folder=f"the bundle of {bundle.commit[:12]}",
        files=tuple(gatherer.files),
        problems=tuple(gatherer.problems),
        commit=bundle.commit,
        committed_at=bundle.committed_at,
        ancestors=bundle.ancestors,
        repository=bundle.repository,
    )


def _file_fields(file: BundledFile) -> dict[str, Any]:
    data = file.text.encode("utf-8")
    return {
        "path": file.path,
        "inner": file.inner,
        "size": len(data),
        "sha256": sha256(data).hexdigest(),
        "text": file.text,
    }


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _instant_text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
