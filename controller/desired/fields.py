"""The kinds of values that fields hold: each reads itself, shows what is allowed, and is a JSON Schema.

Used as ``Annotated[timedelta, DurationField(...)]`` in the models, so that a wrong value gives one
sentence of the same shape everywhere: what was found, what is allowed.
"""

from __future__ import annotations

import difflib
import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from controller.reconcile.values import WaveSize

MAX_TEXT = 500  # characters of a reason or an owner
_MAX_SHOWN = 80  # characters of a wrong value in a message
_MAX_LISTED = 20  # names in a message
_NEIGHBOURS = 20  # words compared on either side


def show(found: object) -> str:
    """Return a wrong value as a message quotes it: short, on one line."""
    match found:
        case bool():
            text = "true" if found else "false"
        case dict():
            text = "a mapping"
        case list():
            text = "a list"
        case _:
            text = repr(found)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"


def suggest(found: object, allowed: Sequence[str]) -> str:
    """Return ``; did you mean 'x'?`` if one of the allowed words is close, else nothing.

    If there are many words, only those are compared that sort next to ``found``, from the front or from the back.
    """
    word = str(found)[:_MAX_SHOWN]
    if len(allowed) > 2 * _NEIGHBOURS:
        allowed = [*_neighbours(word, allowed, str.casefold), *_neighbours(word, allowed, _backwards)]
    close = difflib.get_close_matches(word, allowed, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _neighbours(word: str, words: Sequence[str], key: Callable[[str], str]) -> Sequence[str]:
    ordered = _ordered(tuple(words), key)
    at = bisect_left(ordered, key(word), key=key)
    return ordered[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]


@lru_cache(maxsize=8)
def _ordered(words: tuple[str, ...], key: Callable[[str], str]) -> Sequence[str]:
    return sorted(words, key=key)


def _backwards(word: str) -> str:
    return word[::-1].casefold()


def listed(names: Sequence[str]) -> str:
    """Return names as a message lists them: of many names the first few, and how many more there are."""
    rest = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {rest:,} more" if rest > 0 else "")


class FieldKind(ABC):
    """One kind of value. ``read`` raises ValueError with what was found and what is allowed."""

    @abstractmethod
    def read(self, found: object) -> Any:
        """Return the value of a plain YAML value."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the YAML value."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """The allowed values, in a few words."""

    def wrong(self, found: object) -> ValueError:
        """Return the error for a value that is not allowed."""
        return ValueError(f"found {show(found)}; allowed: {self.allowed}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let pydantic read through this kind alone."""
        del source, handler
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Give pydantic this kind's schema."""
        del schema, handler
        return self.json_schema()


@dataclass(frozen=True)
class Whole(FieldKind):
    """A whole number between two bounds, both allowed."""

    minimum: int
    maximum: int

    @property
    def allowed(self) -> str:
        """The bounds."""
        return f"a whole number from {self.minimum} to {self.maximum}"

    def read(self, found: object) -> int:
        """Return the number; ValueError for anything else, text and ``true`` too."""
        if type(found) is not int or not self.minimum <= found <= self.maximum:
            raise self.wrong(found)
        return found

    def json_schema(self) -> dict[str, Any]:
        """Return an integer."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True)
class Percentage(FieldKind):
    """A percentage above 0 up to 100, with up to two decimals as AWS IoT Jobs takes them."""

    @property
    def allowed(self) -> str:
        """The bounds."""
        return "a number above 0 up to 100, with up to two decimals"

    def read(self, found: object) -> float:
        """Return the number."""
        if type(found) not in (int, float) or not 0 < float(str(found)) <= 100:  # noqa: PLR2004 - per cent
            raise self.wrong(found)
        number = float(str(found))
        if round(number, 2) != number:
            raise self.wrong(found)
        return number

    def json_schema(self) -> dict[str, Any]:
        """Return a number."""
        return {"type": "number", "exclusiveMinimum": 0, "maximum": 100}


@dataclass(frozen=True)
class Truth(FieldKind):
    """true or false."""

    @property
    def allowed(self) -> str:
        """Both."""
        return "true, false"

    def read(self, found: object) -> bool:
        """Return the truth value; ``yes`` is text in YAML 1.2."""
        if not isinstance(found, bool):
            raise self.wrong(found)
        return found

    def json_schema(self) -> dict[str, Any]:
        """Return a boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Pattern(FieldKind):
    """Text of a fixed form; ``form`` describes it in words."""

    pattern: str  # without anchors
    form: str
    examples: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The form."""
        return self.form

    def read(self, found: object) -> str:
        """Return the text; raises ValueError."""
        if not isinstance(found, str) or re.fullmatch(self.pattern, found, re.ASCII) is None:
            hint = " (put it in quotes)" if type(found) in (int, float) else ""
            raise ValueError(f"{self.wrong(found)}{hint}")
        return found

    def json_schema(self) -> dict[str, Any]:
        """Return a string with the pattern."""
        schema: dict[str, Any] = {"type": "string", "pattern": f"^(?:{self.pattern})$"}
        return schema | {"examples": list(self.examples)} if self.examples else schema


@dataclass(frozen=True)
class Text(FieldKind):
    """A sentence for people: one line, printable, not empty."""

    @property
    def allowed(self) -> str:
        """The bounds."""
        return f"one line of text, 1 to {MAX_TEXT} characters"

    def read(self, found: object) -> str:
        """Return the text without blanks around it."""
        if not isinstance(found, str) or not found.strip() or len(found) > MAX_TEXT or not found.strip().isprintable():
            raise self.wrong(found)
        return found.strip()

    def json_schema(self) -> dict[str, Any]:
        """Return a string."""
        return {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}


@dataclass(frozen=True)
class Choice(FieldKind):
    """One of an enumeration's values."""

    members: type[Enum]

    @property
    def names(self) -> list[str]:
        """The values, in the order of the enumeration."""
        return [str(member.value) for member in self.members]

    @property
    def allowed(self) -> str:
        """The values."""
        return ", ".join(self.names)

    def read(self, found: object) -> Enum:
        """Return the member, by exact value; raises ValueError."""
        if not isinstance(found, str) or found not in self.names:
            raise ValueError(f"{self.wrong(found)}{suggest(found, self.names)}")
        return self.members(found)

    def json_schema(self) -> dict[str, Any]:
        """Return the values."""
        return {"type": "string", "enum": self.names}


@dataclass(frozen=True)
class Wave(FieldKind):
    """A wave's cumulative size: a count such as ``"5"`` or a percentage such as ``"20%"``."""

    maximum: int = 1_000_000

    @property
    def allowed(self) -> str:
        """Both forms."""
        return f"a count of devices from 1 to {self.maximum}, or a whole percentage from 1% to 100%"

    def read(self, found: object) -> WaveSize:
        """Return the size; a bare number is a count."""
        text = str(found) if type(found) is int else found
        match = re.fullmatch(r"([1-9][0-9]{0,6})(%?)", text) if isinstance(text, str) else None
        if match is None or int(match[1]) > (100 if match[2] else self.maximum):
            raise self.wrong(found)
        return WaveSize(int(match[1]), is_percent=bool(match[2]))

    def json_schema(self) -> dict[str, Any]:
        """Return a string, or a bare count."""
        text = {"type": "string", "pattern": "^(?:[1-9][0-9]{0,6}|(?:[1-9][0-9]?|100)%)$"}
        return {"anyOf": [text, {"type": "integer", "minimum": 1, "maximum": self.maximum}]}
