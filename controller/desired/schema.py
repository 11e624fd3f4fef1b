"""The JSON Schema of the documents, from the models, for editors and for other tools.

Draft 2020-12. One schema for every kind, chosen by ``kind`` through if/then rather than oneOf:
editors then complete and explain the one kind that is meant. A check of two fields, two documents
or the clock stands only in ``certfleet validate``.
"""

from __future__ import annotations

import json
from datetime import timedelta
from enum import Enum
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from controller.durations import format_duration
from controller.reconcile.values import WaveSize

from .examples import EXAMPLES
from .models import API_VERSION, KINDS
from .yaml_documents import parse_documents

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def yaml_value(value: Any) -> Any:
    """Return a default as YAML writes it: durations, sizes and names as text."""
    match value:
        case timedelta():
            return format_duration(value)
        case WaveSize():
            return str(value)
        case Enum():
            return value.value
        case BaseModel():
            return {}
        case tuple():
            return [yaml_value(each) for each in value]
        case _:
            return value


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Return a default as YAML writes it."""
        return yaml_value(dft)


def json_schema() -> dict[str, Any]:
    """Return one schema for all kinds."""
    kinds = list(KINDS)
    definitions: dict[str, Any] = {}
    for model in KINDS.values():
        schema = model.model_json_schema(schema_generator=_Generator)
        definitions |= schema.pop("$defs")
        schema["description"] = model.purpose
        (example,), _ = parse_documents(model.kind_name, EXAMPLES[model.kind_name].encode())
        schema["examples"] = [example.value]
        definitions[model.__name__] = schema
    choices = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"$ref": f"#/$defs/{model.__name__}"},
        }
        for kind, model in KINDS.items()
    ]
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "certfleet desired state",
        "description": "One document of the desired state.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION, "description": "Version of this format."},
            "kind": {"enum": kinds, "description": "Kind of the document."},
            "metadata": {"type": "object"},
            "spec": {"type": "object"},
        },
        "allOf": choices,
        "$defs": {name: _tidy(definitions[name]) for name in sorted(definitions)},
    }


def _tidy(schema: Any) -> Any:
    """Return the schema without pydantic's titles and nulls: a key without a value is an error here."""
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidy = {key: value for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    if "default" in tidy and tidy["default"] is None:
        del tidy["default"]
    inner = [each for each in tidy.get("anyOf", ()) if each != {"type": "null"}]
    if len(inner) == 1:
        del tidy["anyOf"]
        tidy = inner[0] | tidy
    return {key: _tidy(value) for key, value in tidy.items()}


def schema_text() -> str:
    """Return the schema as ``desired_state/schema.json`` holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
