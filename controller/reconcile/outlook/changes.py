"""The differences between two desired states, field by field, in the words of the documents."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from controller.reconcile.values import BEARS_ON, AbortRule, Bearing, Window, instant_text, percent_text, span_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.reconcile.values import DesiredState, Policy

_Fields = dict[str, tuple[str | None, Bearing]]  # text and bearing by path
_UNSET = (None, Bearing.NEITHER)
_NOT_FIELDS = frozenset({"name", "source"})
_PLACES = {"stack_name": "spec.backend.stackName"}


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a document that differs; None: not set."""

    field: str
    base: str | None
    head: str | None
    bears_on: Bearing


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """A document, of another kind than a policy, that differs."""

    document: str  # kind and name
    change: str  # "added", "changed", "removed"
    fields: tuple[FieldChange, ...]


def changes_between(base: Policy | None, head: Policy | None) -> tuple[FieldChange, ...]:
    """Return the fields that differ from base to head, in their order; everything if a policy is new or gone."""
    return _differences(_policy(base), _policy(head))


def documents_changed(base: DesiredState, head: DesiredState) -> tuple[DocumentChange, ...]:
    """Return the documents but policies that differ from base to head, by kind and name."""
    found = []
    for kind, before, after in (
        ("Fleet", {base.fleet.name: base.fleet}, {head.fleet.name: head.fleet}),
        ("CertificateAuthority", base.authorities, head.authorities),
        ("Waiver", _named(base.waivers), _named(head.waivers)),
        ("Quarantine", _named(base.quarantines), _named(head.quarantines)),
        ("Incident", _named(base.incidents), _named(head.incidents)),
        ("Drill", _named(base.drills), _named(head.drills)),
    ):
        for name in sorted({*before, *after}):
            old, new = before.get(name), after.get(name)
            changes = _differences(_document(old), _document(new))
            if changes:
                what = "added" if old is None else "removed" if new is None else "changed"
                found.append(DocumentChange(f"{kind} {name}", what, changes))
    return tuple(found)


def _differences(old: _Fields, new: _Fields) -> tuple[FieldChange, ...]:
    return tuple(
        FieldChange(name, before, after, bearing)
        for name, (_, bearing) in {**old, **new}.items()
        if (before := old.get(name, _UNSET)[0]) != (after := new.get(name, _UNSET)[0])
    )


def _named(documents: Iterable[Any]) -> dict[str, Any]:
    return {document.name: document for document in documents}


def _policy(policy: Policy | None) -> _Fields:
    return dict(_fields(policy, "spec", {"certificate", "schedule", "rollout", "suspend"}))


def _document(document: Any) -> _Fields:
    return dict(_fields(document, "spec", {"guardrails"}))


def _fields(
    value: Any, path: str, sections: set[str], bearing: Bearing | None = None
) -> Iterator[tuple[str, tuple[str | None, Bearing]]]:
    """Yield every field of a document, as the models have them: none is listed here, so that none can be forgotten."""
    if value is None:
        return
    for each in fields(value):
        if each.name in _NOT_FIELDS:
            continue
        found = getattr(value, each.name)
        where = _PLACES.get(each.name, f"{path}.{_camel(each.name)}")
        bears_on = bearing or each.metadata[BEARS_ON]
        if each.name in sections:
            yield from _fields(found, where, set(), bears_on)
        else:
            yield where, (_text(found), bears_on)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _text(value: object) -> str | None:
    """Return a field's value as a reader of the change wants it; None if it is not set or empty."""
    match value:
        case None:
            text = ""
        case timedelta():
            text = span_text(value)
        case datetime():
            text = instant_text(value)
        case tuple():
            text = ", ".join(str(_text(item)) for item in value)
        case frozenset():
            text = ", ".join(sorted(str(item) for item in value))
        case Window():
            text = f"{value.kind.value} {value.cron} {value.timezone} for {span_text(value.duration)}"
        case AbortRule():
            percent = percent_text(value.threshold_percentage)
            text = f"{percent} % {value.failure_type.value} of at least {value.min_number_of_executed_things}"
        case Enum():
            text = str(value.value)
        case _:
            text = str(value)
    return text or None
