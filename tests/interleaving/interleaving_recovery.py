"""Liveness: once every obstacle is gone, and people do what the commands print, each fleet gets into sync."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import partial

from interleaving_world import DAY, World

from protocol.algorithms import KeyType
from protocol.names import AWS_IOT_AUTHORITY

ROUNDS = 30
ROUNDS_BUT_ONE = 15  # of days, while one device stays as it is
TRIES = 15  # until a device that fails is given up, and more
MAX_AGE = 90 * DAY  # of every policy
OPEN_HOUR = 13  # of every day, by the windows that tests give
ROUNDS_BEFORE_HANDS = 12  # then a person gives those that were given up a new credential by hand


def everything_is_mended(world: World) -> None:
    """Take every obstacle away, then reconcile for days; tells the judge where the fleet does not get into sync."""
    _remove_obstacles(world, failing=())
    _reconcile_until_in_sync(world, hands_after=ROUNDS_BEFORE_HANDS)


def an_outage_is_over(world: World) -> None:
    """What stood still by itself goes on by itself: a person may let a rollout go on, and does nothing for a device."""
    _remove_obstacles(world, failing=())
    _reconcile_until_in_sync(world, is_for_devices=False)


def one_fails_for_ever(world: World, see_to_it: Callable[[World, str], None]) -> None:
    """One device goes on failing until it is given up; a person does what is printed: all others get into sync."""
    groups = {spec["thingGroup"] for spec in world.documents.policies.values()}
    governed = {name for name in world.plant.holds if world.plant.groups[name] in groups}
    if not governed:
        return
    device = min(governed & world.plant.failing or governed)
    _remove_obstacles(world, failing={device})
    _until_it_is_given_up(world, device)
    see_to_it(world, device)
    _reconcile_until_in_sync(world, but={device})


def _until_it_is_given_up(world: World, device: str) -> None:
    """Reconcile until it is not tried any more for what failed; whoever is not due yet, comes to be.

    Once a round passes in which it was not asked, a person resumes as well what only waits for others.
    """
    if world.judge.is_in_sync(world.documents, device):
        world.pass_time(days=max(0, (world.plant.holds[device][-1].not_before + MAX_AGE - world.now()).days))
    is_stuck = False
    for _ in range(TRIES):
        before = world.judge.failures[device]
        _wait_for_the_open_hour(world, days=2)
        world.apply(*_given(_asked_overrides(world, {"halted", "unhealthy"} if is_stuck else {"halted"})))
        world.answer()
        is_stuck = before == world.judge.failures[device]
        if is_stuck and _is_given_up(world, device):
            return


def _is_given_up(world: World, device: str) -> bool:
    explained = world.run("explain", device, "--format", "json").json
    return "RepeatedlyFailed" in {finding["reason"] for finding in explained["findings"]}


def _waived(world: World, device: str) -> None:
    documents = world.documents
    expires = (world.now() + 300 * DAY).isoformat()
    documents.waivers["given-up"] = {"devices": [device], "owner": "o", "reason": "r", "expires": expires}
    world.commit(documents)


def _replaced(world: World, device: str) -> None:
    world.pass_time(seconds=1)  # after what made it necessary
    world.plant.replace_by_hand(device, *_demanded(world, device))


def _resumed(world: World, device: str) -> None:
    group = world.plant.groups[device]
    world.pass_time(seconds=1)  # after what made it necessary
    for name, spec in world.documents.policies.items():
        if spec["thingGroup"] == group:
            _apply_as_printed(world, f"resume={name}")


def _apply_as_printed(world: World, *overrides: str) -> None:
    """With these, and with what the refusal prints if something else is needed besides."""
    refused = printed_overrides(world.apply(*_given(overrides)).err)
    if refused:
        world.apply(*_given([*overrides, *refused]))


REMEDIES: dict[str, Callable[[World], None]] = {
    "everything is mended": everything_is_mended,
    "waived": partial(one_fails_for_ever, see_to_it=_waived),
    "replaced by hand": partial(one_fails_for_ever, see_to_it=_replaced),
    "resumed": partial(one_fails_for_ever, see_to_it=_resumed),
}


def _reconcile_until_in_sync(
    world: World, *, but: Collection[str] = (), hands_after: int | None = None, is_for_devices: bool = True
) -> None:
    """``but`` these; from round ``hands_after`` on a person gives a credential by hand to who was given up.

    ``is_for_devices``: whether a person does what is printed for a single device.
    """
    world.judge.forgive()
    overrides: list[str] = []
    for number in range(ROUNDS_BUT_ONE if but else ROUNDS):
        if number == hands_after:
            _replace_what_was_given_up(world)
        outcome = world.apply(*_given(overrides))
        world.answer()
        _repair(world)
        waiting = [name for name in world.plant.holds if not world.judge.is_in_sync(world.documents, name)]
        if set(waiting) <= set(but):
            return
        overrides = printed_overrides(outcome.err, world.plan().out, world.run("drift", "--format", "json").out)
        if not is_for_devices:
            overrides = [each for each in overrides if not each.startswith("again=")]
        if but:
            overrides = [each for each in overrides if _is_of_others(each, but)] + _asked_overrides(world)
        _wait_for_the_open_hour(world)
    last = world.plan()
    told = last.json["waves"] if last.code in {0, 2, 3} else last.err
    world.judge.tell("every policy can finish", f"{', '.join(waiting)} wait; {told}; apply: {outcome.err}")


def _wait_for_the_open_hour(world: World, days: int = 1) -> None:
    world.pass_time(days=days - 1, hours=(OPEN_HOUR - world.now().hour - 1) % 24 + 1)


def printed_overrides(*texts: str) -> list[str]:
    """What refusals, halted waves and blocked devices tell a person to run with, once the cause is removed."""
    found = (match for text in texts for match in re.findall(r"--override ([\w-]+=[\w.-]+)", text))
    return list(dict.fromkeys(found))


def _is_of_others(override: str, but: Collection[str]) -> bool:
    """Whether it does nothing for the devices that go on failing: whom they hold up must not need that."""
    name, _, value = override.partition("=")
    return name != "resume" and not (name == "again" and value in but)


def _asked_overrides(world: World, stuck: Collection[str] = ("halted",)) -> list[str]:
    """What a rollout prints that has stopped so, and a guardrail; others go on by themselves."""
    plan = world.plan()
    if plan.code not in {0, 2, 3}:
        return []
    halted = [wave["remedy"] for wave in plan.json["waves"] if wave["status"] in stuck]
    return printed_overrides(*halted, *(refusal["override"] for refusal in plan.json["refusals"]))


def _given(overrides: Iterable[str]) -> list[str]:
    return [part for override in overrides for part in ("--override", override)]


def _remove_obstacles(world: World, failing: Collection[str]) -> None:
    documents = world.documents
    documents.waivers.clear()
    documents.incidents.clear()
    documents.quarantines.clear()
    for spec in documents.policies.values():
        spec.pop("suspend", None)
        spec.pop("mode", None)
    world.commit(documents)
    world.plant.backend.issues = lambda asked: asked
    world.plant.backend.authorities["plant-ca"] = documents.arn
    world.plant.offline.clear()
    world.plant.failing = set(failing)
    for name in world.plant.holds:
        world.plant.connect(name)
    world.answer()
    _repair(world)


def _repair(world: World) -> None:
    """A person ends what was left half way and nobody asks for any more, and replaces what has expired."""
    for name, held in world.plant.holds.items():
        is_over = len(held) != 1 or held[0].not_after <= world.now()
        if is_over and world.plant.next_of(name) is None:
            world.plant.replace_by_hand(name, *_demanded(world, name))


def _replace_what_was_given_up(world: World) -> None:
    judge = world.judge
    for name in world.plant.holds:
        if not judge.is_in_sync(world.documents, name) and world.plant.next_of(name) is None and judge.failures[name]:
            world.plant.replace_by_hand(name, *_demanded(world, name))


def _demanded(world: World, name: str) -> tuple[KeyType, str]:
    documents, group = world.documents, world.plant.groups[name]
    certificate = next((s["certificate"] for s in documents.policies.values() if s["thingGroup"] == group), {})
    authority = certificate.get("authority", AWS_IOT_AUTHORITY)
    key = KeyType(certificate.get("keyType", KeyType.ECDSA_P256))
    return key, AWS_IOT_AUTHORITY if authority == AWS_IOT_AUTHORITY else documents.arn
