"""No rotation is left over when messages, events, runs, calls and devices are lost, doubled, late, killed, refused."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta

import pytest
from integration_bench import COMMIT, CREATE, TERMINAL
from integration_sandbox import build_fleet
from integration_time import TimelineWorld
from integration_trial import Trial

from sandbox.stack.invocations import InvocationFault, late

ROUNDS = [pytest.param(4, 4, id="16 rotations"), pytest.param(20, 10, id="200 rotations", marks=pytest.mark.soak)]
LATE = list(itertools.product((0, 0.3, 1.5, 60), repeat=3))
CHOSEN = {(60, 0, 0), (0, 60, 0), (0, 0, 60), (0.3, 60, 1.5), (1.5, 60, 60)}


@pytest.mark.parametrize(("devices", "rounds"), ROUNDS)
def test_every_certificate_is_accounted_for_and_the_sweep_has_nothing_left_after(
    devices, rounds, request, tmp_path, caplog, capsys
):
    caplog.set_level("INFO")
    seed = request.config.getoption("seed") or random.SystemRandom().randrange(1_000_000)
    world = TimelineWorld(build_fleet(devices, processes=0), tmp_path, random.Random(seed))
    world.start()
    try:
        trial = Trial(world, tmp_path)
        trial.calm()
        for _ in range(rounds):
            trial.rotate()
        trial.calm()
        trial.decide(trial.assert_accounted_for())
        trial.assert_nothing_is_left(caplog)
    finally:
        world.stop()
        with capsys.disabled():
            print(f"\nseed {seed}: {dict(sorted(trial.counted.items()))}", end=" ")  # noqa: T201  # what it was


@pytest.fixture(scope="module")
def kind(tmp_path_factory):
    """A trial of one device in which nothing else goes wrong."""
    folder = tmp_path_factory.mktemp("kind")
    world = TimelineWorld(build_fleet(1, processes=0), folder, random.Random(1))
    world.start()
    trial = Trial(world, folder)
    trial.calm()
    yield trial
    world.stop()


@pytest.mark.parametrize(
    "seconds", [pytest.param(s, marks=[] if s in CHOSEN else [pytest.mark.soak]) for s in LATE], ids=str
)
def test_a_rotation_is_accounted_for_however_late_create_commit_and_the_rest_are(kind, caplog, seconds):
    caplog.set_level("INFO")
    unkindness = kind.world.stack.unkindness
    unkindness.clear()
    for function, after in zip((CREATE, COMMIT, TERMINAL), seconds, strict=True):
        unkindness.add(InvocationFault(function, late(after)))
    kind.begin(minutes=10)
    kind.timeline.run(timedelta(minutes=20))
    unkindness.clear()
    kind.calm()
    kind.decide(kind.assert_accounted_for())
    kind.assert_nothing_is_left(caplog)
