"""Every history of a few steps in a small world: what can happen in any order, played from the beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any

from interleaving_cases import ABORT, made
from interleaving_edits import as_it_is, edit
from interleaving_plant import other_key
from interleaving_world import DAY, World, rule

Step = Callable[[World], Any]


def _plan_is_kept(world: World) -> None:
    world.plan("--plan", str(world.folder / "kept.json"))


def _kept_plan_is_applied(world: World) -> None:
    path = world.folder / "kept.json"
    if path.exists():
        world.apply("--plan", str(edit(path, as_it_is, world)))


def _first_is_waived(world: World) -> None:
    documents = world.documents
    expires = (world.now() + 300 * DAY).isoformat()
    documents.waivers["w"] = {"devices": ["line-a-1"], "owner": "o", "reason": "r", "expires": expires}
    world.commit(documents)


def _all_begin_to_fail(world: World) -> None:
    world.plant.failing ^= set(world.plant.holds)


def _first_falls_silent(world: World) -> None:
    world.plant.offline ^= {"line-a-1"}


def _backend_does_something_else(world: World) -> None:
    world.plant.backend.issues = other_key


def _cold_apply(world: World) -> None:
    world.forget()
    world.apply()


STEPS: dict[str, Step] = {
    "apply": lambda world: world.apply(),
    "apply without a cache": _cold_apply,
    "resume": lambda world: world.apply("--override", "resume=line-a"),
    "answer": lambda world: world.answer(),
    "one answers": lambda world: world.answer("line-a-2"),
    "one gets half way": lambda world: world.plant.begin("line-a-1"),
    "a day": lambda world: world.pass_time(hours=25),
    "a plan is kept": _plan_is_kept,
    "the kept plan is applied": _kept_plan_is_applied,
    "another key": lambda world: world.change("line-a", certificate=rule(keyType="ECDSA-P384")),
    "revert": lambda world: world.revert() if len(world.history) > 1 else None,
    "suspend": lambda world: world.change("line-a", suspend={"reason": "r", "until": "2030-01-01T00:00:00Z"}),
    "waive": _first_is_waived,
    "fail": _all_begin_to_fail,
    "silent": _first_falls_silent,
    "another backend": _backend_does_something_else,
    "by hand": lambda world: world.start_by_hand("line-a-1"),
}


def histories(length: int, steps: tuple[str, ...] = tuple(STEPS)) -> Iterator[tuple[str, ...]]:
    """Every history of that many steps that ends with a run; a step twice in a row is only a step."""
    for names in product(steps, repeat=length):
        if names[-1] in RUNS and all(a != b for a, b in pairwise(names)):
            yield names


RUNS = {"apply", "apply without a cache", "resume", "the kept plan is applied"}


def play(names: tuple[str, ...]) -> World:
    """A world after these steps, closed; its judge has watched."""
    world = made(3, rollout={"waves": ["2", "100%"], "abort": ABORT})
    try:
        for name in names:
            STEPS[name](world)
        world.answer()
        world.apply()
    finally:
        world.close()
    return world
