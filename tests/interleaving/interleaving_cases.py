"""Short histories that once went wrong. A judge watches each of them."""

from __future__ import annotations

from interleaving_judge import Judge
from interleaving_plant import other_authority, other_key
from interleaving_world import ARNS, DAY, Documents, World, devices, policy, rule

ABORT = [{"failureType": "FAILED", "thresholdPercentage": 25, "minNumberOfExecutedThings": 2}]
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def made(count: int = 4, **spec) -> World:
    age = spec.pop("age", 100 * DAY)
    more = {name: spec.pop(name) for name in ("key", "authority") if name in spec}
    world = World(Documents({"line-a": policy(**spec)}))
    world.judge = Judge(world)
    devices(world, count, age=age, **more)
    return world


def arn_changed_in_git_alone(*, is_published: bool) -> World:
    world = made(4, certificate=rule(authority="plant-ca"), authority=ARNS[0], age=10 * DAY)
    world.plant.backend.is_published = is_published
    documents = world.documents
    documents.arn = ARNS[1]
    world.commit(documents)
    for _ in range(4):
        world.apply()
        world.answer()
        world.pass_time(hours=25)
    return world


@case
def arn_in_git_is_not_the_deployed_one():
    return arn_changed_in_git_alone(is_published=True)


@case
def arn_in_git_is_not_the_deployed_one_and_the_backend_does_not_say():
    return arn_changed_in_git_alone(is_published=False)


@case
def backend_takes_another_ca():
    world = made(12, rollout={"waves": ["1", "25%", "100%"]}, certificate=rule(authority="plant-ca"), age=10 * DAY)
    world.plant.backend.issues = other_authority
    for _ in range(3):
        world.apply()
        world.answer()
        world.pass_time(hours=25)
    return world


@case
def component_makes_another_key():
    world = made(4, certificate=rule(keyType="ECDSA-P384"), age=10 * DAY)
    world.plant.backend.issues = other_key
    for _ in range(3):
        world.apply()
        world.answer()
        world.pass_time(hours=25)
    return world


@case
def halt_is_forgotten_with_the_cache():
    world = made(6, rollout={"waves": ["4", "100%"], "abort": ABORT})
    world.plant.failing = {"line-a-1", "line-a-2"}
    world.apply()
    world.answer("line-a-3", "line-a-4", "line-a-1", "line-a-2")
    world.plan()
    world.pass_time(minutes=1)
    site = world.cloud.site
    for number in range(120):
        request = {"targets": [site.arn("thing/line-a-1")], "document": '{"operation": "x"}'}
        world.cloud.services["iot"].call("CreateJob", {"jobId": f"other-{number}", **request})
        world.cloud.services["iot"].call("CancelJob", {"jobId": f"other-{number}"})
    world.pass_time(minutes=10)
    world.forget()
    world.apply()
    return world
