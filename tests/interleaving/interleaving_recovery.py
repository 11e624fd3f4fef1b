"""Liveness: once every obstacle is gone, and people do what the commands print, each fleet gets into sync."""

from __future__ import annotations

import re

from interleaving_judge import Judge
from interleaving_world import World

from protocol.algorithms import KeyType
from protocol.names import AWS_IOT_AUTHORITY

ROUNDS = 30
OPEN_HOUR = 13  # of every day, by the windows that tests give
ROUNDS_BEFORE_HANDS = 12  # then a person gives those that were given up a new credential by hand


def recover(world: World, judge: Judge) -> None:
    """Take every obstacle away, then reconcile for days; tells the judge where the fleet does not get into sync."""
    _remove_obstacles(world)
    judge.forgive()
    overrides: list[str] = []
    for number in range(ROUNDS):
        if number == ROUNDS_BEFORE_HANDS:
            _replace_what_was_given_up(world, judge)
        outcome = world.apply(*(part for override in overrides for part in ("--override", override)))
        world.answer()
        _repair(world)
        if all(judge.is_in_sync(world.documents, name) for name in world.plant.holds):
            return
        overrides = printed_overrides(outcome.err, world.plan().out, world.run("drift", "--format", "json").out)
        world.pass_time(hours=(OPEN_HOUR - world.now().hour - 1) % 24 + 1)
    waiting = [name for name in world.plant.holds if not judge.is_in_sync(world.documents, name)]
    last = world.plan()
    told = last.json["waves"] if last.code in {0, 2, 3} else last.err
    judge.tell("every policy can finish", f"{', '.join(waiting)} wait; {told}; apply: {outcome.err}")


def printed_overrides(*texts: str) -> list[str]:
    """What refusals, halted waves and blocked devices tell a person to run with, once the cause is removed."""
    found = (match for text in texts for match in re.findall(r"--override ([\w-]+=[\w.-]+)", text))
    return list(dict.fromkeys(found))


def _remove_obstacles(world: World) -> None:
    documents = world.documents
    documents.waivers.clear()
    documents.incidents.clear()
    for spec in documents.policies.values():
        spec.pop("suspend", None)
        spec.pop("mode", None)
    world.commit(documents)
    world.plant.backend.issues = lambda asked: asked
    world.plant.backend.authorities["plant-ca"] = documents.arn
    world.plant.offline.clear()
    world.plant.failing.clear()
    for name in world.plant.holds:
        world.plant.connect(name)
    world.answer()
    _repair(world)


def _repair(world: World) -> None:
    """A person ends what was left half way and nobody asks for any more."""
    for name, held in world.plant.holds.items():
        if len(held) != 1 and world.plant.next_of(name) is None:
            world.plant.replace_by_hand(name, *_demanded(world, name))


def _replace_what_was_given_up(world: World, judge: Judge) -> None:
    for name in world.plant.holds:
        if not judge.is_in_sync(world.documents, name) and world.plant.next_of(name) is None and judge.failures[name]:
            world.plant.replace_by_hand(name, *_demanded(world, name))


def _demanded(world: World, name: str) -> tuple[KeyType, str]:
    documents, group = world.documents, world.plant.groups[name]
    certificate = next((s["certificate"] for s in documents.policies.values() if s["thingGroup"] == group), {})
    authority = certificate.get("authority", AWS_IOT_AUTHORITY)
    key = KeyType(certificate.get("keyType", KeyType.ECDSA_P256))
    return key, AWS_IOT_AUTHORITY if authority == AWS_IOT_AUTHORITY else documents.arn
