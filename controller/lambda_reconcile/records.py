"""The state machine's record of each fleet: which run is at work on it, and what came of that.

A record is also a lease: while one run is at work, no other reads the same fleet. A function lives for fifteen minutes
at most, so the lease of a killed one ends by itself. Correctness does not depend on it: it saves doing work twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from controller.report.attention import Attention

from .bucket import Bucket, LostRaceError, Version

MAX_RECORD_BYTES = 1024 * 1024
MARGIN = timedelta(minutes=1)  # how much longer than its function lives a lease lasts


class News(BaseModel):
    """The part of a fleet's report that people may read: an Attention without its facts (a large fleet has many)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str
    digest: str
    is_needed: bool
    body: str

    @classmethod
    def of(cls, found: Attention) -> News:
        """Return the parts of an attention that are kept."""
        return cls(fleet=found.fleet, digest=found.digest, is_needed=found.is_needed, body=found.text())

    def text(self) -> str:
        """Return the text for people."""
        return self.body


class FleetRecord(BaseModel):
    """The last run of one fleet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = 1
    run: str  # the execution of the state machine
    until: AwareDatetime  # it is at work until then at the latest, or until
    ended_at: AwareDatetime | None = None
    failure: str | None = None
    news: News | None = None
    refused: str | None = None  # digest of the plan that a guardrail refused

    def is_at_work(self, now: datetime) -> bool:
        """Return whether its function may be alive, or is about to go on."""
        return self.ended_at is None and self.until > now


@dataclass(frozen=True, slots=True)
class FleetClaim:
    """One fleet in the hands of one function, until its outcome is recorded."""

    bucket: Bucket
    version: Version
    record: FleetRecord

    def end(self, record: FleetRecord) -> None:
        """Record the outcome; LostRaceError if another run has taken the fleet over."""
        self.bucket.write(self.version, record.model_dump_json(indent=1).encode())


class FleetRecords:
    """The records below one prefix of the bucket."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}fleets/"

    def claim(self, fleet: str, run: str, now: datetime, seconds: float) -> FleetClaim | FleetRecord:
        """Take a fleet for a function that lives so many seconds; or return the record of the run at work on it."""
        before, version = self._read(fleet)
        if before is not None and before.run != run and before.is_at_work(now):
            return before
        record = FleetRecord(run=run, until=now + timedelta(seconds=seconds) + MARGIN)
        try:
            version = self._bucket.write(version, record.model_dump_json(indent=1).encode())
        except LostRaceError:  # by another function, which began in the same moment
            return self.of(fleet) or record
        return FleetClaim(self._bucket, version, record)

    def of(self, fleet: str) -> FleetRecord | None:
        """Return the record of a fleet; None if there is none that can be read."""
        return self._read(fleet)[0]

    def _read(self, fleet: str) -> tuple[FleetRecord | None, Version]:
        stored = self._bucket.read(f"{self._prefix}{fleet}.json", MAX_RECORD_BYTES)
        try:
            found = None if stored.data is None else FleetRecord.model_validate_json(stored.data)
        except ValidationError:  # it holds nothing of its own: the next outcome replaces it
            found = None
        return found, stored.version
