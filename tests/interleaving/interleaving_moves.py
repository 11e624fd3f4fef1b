"""Everything that can happen to a fleet: each a move, in families of moves that have to do with one another.

The machine plays them by chance, a small world plays a few of them in every order, and a history names them one
after another. ``choices`` of a move are the values that each of its parameters may have.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from interleaving_aws import Call, Killed, Turns
from interleaving_edits import EDITS, edit
from interleaving_judge import Judge
from interleaving_plant import other_authority, other_key
from interleaving_preview import what_a_preview_of_a_change_tells_happens, what_a_preview_tells_happens
from interleaving_world import ARNS, DAY, Documents, World, devices, policy

from protocol.algorithms import KeyType

Step = Callable[[World], Any]

FAMILIES = ("waves", "given up", "plans", "git", "silence", "backend", "at once")
ABORT = [{"failureType": "FAILED", "thresholdPercentage": 25, "minNumberOfExecutedThings": 2}]
WINDOW = {"cron": "0 12 * * *", "timezone": "UTC", "duration": "4h", "kind": "allow"}
NO_WINDOW = {"cron": "0 8 * * *", "timezone": "UTC", "duration": "5h", "kind": "deny"}
WAVES = (["1", "100%"], ["100%"], ["2", "100%"], ["1", "50%", "100%"])
CACHES = ("ci", "function", "cold", "old", "foreign", "damaged")
CALLS = range(31)  # AWS calls of a run: about twenty, where it makes a job
MOST_DEVICES = 9
PLACES = range(MOST_DEVICES)  # in a list, which may be shorter
MEANWHILE: dict[str, Step] = {
    "nothing": lambda world: None,
    "a device answers": lambda world: world.answer(_device(world, 0)),
    "a person starts a job": lambda world: world.start_by_hand(_device(world, 1)),
    "a day passes": lambda world: world.pass_time(days=1),
    "a window closes": lambda world: world.pass_time(hours=4),
}
BACKENDS = {"another key": other_key, "another authority": other_authority, "nothing": lambda _asked: None}


@dataclass(frozen=True)
class Move:
    """One kind of thing that happens."""

    act: Callable[..., Any]
    families: frozenset[str]
    choices: dict[str, Sequence[Any]]

    def is_in(self, family: str) -> bool:
        """Whether it is played in that family; the empty name is all of them."""
        return not family or not self.families or family in self.families


MOVES: dict[str, Move] = {}


def move(*families: str, **choices: Sequence[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as a move of these families; of all, where none is named."""

    def enter(act: Callable[..., Any]) -> Callable[..., Any]:
        MOVES[act.__name__] = Move(act, frozenset(families), choices)
        return act

    return enter


def made(count: int = 4, **spec: Any) -> World:
    """A world of that many devices alike under one policy, and its judge."""
    age = spec.pop("age", 100 * DAY)
    more = {name: spec.pop(name) for name in ("key", "authority") if name in spec}
    guardrails = {"maxChangePercent": spec.pop("maxChangePercent", 100), "minExisting": 4}
    world = World(Documents({"line-a": policy(**spec)}, guardrails=guardrails))
    world.judge = Judge(world)
    devices(world, count, age=age, **more)
    return world


def told(history: Sequence[Step]) -> str:
    """A history as its reader wants it."""
    return ", ".join(_told(step) for step in history)


def _told(step: Step) -> str:
    given = getattr(step, "keywords", {})
    name = getattr(step, "func", step).__name__
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" if given else name


# time, and what devices do


@move("waves", "silence", minutes=(5, 20))
def minutes_pass(world: World, minutes: int = 5) -> None:
    world.pass_time(minutes=minutes)


@move("plans", "waves", "git", hours=(3, 2))
def hours_pass(world: World, hours: int = 3) -> None:
    world.pass_time(hours=hours)


@move(hours=(25, 40, 72))
def days_pass(world: World, hours: int = 25) -> None:
    world.pass_time(hours=hours)


@move("plans", "git", "given up", days=(40, 20))
def weeks_pass(world: World, days: int = 40) -> None:
    world.pass_time(days=days)


@move()
def devices_answer(world: World) -> None:
    world.answer()


@move("silence", "waves", at=PLACES)
def one_device_answers(world: World, at: int = 0) -> None:
    world.answer(_device(world, at))


@move("silence", "at once", "backend", at=PLACES)
def a_device_gets_half_way(world: World, at: int = 0) -> None:
    name = _device(world, at)
    if name not in world.plant.offline:
        world.plant.begin(name)


@move("waves", "silence", at=PLACES)
def a_device_fails(world: World, at: int = 0) -> None:
    world.plant.fail(_device(world, at))


@move("silence", at=PLACES)
def a_device_goes_offline_or_returns(world: World, at: int = 0) -> None:
    name, plant = _device(world, at), world.plant
    if name in plant.offline:
        plant.offline.remove(name)
        plant.connect(name)
    else:
        plant.offline.add(name)
        plant.disconnect(name)


@move("waves", "given up", "plans")
def devices_begin_to_fail_or_cease_to(world: World) -> None:
    world.plant.failing ^= set(world.plant.holds)


@move("waves", "given up", at=PLACES)
def a_device_begins_to_fail_or_ceases_to(world: World, at: int = 0) -> None:
    world.plant.failing ^= {_device(world, at)}


@move("waves", "given up", "silence", at=PLACES)
def a_device_gets_a_credential_by_hand(world: World, at: int = 0) -> None:
    name, plant = _device(world, at), world.plant
    plant.replace_by_hand(name, plant.holds[name][0].key_type, plant.holds[name][0].authority)
    for policy_name, spec in world.head.documents.policies.items():
        if spec["thingGroup"] == plant.groups[name]:
            world.judge.forgive(policy_name)


@move("plans", "at once", age=(100, 10, 89.5))
def a_device_is_new(world: World, age: float = 100) -> None:
    """Under a name that nobody has: it may be that of one that has left."""
    holds = world.plant.holds
    if len(holds) < MOST_DEVICES:
        name = next(name for n in itertools.count(1) if (name := f"line-a-{n}") not in holds)
        world.plant.add(name, "line-a", age=age * DAY, key=KeyType.ECDSA_P256)


@move("plans", "silence", "waves", at=PLACES)
def a_device_leaves_the_fleet(world: World, at: int = 0) -> None:
    if len(world.plant.holds) > 2:
        name = _device(world, at)
        world.plant.remove(name)
        world.judge.has_left(name)


@move("silence", "waves", at=PLACES)
def a_device_is_known_to_be_away_for_long(world: World, at: int = 0) -> None:
    """As months of looks would have it: five times it was away for 300 days."""
    gone = range(3_000, 0, -300)
    known = json.dumps([int((world.now() - days * DAY).timestamp()) for days in gone])
    for path in (world.cache("ci"), world.cache("function")):
        if path.exists():
            with closing(sqlite3.connect(path)) as inventory, inventory:
                row = (known, world.now().timestamp(), _device(world, at))
                inventory.execute("UPDATE things SET absences = ?, absences_at = ? WHERE name = ?", row)


@move("git", "silence", "waves", at=PLACES)
def a_device_goes_to_the_other_group(world: World, at: int = 0) -> None:
    """From line-a to line-b, or back; no policy may govern that."""
    name = _device(world, at)
    world.plant.move(name, "line-b" if world.plant.groups[name] == "line-a" else "line-a")
    world.judge.has_left(name)


# runs of the controller


@move(cache=CACHES)
def apply_runs(world: World, cache: str = "ci") -> None:
    world.apply(cache=world.with_cache(cache))


@move()
def a_day_of_the_loop(world: World) -> None:
    world.apply()
    world.answer()
    world.pass_time(hours=25)


@move("waves")
def apply_waits(world: World) -> None:
    world.apply("--wait", "--timeout", "30m")


@move("waves")
def plan_runs(world: World) -> None:
    world.plan()


@move("plans")
def plan_is_kept(world: World) -> None:
    path = world.folder / f"plan-{len(world.plans)}.json"
    if world.plan("--plan", str(path)).code in {0, 2, 3}:
        world.plans.append((path, world.head))


@move("plans", at=PLACES)
def kept_plan_is_applied(world: World, at: int = 0) -> None:
    """As it was made, at its own commit."""
    if world.plans:
        path, commit = _pick(world.plans, at)
        world.apply("--plan", str(path), commit=commit)


@move("plans", how=sorted(EDITS), at=PLACES)
def edited_plan_is_applied(world: World, how: str = "as_it_is", at: int = 0) -> None:
    if world.plans:
        world.apply("--plan", str(edit(_pick(world.plans, at)[0], EDITS[how], world)))


@move("waves", "git", "silence", "backend", "given up")
def what_the_preview_told_happens(world: World) -> None:
    what_a_preview_tells_happens(world)


@move("git")
def what_the_preview_of_the_change_told_happens(world: World) -> None:
    what_a_preview_of_a_change_tells_happens(world)


@move("waves", days=(60, 400))
def a_question_about_another_time(world: World, days: int = 60) -> None:
    later = (world.now() + days * DAY).isoformat()
    world.run("explain", min(world.plant.holds), "--now", later)


@move("at once", number=range(1, 31), after=(False, True))
def apply_is_killed(world: World, number: int = 20, after: bool = False) -> None:
    """``number`` calls are answered; the last of them may be carried out unheard."""
    left, when = [number], "after" if after else "before"
    heard = getattr(world.aws, when)

    def count(call: Call, *answer: Any) -> None:
        heard(call, *answer)
        left[0] -= 1
        if left[0] <= 0:
            raise Killed

    setattr(world.aws, when, count)
    try:
        world.apply()
    except Killed:
        pass
    finally:
        setattr(world.aws, when, heard)


@move("at once", number=range(1, 9))
def an_answer_is_lost(world: World, number: int = 1) -> None:
    """The n-th change is carried out, its answer is lost, and botocore asks again."""
    left = [number]

    def is_lost(call: Call) -> bool:
        left[0] -= call.changes
        return call.changes and left[0] == 0

    world.aws.lose_next = is_lost
    world.apply()
    world.aws.lose_next = lambda _call: False


@move("at once", first=CALLS, second=CALLS, meanwhile=sorted(MEANWHILE), first_ends_first=(True, False))
def two_runs_at_once(
    world: World,
    first: int = 1,
    second: int = 1,
    meanwhile: str = "nothing",
    first_ends_first: bool = True,
) -> None:
    """One makes so many calls, something happens, the other makes so many; then both go on to the end."""
    ci, function = (Turns(lambda cache=cache: world.apply(cache=cache)) for cache in ("ci", "function"))
    for _ in range(first):
        ci.step()
    if meanwhile == "a window closes" and ci.waits_at == "CreateJob":
        ci.step()  # what AWS is being asked cannot be taken back
    MEANWHILE[meanwhile](world)
    for _ in range(second):
        function.step()
    for run in (ci, function) if first_ends_first else (function, ci):
        run.finish()


# people


@move("waves", "given up", "backend")
def a_person_resumes(world: World) -> None:
    world.pass_time(seconds=1)  # after what made it necessary
    world.apply("--override", f"resume={_policy(world)}")


@move("waves", "given up", "silence", "plans", at=PLACES)
def a_person_waives_a_device(world: World, at: int = 0) -> None:
    documents, device = world.documents, _device(world, at)
    expires = (world.now() + 300 * DAY).isoformat()
    documents.waivers[f"for-{device}"] = {"devices": [device], "owner": "o", "reason": "r", "expires": expires}
    world.commit(documents)
    world.judge.forgive()


@move("silence", "git", at=PLACES)
def a_device_is_quarantined_or_no_longer(world: World, at: int = 0) -> None:
    documents = world.documents
    if documents.quarantines.pop("theft", None) is None:
        since, device = world.now().isoformat(), _device(world, at)
        documents.quarantines["theft"] = {"devices": [device], "owner": "o", "reason": "r", "since": since}
    world.commit(documents)
    world.judge.forgive()


@move("given up", "silence")
def a_person_ends_the_waiver(world: World) -> None:
    documents = world.documents
    documents.waivers.clear()
    world.commit(documents)


@move("plans", "git", "silence", field=("suspend", "mode", "neither"))
def a_policy_rests_or_goes_on(world: World, field: str = "suspend") -> None:
    until = (world.now() + 20 * DAY).isoformat()
    values = {"suspend": {"reason": "r", "until": until}, "mode": "report"}
    world.change(_policy(world), **{name: value if name == field else None for name, value in values.items()})


@move("git", "backend", "silence", key=("ECDSA-P384", "ECDSA-P256"))
def the_key_type_changes(world: World, key: str = "ECDSA-P384") -> None:
    _demand(world, keyType=key)


@move("git", "backend", authority=("plant-ca", "aws-iot"))
def the_authority_changes(world: World, authority: str = "plant-ca") -> None:
    _demand(world, authority=authority)


@move("git", "waves")
def what_was_issued_before_now_is_to_be_replaced(world: World) -> None:
    _demand(world, rotateIssuedBefore=world.now().isoformat())


@move("git", waves=WAVES)
def the_waves_change(world: World, waves: Sequence[str] = WAVES[0]) -> None:
    spec = world.documents.policies[_policy(world)]
    world.change(_policy(world), rollout=spec["rollout"] | {"waves": waves})


@move("git", "plans", windows=([WINDOW], [], [NO_WINDOW]))
def the_windows_change(world: World, windows: Sequence[Any] = (WINDOW,)) -> None:
    spec = world.documents.policies[_policy(world)]
    world.change(_policy(world), schedule=spec["schedule"] | {"windows": list(windows)})


@move("git", "silence")
def another_policy_governs_the_other_group(world: World) -> None:
    """Or does no longer."""
    documents = world.documents
    if documents.policies.pop("line-b", None) is None:
        documents.policies["line-b"] = policy("line-b", rollout={"waves": ["100%"]})
    world.commit(documents)


@move("git")
def the_policy_is_renamed(world: World) -> None:
    documents, name = world.documents, _policy(world)
    documents.policies["line-c" if name == "line-a" else "line-a"] = documents.policies.pop(name)
    world.commit(documents)


@move("git")
def a_commit_is_reverted(world: World) -> None:
    if len(world.history) > 1:
        world.revert()


@move("git", at=PLACES)
def an_older_commit_is_applied(world: World, at: int = 0) -> None:
    world.apply(commit=_pick(world.history, at))


@move("git", "silence", days=(30, 1))
def an_incident_is_declared(world: World, days: int = 30) -> None:
    """On the authority of a device's certificate; a policy that demands just that one demands another from now on."""
    documents = world.documents
    held = world.plant.holds[_device(world, 0)][0].authority
    tainted, other = ("aws-iot", "plant-ca") if held == "aws-iot" else ("plant-ca", "aws-iot")
    deadline = (world.now() + days * DAY).isoformat()
    documents.incidents["leak"] = {"reason": "r", "authority": tainted, "deadline": deadline}
    for spec in documents.policies.values():
        if spec["certificate"]["authority"] == tainted:
            spec["certificate"]["authority"] = other
    world.commit(documents)


@move("git", "silence")
def the_incident_is_over(world: World) -> None:
    documents = world.documents
    documents.incidents.clear()
    world.commit(documents)


@move("at once", "silence", at=PLACES)
def a_person_starts_a_job(world: World, at: int = 0) -> None:
    world.start_by_hand(_device(world, at))


@move("waves")
def others_make_many_jobs(world: World) -> None:
    iot, target = world.cloud.services["iot"], world.cloud.site.arn(f"thing/{_device(world, 0)}")
    for _ in range(120):
        world.by_hand += 1
        job = {"jobId": f"other-{world.by_hand}", "targets": [target], "document": '{"operation": "x"}'}
        iot.call("CreateJob", job)
        iot.call("CancelJob", {"jobId": job["jobId"]})


# the backend


@move("backend", issues=tuple(BACKENDS))
def the_backend_does_something_else(world: World, issues: str = "another key") -> None:
    world.plant.backend.issues = BACKENDS[issues]


@move("backend")
def the_backend_ceases_to_say_what_it_is(world: World) -> None:
    world.plant.backend.is_published = False


@move("backend")
def a_person_answers_for_the_deployment_for_a_day(world: World) -> None:
    world.apply("--override", "deployment=plant-ca")
    world.answer()
    world.pass_time(hours=25)


@move("backend")
def the_backend_is_mended(world: World) -> None:
    world.plant.backend.issues = lambda asked: asked
    world.plant.backend.authorities["plant-ca"] = world.head.documents.arn
    world.judge.forgive()


@move("backend", "git", number=(1, 0))
def the_arn_in_git_changes(world: World, number: int = 1) -> None:
    documents = world.documents
    documents.arn = ARNS[number]
    world.commit(documents)


# inside


def _pick(found: Sequence[Any], at: int) -> Any:
    return found[at % len(found)]


def _device(world: World, at: int) -> str:
    return _pick(sorted(world.plant.holds), at)


def _policy(world: World) -> str:
    return next(n for n, s in world.head.documents.policies.items() if s["thingGroup"] == "line-a")


def _demand(world: World, **demands: Any) -> None:
    spec = world.documents.policies[_policy(world)]
    world.change(_policy(world), certificate=spec["certificate"] | demands)
