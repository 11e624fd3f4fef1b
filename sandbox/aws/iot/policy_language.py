"""Evaluating AWS IoT Core policies: pure functions over parsed documents.

Deny wins over Allow, silence is a Deny. ``*`` and ``?`` are wildcards in resources; MQTT's
``+`` and ``#`` are plain characters there. A statement whose variable has no value, or whose
condition is not understood, never allows; one that denies then still denies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sandbox.aws.errors import AwsError

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_WILDCARD = re.compile(r"[*?]")
_EFFECTS = ("Allow", "Deny")


def parse_policy(document: str) -> dict[str, Any]:
    """Return the document as a value; MalformedPolicyException shows what is wrong."""
    try:
        parsed = json.loads(document)
    except ValueError as error:
        raise AwsError("MalformedPolicyException", f"the policy is not JSON: {error}") from None
    statements = _listed(parsed.get("Statement")) if isinstance(parsed, dict) else []
    if not statements:
        raise AwsError("MalformedPolicyException", "the policy needs a Statement")
    for statement in statements:
        if not isinstance(statement, dict) or statement.get("Effect") not in _EFFECTS:
            raise AwsError("MalformedPolicyException", "each statement needs the Effect Allow or Deny")
        if not _listed(statement.get("Action")) or not _listed(statement.get("Resource")):
            raise AwsError("MalformedPolicyException", "each statement needs Action and Resource")
    return {"Statement": statements}


def allows(policies: Iterable[Mapping[str, Any]], action: str, arn: str, variables: Mapping[str, str]) -> bool:
    """Return whether the policies together allow the action on the resource."""
    allowed = False
    for policy in policies:
        for statement in policy["Statement"]:
            denies = statement["Effect"] == "Deny"
            if _applies(statement, action, arn, variables, when_unknown=denies):
                if denies:
                    return False
                allowed = True
    return allowed


def _applies(
    statement: Mapping[str, Any], action: str, arn: str, variables: Mapping[str, str], *, when_unknown: bool
) -> bool:
    if not any(_names(pattern, action) for pattern in _listed(statement["Action"])):
        return False
    resources = (resolved(r, variables) for r in _listed(statement["Resource"]) if arn.startswith(_beginning(r)))
    if not any(r is not None and _matches(r, arn) for r in resources):
        return False
    return _condition_holds(statement.get("Condition", {}), variables, when_unknown=when_unknown)


def variables_in(policies: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the names of all variables that the policies speak of."""
    return set(_VARIABLE.findall(json.dumps(list(policies))))


def resolved(text: str, variables: Mapping[str, str]) -> str | None:
    """Return the text with its policy variables filled in, their values literally; None if one has no value."""
    first, *rest = _parts(text)
    found = [first]
    for name, plain in zip(rest[::2], rest[1::2], strict=True):
        if name not in variables:
            return None
        found += (_literal(variables[name]), plain)
    return "".join(found)


@lru_cache(1024)
def _parts(text: str) -> list[str]:
    """Return plain text and names of variables in turn, plain text first and last."""
    return _VARIABLE.split(text)


@lru_cache(1024)
def _beginning(text: str) -> str:
    """Return the text up to its first variable or wildcard: nothing else can begin what it matches."""
    return _WILDCARD.split(_parts(text)[0], 1)[0]


def _literal(value: str) -> str:
    # A device's name must not work as a wildcard: mark its * and ? as characters.
    return value.replace("*", "\0s").replace("?", "\0q")


def _condition_holds(condition: Mapping[str, Any], variables: Mapping[str, str], *, when_unknown: bool) -> bool:
    for operator, tests in condition.items():
        for name, expected in tests.items():
            actual = variables.get(name)
            wanted = [resolved(str(e), variables) for e in _listed(expected)]
            match operator:
                case "Bool":
                    held = actual is not None and actual.lower() in [str(w).lower() for w in wanted]
                case "StringEquals" | "ForAnyValue:StringEquals":
                    held = actual is not None and _literal(actual) in wanted
                case "StringNotEquals":
                    held = actual is None or _literal(actual) not in wanted
                case "StringLike" | "ForAnyValue:StringLike":
                    held = actual is not None and any(w is not None and _matches(w, actual) for w in wanted)
                case _:
                    held = when_unknown
            if not held:
                return False
    return True


@lru_cache(1024)
def _names(pattern: str, action: str) -> bool:
    """Return whether a statement's action is the one that is asked for: there are few of both."""
    return _matches(pattern.lower(), action.lower())


def _matches(pattern: str, text: str) -> bool:
    """Return whether ``*`` and ``?`` make the pattern the text.

    Every device has patterns of its own, so none is compiled.
    """
    head, *rest = pattern.split("*")
    if not rest:
        return len(text) == _length(head) and _is_at(head, text, 0)
    *middle, tail = rest
    at, end = _length(head), len(text) - _length(tail)
    if at > end or not _is_at(head, text, 0) or not _is_at(tail, text, end):
        return False
    for part in middle:
        found = next((n for n in range(at, end - _length(part) + 1) if _is_at(part, text, n)), None)
        if found is None:
            return False
        at = found + _length(part)
    return True


def _length(part: str) -> int:
    return len(part) - part.count("\0")


def _is_at(part: str, text: str, at: int) -> bool:
    """Return whether a part without ``*`` stands at this place."""
    plain = part.replace("\0s", "*")
    if "?" not in part:
        return text.startswith(plain.replace("\0q", "?"), at)
    pieces = plain.replace("\0q", "\0").split("?")
    for piece in pieces:
        if not text.startswith(piece.replace("\0", "?"), at):
            return False
        at += len(piece) + 1
    return True


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]
