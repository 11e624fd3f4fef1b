"""The real component and the real functions together, driven by hypothesis through whatever can happen.

``tests/component`` does the same to the device over a backend that keeps the protocol's rules; here the handlers
themselves answer, over an AWS in memory whose calls fail now and then.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from backend_aws import PREFIX, START, VARIABLES, FakeAws, Fault, certificate_id
from backend_device import run
from botocore.exceptions import ClientError
from component_cloud import FATES, THING, Ca, Cloud, deliveries, pem_of, subject_of
from component_world import Device, VirtualLoop
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
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

from backend.functions import commit_certificate, create_certificate, job_execution_terminal, services, sweep
from backend.functions.errors import ConflictError
from component.certificate_rotator.ports import MessagesError
from protocol.topics import parse_rotation_topic

LAMBDA_REPEATS = (60.0, 120.0)  # seconds until an asynchronous invocation that failed is repeated
DOCUMENT = {"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}


class Account(FakeAws):
    """Watches what is taken away: what is left must have been seen working."""

    def __init__(self):
        super().__init__()
        self.connected = set()

    def iot_update_certificate(self, request):
        others = {i for i in self.attached() if i != request["certificateId"]}
        assert others & self.connected, "the last certificate that works is taken away"
        return super().iot_update_certificate(request)

    def attached(self):
        return {i for i, c in self.certificates.items() if c.status == "ACTIVE" and THING in c.things}


class Functions(Cloud):
    """Jobs as ever; create, commit, endings and connections go to the handlers, as the rules hand them on."""

    def __init__(self, ca, first_certificate, loop):
        self.aws = Account()
        super().__init__(ca, first_certificate, loop)
        first = self.aws.certificates[self.aws.register(first_certificate)]
        first.created -= timedelta(days=200)
        first.things[THING], first.policies = "EXCLUSIVE_THING", ["device"]
        self.services = services.build(VARIABLES, self.aws.client, lambda: self.aws.now)
        self.outcomes = Counter()

    @property
    def registry(self):
        return {self.aws.certificates[i].pem for i in self.aws.attached()}

    @registry.setter
    def registry(self, _pems):
        """Known from the account."""

    def run(self, module, event):
        """One invocation; what it publishes goes out, and who uses a certificate that is no more is cut off."""
        self.aws.now = START + timedelta(seconds=self.loop.time)
        for name, (status, document, _) in self.jobs.items():
            self.aws.executions[THING, name] = {"status": status, "jobDocument": json.dumps(document)}
        self.aws.published.clear()
        try:
            with services.running(self.services):
                self.outcomes[module.__name__, run(self.aws, module, event)["status"]] += 1
        finally:
            for topic, payload in self.aws.published:
                self.send(topic, payload)
            if self.device is not None and self.device.principal not in self.registry:
                self.device = None

    def repeat(self, event, pauses=LAMBDA_REPEATS):
        """An end or a connection: repeated by Lambda, as often as it is set to."""
        try:
            self.run(job_execution_terminal, event)
        except (ClientError, ConflictError):
            if pauses:
                self.loop.call_later(pauses[0], lambda: self.repeat(event, pauses[1:]))

    def sweep(self):
        with contextlib.suppress(ClientError):
            self.run(sweep, {})

    def connect(self, device):
        self.device = None
        identity = certificate_id(device.certificate_in_place())
        if identity not in self.aws.attached() or not device.pair_matches():
            return False
        self.device = device
        self.aws.connected.add(identity)
        at = START + timedelta(seconds=self.loop.time)
        event = {
            "clientId": THING, "timestamp": int(at.timestamp() * 1000), "eventType": "connected",
            "sessionIdentifier": "s", "principalIdentifier": identity,
        }  # fmt: skip
        for delay, _ in self.intercept("presence", "", b""):
            self._later(delay + 0.2, lambda: self.repeat(event))
        return True

    def receive(self, device, topic, payload):
        """What is late is held back by Lambda: the rule has noted already over which connection it came, and when."""
        if self.device is not device or device.principal not in self.registry:
            raise MessagesError("not connected")
        at = START + timedelta(seconds=self.loop.time)
        origin = certificate_id(device.principal), int(at.timestamp() * 1000)
        for delay, data in self.intercept("to cloud", topic, payload):
            self._later(delay, lambda data=data: self.handle(topic, data, origin))

    def handle(self, topic, payload, principal):
        rotation = parse_rotation_topic(topic)
        if rotation is None:
            super().handle(topic, payload, principal)
            return
        identity, received_at = principal
        rule_adds = {
            "thingName": THING, "topic": topic, "clientId": THING, "principal": identity, "receivedAt": received_at
        }  # fmt: skip
        module = create_certificate if rotation.operation == "create" else commit_certificate
        try:
            self.run(module, {**json.loads(payload), **rule_adds})
        except (ClientError, ConflictError):
            self.outcomes[module.__name__, "failed"] += 1  # the device asks again

    def terminal(self, job_id, status):
        details = self.jobs[job_id][2]
        at = START + timedelta(seconds=self.loop.time)
        event = {
            "eventType": "JOB_EXECUTION", "eventId": "e", "timestamp": int(at.timestamp()), "operation": status.lower(),
            "jobId": job_id, "thingArn": f"{PREFIX}:thing/{THING}", "status": status, "statusDetails": details,
        }  # fmt: skip
        delays = [delay for delay, _ in self.intercept("event", "", b"")] or [0.0]  # none is lost
        for delay in delays:
            self._later(delay + 0.1, lambda: self.repeat(event))


class Clock:
    """The device's, which goes right."""

    def __init__(self, loop):
        self.loop = loop

    def now(self):
        return START + timedelta(seconds=self.loop.time)


def machine_for(ca, first_pair, memory, outcomes):  # noqa: C901  # a class per run: hypothesis builds it without arguments
    class BothHalves(RuleBasedStateMachine):
        @initialize(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=12))
        def switch_on(self, fates):
            self.folder = Path(tempfile.mkdtemp(dir=memory))
            self.loop = VirtualLoop()
            self.cloud = Functions(ca, first_pair[0], self.loop)
            self.device = Device(self.folder, first_pair, self.cloud, self.loop)
            self.device.clock = Clock(self.loop)
            self.fates, self.messages, self.number, self.calm = fates, 0, 0, False
            self.cloud.intercept = self.intercept
            self.device.switch_on()

        def intercept(self, _direction, _topic, payload):
            fate = "pass" if self.calm else self.fates[self.messages % len(self.fates)]
            self.messages += 1
            return deliveries(fate, payload)

        @rule(fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=12))
        def the_network_changes(self, fates):
            self.fates = fates

        @precondition(lambda self: self.number < 3)
        @rule()
        def a_job_is_created(self):
            self.number += 1
            self.cloud.create_job(f"job-{self.number}", DOCUMENT)

        @rule(seconds=st.sampled_from([0.0, 0.5, 1.5, 12.0, 35.0, 130.0, 700.0]))
        def time_passes(self, seconds):
            self.loop.run(seconds)

        @rule(at=st.integers(0, 12), after=st.booleans())
        def a_call_to_aws_will_fail(self, at, after):
            self.cloud.aws.faults = [Fault(at, after=after)]

        @rule(off=st.sampled_from([0.1, 5.0, 400.0]))
        def the_power_fails(self, off):
            self.device.switch_off()
            self.loop.call_later(off, self.device.switch_on)

        @rule()
        def the_connection_breaks(self):
            self.cloud.device = None
            self.loop.call_later(20.0, lambda: self.device.rotator and self.device.connect())

        @precondition(lambda self: any(job[0] == "IN_PROGRESS" for job in self.cloud.jobs.values()))
        @rule(status=st.sampled_from(["CANCELED", "TIMED_OUT"]))
        def the_cloud_ends_the_job(self, status):
            job_id = next(name for name, job in self.cloud.jobs.items() if job[0] == "IN_PROGRESS")
            self.cloud.end_job(job_id, status)

        @invariant()
        def a_credential_that_works_is_there(self):
            if hasattr(self, "cloud"):
                assert sum(job[0] == "IN_PROGRESS" for job in self.cloud.jobs.values()) <= 1
                assert self.device.pair_matches()
                assert self.device.holds_a_working_credential()

        def a_day_passes(self):
            """The device sleeps through most of it: what it does when it is idle is the same all day."""
            for awake in (6000, *[900] * 5):
                self.loop.run(awake)
                self.loop.time += 4 * 3600 - awake
                self.cloud.sweep()

        def two_starts(self):
            for _ in range(2):
                self.device.switch_on()
                self.a_day_passes()

        def a_person_decides(self):
            in_place = certificate_id(self.device.certificate_in_place())
            others = self.cloud.aws.attached() - {in_place}
            assert len(others) == 1
            assert any(f"--certificate-id {others.copy().pop()}" in notice for notice in self.cloud.aws.notices)
            self.cloud.aws.certificates[others.pop()].status = "INACTIVE"
            self.cloud.outcomes["operator", "decided"] += 1
            self.cloud.sweep()

        def teardown(self):
            if not hasattr(self, "cloud"):
                return
            self.calm, self.cloud.aws.faults = True, []
            self.a_day_passes()
            self.two_starts()
            if self.device.unaccounted():  # a commit of the rotation before its latest is none that the backend knows
                self.a_job_is_created()
                self.two_starts()
            assert self.device.unaccounted() == []
            assert all(job[0] not in ("QUEUED", "IN_PROGRESS") for job in self.cloud.jobs.values())
            assert self.device.certificate_in_place() in self.cloud.registry
            if len(self.cloud.aws.certificates) > 1:
                self.a_person_decides()
            assert self.cloud.registry == {self.device.certificate_in_place()}
            assert len(self.cloud.aws.certificates) == 1, "a certificate is left over"
            outcomes.update(self.cloud.outcomes)
            shutil.rmtree(self.folder)

    return BothHalves


@pytest.mark.unmeasured
def test_whatever_happens_one_certificate_is_left_and_it_is_the_devices(caplog, tmp_path, capsys):
    caplog.set_level(logging.CRITICAL)
    ca, key = Ca(), ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    first_pair = pem_of(ca.issue(key.public_key(), subject_of())), pem
    outcomes = Counter()
    shared = Path("/dev/shm")  # what is synced needs no disk
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as memory:
        run_state_machine_as_test(
            machine_for(ca, first_pair, memory, outcomes),
            settings=settings(
                max_examples=100, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    said = {f"{module.rpartition('.')[2]} {status}": n for (module, status), n in sorted(outcomes.items())}
    with capsys.disabled():
        print(f"\n{said}", end=" ")  # noqa: T201  # how much has happened
    assert {"create_certificate accepted", "commit_certificate accepted", "job_execution_terminal rotated"} <= set(said)
