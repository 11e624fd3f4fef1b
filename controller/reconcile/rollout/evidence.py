"""How the devices of a wave fared, from what the jobs remember and what the registry shows of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.reconcile.values import CLOCK_GRAIN, FAILED, FailureType, Outcome, Reason, Sync
from protocol.messages import ExecutionStatus

from .history import is_open, is_other_than

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.reconcile.values import Assessment, DeviceExecution, Policy
    from protocol.job_document import JobDocument

    from .history import RolloutHistory

LATEST = timedelta(days=1)  # of the last wave's jobs, before its newest: older successes must not hide new failures


@dataclass(frozen=True, slots=True)
class WaveEvidence:
    """How the devices of a wave fared."""

    healthy: int = 0  # rotated, reconnected, still there
    failed: int = 0  # failed, and not in sync through it or since
    lost: int = 0  # reported success, but the registry does not show a healthy device
    silent: int = 0  # asked, never answered; not asked any more, or for longer than the wave waits
    pending: int = 0  # asked, may still answer
    ended_at: datetime | None = None  # when the last healthy one was done
    by_type: tuple[tuple[FailureType, int], ...] = ()
    in_vain: int = 0  # of the lost: rotated as asked, and no nearer to the policy
    owed: frozenset[str] = frozenset()  # failed before a person resumed the rollout, and not tried again yet

    @property
    def answered(self) -> int:
        """Devices that are evidence of the wave."""
        return self.healthy + self.failed + self.lost

    @property
    def failure_percent(self) -> float:
        """Per cent of the answers that are no good."""
        return 100 * (self.failed + self.lost) / self.answered if self.answered else 0.0


def gather(
    rollout: RolloutHistory,
    wave: int,
    policy: Policy,
    now: datetime,
    devices: Mapping[str, Assessment],
    *,
    deadline: datetime | None = None,
    resumed: datetime | None = None,
) -> WaveEvidence:
    """Count how the wave's devices fared; one that has left the fleet, or is in quarantine, is not counted.

    ``deadline`` may shorten how long the wave waits for devices that do not answer; what failed until
    ``resumed`` is not counted.
    """
    counts = dict.fromkeys(("healthy", "failed", "lost", "silent", "pending"), 0)
    kinds: dict[FailureType, int] = {}
    ended_at: datetime | None = None
    in_vain = 0
    owed: list[str] = []
    documents: dict[str, JobDocument] = {}
    for name, execution in rollout.outcomes(wave, _judged_since(rollout, wave, policy), resumed).items():
        device = devices.get(name)
        if device is None or any(finding.reason is Reason.QUARANTINED for finding in device.findings):
            continue
        kind = _fate(execution, device, now, patience(policy, wave, execution.queued_at, deadline))
        has_rotated, is_other = kind == "healthy" or (kind == "failed" and _has_rotated(execution, device)), False
        if has_rotated:
            if execution.job_id not in documents:
                documents[execution.job_id] = rollout.asked(execution.job_id)
            is_other = _holds_other(device, documents[execution.job_id])
            kind = "lost" if is_other else kind
        if kind in {"failed", "lost"} and execution.was_looked_at(resumed):
            # A person has looked at it. Who can be tried again comes before anybody else is reached.
            kind = "silent"
            if device.outcome is Outcome.ROTATE or device.outcome is Outcome.WAITING:
                owed.append(name)
        counts[kind] += 1
        in_vain += (kind == "lost" or (kind == "failed" and has_rotated)) and (device.is_in_vain or is_other)
        if kind == "healthy":
            ended_at = max(ended_at or execution.last_updated_at, execution.last_updated_at)
        if kind == "failed":
            failure = FailureType(execution.status.value)
            kinds[failure] = kinds.get(failure, 0) + 1
    if any(is_open(job) and not job.executions for job in rollout.waves.get(wave, ())):
        counts["pending"] += 1  # just made: AWS IoT has not listed its executions yet
    return WaveEvidence(
        **counts, ended_at=ended_at, by_type=tuple(sorted(kinds.items())), in_vain=in_vain, owed=frozenset(owed)
    )


def progress(
    rollout: RolloutHistory, policy: Policy, now: datetime, devices: Mapping[str, Assessment], resumed: datetime | None
) -> tuple[int, int]:
    """Count the rollout's rotated devices, and those that failed and were not resumed, over all waves."""
    found = [gather(rollout, wave, policy, now, devices, resumed=resumed) for wave in rollout.waves]
    return sum(one.healthy for one in found), sum(one.failed + one.lost for one in found)


def _judged_since(rollout: RolloutHistory, wave: int, policy: Policy) -> datetime | None:
    """Return since when jobs of the wave count. It is reckoned from the newest, so that a halted wave stays halted."""
    jobs = rollout.waves.get(wave, ())
    if wave < len(policy.rollout.waves) or not jobs:
        return None
    return max(job.created_at for job in jobs) - max(LATEST, policy.rollout.soak)


def shortened_soak(soak: timedelta, ended: datetime, deadline: datetime | None, waves_left: int) -> timedelta:
    """Return the soak of a wave that ended then, less if the waves left would not fit before the deadline."""
    if deadline is None:
        return soak
    return min(soak, max(timedelta(0), deadline - ended) / (waves_left + 1))


def patience(policy: Policy, wave: int, asked_at: datetime, deadline: datetime | None) -> timedelta:
    """Return how long a device asked then holds its wave: stragglersAfter, or half a wave's share before the deadline.

    An urgent rollout must not wait a day for a device that may be offline for a month; the other half
    is for the soak of those who take its place.
    """
    limit = policy.rollout.stragglers_after
    waves_left = len(policy.rollout.waves) - wave
    return limit if deadline is None else shortened_soak(limit, asked_at, deadline, 2 * waves_left + 1)


def _fate(execution: DeviceExecution, device: Assessment, now: datetime, limit: timedelta) -> str:
    """Return which count of Evidence a device belongs to; ``limit`` is how long its silence may last."""
    if execution.status is ExecutionStatus.SUCCEEDED:
        if _was_replaced(execution, device):
            return "silent"  # the certificate that is there is no work of the rotation, and says nothing of it
        if _shows_rotation(execution, device):
            return "healthy"
        return "pending" if device.is_rotating else "lost"  # the backend has still to remove what was replaced
    if execution.status in FAILED:
        is_healthy = _is_in_sync_through(execution, device)  # the job alone came to no good end
        return "healthy" if is_healthy else "silent" if _is_settled(execution, device) else "failed"
    if not execution.status.is_terminal:  # at work, queued, or in a status that nobody here knows
        is_at_work = execution.status is ExecutionStatus.IN_PROGRESS
        return "pending" if is_at_work or now - execution.queued_at < limit else "silent"
    # Its job was cancelled, or let it go: it may have begun before.
    return "lost" if device.is_in_vain and _has_rotated(execution, device) else "silent"


def _holds_other(device: Assessment, asked: JobDocument) -> bool:
    """Return whether the certificate, which came of a rotation, is another one than its job asked for."""
    return device.certificate is not None and is_other_than(asked, device.certificate)


def _has_rotated(execution: DeviceExecution, device: Assessment) -> bool:
    """Return whether the certificate that is there came of the rotation, however its job ended."""
    return device.certificate_created_at is not None and execution.brought(device.certificate_created_at)


def _is_in_sync_through(execution: DeviceExecution, device: Assessment) -> bool:
    """Return whether the rotation has put the device in sync; if presence is known, it was seen since."""
    created, seen = device.certificate_created_at, device.last_seen
    was_seen = created is not None and (seen is None or seen >= created - CLOCK_GRAIN)
    return was_seen and device.sync is Sync.IN_SYNC and _has_rotated(execution, device)


def _was_replaced(execution: DeviceExecution, device: Assessment) -> bool:
    """Return whether somebody has put another certificate there since the rotation."""
    created = device.certificate_created_at
    return created is not None and created > execution.last_updated_at + CLOCK_GRAIN


def _is_settled(execution: DeviceExecution, device: Assessment) -> bool:
    """Return whether a person has seen to the device since it failed.

    A waiver, another version of the component, or another certificate put there by hand.
    """
    created = device.certificate_created_at
    is_replaced = created is not None and created > execution.last_updated_at
    is_another = execution.was_of_another(device.component_version)
    return is_replaced or is_another or any(finding.reason is Reason.WAIVED for finding in device.findings)


def _shows_rotation(execution: DeviceExecution, device: Assessment) -> bool:
    """Return whether the registry bears out what the device reported: new certificate, connected, nothing blocked."""
    created, seen = device.certificate_created_at, device.last_seen
    asked = (execution.first_queued_at or execution.queued_at) - CLOCK_GRAIN
    return (
        created is not None
        and created >= asked
        and (seen is None or seen >= asked)
        and device.outcome is not Outcome.BLOCKED
        and not device.is_in_vain
    )
