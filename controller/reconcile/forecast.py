"""Rotations per day, policy and authority over any horizon, against what the rates allow.

Every device is followed through its successive certificates, each rotated exactly when the schedule
says. What must rotate already counts on the first day; what is blocked is counted and left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from protocol.names import AWS_IOT_AUTHORITY

from .assess import assess
from .estimate import rate_per_minute
from .finding import Outcome
from .governance import Governance, Governed
from .schedule import dates_of, timing_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .device import Certificate, Device, FleetState
    from .policy import CertificateAuthority, DesiredState, Policy
    from .windows import OpenTime

AWS_IOT_NOT_AFTER = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)  # of every certificate that AWS IoT issues
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """One day of one policy and authority."""

    day: date
    policy: str
    authority: str
    rotations: int
    capacity: int  # of the policy on that day: rate times open minutes

    @property
    def is_over(self) -> bool:
        """Whether the day asks more than the rates allow."""
        return self.rotations > self.capacity


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
    blocked: int  # devices left out: a person must act first

    @property
    def per_day(self) -> dict[date, int]:
        """Rotations of all policies by day."""
        days: Counter[date] = Counter()
        for row in self.rows:
            days[row.day] += row.rotations
        return dict(days)


class Forecaster:
    """Takes devices one by one; ``result`` may be asked at any time."""

    def __init__(self, desired: DesiredState, state: FleetState, now: datetime, horizon: timedelta) -> None:
        self.governance = Governance(desired, state, now)
        self._now, self._end = now, now + horizon
        self._days = max(1, -(-horizon // DAY))
        self._counts: Counter[tuple[date, str, str]] = Counter()
        self._without_jitter: Counter[date] = Counter()
        self._blocked = 0
        self._steady = {
            name: replace(g.policy, schedule=replace(g.policy.schedule, jitter_percent=0))
            for name, g in self.governance.policies.items()
        }

    def add(self, device: Device) -> None:
        """Count one device's rotations."""
        assessment = assess(device, self.governance)
        governed = self.governance.policy_of(device)
        if assessment is None:
            return
        if not isinstance(governed, Governed) or assessment.outcome is Outcome.BLOCKED:
            self._blocked += 1
            return
        certificate = device.attachments[0].certificate  # who has none is blocked
        overdue = any(finding.outcome is Outcome.ROTATE for finding in assessment.findings)
        authority = governed.policy.certificate.authority or certificate.authority or AWS_IOT_AUTHORITY
        first = assessment.timing.start if overdue and assessment.timing else None
        for start in self._rotations(governed.policy, governed.open_time, certificate, authority, first):
            self._counts[start.date(), governed.policy.name, authority] += 1
        steady = self._steady[governed.policy.name]
        for start in self._rotations(steady, governed.open_time, certificate, authority, first):
            self._without_jitter[start.date()] += 1

    def result(self) -> Forecast:
        """The forecast over everything added so far."""
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
        )

    def _rotations(
        self, policy: Policy, open_time: OpenTime, certificate: Certificate, authority: str, first: datetime | None
    ) -> Iterator[datetime]:
        """When this device rotates inside the horizon, certificate after certificate."""
        start = first if first is not None else next_start(policy, open_time, certificate)
        while start is not None and start < self._end:
            start = max(start, self._now)
            yield start
            certificate = successor(certificate, start, self.governance.desired.authorities.get(authority))
            following = next_start(policy, open_time, certificate)
            start = following if following is not None and following > start else None


def forecast(
    devices: Iterable[Device], desired: DesiredState, state: FleetState, now: datetime, horizon: timedelta
) -> Forecast:
    """Forecast a whole fleet."""
    forecaster = Forecaster(desired, state, now, horizon)
    for device in devices:
        forecaster.add(device)
    return forecaster.result()


def next_start(policy: Policy, open_time: OpenTime, certificate: Certificate) -> datetime | None:
    """When the schedule rotates the certificate; None where the policy sets no date."""
    if certificate.not_before is None or certificate.not_after is None:
        return None
    dates = dates_of(policy, certificate.not_before, certificate.not_after)
    timing = timing_of(policy, certificate, dates, open_time)
    return None if timing is None else timing.start


def successor(certificate: Certificate, issued: datetime, authority: CertificateAuthority | None) -> Certificate:
    """The certificate that a rotation at that instant gives; its id is made up, but always the same."""
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
