"""The acts of one ``apply`` and their end, for people and for machines: one renderer a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from controller.commands.applied import ApplyReport, FleetApplied, PolicyApplied
from controller.jobs import JobFate
from controller.report import words
from controller.report.as_json import failure_value
from controller.report.console import Page, table
from controller.report.formats import FORMAT_VERSION, Format, TextStyle, dump
from controller.report.hitches import left
from controller.report.markdown import code, fitted, folded, plain
from controller.report.markdown import table as markdown_table
from controller.report.text import demand, sentence, target
from protocol.messages import ExecutionStatus

_NAMES_SHOWN = 6
_FAILED_SHOWN = 50
_FATES = {
    JobFate.CREATED: "made",
    JobFate.ADOPTED: "under way already",
    JobFate.ENDED: "ended already",
    JobFate.EMPTY: "not made: none of its devices may rotate now",
    JobFate.WITHDRAWN: "withdrawn: another run asked devices of it in the same moment",
}
TIME_IS_UP = "the time to wait is over: what has been started goes on, and the next run carries on"


def _text(report: ApplyReport, look: TextStyle) -> str:
    page = Page(look)
    for number, fleet in enumerate(report.fleets):
        if number:
            page.gap()
        _summary(page, fleet)
        _jobs(page, fleet)
        _policies(page, fleet)
        _failed(page, fleet)
        _unfinished(page, fleet)
        if fleet.last is not None:
            page.gap()
            page.line((f"{_when(fleet)}  ", "head"), sentence(fleet.last))
            if not fleet.last.is_in_sync:
                page.line("certfleet drift shows what is left, and what a person must do.", indent=5)
    for failure in report.failures:
        page.line(("FAILED  ", "bold bad"), (f"fleet {failure.fleet}  ", "head"), failure.message)
        if failure.remedy:
            page.line(("→ ", "change"), failure.remedy, indent=2)
    return page.text()


def _when(fleet: FleetApplied) -> str:
    """Return the moment that the report describes: a run that was stopped, or ran out of time, has not looked again."""
    return "Now" if fleet.stopped is None and not fleet.timed_out else "At the last look"


def summary(fleet: FleetApplied) -> str:
    """Return the one line that shows what happened."""
    created = sum(applied.fate is JobFate.CREATED for applied in fleet.jobs)
    if not fleet.jobs and not fleet.outcomes and not fleet.left_out:
        return "nothing to do"
    parts = [f"{words.count(created, 'job')} made"]
    if fleet.is_followed:
        rotated = sum(outcome.status is ExecutionStatus.SUCCEEDED for outcome in fleet.outcomes)
        parts.append(f"{words.count(rotated, 'device')} rotated")
    else:
        parts.append(f"{words.count(sum(a.device_count for a in fleet.jobs), 'device')} to rotate")
    if fleet.failed:
        parts.append(f"{len(fleet.failed):,} failed")
    if fleet.unfinished:
        parts.append(f"{len(fleet.unfinished):,} not finished")
    if fleet.skipped:
        parts.append(f"{len(fleet.skipped):,} left out")
    return " · ".join(parts)


def _summary(page: Page, fleet: FleetApplied) -> None:
    verdict = ("FAILED", "bad") if fleet.failed else ("TIME IS UP", "wait") if fleet.timed_out else ("APPLIED", "good")
    if fleet.stopped is not None:
        verdict = ("STOPPED", "bad")
    page.line((verdict[0], f"bold {verdict[1]}"), f"  {fleet.fleet}  ", (summary(fleet), "head"))
    if fleet.stopped is not None:
        page.line((str(fleet.stopped), "bad"), indent=2)
        if fleet.stopped.remedy:
            page.line(("→ ", "change"), fleet.stopped.remedy, indent=2)
    for line in _time_left(fleet):
        page.line((line, "wait"), indent=2)


def _time_left(fleet: FleetApplied) -> list[str]:
    """Return the lines about time: that the wait is over, and the state of each incident that goes on."""
    told = () if fleet.plan is None else fleet.plan.incidents_and_drills
    return [*([TIME_IS_UP] if fleet.timed_out else []), *(one.message for one in told if not one.is_finished)]


def _policies(page: Page, fleet: FleetApplied) -> None:
    if fleet.policies:
        page.gap()
        page.add(table(*_COLUMNS, rows=_rows(fleet)))


_COLUMNS = (
    ("Policy", "keep"),
    ("Started", "right"),
    ("Rotated", "right"),
    ("Failed", "right"),
    ("Not finished", "right"),
    ("Rollout", "wrap"),
    ("Left", "wrap"),
)


def _rows(fleet: FleetApplied) -> list[tuple[str, ...]]:
    return [
        (p.policy, f"{p.started:,}", f"{p.rotated:,}", f"{p.failed:,}", f"{p.unfinished:,}", p.stands, left(p.left))
        for p in fleet.policies
    ]


def _jobs(page: Page, fleet: FleetApplied) -> None:
    _skipped(page, fleet)
    if not fleet.jobs:
        return
    page.gap()
    rows = [
        (a.job.job_id, f"{a.device_count:,}", f"{_FATES[a.fate]}: {target(a.job)}; {demand(a.job)}") for a in fleet.jobs
    ]
    page.add(table(("Job", "keep"), ("Devices", "right"), ("What", "wrap"), rows=rows))


def _skipped(page: Page, fleet: FleetApplied) -> None:
    if fleet.skipped:
        page.heading("Left out", "they may not rotate now")
        for device, why in list(fleet.skipped.items())[:_FAILED_SHOWN]:
            page.line((device, "head"), f"  {why}", indent=2)


def _failed(page: Page, fleet: FleetApplied) -> None:
    if not fleet.failed:
        return
    page.heading("Failed", "what the devices reported")
    for outcome in fleet.failed[:_FAILED_SHOWN]:
        said = outcome.reason or "the device gave no reason; see its log"
        page.line((outcome.device, "bad"), f"  {outcome.status.value}  ", said, indent=2)
    if len(fleet.failed) > _FAILED_SHOWN:
        page.line((f"and {len(fleet.failed) - _FAILED_SHOWN:,} more: --format json has all", "dim"), indent=2)


def _unfinished(page: Page, fleet: FleetApplied) -> None:
    if fleet.unfinished:
        page.heading("Not finished", "they are offline or still at it; their jobs wait for them")
        names = [outcome.device for outcome in fleet.unfinished]
        page.line((words.listed(names, _NAMES_SHOWN * 2), "dim"), indent=2)


def _json(report: ApplyReport, _look: TextStyle) -> str:
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "ApplyReport",
            "fleets": [_fleet_value(fleet) for fleet in report.fleets],
            "failures": [failure_value(failure) for failure in report.failures],
        }
    )


def _fleet_value(fleet: FleetApplied) -> dict[str, Any]:
    return {
        "fleet": fleet.fleet,
        "timed_out": fleet.timed_out,
        "jobs": [
            {
                "job_id": applied.job.job_id,
                "policy": applied.job.policy,
                "wave": None if applied.job.is_standing else applied.job.wave,
                "fate": applied.fate.value,
                "devices": applied.device_count,
                "skipped": applied.skipped,
            }
            for applied in fleet.jobs
        ],
        "devices": [
            {
                "device": outcome.device,
                "job_id": outcome.job_id,
                "status": outcome.status.value,
                "reason": outcome.reason,
            }
            for outcome in fleet.outcomes
        ],
        "policies": [_policy_value(policy) for policy in fleet.policies],
        "governed": fleet.last.governed if fleet.last else None,
        "in_sync": fleet.last.in_sync if fleet.last else None,
        "warnings": [f"{device}: {why}" for device, why in fleet.left_out.items()],
        "stopped": None if fleet.stopped is None else {"message": str(fleet.stopped), "remedy": fleet.stopped.remedy},
    }


def _policy_value(policy: PolicyApplied) -> dict[str, Any]:
    left, end = policy.left, policy.left.finish
    told = {"devices": left.devices, "finish": words.iso(end) if end else None, "obstacle": left.obstacle}
    return {**{each.name: getattr(policy, each.name) for each in fields(policy)}, "left": told}


def _markdown(report: ApplyReport, _look: TextStyle) -> str:
    sections = []
    for fleet in report.fleets:
        icon = "❌" if fleet.failed or fleet.stopped else "⏳" if fleet.timed_out else "✅"
        sections.append(f"## {icon} {fleet.fleet}: {summary(fleet)}\n")
        if fleet.stopped is not None:
            sections.append(f"> ❌ {plain(str(fleet.stopped))}\n>\n> {plain(fleet.stopped.remedy or '')}\n")
        if fleet.skipped:
            why = [(code(name), plain(told)) for name, told in list(fleet.skipped.items())[:_FAILED_SHOWN]]
            sections.append(folded("Left out", markdown_table(("Device", "Why"), why)))
        if fleet.jobs:
            rows = [(f"`{a.job.job_id}`", f"{a.device_count:,}", _FATES[a.fate]) for a in fleet.jobs]
            sections.append(folded("Jobs", markdown_table(("Job", "Devices", "What"), rows)))
        if fleet.policies:
            cells = [(code(name), *map(plain, told)) for name, *told in _rows(fleet)]
            sections.append(markdown_table(tuple(name for name, _ in _COLUMNS), cells))
        sections += [f"> {plain(line)}\n" for line in _time_left(fleet)]
        if fleet.failed:
            rows = [(code(o.device), o.status.value, plain(o.reason or "no reason given")) for o in fleet.failed]
            body = markdown_table(("Device", "Status", "Reason that the device gave"), rows)
            sections.append(folded("Failed", body, is_open=True))
        if fleet.last is not None:
            sections.append(f"{_when(fleet)}: {sentence(fleet.last)}.\n")
    for failure in report.failures:
        sections.append(f"### ❌ Fleet {code(failure.fleet)}: {plain(failure.message)}\n")
        sections += [f"→ {plain(failure.remedy)}\n"] if failure.remedy else []
    return fitted(sections)


RENDERERS: Mapping[Format, Callable[[ApplyReport, TextStyle], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.MARKDOWN: _markdown,
}
