"""A plan for healing, and what became of one, as text and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.heal import FORMAT_VERSION, Done, HealingAction, HealPlan, Kind, to_value

from . import words
from .console import Page
from .formats import Format, TextStyle, dump
from .markdown import fitted, folded, plain, table
from .model import FleetFailure


@dataclass(frozen=True, slots=True)
class HealPlans:
    """Every fleet that could be looked at, and those that could not."""

    plans: tuple[HealPlan, ...]
    failures: tuple[FleetFailure, ...] = ()


def _text(found: HealPlans, look: TextStyle) -> str:
    page = Page(look)
    for plan in found.plans:
        kinds = Counter(action.kind.value for action in plan.actions)
        counted = ", ".join(f"{kind} {number:,}" for kind, number in kinds.items()) or "nothing to do"
        page.line((f"{plan.fleet}: {counted}", "head"))
        for refusal in plan.refusals:
            page.gap()
            page.line(("REFUSED  ", "bold bad"), (refusal.guardrail, "head"))
            page.line(refusal.message, indent=4)
            page.line(("→ ", "change"), refusal.override, indent=4)
        for action in plan.actions:
            page.gap()
            page.line((f"{action.kind.value} ", "change"), (_what(action), "head"), f" {action.thing}")
            page.line(f"if      {action.precondition}", indent=2)
            page.line(f"known   {action.evidence}", indent=2)
            page.line(f"back    {action.way_back}", indent=2)
        if plan.left:
            page.gap()
            page.line((f"{words.count(len(plan.left), 'matter')} for a person", "head"))
        for one in plan.left:
            page.line((one.what, "bad"), f"  {one.subject}: {one.found}", indent=2)
            page.line((f"→ {one.remedy}", "change"), indent=4)
    for failure in found.failures:
        page.line(("FAILED ", "bold bad"), (f"{failure.fleet}: ", "bold"), failure.message)
    return page.text()


def _what(action: HealingAction) -> str:
    return action.certificate_id[:12] or "all certificates"


def _json(found: HealPlans, _look: TextStyle) -> str:
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "HealPlan",
            "fleets": [to_value(plan) for plan in found.plans],
            "failures": [{"fleet": one.fleet, "message": one.message, "remedy": one.remedy} for one in found.failures],
        }
    )


def _markdown(found: HealPlans, _look: TextStyle) -> str:
    """Return the plans in Markdown, for whoever reviews them on GitHub."""
    parts = []
    for plan in found.plans:
        parts.append(f"## {plan.fleet}: {words.count(len(plan.actions), 'action')} to heal the registry\n")
        parts += [
            f"> [!CAUTION]\n> **Refused by `{refusal.guardrail}`**: {plain(refusal.message)}.  \n> "
            f"Whoever approves this allows it: `{refusal.override}`\n"
            for refusal in plan.refusals
        ]
        for kind in Kind:
            actions = [action for action in plan.actions if action.kind is kind]
            if actions:
                titles = ("Certificate", "Thing", "If", "Known", "Way back")
                rows = [
                    (f"`{_what(a)}`", plain(a.thing), plain(a.precondition), plain(a.evidence), f"`{a.way_back}`")
                    for a in actions
                ]
                parts.append(f"### {kind.value}\n\n{table(titles, rows)}\n")
        if plan.left:
            left = [(one.what, plain(one.subject), plain(one.found), plain(one.remedy)) for one in plan.left]
            title = f"{words.count(len(plan.left), 'matter')} for a person"
            parts.append(folded(title, table(("What", "Whose", "Found", "Remedy"), left)))
    parts += [f"> ❌ **{plain(one.fleet)}:** {plain(one.message)}\n" for one in found.failures]
    return fitted(parts)


RENDERERS: Mapping[Format, Callable[[HealPlans, TextStyle], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.MARKDOWN: _markdown,
}


def render_done(fleet: str, done: Done, planned: int) -> str:
    """Return what of the planned number was carried out, and the surprise that ended it."""
    lines = [f"{fleet}: {len(done.actions):,} of {words.count(planned, 'action')} done"]
    lines += [f"  {one.kind.value} {_what(one)} {one.thing}" for one in done.actions]
    lines += [f"  {note}" for note in done.notes]
    if done.stopped_by is not None:
        lines += [f"  stopped: {done.stopped_by}", f"  → {done.stopped_by.remedy}"]
    return "\n".join(lines) + "\n"
