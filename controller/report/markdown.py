"""Markdown for comments and step summaries: the summary line first, details folded, never too long.

GitHub refuses comments above 65,536 characters; what does not fit is cut section by section, and that
is reported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from controller.reconcile.values import Outcome, Plan

from . import words
from .formats import TextStyle
from .groups import DECIDED_TITLE, TITLES, ReasonGroup, by_reason, size, told_apart
from .hitches import command_for, hitches, rollouts, with_remedies
from .model import FleetFailure, FleetReport, Report
from .text import all_fleets, demand, sentence, target

MAX_CHARACTERS = 65_536
_CUT = "\n> The report is cut here: it was too long for a comment. `certfleet drift --format html` shows all of it.\n"
_BAR = re.compile(r"(?<!\\)\|")
_ROWS_SHOWN = 50
_NAMES_SHOWN = 8
_ICONS = {Outcome.ROTATE: "🔄", Outcome.WAITING: "⏳", Outcome.BLOCKED: "🛑"}


def render_drift(report: Report, _look: TextStyle) -> str:
    """Return the drift, or drift and plan."""
    together = all_fleets(report)
    sections = [f"**{plain(together)}**\n"] if together is not None else []
    sections += [section for fleet in report.fleets for section in _fleet(fleet)]
    sections += [failed(failure) for failure in report.failures]
    return fitted(sections)


def failed(failure: FleetFailure) -> str:
    """Return the section of a fleet that could not be looked at."""
    told = f"### ❌ Fleet {code(failure.fleet)} could not be read\n\n{plain(failure.message)}\n"
    return told + (f"\n{plain(failure.remedy)}\n" if failure.remedy else "")


def fitted(sections: list[str], *, cut: str = _CUT, ending: str = "") -> str:
    """Return as many sections as fit into one comment, ``cut`` if one does not; then ``ending``, in any case."""
    text = "\n".join([*sections, ending] if ending else sections)
    if len(text) <= MAX_CHARACTERS:
        return text
    shown, room = "", MAX_CHARACTERS - len(cut) - len(ending) - 1
    for section in sections:
        if len(shown) + len(section) + 1 > room:
            break
        shown += f"{section}\n"
    return shown + cut + (f"\n{ending}" if ending else "")


def code(text: str | None) -> str:
    """Return a value as it is, in a code span: it formats nothing, links nowhere and calls nobody. None is a dash."""
    if text is None:
        return "–"
    flat = " ".join(text.split()) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", flat)), default=0))
    return f"{fence} {flat} {fence}" if len(fence) > 1 else f"`{flat}`"


def plain(text: str) -> str:
    """Return a sentence that may quote a document, or what a device reported, as text."""
    escaped = re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", text)
    return re.sub(r"@|:(?=//)|www(?=\.)", "\\g<0>\N{ZERO WIDTH SPACE}", escaped)  # GitHub links these by themselves


def folded(title: str, body: str, *, is_open: bool = False) -> str:
    """Return a section that a click on its title opens and closes; ``is_open``: it is open at first."""
    return f"<details{' open' if is_open else ''}><summary>{title}</summary>\n\n{body}\n\n</details>\n"


def table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, at_most: int = _ROWS_SHOWN) -> str:
    """Return a table with titles; rows above ``at_most`` are counted instead."""
    lines = [_row(titles), _row(("---",) * len(titles)), *(_row(row) for row in rows[:at_most])]
    if len(rows) > at_most:
        lines.append(f"\n… and {len(rows) - at_most:,} more")
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    """Return a row; a bar that is escaped already stays as it is: escaped once more, it would end its cell."""
    return "| " + " | ".join(_BAR.sub(r"\\|", cell).replace("\n", " ") for cell in cells) + " |"


def _fleet(report: FleetReport) -> list[str]:
    icon = "✅" if report.is_in_sync else "🔄" if not report.outcomes.get(Outcome.BLOCKED) else "🛑"
    fleet = report.desired.fleet
    sections = [f"## {icon} {fleet.name}: {sentence(report)}\n"]
    commit = words.commit(report.desired.commit, is_dirty=report.desired.is_dirty)
    when = words.instant(report.state.observed_at)
    sections.append(f"Account {fleet.account}, {fleet.region}, commit `{commit}`, seen {when}.\n")
    plan = report.plan
    blocked, decided = told_apart(report.of(Outcome.BLOCKED))
    sections += _refusals(report)
    held = [h for h in hitches(report) if plan is None or not h.is_refusal]
    sections += [
        f"> ⛔ **{plain(hitch.what)}:** {plain(hitch.message)}" + (f"  \n> {code(remedy)}\n" if remedy else "\n")
        for hitch, remedy in with_remedies(held)
    ]
    sections.append(_policies(report))
    sections += _groups(f"{_ICONS[Outcome.BLOCKED]} {TITLES[Outcome.BLOCKED]}", blocked, is_open=True)
    sections += [f"> **Note:** {plain(notice)}\n" for notice in report.notices]
    sections += _rollouts(report)
    if plan is not None:
        sections += _jobs(plan)
    for outcome in (Outcome.ROTATE, Outcome.WAITING):
        sections += _groups(f"{_ICONS[outcome]} {TITLES[outcome]}", by_reason(report.of(outcome)))
    sections += _groups(f"⏸️ {DECIDED_TITLE}", decided)
    if report.state.unmanaged_count:
        names = plain(words.listed(report.state.unmanaged, _NAMES_SHOWN * 4))
        title = f"Unmanaged: {words.count(report.state.unmanaged_count, 'thing')} that no policy governs"
        sections.append(folded(title, names))
    return sections


def _policies(report: FleetReport) -> str:
    rows = [
        (
            f"`{entry.policy.name}`",
            f"{entry.governed:,}",
            words.percent(entry.in_sync, entry.governed),
            *(
                f"{number:,}" if number else "–"
                for number in (entry.rotate, entry.waiting, entry.needs_person, entry.left_out)
            ),
            entry.health.value,
        )
        for entry in report.policies
        if entry.in_sync < entry.governed
    ]
    quiet = sum(entry.in_sync == entry.governed for entry in report.policies)
    note = f"\n\n{words.count(quiet, 'policy is', 'policies are')} in sync." if quiet else ""
    if not rows:
        return note.strip() + "\n"
    return (
        table(("Policy", "Devices", "In sync", "Rotate", "Waiting", "Needs a person", "Left out", "Health"), rows)
        + note
        + "\n"
    )


def _groups(title: str, groups: list[ReasonGroup], *, is_open: bool = False) -> list[str]:
    """Return a folded table of reasons; nothing if there are none."""
    if not groups:
        return []
    rows = [
        (
            f"`{group.reason.value}`",
            f"`{group.policy or '–'}`",
            f"{len(group.devices):,}",
            plain(group.finding.message + (f" → {group.finding.remedy}" if group.finding.remedy else "")),
            plain(words.listed(group.names, _NAMES_SHOWN)),
        )
        for group in groups
    ]
    body = table(("Reason", "Policy", "Devices", "Such as", "Which"), rows)
    return [folded(f"{title}: {words.count(size(groups), 'device')}", body, is_open=is_open)]


def _refusals(report: FleetReport) -> list[str]:
    refusals = report.plan.refusals if report.plan is not None else ()
    told = [
        f"> ⛔ **Refused by `{refusal.guardrail}`** ({refusal.policy or 'fleet'}): {plain(refusal.message)}"
        for refusal in refusals
    ]
    return ["  \n".join([*told, f"> {code(command_for(report))}\n"])] if told else []


def _rollouts(report: FleetReport) -> list[str]:
    """Return where each rollout stands, incidents and drills; nothing of it is folded away."""
    rows = [
        (
            code(row.policy),
            row.wave,
            row.status.value,
            f"{row.done:,}",
            f"{row.failed:,}",
            f"{row.left:,}",
            row.until,
            plain(row.message),
        )
        for row in rollouts(report)
    ]
    columns = ("Rollout", "Wave", "Status", "Done", "Failed", "Left", "Done by", "Where it stands")
    sections = [f"{table(columns, rows)}\n"] if rows else []
    return sections + [
        f"- {plain(each.message)}\n" for each in (report.next_plan.incidents_and_drills if report.next_plan else ())
    ]


def _jobs(plan: Plan) -> list[str]:
    if not plan.jobs:
        return []
    total = sum(len(job.devices) for job in plan.jobs)
    rows = [
        (
            f"`{job.policy}`",
            "standing" if job.is_standing else str(job.wave),
            f"{len(job.devices):,}",
            f"{job.rollout.maximum_per_minute:,}/min",
            plain(f"{target(job)}; {demand(job)}"),
        )
        for job in plan.jobs
    ]
    jobs = words.count(len(plan.jobs), "job")
    body = table(("Policy", "Wave", "Devices", "Rate", "Target"), rows)
    return [
        f"**{words.count(total, 'device rotates', 'devices rotate')} in {jobs}.**\n",
        folded(f"Plan <code>{plan.digest[:16]}</code>", body),
    ]
