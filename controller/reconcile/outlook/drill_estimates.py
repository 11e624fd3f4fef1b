"""How long the whole policy would take, by what a drill has measured on its sample (``planning/drill_reports``).

The estimate plays the planner itself over the whole policy, with the share of devices that were offline and the time
that a rotation took, in three courses: as measured, and with both ends of what the sample leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import sqrt
from typing import TYPE_CHECKING

from controller.reconcile.rollout import successes_of
from controller.reconcile.values import (
    Attachment,
    AttachmentType,
    Certificate,
    CertificateStatus,
    Device,
    Estimate,
    FleetState,
    Incident,
    Plan,
    Policy,
    WaveSize,
    count_text,
    percent_text,
    span_text,
)
from protocol.algorithms import KeyType
from protocol.names import AWS_IOT_AUTHORITY

from .simulation import EVERY, Course
from .virtual_fleet import Life, Luck

if TYPE_CHECKING:
    from controller.reconcile.values import DesiredState, Drill, DrillReport

MOST_PLAYED = 1_000  # devices; more are played as fewer, with all limits smaller by the same factor
LONGEST = timedelta(days=14)  # that is played
CONFIDENCE = 1.96  # standard deviations on either side: 95 % of samples
_ENDLESS = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)


def with_estimates(plan: Plan, desired: DesiredState, state: FleetState, *, every: timedelta = EVERY) -> Plan:
    """Return the plan, with what each finished drill shows of its whole policy; the loop runs ``every`` so often."""
    if not any(report.is_over for report in plan.drills):
        return plan
    governed = {summary.policy: summary.governed for summary in plan.policies}
    drills = {drill.name: drill for drill in desired.drills}
    told = tuple(
        _told(
            report,
            drills[report.drill],
            governed.get(report.policy, 0),
            desired=desired,
            state=state,
            every=every,
        )
        if report.is_over
        else report
        for report in plan.drills
    )
    return replace(plan, drills=told)


def _told(
    report: DrillReport, drill: Drill, number: int, *, desired: DesiredState, state: FleetState, every: timedelta
) -> DrillReport:
    policy = next((policy for policy in desired.policies if policy.name == report.policy), None)
    why = "none of its devices rotated while it was online" if not report.durations else None
    if policy is None or not number:
        why = "its policy governs no device"
    if policy is None or why is not None:
        return replace(report, message=f"{report.message}; nothing follows for the whole: {why}")
    try:
        found = estimate(report, drill, policy, number, desired=desired, state=state, every=every)
    except _NeverDoneError as error:
        return replace(report, message=f"{report.message}; nothing follows for the whole: {error}")
    message = (
        f"{report.message}; all {count_text(found.devices, 'device')} of the policy would take about "
        f"{span_text(found.about)}, from {span_text(found.least)} to {span_text(found.most)}, if "
        f"{'; '.join(found.assumptions)}"
    )
    return replace(report, estimate=found, message=message)


class _NeverDoneError(Exception):
    """The whole policy is not done in the time that is played, or cannot be played."""


@dataclass(frozen=True, slots=True)
class _Assumption:
    """The assumptions of one course: the share that is offline, how long a rotation takes, how many fail."""

    offline: float
    takes: timedelta
    fails: float


def estimate(
    report: DrillReport,
    drill: Drill,
    policy: Policy,
    number: int,
    *,
    desired: DesiredState,
    state: FleetState,
    every: timedelta,
) -> Estimate:
    """Return how long all devices of the policy take, from the decision to the last that is online.

    Args:
        report: The drill's report, with what it measured.
        drill: The drill's document.
        policy: The policy whose devices have practised.
        number: How many devices the policy governs.
        desired: The documents, for authorities.
        state: The jobs, which show where the rollout stands.
        every: The time between two runs of the loop.
    """
    least, middle, most = report.durations
    answered, away = report.rotated, report.returned + report.offline
    low, high = _share_between(away, answered + away)
    failing = report.failures / max(1, report.failures + answered + report.returned)
    lead = max(timedelta(), report.asked_at - report.since) if report.asked_at is not None else timedelta()
    shape = _WholePolicy(drill, policy, number, desired=desired, state=state, every=every)
    spans = [
        shape.play(_Assumption(share, takes, failing))
        for share, takes in ((away / (answered + away), middle), (low, least), (high, most))
    ]
    shares = [percent_text(100 * share) for share in (away / (answered + away), low, high)]
    assumptions = (
        f"{shares[0]} % are offline when asked ({shares[1]} to {shares[2]} % in 95 % of such samples), not waited for",
        f"a rotation takes {span_text(middle)} ({span_text(least)} to {span_text(most)}, as in the drill)",
        f"{percent_text(100 * failing)} % of attempts fail",
        f"the loop runs every {span_text(every)}, first {span_text(lead)} after the decision (at once, or a run later)",
        "the rollout goes on from where it stands, with the waves, soaks, windows and limits of today",
        f"the sample is like the rest ({drill.sample})",
    )
    about, shortest, longest = spans
    return Estimate(number, lead + about, min(shortest, about), max(longest, about) + lead + every, assumptions)


def _share_between(number: int, of: int) -> tuple[float, float]:
    """Return the bounds of the true share, if ``number`` of ``of`` devices in a sample count (Wilson's interval)."""
    share, z = number / of, CONFIDENCE
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    width = z * sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return max(0.0, middle - width), min(1.0, middle + width)


class _WholePolicy:
    """An incident for all devices of a policy, to be played."""

    def __init__(
        self, drill: Drill, policy: Policy, number: int, *, desired: DesiredState, state: FleetState, every: timedelta
    ) -> None:
        self._every, self._start = every, state.observed_at
        rollout = policy.rollout
        scale = max(1, min(-(-number // MOST_PLAYED), rollout.max_in_flight))
        if number // scale > MOST_PLAYED:
            message = f"{number:,} devices at {rollout.max_in_flight:,} in flight are too many to play"
            raise _NeverDoneError(message)
        waves = tuple(
            size if size.is_percent else WaveSize(max(1, size.value // scale), is_percent=False)
            for size in rollout.waves
        )
        self._policy = replace(
            policy,
            suspend=None,
            rollout=replace(
                rollout,
                waves=waves,
                max_in_flight=max(1, rollout.max_in_flight // scale),
                maximum_per_minute=max(1, rollout.maximum_per_minute // scale),
            ),
        )
        incident = Incident(
            name=drill.name,
            reason=drill.reason,
            deadline=self._start + (drill.deadline - drill.since),
            source=drill.source,
            issued_before=self._start,
            ignore_windows=drill.ignore_windows,
        )
        self._desired = replace(
            desired, policies=(self._policy,), waivers=(), quarantines=(), drills=(), incidents=(incident,)
        )
        self._state = FleetState(self._start, jobs=state.jobs, baseline=state.baseline)
        self._devices = self._made(number // scale)

    def play(self, course: _Assumption) -> timedelta:
        """Return how long it takes until the last device that is online has rotated."""
        luck = Luck(0, course.fails, course.offline, course.takes)
        online = {device.name for device in self._devices if not luck.absence(device.name, 1)}
        lives = {device.name: Life(device) for device in self._devices}
        course_of = Course(self._policy, self._desired, self._state, lives, luck)
        now, left, read, last = self._start, set(online), 0, self._start
        while left:
            following = course_of.run(now)
            rotated = course_of.fleet.record.rotated
            for name, when in rotated[read:]:
                if name in left:
                    left.discard(name)
                    last = max(last, when)
            read = len(rotated)
            if course_of.halted is not None:
                raise _NeverDoneError("so many would fail that the rollout halts")
            if left and max(now, following) - self._start > LONGEST:
                message = f"it would take longer than {span_text(LONGEST)}"
                raise _NeverDoneError(message)
            now += max(1, -((now - following) // self._every)) * self._every
        return last - self._start

    def _made(self, number: int) -> list[Device]:
        """Return so many devices whose certificates are from before the incident.

        A device that a job of the rollout has rotated holds what that job brought; all others are alike.
        """
        succeeded = successes_of(self._state.jobs)
        names = sorted(succeeded)[:number]
        names += [f"device-{n}" for n in range(number - len(names))]
        rule = self._policy.certificate
        key_type, authority = rule.key_type or KeyType.ECDSA_P256, rule.authority or AWS_IOT_AUTHORITY
        before = self._start - timedelta(minutes=1)
        devices = []
        for name in names:
            made = min(before, succeeded[name].last_updated_at) if name in succeeded else before
            held = Certificate(
                certificate_id=sha256(name.encode()).hexdigest(),
                status=CertificateStatus.ACTIVE,
                created_at=made,
                key_type=key_type.value,
                authority=authority,
                not_before=made,
                not_after=_ENDLESS,
            )
            devices.append(Device(name, (self._policy.thing_group,), (Attachment(held, AttachmentType.EXCLUSIVE),)))
        return devices
