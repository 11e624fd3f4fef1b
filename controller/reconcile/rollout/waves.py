"""Where a policy's rollout stands, and what may start now.

A wave is open, running, soaking, unhealthy, halted or verified, and that is derived from jobs and
devices each time anew. Verified means: of the devices that answered, at least one was rotated, holds
the new certificate, connected with it, and is still there after the soak; and fewer failed than the
lowest abort threshold. Devices that never answered show nothing either way. A later wave is never
opened by a run that could not verify the earlier one. The last wave goes on for as long as the policy
is kept: it is judged by its latest day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.reconcile.values import FailureType, WaveStatus, count_text, instant_text, percent_text, span_text

from .evidence import gather, shortened_soak
from .history import has_answer, is_open

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from controller.reconcile.values import AbortRule, Assessment, Halt, Policy, WaveSize

    from .evidence import WaveEvidence
    from .history import RolloutHistory

DEFAULT_FAILURE_LIMIT = 5.0  # per cent of the devices that answered, where the policy gives no abort rule


@dataclass(frozen=True, slots=True)
class Opening:
    """The room for starts now: ``capacity`` new devices of ``wave``, or only those in ``only``."""

    wave: int
    status: WaveStatus
    message: str
    capacity: int = 0
    only: frozenset[str] | None = None  # None: any device
    urgent_only: bool = False
    until: datetime | None = None
    ended: datetime | None = None  # since when the wave is healthy
    remedy: str | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether nothing goes on until a person acts, or failed devices are tried again."""
        return self.status in {WaveStatus.HALTED, WaveStatus.UNHEALTHY}


def cumulative_sizes(waves: tuple[WaveSize, ...], devices: int) -> tuple[int, ...]:
    """Return how many of a policy's devices each wave reaches together with those before it; never fewer than one."""
    sizes: list[int] = []
    for wave in waves:
        size = -(-devices * wave.value // 100) if wave.is_percent else wave.value
        sizes.append(max(1, min(size, devices), *sizes))
    return tuple(sizes)


def failure_limit(policy: Policy) -> float:
    """Return the failure percentage from which a wave does not count as healthy."""
    return min((rule.threshold_percentage for rule in policy.rollout.abort), default=DEFAULT_FAILURE_LIMIT)


def exceeded(evidence: WaveEvidence, rules: tuple[AbortRule, ...]) -> AbortRule | None:
    """Return the abort rule that the wave's failures exceed, counted over all its jobs as AWS IoT does; or None."""
    executed = evidence.healthy + evidence.lost + evidence.failed
    for rule in rules:
        counts = dict(evidence.by_type)
        number = evidence.failed if rule.failure_type is FailureType.ALL else counts.get(rule.failure_type, 0)
        if number and executed >= rule.min_number_of_executed_things:
            percent = 100 * number / executed
            if percent >= rule.threshold_percentage:
                return rule
    return None


def next_opening(
    policy: Policy,
    rollout: RolloutHistory,
    governed: int,
    now: datetime,
    devices: Mapping[str, Assessment],
    *,
    deadline: datetime | None = None,
    resumed: datetime | None = None,
    halt: Halt | None = None,
) -> Opening:
    """Return what may start now of the devices governed under the policy.

    ``devices`` must hold an assessment for every device in the rollout's jobs that is still in the
    fleet; ``deadline`` is the earliest of the urgent devices that wait: it may shorten a soak, and the
    time for which a wave is held by devices that do not answer; ``resumed`` is until when a person has looked
    at what failed; ``halt`` is on record: it stands once what led to it cannot be read any more.
    """
    of, reached = len(policy.rollout.waves), rollout.reached
    sizes = cumulative_sizes(policy.rollout.waves, governed)
    if halt is not None and (halt.known_until <= now or rollout.is_unknown):
        what = (
            "the jobs that stopped it are gone" if halt.known_until > now else "what stopped it is too old to be read"
        )
        return _halted(policy, max(1, reached), of, f"nobody has resumed it, and {what}")
    past = rollout.past or rollout
    evidence = gather(past, past.reached, policy, now, devices, deadline=deadline, resumed=resumed)
    why = _why_halted(evidence, policy)
    if why is not None:
        return _halted(policy, past.reached, of, why)
    if reached == 0:
        return Opening(1, WaveStatus.OPEN, f"wave 1 of {of} reaches {count_text(sizes[0], 'device')}", sizes[0])
    last = Opening(of, WaveStatus.OPEN, f"wave {of} of {of} is open to every device", governed)
    if evidence.owed:
        tried = count_text(len(evidence.owed), "device")
        message = f"wave {reached} of {of} was resumed: {tried} that had failed come before any other"
        return Opening(reached, WaveStatus.OPEN, message, len(evidence.owed), only=evidence.owed)
    if reached == of:
        return last
    return _after_answers(policy, rollout, sizes, evidence, now, deadline=deadline)


def _after_answers(
    policy: Policy,
    rollout: RolloutHistory,
    sizes: tuple[int, ...],
    evidence: WaveEvidence,
    now: datetime,
    *,
    deadline: datetime | None,
) -> Opening:
    """Wait for answers; if none came, ask other devices; repeat an unhealthy wave, let a healthy one soak.

    A wave that has not reached its devices yet goes on meanwhile: the in-flight limit or a window held it up, or they
    were not due.
    """
    of, reached = len(sizes), rollout.reached
    is_healthy = evidence.failure_percent < failure_limit(policy)
    room = _room(policy, rollout, sizes) if is_healthy else 0
    if evidence.pending:
        message = (
            f"wave {reached} of {of} is running: {count_text(evidence.pending, 'device')} to come, "
            f"{evidence.healthy} rotated, {evidence.failed + evidence.lost} failed"
        )
        return Opening(reached, WaveStatus.RUNNING, message, room)
    if not evidence.answered:
        message = f"no device of wave {reached} of {of} answered: others take its place"
        before = sizes[reached - 2] if reached > 1 else 0
        return Opening(reached, WaveStatus.OPEN, message, max(1, sizes[reached - 1] - before))
    if not evidence.healthy or not is_healthy:
        return _unhealthy(policy, reached, of, evidence, frozenset(rollout.outcomes(reached)))
    ended = evidence.ended_at or now
    early = ended + shortened_soak(policy.rollout.soak, ended, deadline, of - reached)
    if now < early:
        message = (
            f"wave {reached} of {of} is healthy ({evidence.healthy} rotated) and soaks "
            f"{span_text(policy.rollout.soak)}, until {instant_text(early)}"
        )
        return Opening(reached, WaveStatus.SOAKING, message, room, until=early, ended=ended)
    if room:
        message = f"wave {reached} of {of} goes on: it reaches {count_text(room, 'more device')}"
        return Opening(reached, WaveStatus.OPEN, message, room, ended=ended)
    return _next_wave(rollout, sizes, is_soaked=now >= ended + policy.rollout.soak)


def _next_wave(rollout: RolloutHistory, sizes: tuple[int, ...], *, is_soaked: bool) -> Opening:
    """Return the next wave that reaches anyone new; for urgent devices alone, if only a shortened soak has passed."""
    of, reached = len(sizes), rollout.reached
    taken = _taken(rollout, sizes)
    wave = next((n for n in range(reached + 1, of) if sizes[n - 1] > taken), of)
    capacity = sizes[wave - 1] - taken if wave < of else sizes[-1]
    message = f"wave {wave} of {of} reaches {count_text(capacity, 'more device')}: wave {reached} has soaked healthy"
    if not is_soaked:
        message = f"wave {wave} of {of} opens to urgent devices alone: the soak is shortened to meet their deadline"
    return Opening(wave, WaveStatus.OPEN, message, capacity, urgent_only=not is_soaked)


def _why_halted(evidence: WaveEvidence, policy: Policy) -> str | None:
    """Return why no further device may start; None while the wave may go on."""
    if evidence.in_vain:
        return (
            f"{count_text(evidence.in_vain, 'device')} rotated without coming nearer to the policy, or to something "
            "else than the job asked for: look at what the backend issues"
        )
    rule = exceeded(evidence, policy.rollout.brakes)
    if rule is None:
        return None
    return (
        f"{evidence.failed} of {evidence.answered} devices failed, "
        f"which reaches the threshold of {percent_text(rule.threshold_percentage)} % {rule.failure_type.value}"
    )


def _halted(policy: Policy, wave: int, of: int, why: str) -> Opening:
    remedy = (
        "read the reasons the devices gave and remove the cause; then apply once with "
        f"--override resume={policy.name}, or change the policy's certificate rule, which starts a new rollout"
    )
    return Opening(wave, WaveStatus.HALTED, f"wave {wave} of {of} stopped: {why}", remedy=remedy)


def _unhealthy(policy: Policy, wave: int, of: int, evidence: WaveEvidence, members: frozenset[str]) -> Opening:
    message = (
        f"wave {wave} of {of} is not healthy: {evidence.healthy} rotated, {evidence.failed} failed, "
        f"{evidence.lost} reported success and are not seen with the new certificate; fewer than "
        f"{percent_text(failure_limit(policy))} % may fail"
    )
    remedy = (
        "failed devices are tried again after their backoff; look at those that keep failing: replace their "
        f"certificate by hand, waive them, or let others take their place with --override resume={policy.name}"
    )
    return Opening(wave, WaveStatus.UNHEALTHY, message, len(members), only=members, remedy=remedy)


def _room(policy: Policy, rollout: RolloutHistory, sizes: tuple[int, ...]) -> int:
    """Return how many devices more the wave that was reached is to ask.

    A device that was asked and kept silent for too long has had its turn. A wave has no room as long as nobody knows
    which devices it has asked.
    """
    reached, limit = rollout.reached, policy.rollout.stragglers_after
    jobs = rollout.waves[reached]
    if 1 < reached == min(rollout.waves) or any(is_open(job) and not job.executions for job in jobs):
        return 0
    waiting = [one for one in rollout.outcomes(reached).values() if not has_answer(one)]
    silent = sum(not one.status.is_terminal or one.last_updated_at - one.queued_at >= limit for one in waiting)
    return max(0, sizes[reached - 1] - _taken(rollout, sizes) - silent)


def _taken(rollout: RolloutHistory, sizes: tuple[int, ...]) -> int:
    """Return devices that the waves have reached, those that never answered left out.

    Jobs that ended long ago cannot be read any more. If the first waves have none, these reached as many as they were
    to reach. So did the first that has some: there may have been others.
    """
    outcomes = {wave: rollout.outcomes(wave) for wave in rollout.waves}
    answered = {wave: {name for name, one in of_wave.items() if has_answer(one)} for wave, of_wave in outcomes.items()}
    first, known = min(answered), len(frozenset().union(*answered.values()))
    cut = range(1, min(first, rollout.reached - 1) + 1) if first > 1 else ()
    before = (0, *sizes)
    return known + sum(max(0, before[n] - before[n - 1] - len(answered.get(n, ()))) for n in cut)
