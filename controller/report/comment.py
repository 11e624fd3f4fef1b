"""The comment of a pull request: verdict, numbers by policy, warnings, the waves in time; the details are folded.

Values that come from documents stand in code spans: nothing that a document shows can format the
comment, link anywhere or call anyone.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.heal import GUARDRAIL
from controller.reconcile.outlook import FieldChange, PolicyComparison
from controller.reconcile.values import Refusal

from . import words
from .change import (
    Comparisons,
    FleetChange,
    becomes,
    cost_of,
    moment,
    money,
    moved,
    sentence,
    span,
    time_line,
    warnings,
)
from .formats import TextStyle
from .markdown import code, fitted, folded, plain, table

_WAVES_SHOWN = 12
_CUT = "\n> The comment is cut here: it was too long for GitHub. `certfleet plan --base` prints all of it.\n"
_MERGE_ALL_THE_SAME = (
    "Or, if this is what you want: have someone merge who may bypass this check. That alone rotates nothing: "
    "the `reconcile` run stops at the guardrail again, and waits for a reviewer of `certfleet-override`."
)
_NOBODY_IS_ASKED = (
    "The Fleet document is gone with this change: after the merge no run looks at that account any more, "
    "and nobody is asked"
)
_RETIRE = [
    "To retire the fleet, keep its Fleet document and remove its policies first; remove the document after that.",
    "If it went by mistake, bring it back.",
]
_CUTS_OFF_TOO_MANY = [
    "Name fewer devices. Or, if all of them are meant: have someone merge who may bypass this check.",
    "The `heal` run then waits for a reviewer of `certfleet-heal`, with that override in the name of its job.",
]
_CUTS_OFF = [
    "Look at who is cut off or brought back, then merge. Nothing happens before that.",
    "Approve the job of the `heal` run that follows the merge: only then it is done.",
]
_DECIDE = "Decide what is to become of what needs a person, in the warning above: nobody rotates it by itself."
_PRICES = "Prices are list prices of us-east-1, to the order of magnitude."


def render(comparisons: Comparisons, _look: TextStyle) -> str:
    """Return the comment, at most 65,536 characters; the next steps stand at the end, whatever had to be cut."""
    changes = comparisons.fleets
    level = "##" if len(changes) + len(comparisons.failures) == 1 else "###"
    sections = [] if level == "##" else [f"## {_icon(comparisons)} All fleets: {sentence(changes)}\n"]
    for failure in comparisons.failures:
        text = f"{level} ❌ {code(failure.fleet)} could not be read\n\n{plain(failure.message)}\n"
        sections.append(text + (f"\n{plain(failure.remedy)}\n" if failure.remedy else ""))
    quiet = [change for change in changes if not change.has_news]
    for change in changes:
        if change.has_news or level == "##":
            sections += _fleet(change, level)
    if quiet and level == "###":
        sections.append(f"{words.count(len(quiet), 'fleet is', 'fleets are')} unchanged.\n")
    return fitted(sections, cut=_CUT, ending=_ending(comparisons))


def _icon(comparisons: Comparisons) -> str:
    if comparisons.failures:
        return "❌"
    if any(change.refusals for change in comparisons.fleets):
        return "⛔"
    if any(change.needs_person for change in comparisons.fleets):
        return "🛑"
    return "🔄" if any(change.comparison.makes_rotate for change in comparisons.fleets) else "✅"


def _fleet(change: FleetChange, level: str) -> list[str]:
    icon = _icon(Comparisons("", (change,)))
    verdict = "refused · " if change.refusals else ""
    sections = [f"{level} {icon} {change.desired.fleet.name}: {verdict}{sentence([change])}\n"]
    sections += [
        f"> [!CAUTION]\n> **Refused by `{refusal.guardrail}`** ({refusal.policy or 'the whole fleet'}): "
        f"{plain(refusal.message)}.  \n> {_asked(change, refusal)}\n"
        for refusal in change.refusals
    ]
    if told := warnings(change):
        sections.append("> [!WARNING]\n" + "\n".join(f"> - {plain(one)}" for one in told) + "\n")
    sections += _quarantines(change)
    sections += _numbers(change)
    sections += _time_line(change)
    for policy in change.shown:
        if body := _policy(change, policy):
            sections.append(folded(f"<code>{policy.policy}</code>: {_title(policy)}", body))
    for document in change.comparison.documents:
        title = f"<code>{document.document}</code>: {document.change}"
        sections.append(folded(title, _fields(document.fields, document.change)))
    quiet = len(change.comparison.policies) - len(change.shown)
    if quiet:
        sections.append(f"{words.count(quiet, 'policy is', 'policies are')} unchanged.\n")
    return sections


def _quarantines(change: FleetChange) -> list[str]:
    """Return who is cut off once a reviewer has approved it, who is connected now, and who comes back."""
    rows = [(action.kind.value, code(action.thing or action.certificate_id[:12]), plain(action.evidence))
            for action in change.cut_off]  # fmt: skip
    rows += [(one.what, code(one.subject[:128]), plain(f"{one.found}. {one.remedy}")) for one in change.not_cut_off]
    if not rows:
        return []
    after = "After the merge the `heal` run plans this again, and waits for a reviewer of `certfleet-heal`.\n"
    return [f"{table(('Quarantine', 'Device', 'Known'), rows)}\n\n{after}"]


def _numbers(change: FleetChange) -> list[str]:
    """Return a line for each policy of which a device rotates because of the change, no longer, or at another time."""
    rows = [
        (
            code(policy.policy),
            *(f"{number:,}" if number else "–" for number in (policy.newly_due, policy.no_longer_due)),
            moment(change, policy, policy.span.start) if policy.span.start and policy.due else "–",
            words.instant(policy.span.finish) if policy.span.finish and policy.due else "–",
            _price(change, policy) if policy.newly_due else "–",
        )
        for policy in change.shown
        if policy.makes_rotate or policy.no_longer_due
    ]
    titles = ("Policy", "Newly to rotate", "No longer", "From", "Done by", "Cost")
    return [f"{table(titles, rows)}\n"] if rows else []


def _time_line(change: FleetChange) -> list[str]:
    """Return when each wave starts, the whole fleet in one order."""
    moments = time_line(change)
    if not moments:
        return []
    asks = any(found.asks for found in moments)
    rows = [
        (
            found.when,
            found.until,
            code(found.policy),
            str(found.wave),
            f"{found.devices:,}",
            *([code(found.asks or None)] if asks else []),
        )
        for found in moments
    ]
    titles = ("Waves, from", "until", "Policy", "Wave", "Devices", *(["Asks a reviewer"] if asks else []))
    return [f"{table(titles, rows, at_most=_WAVES_SHOWN)}\n"]


def _fields(fields: Sequence[FieldChange], change: str) -> str:
    """Return a document's fields as a table; values before and after only if the document is in both refs."""
    if change in {"new", "added"}:
        return table(("Field", "Value"), [(code(c.field), code(c.head)) for c in fields])
    if change == "removed":
        return table(("Field", "Was"), [(code(c.field), code(c.base)) for c in fields])
    return table(("Field", "Before", "After"), [(code(c.field), code(c.base), code(c.head)) for c in fields])


def _asked(change: FleetChange, refusal: Refusal) -> str:
    return f"{_NOBODY_IS_ASKED}." if change.is_gone else f"A reviewer will be asked for: `{refusal.override}`"


def _title(policy: PolicyComparison) -> str:
    parts = ["new"] if policy.is_new else []
    if policy.newly_due:
        parts.append(f"{words.count(policy.newly_due, 'device')} newly to rotate")
    if policy.no_longer_due:
        parts.append(f"{words.count(policy.no_longer_due, 'device')} no longer to rotate")
    if policy.moved:
        parts.append(f"{words.count(policy.moved.devices, 'device')} due already, at another time")
    if policy.first_wave:
        parts.append("starts again with its first wave")
    if policy.left_alone:
        parts.append(f"{words.count(policy.left_alone, 'device')} left to themselves")
    parts += [f"{words.count(number, 'device')} go to <code>{other}</code>" for other, number in policy.gives.items()]
    return ", ".join(parts) or f"{words.count(len(policy.changes), 'field')} changed, no device rotates because of it"


def _policy(change: FleetChange, policy: PolicyComparison) -> str:
    is_gone = policy.policy not in {each.name for each in change.desired.policies}
    kind = "new" if policy.is_new else "removed" if is_gone else "changed"
    fields = f"{_fields(policy.changes, kind)}\n\n" if policy.changes else ""
    return fields + "\n".join(f"- **{name}** {text}" for name, text in _facts(change, policy))


def _facts(change: FleetChange, policy: PolicyComparison) -> list[tuple[str, str]]:
    facts = []
    if policy.newly_due:
        rest = policy.newly_due - len(policy.examples)
        named = ", ".join(code(name) for name in policy.examples) + (f" and {rest:,} more" if rest else "")
        reasons = ", ".join(f"`{reason.value}` {number:,}" for reason, number in policy.reasons.items())
        facts += [("Which:", named), ("Why:", reasons), ("Cost:", _cost(change, policy))]
    if policy.moved:
        facts.append(("Due already:", moved(policy.moved)))
    if policy.due:
        facts.append(("When:", f"{span(change, policy)}, in {words.count(policy.jobs, 'job')}"))
        if policy.transitions:
            facts.append(("Becomes:", plain(becomes(policy))))
        facts.append(("Due in all:", f"{policy.due:,} of {words.count(policy.governed_head, 'device')}"))
        facts.append(("Busiest day:", f"{words.count(policy.peak_per_day, 'rotation')}, within the coming 90 days"))
    facts += [("Goes to " + code(other) + ":", words.count(number, "device")) for other, number in policy.gives.items()]
    if policy.governed_base != policy.governed_head and not policy.is_new:
        facts.append(("Governs:", f"{words.count(policy.governed_head, 'device')}, {policy.governed_base:,} before"))
    elif policy.is_new:
        facts.append(("Governs:", words.count(policy.governed_head, "device")))
    return facts


def _price(change: FleetChange, policy: PolicyComparison) -> str:
    cost = cost_of(change.desired, [policy])
    return f"{words.count(cost.devices, 'restart')}, {money(cost)}"


def _cost(change: FleetChange, policy: PolicyComparison) -> str:
    cost = cost_of(change.desired, [policy])
    parts = [words.count(cost.devices, "restart"), words.count(cost.calls, "AWS call")]
    parts += [f"{words.count(n, 'certificate')} of {code(name)}" for name, n in cost.certificates.items()]
    return f"{', '.join(parts)}; {money(cost)}"


def _ending(comparisons: Comparisons) -> str:
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(_steps(comparisons), start=1))
    return f"### Next\n\n{steps}\n\n<sub>{_footnote(comparisons)}</sub>\n"


def _steps(comparisons: Comparisons) -> list[str]:
    changes = comparisons.fleets
    if comparisons.failures:
        return ["Mend what the fleet's message names.", "Run this job again: nothing is known of that fleet yet."]
    refused = [change for change in changes if change.refusals]
    if refused and all(change.is_gone for change in refused):
        return _RETIRE
    if refused:
        of_quarantine = all(one.guardrail == GUARDRAIL for change in refused for one in change.refusals)
        return (
            _CUTS_OFF_TOO_MANY
            if of_quarantine
            else [
                "Make the change smaller: a first wave of a few devices (`rollout.waves`), or one policy at a time.",
                _MERGE_ALL_THE_SAME,
            ]
        )
    first = [_DECIDE] if any(change.needs_person for change in changes) else []
    if any(change.comparison.makes_rotate for change in changes):
        return [
            *first,
            "Look at the numbers, then merge. Nothing rotates before that.",
            "The `reconcile` run plans anew and starts the first wave; each next one starts after its soak.",
            "`certfleet status` and the drift report show where the rollout stands.",
        ]
    if any(change.cut_off for change in changes):
        return [*first, *_CUTS_OFF]
    when = "that is decided" if first else "you like"
    return [*first, f"Merge when {when}: no device rotates because of this change."]


def _footnote(comparisons: Comparisons) -> str:
    seen = [
        f"{change.desired.fleet.name}: account {change.desired.fleet.account}, {change.desired.fleet.region}, "
        f"seen {words.instant(change.seen_at)}"
        for change in comparisons.fleets
    ]
    commits = {
        f"Base {words.commit(change.comparison.base_commit)}, merged "
        f"{words.commit(change.comparison.head_commit, is_dirty=change.desired.is_dirty)}"
        for change in comparisons.fleets
    }
    money_shown = any(change.comparison.newly_due for change in comparisons.fleets)
    return ". ".join([*sorted(commits), "; ".join(seen), *([_PRICES.rstrip(".")] if money_shown else [])]) + "."
