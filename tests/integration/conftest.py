"""Where the integration suite runs: against the sandbox, or against real devices of an AWS account.

    pytest tests/integration
    pytest tests/integration --target aws --thing-group canaries --force-enable-socket

The second needs credentials and a region in the environment, the backend deployed, and the component
deployed to the thing group; it runs the tests marked ``portable``. The devices of the group are rotated
many times, rules and functions of the backend are switched off for moments: keep it apart from production.
"""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from unittest import mock

import boto3
import pytest
from integration_bench import COMMIT, CREATE, TERMINAL, Bench, Pace
from integration_sandbox import SandboxBench, build_fleet
from shared_warm_component import warm_starts

from backend.functions import budget
from protocol.names import DEFAULT_STACK_NAME
from sandbox.stack.invocations import InvocationFault, late
from sandbox.world import World

PORTABLE = "portable"
ORDERS = list(itertools.permutations((CREATE, COMMIT, TERMINAL)))
LATE = (0.0, 0.3, 1.5)  # seconds


def pytest_addoption(parser):
    group = parser.getgroup("integration")
    group.addoption("--target", choices=("sandbox", "aws"), default="sandbox", help="where the integration suite runs")
    group.addoption("--thing-group", help="with --target aws: the thing group whose devices are rotated")
    group.addoption("--stack-name", default=DEFAULT_STACK_NAME, help="with --target aws: name of the backend's stack")
    group.addoption("--seed", type=int, help="of the trial: the one that it has printed repeats it")


def pytest_configure(config):
    config.addinivalue_line("markers", f"{PORTABLE}: of the integration suite; runs against real devices too")
    if _target(config) == "aws" and not config.getoption("thing_group"):
        raise pytest.UsageError("--target aws needs --thing-group NAME: a group of real devices that may be rotated")


def pytest_collection_modifyitems(config, items):
    """Real devices get the tests that are meant for them; the rest is not run, and counted as deselected."""
    if _target(config) == "sandbox":
        return
    chosen = [item for item in items if item.get_closest_marker(PORTABLE)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_generate_tests(metafunc):
    """In ``make soak`` each test with a backend is run in each order of the functions, if it does not see to that."""
    config, known = metafunc.config, set(metafunc.fixturenames)
    is_asked = config.getoption("markexpr") == "soak" and _target(config) == "sandbox"
    if is_asked and known & {"world", "bench"} and "unkind" not in known:
        orders = [pytest.param(order, marks=pytest.mark.soak, id=" then ".join(order)) for order in ORDERS]
        metafunc.parametrize("lateness", orders, indirect=True)


@pytest.fixture(autouse=True)
def lateness(request):
    """The first function is run at once, the others late; what a test does to a function itself goes before that."""
    if not hasattr(request, "param"):
        yield
        return
    unkindness = request.getfixturevalue("world").stack.unkindness
    for function, seconds in zip(request.param, LATE, strict=True):
        unkindness.add(InvocationFault(function, late(seconds)))
    with mock.patch.object(budget, "CERTIFICATES_PER_DAY", 1000):  # one device lives through all orders in a day
        yield
    unkindness.clear()


def _target(config):
    # Collected from above this folder, the options do not exist.
    return config.getoption("target", default="sandbox")


@pytest.fixture(scope="module")
def world(tmp_path_factory, request):
    """A sandbox with the devices that the module asks for by ``PROCESSES`` (real component processes).

    They start by the recipe's own command if the module asks for that by ``STARTS_COLD``.
    """
    world = World(build_fleet(getattr(request.module, "PROCESSES", 1)), tmp_path_factory.mktemp("world"))
    with nullcontext() if getattr(request.module, "STARTS_COLD", False) else warm_starts():
        world.start()
        missing = world.wait_until_online()
        assert not missing, f"never connected: {missing}"
        yield world
        world.stop()


@pytest.fixture(scope="module")
def bench(request):
    """The devices under test and the operator's levers on their backend."""
    config = request.config
    if _target(config) == "aws":
        made = Bench(boto3.client, config.getoption("thing_group"), config.getoption("stack_name"), Pace.real())
    else:
        made = SandboxBench(request.getfixturevalue("world"))
    made.open()
    yield made
    made.close()
