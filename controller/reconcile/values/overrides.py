"""A person's permission for one run: ``--override NAME=VALUE``, in the words that refusals print."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from controller.errors import CertfleetError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from .plan import Refusal
    from .policy import DesiredState

_PERCENTS = {"maxChangePercent": "max_change_percent", "groupChangePercent": "group_change_percent"}
_COUNTS = {"lateDevices": "late_devices", "orphans": "orphans"}
_NAMES = {"resume": "POLICY", "again": "DEVICE", "deployment": "AUTHORITY", "result": "POLICY", "older": "COMMIT"}

_OPTION = "--override "
SHORT = 12  # characters of a commit, as refusals print it and people name it
ALLOWED = ", ".join(
    [f"{name}=PERCENT" for name in _PERCENTS]
    + [f"{name}=COUNT" for name in _COUNTS]
    + [f"{name}={what}" for name, what in _NAMES.items()]
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """Limits raised for this run; None and empty leave the desired state's own."""

    max_change_percent: float | None = None
    group_change_percent: float | None = None
    late_devices: int = 0  # this many may miss their deadline
    orphans: int = 0  # this many devices may fall out of every policy
    resume: frozenset[str] = frozenset()  # policies whose halted wave is tried again
    deployment: frozenset[str] = frozenset()  # authorities that may be deployed otherwise than git says
    result: frozenset[str] = frozenset()  # policies whose devices may become whatever a stock backend makes of them
    older: frozenset[str] = frozenset()  # commits that may be applied although a later one was
    again: frozenset[str] = frozenset()  # devices that are tried again now, whatever came of it before
    given_at: datetime | None = (
        None  # whoever resumes has looked at nothing that failed later; None: the moment planned
    )

    @property
    def texts(self) -> tuple[str, ...]:
        """Each as ``parse_overrides`` reads it."""
        found = [(name, getattr(self, field)) for name, field in _PERCENTS.items()]
        told = [f"{name}={percent:g}" for name, percent in found if percent is not None]
        told += [f"{name}={number}" for name, field in _COUNTS.items() if (number := getattr(self, field))]
        return (*told, *(f"{name}={value}" for name in _NAMES for value in sorted(getattr(self, name))))


NO_OVERRIDES = Overrides()


def parse_overrides(texts: Iterable[str]) -> Overrides:
    """Read ``NAME=VALUE`` texts; CertfleetError names the one that is wrong and what is allowed.

    Of a name that is given twice the larger value counts: a plan may be refused for a policy and for the fleet.
    """
    overrides = NO_OVERRIDES
    for text in texts:
        name, _, value = text.partition("=")
        overrides = _with(overrides, name, value, text)
    return overrides


def options_for(refusals: Iterable[Refusal], given: Overrides = NO_OVERRIDES) -> str:
    """Return the options that lift all of these refusals together, those ``given`` to the refused run among them.

    If one of them has no override, return what to do instead.
    """
    asked = [refusal.override for refusal in refusals]
    if (instead := next((text for text in asked if not text.startswith(_OPTION)), None)) is not None:
        return instead
    together = parse_overrides([*given.texts, *(text.removeprefix(_OPTION) for text in asked)])
    return " ".join(f"{_OPTION}{text}" for text in together.texts)


def require_known(overrides: Overrides, fleets: Iterable[DesiredState]) -> None:
    """Raise CertfleetError if an override names a policy, an authority or a commit that no fleet of the run has."""
    policies = {policy.name for desired in fleets for policy in desired.policies}
    authorities = {name for desired in fleets for name in desired.authorities}
    whole = [desired.commit for desired in fleets if desired.commit]
    commits = {commit[:SHORT] for commit in whole}
    commits |= {one for one in overrides.older if one[:SHORT] in commits and any(c.startswith(one) for c in whole)}
    for option, given, known in (
        ("resume", overrides.resume, policies),
        ("result", overrides.result, policies),
        ("deployment", overrides.deployment, authorities),
        ("older", overrides.older, commits),
    ):
        for name in sorted(given - known):
            raise CertfleetError(
                f"override {option}={name}: there is no such name", f"there are: {', '.join(sorted(known)) or 'none'}"
            )


def _with(overrides: Overrides, name: str, value: str, text: str) -> Overrides:
    changed: dict[str, Any]
    if name in _PERCENTS:
        field = _PERCENTS[name]
        changed = {field: _larger(getattr(overrides, field), _percent(value, text))}
    elif name in _COUNTS:
        field = _COUNTS[name]
        changed = {field: max(getattr(overrides, field), _count(value, text))}
    elif name in _NAMES and value:
        changed = {name: getattr(overrides, name) | {value}}
    else:
        raise CertfleetError(f"override {text!r} is not known", f"allowed: {ALLOWED}")
    return replace(overrides, **changed)


def _larger(before: float | None, given: float) -> float:
    return given if before is None else max(before, given)


def _percent(value: str, text: str) -> float:
    try:
        percent = float(value)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:  # noqa: PLR2004 - per cent
        raise CertfleetError(f"override {text!r}: {value!r} is not a percentage", "give a number from 0 to 100")
    return percent


def _count(value: str, text: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise CertfleetError(f"override {text!r}: {value!r} is not a count", "give a whole number")
    return int(value)
