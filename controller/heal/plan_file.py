"""A plan for healing as JSON: people review it; ``heal apply`` takes it as data and derives each action anew."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.errors import PlanError, RefusedError
from controller.reconcile.values import Fleet, Refusal, instant_text
from protocol.quarantine import Quarantined

from .facts import HealingWaits
from .rules import HealingAction, Kind, Untidy

FORMAT_VERSION = 1
VALID_FOR = timedelta(days=2)
MAX_BYTES = 64 * 1024 * 1024
_AGAIN = "make the plan again: certfleet heal plan --format json --output heal.json"


@dataclass(frozen=True, slots=True)
class HealPlan:
    """The actions in one account and region, and what is left to a person."""

    fleet: str
    account: str
    region: str
    endpoint: str
    created_at: datetime
    waits: HealingWaits
    actions: tuple[HealingAction, ...] = ()
    left: tuple[Untidy, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def to_value(plan: HealPlan) -> dict[str, Any]:
    """Return one plan as plain values, sealed by its digest."""
    body: dict[str, Any] = _adapter().dump_python(plan, mode="json")
    for action, shown in zip(plan.actions, body["actions"], strict=True):
        shown["way_back"] = action.way_back
    return {**body, "digest": _digest(plan)}


def read(path: Path) -> dict[str, HealPlan]:
    """Return the plans of a file, by fleet; PlanError if it is damaged, of another version, or edited."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PlanError(f"{path} has more than {MAX_BYTES:,} bytes: it is not a plan", _AGAIN)
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}", _AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{path} is not a plan: it is not JSON", _AGAIN) from error
    if not isinstance(body, dict) or body.get("kind") != "HealPlan" or body.get("format_version") != FORMAT_VERSION:
        raise PlanError(f"{path} is not a plan for healing of format_version {FORMAT_VERSION}", _AGAIN)
    plans = [_plan(one) for one in body.get("fleets", ())]
    return {plan.fleet: plan for plan in plans}


def require_permitted(plan: HealPlan, overrides: Collection[str]) -> None:
    """Raise RefusedError unless a person has repeated the override of every refusal, character by character."""
    for refusal in plan.refusals:
        if refusal.override.removeprefix("--override ") not in overrides:
            raise RefusedError(
                f"fleet {plan.fleet} is refused by {refusal.guardrail}: {refusal.message}; nothing was done",
                f"if it is meant: certfleet heal apply FILE {refusal.override}",
            )


def require_few(plan: HealPlan, there: Collection[Quarantined], most: int, overrides: Collection[str]) -> None:
    """Raise RefusedError if over ``most``, with those ``there``, would be in quarantine, unless overrides allow it."""
    new = (one for one in plan.actions if one.kind is Kind.QUARANTINE)
    meant = {(one.thing, "" if one.thing else one.certificate_id) for one in new}
    known = {(one.thing, one.certificate_id) for one in there}
    words = [one.removeprefix("quarantined=") for one in overrides if one.startswith("quarantined=")]
    allowed = max(most, *(int(one) for one in words if one.isdecimal()), 0)
    if meant - known and len(meant | known) > allowed:
        raise RefusedError(
            f"{len(meant | known)} would be in quarantine at the same time, {allowed} are allowed: others have been "
            "cut off since the plan was made; nothing was done",
            _AGAIN,
        )


def check(plan: HealPlan, fleet: Fleet, endpoint: str, now: datetime) -> None:
    """Raise PlanError unless the plan is for this account, region and endpoint, and is still good."""
    for what, planned, found in (
        ("account", plan.account, fleet.account),
        ("region", plan.region, fleet.region),
        ("endpoint", plan.endpoint, endpoint),
    ):
        if planned != found:
            raise PlanError(f"the plan is for {what} {planned}, this is {found}", _AGAIN)
    if not plan.created_at - timedelta(minutes=5) <= now <= plan.created_at + VALID_FOR:
        ends = instant_text(plan.created_at + VALID_FOR)
        raise PlanError(f"the plan is good from {instant_text(plan.created_at)} to {ends}", _AGAIN)


def _plan(body: Any) -> HealPlan:
    try:
        plain = {key: value for key, value in body.items() if key != "digest"}
        plain["actions"] = [{k: v for k, v in one.items() if k != "way_back"} for one in body["actions"]]
        plan = _adapter().validate_json(json.dumps(plain))
    except (ValidationError, KeyError, AttributeError, TypeError) as error:
        raise PlanError(f"the plan is damaged: {type(error).__name__}", _AGAIN) from error
    if body.get("digest") != _digest(plan):
        raise PlanError("the plan was changed after it was made: its digest is another", _AGAIN)
    return plan


def _digest(plan: HealPlan) -> str:
    return sha256(json.dumps(_adapter().dump_python(plan, mode="json"), sort_keys=True).encode()).hexdigest()


@cache
def _adapter() -> TypeAdapter[HealPlan]:
    return TypeAdapter(HealPlan)
