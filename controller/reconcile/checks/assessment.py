"""Assess devices: exactly one verdict for each device that a policy governs."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from controller.reconcile.schedule import risk_of
from controller.reconcile.values import (
    DECIDED,
    NO_OVERRIDES,
    Assessment,
    Finding,
    Health,
    Outcome,
    Reason,
    RotationResult,
    Sync,
)
from protocol.messages import ExecutionStatus

from .case import Case, Check
from .demands import DEMANDS
from .gates import GATES, not_yet_due, quarantined, rotating, waived
from .governance import Governance, Tie, taints
from .rotated import in_vain, last_rotation
from .structure import STRUCTURE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from controller.reconcile.values import DesiredState, Device, FleetState, Overrides

_IN_SYNC, _HEALTHY = Sync.IN_SYNC, Health.HEALTHY  # a member of an enum takes longer to look up
_NEW = tuple.__new__  # as ``Assessment(…)`` does, in two thirds of the time
_NOTHING_MORE = Assessment("", None, None, (), _IN_SYNC, _HEALTHY)[8:]


def assess_fleet(
    devices: Iterable[Device],
    desired: DesiredState,
    state: FleetState,
    now: datetime,
    overrides: Overrides = NO_OVERRIDES,
) -> Iterator[Assessment]:
    """Yield one assessment per governed device, in the order of ``devices``; ungoverned devices are passed over."""
    governance = Governance(desired, state, now, overrides)
    for device in devices:
        assessment = assess(device, governance)
        if assessment is not None:
            yield assessment


def assess(device: Device, governance: Governance) -> Assessment | None:
    """Return the verdict on one device; None if no policy governs it."""
    governed = governance.policy_of(device)
    if governed is None:
        return None
    if isinstance(governed, Tie):
        return _tied(device, governed, governance)
    is_free = device.name not in governance.drilled and (
        not governance.desired.quarantines or governance.quarantine_of(device) is None
    )
    if is_free and governed.quiet is not None and governed.quiet.covers(device):
        held, policy = device.attachments[0].certificate, governed.policy.name
        seen, version = device.last_seen, device.component_version
        told = (device.name, policy, held, (), _IN_SYNC, _HEALTHY, seen, version)
        return _NEW(Assessment, told + _NOTHING_MORE)
    case = Case(device, governed, governance)
    findings = find(case)
    if not findings and case.timing is None and governed.quiet is not None:
        governed.quiet.learn(device, lambda other: _is_silent(Case(other, governed, governance)))
    # Lists, because hashing members of an enum costs more than looking through two or three of them.
    outcomes = [finding.outcome for finding in findings]
    reasons = [finding.reason for finding in findings]
    result = case.result if case.demands else None
    return Assessment(
        device.name,
        governed.policy.name,
        case.certificate,
        findings,
        _sync(case, outcomes, reasons),
        _health(case, outcomes, reasons),
        device.last_seen,
        device.component_version,
        case.rotation_timing() if Outcome.ROTATE in outcomes else case.timing,
        len(case.failures),
        result if isinstance(result, RotationResult) else None,
        case.in_vain is not None,
        case.preflight if case.demands else None,
        None if device.absences is None else risk_of(device, governance.now),
    )


def _is_silent(case: Case) -> bool:
    """Return whether no check finds anything now or within ``COMING_WITHIN``, whatever the certificate's jitter."""
    return not find(case) and case.timing is None


def find(case: Case) -> tuple[Finding, ...]:
    """Return what the checks find: first the demands, then the faults, then what keeps a rotation from starting.

    No other check is asked about a device in quarantine.
    """
    if case.governance.desired.quarantines and (cut_off := quarantined(case)) is not None:
        return (cut_off,)
    demands = _ask(DEMANDS, case)
    if demands:
        case.demands = tuple(demands)
        case.last_rotation = last_rotation(case)
        case.in_vain = in_vain(case, case.last_rotation)
    others = _ask(STRUCTURE, case)
    under_way = rotating(case)
    if under_way is not None:
        others.append(under_way)
        asked = case.device.executions
        if demands and asked and all(execution.status is ExecutionStatus.QUEUED for execution in asked):
            others += _ask((waived,), case)  # it has not begun: a waiver still comes in time
    elif demands:
        others += _ask(GATES, case)
    elif not others:
        others = _ask((not_yet_due,), case)
    return (*demands, *others) if demands or others else ()


def _ask(checks: tuple[Check, ...], case: Case) -> list[Finding]:
    return [finding for check in checks if (finding := check(case)) is not None]


def _sync(case: Case, outcomes: list[Outcome], reasons: list[Reason]) -> Sync:
    if Reason.UNPARSEABLE in reasons:
        return Sync.UNKNOWN
    if Outcome.ROTATE in outcomes or Outcome.BLOCKED in outcomes:
        return Sync.OUT_OF_SYNC
    return Sync.IN_SYNC if case.certificate is not None else Sync.UNKNOWN  # two certificates while rotating


def _health(case: Case, outcomes: list[Outcome], reasons: list[Reason]) -> Health:
    if Outcome.BLOCKED not in outcomes and Outcome.WAITING not in outcomes:
        return Health.DEGRADED if case.failures and outcomes else Health.HEALTHY
    if Reason.NO_CERTIFICATE in reasons:
        return Health.MISSING
    if not DECIDED.isdisjoint(reasons):
        return Health.SUSPENDED
    if Reason.ROTATING in reasons or Reason.STRAGGLER in reasons:
        return Health.PROGRESSING
    return Health.DEGRADED if case.failures or Outcome.BLOCKED in outcomes else Health.HEALTHY


def _tied(device: Device, tie: Tie, governance: Governance) -> Assessment:
    policies = " and ".join(tie.policies)
    held = [attachment.certificate for attachment in device.attachments]
    tainted = [i.name for i in governance.desired.incidents if any(taints(i, certificate) for certificate in held)]
    values = {"policies": ",".join(tie.policies)}
    if governance.desired.quarantines and governance.quarantine_of(device) is not None:
        values["certificates"] = ",".join(one.certificate_id for one in held)
    finding = Finding(
        reason=Reason.POLICY_CONFLICT,
        outcome=Outcome.BLOCKED,
        message=f"policies {policies} claim the device with equal priority",
        policy_field="spec.priority",
        remedy=f"give one of them a higher priority; to see where it stands: certfleet explain {quote(device.name)}",
        values={**values, "incidents": ",".join(tainted)} if tainted else values,
    )
    certificate = device.attachments[0].certificate if len(device.attachments) == 1 else None
    return Assessment(device.name, None, certificate, (finding,), Sync.OUT_OF_SYNC, Health.DEGRADED)
