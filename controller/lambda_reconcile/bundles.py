"""The bundle to apply, and the record of the one applied last: no replay, no other repository.

The record is written before anything is changed, and only over the state that was read. From then on
every other run refuses what is older.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from controller.desired.bundle import Bundle, LastApplied, Verifier, require_successor
from controller.desired.bundle_reader import read_bundle
from controller.errors import BundleError, CertfleetError

from .bucket import Bucket, Version
from .settings import ReconcileSettings

MAX_BUNDLE_BYTES = 256 * 1024 * 1024  # a longer one is cut, and refused for that
MAX_RECORD_BYTES = 64 * 1024


class BundleVersion(BaseModel):
    """The bundle of a run; it travels through the state machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str
    created_at: AwareDatetime

    @classmethod
    def of(cls, bundle: Bundle) -> BundleVersion:
        """Return the version of a bundle."""
        return cls(commit=bundle.commit, created_at=bundle.created_at)


class ReplacedBundleError(CertfleetError):
    """CI has published another bundle since the run began; the next run applies that bundle."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format_version: Annotated[int, Field(ge=1, le=1)] = 1
    repository: str
    commit: str
    committed_at: AwareDatetime
    created_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class _Found:
    last: LastApplied | None
    version: Version


def take_bundle(
    bucket: Bucket,
    settings: ReconcileSettings,
    now: datetime,
    verifier: Verifier | None,
    only: BundleVersion | None = None,
) -> Bundle:
    """Read, check and record the bundle; BundleError if it must not be applied, LostRaceError on a race.

    ``only`` is the version that a run began with: ReplacedBundleError if the bucket holds another one by now.
    """
    stored = bucket.read(settings.bundle_key, MAX_BUNDLE_BYTES)
    if stored.data is None:
        raise BundleError(
            f"found no bundle at s3://{settings.bucket}/{settings.bundle_key}",
            f"Publish one from CI: certfleet bundle --output s3://{settings.bucket}/{settings.bundle_key}",
        )
    bundle = read_bundle(stored.data, now=now, verifier=verifier)
    if bundle.repository != settings.repository:
        raise BundleError(
            f"found a bundle of {bundle.repository}; this function takes {settings.repository} only",
            "Publish from that repository, or deploy the stack with the other one's name.",
        )
    if only is not None and BundleVersion.of(bundle) != only:
        raise ReplacedBundleError(
            f"the bundle of commit {only.commit[:12]} was replaced by one of commit {bundle.commit[:12]} meanwhile",
            "Nothing need be done: the next run is about the new one.",
        )
    found = _read_record(bucket, settings)
    require_successor(bundle, found.last)
    if found.last is None or (bundle.commit, bundle.created_at) != (found.last.commit, found.last.created_at):
        bucket.write(found.version, _record_text(bundle))
    return bundle


def _read_record(bucket: Bucket, settings: ReconcileSettings) -> _Found:
    stored = bucket.read(f"{settings.state_prefix}last-applied.json", MAX_RECORD_BYTES)
    if stored.data is None:
        return _Found(None, stored.version)
    try:
        record = _Record.model_validate_json(stored.data)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise BundleError(
            f"found a damaged record of the last bundle at s3://{settings.bucket}/{stored.version.key}: {detail}",
            "Restore an earlier version of the object: without it a replayed bundle could not be recognised.",
        ) from None
    return _Found(LastApplied(record.repository, record.commit, record.committed_at, record.created_at), stored.version)


def _record_text(bundle: Bundle) -> bytes:
    record = _Record(
        repository=bundle.repository,
        commit=bundle.commit,
        committed_at=bundle.committed_at,
        created_at=bundle.created_at,
    )
    return record.model_dump_json(indent=1).encode()
