"""Device, backend and network together, driven by hypothesis through whatever can happen.

Never two live jobs act at once; never a device without a working credential; never an old certificate
deleted before the new one has connected.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import pytest
from component_cloud import FATES, deliveries
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)


def machine_for(make_world, document, memory_folder):  # noqa: C901  # a class per run: hypothesis builds it without arguments
    class DeviceAndCloud(RuleBasedStateMachine):
        @initialize(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=12), correlates=st.booleans())
        def switch_on(self, fates, correlates):
            self.folder = Path(tempfile.mkdtemp(dir=str(memory_folder)))
            self.world = make_world(self.folder)
            self.world.cloud.correlates = correlates
            self.fates, self.messages, self.number = fates, 0, 0
            self.connected = {self.world.first_certificate}
            self.calm = False
            self.world.cloud.intercept = self.intercept
            connect, retire = self.world.cloud.connect, self.world.cloud.retire

            def note_connect(device):
                works = connect(device)
                if works:
                    self.connected.add(device.principal)
                return works

            def note_retire(certificate):
                # What is left must have been seen working.
                assert self.connected & (self.world.cloud.registry - {certificate})
                retire(certificate)

            self.world.cloud.connect, self.world.cloud.retire = note_connect, note_retire
            self.world.device.switch_on()

        def intercept(self, _direction, _topic, payload):
            if self.calm:
                return [(0.0, payload)]
            fate = self.fates[self.messages % len(self.fates)]
            self.messages += 1
            return deliveries(fate, payload)

        @rule(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=12))
        def the_network_changes(self, fates):
            self.fates = fates

        @precondition(lambda self: self.number < 3)
        @rule()
        def a_job_is_created(self):
            self.number += 1
            self.world.cloud.create_job(f"job-{self.number}", document)

        @rule(seconds=st.sampled_from([0.0, 0.5, 1.5, 12.0, 35.0, 130.0, 700.0]))
        def time_passes(self, seconds):
            self.world.run(seconds)

        @rule(off=st.sampled_from([0.1, 5.0, 400.0]))
        def the_power_fails(self, off):
            self.world.device.switch_off()
            self.world.loop.call_later(off, self.world.device.switch_on)

        @rule()
        def the_connection_breaks(self):
            self.world.cloud.device = None
            self.world.loop.call_later(20.0, self.reconnect)

        def reconnect(self):
            if self.world.device.rotator is not None:
                self.world.device.connect()

        @precondition(lambda self: any(job[0] == "IN_PROGRESS" for job in self.world.cloud.jobs.values()))
        @rule(status=st.sampled_from(["CANCELED", "TIMED_OUT"]))
        def the_cloud_ends_the_job(self, status):
            job_id = next(name for name, job in self.world.cloud.jobs.items() if job[0] == "IN_PROGRESS")
            self.world.cloud.end_job(job_id, status)

        @invariant()
        def one_job_at_a_time_and_a_credential_in_place(self):
            if not hasattr(self, "world"):
                return
            assert sum(job[0] == "IN_PROGRESS" for job in self.world.cloud.jobs.values()) <= 1
            assert self.world.device.pair_matches()
            assert self.world.device.holds_a_working_credential()

        def teardown(self):
            if not hasattr(self, "world"):
                return
            self.calm = True
            self.world.run(3600)
            for _ in range(2):
                self.world.device.switch_on()
                self.world.run(3600)
            self.world.assert_sound()
            assert all(job[0] not in ("QUEUED", "IN_PROGRESS") for job in self.world.cloud.jobs.values())
            shutil.rmtree(self.folder)

    return DeviceAndCloud


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_whatever_happens_a_working_credential_is_left(make_world, rotation_document, memory_folder, caplog):
    caplog.set_level(logging.CRITICAL)
    run_state_machine_as_test(
        machine_for(make_world, rotation_document(), memory_folder),
        settings=settings(
            max_examples=120, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def stock_backend(make_world, rotation_document, memory_folder):
    """A device with three jobs, at a backend that does not name the job in its answers."""

    def begin(fates):
        state = machine_for(make_world, rotation_document(), memory_folder)()
        state.switch_on(fates=fates, correlates=False)
        for _ in range(3):
            state.a_job_is_created()
        return state

    return begin


def test_a_new_credential_that_is_tried_because_the_old_one_fell_silent_gets_no_hours(stock_backend):
    """The commit is lost, the device goes back, its job fails, the new one is removed: then three answers are lost."""
    state = stock_backend(["pass"])
    state.the_network_changes(fates=[*["pass", "pass", "doubled"] * 3, "lost", "lost", "lost"])
    state.time_passes(seconds=700.0)
    assert state.world.device.certificate_in_place() not in state.world.cloud.registry
    state.the_connection_breaks()
    state.time_passes(seconds=700.0)
    assert state.world.device.certificate_in_place() in state.world.cloud.registry
    state.teardown()


def test_a_late_announcement_leaves_it_known_that_the_backend_takes_a_commit_once(stock_backend):
    """Or the refusal of the second one has both kept for good."""
    state = stock_backend(["doubled"])
    for _ in range(4):
        state.the_power_fails(off=0.1)
    state.teardown()
