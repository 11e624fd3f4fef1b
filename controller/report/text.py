"""Text for people at a terminal: the summary line first, then what to do, then the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from controller.reconcile.values import Outcome, Plan, PlannedJob, TargetKind

from . import words
from .console import HEALTH_STYLES, OUTCOME_STYLES, Page, table
from .formats import TextStyle
from .groups import DECIDED_TITLE, TITLES, ReasonGroup, by_reason, size, told_apart
from .hitches import command_for, decisions, done_by, hitches, rollouts, with_remedies
from .model import FleetFailure, FleetReport, Report

NAMES_SHOWN = 4  # devices named per reason
TRANSITIONS_SHOWN = 3
JOBS_SHOWN = 40


def render_status(report: Report, look: TextStyle) -> str:
    """Return summary, policies and rollouts, nothing about single devices."""
    page = Page(look)
    for fleet in _each(page, report):
        _summary(page, fleet)
        _policies(page, fleet)
        _hitches(page, fleet)
        _rollouts(page, fleet)
        _notices(page, fleet)
    tell_failures(page, report.failures)
    return page.text()


def render_drift(report: Report, look: TextStyle) -> str:
    """Return everything that departs from git, and why."""
    page = Page(look)
    for fleet in _each(page, report):
        _summary(page, fleet)
        _policies(page, fleet)
        _hitches(page, fleet)
        _blocked(page, fleet)
        _rollouts(page, fleet)
        _rotate(page, fleet)
        _waiting(page, fleet)
        _left_out(page, fleet)
        _unmanaged(page, fleet)
        _notices(page, fleet)
    tell_failures(page, report.failures)
    return page.text()


def render_plan(report: Report, look: TextStyle) -> str:
    """Return what ``apply`` would do, what it would not and why."""
    page = Page(look)
    for fleet in _each(page, report):
        plan = fleet.plan
        _summary(page, fleet)
        _policies(page, fleet)
        _refusals(page, fleet)
        _hitches(page, fleet)
        _blocked(page, fleet)
        if plan is not None:
            _jobs(page, plan)
        _rollouts(page, fleet)
        if plan is not None:
            _steps(page, plan)
        _rotate(page, fleet)
        _waiting(page, fleet)
        _left_out(page, fleet)
        _notices(page, fleet)
        if plan is not None:
            _next(page, fleet, plan)
    tell_failures(page, report.failures)
    return page.text()


def _each(page: Page, report: Report) -> Iterator[FleetReport]:
    """Yield the fleets, apart from each other; if a run is over several, all of them in one line first."""
    together = all_fleets(report)
    if together is not None:
        page.line((together, "head"))
    for number, fleet in enumerate(report.fleets):
        if number or together is not None:
            page.gap()
        yield fleet


def all_fleets(report: Report) -> str | None:
    """Return the one line over several fleets, those that could not be read by name; None over a single one."""
    number = len(report.fleets) + len(report.failures)
    if number == 1:
        return None
    good = sum(fleet.is_in_sync for fleet in report.fleets)
    parts = [f"{good} of {words.count(number, 'fleet')} in sync"]
    governed, in_sync = sum(fleet.governed for fleet in report.fleets), sum(fleet.in_sync for fleet in report.fleets)
    parts.append(f"{in_sync:,} of {words.count(governed, 'device')} in sync")
    if report.failures:
        parts.append(f"{words.listed([failure.fleet for failure in report.failures], NAMES_SHOWN)} could not be read")
    return " · ".join(parts)


def _summary(page: Page, report: FleetReport) -> None:
    desired = report.desired
    fleet = desired.fleet
    verdict = ("IN SYNC", "good") if report.is_in_sync else ("OUT OF SYNC", "bad")
    page.line((verdict[0], f"bold {verdict[1]}"), "  ", (sentence(report), "head"))
    commit = words.commit(desired.commit, is_dirty=desired.is_dirty)
    where = f"fleet {fleet.name}, account {fleet.account}, {fleet.region}, {commit}"
    page.line((f"{where}, seen {words.instant(report.state.observed_at)}", "dim"))
    page.gap()


def sentence(report: FleetReport) -> str:
    """Return the one line.

    The questions for a person, whether the fleet is in sync, and what there is to do until when.
    """
    parts = decisions(report)
    if report.needs_person:
        parts.append(words.count(report.needs_person, "device needs a person", "devices need a person"))
    parts.append(f"{report.in_sync:,} of {words.count(report.governed, 'device')} in sync")
    labels = ((Outcome.ROTATE, "to rotate"), (Outcome.WAITING, "waiting"))
    parts += [f"{report.outcomes[outcome]:,} {label}" for outcome, label in labels if report.outcomes.get(outcome)]
    if report.left_out:
        parts.append(f"{report.left_out:,} left out")
    if report.state.unmanaged_count:
        parts.append(f"{report.state.unmanaged_count:,} unmanaged")
    return " · ".join([*parts, *done_by(report)])


def _policies(page: Page, report: FleetReport) -> None:
    rows: list[tuple[str | Text, ...]] = []
    for entry in report.policies:
        mode = "" if entry.policy.mode.value == "enforce" else f" ({entry.policy.mode.value})"
        rows.append(
            (
                entry.policy.name + mode,
                f"{entry.governed:,}",
                words.percent(entry.in_sync, entry.governed),
                _number(entry.rotate, Outcome.ROTATE),
                _number(entry.waiting, Outcome.WAITING),
                _number(entry.needs_person, Outcome.BLOCKED),
                *([_number(entry.left_out, None)] if report.left_out else []),
                Text(entry.health.value, HEALTH_STYLES[entry.health]),
            )
        )
    columns = [
        "Devices",
        "In sync",
        "Rotate",
        "Waiting",
        "Needs a\nperson",
        *(["Left\nout"] if report.left_out else []),
    ]
    page.add(table(("Policy", "cut"), *((title, "right") for title in columns), ("Health", "keep"), rows=rows))


def _number(number: int, outcome: Outcome | None) -> Text:
    return Text(f"{number:,}", OUTCOME_STYLES[outcome] if outcome else "") if number else Text("–", "dim")


def _hitches(page: Page, report: FleetReport) -> None:
    """Add what holds up the fleet; the refusals of the report's own plan stand apart."""
    found = [hitch for hitch in hitches(report) if report.plan is None or not hitch.is_refusal]
    if found:
        page.heading("Held up", "until a person acts")
    for hitch, remedy in with_remedies(found):
        page.line((hitch.what, "bad"), indent=2)
        page.line(hitch.message, indent=4)
        if remedy:
            page.line(("→ ", "change"), remedy, indent=4)


def _rotate(page: Page, report: FleetReport) -> None:
    groups = by_reason(report.of(Outcome.ROTATE))
    if groups:
        page.heading(TITLES[Outcome.ROTATE], words.count(report.outcomes[Outcome.ROTATE], "device"))
        _reasons(page, groups, Outcome.ROTATE)


def _waiting(page: Page, report: FleetReport) -> None:
    groups = by_reason(report.of(Outcome.WAITING))
    if groups:
        page.heading(TITLES[Outcome.WAITING], words.count(report.outcomes[Outcome.WAITING], "device"))
        _reasons(page, groups, Outcome.WAITING)
    if report.coming:
        page.heading("Coming", f"{words.count(len(report.coming), 'device')} in sync until then")
        _reasons(page, by_reason(report.coming), Outcome.WAITING)


def _reasons(page: Page, groups: list[ReasonGroup], outcome: Outcome) -> None:
    rows = [
        (
            Text(group.reason.value, OUTCOME_STYLES[outcome]),
            group.policy or "–",
            f"{len(group.devices):,}",
            Text(f"{group.finding.message}\n").append(words.listed(group.names, NAMES_SHOWN), "dim"),
        )
        for group in groups
    ]
    page.add(table(("Reason", "keep"), ("Policy", "cut"), ("Devices", "right"), ("Such as", "wrap"), rows=rows))


def _blocked(page: Page, report: FleetReport) -> None:
    groups, _decided = told_apart(report.of(Outcome.BLOCKED))
    if groups:
        page.heading(TITLES[Outcome.BLOCKED], words.count(size(groups), "device"))
    tell_blocked(page, groups)


def tell_blocked(page: Page, groups: Sequence[ReasonGroup]) -> None:
    """Add groups of blocked devices, each with what is found and what to do."""
    for group in groups:
        page.gap()
        number = f" and {len(group.devices) - 1:,} more" if len(group.devices) > 1 else ""
        policy = f"  {group.policy}" if group.policy else ""
        page.line((group.reason.value, "bad"), "  ", (group.devices[0], "head"), number, (policy, "dim"), indent=2)
        page.line(group.finding.message, indent=4)
        if group.finding.remedy:
            page.line(("→ ", "change"), group.finding.remedy, indent=4)
        if len(group.devices) > 1:
            page.line((words.listed(group.names, NAMES_SHOWN * 3), "dim"), indent=4)


def _left_out(page: Page, report: FleetReport) -> None:
    _groups, decided = told_apart(report.of(Outcome.BLOCKED))
    if decided:
        page.heading(DECIDED_TITLE, f"{words.count(size(decided), 'device')} left out, as a person decided")
        _reasons(page, decided, Outcome.WAITING)


def _unmanaged(page: Page, report: FleetReport) -> None:
    number = report.state.unmanaged_count
    if number:
        page.heading("Unmanaged", f"{words.count(number, 'thing')} with a certificate that no policy governs")
        page.line((words.listed((*report.state.unmanaged[:number],), NAMES_SHOWN * 3), "dim"), indent=2)


def _jobs(page: Page, plan: Plan) -> None:
    if not plan.jobs:
        return
    total = sum(len(job.devices) for job in plan.jobs)
    rotate = words.count(total, "device rotates", "devices rotate")
    page.heading("Plan", f"{rotate} in {words.count(len(plan.jobs), 'job')}, digest {plan.digest[:16]}")
    rows = [
        (
            job.policy,
            "standing" if job.is_standing else str(job.wave),
            f"{len(job.devices):,}",
            f"{job.rollout.maximum_per_minute:,}/min",
            f"{target(job)}; {demand(job)}",
        )
        for job in plan.jobs[:JOBS_SHOWN]
    ]
    columns = (("Policy", "cut"), ("Wave", "right"), ("Devices", "right"), ("Rate", "right"), ("Target", "wrap"))
    page.add(table(*columns, rows=rows))
    if len(plan.jobs) > JOBS_SHOWN:
        page.line((f"and {words.count(len(plan.jobs) - JOBS_SHOWN, 'more job', 'more jobs')}", "dim"), indent=2)


def target(job: PlannedJob) -> str:
    """Return how a job reaches its devices, in words."""
    if job.target_kind is TargetKind.GROUP:
        return f"the whole group {job.target_group}"
    if job.target_kind is TargetKind.COHORT:
        return "a cohort group made for it"
    return words.listed([device.name for device in job.devices], NAMES_SHOWN)


def demand(job: PlannedJob) -> str:
    """Return what a job makes of its devices: what they hold, and what they will hold."""
    return words.listed([str(transition) for transition in job.transitions], TRANSITIONS_SHOWN)


def _rollouts(page: Page, report: FleetReport) -> None:
    """Add a line on where each policy's rollout stands; what stops one stands above, under what is held up."""
    rows = [
        (
            row.policy,
            row.wave,
            Text(row.status.value, row.meaning),
            f"{row.done:,}",
            Text(f"{row.failed:,}", "bad" if row.failed else ""),
            f"{row.left:,}",
            row.until.replace(", ", "\n", 1),
            row.message,
        )
        for row in rollouts(report)
    ]
    if rows:
        page.heading("Rollouts")
        numbers = (("Done", "right"), ("Failed", "right"), ("Left", "right"))
        columns = (("Policy", "cut"), ("Wave", "keep"), ("Status", "keep"), *numbers, ("Done by", "keep"))
        page.add(table(*columns, ("Where it stands", "wrap"), rows=rows))
    for each in report.next_plan.incidents_and_drills if report.next_plan else ():
        page.heading(each.title.capitalize(), f"deadline {words.instant(each.deadline)}")
        page.line((each.message, "good" if each.is_finished else "bad"), indent=2)


def _steps(page: Page, plan: Plan) -> None:
    if plan.steps:
        page.heading("Jobs to settle")
        for step in plan.steps:
            page.line((step.action, "change"), f" {step.job_id}: {step.reason}", indent=2)


def _notices(page: Page, report: FleetReport) -> None:
    for notice in report.notices:
        page.gap()
        page.line(("NOTE  ", "bold"), notice)


def _refusals(page: Page, report: FleetReport) -> None:
    refusals = report.plan.refusals if report.plan is not None else ()
    for refusal in refusals:
        page.gap()
        page.line(("REFUSED  ", "bold bad"), (refusal.guardrail, "head"), (f"  {refusal.policy or 'fleet'}", "dim"))
        page.line(refusal.message, indent=4)
    if refusals:
        page.line(("→ ", "change"), command_for(report), indent=4)


def _next(page: Page, report: FleetReport, plan: Plan) -> None:
    page.gap()
    if plan.refusals:
        page.line(("Nothing can be applied until the guardrail is satisfied or overridden.", "bad"))
    elif report.has_changes:
        page.line("Next: ", ("certfleet apply --wait", "head"))
    elif report.is_in_sync:
        page.line(("Nothing to do.", "good"))
    else:
        page.line("Nothing to do now: what is left is waiting, or needs a person.")


def tell_failures(page: Page, failures: Sequence[FleetFailure]) -> None:
    """Add the fleets that could not be read, below those that could."""
    for failure in failures:
        page.gap()
        page.line(("FAILED  ", "bold bad"), (f"fleet {failure.fleet}", "head"))
        page.line(failure.message, indent=4)
        if failure.remedy:
            page.line(("→ ", "change"), failure.remedy, indent=4)
