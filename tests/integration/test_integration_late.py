"""A choice of the other modules' tests, with functions that Lambda runs late and out of order, in virtual time."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta

import pytest
from integration_bench import COMMIT, CREATE, TERMINAL
from integration_sandbox import Operator, build_fleet, held_by, record_of
from integration_time import TimelineBench, TimelineWorld
from test_integration_deployments import (  # noqa: F401  # collected here a second time
    test_an_accepted_configuration_decides_what_jobs_leave_open,
)
from test_integration_failures import (  # noqa: F401  # likewise
    FAST,
    before,
    brisk,
    test_a_function_that_is_throttled_for_a_moment_costs_a_moment,
    test_a_job_that_is_canceled_while_it_waits_never_reaches_the_device,
    test_a_new_certificate_that_is_deactivated_before_it_connects_is_given_up,
    test_a_private_ca_that_cannot_be_reached_fails_the_job_and_nothing_has_changed,
    test_an_authority_that_the_deployment_does_not_have_is_refused_by_name,
    test_an_end_that_is_handled_late_removes_the_old_certificate_late,
    test_an_end_that_nobody_hears_of_is_made_up_for_by_the_next_rotation,
    test_without_commit_the_device_returns_to_its_old_certificate,
    test_without_create_the_job_fails_and_nothing_has_changed,
)
from test_integration_unresolved import (  # noqa: F401  # likewise
    healed,
    operator,
    test_after_all_that_the_device_rotates_as_ever,
)

from sandbox.stack.invocations import InvocationFault, doubled, late

SECONDS = (0.0, 0.3, 1.5)
FUNCTIONS = (CREATE, COMMIT, TERMINAL)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = TimelineWorld(build_fleet(1, processes=0), tmp_path_factory.mktemp("world"), random.Random(1))
    world.start()
    yield world
    world.stop()


@pytest.fixture(scope="module")
def bench(world):
    bench = TimelineBench(world)
    bench.open()
    return bench


@pytest.fixture(autouse=True, params=itertools.permutations(FUNCTIONS), ids=" then ".join)
def unkind(world, request):
    """The first is run at once and a second time later, the others late."""
    unkindness = world.stack.unkindness
    for function, seconds in zip(request.param, SECONDS, strict=True):
        unkindness.add(InvocationFault(function, late(seconds) if seconds else doubled(0.5)))
    yield
    unkindness.clear()


def is_seen_with_its_new_one(world, thing, job):
    record = record_of(world, thing)
    return record.get("jobId") == {"S": job} and "newSeenAt" in record


def test_a_thief_who_reports_failed_costs_the_device_its_rotation_and_not_its_way_back(bench, world):
    """He does it while the device waits for the answer to its commit; it is back on its old certificate by itself."""
    [thing], registry, told = bench.things, bench.registry(), Operator(world)
    [old] = registry[thing]
    with bench.throttled(COMMIT):
        job = bench.rotate(FAST)
        bench.until(lambda: is_seen_with_its_new_one(world, thing, job), "the device uses its new certificate")
        for act in (
            lambda: world.cloud.registry.connected(old, f"{thing}#2"),
            lambda: world.cloud.jobs.update(thing, job, {"status": "FAILED"}),
        ):
            world.timeline.run(timedelta(seconds=2))
            act()
        bench.until(lambda: held_by(world, thing) == old, "the device goes back")
    bench.assert_unchanged(registry)
    assert world.devices[thing].wait_connected(60)
    bench.until(lambda: any(job in text and "FAILED" in text for text in told.read()), "a person is told")
