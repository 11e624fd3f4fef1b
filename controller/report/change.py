"""The effect of a pull request on one fleet, as a value, and the sentences that every format shows of it.

Prices are an order of magnitude for the reader of a pull request, not a bill: list prices of us-east-1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from controller.heal import HealingAction, Kind, Untidy
from controller.reconcile.outlook import Comparison, DocumentChange, Moved, PolicyComparison
from controller.reconcile.values import DesiredState, Refusal, Stage, local_text
from protocol.names import AWS_IOT_AUTHORITY

from . import words
from .groups import ReasonGroup, by_reason
from .hitches import UNMET_REMEDY, unmet
from .model import FleetFailure

TRANSITIONS_SHOWN = 3
FIELDS_NAMED = 4  # of a document that changed
NAMES_SHOWN = 8  # of the devices that become blocked
JOB_EXECUTION_USD = 0.003  # AWS IoT Device Management, each
PRIVATE_CERTIFICATE_USD = (0.06, 0.75)  # AWS Private CA, each: short-lived mode, general-purpose mode


@dataclass(frozen=True, slots=True)
class FleetChange:
    """One fleet under base and head. ``refusals`` come with the change, ``known`` the base's plan has as well."""

    desired: DesiredState  # head's
    comparison: Comparison
    seen_at: datetime
    refusals: tuple[Refusal, ...] = ()
    known: tuple[Refusal, ...] = ()
    is_gone: bool = False  # head has no document of this fleet: no run will look at its account
    cut_off: tuple[HealingAction, ...] = ()  # what healing will do for quarantines that come or go with the change
    not_cut_off: tuple[Untidy, ...] = ()  # and what it will not, with the reason

    @property
    def shown(self) -> tuple[PolicyComparison, ...]:
        """The policies that have something to report."""
        return tuple(policy for policy in self.comparison.policies if policy.changes or policy.has_effect)

    @property
    def blocked(self) -> list[ReasonGroup]:
        """The devices that become blocked with the change, so that a person must act, by reason and policy."""
        return by_reason(self.comparison.blocked)

    @property
    def needs_person(self) -> bool:
        """Whether a person must act because of the change, merged or not, beside what a guardrail refuses."""
        return bool(self.comparison.blocked or self.comparison.missed)

    @property
    def has_news(self) -> bool:
        """Whether there is anything to show of this fleet."""
        found = self.comparison
        return bool(
            self.shown or found.documents or self.refusals or self.cut_off or found.notices or self.needs_person
        )


@dataclass(frozen=True, slots=True)
class Comparisons:
    """The change of each fleet."""

    base: str  # the ref as it was given
    fleets: tuple[FleetChange, ...]
    failures: tuple[FleetFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of rotating the newly due. Each rotation restarts its device's nucleus once."""

    devices: int
    calls: int  # to AWS IoT
    certificates: Mapping[str, int]  # by private authority: those that are billed

    @property
    def usd(self) -> tuple[float, float]:
        """The least and the most, of job executions and private certificates."""
        billed = sum(self.certificates.values())
        jobs = self.devices * JOB_EXECUTION_USD
        return jobs + billed * PRIVATE_CERTIFICATE_USD[0], jobs + billed * PRIVATE_CERTIFICATE_USD[1]


def cost_of(desired: DesiredState, policies: Iterable[PolicyComparison]) -> Cost:
    """Return the cost of these policies' newly due devices."""
    authorities = {policy.name: policy.certificate.authority for policy in desired.policies}
    devices = calls = 0
    certificates: Counter[str] = Counter()
    for policy in policies:
        devices += policy.newly_due
        calls += policy.remote_actions
        authority = authorities.get(policy.policy)
        if authority not in {None, AWS_IOT_AUTHORITY} and policy.newly_due:
            certificates[str(authority)] += policy.newly_due
    return Cost(devices, calls, certificates)


def money(cost: Cost) -> str:
    """``about 0.03 USD``, ``about 0.51 to 6.03 USD``."""
    least, most = (f"{amount:,.2f}" for amount in cost.usd)
    if most == "0.00":
        return "under 0.01 USD"
    return f"about {most} USD" if least == most else f"about {least} to {most} USD"


def sentence(changes: Iterable[FleetChange]) -> str:
    """Return the one line: how many devices, when, how long, what it costs."""
    listed = list(changes)
    due = [(change, policy) for change in listed for policy in change.shown if policy.newly_due]
    no_longer = sum(change.comparison.no_longer_due for change in listed)
    alone = sum(sum(change.comparison.left_alone.values()) for change in listed)
    parts = [*_cut_off(listed), *decisions(listed)]
    if due:
        parts += [f"{words.count(sum(p.newly_due for _, p in due), 'device')} newly to rotate", _when(due), _costs(due)]
    if no_longer:
        parts.append(f"{words.count(no_longer, 'device')} no longer to rotate")
    if later := sum(policy.moved.devices for change in listed for policy in change.shown if policy.moved):
        parts.append(f"{words.count(later, 'device')} due already, at another time")
    parts += [
        f"{policy.policy} starts again with its first wave"
        for change in listed
        for policy in change.shown
        if policy.first_wave
    ]
    if alone:
        parts.append(f"{words.count(alone, 'device')} left to themselves")
    parts += [
        f"{words.count(number, 'device')} from {policy.policy} to {other}"
        for change in listed
        for policy in change.shown
        for other, number in policy.gives.items()
    ]
    return " · ".join(parts) or "no device rotates earlier or later at once"


def _cut_off(changes: Iterable[FleetChange]) -> list[str]:
    kinds = Counter(action.kind for change in changes for action in change.cut_off)
    told = ((Kind.QUARANTINE, "cut off"), (Kind.LIFT, "brought back"))
    return [f"{words.count(kinds[kind], 'device')} {done}" for kind, done in told if kinds[kind]]


def decisions(changes: Iterable[FleetChange]) -> list[str]:
    """Return what a person must decide later on, or know before; reports show it above all numbers."""
    told = []
    reasons: Counter[str] = Counter()
    for change in changes:
        told += unmet(change.comparison.missed)
        reasons.update({group.reason.value: len(group.devices) for group in change.blocked})
        for policy in change.shown:
            told += [
                f"asks a person from {words.instant(stage.start)} on ({guardrail}: {policy.policy} starts "
                f"{words.count(at_once, 'device')} at once)"
                for stage, guardrail, at_once in asked_later(change, policy)[:1]
            ]
            if policy.obstacle and policy.due:
                told.append(f"{policy.policy} does not go on: {policy.obstacle}")
            if policy.reported:
                told.append(f"{words.count(policy.reported, 'device')} of {policy.policy} only reported, never rotated")
    if reasons:
        numbers = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()))
        told.append(f"{_become_blocked(reasons.total())} and {_need(reasons.total())} a person ({numbers})")
    return told


def asked_later(change: FleetChange, policy: PolicyComparison) -> list[tuple[Stage, str, int]]:
    """Return the later waves at which a guardrail will ask, its name, and the devices that start at once then.

    A guardrail that refuses the present plan is left out: the report names it already.
    """
    now = {refusal.policy for refusal in (*change.refusals, *change.known)}
    if policy.policy in now:
        return []
    return [
        (stage, stage.asks.guardrail, min(stage.devices, policy.largest_job))
        for stage in policy.asks
        if stage.asks is not None and stage.asks not in (*change.refusals, *change.known)
    ]


def warnings(change: FleetChange) -> list[str]:
    """Return what a reader must not overlook, a sentence each: it is never folded away."""
    told = [f"{one.message} → {UNMET_REMEDY}" for one in change.comparison.missed]
    for group in change.blocked:
        devices = f"{_become_blocked(len(group.devices))} ({words.listed(group.names, NAMES_SHOWN)})"
        remedy = f" → {group.finding.remedy}" if group.finding.remedy else ""
        about = f"{group.policy}, " if group.policy else ""
        told.append(f"{about}{group.reason.value}: {devices}: {group.finding.message}{remedy}")
    for policy in change.shown:
        told += [
            f"{policy.policy}: asks a reviewer later, from {moment(change, policy, stage.start)} on, by {guardrail}: "
            f"{stage.asks.message if stage.asks else ''}"
            for stage, guardrail, _at_once in asked_later(change, policy)
        ]
        if policy.obstacle and policy.due:
            told.append(f"{policy.policy} does not go on: {policy.obstacle}")
        if policy.reported:
            devices = words.count(policy.reported, "device is", "devices are")
            told.append(f"{policy.policy}: {devices} only reported, never rotated")
        if policy.at_risk:
            devices = words.count(policy.at_risk, "device")
            told.append(f"{policy.policy}: {devices} may expire while offline; certfleet drift names them")
        if policy.first_wave:
            told.append(f"{policy.policy}: the rollout {begins_anew(policy)}")
        if policy.left_alone:
            devices = words.count(policy.left_alone, "device is", "devices are")
            told.append(f"{policy.policy}: {devices} left to themselves: no policy governs them any more")
    for document in change.comparison.documents:
        told.append(f"{document.document} is {document.change}{_which(document)}")
    told += change.comparison.notices
    if change.known:
        known = ", ".join(dict.fromkeys(refusal.guardrail for refusal in change.known))
        told.append(f"without this change, {known} refuses the plan as well: the next reconcile asks a person")
    anyway = (one for one in change.comparison.incidents if one.needs_person and one not in change.comparison.missed)
    told += [f"without this change as well, {one.message} → {UNMET_REMEDY}" for one in anyway]
    return told


def _become_blocked(devices: int) -> str:
    return words.count(devices, "device becomes blocked", "devices become blocked")


def _need(devices: int) -> str:
    return "needs" if devices == 1 else "need"


def _which(document: DocumentChange) -> str:
    if document.change != "changed":
        return ""
    changes = [f"{c.field.removeprefix('spec.')} {c.base or '–'} → {c.head or '–'}" for c in document.fields]
    return f": {words.listed(changes, FIELDS_NAMED)}"


@dataclass(frozen=True, slots=True)
class Moment:
    """One wave of one policy, as the time line has it."""

    when: str
    until: str
    policy: str
    wave: int
    devices: int
    asks: str  # the guardrail that asks a person then


def time_line(change: FleetChange) -> list[Moment]:
    """Return the waves, in order, of policies with a device that rotates because of the change, or at another time."""
    stages = [(policy, stage) for policy in change.shown if policy.makes_rotate for stage in policy.stages]
    return [
        Moment(
            moment(change, policy, stage.start),
            words.instant(stage.end),
            policy.policy,
            stage.wave,
            stage.devices,
            stage.asks.guardrail if stage.asks else "",
        )
        for policy, stage in sorted(stages, key=lambda each: (each[1].start, each[0].policy, each[1].wave))
    ]


def moment(change: FleetChange, policy: PolicyComparison, instant: datetime) -> str:
    """Return an instant in UTC, and what the clocks of the policy's windows show then."""
    zones = next((each.schedule.zones for each in change.desired.policies if each.name == policy.policy), ())
    return words.instant(instant) + local_text(instant, zones)


def becomes(policy: PolicyComparison) -> str:
    """Return what the due devices hold, and will hold."""
    return words.listed([str(transition) for transition in policy.transitions], TRANSITIONS_SHOWN)


def begins_anew(policy: PolicyComparison) -> str:
    """Return what of a rollout that had come further starts over."""
    return f"starts again with its first wave, {words.count(policy.first_wave, 'device')}"


def span(change: FleetChange, policy: PolicyComparison) -> str:
    """Return when the policy's due devices rotate, and how long that takes."""
    start, finish = policy.span.start, policy.span.finish
    if start is None or finish is None:
        return f"nobody can know: {policy.obstacle}" if policy.obstacle else "never: no window is open for it"
    begins = moment(change, policy, start)
    return f"from {begins}, done by {words.instant(finish)} ({words.duration(finish - start)})"


def moved(found: Moved) -> str:
    """Return what becomes of devices that are due with and without the change: ``start … instead of …``."""
    parts = [
        f"{verb} {_instant(head)} instead of {_instant(base)}"
        for verb, base, head in (
            ("start", found.base.start, found.head.start),
            ("are done by", found.base.finish, found.head.finish),
        )
        if _instant(base) != _instant(head)
    ]
    parts += [f"{found.sooner:,} more {_start(found.sooner)} with the first"] if found.sooner else []
    parts += [f"{found.later:,} no longer {_start(found.later)} with the first"] if found.later else []
    return f"{words.count(found.devices, 'device')}: {', '.join(parts)}"


def _start(devices: int) -> str:
    return "starts" if devices == 1 else "start"


def _instant(instant: datetime | None) -> str:
    return words.instant(instant) if instant else "never"


def _when(due: list[tuple[FleetChange, PolicyComparison]]) -> str:
    starts = [policy.span.start for _, policy in due if policy.span.start is not None]
    ends = [policy.span.finish for _, policy in due if policy.span.finish is not None]
    if not starts or not ends:
        return "they cannot: no window is open for them"
    text = f"from {words.instant(min(starts))}, takes {words.duration(max(ends) - min(starts))}"
    return text if len(ends) == len(due) else f"{text} (some cannot: no window is open for them)"


def _costs(due: list[tuple[FleetChange, PolicyComparison]]) -> str:
    costs = [cost_of(change.desired, [policy]) for change, policy in due]
    certificates: Counter[str] = Counter()
    for cost in costs:
        certificates.update(cost.certificates)
    whole = Cost(sum(cost.devices for cost in costs), sum(cost.calls for cost in costs), certificates)
    return f"costs {words.count(whole.devices, 'restart')}, {money(whole)}"
