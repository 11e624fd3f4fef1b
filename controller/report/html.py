"""A self-contained page: no network, no script needed to read it, light and dark, prints well.

The page carries the aggregates and the rows that matter; the full list of devices is the JSON report.
"""

from __future__ import annotations

from html import escape

from controller.reconcile.finding import Assessment, Outcome

from . import words
from .console import Look
from .groups import TITLES, by_reason, leading
from .model import FleetReport, PolicyReport, Report
from .text import sentence

ROWS_SHOWN = 2_000  # devices listed per fleet
_NAMES_SHOWN = 12

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2530; --paper: #fff; --soft: #5a6672; --line: #d9dfe5;
  --good: #1a7f46; --change: #0b62a8; --wait: #8a5a00; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --paper: #12181f; --soft: #9fabb8; --line: #2c3742;
  --good: #56c98a; --change: #6db5f2; --wait: #e6b450; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
.soft { color: var(--soft); } .good { color: var(--good); } .change { color: var(--change); }
.wait { color: var(--wait); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: .8rem; border-radius: .4rem; overflow: hidden; margin: .75rem 0;
  background: var(--line); }
.bar span { display: block; } .bar .good { background: var(--good); } .bar .change { background: var(--change); }
.bar .wait { background: var(--wait); } .bar .bad { background: var(--bad); }
input { font: inherit; padding: .3rem .6rem; border: 1px solid var(--soft); border-radius: .3rem; width: 100%;
  max-width: 24rem; background: var(--paper); color: var(--ink); }
@media print { body { padding: 0; max-width: none; } .filter { display: none; } tr { break-inside: avoid; } }
"""

_SCRIPT = """
for (const field of document.querySelectorAll('input[data-table]')) {
  const rows = document.getElementById(field.dataset.table).tBodies[0].rows;
  field.addEventListener('input', () => {
    const wanted = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every(word => text.includes(word));
    }
  });
}
"""

_CLASSES = {Outcome.ROTATE: "change", Outcome.WAITING: "wait", Outcome.BLOCKED: "bad"}


def render_drift(report: Report, _look: Look) -> str:
    """The whole page."""
    title = f"certfleet drift report, {words.instant(report.created_at)}"
    body = "".join(_fleet(number, fleet) for number, fleet in enumerate(report.fleets))
    body += "".join(
        f"<section><h2 class=bad>Fleet {escape(failure.fleet)} could not be read</h2>"
        f"<p>{escape(failure.message)}</p><p>{escape(failure.remedy or '')}</p></section>"
        for failure in report.failures
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}"
        f'</main>\n<footer><p class="soft">{escape(title)}</p></footer>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n'
    )


def _fleet(number: int, fleet: FleetReport) -> str:
    verdict, kind = ("in sync", "good") if fleet.is_in_sync else ("out of sync", "bad")
    desired = fleet.desired
    place = f"account {desired.fleet.account}, {desired.fleet.region}"
    commit = words.commit(desired.commit, is_dirty=desired.is_dirty)
    return (
        f'<section><h1>{escape(desired.fleet.name)} is <span class="{kind}">{verdict}</span></h1>\n'
        f"<p>{escape(sentence(fleet))}</p>\n{_bar(fleet)}"
        f'<p class="soft">{escape(place)}, {escape(commit)}, seen {words.instant(fleet.state.observed_at)}</p>\n'
        f"{_policies(fleet)}{''.join(_outcome(fleet, outcome) for outcome in _ORDER)}{_devices(number, fleet)}"
        f"</section>\n"
    )


_ORDER = (Outcome.BLOCKED, Outcome.ROTATE, Outcome.WAITING)


def _bar(fleet: FleetReport) -> str:
    if not fleet.governed:
        return ""
    parts = [("good", fleet.in_sync), *((_CLASSES[o], fleet.outcomes.get(o, 0)) for o in (*_ORDER[1:], _ORDER[0]))]
    spans = "".join(f'<span class="{kind}" style="flex: {number}"></span>' for kind, number in parts if number)
    return f'<div class="bar" role="img" aria-label="{escape(sentence(fleet))}">{spans}</div>\n'


def _policies(fleet: FleetReport) -> str:
    rows = "".join(_policy(entry) for entry in fleet.policies)
    numbers = "".join(f'<th scope="col" class="number">{n}</th>' for n in ("Devices", "In sync", "Rotate", "Waiting"))
    return (
        f'<h2>Policies</h2>\n<div class="scroll"><table><thead><tr><th scope="col">Policy</th>{numbers}'
        f'<th scope="col" class="number">Blocked</th><th scope="col">Health</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>\n"
    )


def _policy(entry: PolicyReport) -> str:
    numbers = (f"{entry.governed:,}", words.percent(entry.in_sync, entry.governed))
    counts = tuple(f"{number:,}" if number else "–" for number in (entry.rotate, entry.waiting, entry.blocked))
    cells = "".join(f'<td class="number">{cell}</td>' for cell in numbers + counts)
    return f'<tr><th scope="row">{escape(entry.policy.name)}</th>{cells}<td>{entry.health.value}</td></tr>'


def _outcome(fleet: FleetReport, outcome: Outcome) -> str:
    groups = by_reason(fleet.of(outcome))
    if not groups:
        return ""
    rows = "".join(
        f'<tr><th scope="row" class="{_CLASSES[outcome]}">{group.reason.value}</th>'
        f'<td>{escape(group.policy or "–")}</td><td class="number">{len(group.devices):,}</td>'
        f"<td>{escape(group.finding.message)}"
        f"{f'<br>→ {escape(group.finding.remedy)}' if group.finding.remedy else ''}"
        f'<br><span class="soft">{escape(words.listed(group.devices, _NAMES_SHOWN))}</span></td></tr>'
        for group in groups
    )
    return (
        f'<h2>{TITLES[outcome]}</h2>\n<div class="scroll"><table><thead><tr><th scope="col">Reason</th>'
        f'<th scope="col">Policy</th><th scope="col" class="number">Devices</th><th scope="col">Such as</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>\n"
    )


def _devices(number: int, fleet: FleetReport) -> str:
    listed = [assessment for outcome in _ORDER for assessment in fleet.of(outcome)]
    if not listed:
        return ""
    rest = len(listed) - ROWS_SHOWN
    note = f'<p class="soft">and {rest:,} more: the JSON report has all of them</p>' if rest > 0 else ""
    rows = "".join(_device(assessment) for assessment in listed[:ROWS_SHOWN])
    titles = "".join(f'<th scope="col">{title}</th>' for title in ("Device", "Policy", "Reason", "Due", "Why"))
    return (
        f'<h2>Devices</h2>\n<p class="filter"><label>Show only rows with '
        f'<input type="search" data-table="devices{number}"></label></p>\n'
        f'<div class="scroll"><table id="devices{number}"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}\n"
    )


def _device(assessment: Assessment) -> str:
    finding = leading(assessment)
    due = words.instant(assessment.timing.due) if assessment.timing else "–"
    why = "; ".join(found.message for found in assessment.findings)
    return (
        f'<tr><th scope="row">{escape(assessment.device)}</th><td>{escape(assessment.policy or "–")}</td>'
        f'<td class="{_CLASSES[finding.outcome]}">{finding.reason.value}</td><td>{due}</td><td>{escape(why)}</td></tr>'
    )
