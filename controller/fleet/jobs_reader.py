"""Rotation jobs in flight and recently ended, with their executions; and jobs that ask for a pre-flight.

A job is a rotation if its id is one of ours, or its document names it: those that people start from the job
template count too. A pre-flight is what its document names, whoever made it. Data that never changes (document,
targets, executions of an ended job) is read once and remembered. Executions are listed with all statuses in one
go: read status by status, one that moves on meanwhile could be missed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from controller.fleet.aws import AwsSession
from controller.fleet.database import Database
from controller.fleet.devices import said
from controller.fleet.jobs_list import ENDED, JobsLister, JobSummary, mark_ended
from controller.fleet.progress import Progress
from controller.fleet.work import Work
from controller.plain_text import one_line
from controller.reconcile.values import (
    DeviceExecution,
    RotationJob,
    execution_status,
    may_be_at_work,
    parse_job_id,
    policy_in,
)
from protocol.job_document import is_check, is_rotation
from protocol.names import COMPONENT_VERSION_KEY, FAILURE_REASON_KEY

Executions = dict[str, dict[str, DeviceExecution]]
"""By job, then by thing."""
MAX_FOREIGN = 100  # jobs of others that one run looks into, those in flight first; the rest follow in later runs
_UNREAD = (
    "SELECT id, status, created_at, completed_at, is_continuous "
    "FROM jobs WHERE NOT is_read ORDER BY created_at DESC, id"
)
_OPEN = "SELECT id, policy FROM jobs WHERE (is_rotation OR is_check) AND NOT is_final ORDER BY id"
FIRST_ATTEMPT = 1  # as AWS IoT numbers those that it makes by itself
MAX_REASONS = 200  # executions that one run asks about, newest first; one call each, one more if it is repeated
_UNEXPLAINED = "SELECT job_id, thing, number, last_updated_at FROM executions WHERE is_explained = 0 AND"


class JobsReader:
    """Brings the inventory's jobs up to date with AWS IoT Jobs."""

    def __init__(
        self, session: AwsSession, database: Database, now: datetime, oldest: datetime, progress: Progress
    ) -> None:
        """``oldest``: of jobs that had ended by then nothing is read."""
        self._session = session
        self._database = database
        self._lister = JobsLister(session, database, now, oldest)
        self._progress = progress
        self._done = 0

    def run(self, policies: Collection[str] | None = None) -> None:
        """Read jobs, executions and failure reasons; things whose rotation has ended are marked to be read.

        With ``policies``, their jobs alone, and those of no policy that are known to be rotations.
        """
        summaries = self._lister.run()
        with self._database.errors():
            connection = self._database.connection
            unread = [JobSummary(*row) for row in connection.execute(_UNREAD)]
            known = [(job_id, policy) for job_id, policy in connection.execute(_OPEN) if job_id in summaries]
        open_ids = [job_id for job_id, policy in known if policies is None or policy is None or policy in policies]
        work = Work()
        for summary in _to_look_into(unread, policies):
            self._look_into(work, summary)
        for job_id in open_ids:
            self._read_executions(work, summaries[job_id])
        work.run()
        self._read_reasons()

    def _look_into(self, work: Work, summary: JobSummary) -> None:
        """Find out what a job is; if it is a rotation, read its executions."""

        def then(identity: tuple[Any, ...]) -> None:
            self._keep_job(summary, identity)
            self._progressed()
            if identity[0] or identity[1]:
                self._read_executions(work, summary)

        work.add(lambda: self._identify(summary), then)

    def _read_executions(self, work: Work, summary: JobSummary) -> None:
        def call() -> list[dict[str, Any]] | None:
            return self._session.find_all("ListJobExecutionsForJob", "executionSummaries", jobId=summary.job_id)

        def then(entries: list[dict[str, Any]] | None) -> None:
            self._keep_executions(summary, entries or [])
            self._progressed()

        work.add(call, then)

    def _progressed(self) -> None:
        self._done += 1
        self._progress("jobs", self._done, None)

    def _identify(self, summary: JobSummary) -> tuple[bool, bool, str | None, str | None, str | None]:
        """Return (is a rotation, is a pre-flight, policy, commit, document): one call, once for each job."""
        answer = self._session.find("iot", "GetJobDocument", jobId=summary.job_id) or {}
        text: str | None = answer.get("document")
        document = _parsed(text)
        ours = parse_job_id(summary.job_id)
        rotates, checks = ours is not None or is_rotation(document), ours is None and is_check(document)
        if not rotates and not checks:
            return False, False, None, None, None
        policy = _text(document.get("policy")) or (ours.policy if ours else None)
        return rotates, checks, policy, _text(document.get("commit")), text

    def _keep_job(self, summary: JobSummary, identity: tuple[Any, ...]) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE jobs SET is_read = 1, is_rotation = ?, is_check = ?, policy = ?, commit_hash = ?, document = ? "
                "WHERE id = ?",
                (*identity, summary.job_id),
            )

    def _keep_executions(self, summary: JobSummary, entries: list[dict[str, Any]]) -> None:
        rows = [_execution_row(summary.job_id, entry) for entry in entries]
        running = frozenset(row["thing"] for row in rows if may_be_at_work(execution_status(row["status"])))
        with self._database.transaction() as connection:
            mark_ended(connection, summary.job_id, rows)
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS listed (thing TEXT PRIMARY KEY)")
            connection.execute("DELETE FROM listed")
            connection.executemany("INSERT OR IGNORE INTO listed VALUES (:thing)", rows)
            connection.execute(
                "DELETE FROM executions WHERE job_id = ? AND thing NOT IN (SELECT thing FROM listed)",
                (summary.job_id,),
            )
            connection.executemany(_UPSERT_EXECUTION, rows)
            # Cancelling a job lets executions in progress run on.
            is_final = summary.status in ENDED and not running
            connection.execute("UPDATE jobs SET is_final = ? WHERE id = ?", (is_final, summary.job_id))

    def _read_reasons(self) -> None:
        with self._database.errors():
            waiting = self._database.connection.execute(
                f"{_UNEXPLAINED} status IN ('FAILED', 'TIMED_OUT', 'REJECTED') UNION ALL "
                f"{_UNEXPLAINED} status IN ('SUCCEEDED', 'CANCELED', 'REMOVED') AND number > 1 "
                "ORDER BY last_updated_at DESC, job_id, thing LIMIT ?",
                (MAX_REASONS,),
            ).fetchall()
        work = Work()
        for job_id, thing, number, _ in waiting:

            def call(job_id: str = job_id, thing: str = thing, number: int = number) -> list[dict[str, Any]]:
                named: dict[str, Any] = {"jobId": job_id, "thingName": thing}
                first = named | {"executionNumber": FIRST_ATTEMPT}
                asked = [named, first] if number > FIRST_ATTEMPT else [named]
                found = [self._session.find("iot", "DescribeJobExecution", **one) for one in asked]
                return [(answer or {}).get("execution", {}) for answer in found]

            def keep(found: list[dict[str, Any]], job_id: str = job_id, thing: str = thing) -> None:
                details = found[0].get("statusDetails", {}).get("detailsMap", {})
                first = found[1].get("queuedAt") if found[1:] else None
                with self._database.transaction() as connection:
                    connection.execute(
                        "UPDATE executions SET is_explained = 1, failure_reason = ?, component_version = ?, "
                        "first_queued_at = ? WHERE job_id = ? AND thing = ?",
                        (
                            details.get(FAILURE_REASON_KEY),
                            details.get(COMPONENT_VERSION_KEY),
                            first.timestamp() if first else None,
                            job_id,
                            thing,
                        ),
                    )

            work.add(call, keep)
        work.run()


def stored_jobs(connection: sqlite3.Connection) -> tuple[tuple[RotationJob, ...], tuple[RotationJob, ...]]:
    """Return the rotation jobs of the inventory and those that ask for a pre-flight, each oldest first."""
    executions: Executions = {}
    for job_id, thing, status, queued_at, started_at, last_updated_at, reason, version, first in connection.execute(
        "SELECT job_id, thing, status, queued_at, started_at, last_updated_at, failure_reason, component_version, "
        "first_queued_at FROM executions ORDER BY job_id, thing"
    ):
        executions.setdefault(job_id, {})[thing] = DeviceExecution(
            job_id=job_id,
            status=execution_status(status),
            queued_at=_instant(queued_at),
            last_updated_at=_instant(last_updated_at),
            started_at=None if started_at is None else _instant(started_at),
            failure_reason=said(reason),
            component_version=said(version),
            first_queued_at=None if first is None else _instant(first),
        )
    rotations, checks = (
        connection.execute(
            "SELECT id, status, created_at, policy, commit_hash, completed_at, is_continuous, document "  # noqa: S608 (our own columns)
            f"FROM jobs WHERE {which} ORDER BY created_at, id"
        )
        for which in ("is_rotation", "is_check")
    )
    return _jobs(rotations, executions), _jobs(checks, executions)


def _jobs(rows: Iterable[tuple[Any, ...]], executions: Executions) -> tuple[RotationJob, ...]:
    return tuple(_job(row, executions.get(row[0], {})) for row in rows)


def _job(row: tuple[Any, ...], executions: dict[str, DeviceExecution]) -> RotationJob:
    job_id, status, created_at, policy, commit, completed_at, is_continuous, document = row
    ours = parse_job_id(job_id)
    return RotationJob(
        job_id=job_id,
        status=status,
        created_at=_instant(created_at),
        policy=policy,
        commit=commit,
        wave=ours.wave if ours else None,
        completed_at=None if completed_at is None else _instant(completed_at),
        is_continuous=bool(is_continuous),
        executions=executions,
        document=document,
    )


def _to_look_into(unread: list[JobSummary], policies: Collection[str] | None) -> list[JobSummary]:
    """Return the jobs to look into: all of ours, and some of the others.

    Of the others, those in flight come before those that have ended, the newest first. With ``policies``, only the
    jobs of these are returned.
    """
    if policies is not None:
        return [one for one in unread if policy_in(one.job_id) in policies]
    ours: list[JobSummary] = []
    others: list[JobSummary] = []
    for summary in unread:
        (others if policy_in(summary.job_id) is None else ours).append(summary)
    return ours + sorted(others, key=lambda one: one.status in ENDED)[:MAX_FOREIGN]


def _execution_row(job_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    summary = entry["jobExecutionSummary"]
    started = summary.get("startedAt")
    return {
        "job_id": job_id,
        "thing": entry["thingArn"].partition(":thing/")[2],
        "status": summary["status"],
        "queued_at": summary["queuedAt"].timestamp(),
        "started_at": started.timestamp() if started else None,
        "last_updated_at": summary["lastUpdatedAt"].timestamp(),
        "number": summary.get("executionNumber", 0),
    }


_UPSERT_EXECUTION = """
INSERT INTO executions (job_id, thing, status, queued_at, started_at, last_updated_at, number)
VALUES (:job_id, :thing, :status, :queued_at, :started_at, :last_updated_at, :number)
ON CONFLICT (job_id, thing) DO UPDATE SET
    is_explained = is_explained AND status = :status AND last_updated_at = :last_updated_at,
    failure_reason = CASE WHEN status = :status AND last_updated_at = :last_updated_at THEN failure_reason END,
    component_version = CASE WHEN status = :status AND last_updated_at = :last_updated_at THEN component_version END,
    first_queued_at = CASE WHEN status = :status AND last_updated_at = :last_updated_at THEN first_queued_at END,
    status = :status, queued_at = :queued_at, started_at = :started_at,
    last_updated_at = :last_updated_at, number = :number
"""


def _text(value: Any) -> str | None:
    """Return a text of a document that anyone may have written."""
    return one_line(value) if isinstance(value, str) else None


def _parsed(document: str | None) -> dict[str, Any]:
    """Return a job document; anyone may have written it, so anything but a JSON object is an empty one."""
    try:
        parsed = json.loads(document or "")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
