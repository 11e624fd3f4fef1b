"""Expressions of GitHub Actions, as far as our workflows use them; anything else is an error.

Source: GitHub Docs, "Evaluate expressions in workflows and actions".
"""

from __future__ import annotations

import json
import re

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>\d+)|(?P<name>[A-Za-z_][\w-]*)|(?P<sign>&&|\|\||[!=]=|[!().,*]))"
)
INSERTED = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
CONSTANTS = {"true": True, "false": False, "null": None}


def insert(text, contexts, functions):
    """A string with every ``${{ … }}`` in it replaced; a string that is one expression alone keeps its type."""
    whole = INSERTED.fullmatch(str(text).strip())
    if whole:
        return evaluate(whole[1], contexts, functions)
    return INSERTED.sub(lambda found: shown(evaluate(found[1], contexts, functions)), str(text))


def evaluate(text, contexts, functions):
    """The value of one expression."""
    return _Parser(text, contexts, functions).whole()


def _format(text, *values):
    for number, value in enumerate(values):
        text = text.replace(f"{{{number}}}", shown(value))
    return text


def is_true(value):
    return value not in (None, False, 0, "")


def shown(value):
    """As GitHub pastes a value into a string."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


class _Parser:
    def __init__(self, text, contexts, functions):
        self._tokens, end = [], 0
        text = text.strip()
        while end < len(text):
            found = TOKEN.match(text, end)
            assert found, f"no expression of GitHub Actions: {text!r} at {text[end:]!r}"
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            end = found.end()
        self._contexts = contexts
        self._functions = {"fromJSON": json.loads, "format": _format, **functions}

    def whole(self):
        value = self._or()
        assert not self._tokens, f"left over: {self._tokens}"
        return value

    def _next(self, *signs):
        if self._tokens and self._tokens[0][0] == "sign" and self._tokens[0][1] in signs:
            return self._tokens.pop(0)[1]
        return None

    def _or(self):
        value = self._and()
        while self._next("||"):
            other = self._and()
            value = value if is_true(value) else other
        return value

    def _and(self):
        value = self._equal()
        while self._next("&&"):
            other = self._equal()
            value = other if is_true(value) else value
        return value

    def _equal(self):
        value = self._not()
        while sign := self._next("==", "!="):
            value = _same(value, self._not()) == (sign == "==")
        return value

    def _not(self):
        if self._next("!"):
            return not is_true(self._not())
        return self._value()

    def _value(self):
        if self._next("("):
            value = self._or()
            assert self._next(")")
            return value
        kind, text = self._tokens.pop(0)
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "number":
            return int(text)
        assert kind == "name", f"not expected: {text!r}"
        if text in CONSTANTS:
            return CONSTANTS[text]
        if self._next("("):
            return self._functions[text](*self._arguments())
        value = self._contexts[text]
        while self._next("."):
            _, field = self._tokens.pop(0)
            value = value.get(field) if isinstance(value, dict) else None
        return value

    def _arguments(self):
        arguments = []
        while not self._next(")"):
            arguments.append(self._or())
            self._next(",")
        return arguments


def _same(one, other):
    """Loose equality: unlike types are compared as numbers, text without regard to case."""
    if isinstance(one, str) and isinstance(other, str):
        return one.lower() == other.lower()
    if type(one) is type(other):
        return one == other
    return _number(one) == _number(other)


def _number(value):
    if value is None or isinstance(value, bool):
        return int(bool(value))
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return float("nan")
