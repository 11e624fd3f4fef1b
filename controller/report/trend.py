"""One report in a few numbers, kept so that the next reports can show where the fleet is going.

A record is a small JSON document per fleet and report. Records are read back from a place that others
can write to, so they are checked like any input. No I/O here; ``controller.commands.history`` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from controller.reconcile.values import FAILED, Outcome
from protocol.messages import ExecutionStatus

if TYPE_CHECKING:
    from .model import FleetReport

MAX_RECORD_BYTES = 16 * 1024  # a longer document is none of ours

Count = Annotated[int, Field(ge=0)]


class TrendRecord(BaseModel):
    """The counts of one report in one fleet. Within one format version fields are only ever added."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format_version: Literal[1] = 1
    kind: Literal["TrendRecord"] = "TrendRecord"
    created_at: Annotated[AwareDatetime, Field(strict=False)]
    fleet: str
    commit: str | None
    governed: Count
    in_sync: Count
    rotate: Count
    waiting: Count
    blocked: Count
    left_out: Count = 0  # of the blocked: those that a person has waived or suspended; records of before have none
    unmanaged: Count
    succeeded: Count  # rotations that ended well, of the jobs that the report looked back on
    failed: Count  # rotations that failed, timed out or were rejected, likewise

    def to_json(self) -> str:
        """Return the JSON text in which the record is kept."""
        return self.model_dump_json(indent=2) + "\n"


class TrendRecordError(ValueError):
    """A document that is not a trend record; the message shows why."""


def parse_record(text: bytes) -> TrendRecord:
    """Read a kept record; raises TrendRecordError."""
    if len(text) > MAX_RECORD_BYTES:
        raise TrendRecordError(f"is {len(text):,} bytes long; a record has at most {MAX_RECORD_BYTES:,}")
    try:
        return TrendRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrendRecordError(f"is not a trend record: {where + ': ' if where else ''}{first['msg']}") from None


def record_of(report: FleetReport, created_at: datetime) -> TrendRecord:
    """Return the record, created then, of one fleet's report."""
    statuses = [execution.status for job in report.state.jobs for execution in job.executions.values()]
    return TrendRecord(
        created_at=created_at,
        fleet=report.desired.fleet.name,
        commit=report.desired.commit,
        governed=report.governed,
        in_sync=report.in_sync,
        rotate=report.outcomes.get(Outcome.ROTATE, 0),
        waiting=report.outcomes.get(Outcome.WAITING, 0),
        blocked=report.outcomes.get(Outcome.BLOCKED, 0),
        left_out=report.left_out,
        unmanaged=report.state.unmanaged_count or 0,
        succeeded=sum(status is ExecutionStatus.SUCCEEDED for status in statuses),
        failed=sum(status in FAILED for status in statuses),
    )


def merged(past: Iterable[TrendRecord], newest: TrendRecord) -> tuple[TrendRecord, ...]:
    """Return the fleet's records, oldest first: the past ones, at most one for each instant, then the newest."""
    older = {
        record.created_at: record
        for record in past
        if record.fleet == newest.fleet and record.created_at < newest.created_at
    }
    return (*(older[instant] for instant in sorted(older)), newest)
