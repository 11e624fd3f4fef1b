"""docs/report.schema.json, strictly: a field that it does not describe is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))


def strict(value: Any) -> Any:
    """The schema with every object closed: a field that it does not describe is then an error."""
    if isinstance(value, list):
        return [strict(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    closed = {key: strict(entry) for key, entry in value.items()}
    if isinstance(value.get("properties"), dict) and "required" in value:
        closed.setdefault("unevaluatedProperties", False)
    return closed


STRICT = jsonschema.Draft202012Validator(strict(SCHEMA))


def check(kind: str, value: Any) -> None:
    """Valid, described to the last field, and of that kind."""
    described = {**STRICT.schema, "oneOf": [{"$ref": f"#/$defs/{kind}"}]}
    jsonschema.Draft202012Validator(described).validate(value)
    STRICT.validate(value)
