"""Plans as JSON: versioned, canonical, checked when read.

Equal plans are equal text. A plan file may have been edited or cut off: reading one checks its
shape, its version and its digest, and raises PlanError that says which.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.errors import PlanError
from controller.reconcile.values import FORMAT_VERSION, Plan

from .plan_digest import digest_of

MAX_PLAN_BYTES = 1024 * 1024 * 1024  # of a file, and of a plan in it; a million devices take about 300 MB

_ADAPTER = TypeAdapter(Plan)
_AGAIN = "make the plan again: certfleet plan --format json --output plan.json"


def plan_to_json(plan: Plan) -> str:
    """The file's text, with a newline at its end."""
    body = {"format_version": FORMAT_VERSION, **_ADAPTER.dump_python(plan, mode="json")}
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def plan_from_json(text: str | bytes) -> Plan:
    """Read a plan file; PlanError where it is damaged, of a newer version, or changed since it was made."""
    if len(text) > MAX_PLAN_BYTES:
        raise PlanError(f"the plan is {len(text):,} long, at most {MAX_PLAN_BYTES:,} are read", _AGAIN)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the plan is no JSON: {error}", _AGAIN) from error
    version = body.get("format_version") if isinstance(body, dict) else None
    if version != FORMAT_VERSION:
        raise PlanError(
            f"the plan has format_version {version!r}, this certfleet reads {FORMAT_VERSION}",
            "apply it with the certfleet that made it, or " + _AGAIN,
        )
    plan = _validate({key: value for key, value in body.items() if key != "format_version"})
    expected = digest_of(plan)
    if plan.digest != expected:
        raise PlanError(
            f"the plan says it has digest {plan.digest[:16]}, its contents have {expected[:16]}: "
            "it was changed after it was made",
            _AGAIN,
        )
    return plan


def _validate(body: dict[str, Any]) -> Plan:
    try:
        return _ADAPTER.validate_json(json.dumps(body))
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise PlanError(f"the plan is damaged at {where}: {first['msg']}", _AGAIN) from error
