"""Assess devices: exactly one verdict for each device that a policy governs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .case import Case
from .check_gates import not_yet_due, rotating, unsupported_by_backend
from .checks import DEMANDS, GATES, STRUCTURE
from .finding import Assessment, Finding, Health, Outcome, Reason, Sync
from .governance import Governance, Tie

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from .device import Device, FleetState
    from .policy import DesiredState

# What a stock backend cannot put right, because it chooses key type and authority itself.
_NEEDS_OUR_BACKEND = frozenset({Reason.KEY_TYPE_MISMATCH, Reason.AUTHORITY_MISMATCH})

_MISSING = frozenset({Reason.NO_CERTIFICATE})
_RESTING = frozenset({Reason.SUSPENDED, Reason.WAIVED})
_MOVING = frozenset({Reason.ROTATING, Reason.STRAGGLER})
_UNREADABLE = frozenset({Reason.UNPARSEABLE})


def assess_fleet(
    devices: Iterable[Device], desired: DesiredState, state: FleetState, now: datetime
) -> Iterator[Assessment]:
    """One assessment per governed device, in the order of ``devices``; ungoverned devices are passed over."""
    governance = Governance(desired, state, now)
    for device in devices:
        assessment = assess(device, governance)
        if assessment is not None:
            yield assessment


def assess(device: Device, governance: Governance) -> Assessment | None:
    """The verdict on one device; None where no policy governs it."""
    governed = governance.policy_of(device)
    if governed is None:
        return None
    if isinstance(governed, Tie):
        return _tied(device, governed)
    if governed.quiet is not None and governed.quiet.covers(device):
        certificate = device.attachments[0].certificate
        return Assessment(
            device=device.name,
            policy=governed.policy.name,
            certificate_id=certificate.certificate_id,
            findings=(),
            sync=Sync.IN_SYNC,
            health=Health.HEALTHY,
            certificate_created_at=certificate.created_at,
            last_seen=device.last_seen,
            component_version=device.component_version,
        )
    case = Case(device, governed, governance)
    findings = find(case)
    outcomes = {finding.outcome for finding in findings}
    reasons = {finding.reason for finding in findings}
    return Assessment(
        device=device.name,
        policy=governed.policy.name,
        certificate_id=case.certificate.certificate_id if case.certificate else None,
        findings=findings,
        sync=_sync(case, outcomes, reasons),
        health=_health(case, outcomes, reasons),
        timing=case.rotation_timing() if Outcome.ROTATE in outcomes else case.timing,
        failures=len(case.failures),
        certificate_created_at=case.certificate.created_at if case.certificate else None,
        last_seen=device.last_seen,
        component_version=device.component_version,
    )


def find(case: Case) -> tuple[Finding, ...]:
    """Ask the chain: demands first, then what is wrong, then what keeps a rotation from starting."""
    demands = [finding for check in DEMANDS if (finding := check(case)) is not None]
    others = [finding for check in STRUCTURE if (finding := check(case)) is not None]
    under_way = rotating(case)
    if under_way is not None:
        others.append(under_way)
    elif demands:
        if not others and all(finding.reason in _NEEDS_OUR_BACKEND for finding in demands):
            others += _asked(unsupported_by_backend(case))
        for gate in GATES:
            others += _asked(gate(case))
    elif not others:
        others += _asked(not_yet_due(case))
    return (*demands, *others) if demands or others else ()


def _asked(finding: Finding | None) -> tuple[Finding, ...]:
    return () if finding is None else (finding,)


def _sync(case: Case, outcomes: set[Outcome], reasons: set[Reason]) -> Sync:
    if reasons & _UNREADABLE:
        return Sync.UNKNOWN
    if outcomes - {Outcome.WAITING}:
        return Sync.OUT_OF_SYNC
    return Sync.IN_SYNC if case.certificate is not None else Sync.UNKNOWN  # two certificates while rotating


def _health(case: Case, outcomes: set[Outcome], reasons: set[Reason]) -> Health:
    if reasons & _MISSING:
        return Health.MISSING
    if reasons & _RESTING:
        return Health.SUSPENDED
    if reasons & _MOVING:
        return Health.PROGRESSING
    if Outcome.BLOCKED in outcomes or (case.failures and outcomes):
        return Health.DEGRADED
    return Health.HEALTHY


def _tied(device: Device, tie: Tie) -> Assessment:
    policies = " and ".join(tie.policies)
    finding = Finding(
        reason=Reason.POLICY_CONFLICT,
        outcome=Outcome.BLOCKED,
        message=f"policies {policies} claim the device with equal priority",
        policy_field="spec.priority",
        remedy="give one of them a higher priority",
    )
    certificate = device.attachments[0].certificate.certificate_id if len(device.attachments) == 1 else None
    return Assessment(device.name, None, certificate, (finding,), Sync.OUT_OF_SYNC, Health.DEGRADED)
