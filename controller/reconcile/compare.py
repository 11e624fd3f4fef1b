"""What a change of the desired state does to the fleet: two refs over the same inventory.

The answer for the pull request, per policy: who is due now that was not, who no longer is, what kind
of certificate changes, and what carrying it out takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from .assess import assess
from .estimate import finish_at
from .finding import Outcome, Reason
from .forecast import Forecaster
from .governance import Governance
from .policy import AbortRule, Window
from .waves import cumulative_sizes
from .wording import instant_text, percent_text, span_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .device import Device, FleetState
    from .finding import Assessment
    from .governance import Governed
    from .policy import DesiredState, Policy

HORIZON = timedelta(days=90)  # over which the peak per day is taken

# What one rotation takes in the account and on the device.
CALLS_PER_ROTATION = (
    "CreateCertificateFromCsr",
    "AttachPolicy",
    "AttachThingPrincipal",
    "UpdateCertificate",
    "DetachPolicy",
    "DetachThingPrincipal",
    "DeleteCertificate",
)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a policy that differs; None: not set."""

    field: str
    base: str | None
    head: str | None


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """One policy under two refs. Counts are of devices governed by it under head (no longer due: under either)."""

    policy: str
    changes: tuple[FieldChange, ...]
    governed_base: int
    governed_head: int
    newly_due: int
    no_longer_due: int
    authority_changes: int
    key_type_changes: int
    due: int  # all that must rotate under head
    jobs: int
    peak_per_day: int
    finish: datetime | None  # when the last of the due has rotated at the given rates; None: windows forbid
    reasons: dict[Reason, int]  # of the newly due

    @property
    def remote_actions(self) -> int:
        """Registry calls that rotating the newly due takes; each also restarts its device once."""
        return self.newly_due * len(CALLS_PER_ROTATION)

    @property
    def has_effect(self) -> bool:
        """Whether the change does anything to this policy's devices."""
        return bool(self.newly_due or self.no_longer_due or self.governed_base != self.governed_head)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Base and head, policy by policy in name order."""

    base_commit: str | None
    head_commit: str | None
    policies: tuple[PolicyComparison, ...]

    @property
    def newly_due(self) -> int:
        """Devices that rotate because of the change."""
        return sum(policy.newly_due for policy in self.policies)


@dataclass(slots=True)
class _Counts:
    governed_base: int = 0
    governed_head: int = 0
    newly_due: int = 0
    no_longer_due: int = 0
    authority: int = 0
    key_type: int = 0
    due: int = 0
    reasons: dict[Reason, int] = field(default_factory=dict)


def compare(
    devices: Iterable[Device], base: DesiredState, head: DesiredState, state: FleetState, now: datetime
) -> Comparison:
    """Compare; ``devices`` must carry the groups that the policies of either name."""
    before, forecaster = Governance(base, state, now), Forecaster(head, state, now, HORIZON)
    after = forecaster.governance
    counts = {name: _Counts() for name in sorted({*before.policies, *after.policies})}
    for device in devices:
        forecaster.add(device)
        _count(counts, assess(device, before), assess(device, after))
    peaks: dict[str, dict[object, int]] = {}
    for row in forecaster.result().rows:
        days = peaks.setdefault(row.policy, {})
        days[row.day] = days.get(row.day, 0) + row.rotations
    return Comparison(
        base.commit,
        head.commit,
        tuple(
            _policy(name, of, before, after, max(peaks.get(name, {}).values(), default=0))
            for name, of in counts.items()
        ),
    )


def changes_between(base: Policy | None, head: Policy | None) -> tuple[FieldChange, ...]:
    """The fields that differ, in the order of the documents; everything where a policy is new or gone."""
    old, new = dict(_flat(base)), dict(_flat(head))
    return tuple(
        FieldChange(name, old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)
    )


def _count(counts: dict[str, _Counts], base: Assessment | None, head: Assessment | None) -> None:
    was_due = base is not None and base.outcome is Outcome.ROTATE
    is_due = head is not None and head.outcome is Outcome.ROTATE
    if base is not None and base.policy is not None:
        counts[base.policy].governed_base += 1
        if was_due and not is_due:
            counts[base.policy].no_longer_due += 1
    if head is None or head.policy is None:
        return
    of = counts[head.policy]
    of.governed_head += 1
    of.due += is_due
    if not is_due or was_due:
        return
    of.newly_due += 1
    reasons = [finding.reason for finding in head.findings if finding.outcome is Outcome.ROTATE]
    of.authority += Reason.AUTHORITY_MISMATCH in reasons
    of.key_type += Reason.KEY_TYPE_MISMATCH in reasons
    for reason in reasons:
        of.reasons[reason] = of.reasons.get(reason, 0) + 1


def _policy(name: str, of: _Counts, before: Governance, after: Governance, peak: int) -> PolicyComparison:
    old, new = before.policies.get(name), after.policies.get(name)
    return PolicyComparison(
        policy=name,
        changes=changes_between(old.policy if old else None, new.policy if new else None),
        governed_base=of.governed_base,
        governed_head=of.governed_head,
        newly_due=of.newly_due,
        no_longer_due=of.no_longer_due,
        authority_changes=of.authority,
        key_type_changes=of.key_type,
        due=of.due,
        jobs=_jobs(new, of) if new else 0,
        peak_per_day=peak,
        finish=finish_at(new, of.due, of.governed_head, after.now, is_urgent=False) if new else None,
        reasons=dict(sorted(of.reasons.items())),
    )


def _jobs(governed: Governed, of: _Counts) -> int:
    """One per wave that reaches anyone; more where the in-flight limit splits a wave."""
    rollout = governed.policy.rollout
    done = jobs = 0
    sizes = cumulative_sizes(rollout.waves, max(1, of.governed_head))
    for size in (*sizes[:-1], max(sizes[-1], of.due)):
        reach = min(size, of.due)
        jobs += -(-(reach - done) // rollout.max_in_flight)
        done = reach
    return jobs


def _flat(policy: Policy | None) -> Iterable[tuple[str, str | None]]:
    if policy is None:
        return
    yield "spec.thingGroup", policy.thing_group
    yield "spec.priority", str(policy.priority)
    for section, value in (
        ("certificate", policy.certificate),
        ("schedule", policy.schedule),
        ("rollout", policy.rollout),
    ):
        for each in fields(value):
            yield f"spec.{section}.{_camel(each.name)}", _text(getattr(value, each.name))
    yield "spec.mode", policy.mode.value
    yield "spec.suspend", None if policy.suspend is None else policy.suspend.reason


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _text(value: object) -> str | None:
    """A field's value as a reader of the change wants it; None where it is not set or empty."""
    match value:
        case None:
            text = ""
        case timedelta():
            text = span_text(value)
        case datetime():
            text = instant_text(value)
        case tuple():
            text = ", ".join(str(_text(item)) for item in value)
        case Window():
            text = f"{value.kind.value} {value.cron} {value.timezone} for {span_text(value.duration)}"
        case AbortRule():
            percent = percent_text(value.threshold_percentage)
            text = f"{percent} % {value.failure_type.value} of at least {value.min_number_of_executed_things}"
        case Enum():
            text = str(value.value)
        case _:
            text = str(value)
    return text or None
