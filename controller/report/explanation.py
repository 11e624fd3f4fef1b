"""Why one device is, or is not, to be rotated: findings, YAML line, commit, and the arithmetic with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from controller.reconcile.outlook import Explanation
from controller.reconcile.values import DesiredState

from . import words
from .as_json import finding_value, risk_value
from .console import OUTCOME_STYLES, Page, table
from .formats import FORMAT_VERSION, Format, TextStyle, dump
from .markdown import code, plain
from .markdown import table as markdown_table


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation, and the desired state it was made under."""

    explanation: Explanation
    desired: DesiredState
    shows_arithmetic: bool  # the formulas behind the sentences
    read_at: datetime  # the device; the rest of its policy may be as old as the last look at that
    site: str | None = None  # where the Fleet names the attribute, and the last listing of all things had it


def _seen(explained: Explained) -> str:
    seen_at = explained.explanation.seen_at
    rest = "" if seen_at == explained.read_at else f", the rest of its policy {words.instant(seen_at)}"
    return f"seen {words.instant(explained.read_at)}{rest}"


def _text(explained: Explained, look: TextStyle) -> str:
    explanation, page = explained.explanation, Page(look)
    outcome = explanation.assessment.outcome
    style = OUTCOME_STYLES[outcome] if outcome is not None else "good"
    page.line((explanation.device, "head"), " ", (explanation.verdict, f"bold {style}"))
    fleet, desired, policy = explained.desired.fleet, explained.desired, explanation.policy or "(several claim it)"
    site = f"site {explained.site}, " if explained.site else ""
    commit = words.commit(explanation.commit, is_dirty=desired.is_dirty)
    page.line(
        (
            f"fleet {fleet.name}, {site}policy {policy}, {commit}, {_seen(explained)}",
            "dim",
        )
    )
    if explanation.assessment.certificate_id:
        page.line((f"certificate {explanation.assessment.certificate_id}", "dim"))
    for number, finding in enumerate(explanation.assessment.findings):
        page.gap()
        place = explanation.places[number] if number < len(explanation.places) else ""
        page.line((finding.reason.value, OUTCOME_STYLES[finding.outcome]), (f"  {place}", "dim"))
        page.line(finding.message, indent=4)
        if finding.remedy:
            page.line(("→ ", "change"), finding.remedy, indent=4)
    if explanation.words:
        page.heading("When")
        for sentence in explanation.words:
            page.line(sentence, indent=2)
    if explained.shows_arithmetic and explanation.arithmetic:
        page.heading("Arithmetic")
        rows = [(line.name, line.value, line.formula) for line in explanation.arithmetic]
        page.add(table(("", "keep"), ("Value", "keep"), ("How", "wrap"), rows=rows))
    return page.text()


def _json(explained: Explained, _look: TextStyle) -> str:
    explanation = explained.explanation
    assessment, timing = explanation.assessment, explanation.timing
    places = explanation.places
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "Explanation",
            "fleet": explained.desired.fleet.name,
            "device": explanation.device,
            "site": explained.site,
            "policy": explanation.policy,
            "commit": explanation.commit,
            "observed_at": words.iso(explained.read_at),
            "policy_observed_at": words.iso(explanation.seen_at),
            "certificate_id": assessment.certificate_id,
            "sync": assessment.sync.value,
            "health": assessment.health.value,
            "outcome": assessment.outcome.value if assessment.outcome else None,
            "findings": [
                {**finding_value(finding), "source": places[number] if number < len(places) else None}
                for number, finding in enumerate(assessment.findings)
            ],
            "words": list(explanation.words),
            "arithmetic": [
                {"name": line.name, "formula": line.formula, "value": line.value} for line in explanation.arithmetic
            ],
            "offline_risk": assessment.risk and risk_value(assessment.risk, explanation.policy),
            "timing": timing
            and {"due": words.iso(timing.due), "target": words.iso(timing.target), "start": words.iso(timing.start)},
        }
    )


def _markdown(explained: Explained, _look: TextStyle) -> str:
    explanation, desired = explained.explanation, explained.desired
    commit = words.commit(explanation.commit, is_dirty=desired.is_dirty)
    policy = code(explanation.policy) if explanation.policy else "(several claim it)"
    site = f"site {code(explained.site)}, " if explained.site else ""
    parts = [
        f"## {code(explanation.device)} {explanation.verdict}\n",
        f"Fleet {code(desired.fleet.name)}, {site}policy {policy}, {commit}, {_seen(explained)}.\n",
    ]
    for number, finding in enumerate(explanation.assessment.findings):
        place = f" ({code(explanation.places[number])})" if number < len(explanation.places) else ""
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        parts.append(f"- **{finding.reason.value}**{place}: {plain(finding.message + remedy)}")
    parts += [f"\n{plain(' '.join(explanation.words))}"] if explanation.words else []
    if explained.shows_arithmetic and explanation.arithmetic:
        rows = [(plain(line.name), plain(line.value), plain(line.formula)) for line in explanation.arithmetic]
        parts.append(f"\n{markdown_table(('', 'Value', 'How'), rows)}")
    return "\n".join(parts) + "\n"


RENDERERS: Mapping[Format, Callable[[Explained, TextStyle], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.MARKDOWN: _markdown,
}
