"""Plan files as someone edits them on purpose: the digest is computed anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from interleaving_world import World

from controller.reconcile.planning import plan_file

Edit = Callable[[dict[str, Any], World], None]


def edit(path: Path, change: Edit, world: World) -> Path:
    """A copy of the plan file with that change, and the right digest."""
    document = json.loads(path.read_text())
    document["commit"] = world.head.hash
    change(document, world)
    edited = path.with_suffix(f".edited-{world.runs}.json")
    given = plan_file._validate({name: value for name, value in document.items() if name != "format_version"})
    edited.write_text(plan_file.plan_to_json(replace(given, digest=plan_file.digest_of(given))))
    return edited


def as_it_is(_document: dict[str, Any], _world: World) -> None:
    """Only the commit is written anew."""


def deletes_a_foreign_group(document: dict[str, Any], _world: World) -> None:
    document["steps"] = [{"job_id": "foreign", "action": "remove-cohort", "reason": "x"}]


def cancels_another_job(document: dict[str, Any], world: World) -> None:
    for job_id in sorted(world.jobs())[:1]:
        document["steps"] = [{"job_id": job_id, "action": "cancel", "reason": "x"}]


def rotates_an_ungoverned_thing(document: dict[str, Any], world: World) -> None:
    if "stray" not in world.plant.holds:
        world.add_stray()
    for job in document["jobs"][:1]:
        job["devices"][0] |= {"name": "stray", "certificate_id": world.plant.holds["stray"][0].certificate_id}
        job |= {"target_kind": "things", "target_group": None}


def drops_the_refusals(document: dict[str, Any], _world: World) -> None:
    document["refusals"] = []


def is_made_today(document: dict[str, Any], world: World) -> None:
    document["created_at"] = world.now().isoformat()


EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        as_it_is,
        deletes_a_foreign_group,
        cancels_another_job,
        rotates_an_ungoverned_thing,
        drops_the_refusals,
        is_made_today,
    )
}
