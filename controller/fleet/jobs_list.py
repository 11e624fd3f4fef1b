"""The list of jobs: all in flight, those that have ended of late, and ours whatever else the account does.

ListJobs filters by status only, newest first. Ended jobs are listed to the end once a day, and between as far as
nothing older can have been overlooked. A job that a listing does not show is not gone: a rotation that we know is asked
for by its id, and what has ended before stays known until it no longer counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controller.fleet.aws import AwsSession
from controller.fleet.database import Database
from controller.reconcile.values import execution_status, may_be_at_work

TO_THE_END_EVERY = timedelta(days=1)
OVERLAP = timedelta(hours=1)  # listed again, for jobs that were made while pages were read
ENDED = ("COMPLETED", "CANCELED")
ENDS = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED"})  # of executions that a device has begun


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as ListJobs and DescribeJob show it."""

    job_id: str
    status: str
    created_at: float
    completed_at: float | None
    is_continuous: bool

    @classmethod
    def of(cls, entry: dict[str, Any]) -> JobSummary:
        """Return the summary of an entry in an answer."""
        completed = entry.get("completedAt")
        return cls(
            entry["jobId"],
            entry["status"],
            entry["createdAt"].timestamp(),
            completed.timestamp() if completed else None,
            entry.get("targetSelection") == "CONTINUOUS",
        )

    @property
    def ended_at(self) -> float:
        """When it ended, or the earliest instant at which it may have."""
        return self.completed_at or self.created_at


class JobsLister:
    """Lists jobs, and brings the inventory's own list up to date."""

    def __init__(self, session: AwsSession, database: Database, now: datetime, oldest: datetime) -> None:
        """Take what to list with. A job that had ended by ``oldest`` does not count any more."""
        self._session = session
        self._database = database
        self._now = now
        self._oldest = oldest.timestamp()

    def run(self) -> dict[str, JobSummary]:
        """Return every job that counts, by id, as AWS shows it now.

        A job that is gone is forgotten, and its things are marked to be read again.
        """
        with self._database.errors():
            connection = self._database.connection
            (listed_at,) = connection.execute("SELECT jobs_listed_at FROM binding").fetchone()
            open_ids = connection.execute(
                "SELECT id FROM jobs WHERE (is_rotation OR is_check) AND NOT is_final ORDER BY id"
            )
            known = [row[0] for row in open_ids]
        since = self._since(listed_at)
        found = {summary.job_id: summary for summary in self._list(since)}
        gone = [job_id for job_id in known if job_id not in found and not self._still_there(job_id, found)]
        with self._database.transaction() as connection:
            self._adopt(connection, found, gone, is_complete=since is None)
        return found

    def _since(self, listed_at: float | None) -> float | None:
        """Return the instant before which all jobs were listed already; None: list to the end."""
        if listed_at is None or not 0 <= self._now.timestamp() - listed_at < TO_THE_END_EVERY.total_seconds():
            return None
        return listed_at - OVERLAP.total_seconds()

    def _list(self, since: float | None) -> Iterator[JobSummary]:
        for answer in self._session.pages("ListJobs", status="IN_PROGRESS"):
            yield from map(JobSummary.of, answer["jobs"])
        for status in ENDED:
            for answer in self._session.pages("ListJobs", status=status):
                summaries = [JobSummary.of(entry) for entry in answer["jobs"]]
                yield from (one for one in summaries if one.ended_at >= self._oldest)
                if since is not None and all(one.created_at < since for one in summaries):
                    break

    def _still_there(self, job_id: str, found: dict[str, JobSummary]) -> bool:
        answer = self._session.find("iot", "DescribeJob", jobId=job_id)
        if answer is not None:
            found[job_id] = JobSummary.of(answer["job"])
        return answer is not None

    def _adopt(
        self, connection: sqlite3.Connection, found: dict[str, JobSummary], gone: list[str], *, is_complete: bool
    ) -> None:
        known = dict(connection.execute("SELECT id, created_at FROM jobs").fetchall())
        replaced = [job_id for job_id, one in found.items() if known.get(job_id, one.created_at) != one.created_at]
        absent = set(known) - set(found) if is_complete else set()
        for job_id in {*gone, *replaced, *absent}:
            mark_ended(connection, job_id)
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        ended = "DELETE FROM jobs WHERE is_final AND coalesce(completed_at, created_at) < ?"
        connection.execute(ended, (self._oldest,))
        connection.executemany(
            "INSERT INTO jobs (id, created_at, status, completed_at, is_continuous, is_rotation, targets, is_read) "
            "VALUES (:job_id, :created_at, :status, :completed_at, :is_continuous, 0, '[]', 0) "
            "ON CONFLICT (id) DO UPDATE SET status = excluded.status, completed_at = excluded.completed_at",
            [
                {
                    "job_id": one.job_id,
                    "created_at": one.created_at,
                    "status": one.status,
                    "completed_at": one.completed_at,
                    "is_continuous": one.is_continuous,
                }
                for one in found.values()
            ],
        )
        if is_complete:
            connection.execute("UPDATE binding SET jobs_listed_at = ?", (self._now.timestamp(),))


def mark_ended(connection: sqlite3.Connection, job_id: str, rows: Iterable[dict[str, Any]] = ()) -> None:
    """Have things read again that may have rotated in the job since the last look; ``rows`` are its executions now."""
    if not connection.execute("SELECT 1 FROM jobs WHERE id = ? AND is_rotation", (job_id,)).fetchone():
        return
    query = "SELECT thing, status, last_updated_at FROM executions WHERE job_id = ?"
    before = {thing: (status, updated) for thing, status, updated in connection.execute(query, (job_id,))}
    now = {row["thing"]: (row["status"], row["last_updated_at"]) for row in rows}
    stopped = {thing for thing, (status, _) in before.items() if may_be_at_work(execution_status(status))}
    (since,) = connection.execute("SELECT coalesce(refreshed_at, 0) FROM binding").fetchone()
    ended = {
        thing
        for thing, (status, updated) in now.items()
        if status in ENDS and before.get(thing) != (status, updated) and updated >= since - OVERLAP.total_seconds()
    }
    working = {thing for thing, (status, _) in now.items() if may_be_at_work(execution_status(status))}
    things = [(thing,) for thing in sorted(ended | stopped - working)]
    connection.executemany("UPDATE things SET must_read = 1 WHERE name = ?", things)
