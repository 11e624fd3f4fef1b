"""Any span of fleet time on a virtual clock: what the policies lead to when some devices fail or are away.

The reconcile loop runs at a fixed interval; what is due then starts in the minutes that rates and
windows leave free. It is a simulation of capacity in steady operation: waves and soaks, which a
change of policy brings, are not played through. Deterministic under a seed, in any order of devices.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from protocol.names import AWS_IOT_AUTHORITY

from .assess import assess
from .backoff import MAX_FAILURES, delay_after
from .finding import Outcome
from .forecast import next_start, successor
from .governance import Governance, Governed
from .schedule import dates_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .device import Certificate, Device, FleetState
    from .policy import DesiredState

MINUTE = 60
LONGEST_ABSENCE = timedelta(days=3)  # an offline device comes back after an even draw up to this


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came of it."""

    rotations: int
    failures: int
    absences: int  # times a device was asked while it was away
    misses: int  # rotations after due
    overdue: int  # devices past due at the end of the span
    quarantined: int  # devices given up after repeated failures
    blocked: int  # devices that a person must act on first, from the start
    jobs: int  # made by the loop
    peak_per_day: int
    peak_day: date | None
    mean_per_day: float
    busiest_minute: dict[str, int]  # starts in the busiest minute, by policy


@dataclass(slots=True)
class _Life:
    """A device on its way through the span."""

    name: str
    governed: Governed
    certificate: Certificate
    authority: str
    due: datetime | None
    failures: int = 0


class Slots:
    """The minutes in which a policy may start rotations: never more than its rates, only in open time.

    A rotation is taken to be in flight for as long as the policy's time limit.
    """

    def __init__(self, governed: Governed) -> None:
        rollout = governed.policy.rollout
        self._open_time = governed.open_time
        self._per_minute = rollout.maximum_per_minute
        self._flight_minutes = max(1, -int(-rollout.timeout.total_seconds() // MINUTE))
        self._in_flight: deque[int] = deque(maxlen=rollout.max_in_flight)  # minutes of the latest starts
        self._minute = 0
        self._used = 0
        self.busiest = 0

    def book(self, instant: datetime) -> datetime:
        """The earliest free start at or after the instant and every start booked before."""
        minute = max(-int(-instant.timestamp() // MINUTE), self._minute)
        if minute == self._minute and self._used >= self._per_minute:
            minute += 1
        if len(self._in_flight) == self._in_flight.maxlen:
            minute = max(minute, self._in_flight[0] + self._flight_minutes)
        start = datetime.fromtimestamp(minute * MINUTE, UTC)
        while not self._open_time.is_open(start):
            window = self._open_time.next_open(start)
            if window is None:
                return datetime.max.replace(tzinfo=UTC)
            minute = -int(-window.start.timestamp() // MINUTE)
            start = datetime.fromtimestamp(minute * MINUTE, UTC)
        self._used = self._used + 1 if minute == self._minute else 1
        self._minute = minute
        self._in_flight.append(minute)
        self.busiest = max(self.busiest, self._used)
        return start


class _Run:
    """One simulation under way."""

    def __init__(self, governance: Governance, end: datetime, random: Random, rates: tuple[float, float]) -> None:
        self.governance, self.end, self.random = governance, end, random
        self.failure_rate, self.offline_rate = rates
        self.slots = {name: Slots(governed) for name, governed in governance.policies.items()}
        self.counts: Counter[str] = Counter()
        self.days: Counter[date] = Counter()
        self.jobs: set[tuple[str, int]] = set()
        self.events: list[tuple[float, int]] = []
        self.lives: list[_Life] = []

    def enter(self, device: Device) -> None:
        """Take a device in, with its first date."""
        assessment = assess(device, self.governance)
        governed = self.governance.policy_of(device)
        if assessment is None:
            return
        if not isinstance(governed, Governed) or assessment.outcome is Outcome.BLOCKED:
            self.counts["blocked"] += 1
            return
        certificate = device.attachments[0].certificate
        authority = governed.policy.certificate.authority or certificate.authority or AWS_IOT_AUTHORITY
        life = _Life(device.name, governed, certificate, authority, None)
        self.lives.append(life)
        is_due = any(finding.outcome is Outcome.ROTATE for finding in assessment.findings)
        self.schedule(len(self.lives) - 1, self.governance.now if is_due else None)

    def schedule(self, number: int, first: datetime | None) -> None:
        """Note when the device's certificate is due, and put its rotation into the queue."""
        life = self.lives[number]
        certificate, policy = life.certificate, life.governed.policy
        if certificate.not_before is not None and certificate.not_after is not None:
            life.due = dates_of(policy, certificate.not_before, certificate.not_after).due
        start = first if first is not None else next_start(policy, life.governed.open_time, certificate)
        if start is not None:
            self.push(max(start, self.governance.now), number)

    def push(self, instant: datetime, number: int) -> None:
        """Queue the device for that instant, if it is inside the span."""
        if instant < self.end:
            heapq.heappush(self.events, (instant.timestamp(), number))

    def play(self, interval: timedelta) -> None:
        """Take event after event until the queue is empty."""
        origin, step = self.governance.now.timestamp(), interval.total_seconds()
        while self.events:
            moment, number = heapq.heappop(self.events)
            run = -int(-(moment - origin) // step)
            self.attempt(number, datetime.fromtimestamp(origin + run * step, UTC), run)

    def attempt(self, number: int, now: datetime, run: int) -> None:
        """The loop asks a device to rotate."""
        life = self.lives[number]
        policy = life.governed.policy.name
        if self.random.random() < self.offline_rate:
            self.counts["absences"] += 1
            self.push(now + LONGEST_ABSENCE * self.random.random(), number)
            return
        start = self.slots[policy].book(now)
        if start >= self.end:
            return
        self.jobs.add((policy, run))
        if self.random.random() < self.failure_rate:
            self.fail(number, start)
            return
        self.counts["rotations"] += 1
        self.days[start.date()] += 1
        self.counts["misses"] += life.due is not None and start > life.due
        life.failures = 0
        life.certificate = successor(life.certificate, start, self.governance.desired.authorities.get(life.authority))
        self.schedule(number, None)

    def fail(self, number: int, start: datetime) -> None:
        """A rotation fails: back off, or give the device up."""
        life = self.lives[number]
        self.counts["failures"] += 1
        life.failures += 1
        if life.failures >= MAX_FAILURES:
            self.counts["quarantined"] += 1
            return
        delay = delay_after(life.failures, life.governed.policy.name, life.certificate.certificate_id)
        self.push(start + delay, number)


def simulate(
    devices: Iterable[Device],
    desired: DesiredState,
    state: FleetState,
    now: datetime,
    *,
    span: timedelta,
    failure_rate: float = 0.0,
    offline_rate: float = 0.0,
    seed: int = 0,
    interval: timedelta = timedelta(hours=1),
) -> Simulation:
    """Play ``span`` of fleet time from ``now``; rates are shares from 0 to 1, of attempts."""
    run = _Run(Governance(desired, state, now), now + span, Random(seed), (failure_rate, offline_rate))
    for device in sorted(devices, key=lambda device: device.name):
        run.enter(device)
    run.play(interval)
    peak = max(run.days.values(), default=0)
    return Simulation(
        rotations=run.counts["rotations"],
        failures=run.counts["failures"],
        absences=run.counts["absences"],
        misses=run.counts["misses"],
        overdue=sum(life.due is not None and life.due < now + span for life in run.lives),
        quarantined=run.counts["quarantined"],
        blocked=run.counts["blocked"],
        jobs=len(run.jobs),
        peak_per_day=peak,
        peak_day=min((day for day, number in run.days.items() if number == peak), default=None),
        mean_per_day=run.counts["rotations"] / max(1, span // timedelta(days=1)),
        busiest_minute={name: slots.busiest for name, slots in run.slots.items()},
    )
