"""One YAML document to one model, with every mistake as a problem at its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controller.errors import Problem

from .fields import show, suggest
from .models import API_VERSION, KINDS, Document
from .yaml_documents import YamlDocument

_Path = tuple[str | int, ...]
_QUOTE = "'"


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A document that was read: its model is None if it has problems of its own."""

    yaml: YamlDocument
    kind: str
    name: str
    model: Document | None

    def problem(self, path: _Path, message: str) -> Problem:
        """Return a problem at this field, which the message names first; an empty path is the document."""
        return self.yaml.problem(path, f"{dotted(path)}: {message}" if path else message)


def read_document(document: YamlDocument) -> tuple[ReadDocument | None, list[Problem]]:
    """Check one document field by field. None if not even kind and name can be known."""
    problems = list(_envelope_problems(document))
    if problems:
        return None, problems
    value: Mapping[str, Any] = document.value
    model = KINDS[value["kind"]]
    found = None
    blanks = list(_blanks(value, ()))
    problems = [
        document.problem(path, f"{dotted(path)}: found nothing; allowed: a value, or no such key") for path in blanks
    ]
    try:
        found = model.model_validate(value)
    except ValidationError as error:
        problems += [
            _problem(document, model, detail)
            for detail in error.errors(include_url=False)
            if not set(blanks) & {detail["loc"], detail["loc"][:-1]} and not _is_echo(detail)
        ]
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    read = ReadDocument(document, value["kind"], name if isinstance(name, str) else "", None if problems else found)
    return read, problems


def dotted(path: _Path) -> str:
    """Return a path as messages write it: ``spec.schedule.windows[0].cron``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _envelope_problems(document: YamlDocument) -> Iterator[Problem]:
    """Yield what must hold before a model can be chosen."""
    value = document.value
    if not isinstance(value, dict):
        yield document.problem((), f"found {show(value)}; allowed: a mapping with apiVersion, kind, metadata and spec")
        return
    version, kind = value.get("apiVersion"), value.get("kind")
    if "apiVersion" not in value:
        yield document.problem((), f"apiVersion: missing; allowed: {API_VERSION}")
    elif version != API_VERSION:
        yield document.problem(("apiVersion",), f"apiVersion: found {show(version)}; allowed: {API_VERSION}")
    if "kind" not in value:
        yield document.problem((), f"kind: missing; allowed: {', '.join(KINDS)}")
    elif not isinstance(kind, str) or kind not in KINDS:
        message = f"kind: found {show(kind)}; allowed: {', '.join(KINDS)}{suggest(kind, list(KINDS))}"
        yield document.problem(("kind",), message)


def _blanks(value: Any, path: _Path) -> Iterator[_Path]:
    """Yield the paths of keys and items without a value: no field gives an empty value a meaning."""
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _blanks(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _blanks(inner, (*path, index))


def _problem(document: YamlDocument, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    """Return an error of pydantic as a problem in certfleet's words."""
    path = detail["loc"]
    return document.problem(path, f"{dotted(path)}: {_MESSAGES[detail['type']](model, detail)}")


def _is_echo(detail: ErrorDetails) -> bool:
    """Return whether pydantic calls a list too short only because its items, reported already, are wrong."""
    return detail["type"] == "too_short" and bool(detail["input"])


_MESSAGES: dict[str, Callable[[type[BaseModel], ErrorDetails], str]] = {
    "value_error": lambda _, detail: str(detail["ctx"]["error"]),
    "extra_forbidden": lambda model, detail: _unknown_key(model, detail["loc"]),
    "missing": lambda _, __: "missing",
    "model_type": lambda _, detail: f"found {show(detail['input'])}; allowed: a mapping",
    "tuple_type": lambda _, detail: f"found {show(detail['input'])}; allowed: a list",
    "too_short": lambda _, __: "found an empty list; allowed: at least one item",
    "too_long": lambda _, detail: f"found {len(detail['input'])} items; allowed: at most {detail['ctx']['max_length']}",
    "literal_error": lambda _, detail: (
        f"found {show(detail['input'])}; allowed: {detail['ctx']['expected'].strip(_QUOTE)}"
    ),
}
"""The find and the allowed values, for every error type that these models can meet."""


def _unknown_key(model: type[BaseModel], path: _Path) -> str:
    """Name the keys that are allowed where the unknown one stands."""
    keys = allowed_keys(model, path[:-1])
    return f"unknown key{suggest(path[-1], keys)}; allowed: {', '.join(keys)}"


def allowed_keys(model: type[BaseModel], path: _Path) -> list[str]:
    """Return the keys of the mapping at this path, as they are written."""
    for part in path:
        if isinstance(part, str):
            by_alias = {field.alias or name: field for name, field in model.model_fields.items()}
            model = nested_model(by_alias[part].annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def nested_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as ``tuple[WindowSpec, ...]`` or ``SuspendSpec | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = nested_model(inner)
        if found is not None:
            return found
    return None
