"""What a device writes, and how late Lambda runs what hears it, costs nobody the credential that is in use.

Every connection here is MQTT over mutual TLS against the deployed template. The thief holds a copy of the key
that the device has now, and is let by its policy whatever a policy could let it do.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
import uuid
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from integration_bench import COMMIT, TERMINAL
from integration_intruder import LAX_POLICY, Answers, Connection, Thing, make_csr
from integration_sandbox import Operator, held_by

from protocol import topics
from sandbox.builder import Credential, private_key_pem
from sandbox.stack.invocations import Gate, InvocationFault, RetryDelays, lost

FAST = {"keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}
SETTLE = 60  # seconds for what takes milliseconds
OLDEST = 58.0  # seconds: after 60, Lambda gives a commit up
OURS = {"CertificateRotator": "rotating"}  # the details that the component writes


@pytest.fixture(scope="module", autouse=True)
def _lax(world):
    everything = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    world.cloud.seed.policy(LAX_POLICY, json.dumps({"Version": "2012-10-17", "Statement": [everything]}))


@pytest.fixture(scope="module")
def answers(world):
    return Answers(world.bus)


@pytest.fixture
def operator(world):
    return Operator(world)


@pytest.fixture(autouse=True)
def kind_again(world):
    yield
    world.stack.unkindness.clear()


class Stranded:
    """A device that has asked for a certificate and connected with it; what becomes of its job is the test's."""

    def __init__(self, world, answers, folder):
        self.world, self.connections = world, []
        self.thing = Thing(world, folder, policies=(LAX_POLICY,))
        self.iot = world.client("iot")
        self.arn = self.iot.describe_thing(thingName=self.thing.name)["thingArn"]
        self.job, self.answers = f"evidence-{uuid.uuid4().hex[:12]}", answers
        self.iot.create_job(
            jobId=self.job,
            targets=[self.arn],
            document=json.dumps({"operation": "ROTATE_CERTIFICATE"}),
            timeoutConfig={"inProgressTimeoutInMinutes": 5},
        )
        self.thing.jobs.append(self.job)
        self.old, self.old_id = self.thing.credential, self.thing.certificate_id
        self.connection = self.connect(self.old)

    def connect(self, credential, suffix=""):
        """As the device itself, or as a further client of the same thing."""
        self.connections.append(Connection(self.world, credential, self.thing.name + suffix, self.thing.folder))
        assert self.connections[-1].up
        return self.connections[-1]

    def update(self, status, details=None, over=None):
        """An update of the execution as MQTT has it, with the details that the sender likes."""
        body = {"status": status} | ({} if details is None else {"statusDetails": details})
        (over or self.connection).send(topics.jobs_update(self.thing.name, self.job), body)

    def begin(self, details=OURS):
        """Take the job, and get a certificate for a new key."""
        self.update("IN_PROGRESS", details)
        self.until(lambda: self.status() == "IN_PROGRESS")
        key = ec.generate_private_key(ec.SECP256R1())
        self.connection.send(topics.create(self.thing.name), {"jobId": self.job, "csr": make_csr(key, self.thing.name)})
        operation, outcome, payload = self.answers.next_to(self.thing.name)
        assert (operation, outcome) == ("create", "accepted"), payload
        self.new = Credential(private_key_pem(key), payload["certificatePem"].encode())
        [self.new_id] = set(self.certificates()) - {self.old_id}
        return self

    def move_over(self):
        """Connect with the new certificate; the presence event says so."""
        self.connection.close()
        self.connection = self.connect(self.new)
        self.settle()
        return self

    def commit(self):
        self.connection.send(topics.commit(self.thing.name), {"jobId": self.job})
        assert self.answers.next_to(self.thing.name, 2)[:2] == ("commit", "accepted")
        return self

    def status(self):
        found = self.iot.describe_job_execution(jobId=self.job, thingName=self.thing.name)["execution"]
        return found["status"]

    def certificates(self):
        """Id → status of what is attached."""
        principals = self.iot.list_thing_principals_v2(thingName=self.thing.name)["thingPrincipalObjects"]
        found = {principal["principal"].rpartition("/")[2]: None for principal in principals}
        for certificate in found:
            with contextlib.suppress(self.iot.exceptions.ResourceNotFoundException):  # deleted a moment ago
                described = self.iot.describe_certificate(certificateId=certificate)
                found[certificate] = described["certificateDescription"]["status"]
        return found

    def until(self, condition):
        until = time.monotonic() + SETTLE
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.02)

    def settle(self):
        assert self.world.stack.settle(SETTLE)

    def keeps(self, *certificates):
        """Wait until exactly these are left, ACTIVE."""
        self.until(lambda: self.certificates() == dict.fromkeys(certificates, "ACTIVE"))

    def is_told(self, operator, *words):
        """Wait until a notice of this job has these words."""
        self.until(lambda: any(all(word in text for word in (self.job, *words)) for text in operator.read()))

    def close(self):
        for connection in self.connections:
            connection.close()
        self.world.stack.unkindness.clear()
        self.thing.withdraw()


@pytest.fixture
def stranded(world, answers, tmp_path):
    stranded = Stranded(world, answers, tmp_path)
    yield stranded
    stranded.close()


def time_out(device):
    device.world.clock.advance(timedelta(minutes=5, seconds=1))


def cancel(device):
    device.iot.cancel_job(jobId=device.job, force=True)


def cancel_execution(device):
    device.iot.cancel_job_execution(jobId=device.job, thingName=device.thing.name, force=True)


def delete(device):
    device.iot.delete_job(jobId=device.job, force=True)


ENDS = [time_out, cancel, cancel_execution, delete]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_a_certificate_that_its_device_is_connected_with_stays_when_the_job_is_ended_by(stranded, operator, end):
    stranded.begin().move_over()
    end(stranded)
    stranded.is_told(operator, "both certificates stay")
    stranded.keeps(stranded.old_id, stranded.new_id)
    assert stranded.connection.up


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("order", list(itertools.permutations(("connection", "end"))), ids=" then ".join)
@pytest.mark.parametrize("seconds", [0.3, 60])
def test_it_stays_in_whichever_order_lambda_runs_what_tells_of_them(stranded, end, order, seconds):
    gates = {
        "connection": hold(stranded.world, lambda event: event.get("eventType") == "connected"),
        "end": hold(stranded.world, lambda event: event.get("eventType") == "JOB_EXECUTION"),
    }
    stranded.begin()
    stranded.connection.close()
    stranded.connection = stranded.connect(stranded.new)
    assert gates["connection"].wait()
    end(stranded)
    assert gates["end"].wait()
    for event in order:
        stranded.world.clock.advance(timedelta(seconds=seconds))
        gates[event].release()
        stranded.settle()
    assert stranded.certificates()[stranded.new_id] == "ACTIVE"
    assert stranded.connection.up


def hold(world, when, function=TERMINAL):
    gate = Gate()
    world.stack.unkindness.add(InvocationFault(function, gate, when))
    return gate


# Whatever stands in the details of the update that ends an execution ---------------------------------

DETAILS = {
    "no details": None,
    "empty details": {},
    "other keys": {"progress": "done", "Certificaterotator": "true"},
}


@pytest.fixture(params=[0, 1.5, 60])
def an_end_comes_late(world, request):
    """Call it when the end was sent: it is held by then, or comes to be, and runs so many seconds later."""
    gate = hold(world, the_jobs_end) if request.param else None

    def pass_by():
        if gate is not None:
            assert gate.wait()
            world.clock.advance(timedelta(seconds=request.param))
            gate.release()

    return pass_by


@pytest.mark.parametrize("details", DETAILS.values(), ids=DETAILS)
def test_the_end_of_a_rotation_that_succeeded_is_handled_with(stranded, details, an_end_comes_late):
    stranded.begin(details).move_over().commit()
    stranded.update("SUCCEEDED", details)
    stranded.until(lambda: stranded.status() == "SUCCEEDED")
    an_end_comes_late()
    stranded.keeps(stranded.new_id)


@pytest.mark.parametrize("details", DETAILS.values(), ids=DETAILS)
def test_the_end_of_a_rotation_that_failed_is_handled_and_told_with(stranded, operator, details, an_end_comes_late):
    stranded.begin(details)
    stranded.update("FAILED", details)
    stranded.until(lambda: stranded.status() == "FAILED")
    an_end_comes_late()
    stranded.keeps(stranded.old_id)
    stranded.is_told(operator, "FAILED")


def a_thief_ends_the_job(stranded, status):
    """Over a connection with the old certificate, while the device is connected with its new one."""
    stranded.begin().move_over()
    stranded.world.clock.advance(timedelta(seconds=5))
    thief = stranded.connect(stranded.old, "#2")
    stranded.settle()
    stranded.world.clock.advance(timedelta(seconds=5))
    stranded.update(status, {"owner": "nobody"}, over=thief)
    stranded.until(lambda: stranded.status() == status)
    stranded.settle()


@pytest.mark.parametrize("status", ["SUCCEEDED", "REJECTED"])
def test_another_client_of_the_thing_that_ends_the_job_takes_no_certificate_in_use_and_is_noticed(
    stranded, operator, status
):
    a_thief_ends_the_job(stranded, status)
    if status == "SUCCEEDED":  # it may have overtaken its commit: a day is given to that
        sweep(stranded.world, timedelta(days=1, minutes=16))
    stranded.is_told(operator, status)
    assert stranded.certificates()[stranded.new_id] == "ACTIVE"
    assert stranded.connection.up


def test_another_client_that_reports_failed_costs_the_device_this_rotation_and_is_noticed(stranded, operator):
    """As its device does that goes back: it is believed, and the old certificate, which the device keeps, stays."""
    a_thief_ends_the_job(stranded, "FAILED")
    stranded.keeps(stranded.old_id)
    stranded.is_told(operator, "FAILED", f"the new certificate {stranded.new_id} is removed")


# What nobody hears of is made up for by the sweep -----------------------------------------------------------


def lose(world):
    world.stack.unkindness.add(InvocationFault(TERMINAL, lost()))


def take_down_for_a_day(world):
    """As Lambda has it: what fails is repeated after one minute and two more, then given up."""
    world.stack.unkindness.waits = RetryDelays.of_lambda()
    world.stack.unkindness.down(TERMINAL, world.clock.now() + timedelta(days=1))


def take_down_with_the_sweep(world):
    take_down_for_a_day(world)
    world.stack.unkindness.down("Sweep", world.clock.now() + timedelta(days=1))


TROUBLES = [lose, take_down_for_a_day, take_down_with_the_sweep]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_an_end_that_the_backend_does_not_hear_of_is_made_up_for(world, stranded, trouble, status):
    trouble(world)
    stranded.begin()
    if status == "SUCCEEDED":
        stranded.move_over().commit()
    stranded.update(status, OURS)
    stranded.until(lambda: stranded.status() == status)
    for seconds in (0, 60, 120):  # when Lambda tries again
        world.clock.advance(timedelta(seconds=seconds))
        assert world.stack.settle(SETTLE)
    assert len(stranded.certificates()) == 2
    sweep(world, timedelta(days=1))
    sweep(world)
    stranded.keeps(stranded.new_id if status == "SUCCEEDED" else stranded.old_id)


# A forged answer to the commit --------------------------------------------------------------------------


class Heist:
    """The real component rotates; a thief with a copy of the current key answers its commit in the backend's name."""

    def __init__(self, bench, world, folder):
        self.bench, self.world = bench, world
        [self.thing] = bench.things
        self.device = world.devices[self.thing]
        self.stolen, self.old_id = world.credential_of(self.thing), held_by(world, self.thing)
        self.folder, self.thief = folder, None
        iot, arn = world.client("iot"), f"arn:aws:iot:eu-west-1:123456789012:cert/{self.old_id}"
        iot.attach_policy(policyName=LAX_POLICY, target=arn)

    def connect(self):
        self.thief = Connection(self.world, self.stolen, f"{self.thing}#2", self.folder)
        return self.thief

    def forge(self):
        self.thief.send(f"{topics.commit(self.thing)}/accepted", {})

    def assert_the_device_is_not_lost(self):
        """What it holds it can connect with, now and after a start."""
        assert self.world.stack.drain(SETTLE)
        held = held_by(self.world, self.thing)
        assert self.bench.certificates(self.thing)[held].status == "ACTIVE"
        before = self.device.connections
        self.device.restart()
        assert self.device.wait_connected(SETTLE, connections=before + 1)
        assert self.world.endpoint.connected_clients()[self.thing] == held
        assert self.world.stack.drain(SETTLE)

    def assert_the_thief_has_nothing_that_nobody_knows_of(self, told):
        """Either the stolen certificate is gone, or somebody was told that it is not."""
        if self.old_id in self.bench.certificates(self.thing):
            assert told

    def close(self):
        if self.thief is not None:
            self.thief.close()


@pytest.fixture
def heist(bench, world, tmp_path):
    heist = Heist(bench, world, tmp_path)
    yield heist
    heist.close()
    mend(bench, world, heist)


def mend(bench, world, heist):
    """What an operator does who was told: deactivates what the device does not use; a sweep removes it.

    Not always the next one: it leaves alone what a commit of the device, which has started anew, is at work on.
    """
    world.stack.unkindness.clear()
    assert world.stack.drain(SETTLE)
    held = held_by(world, heist.thing)
    for certificate in set(bench.certificates(heist.thing)) - {held}:
        world.client("iot").update_certificate(certificateId=certificate, newStatus="INACTIVE")

    def is_removed_by_a_sweep():
        sweep(world)
        return set(bench.certificates(heist.thing)) == {held}

    bench.until(is_removed_by_a_sweep, "what was deactivated is removed")


def sweep(world, after=timedelta(minutes=16)):
    """Let so much time pass that the next sweep is due."""
    world.clock.advance(after)
    assert world.stack.settle(SETTLE)


def the_jobs_end(event):
    return event.get("eventType") == "JOB_EXECUTION"


@pytest.mark.parametrize("order", list(itertools.permutations(("commit", "end", "thief"))), ids=" then ".join)
def test_a_device_that_a_forged_answer_has_deceived_is_not_lost_when_the_backend_hears_of(
    bench, world, operator, heist, order
):
    heist.connect()
    job = bench.rotate(FAST)
    gates = {"commit": hold(world, lambda event: event["jobId"] == job, COMMIT), "end": hold(world, the_jobs_end)}
    assert gates["commit"].wait()
    heist.forge()
    assert {ending.status for ending in bench.endings(job).values()} == {"SUCCEEDED"}
    heist.close()
    for event in order:
        world.clock.advance(timedelta(seconds=OLDEST / 3))
        if event == "thief":
            heist.connect()
        else:
            assert gates[event].wait()
            gates[event].release()
        assert world.stack.drain(SETTLE)
    world.stack.unkindness.clear()
    heist.assert_the_device_is_not_lost()
    heist.assert_the_thief_has_nothing_that_nobody_knows_of(any(job in text for text in operator.read()))


@pytest.mark.parametrize("seconds", [0.3, 1.5, OLDEST])
def test_nor_when_the_commit_is_late_by(bench, world, operator, heist, seconds):
    heist.connect()
    job = bench.rotate(FAST)
    gate = hold(world, lambda event: event["jobId"] == job, COMMIT)
    assert gate.wait()
    heist.forge()
    assert {ending.status for ending in bench.endings(job).values()} == {"SUCCEEDED"}
    heist.close()
    world.clock.advance(timedelta(seconds=seconds))
    gate.release()
    assert world.stack.drain(SETTLE)
    heist.connect()
    heist.assert_the_device_is_not_lost()
    heist.assert_the_thief_has_nothing_that_nobody_knows_of(any(job in text for text in operator.read()))
