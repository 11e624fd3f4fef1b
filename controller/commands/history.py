"""Where trend records are kept: a folder (which CI keeps as an artifact or a cache) or an S3 prefix.

One object per fleet and report, ``<fleet>/<instant>.json``: names sort by time, nothing is ever
rewritten with other content, and two reports at once do not disturb each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from controller.commands.streams import write_file
from controller.errors import CertfleetError
from controller.fleet import AwsSession
from controller.report.trend import MAX_RECORD_BYTES, TrendRecord, TrendRecordError, merged, parse_record

RECORDS_READ = 180  # the newest of a fleet: half a year of daily reports
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z\.json")
_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")


class HistoryStore(Protocol):
    """A store of documents by name."""

    def names(self, fleet: str) -> list[str]:
        """Return names of the fleet's records, in any order."""

    def read(self, fleet: str, name: str) -> bytes:
        """Return one record."""

    def write(self, fleet: str, name: str, text: str) -> None:
        """Keep a record."""


class FolderHistory:
    """Records in a folder, which is made if it is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, fleet: str) -> list[str]:
        """Return names of the files."""
        try:
            return [path.name for path in (self._folder / fleet).iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._error("read", error) from error

    def read(self, fleet: str, name: str) -> bytes:
        """Return a file's bytes, at most one more than a record may have."""
        try:
            with (self._folder / fleet / name).open("rb") as file:
                return file.read(MAX_RECORD_BYTES + 1)
        except OSError as error:
            raise self._error("read", error) from error

    def write(self, fleet: str, name: str, text: str) -> None:
        """Write the record whole or not at all."""
        try:
            (self._folder / fleet).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error("written", error) from error
        write_file(self._folder / fleet / name, text)

    def _error(self, what: str, error: OSError) -> CertfleetError:
        return CertfleetError(
            f"the history in {self._folder} cannot be {what}: {error.strerror}", "give --history a writable folder"
        )


class BucketHistory:
    """Records under an S3 prefix, with the credentials that read the fleet."""

    def __init__(self, session: AwsSession, bucket: str, prefix: str) -> None:
        self._session, self._bucket = session, bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def names(self, fleet: str) -> list[str]:
        """Return names of the objects."""
        prefix = f"{self._prefix}{fleet}/"
        pages = self._session.pages("ListObjectsV2", service="s3", Bucket=self._bucket, Prefix=prefix)
        return [entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", ())]

    def read(self, fleet: str, name: str) -> bytes:
        """Return an object's bytes, at most one more than a record may have."""
        key = f"{self._prefix}{fleet}/{name}"
        return self._session.read("s3", "GetObject", MAX_RECORD_BYTES + 1, Bucket=self._bucket, Key=key)

    def write(self, fleet: str, name: str, text: str) -> None:
        """Put the object."""
        key, body = f"{self._prefix}{fleet}/{name}", text.encode()
        self._session.call("s3", "PutObject", Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")


def history_at(place: str, session: AwsSession) -> HistoryStore:
    """Return the store at the place that ``--history`` names; raises CertfleetError if it names none."""
    if "://" not in place:
        return FolderHistory(Path(place))
    found = in_bucket(place)
    if found is None:
        raise CertfleetError(
            f"--history is {place}, expected a folder or s3://BUCKET/PREFIX", "correct it, such as: --history reports/"
        )
    return BucketHistory(session, *found)


def in_bucket(place: str) -> tuple[str, str] | None:
    """Return bucket and key, or prefix, of an ``s3://`` address; None for any other place."""
    found = _S3.fullmatch(place)
    return None if found is None else (found["bucket"], found["prefix"] or "")


def remember(history: HistoryStore, newest: TrendRecord, say: Callable[[str], None]) -> tuple[TrendRecord, ...]:
    """Keep the newest record and return the fleet's trend; ``say`` gets a line on each damaged one."""
    past = list(_past(history, newest.fleet, say))
    history.write(newest.fleet, f"{newest.created_at:%Y%m%dT%H%M%SZ}.json", newest.to_json())
    return merged(past, newest)


def _past(history: HistoryStore, fleet: str, say: Callable[[str], None]) -> Iterator[TrendRecord]:
    names = sorted(name for name in history.names(fleet) if _NAME.fullmatch(name))
    for name in names[-RECORDS_READ:]:
        try:
            yield parse_record(history.read(fleet, name))
        except TrendRecordError as error:
            say(f"history: {fleet}/{name} {error}; it is left out")
