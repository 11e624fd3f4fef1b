"""The content of the page, gathered from a report as plain values, so that the template only arranges them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from controller.reconcile.values import Mode, Outcome, place_of

from . import words
from .charts.all import charts_of
from .charts.chart import Chart
from .groups import DECIDED_TITLE, TITLES, ReasonGroup, by_reason, size, told_apart
from .hitches import RolloutStanding, hitches, rollouts
from .html_plan import PlanView, plan_view
from .model import FleetReport, Report
from .text import sentence

CLASSES = {Outcome.ROTATE: "change", Outcome.WAITING: "wait"}
NAMES_SHOWN = 12
UNMANAGED_SHOWN = 60
CARDS_SHOWN = 60
SOON = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class AttentionView:
    """Something that only a person can put right; the remedy is the point, the rest shows why."""

    remedy: str
    what: str
    why: str
    fleet: str
    devices: str = ""
    source: str = ""
    link: str = ""  # fragment of the page: its devices in the table


@dataclass(frozen=True, slots=True)
class Tile:
    """One number."""

    label: str
    number: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the bar: where it starts and how wide it is, in hundredths of the whole."""

    start: str
    width: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Section:
    """Reasons of one outcome."""

    title: str
    note: str
    meaning: str
    groups: tuple[ReasonGroup, ...]


@dataclass(frozen=True, slots=True)
class FleetView:
    """One fleet."""

    key: str
    report: FleetReport
    needs_person: int  # devices
    sentence: str
    place: str
    commit: str
    tiles: tuple[Tile, ...]
    bar: tuple[Part, ...]
    plan: PlanView | None
    rollouts: tuple[RolloutStanding, ...]
    sections: tuple[Section, ...]
    charts: tuple[Chart, ...]
    unmanaged: str


@dataclass(frozen=True, slots=True)
class PageView:
    """The page."""

    title: str
    verdict: str
    is_good: bool
    lead: str
    attention: tuple[AttentionView, ...]
    fleets: tuple[FleetView, ...]
    quiet: str  # what to say where nothing needs a person
    more: int  # things that need a person and have no card: the devices are in the table
    unread: tuple[str, ...]  # names of fleets that could not be looked at

    @property
    def is_several(self) -> bool:
        """Whether a reader needs to know which fleet is meant."""
        return len(self.fleets) + len(self.unread) != 1


def page_view(report: Report) -> PageView:
    """Gather the page."""
    fleets = report.fleets
    good = sum(fleet.is_in_sync for fleet in fleets)
    number = len(fleets) + len(report.failures)
    is_good = good == number
    if number == 1 and fleets:
        name, lead = fleets[0].desired.fleet.name, sentence(fleets[0])
        verdict = f"{name} is {'in sync' if is_good else 'out of sync'}"
    else:
        verdict = f"{good} of {words.count(number, 'fleet')} in sync"
        governed, in_sync = sum(f.governed for f in fleets), sum(f.in_sync for f in fleets)
        lead = f"{in_sync:,} of {words.count(governed, 'device')} in sync"
    attention = tuple(_attention(report))
    views = [_fleet(index, fleet) for index, fleet in enumerate(fleets)]
    kind = "Plan" if any(fleet.plan is not None for fleet in fleets) else "Drift report"
    return PageView(
        title=f"{kind}, {words.instant(report.created_at)}",
        verdict=verdict,
        is_good=is_good,
        lead=lead,
        attention=attention[:CARDS_SHOWN],
        quiet=_quiet(report),
        more=max(0, len(attention) - CARDS_SHOWN),
        fleets=tuple(sorted(views, key=_worst_first)),
        unread=tuple(failure.fleet for failure in report.failures),
    )


def _worst_first(view: FleetView) -> tuple[int, int, str]:
    report = view.report
    return -view.needs_person, report.in_sync - report.governed, report.desired.fleet.name


def _quiet(report: Report) -> str:
    """Return the sentence for fleets that need nobody; it names devices under `mode: report`, which do not rotate."""
    only_reported = sum(
        entry.rotate for fleet in report.fleets for entry in fleet.policies if entry.policy.mode is Mode.REPORT
    )
    if not only_reported:
        return "Nothing: whatever is left, certfleet does by itself."
    devices = words.count(only_reported, "device stands", "devices stand")
    return f"Nothing is wrong, but {devices} under a policy that only reports: remove its mode: report to rotate them."


def _attention(report: Report) -> Iterator[AttentionView]:
    """Yield fleets that could not be read, what holds up a whole fleet, then blocked devices."""
    for failure in report.failures:
        remedy = failure.remedy or "see the message"
        yield AttentionView(remedy, "the fleet could not be read", failure.message, failure.fleet)
    for fleet in report.fleets:
        for hitch in hitches(fleet):
            yield AttentionView(hitch.remedy, hitch.what, hitch.message, fleet.desired.fleet.name)
    for fleet in report.fleets:
        for group in told_apart(fleet.of(Outcome.BLOCKED))[0]:
            number = words.count(len(group.devices), "device")
            yield AttentionView(
                group.finding.remedy or "see the message",
                f"{group.reason.value}, {number}{f' of {group.policy}' if group.policy else ''}",
                group.finding.message,
                fleet.desired.fleet.name,
                words.listed(group.names, NAMES_SHOWN),
                place_of(fleet.desired, group.policy, group.finding) or "",
                urlencode(
                    {
                        "state": TITLES[Outcome.BLOCKED],
                        "reason": group.reason.value,
                        "policy": group.policy or "–",
                        "fleet": fleet.desired.fleet.name,
                    }
                ),
            )


def _fleet(index: int, report: FleetReport) -> FleetView:
    desired, state = report.desired, report.state
    blocked, decided = told_apart(report.of(Outcome.BLOCKED))
    return FleetView(
        key=f"fleet-{index}",
        report=report,
        needs_person=size(blocked),
        sentence=sentence(report),
        place=f"account {desired.fleet.account}, {desired.fleet.region}, seen {words.instant(state.observed_at)}",
        commit=words.commit(desired.commit, is_dirty=desired.is_dirty),
        tiles=tuple(_tiles(report, size(blocked), size(decided))),
        bar=tuple(_bar(report, size(blocked), size(decided))),
        plan=plan_view(report.plan) if report.plan is not None else None,
        rollouts=tuple(rollouts(report)),
        sections=tuple(_sections(report, decided)),
        charts=charts_of(report),
        unmanaged=words.listed(state.unmanaged[: state.unmanaged_count or 0], UNMANAGED_SHOWN)
        + (f", in all {state.unmanaged_count:,}" if (state.unmanaged_count or 0) > len(state.unmanaged) else ""),
    )


def _tiles(report: FleetReport, blocked: int, decided: int) -> Iterator[Tile]:
    yield Tile("in sync", words.percent(report.in_sync, report.governed), "good" if report.is_in_sync else "")
    yield Tile("need a person", f"{blocked:,}", "bad" if blocked else "")
    for outcome, label in ((Outcome.ROTATE, "to rotate"), (Outcome.WAITING, "wait")):
        number = report.outcomes.get(outcome, 0)
        yield Tile(label, f"{number:,}", CLASSES[outcome] if number else "")
    if decided:
        yield Tile(DECIDED_TITLE.lower(), f"{decided:,}", "")
    if report.forecast is not None:
        end = report.forecast.first_day + SOON
        soon = sum(number for day, number in report.forecast.per_day.items() if day < end)
        yield Tile(f"rotate within {SOON.days} days", f"{soon:,}", "")
    yield Tile("unmanaged", "–" if report.state.unmanaged_count is None else f"{report.state.unmanaged_count:,}", "")


def _bar(report: FleetReport, blocked: int, decided: int) -> Iterator[Part]:
    shares = [("good", report.in_sync)]
    shares += [(CLASSES[outcome], report.outcomes.get(outcome, 0)) for outcome in (Outcome.ROTATE, Outcome.WAITING)]
    shares += [("soft", decided), ("bad", blocked)]
    passed = 0
    for meaning, number in shares:
        if number:
            whole = report.governed
            yield Part(f"{100 * passed / whole:.3f}", f"{100 * number / whole:.3f}", meaning)
        passed += number


def _sections(report: FleetReport, decided: list[ReasonGroup]) -> Iterator[Section]:
    for outcome in (Outcome.ROTATE, Outcome.WAITING):
        groups = tuple(by_reason(report.of(outcome)))
        if groups:
            yield Section(TITLES[outcome], words.count(report.outcomes[outcome], "device"), CLASSES[outcome], groups)
    if decided:
        note = f"{words.count(size(decided), 'device')} left out, as a person decided"
        yield Section(DECIDED_TITLE, note, "", tuple(decided))
    coming = tuple(by_reason(report.coming))
    if coming:
        yield Section("Coming", f"{words.count(len(report.coming), 'device')} in sync until then", "wait", coming)
