"""Rotations per day, policy and authority over any horizon, against what the rates allow.

A device that must rotate already does so when the plan's outlook shows: wave after wave. From then on every device is
followed through its successive certificates, each rotated exactly when the schedule shows; a device that is
waived or suspended rotates once that ends. A device that is blocked, or waits in a rollout that has stopped, or that a
policy only reports, is counted and left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

from controller.reconcile.checks import Governance, Governed, assess
from controller.reconcile.planning import order_of
from controller.reconcile.rollout import rate_per_minute
from controller.reconcile.schedule import dates_of, timing_of
from controller.reconcile.values import NO_OVERRIDES, Mode, Outcome, Reason
from protocol.names import AWS_IOT_AUTHORITY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from controller.reconcile.schedule import OpenTime
    from controller.reconcile.values import (
        Assessment,
        Certificate,
        CertificateAuthority,
        DesiredState,
        Device,
        FleetState,
        Outlook,
        Overrides,
        Plan,
        Policy,
    )

AWS_IOT_NOT_AFTER = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)  # of every certificate that AWS IoT issues
DAY = timedelta(days=1)
_NEVER = datetime.max.replace(tzinfo=UTC)
_HELD = frozenset({Reason.WAIVED, Reason.SUSPENDED})  # blocked, but only until an instant that is known


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """One day of one policy and authority."""

    day: date
    policy: str
    authority: str
    rotations: int
    capacity: int  # of the policy on that day, whatever the authority: rate times open minutes


@dataclass(frozen=True, slots=True)
class OverCapacity:
    """A day on which a policy asks more, of all authorities together, than its rates and windows allow."""

    day: date
    policy: str
    rotations: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """Rows in order of day, policy, authority; days without rotations have none."""

    first_day: date
    days: int
    rows: tuple[ForecastRow, ...]
    total: int
    peak: int  # rotations on the busiest day
    peak_day: date | None
    mean: float  # per day
    peak_without_jitter: int
    blocked: int  # devices left out: a person must act on them or their rollout first, or has decided so for longer
    reported: int = 0  # devices left out: their policies only report
    seen_at: datetime | None = None  # when the fleet was looked at

    @property
    def over_capacity(self) -> tuple[OverCapacity, ...]:
        """Days that ask too much, in order of day and policy. A policy's authorities share what it may do."""
        asked: dict[tuple[date, str], list[ForecastRow]] = {}
        for row in self.rows:
            asked.setdefault((row.day, row.policy), []).append(row)
        sums = (OverCapacity(*key, sum(r.rotations for r in of), of[0].capacity) for key, of in sorted(asked.items()))
        return tuple(one for one in sums if one.rotations > one.capacity)

    @property
    def per_day(self) -> dict[date, int]:
        """Rotations of all policies by day."""
        days: Counter[date] = Counter()
        for row in self.rows:
            days[row.day] += row.rotations
        return dict(days)


class Forecaster:
    """Takes devices one by one; ``result`` may be asked at any time."""

    def __init__(
        self,
        desired: DesiredState,
        state: FleetState,
        now: datetime,
        horizon: timedelta,
        overrides: Overrides = NO_OVERRIDES,
    ) -> None:
        self.governance = Governance(desired, state, now, overrides)
        self._now, self._end = now, now + horizon
        self._days = max(1, -(-horizon // DAY))
        self._counts: Counter[tuple[date, str, str]] = Counter()
        self._without_jitter: Counter[date] = Counter()
        self._blocked = self._reported = 0
        self._due: dict[str, list[tuple[Assessment, _Life]]] = {name: [] for name in self.governance.policies}
        self._lives: dict[tuple[str, str, datetime], _Life] = {}  # many devices share one

    def assess(self, devices: Iterable[Device]) -> Iterator[Assessment]:
        """Yield one assessment for each governed device, which is counted on the way."""
        for device in devices:
            assessment = self.add(device)
            if assessment is not None:
                yield assessment

    def add(self, device: Device) -> Assessment | None:
        """Count one device's rotations; return its assessment, or None if no policy governs it."""
        assessment = assess(device, self.governance)
        if assessment is not None:
            self._count(device, assessment)
        return assessment

    def _count(self, device: Device, assessment: Assessment) -> None:
        governed = self.governance.policy_of(device)
        if not isinstance(governed, Governed):
            self._blocked += 1
            return
        if governed.policy.mode is Mode.REPORT:
            self._reported += 1
            return
        held_until = max(self.governance.holds_end(device.name, governed), default=self._now)
        if assessment.findings and self._is_blocked(device, assessment, held_until):
            self._blocked += 1
            return
        certificate = device.attachments[0].certificate  # who has none is blocked
        life = self._life(governed, certificate, held_until)
        if not assessment.findings:
            self._follow(certificate, life, None)
            return
        overdue = any(finding.outcome is Outcome.ROTATE for finding in assessment.findings)
        if assessment.is_due or assessment.is_kept_by(Reason.SUSPENDED, Reason.OUTSIDE_WINDOW):
            self._due[governed.policy.name].append((assessment, life))
            return
        self._follow(certificate, life, assessment.timing.start if overdue and assessment.timing else None)

    def result(self, plan: Plan) -> Forecast:
        """Return the forecast over everything added; ``plan`` is the one for the same state and moment. Ask once."""
        for outlook in plan.outlooks:
            due = sorted(self._due[outlook.policy], key=lambda one: order_of(one[0]))
            others = () if outlook.obstacle else repeat(outlook.finish or self._now)
            starts = list(islice(chain(_starts(outlook, self.governance.policies[outlook.policy]), others), len(due)))
            for (assessment, life), start in zip(due, starts, strict=False):
                assert assessment.certificate is not None  # noqa: S101 - holds of every device with a demand
                self._follow(assessment.certificate, life, start)
            self._blocked += len(due) - len(starts)
        capacities = _Capacities(self.governance.policies)
        rows = tuple(
            ForecastRow(day, policy, authority, number, capacities.of(policy, day))
            for (day, policy, authority), number in sorted(self._counts.items())
        )
        per_day: Counter[date] = Counter()
        for row in rows:
            per_day[row.day] += row.rotations
        total = per_day.total()
        peak = max(per_day.values(), default=0)
        return Forecast(
            first_day=self._now.date(),
            days=self._days,
            rows=rows,
            total=total,
            peak=peak,
            peak_day=min((day for day, number in per_day.items() if number == peak), default=None),
            mean=total / self._days,
            peak_without_jitter=max(self._without_jitter.values(), default=0),
            blocked=self._blocked,
            reported=self._reported,
            seen_at=self.governance.state.observed_at,
        )

    def _life(self, governed: Governed, certificate: Certificate, held_until: datetime) -> _Life:
        authority = governed.policy.certificate.authority or certificate.authority or AWS_IOT_AUTHORITY
        key = governed.policy.name, authority, held_until
        if key not in self._lives:
            issuer = self.governance.desired.authorities.get(authority)
            self._lives[key] = _Life(governed.policy, governed.open_time, authority, issuer, held_until)
        return self._lives[key]

    def _follow(self, certificate: Certificate, life: _Life, first: datetime | None) -> None:
        """Count the device's rotations; ``first`` is the start of the next one, None if the schedule decides it."""
        if first is None and not _may_start_before(self._end, life.policy, certificate):
            return
        for start in life.rotations(life.policy, certificate, first, self._now, self._end):
            self._counts[start.date(), life.policy.name, life.authority] += 1
        for start in life.rotations(life.steady, certificate, first, self._now, self._end):
            self._without_jitter[start.date()] += 1

    def _is_blocked(self, device: Device, assessment: Assessment, held_until: datetime) -> bool:
        """Return whether the device cannot rotate within the horizon unless a person acts."""
        blocks = {finding.reason for finding in assessment.findings if finding.outcome is Outcome.BLOCKED}
        if not blocks <= _HELD:
            return True
        not_after = device.attachments[0].certificate.not_after if device.attachments else None
        expires_held = not_after is not None and self._now < not_after <= held_until
        return bool(blocks) and (held_until >= self._end or expires_held)


@dataclass(frozen=True)
class _Life:
    """The policy and dates that decide when a device rotates, again and again."""

    policy: Policy
    open_time: OpenTime
    authority: str
    issuer: CertificateAuthority | None
    held_until: datetime  # by waiver or suspension

    @cached_property
    def steady(self) -> Policy:
        """The policy without its jitter."""
        return replace(self.policy, schedule=replace(self.policy.schedule, jitter_percent=0))

    def rotations(
        self, policy: Policy, certificate: Certificate, first: datetime | None, now: datetime, end: datetime
    ) -> Iterator[datetime]:
        """Yield when the device rotates from now until just before the end; ``first`` as in ``Forecaster._follow``.

        ``policy`` is the life's own, or the steady one.
        """
        start = first if first is not None else next_start(policy, self.open_time, certificate)
        while start is not None and start < end:
            released = self._released(max(start, now), certificate)
            if released >= end:
                return
            yield released
            certificate = successor(certificate, released, self.issuer)
            if not _may_start_before(end, policy, certificate):
                return
            following = next_start(policy, self.open_time, certificate)
            start = following if following is not None and following > released else None

    def _released(self, start: datetime, certificate: Certificate) -> datetime:
        """Return the start, or the first open time once the device is held no longer."""
        if start >= self.held_until:
            return start
        dates = dates_of(self.policy, certificate)
        if dates is not None and dates.urgent_from <= self.held_until:
            return self.held_until
        window = self.open_time.next_open(self.held_until)
        return _NEVER if window is None else window.start


def _starts(outlook: Outlook, governed: Governed) -> Iterator[datetime]:
    """Yield when each device begins, in order, for as many devices as the outlook reaches.

    The policy's rate sets the pace.
    """
    seconds = 60 / rate_per_minute(governed.policy.rollout)
    for stage in outlook.stages:
        for number in range(stage.devices):
            when = governed.open_time.after(stage.start, int(number * seconds) + 1)
            yield min(when or stage.end, stage.end)


def forecast(
    devices: Iterable[Device],
    desired: DesiredState,
    state: FleetState,
    now: datetime,
    *,
    horizon: timedelta,
    plan: Plan,
) -> Forecast:
    """Forecast a whole fleet up to the horizon; ``plan`` is the one for the same state and moment."""
    forecaster = Forecaster(desired, state, now, horizon)
    for device in devices:
        forecaster.add(device)
    return forecaster.result(plan)


def _may_start_before(end: datetime, policy: Policy, certificate: Certificate) -> bool:
    """Return whether the schedule can ask before the end: it asks no earlier than the jitter before the due date."""
    dates = dates_of(policy, certificate)
    return dates is not None and dates.due is not None and dates.due - dates.jitter < end


def next_start(policy: Policy, open_time: OpenTime, certificate: Certificate) -> datetime | None:
    """Return when the schedule rotates the certificate; None if the policy sets no date."""
    dates = dates_of(policy, certificate)
    timing = timing_of(policy, certificate, dates, open_time) if dates else None
    return timing.start if timing else None


def successor(certificate: Certificate, issued: datetime, authority: CertificateAuthority | None) -> Certificate:
    """Return the certificate that a rotation gives, issued then; its id is made up, but always the same."""
    validity = authority.validity if authority is not None else None
    return replace(
        certificate,
        certificate_id=f"{certificate.certificate_id[:64]}+{int(issued.timestamp())}",
        created_at=issued,
        not_before=issued,
        not_after=issued + validity if validity is not None else max(AWS_IOT_NOT_AFTER, issued + DAY),
    )


class _Capacities:
    """Rotations that a policy's rates and windows allow on a day."""

    def __init__(self, policies: Mapping[str, Governed]) -> None:
        self._policies = policies
        self._known: dict[tuple[str, date], int] = {}

    def of(self, policy: str, day: date) -> int:
        key = policy, day
        if key not in self._known:
            governed = self._policies[policy]
            midnight = datetime.combine(day, time(), UTC)
            seconds = governed.open_time.seconds_between(midnight, midnight + DAY)
            self._known[key] = int(rate_per_minute(governed.policy.rollout) * seconds / 60)
        return self._known[key]
