"""Wait for jobs to end, cheaply, and report what became of each device.

One DescribeJob per job and look; the pause between looks doubles while nothing changes and is short
again when something does. Executions are listed once, at the end, and a device's own words are fetched
for failures only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from controller.reconcile.values import FAILED
from protocol.messages import ExecutionStatus

from .iot_jobs import IotJobs, JobView

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """Intervals and limits of following a job; all but ``calls_per_second`` are durations."""

    timeout: timedelta = timedelta(hours=1)  # of the whole wait
    offline_after: timedelta = timedelta(minutes=2)  # only QUEUED left and no change for so long: they are offline
    shortest: timedelta = timedelta(seconds=1)  # between two looks
    longest: timedelta = timedelta(seconds=15)
    calls_per_second: float = 5.0  # half the quota of DescribeJob: others look too
    max_reasons: int = 200  # failure reasons fetched, one call each


@dataclass(frozen=True, slots=True)
class DeviceOutcome:
    """The end of one device in one job; ``reason`` is what the device reported."""

    device: str
    job_id: str
    status: ExecutionStatus
    reason: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the rotation ended without success."""
        return self.status in FAILED


@dataclass(frozen=True, slots=True)
class FollowResult:
    """The end of a wait: every device once per job, in the order of job and name."""

    outcomes: tuple[DeviceOutcome, ...]
    aborted: tuple[str, ...] = ()  # jobs that were cancelled, by an abort rule or by hand
    timed_out: bool = False  # the wait, not a device

    @property
    def failed(self) -> tuple[DeviceOutcome, ...]:
        """Devices whose rotation ended without success."""
        return tuple(outcome for outcome in self.outcomes if outcome.has_failed)

    @property
    def unfinished(self) -> tuple[DeviceOutcome, ...]:
        """Devices whose rotation has not ended: offline, or still at it."""
        return tuple(outcome for outcome in self.outcomes if not outcome.status.is_terminal)


def follow(
    job_ids: Sequence[str],
    iot: IotJobs,
    pace: Pace | None = None,
    progress: Progress | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> FollowResult:
    """Wait until the jobs have ended, only offline devices are left, or the time is up."""
    pace = pace or Pace()
    tell = progress or (lambda _phase, _done, _total: None)
    waiting = _Wait(job_ids, iot, pace, tell)
    timed_out = waiting.until_still(sleep, monotonic)
    return _outcomes(waiting.views, iot, pace, timed_out=timed_out)


class _Wait:
    """The loop of one ``follow``; ``views`` holds the last look at each job, by id."""

    def __init__(self, job_ids: Sequence[str], iot: IotJobs, pace: Pace, tell: Progress) -> None:
        self.views: dict[str, JobView] = {}
        self._open = list(dict.fromkeys(job_ids))
        self._has_changed = False
        self._iot, self._pace, self._tell = iot, pace, tell

    def until_still(self, sleep: Callable[[float], None], monotonic: Callable[[], float]) -> bool:
        """Look until nothing more is to be expected; True if the time ran out first."""
        started = changed_at = monotonic()
        pause = self._pace.shortest.total_seconds()
        while self._look():
            now = monotonic()
            if self._has_changed:
                changed_at, pause = now, self._pace.shortest.total_seconds()
            if self._only_queued() and now - changed_at >= self._pace.offline_after.total_seconds():
                return False
            left = self._pace.timeout.total_seconds() - (now - started)
            if left <= 0:
                return True
            floor = len(self._open) / self._pace.calls_per_second
            sleep(min(max(pause, floor), left))
            pause = min(pause * 2, self._pace.longest.total_seconds())
        return False

    def _look(self) -> bool:
        """Describe every open job once; returns False when none is left open."""
        self._has_changed = False
        for job_id in tuple(self._open):
            view = self._iot.job(job_id)
            if view is None or view.has_ended or _is_idle(view):
                self._open.remove(job_id)
            if view is not None:
                self._has_changed |= view != self.views.get(job_id)
                self.views[job_id] = view
        counts = [view.counts for view in self.views.values()]
        total = sum(sum(count.values()) for count in counts)
        done = sum(number for count in counts for status, number in count.items() if status.is_terminal)
        self._tell("rotating", done, total)
        return bool(self._open)

    def _only_queued(self) -> bool:
        return all(not self.views[job_id].counts[ExecutionStatus.IN_PROGRESS] for job_id in self._open)


def _is_idle(view: JobView) -> bool:
    """Return whether a continuous job, which never ends by itself, has nothing more to do for now."""
    open_count = view.counts[ExecutionStatus.QUEUED] + view.counts[ExecutionStatus.IN_PROGRESS]
    return view.is_continuous and not open_count and any(view.counts.values())


def _outcomes(views: dict[str, JobView], iot: IotJobs, pace: Pace, *, timed_out: bool) -> FollowResult:
    found = [
        DeviceOutcome(thing, job_id, status)
        for job_id in views
        for thing, status in sorted(iot.executions(job_id), key=lambda pair: pair[0])
    ]
    asked = [outcome for outcome in found if outcome.has_failed][: pace.max_reasons]
    reasons = iot.for_each(lambda outcome: iot.failure_reason(outcome.job_id, outcome.device), asked)
    said = {(outcome.job_id, outcome.device): reason for outcome, reason in zip(asked, reasons, strict=True)}
    outcomes = tuple(
        DeviceOutcome(outcome.device, outcome.job_id, outcome.status, said.get((outcome.job_id, outcome.device)))
        for outcome in found
    )
    aborted = tuple(job_id for job_id, view in views.items() if view.status == "CANCELED")
    return FollowResult(outcomes, aborted, timed_out)
