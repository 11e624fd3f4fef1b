"""The device alone: whatever it hears, in whatever order, and wherever its power fails.

No cloud tells here what may come, so that whoever writes to the device can do no more. It hears every answer that the
jobs service and a backend give, for the certificates that there are; it is never sent one for a key that it makes after
its first. What holds here is found at the price of minutes; how it comes to a find is told step by step.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import NamedTuple

import pytest
import smallworld_backend as backend
import smallworld_cloud as clouds
import smallworld_device as component
import smallworld_model as model
import smallworld_pool as pool
from smallworld_backend import JOB, THING
from smallworld_faults import FAULTS

from protocol import topics

NEW = "d1.1"
COMMIT, UPDATE = topics.commit(THING), topics.jobs_update(THING, JOB)
KEYS = 2  # a second attempt's key is enough


class Node(NamedTuple):
    """A device, and what became of it; ``runs``: in how many it has committed since the new one lies in place."""

    device: component.Device
    deaths: int = 0
    committed: bool = False
    runs: int = 0
    committed_now: bool = False
    success: bool = False


@pytest.fixture(autouse=True)
def _silent():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def messages():
    """Everything that it can be sent: (topic, payload)."""
    both = ((pool.FIRST, "ACTIVE", True), (NEW, "ACTIVE", True))
    for _, *message in clouds.forgeries(backend.account(both, (pool.FIRST, NEW), "{}")):
        yield tuple(message)
    for status in ("succeeded", "failed", "in_progress"):
        token = {"clientToken": f"certfleet-{status}"}
        refusal = {"code": "InvalidStateTransition", "executionState": {"status": status.upper()}, **token}
        yield f"{UPDATE}/accepted", json.dumps(token).encode()
        yield f"{UPDATE}/rejected", json.dumps(refusal).encode()


def tells_success(message):
    topic, payload = message
    told = json.loads(payload)
    is_taken = topic == f"{UPDATE}/accepted" and told.get("clientToken") in (None, "certfleet-succeeded")
    return is_taken or told.get("executionState", {}).get("status") == "SUCCEEDED"


def following(node, heard):
    """(what happens, the node then), for all that can happen."""
    device = node.device
    if device.memory is None:
        for online in (True, False):
            for step in component.start(device, online):
                yield f"starts{step.how}", _after(node, step, component.in_place(device))
        return
    for message in heard:
        for step in component.hear(device, True, *message):
            after = _after(node, step, device.loaded)
            yield (
                f"hears {model._name(message)}{step.how}",
                after._replace(success=node.success or (after != node and tells_success(message))),
            )
    for timer in device.memory.timers:
        for online in (True, False):
            for step in component.timer(device, online, timer):
                yield f"{timer.value}{step.how}", _after(node, step, device.loaded)
    dead = component.Step(component.die(device), (), ("deaths",))
    yield "the power fails", _after(node, dead, device.loaded)


def _after(node, step, loaded):
    deaths = node.deaths + step.prices.count("deaths") + 100 * step.prices.count("troubles")
    sends = loaded == NEW and any(topic == COMMIT for topic, _ in step.published)
    runs = min(2, node.runs + (sends and not node.committed_now))
    committed_now = (node.committed_now or sends) and step.device.memory is not None
    if component.in_place(step.device) == pool.FIRST:  # after any way back two runs must commit anew
        runs, committed_now = 0, False
    return Node(step.device, deaths, node.committed or sends, runs, committed_now, node.success)


def broken_in(node):
    held = component.held(node.device)
    if not held:
        return "it holds nothing"
    if node.committed and NEW not in held:
        return "it has let the new one go though it had committed it"
    if pool.FIRST not in held and not (node.success and node.runs == 2):
        return "it has let the old one go before its success was taken, and two runs had committed"
    return None


def explored(deaths):
    """How many nodes there are within so many power cuts, and the first that is broken, as the way to it."""
    begin, heard = Node(model.first().device), tuple(dict.fromkeys(messages()))
    parents, todo = {begin: None}, deque([begin])
    while todo:
        node = todo.popleft()
        for label, after in following(node, heard):
            if after.deaths > deaths or after.device.keys > KEYS or after in parents:
                continue
            parents[after] = node, label
            if broken := broken_in(after):
                return len(parents), [*_way(parents, after), broken]
            todo.append(after)
    return len(parents), None


def _way(parents, node):
    way = []
    while (before := parents[node]) is not None:
        node, label = before
        way.append(label)
    return way[::-1]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("deaths", [0, pytest.param(3, marks=pytest.mark.soak)])
def test_whatever_a_device_hears_it_lets_nothing_go_that_may_be_its_only_credential(capsys, deaths):
    nodes, way = explored(deaths)
    with capsys.disabled():
        print(f"\n{nodes} nodes within {deaths} power cuts", end=" ")  # noqa: T201  # how exhaustive it was
    assert way is None, "\n  ".join(way)
    assert nodes > 1_000


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("fault", "deaths"),
    [
        ("success is not waited for", 1),
        ("the backup goes with the answer", 0),
        ("the way back after a commit keeps nothing", 0),
        ("one later start is enough after the way back", 1),
        pytest.param("a kept key is taken for the new one", 3, marks=pytest.mark.soak),
    ],
)
def test_a_fault_is_found_by_what_a_device_alone_does(fault, deaths):
    with FAULTS[fault]():
        assert explored(deaths)[1] is not None
