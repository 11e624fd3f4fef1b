"""The effect of a change of the desired state on the fleet: for the terminal, for machines, as annotations.

The pull request's comment stands in ``comment``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from controller.reconcile.outlook import FieldChange, Moved, PolicyComparison, RotationSpan
from controller.reconcile.values import HoldingChange, IncidentReport, Refusal, Stage

from . import comment, words
from .as_json import failure_value
from .change import (
    NAMES_SHOWN,
    Comparisons,
    FleetChange,
    asked_later,
    becomes,
    begins_anew,
    cost_of,
    money,
    moved,
    sentence,
    span,
)
from .console import Page
from .formats import FORMAT_VERSION, Format, TextStyle, dump
from .github import annotation, grouped, refused
from .groups import ReasonGroup
from .hitches import UNMET_REMEDY
from .model import place
from .text import tell_blocked


def _facts(change: FleetChange, policy: PolicyComparison) -> list[str]:
    facts = [f"{words.count(policy.newly_due, 'device')} newly to rotate, {policy.no_longer_due:,} no longer"]
    if policy.reasons:
        facts.append(", ".join(f"{reason.value} {number:,}" for reason, number in policy.reasons.items()))
    if policy.governed_base != policy.governed_head:
        facts.append(f"governs {words.count(policy.governed_head, 'device')}, {policy.governed_base:,} before")
    if policy.left_alone:
        facts.append(f"{words.count(policy.left_alone, 'device')} left to themselves: no policy governs them any more")
    facts += [f"{words.count(number, 'device')} go to {other}" for other, number in policy.gives.items()]
    if policy.first_wave:
        facts.append(f"the rollout {begins_anew(policy)}")
    if policy.moved:
        facts.append(f"due already, {moved(policy.moved)}")
    facts += [
        f"asks a person from {words.instant(stage.start)} on, by {guardrail}: {stage.asks.message}"
        for stage, guardrail, _at_once in asked_later(change, policy)
        if stage.asks is not None
    ]
    if policy.due:
        facts.append(
            f"in all {words.count(policy.due, 'device')} in {words.count(policy.jobs, 'job')}, {span(change, policy)}"
        )
        if policy.transitions:
            facts.append(becomes(policy))
        facts.append(f"peak {policy.peak_per_day:,} a day over 90 days")
    if policy.newly_due:
        cost = cost_of(change.desired, [policy])
        facts.append(f"{words.count(cost.calls, 'remote action')}, {money(cost)}")
    return facts


def _text(comparisons: Comparisons, look: TextStyle) -> str:
    page = Page(look)
    for number, change in enumerate(comparisons.fleets):
        if number:
            page.gap()
        comparison = change.comparison
        page.line((change.desired.fleet.name, "head"), "  ", sentence([change]))
        head = words.commit(comparison.head_commit, is_dirty=change.desired.is_dirty)
        refs = f"{comparisons.base} ({words.commit(comparison.base_commit)}) → {head}"
        page.line((f"{refs}, seen {words.instant(change.seen_at)}", "dim"))
        for document in comparison.documents:
            _changed(page, document.document, document.change, document.fields)
        for action in change.cut_off:
            page.line(
                (f"{action.kind.value} ", "change"), (action.thing or action.certificate_id[:12], "head"), indent=2
            )
            page.line(action.evidence, indent=4)
        for one in change.not_cut_off:
            page.line((one.what, "bad"), f"  {one.subject}: {one.found}", indent=2)
            page.line((f"→ {one.remedy}", "change"), indent=4)
        _person_needed(page, change)
        for policy in change.shown:
            _changed(page, policy.policy, "new" if policy.is_new else "", policy.changes)
            for fact in _facts(change, policy):
                page.line(fact, indent=4)
        for notice in comparison.notices:
            page.gap()
            page.line(("NOTE  ", "bold"), notice, indent=2)
        _refusals(page, change)
    for failure in comparisons.failures:
        page.gap()
        page.line(("FAILED  ", "bold bad"), (f"fleet {failure.fleet}  ", "head"), failure.message)
    return page.text()


def _changed(page: Page, name: str, what: str, fields: Iterable[FieldChange]) -> None:
    page.gap()
    page.line((name, "head"), f"  {what}", indent=2)
    for field in fields:
        values = [field.base, field.head] if what not in {"new", "added"} else [field.head]
        page.line((field.field, "change"), f"  {' → '.join(value or '–' for value in values)}", indent=4)


def _person_needed(page: Page, change: FleetChange) -> None:
    for incident in change.comparison.missed:
        page.gap()
        page.line((incident.title, "bad"), indent=2)
        page.line(incident.message, indent=4)
        page.line(("→ ", "change"), UNMET_REMEDY, indent=4)
    tell_blocked(page, change.blocked)


def _refusals(page: Page, change: FleetChange) -> None:
    for refusal in change.refusals:
        page.gap()
        page.line(("REFUSED  ", "bold bad"), (refusal.guardrail, "head"), (f"  {refusal.policy or 'fleet'}", "dim"))
        page.line(refusal.message, indent=4)
        remedy = "keep the Fleet document until no policy governs the fleet" if change.is_gone else refusal.override
        page.line(("→ ", "change"), remedy, indent=4)
    for refusal in change.known:
        page.gap()
        page.line((f"refused without this change too, by {refusal.guardrail}: {refusal.message}", "dim"), indent=2)


def _json(comparisons: Comparisons, _look: TextStyle) -> str:
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "Comparison",
            "base": comparisons.base,
            "fleets": [_fleet_value(change) for change in comparisons.fleets],
            "failures": [failure_value(failure) for failure in comparisons.failures],
        }
    )


def _fleet_value(change: FleetChange) -> dict[str, Any]:
    comparison = change.comparison
    return {
        "fleet": change.desired.fleet.name,
        "observed_at": words.iso(change.seen_at),
        "base_commit": comparison.base_commit,
        "head_commit": comparison.head_commit,
        "newly_due": comparison.newly_due,
        "no_longer_due": comparison.no_longer_due,
        "left_alone": sum(comparison.left_alone.values()),
        "usd": [round(amount, 3) for amount in cost_of(change.desired, change.shown).usd],
        "refusals": [_refusal_value(refusal) for refusal in change.refusals],
        "notices": list(comparison.notices),
        "needs_person": len(comparison.blocked),
        "blocked": [_group_value(group) for group in change.blocked],
        "incidents": [_incident_value(one, is_new=one in comparison.missed) for one in comparison.incidents],
        "refusals_of_base": [_refusal_value(refusal) for refusal in change.known],
        "quarantines": [
            {"kind": one.kind.value, "thing": one.thing, "certificate_id": one.certificate_id, "evidence": one.evidence}
            for one in change.cut_off
        ],
        "documents": [
            {
                "document": document.document,
                "change": document.change,
                "fields": [{"field": f.field, "base": f.base, "head": f.head} for f in document.fields],
            }
            for document in comparison.documents
        ],
        "policies": [_policy_value(policy) for policy in comparison.policies],
    }


def _group_value(group: ReasonGroup) -> dict[str, Any]:
    return {
        "policy": group.policy,
        "reason": group.reason.value,
        "devices": len(group.devices),
        "examples": list(group.devices[:NAMES_SHOWN]),
        "message": group.finding.message,
        "remedy": group.finding.remedy,
    }


def _incident_value(found: IncidentReport, *, is_new: bool) -> dict[str, Any]:
    return {
        "incident": found.incident,
        "deadline": words.iso(found.deadline),
        "remaining": found.remaining,
        "blocked": found.blocked,
        "accepted": found.accepted,
        "finish": words.iso(found.finish) if found.finish else None,
        "needs_person": found.needs_person,
        "is_missed_by_change": is_new,
        "message": found.message,
    }


def _refusal_value(refusal: Refusal) -> dict[str, Any]:
    return {
        "guardrail": refusal.guardrail,
        "policy": refusal.policy,
        "message": refusal.message,
        "override": refusal.override,
    }


def _policy_value(policy: PolicyComparison) -> dict[str, Any]:
    return {
        "policy": policy.policy,
        "changes": [{"field": c.field, "base": c.base, "head": c.head} for c in policy.changes],
        "governed_base": policy.governed_base,
        "governed_head": policy.governed_head,
        "left_alone": policy.left_alone,
        "newly_due": policy.newly_due,
        "no_longer_due": policy.no_longer_due,
        "authority_changes": policy.authority_changes,
        "key_type_changes": policy.key_type_changes,
        "due": policy.due,
        "jobs": policy.jobs,
        "largest_job": policy.largest_job,
        "peak_per_day": policy.peak_per_day,
        **_span_value(policy.span),
        "moved": _moved_value(policy.moved) if policy.moved else None,
        "transitions": [_transition_value(transition) for transition in policy.transitions],
        "gives": dict(policy.gives),
        "first_wave": policy.first_wave,
        "reported": policy.reported,
        "at_risk": policy.at_risk,
        "is_new": policy.is_new,
        "stages": [
            {"wave": s.wave, "devices": s.devices, "start": words.iso(s.start), "end": words.iso(s.end)}
            for s in policy.stages
        ],
        "asks": [_asked_value(stage, stage.asks) for stage in policy.asks if stage.asks is not None],
        "remote_actions": policy.remote_actions,
        "reasons": {reason.value: number for reason, number in policy.reasons.items()},
        "examples": list(policy.examples),
    }


def _transition_value(transition: HoldingChange) -> dict[str, Any]:
    after = asdict(transition.after) if transition.after else None
    return {"devices": transition.devices, "before": asdict(transition.before), "after": after}


def _asked_value(stage: Stage, asks: Refusal) -> dict[str, Any]:
    return {"start": words.iso(stage.start), "wave": stage.wave, "devices": stage.devices, **_refusal_value(asks)}


def _span_value(found: RotationSpan) -> dict[str, str | None]:
    return {
        "start": words.iso(found.start) if found.start else None,
        "finish": words.iso(found.finish) if found.finish else None,
    }


def _moved_value(found: Moved) -> dict[str, Any]:
    spans = {"base": _span_value(found.base), "head": _span_value(found.head)}
    return {"devices": found.devices, **spans, "sooner": found.sooner, "later": found.later}


def _github(comparisons: Comparisons, _look: TextStyle) -> str:
    lines = [line for change in comparisons.fleets for line in _annotations(change)]
    lines += [annotation("error", f"fleet {failure.fleet}: {failure.message}") for failure in comparisons.failures]
    return "".join(lines)


def _annotations(change: FleetChange) -> list[str]:
    """Return refusals on the line of their policy or fleet, and newly due devices on the changed field's line."""
    sources = {policy.name: policy.source for policy in change.desired.policies}
    lines = [refused(refusal, change.desired, refusal.override) for refusal in change.refusals]
    name = change.desired.fleet.name
    lines += [annotation("notice", f"fleet {name}: {notice}") for notice in change.comparison.notices]
    places = {incident.name: place(incident.source, "spec.deadline") for incident in change.desired.incidents}
    for found in change.comparison.missed:
        path, line = places[found.incident]
        lines.append(annotation("error", f"{found.message} → {UNMET_REMEDY}", path=path, line=line, title=found.title))
    lines += [grouped(group, change.desired, "error") for group in change.blocked]
    for policy in change.shown:
        if policy.policy not in sources:
            continue
        field = policy.changes[0].field if policy.changes else ""
        path, line = place(sources[policy.policy], field)
        messages = []
        if policy.newly_due:
            messages.append(f"{words.count(policy.newly_due, 'device')} newly to rotate, {span(change, policy)}")
        messages += [f"due already, {moved(policy.moved)}"] if policy.moved else []
        lines += [annotation("notice", message, path=path, line=line, title=policy.policy) for message in messages]
    return lines


RENDERERS: Mapping[Format, Callable[[Comparisons, TextStyle], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.MARKDOWN: comment.render,
    Format.GITHUB: _github,
}
