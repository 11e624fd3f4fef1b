"""The reference page of the desired state, from the models: ``docs/desired-state.md``."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .examples import EXAMPLES
from .fields import FieldKind
from .limits import DEFAULT_LIMITS
from .models import API_VERSION, KINDS, Document
from .schema import yaml_value
from .validation import nested_model

_LEFT_OUT = "Left out:"  # ends a field's description: what it means if a document does not give the field

_INTRODUCTION = f"""\
# Desired state: reference

This page is generated from the models in `controller/desired/models.py`; the JSON Schema in
`desired_state/schema.json` gives the same to editors. `desired_state/example/` is a whole example.

The desired state is a folder of YAML documents, each with `apiVersion: {API_VERSION}`, a `kind`, a
`metadata.name` and a `spec`. A file (`.yaml` or `.yml`) may hold several documents. One folder
holds one fleet; several fleets have folders side by side. Files and folders whose names start with a dot are left out.

- Unknown keys, keys without a value and keys that occur twice are errors. certfleet reports all errors at
  once, each with file, line, the value that was found and the values that are allowed.
- Durations are a whole number and a unit: `s`, `m`, `h`, `d` (24 hours) or `w`, such as `90d`.
- Instants are ISO 8601 with a zone, such as `2026-11-01T00:00:00Z`; a bare date means midnight in UTC.
- Plain words mean what they mean in YAML 1.2: `yes` is text, `true` is not. Aliases, anchors, tags and
  merge keys are refused, and so are symbolic links and submodules.
- A file has at most {DEFAULT_LIMITS.max_file_bytes // 1024} KiB, {DEFAULT_LIMITS.max_documents:,} documents and \
{DEFAULT_LIMITS.max_nodes:,} values; a desired state at most {DEFAULT_LIMITS.max_files:,} files and \
{DEFAULT_LIMITS.max_total_bytes // 1024 // 1024} MiB.
- Field paths are written with dots; `[]` stands for each item of a list.
"""

_ACROSS = """\
## Rules over several fields or documents

`certfleet validate` also refuses these, and names the line:

- a folder without exactly one Fleet, two documents of one kind and name, two fleets of one name or of
  one account and region;
- an authority that no document declares, or a CA outside the fleet's region;
- two policies with the same thing group and priority;
- a policy that demands nothing, a CSR algorithm without or against `keyType`, waves that do not
  increase to `100%`, a role outside the fleet's account;
- `renewBefore` so long, or jitter so wide, that a new certificate would be due at once;
- windows that leave no open time before a certificate must be replaced, with the numbers;
- a cutoff in the future, or an incident whose authority or key type a policy goes on demanding: new
  certificates would be rotated again and again;
- a waiver that has expired, or a quarantine that names nobody;
- a drill of a policy that does not exist, with more devices than its sample has, or with a deadline before `since`.
"""


def reference_markdown() -> str:
    """Return the whole page."""
    kinds = (line for model in KINDS.values() for line in _kind(model))
    return "\n".join((_INTRODUCTION, *kinds, _ACROSS)).rstrip() + "\n"


def _kind(model: type[Document]) -> Iterator[str]:
    yield f"## {model.kind_name}\n"
    yield f"{model.purpose}\n"
    yield f"```yaml\n{EXAMPLES[model.kind_name]}```\n"
    yield "| field | value | if left out | meaning |"
    yield "| --- | --- | --- | --- |"
    for path, field in _fields(model, ""):
        if path not in {"apiVersion", "kind"} and not _is_only_parent(field):
            meaning, _, left_out = (field.description or "").replace("|", "\\|").partition(_LEFT_OUT)
            missing = left_out.strip().rstrip(".") or _default(field)
            yield f"| `{path}` | {_allowed(field)} | {missing} | {meaning.strip()} |"
    yield ""


def _fields(model: type[BaseModel], parent: str) -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field with its dotted path, parents before their fields."""
    for name, field in model.model_fields.items():
        path = f"{parent}{field.alias or name}"
        yield path, field
        inner = nested_model(field.annotation)
        if inner is not None:
            yield from _fields(inner, f"{path}[]." if _is_list(field.annotation) else f"{path}.")


def _is_only_parent(field: FieldInfo) -> bool:
    """Return whether a field is a mapping that is required or has a default: then its own fields explain it."""
    return (
        nested_model(field.annotation) is not None
        and not _is_list(field.annotation)
        and (field.is_required() or isinstance(field.default, BaseModel))
    )


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def _allowed(field: FieldInfo) -> str:
    """Return the values that a field may have, in words."""
    kinds = list(_kinds_of(field.annotation, field.metadata))
    text = kinds[0].allowed if kinds else getattr(field.annotation, "__args__", ("",))[0]
    if nested_model(field.annotation) is not None:
        text = "mappings" if _is_list(field.annotation) else "a mapping"
    elif not kinds:
        text = f"`{text}`"
    return f"list of: {text}" if _is_list(field.annotation) else str(text)


def _kinds_of(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> Iterator[FieldKind]:
    """Yield the kinds of value inside an annotation."""
    yield from (each for each in metadata if isinstance(each, FieldKind))
    if hasattr(annotation, "__metadata__"):
        yield from _kinds_of(annotation.__origin__, annotation.__metadata__)
    elif get_origin(annotation) in {tuple, Union, types.UnionType}:
        for inner in get_args(annotation):
            yield from _kinds_of(inner)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = yaml_value(field.default)
    if value is None or value in ([], {}):
        raise ValueError(f"{field.alias}: its description must end with '{_LEFT_OUT} …'")
    if isinstance(value, list):
        return f"`[{', '.join(repr(each) for each in value)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
