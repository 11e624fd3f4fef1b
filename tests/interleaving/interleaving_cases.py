"""Short histories that once went wrong. A judge watches each of them."""

from __future__ import annotations

from interleaving_aws import Turns
from interleaving_edits import as_it_is, cancels_another_job, deletes_a_foreign_group, edit, rotates_an_ungoverned_thing
from interleaving_judge import Judge
from interleaving_plant import other_authority, other_key
from interleaving_world import ARNS, DAY, START, Documents, World, devices, policy, rule

from protocol.algorithms import KeyType

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


@case
def older_commit_is_applied():
    world = made(4, rollout={"waves": ["100%"]}, age=10 * DAY)
    first = world.head
    world.pass_time(hours=1)
    world.change("line-a", certificate=rule(keyType="ECDSA-P384"))
    world.apply()
    world.answer()
    world.pass_time(days=20)
    world.apply(commit=first)
    return world


@case
def two_plan_files_one_after_the_other():
    world = made(6, rollout={"waves": ["100%"]})
    world.plan("--plan", str(world.folder / "one.json"))
    world.plant.add("line-a-7", "line-a", age=100 * DAY, key=world.plant.holds["line-a-1"][0].key_type)
    world.plan("--plan", str(world.folder / "two.json"))
    world.apply("--plan", str(world.folder / "one.json"))
    world.apply("--plan", str(world.folder / "two.json"))
    world.answer()
    return world


def stale_plan(change, *, is_reissued: bool = False, **spec):
    """A plan file is made, something changes, it is applied. ``is_reissued``: with the new commit written into it."""
    world = made(4, rollout={"waves": ["100%"]}, **spec)
    path = world.folder / "one.json"
    world.plan("--plan", str(path))
    change(world)
    world.apply("--plan", str(edit(path, as_it_is, world) if is_reissued else path))
    return world


@case
def plan_file_applied_after_its_window():
    window = {"cron": "0 12 * * *", "timezone": "UTC", "duration": "1h", "kind": "allow"}
    return stale_plan(lambda world: world.pass_time(hours=3), schedule={"windows": [window]})


@case
def plan_file_applied_forty_days_later():
    return stale_plan(lambda world: world.pass_time(days=40))


@case
def plan_file_applied_after_a_halt():
    world = made(6, rollout={"waves": ["2", "100%"], "abort": ABORT})
    world.apply()
    world.answer()
    world.plan("--plan", str(world.folder / "one.json"))
    world.plant.add("line-a-7", "line-a", age=100 * DAY, key=KeyType.ECDSA_P256)
    world.plant.failing = set(world.plant.holds)
    world.apply()
    world.answer()
    world.pass_time(hours=2)
    world.plan()
    world.apply("--plan", str(world.folder / "one.json"))
    return world


@case
def plan_file_applied_after_a_suspension():
    until = (START + 30 * DAY).isoformat()
    return stale_plan(lambda world: world.change("line-a", suspend={"reason": "r", "until": until}), is_reissued=True)


@case
def resumed_attempt_is_cancelled_by_the_next_run():
    world = made(6, rollout={"waves": ["3", "100%"], "abort": ABORT})
    world.plant.failing = {"line-a-1", "line-a-2", "line-a-3"}
    world.apply()
    world.answer()
    world.plant.failing = set()
    world.pass_time(hours=3)
    world.apply("--override", "resume=line-a")
    world.plant.answer("line-a-1")
    world.apply()
    return world


def given_up(remedy) -> World:
    world = made(6)
    world.plant.failing = {"line-a-1"}  # the first wave is this one
    for _ in range(12):
        world.apply()
        world.answer()
        world.pass_time(hours=40)
    remedy(world)
    for _ in range(12):
        world.apply()
        world.answer()
        world.pass_time(hours=25)
    waiting = [name for name in sorted(world.plant.holds)[1:] if not world.judge.is_in_sync(world.documents, name)]
    if waiting:
        world.judge.tell("every policy can finish", f"{len(waiting)} wait: {world.plan().json['waves']}")
    return world


@case
def first_wave_given_up_then_waived():
    def waive(world):
        documents = world.documents
        expires = (world.now() + 300 * DAY).isoformat()
        documents.waivers["w"] = {"devices": ["line-a-1"], "owner": "o", "reason": "r", "expires": expires}
        world.commit(documents)

    return given_up(waive)


@case
def first_wave_given_up_then_resumed():
    return given_up(lambda world: world.apply("--override", "resume=line-a"))


@case
def first_wave_given_up_then_replaced_by_hand():
    return given_up(lambda world: world.plant.replace_by_hand("line-a-1", KeyType.ECDSA_P256))


def with_stragglers(**spec) -> World:
    """Two of three devices are silent and wait in the standing job."""
    world = made(3, rollout={"waves": ["100%"]}, **spec)
    world.plant.offline = {"line-a-1", "line-a-2"}
    world.apply()
    world.answer()
    for _ in range(2):
        world.pass_time(hours=25)
        world.apply()
    return world


@case
def incident_meets_a_straggler_half_way():
    world = with_stragglers(authority=ARNS[0])
    world.plant.add("line-a-4", "line-a", age=100 * DAY, key=KeyType.ECDSA_P256, authority=ARNS[0])
    world.plant.offline.add("line-a-4")
    world.apply()
    world.pass_time(hours=25)
    world.plant.begin("line-a-1")
    documents = world.documents
    deadline = (world.now() + 30 * DAY).isoformat()
    documents.incidents["leak"] = {"reason": "r", "authority": "plant-ca", "deadline": deadline}
    world.commit(documents)
    world.plan()
    return world


@case
def two_runs_and_a_job_by_hand():
    world = made(6, rollout={"waves": ["100%"]})
    ci = Turns(world.apply)
    while ci.step() and not any(c.startswith("ListThingPrincipals") for c in [world.aws.last]):
        pass
    world.start_by_hand("line-a-3")
    world.apply(cache="function")
    ci.finish()
    world.answer()
    return world


def edited(change) -> World:
    """A plan file that someone has edited, with its digest computed anew."""
    world = made(4, rollout={"waves": ["100%"]})
    world.add_stray()
    request = {"jobId": "a-job-of-theirs", "targets": [world.cloud.site.arn("thing/stray")], "document": "{}"}
    world.cloud.services["iot"].call("CreateJob", request)
    path = world.folder / "one.json"
    world.plan("--plan", str(path))
    world.apply("--plan", str(edit(path, change, world)))
    return world


@case
def edited_plan_deletes_a_foreign_group():
    return edited(deletes_a_foreign_group)


@case
def edited_plan_cancels_a_foreign_job():
    return edited(cancels_another_job)


@case
def edited_plan_rotates_an_ungoverned_thing():
    return edited(rotates_an_ungoverned_thing)


@case
def straggler_at_work_is_taken_out_of_its_job():
    world = with_stragglers()
    world.plant.begin("line-a-1")
    world.apply()
    return world


@case
def revert_opens_the_last_wave():
    world = made(20, rollout={"waves": ["1", "10%", "25%", "50%", "100%"]})
    for _ in range(6):
        world.apply()
        world.answer()
    world.change("line-a", certificate=rule(keyType="ECDSA-P384"))
    world.pass_time(days=20)
    for _ in range(3):
        world.apply()
        world.answer()
    world.revert()
    world.pass_time(days=20)
    before = set(world.jobs())
    world.apply()
    started = sum(len(world.jobs()[job].executions) for job in set(world.jobs()) - before)
    if started > 1:
        world.judge.tell("a change starts with its first wave", f"{started} devices start at once")
    return world


@case
def everything_fails_and_goes_on():
    world = made(12, rollout={"waves": ["1", "100%"], "maxInFlight": 4})
    world.apply()
    world.answer()
    world.plant.failing = set(world.plant.holds)
    for _ in range(4):
        world.apply()
        world.answer()
        world.pass_time(hours=3)
    return world


@case
def silent_device_is_waived_before_it_waits_in_the_standing_job():
    world = made(3, rollout={"waves": ["100%"]})
    world.plant.offline = {"line-a-1", "line-a-2"}
    world.apply()
    world.answer()
    world.pass_time(days=3)
    documents = world.documents
    expires = (world.now() + 300 * DAY).isoformat()
    documents.waivers["w"] = {"devices": ["line-a-1"], "owner": "o", "reason": "r", "expires": expires}
    world.commit(documents)
    world.apply()
    return world
