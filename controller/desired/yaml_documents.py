"""YAML text to plain values that know their lines.

The parser's events are read one by one, so every bound holds before anything is built. A feature that the
language offers beyond documents is refused by name: aliases and anchors, tags, merge keys, keys
that are not text, the same key twice. Plain scalars mean what YAML 1.2's core schema defines, so
``yes`` and ``1:30`` are text; instants stay text and are read by the field that wants one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from controller.errors import Problem

from .limits import DEFAULT_LIMITS, Limits

_Path = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,3})?")
_CONSTANTS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    spelling: value
    for word, value in (("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
}


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One document: its value, and the place of each key and list item by path."""

    path: str
    value: Any
    places: dict[_Path, Place] = field(default_factory=dict)

    def place(self, path: _Path) -> Place:
        """Return the place of a field, or of its nearest enclosing field that stands in the document."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def problem(self, path: _Path, message: str) -> Problem:
        """Return a problem at this field, with its message."""
        place = self.place(path)
        return Problem(self.path, place.line, message, place.column)


class _RefusedError(Exception):
    """Reading a file ends here, for this reason."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


def parse_documents(
    path: str, data: bytes, limits: Limits = DEFAULT_LIMITS
) -> tuple[list[YamlDocument], list[Problem]]:
    """Read every document of one file; empty documents are left out.

    A syntax error or an exceeded limit ends the file: what came before is returned along with the
    problem. Never raises for any content.
    """
    if len(data) > limits.max_file_bytes:
        return [], [Problem(path, 1, f"the file has {len(data)} bytes; allowed: at most {limits.max_file_bytes}")]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return [], [Problem(path, line, f"found the byte 0x{data[error.start]:02x}; allowed: text in UTF-8")]
    builder = _Builder(path, limits)
    try:
        for event in _events(text):
            builder.take(event)
    except _RefusedError as error:
        builder.problems.append(Problem(path, error.place.line, str(error), error.place.column))
    except yaml.MarkedYAMLError as error:
        place = _place(error.problem_mark or error.context_mark)
        builder.problems.append(Problem(path, place.line, f"no valid YAML: {error.problem}", place.column))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        builder.problems.append(Problem(path, line, f"found the character {_code(error.character)}; allowed: text"))
    except (ValueError, OverflowError):  # PyYAML on escapes and version numbers beyond every range
        message = "no valid YAML: an escape or a number in a directive is out of range"
        builder.problems.append(Problem(path, builder.line, message))
    return builder.documents, builder.problems


def _events(text: str) -> Iterator[yaml.Event]:
    # The loader only parses here: nothing is constructed, so no tag can run anything.
    yield from yaml.parse(text, Loader=yaml.SafeLoader)


@dataclass
class _Open:
    """A mapping or list that is being read."""

    path: _Path
    value: dict[str, Any] | list[Any]
    key: str | None = None  # the key whose value comes next


class _Builder:
    """Takes the parser's events and builds documents, under the limits."""

    def __init__(self, path: str, limits: Limits) -> None:
        self.documents: list[YamlDocument] = []
        self.problems: list[Problem] = []
        self.line = 1
        self._path = path
        self._limits = limits
        self._nodes = 0
        self._open: list[_Open] = []
        self._document = YamlDocument(path, None)

    def take(self, event: yaml.Event) -> None:
        """Go on by one event; _RefusedError if the file must not be read further."""
        self.line = _place(event.start_mark).line
        match event:
            case yaml.DocumentStartEvent():
                self._start_document(event)
            case yaml.DocumentEndEvent():
                if self._document.value is not None:
                    self.documents.append(self._document)
            case yaml.AliasEvent():
                self._refuse(f"found the alias *{event.anchor}; aliases are not supported: write the value out", event)
            case yaml.ScalarEvent():
                self._check_node(event)
                self._take_scalar(event)
            case yaml.MappingStartEvent():
                self._check_node(event)
                self._enter({}, event)
            case yaml.SequenceStartEvent():
                self._check_node(event)
                self._enter([], event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()

    def _start_document(self, event: yaml.Event) -> None:
        if len(self.documents) >= self._limits.max_documents:
            self._refuse(f"more than {self._limits.max_documents} documents; split the file", event)
        self._document = YamlDocument(self._path, None, {(): _place(event.start_mark)})

    def _check_node(self, event: yaml.NodeEvent) -> None:
        self._nodes += 1
        if self._nodes > self._limits.max_nodes:
            self._refuse(f"more than {self._limits.max_nodes} values; split the file", event)
        if event.anchor is not None:
            self._refuse(f"found the anchor &{event.anchor}; anchors are not supported: write the value out", event)
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._refuse(f"found the tag {tag!r}; tags are not supported: write the plain value", event)

    def _take_scalar(self, event: yaml.ScalarEvent) -> None:
        text = event.value
        if len(text) > self._limits.max_scalar:
            self._refuse(f"a text of {len(text)} characters; allowed: at most {self._limits.max_scalar}", event)
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            self._refuse("found half a surrogate pair; allowed: text", event)
        if self._wants_key():
            self._take_key(text, event)
        else:
            self._put(_scalar(text) if event.implicit[0] else text, event)

    def _wants_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _take_key(self, text: str, event: yaml.ScalarEvent) -> None:
        mapping = self._open[-1]
        if event.implicit[0] and not isinstance(_scalar(text), str):
            self._refuse(f"found the key {text or 'null'!r}; allowed: keys that are text", event)
        if text == "<<":
            self._refuse("found the merge key <<; merging is not supported: write the keys out", event)
        path = (*mapping.path, text)
        if text in mapping.value:
            first = self._document.places[path].line
            place = _place(event.start_mark)
            message = f"the key {text!r} stands twice, first in line {first}"
            self.problems.append(Problem(self._path, place.line, message, place.column))
        else:
            self._document.places[path] = _place(event.start_mark)
        mapping.key = text

    def _enter(self, value: dict[str, Any] | list[Any], event: yaml.NodeEvent) -> None:
        if self._wants_key():
            self._refuse("found a mapping or list as a key; allowed: keys that are text", event)
        if len(self._open) >= self._limits.max_depth:
            self._refuse(f"more than {self._limits.max_depth} levels of mappings and lists", event)
        self._open.append(_Open(self._put(value, event), value))

    def _put(self, value: Any, event: yaml.NodeEvent) -> _Path:
        """Store a value where it belongs; returns its path."""
        place = _place(event.start_mark)
        if not self._open:
            self._document = YamlDocument(self._path, value, {(): place})
            return ()
        parent = self._open[-1]
        if isinstance(parent.value, list):
            path = (*parent.path, len(parent.value))
            self._document.places[path] = place
            parent.value.append(value)
            return path
        key, parent.key = parent.key, None
        path = (*parent.path, str(key))
        parent.value.setdefault(str(key), value)
        return path

    def _refuse(self, message: str, event: yaml.Event) -> NoReturn:
        raise _RefusedError(message, _place(event.start_mark))


def _scalar(text: str) -> object:
    """Return a plain scalar's value by YAML 1.2's core schema; numbers beyond reason stay text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text


def _place(mark: Any) -> Place:  # a Mark of either of PyYAML's parsers, or None
    return Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)


def _code(character: object) -> str:
    """Return a character as ``U+0007``, from the number or the character that PyYAML reports."""
    number = character if isinstance(character, int) else ord(str(character)[0])
    return f"U+{number:04X}"
