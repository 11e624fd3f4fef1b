"""Outputs for later jobs of a workflow: lines ``name=value`` for ``GITHUB_OUTPUT``, from the documents of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller.errors import CertfleetError
from controller.reconcile.planning import plan_from_json
from controller.reconcile.values import Plan

_ONE = r"--override [A-Za-z]+=[A-Za-z0-9:_,.-]+"
_OVERRIDE = re.compile(rf"{_ONE}(?: {_ONE})*")  # nothing else: a shell splits what it is given
_POLICY = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def of_plan(path: Path, resume: str = "") -> dict[str, Any]:
    """Return which fleets are applied at once (``apply``), and which after a review, with their overrides (``review``).

    A plan without jobs is applied too: that records what is governed. A fleet that no override helps is
    in neither. ``resume`` names a policy whose halted rollout was
    resumed by hand: all that it starts is for a review. Without a file both are empty. Raises CertfleetError.
    """
    if resume and _POLICY.fullmatch(resume) is None:
        raise CertfleetError(
            f"the input resume is {resume!r}, which is not a policy's name", "Start the run again with the name alone."
        )
    plans = _plans(path) if path.exists() else []
    apply, review = [], []
    for plan in plans:
        overrides = list(dict.fromkeys(refusal.override for refusal in plan.refusals))
        if resume:
            overrides.append(f"--override resume={resume}")
        if overrides and all(_OVERRIDE.fullmatch(override) for override in overrides):
            review.append({"fleet": plan.fleet, "overrides": " ".join(overrides)})
        elif not overrides:
            apply.append(plan.fleet)
    return {"apply": apply, "review": review}


def of_comparison(path: Path) -> dict[str, Any]:
    """Return how many devices newly rotate because of a pull request, and whether a guardrail refuses."""
    fleets = _json(path)["fleets"] if path.exists() else []
    return {
        "newly-due": sum(fleet["newly_due"] for fleet in fleets),
        "refused": any(fleet["refusals"] for fleet in fleets),
    }


def of_healing(path: Path) -> list[dict[str, str]]:
    """Return the fleets for which a healing plan has something to do, each with the overrides that this needs."""
    found = []
    for fleet in _json(path)["fleets"] if path.exists() else ():
        overrides = " ".join(refusal["override"] for refusal in fleet["refusals"])
        if fleet["actions"] and (not overrides or _OVERRIDE.fullmatch(overrides)):
            found.append({"fleet": str(fleet["fleet"]), "overrides": overrides})
    return found


def lines(values: dict[str, Any]) -> str:
    """Return the outputs as GitHub reads them; every value is one line of JSON."""
    return "".join(f"{name}={json.dumps(value)}\n" for name, value in values.items())


def _plans(path: Path) -> Sequence[Plan]:
    found = _json(path)
    return [plan_from_json(json.dumps(one)) for one in (found if isinstance(found, list) else [found])]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CertfleetError(f"{path} cannot be read: {error}", "Make it with certfleet in an earlier step.") from error
