"""The SQL of AWS IoT rules, as far as the backend's rules need it.

``SELECT *|expression AS name, … FROM 'topic filter' [WHERE expression]`` with ``= <> < > <= >=``,
``AND OR NOT``, parentheses, paths, strings, numbers, ``true false null`` and the functions ``topic``,
``clientid``, ``principal``, ``timestamp`` and ``isUndefined``. Anything else is a SqlError when the
rule is read, so that no rule runs with another meaning than on AWS.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z_]\w*)|(?P<symbol><>|<=|>=|[*,().=<>]))"
)
KEYWORDS = frozenset({"SELECT", "AS", "FROM", "WHERE", "AND", "OR", "NOT"})


class _Undefined:
    """The value of a path that leads nowhere, or of a comparison with one."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED: Final = _Undefined()


class SqlError(ValueError):
    """The statement is not in the subset; the text shows where."""


@dataclass(frozen=True)
class MessageContext:
    """One message, as a rule sees it."""

    payload: Mapping[str, Any]
    topic: str
    client_id: str | None
    principal: str | None
    timestamp: int  # milliseconds since 1970


Expression = Callable[[MessageContext], Any]

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Statement:
    """A rule's SQL, ready to be applied."""

    everything: bool  # whether the payload's own fields are taken
    columns: tuple[tuple[str, Expression], ...]
    topic_filter: str
    condition: Expression | None

    def apply(self, context: MessageContext) -> dict[str, Any] | None:
        """Return what the rule's actions get; None if the condition does not hold.

        A column of the statement wins over a field of the payload with its name.
        """
        if self.condition is not None and self.condition(context) is not True:
            return None
        selected: dict[str, Any] = dict(context.payload) if self.everything else {}
        for name, expression in self.columns:
            value = expression(context)
            if value is not UNDEFINED:
                selected[name] = value
        return selected


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether a topic is among those of an MQTT filter."""
    wanted, found = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(found) or level not in ("+", found[index]):
            return False
    return len(wanted) == len(found)


@lru_cache(256)
def parse(sql: str) -> Statement:
    """Read a statement, which a rule has for each message anew; SqlError for anything outside the subset."""
    parser = _Parser(_tokens(sql))
    return parser.statement()


def _tokens(sql: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    while position < len(sql.rstrip()):
        match = TOKEN.match(sql, position)
        if match is None:
            raise SqlError(f"cannot read {sql[position : position + 20]!r} at character {position}")
        kind = match.lastgroup or ""
        text = match[kind]
        if kind == "word" and text.upper() in KEYWORDS:
            kind, text = "keyword", text.upper()
        tokens.append((kind, text))
        position = match.end()
    return [*tokens, ("end", "")]


class _Parser:
    """Recursive descent over the tokens; each method reads one rule of the grammar."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def statement(self) -> Statement:
        self._expect("keyword", "SELECT")
        everything, columns = False, []
        while True:
            if self._accept("symbol", "*"):
                everything = True
            else:
                expression = self._or()
                self._expect("keyword", "AS")
                columns.append((self._expect("word"), expression))
            if not self._accept("symbol", ","):
                break
        self._expect("keyword", "FROM")
        topic_filter = _string(self._expect("string"))
        condition = self._or() if self._accept("keyword", "WHERE") else None
        self._expect("end")
        return Statement(everything, tuple(columns), topic_filter, condition)

    def _or(self) -> Expression:
        left = self._and()
        while self._accept("keyword", "OR"):
            left = _either(left, self._and())
        return left

    def _and(self) -> Expression:
        left = self._not()
        while self._accept("keyword", "AND"):
            left = _both(left, self._not())
        return left

    def _not(self) -> Expression:
        if self._accept("keyword", "NOT"):
            return _negated(self._not())
        return self._comparison()

    def _comparison(self) -> Expression:
        left = self._primary()
        kind, text = self._tokens[self._at]
        if kind == "symbol" and text in COMPARISONS:
            self._at += 1
            return _compared(COMPARISONS[text], left, self._primary())
        return left

    def _primary(self) -> Expression:
        if self._accept("symbol", "("):
            inner = self._or()
            self._expect("symbol", ")")
            return inner
        kind, text = self._next()
        if kind == "string":
            return _constant(_string(text))
        if kind == "number":
            return _constant(float(text) if "." in text else int(text))
        if kind != "word":
            raise SqlError(f"expected a value, found {text or 'the end'!r}")
        if text.lower() in _CONSTANTS:
            return _constant(_CONSTANTS[text.lower()])
        if self._accept("symbol", "("):
            return self._call(text)
        path = [text]
        while self._accept("symbol", "."):
            path.append(self._expect("word"))
        return _path(tuple(path))

    def _call(self, name: str) -> Expression:
        arguments = []
        while not self._accept("symbol", ")"):
            arguments.append(self._or())
            if self._tokens[self._at] != ("symbol", ")"):
                self._expect("symbol", ",")
        build = _FUNCTIONS.get((name.lower(), len(arguments)))
        if build is None:
            raise SqlError(f"function {name} with {len(arguments)} arguments is not supported by the sandbox")
        return build(*arguments)

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _accept(self, kind: str, text: str) -> bool:
        if self._tokens[self._at] == (kind, text):
            self._at += 1
            return True
        return False

    def _expect(self, kind: str, text: str | None = None) -> str:
        found_kind, found = self._tokens[self._at]
        if found_kind != kind or (text is not None and found != text):
            raise SqlError(f"expected {text or kind}, found {found or 'the end'!r}")
        self._at += 1
        return found


_CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "null": None}


def _string(token: str) -> str:
    return token[1:-1].replace("''", "'")


def _constant(value: Any) -> Expression:
    return lambda _: value


def _path(parts: tuple[str, ...]) -> Expression:
    def evaluate(context: MessageContext) -> Any:
        value: Any = context.payload
        for part in parts:
            if not isinstance(value, Mapping) or part not in value:
                return UNDEFINED
            value = value[part]
        return value

    return evaluate


def _compared(compare: Callable[[Any, Any], bool], left: Expression, right: Expression) -> Expression:
    def evaluate(context: MessageContext) -> Any:
        one, other = left(context), right(context)
        if one is UNDEFINED or other is UNDEFINED:
            return UNDEFINED
        try:
            return compare(one, other)
        except TypeError:
            return UNDEFINED

    return evaluate


def _both(left: Expression, right: Expression) -> Expression:
    return lambda context: left(context) is True and right(context) is True


def _either(left: Expression, right: Expression) -> Expression:
    return lambda context: left(context) is True or right(context) is True


def _negated(inner: Expression) -> Expression:
    def evaluate(context: MessageContext) -> Any:
        value = inner(context)
        return (not value) if isinstance(value, bool) else UNDEFINED

    return evaluate


def _topic_level(level: Expression) -> Expression:
    def evaluate(context: MessageContext) -> Any:
        levels, index = context.topic.split("/"), level(context)
        return levels[index - 1] if isinstance(index, int) and 1 <= index <= len(levels) else UNDEFINED

    return evaluate


_FUNCTIONS: Mapping[tuple[str, int], Callable[..., Expression]] = {
    ("topic", 0): lambda: lambda context: context.topic,
    ("topic", 1): _topic_level,
    ("clientid", 0): lambda: lambda context: "n/a" if context.client_id is None else context.client_id,
    ("principal", 0): lambda: lambda context: UNDEFINED if context.principal is None else context.principal,
    ("timestamp", 0): lambda: lambda context: context.timestamp,
    ("isundefined", 1): lambda inner: lambda context: inner(context) is UNDEFINED,
}
