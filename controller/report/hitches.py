"""Questions that a person must decide: what holds a fleet up now, what will ask later on, and what nobody rotates.

All of it is taken from the report's plan, or from the plan that apply would make now, and from its outlook.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from controller.reconcile.values import (
    IncidentReport,
    OfflineRisk,
    Outlook,
    Plan,
    WaveReport,
    WaveStatus,
    local_text,
    options_for,
    whole_days,
)

from . import words
from .model import FleetReport

NAMES_SHOWN = 5  # devices at risk in one sentence
UNMET_REMEDY = "unblock what is blocked, or give the rollout higher rates, or windows; list what is lost"


@dataclass(frozen=True, slots=True)
class Hitch:
    """A hindrance to a whole fleet until a person acts, and what to do about it."""

    what: str
    message: str
    remedy: str
    fact: str  # the same from run to run while it lasts: no numbers that change
    is_refusal: bool = False

    @property
    def line(self) -> str:
        """The hindrance and its remedy in one line."""
        about = "" if self.message.startswith(self.what) else f"{self.what}: "
        return f"{about}{self.message} → {self.remedy}"


def hitches(report: FleetReport) -> Iterator[Hitch]:
    """Yield refusals, stopped rollouts, incidents that will be late, and devices that may expire while away."""
    plan = report.next_plan
    if plan is None:
        return
    for refusal in plan.refusals:
        yield Hitch(
            f"guardrail {refusal.guardrail}, {refusal.policy or 'whole fleet'}",
            refusal.message,
            command_for(report),
            f"refusal {refusal.guardrail} {refusal.policy}",
            is_refusal=True,
        )
    for wave in plan.waves:
        if wave.remedy:
            what, fact = f"rollout of {wave.policy}", f"wave {wave.policy} {wave.status}"
            yield Hitch(what, wave.message, wave.remedy, fact)
    for incident in plan.incidents:
        if incident.needs_person:
            yield Hitch(incident.title, incident.message, UNMET_REMEDY, incident.title)
    rollouts_of = {policy.name: policy.rollout for policy in report.desired.policies}
    for outlook in plan.outlooks:
        if outlook.at_risk:
            yield _offline(outlook, is_first=rollouts_of[outlook.policy].offline_first)


def command_for(report: FleetReport) -> str:
    """Return the one command that all refusals of the report's plan let pass, or what to do instead."""
    plan = report.next_plan
    options = options_for(plan.refusals if plan else (), report.overrides)
    return f"certfleet apply --wait {options}" if options.startswith("--") else options.removeprefix("none: ")


def with_remedies(found: Sequence[Hitch]) -> Iterator[tuple[Hitch, str]]:
    """Yield the hitches with their remedies; of several in a row that are the same, the last hitch alone has it."""
    for hitch, after in zip_longest(found, found[1:]):
        yield hitch, "" if after is not None and after.remedy == hitch.remedy else hitch.remedy


def unmet(incidents: Iterable[IncidentReport]) -> list[str]:
    """Return the incidents of these that will not be met unless a person acts, for the headline."""
    return [f"incident {one.incident} will not be met by itself" for one in incidents if one.needs_person]


def _offline(outlook: Outlook, *, is_first: bool) -> Hitch:
    """Return the devices that will expire before they are likely to be seen again, and what keeps them from it."""
    risks = outlook.at_risk
    told = "; ".join(offline_text(risk) for risk in risks[:NAMES_SHOWN])
    more = len(risks[NAMES_SHOWN:]) + outlook.more_at_risk
    rest = f"; and {more:,} more" if more else ""
    longest = max(whole_days(risk.absence) + 1 for risk in risks if risk.absence is not None)
    ask = "" if is_first else ", or ask them ahead of their wave with rollout.offlineFirst: true"
    return Hitch(
        f"offline risk in {outlook.policy}",
        f"{at_risk_text(outlook)}: {told}{rest}",
        f"bring them online before their certificates end{ask}; with a renewBefore above {longest}d "
        "they are asked in time",
        f"offline {outlook.policy} {' '.join(sorted(risk.device for risk in risks))}",
    )


def at_risk_text(outlook: Outlook) -> str:
    """Return how many devices of a policy will expire before they are likely to be seen again."""
    number = len(outlook.at_risk) + outlook.more_at_risk
    will = "will expire before it is" if number == 1 else "will expire before they are"
    return f"{words.count(number, 'device')} of {outlook.policy} {will} likely to be seen again"


def offline_text(risk: OfflineRisk) -> str:
    """Return when a device's certificate ends, beside what is known of its absences."""
    seen = f"away since {words.instant(risk.seen_at)}" if risk.is_away else "here now"
    again = f", expected by {words.instant(risk.seen_again)}" if risk.seen_again else ""
    return f"{risk.device} ends {words.instant(risk.expires)}, {seen}{again}"


def decisions(report: FleetReport) -> list[str]:
    """Return the hitches in a few words each, for the headline, with what a person must know of the time ahead."""
    plan = report.next_plan
    if plan is None:
        return []
    told = [f"refused by {name}" for name in dict.fromkeys(refusal.guardrail for refusal in plan.refusals)]
    told += [f"rollout of {wave.policy} {_STOPS.get(wave.status, wave.status)}" for wave in _stopped(plan)]
    told += unmet(plan.incidents)
    for outlook in plan.outlooks:
        told += later(outlook)
    return told


def later(outlook: Outlook) -> list[str]:
    """Return what of one policy's time ahead a person must know."""
    told = [at_risk_text(outlook)] if outlook.at_risk else []
    if outlook.asks:
        stage = outlook.asks[0]
        guardrail = stage.asks.guardrail if stage.asks else ""
        told.append(
            f"{guardrail} asks a person from {words.instant(stage.start)} on: wave {stage.wave} of {outlook.policy} "
            f"has {words.count(stage.devices, 'device')}"
        )
    if outlook.reported:
        told.append(f"{words.count(outlook.reported, 'device')} of {outlook.policy} only reported, never rotated")
    return told


@dataclass(frozen=True, slots=True)
class RolloutStanding:
    """Where one policy's rollout stands."""

    policy: str
    wave: str  # ``2 of 3``
    status: WaveStatus
    done: int  # devices that it has rotated
    failed: int  # and such as failed, and were not rotated since
    left: int  # devices that must rotate still
    until: str  # when the last of them has, or a dash if nobody can tell
    message: str

    @property
    def meaning(self) -> str:
        """``bad`` if a person must act, ``change`` if devices rotate, else ``wait``."""
        if self.status in {WaveStatus.HALTED, WaveStatus.UNHEALTHY}:
            return "bad"
        return "change" if self.status in {WaveStatus.OPEN, WaveStatus.RUNNING} else "wait"


def rollouts(report: FleetReport) -> list[RolloutStanding]:
    """Return the rollouts that have something to do, or have stopped, by policy; none if nobody has planned."""
    plan = report.next_plan
    if plan is None:
        return []
    outlooks = {outlook.policy: outlook for outlook in plan.outlooks}
    zones = {policy.name: policy.schedule.zones for policy in report.desired.policies}
    found = []
    for wave in plan.waves:
        if wave.status is WaveStatus.IDLE:
            continue
        ahead = outlooks.get(wave.policy, Outlook(wave.policy))
        until = "–"
        if ahead.finish is not None and ahead.devices:
            until = words.instant(ahead.finish) + local_text(ahead.finish, zones.get(wave.policy, ()))
        of = f"{wave.wave or '–'} of {wave.of}"
        found.append(
            RolloutStanding(wave.policy, of, wave.status, wave.done, wave.failed, ahead.devices, until, wave.message)
        )
    return found


def left(outlook: Outlook) -> str:
    """Return how many devices of a policy must rotate still, and how long that takes; nothing if there are none."""
    if not outlook.devices:
        return ""
    end = f"done by {words.instant(outlook.finish)}" if outlook.finish is not None else outlook.obstacle
    return f"{words.count(outlook.devices, 'device')} to rotate, {end}"


def done_by(report: FleetReport) -> list[str]:
    """Return when the last of the devices that must rotate now has done so, if all goes well.

    Nothing if nobody can know.
    """
    outlooks = [outlook for outlook in (report.next_plan.outlooks if report.next_plan else ()) if outlook.devices]
    ends = [outlook.finish for outlook in outlooks if outlook.finish is not None]
    if not ends or len(ends) < len(outlooks):
        return []
    return [f"done by {words.instant(max(ends))}"]


def _stopped(plan: Plan) -> list[WaveReport]:
    return [wave for wave in plan.waves if wave.remedy]


_STOPS = {"halted": "has stopped", "unhealthy": "waits for failed devices"}
