"""The acts of one ``apply`` and their end, as values: fleet by fleet, policy by policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controller.errors import CertfleetError, ExitCode, InterruptedRunError, RefusedError
from controller.jobs import AppliedJob, ApplyResult, DeviceOutcome
from controller.reconcile.values import Outlook, Plan, WaveReport, WaveStatus, parse_job_id
from controller.report.attention import Attention, attention_of, failure_attention
from controller.report.model import FleetFailure, FleetReport
from protocol.messages import ExecutionStatus


@dataclass(frozen=True, slots=True)
class PolicyApplied:
    """The acts of one apply under one policy, and where its rollout stood at the last look."""

    policy: str
    started: int
    rotated: int
    failed: int
    unfinished: int
    stands: str
    left: Outlook  # what was to come at the last look, those that this apply has started included


@dataclass(frozen=True, slots=True)
class FleetApplied:
    """One fleet's apply: the results of its rounds, each device's last outcome, and the fleet as last seen."""

    fleet: str
    rounds: tuple[ApplyResult, ...]
    outcomes: tuple[DeviceOutcome, ...]
    timed_out: bool
    is_followed: bool
    last: FleetReport | None  # assessed after the last round; None if nothing was followed
    left_out: Mapping[str, str] = field(default_factory=dict)  # devices of a given plan that do not rotate, and why
    stopped: CertfleetError | None = None  # what ended it before its time, after something had been done
    plan: Plan | None = None  # the last that was made

    @property
    def policies(self) -> tuple[PolicyApplied, ...]:
        """Each policy under which something was done, or is to come."""
        started: Counter[str] = Counter()
        for applied in self.jobs:
            started[applied.job.policy] += applied.device_count
        fared = Counter((_policy_of(outcome), _fared(outcome)) for outcome in self.outcomes)
        waves = {} if self.plan is None else {w.policy: w for w in self.plan.waves if w.status is not WaveStatus.IDLE}
        outlooks = {} if self.plan is None else {outlook.policy: outlook for outlook in self.plan.outlooks}
        names = sorted({*started, *waves, *(name for name, _ in fared if name)})
        return tuple(
            PolicyApplied(
                policy=name,
                started=started[name],
                rotated=fared[name, "rotated"],
                failed=fared[name, "failed"],
                unfinished=fared[name, "not finished"],
                stands=_stands(waves.get(name)),
                left=outlooks.get(name, Outlook(name)),
            )
            for name in names
        )

    @property
    def skipped(self) -> dict[str, str]:
        """Why devices were left out, by name."""
        return {**self.left_out, **{name: why for applied in self.jobs for name, why in applied.skipped.items()}}

    @property
    def jobs(self) -> tuple[AppliedJob, ...]:
        """The jobs of all rounds."""
        return tuple(applied for result in self.rounds for applied in result.jobs)

    @property
    def failed(self) -> tuple[DeviceOutcome, ...]:
        """Devices whose rotation failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.has_failed)

    @property
    def unfinished(self) -> tuple[DeviceOutcome, ...]:
        """Devices whose rotation has not ended."""
        return tuple(outcome for outcome in self.outcomes if not outcome.status.is_terminal)

    @property
    def attention(self) -> Attention:
        """The questions to a person after this apply: what stopped it, and what the failed devices reported."""
        found = Attention(self.fleet) if self.last is None else attention_of(self.last)
        said = tuple(f"{o.device}: {o.status.value}, {o.reason or 'no reason given'}" for o in self.failed)
        names = {outcome.device for outcome in self.failed}
        known = tuple(line for line in found.failing if line.partition(":")[0] not in names)
        found = replace(found, failing=said + known)
        if self.stopped is None or isinstance(self.stopped, (InterruptedRunError, RefusedError)):
            return found  # whoever interrupts knows of it, and what a guardrail refuses is told with the plan
        end = failure_attention(self.fleet, str(self.stopped), self.stopped.remedy)
        return replace(found, facts=found.facts + end.facts, lines=found.lines + end.lines)

    @property
    def exit_code(self) -> ExitCode:
        """0 if all that was started succeeded or is only waiting for its device, 1 if devices failed."""
        if self.stopped is not None:
            return self.stopped.exit_code
        if self.failed:
            return ExitCode.ERROR
        return ExitCode.CHANGES if self.timed_out else ExitCode.IN_SYNC


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """All fleets of one apply."""

    fleets: tuple[FleetApplied, ...]
    failures: tuple[FleetFailure, ...] = ()


def _policy_of(outcome: DeviceOutcome) -> str | None:
    job = parse_job_id(outcome.job_id)
    return job.policy if job else None


def _fared(outcome: DeviceOutcome) -> str | None:
    if outcome.has_failed:
        return "failed"
    if outcome.status is ExecutionStatus.SUCCEEDED:
        return "rotated"
    return None if outcome.status.is_terminal else "not finished"


def _stands(wave: WaveReport | None) -> str:
    if wave is None:
        return "nothing waits to be rotated"
    return wave.message + (f" → {wave.remedy}" if wave.remedy else "")
