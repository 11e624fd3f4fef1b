"""Every world within bounds: the component's own machine and the backend's own functions, trouble, and a thief.

What is bounded is how much goes wrong, and how much at all. The thief holds a copy of the key that the device has
when the world begins; each of his moves is a message of any kind on any topic of the thing, a connection, an update of
the execution or a request, at any point. Whatever happens the device holds a credential that works, no old certificate
goes without a commit over the new one's connection, and when all is over the device is connected, and either one
certificate is left or a person was told. The one world that cannot be told from a rotation of the device's own is that
in which the thief has made it, from the request to the commit, alone: these are counted.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager

import pytest
import smallworld_backend as backend
import smallworld_cloud as clouds
import smallworld_device as component
import smallworld_model as model
import smallworld_search as search
from smallworld_backend import Event
from smallworld_faults import CLOUD, DEVICE, FAULTS, replaced
from smallworld_model import Budget

ANYTHING = {"losses": 2, "copies": 1, "delays": 1, "deaths": 2, "troubles": 1, "cloud": 1, "pauses": 1, "moves": 3}
TROUBLE = {name: number for name, number in ANYTHING.items() if name != "moves"}
HONEST = {
    "lost and doubled, disk, restart, cloud": {"losses": 2, "copies": 1, "cloud": 1, "troubles": 1, "pauses": 1},
    "lost, doubled and late": {"losses": 2, "copies": 1, "delays": 1},
    "an answer lost, its repeat late, and the cloud ends the job": {"losses": 1, "delays": 1, "cloud": 1},
    "power fails in the middle of the installation, then answers are lost": {"losses": 2, "deaths": 1},
    "any three": {**TROUBLE, "at_all": 3},
    "without power": {"losses": 1, "copies": 1, "deaths": 2},
}
TOGETHER = {"losses": 2, "copies": 1, "delays": 1, "deaths": 2, "moves": 3}
WAY_BACK = "the way back after a commit keeps nothing"
BACKUP, SIGHTING = "the backup goes with the answer", "a sighting settles for the old one"
CONNECTS, ONCE = "a later start only connects", "one later start is enough after the way back"
SUCCESS = "success is not waited for"
FAILED, OVERTAKEN = "FAILED after the commit takes the new one", "a commit that the end overtakes is dropped"
UNMARKED = "an end without the device's key is not heard"
PUT_BACK = {
    "the cloud's end removes the new one": (["what the cloud ends loses its new certificate"], {"cloud": 1}),
    "SUCCEEDED is believed": (["SUCCEEDED without a commit is believed"], {"moves": 1}),
    "the way back after a commit keeps nothing": ([WAY_BACK], {"losses": 1, "delays": 1, "cloud": 1}),
    "half a generation is exchanged for": (["half a generation is exchanged for"], {"losses": 2, "deaths": 1}),
    "the way back, and a sighting is passed over": ([WAY_BACK, "a sighting is passed over"], {"moves": 1}),
    "a later start only connects": ([CONNECTS, ONCE, SUCCESS], {"losses": 8, "races": 0}),
    "nobody sweeps": (["nobody sweeps"], {"losses": 1}),
    "the thief ends the job without the key": ([UNMARKED, "nobody sweeps"], {"moves": 1}),
    "a second key clears away": (["a second key clears the first away"], {"copies": 1}),
    "the backup goes at the answer": ([BACKUP], {"losses": 1, "moves": 3, "races": 0}),
    "forged answer, overtaken commit, sighting": ([BACKUP, OVERTAKEN, SIGHTING], {"moves": 2, "delays": 1}),
    "the backup goes, and a sighting settles": ([BACKUP, SIGHTING], {"moves": 1, "losses": 1}),
    "the backup goes, and FAILED takes the new one": ([BACKUP, FAILED], {"moves": 2}),
}
LARGE = [
    ([WAY_BACK, "FAILED after the commit takes the old one"], {**ANYTHING, "at_all": 2}),
    *(
        pytest.param(faults, {**bounds, "races": 0}, marks=pytest.mark.soak)
        for faults, bounds in (([ONCE, CONNECTS, SUCCESS], {"losses": 2, "deaths": 1, "moves": 3}),)
    ),
]


@pytest.fixture(autouse=True)
def _silent():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def explore(capsys, **bounds):
    report = search.search(Budget(**bounds))
    with capsys.disabled():
        print(f"\n{report.worlds} worlds, {report.steps} steps: {dict(report.ends)}", end=" ")  # noqa: T201
    return report


def assert_holds(report):
    assert report.found is None, str(report.found)


def test_whatever_a_thief_does_in_three_moves_the_device_keeps_a_credential_that_works(capsys):
    report = explore(capsys, moves=3)
    assert_holds(report)
    assert report.worlds > 10_000
    assert report.ends[search.WHOLLY]


def test_so_it_does_whatever_two_things_go_wrong_of_all_that_can(capsys):
    assert_holds(explore(capsys, **ANYTHING, at_all=2))


@pytest.mark.parametrize("bounds", HONEST.values(), ids=HONEST)
def test_without_a_thief_one_certificate_is_left_or_a_person_is_told(capsys, bounds):
    assert_holds(explore(capsys, **bounds))


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("at_all", "races"),
    [
        (3, model.THIEF),
        *(pytest.param(*bounds, marks=pytest.mark.soak) for bounds in ((3, model.ALL), (9, model.THIEF))),
    ],
    ids=["three", "three, anything at any point", "nine"],
)
def test_so_it_does_whatever_is_lost_doubled_late_dead_and_done_by_a_thief_together(capsys, at_all, races):
    assert_holds(explore(capsys, **TOGETHER, at_all=at_all, races=races))


FORGED = (  # found by the search of seven, on 2026-11-30
    "the device hears jobs/notify-next",
    "the device hears jobs/job-1/update/accepted",
    "Lambda runs create a.1 d1",
    "the device hears certificate/create/accepted d1.1",
    "the nucleus starts",
    "the device hears jobs/$next/get/accepted",
    "the thief says FAILED",
    "the thief forges commit/accepted",
    "the device hears jobs/job-1/update/rejected",
    "the device hears jobs/$next/get/accepted {}",
    "connected d1.1 is lost",
    "commit d1.1 is lost",
    "ended FAILED, unmarked is late",
    "the power fails",
    "the nucleus starts",
    "the thief forges commit/accepted",
    "the device hears jobs/job-1/update/rejected",
    "the device hears jobs/$next/get/accepted {}",
    "Lambda runs ended FAILED, unmarked",
)


def after(path, **bounds):
    """The world to which steps lead that begin so."""
    world, left = model.first(), model.at_first(Budget(**bounds, races=model.THIEF))
    for label in path:
        following = model.Crossroads(world, [left], races=model.THIEF).successors(left)
        step, left = next((step, rest) for step, rest in following if "".join(step.label).startswith(label))
        world = step.world
    return world


@pytest.mark.parametrize("is_waited_for", [True, False], ids=["success is waited for", "put back"])
def test_two_forged_answers_do_not_cost_a_device_its_credential_whose_job_a_thief_has_ended(is_waited_for):
    with put_back([] if is_waited_for else [SUCCESS]):
        world = after(FORGED, losses=2, delays=1, deaths=1, moves=3)
        assert component.held(world.device) == ({"a.1", "d1.1"} if is_waited_for else {"d1.1"})
        assert model.broken_in(world) == (None if is_waited_for else "the device holds no credential that works")


def test_nor_do_eight_losses_cost_a_device_its_credential(capsys):
    assert_holds(explore(capsys, losses=8, races=0))


def test_a_device_hears_twice_only_what_was_sent_to_it():
    world, left = model.first(), model.at_first(Budget(copies=1))
    taken = next(model.steps(world, left.payable, races=0))  # it hears the announcement, and claims the job
    following = model.Crossroads(taken.world, [left], races=model.ALL).successors(left.after(taken.cost))
    again = {step.label[3] for step, _ in following if step.label[1:2] == ("again",)}
    sent = (clouds.NO_JOB, model.ANNOUNCEMENT, *taken.cost.said)
    assert again == {model._name(message) for message in sent}


def test_what_the_jobs_service_has_answered_is_not_heard_twice_once_the_nucleus_has_started_anew():
    world, left = model.first(), model.at_first(Budget(copies=1))
    accepted = ("awslabs/things/gateway-7/certificate/commit/accepted", b'{"jobId": "job-1"}')
    left = left.after(model.cost(world.device, said=(accepted,)))
    assert left.sent == {clouds.NO_JOB, model.ANNOUNCEMENT, accepted}
    assert left.after(model.cost(model.dead(world).device)).sent == {model.ANNOUNCEMENT, accepted}


# Faults put back -------------------------------------------------------------------------------------------


@contextmanager
def put_back(faults):
    with ExitStack() as stack:
        for fault in faults:
            stack.enter_context(FAULTS[fault]())
        yield


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("faults", "bounds"), LARGE)
def test_a_fault_is_found_that_takes_many_troubles(faults, bounds):
    with put_back(faults):
        assert search.search(Budget(**bounds)).found is not None


@pytest.mark.parametrize(("faults", "bounds"), PUT_BACK.values(), ids=PUT_BACK)
def test_a_fault_is_found_whether_or_not_the_search_leaves_anything_out(faults, bounds):
    reduced, whole = searched_twice(faults, bounds)
    assert reduced.found is not None
    assert whole.found is not None


# Less to look at -------------------------------------------------------------------------------------------

SMALLER = {
    "a thief": {"moves": 2},
    "a thief alone at any point": {"moves": 1, "losses": 1, "races": model.THIEF},
    "lost, doubled, and power fails": {"losses": 1, "copies": 1, "deaths": 1, "races": 0},
    "late, long, and ended by the cloud": {"delays": 1, "cloud": 1, "pauses": 1},
    "any two": {**ANYTHING, "at_all": 2, "races": 0},
}


def each_move_by_itself(world, payable, *, races):
    """What the thief sends waits its turn like all else, whenever he sends it."""
    cloud, moves = world.cloud, list(clouds.thief_updates(world.cloud))
    for certificate in clouds.thiefs(cloud.account):
        events = [Event("connected", certificate), Event("commit", certificate)]
        events += [Event("create", certificate, clouds.THIEFS_KEY)] if cloud.execution == clouds.IN_PROGRESS else []
        for event in events:
            after = clouds._hand_over(cloud, event)
            moves.append(clouds.Move(f"the thief's {event}", ("moves",), after, proven=clouds._whose(event)))
    yield from model._in_the_cloud(world, moves, payable)
    if world.online:
        for name, *message in clouds.forgeries(cloud.account) if clouds.thiefs(cloud.account) else ():
            yield from model._hear(world, message, payable, ("the thief forges ", name), ("moves",))


def unreduced():
    """Each world apart that differs in anything, and followed wherever it leads."""
    return replaced(
        (model.Spare, "covers", lambda mine, its: mine is its),
        (model, "is_heeded", lambda _message, _keys: True),
        (search, "goes_on", lambda _left: True),
        (clouds, "what_can_matter", lambda *content: content),
        (clouds, "squeeze", lambda marks: backend.squeeze(frozenset(instant for instant, _ in marks))[0]),
        (component, "_alike", lambda dead: dead),
        (component, "heeded", lambda _device, messages: messages),
        (model, "_thief_moves", each_move_by_itself),
        (clouds, "arrive_late", lambda *_: ()),
        anew=(CLOUD, DEVICE, (model.Spare, ("after", "heard"))),
    )


def searched_twice(faults, bounds):
    """As always, and unreduced."""
    with put_back(faults):
        reduced = search.search(Budget(**bounds))
        with unreduced():
            return reduced, search.search(Budget(**bounds))


@pytest.mark.parametrize("bounds", SMALLER.values(), ids=SMALLER)
def test_what_the_search_leaves_out_would_find_nothing_else(bounds):
    reduced, whole = searched_twice([], bounds)
    assert_holds(reduced)
    assert_holds(whole)
    assert set(reduced.ends) == set(whole.ends)
    assert reduced.worlds < whole.worlds
