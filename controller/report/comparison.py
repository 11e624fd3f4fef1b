"""What a change of the desired state does to the fleet, for the pull request and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.reconcile.compare import Comparison, PolicyComparison
from controller.reconcile.policy import DesiredState

from . import words
from .as_json import FORMAT_VERSION, dump
from .console import Look, Page
from .formats import Format
from .markdown import fitted, folded
from .markdown import table as markdown_table


@dataclass(frozen=True, slots=True)
class Comparisons:
    """The comparison of each fleet."""

    base: str  # the ref as it was given
    fleets: tuple[tuple[DesiredState, Comparison], ...]


def _sentence(comparison: Comparison) -> str:
    no_longer = sum(policy.no_longer_due for policy in comparison.policies)
    if not comparison.newly_due and not no_longer:
        return "no device rotates earlier or later at once"
    parts = []
    if comparison.newly_due:
        parts.append(f"{words.count(comparison.newly_due, 'device')} newly to rotate")
        ends = [policy.finish for policy in comparison.policies if policy.newly_due]
        if any(end is None for end in ends):
            parts.append("some cannot be done: no window is open for them")
        finish = max((end for end in ends if end is not None), default=None)
        if finish is not None:
            parts.append(f"done by {words.instant(finish)}")
        parts.append(f"{words.count(sum(p.remote_actions for p in comparison.policies), 'remote action')}")
    if no_longer:
        parts.append(f"{words.count(no_longer, 'device')} no longer to rotate")
    return " · ".join(parts)


def _shown(comparison: Comparison) -> list[PolicyComparison]:
    return [policy for policy in comparison.policies if policy.changes or policy.has_effect]


def _facts(policy: PolicyComparison) -> list[str]:
    facts = [f"{words.count(policy.newly_due, 'device')} newly to rotate, {policy.no_longer_due:,} no longer"]
    if policy.reasons:
        facts.append(", ".join(f"{reason.value} {number:,}" for reason, number in policy.reasons.items()))
    if policy.governed_base != policy.governed_head:
        facts.append(f"governs {policy.governed_head:,} devices, {policy.governed_base:,} before")
    if policy.due:
        finish = words.instant(policy.finish) if policy.finish else "never: no window is open for it"
        facts.append(f"in all {words.count(policy.due, 'device')} in {words.count(policy.jobs, 'job')}, done: {finish}")
        facts.append(f"peak {policy.peak_per_day:,} a day over 90 days")
    return facts


def _text(comparisons: Comparisons, look: Look) -> str:
    page = Page(look)
    for number, (desired, comparison) in enumerate(comparisons.fleets):
        if number:
            page.gap()
        page.line((desired.fleet.name, "head"), "  ", _sentence(comparison))
        head = words.commit(comparison.head_commit, is_dirty=desired.is_dirty)
        page.line((f"{comparisons.base} ({words.commit(comparison.base_commit)}) → {head}", "dim"))
        for policy in _shown(comparison):
            page.gap()
            page.line((policy.policy, "head"), indent=2)
            for change in policy.changes:
                page.line((change.field, "change"), f"  {change.base or '–'} → {change.head or '–'}", indent=4)
            for fact in _facts(policy):
                page.line(fact, indent=4)
    return page.text()


def _markdown(comparisons: Comparisons, _look: Look) -> str:
    sections = []
    for desired, comparison in comparisons.fleets:
        sections.append(f"## {desired.fleet.name}: {_sentence(comparison)}\n")
        shown = _shown(comparison)
        for policy in shown:
            rows = [(f"`{c.field}`", c.base or "–", c.head or "–") for c in policy.changes]
            changes = markdown_table(("Field", "Before", "After"), rows) + "\n\n" if rows else ""
            facts = "\n".join(f"- {fact}" for fact in _facts(policy))
            title = f"<code>{policy.policy}</code>: {words.count(policy.newly_due, 'device')} newly to rotate"
            sections.append(folded(title, changes + facts, is_open=bool(policy.newly_due)))
        quiet = len(comparison.policies) - len(shown)
        if quiet:
            sections.append(f"{words.count(quiet, 'policy is', 'policies are')} unchanged.\n")
    return fitted(sections)


def _json(comparisons: Comparisons, _look: Look) -> str:
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "Comparison",
            "base": comparisons.base,
            "fleets": [
                {
                    "fleet": desired.fleet.name,
                    "base_commit": comparison.base_commit,
                    "head_commit": comparison.head_commit,
                    "newly_due": comparison.newly_due,
                    "policies": [_policy_value(policy) for policy in comparison.policies],
                }
                for desired, comparison in comparisons.fleets
            ],
        }
    )


def _policy_value(policy: PolicyComparison) -> dict[str, Any]:
    return {
        "policy": policy.policy,
        "changes": [{"field": c.field, "base": c.base, "head": c.head} for c in policy.changes],
        "governed_base": policy.governed_base,
        "governed_head": policy.governed_head,
        "newly_due": policy.newly_due,
        "no_longer_due": policy.no_longer_due,
        "authority_changes": policy.authority_changes,
        "key_type_changes": policy.key_type_changes,
        "due": policy.due,
        "jobs": policy.jobs,
        "peak_per_day": policy.peak_per_day,
        "finish": words.iso(policy.finish) if policy.finish else None,
        "remote_actions": policy.remote_actions,
        "reasons": {reason.value: number for reason, number in policy.reasons.items()},
    }


RENDERERS: Mapping[Format, Callable[[Comparisons, Look], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.MARKDOWN: _markdown,
}
