"""Rotations among faults of every kind, and the question at the end: is every certificate accounted for?"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from datetime import timedelta

from botocore.exceptions import ClientError, ReadTimeoutError
from integration_bench import COMMIT, CREATE, TERMINAL
from integration_intruder import Connection
from integration_sandbox import Operator, held_by, phase_of, record_of
from integration_time import PowerCutError

from sandbox.edge.faults import Delivery, Fault
from sandbox.stack.invocations import InvocationFault, RetryDelays, RunKilledError

FAST = {"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}
SWEEP = "Sweep"


class Trial:
    """Some devices and their backend, unkind until ``calm``; ``counted`` is what has happened."""

    def __init__(self, world, folder):
        self.world, self.random, self.folder = world, world.random, folder
        self.timeline, self.iot = world.timeline, world.client("iot")
        self.things = sorted(world.devices)
        self.operator = Operator(world)
        self.counted = Counter()
        self.is_calm = True
        self._meet_everything()

    # what goes wrong -----------------------------------------------------------------------------

    def _meet_everything(self):
        self.world.calls.meet = self._meet_call
        for topics in ("awslabs/#", "$aws/things/#"):
            self.world.faults.add(Fault(topics, self._meet_message))
        unkindness = self.world.stack.unkindness
        for function in (CREATE, COMMIT, TERMINAL, SWEEP):
            unkindness.add(InvocationFault(function, lambda _run, name=function: self._meet_event(name)))
        unkindness.waits = RetryDelays.of_lambda()
        for device in self.world.devices.values():
            device.at_disk = lambda device=device: self._meet_change(device)

    def _strikes(self, what, one_in):
        """Whether this happens now."""
        if self.is_calm or self.random.randrange(one_in):
            return False
        self.counted[what] += 1
        return True

    def _meet_call(self, call):
        if self._strikes("runs killed before a call", 100):
            raise RunKilledError
        if self._strikes("calls throttled", 100):
            raise ClientError(
                {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "x"
            )
        answer = call()
        if self._strikes("runs killed after a call", 100):
            raise RunKilledError
        if self._strikes("answers lost", 100):
            raise ReadTimeoutError(endpoint_url="sandbox")
        return answer

    def _meet_message(self, delivery):
        if self._strikes("messages lost", 15):
            return ()
        if self._strikes("messages doubled", 15):
            return (delivery, Delivery(delivery.topic, delivery.payload, delivery.after + self._late()))
        if self._strikes("messages late", 15):
            return (Delivery(delivery.topic, delivery.payload, delivery.after + self._late()),)
        return (delivery,)

    def _meet_event(self, function):
        if self._strikes(f"{function} events lost", 15):
            return ()
        if self._strikes(f"{function} events doubled", 15):
            return (0.0, self._late())
        if self._strikes(f"{function} events late", 5):
            return (self._late(),)
        return (0.0,)

    def _late(self):
        return self.random.choice([0.3, 1.5, 5.0, 20.0, self.random.uniform(0, 60)])

    def _meet_change(self, device):
        if self._strikes("nuclei killed at the disk", 100):
            raise PowerCutError(lambda: device.lose_power(self._off()))

    def _off(self):
        return self.random.choice([1.0, 30.0, 300.0, 1800.0])

    # what is done --------------------------------------------------------------------------------

    def rotate(self):
        """One rotation of every device, with what happens to come between, and an hour or two of time."""
        self.is_calm = False
        job = self.begin(minutes=self.random.choice([2, 10, 30]))
        for thing in self.things:
            self._perhaps("nuclei killed", 3, lambda thing=thing: self.world.devices[thing].lose_power(self._off()))
            self._perhaps("executions ended by the cloud", 8, lambda thing=thing: self._cancel(job, thing))
        self._perhaps("jobs deleted", 8, lambda: self.iot.delete_job(jobId=job, force=True))
        self._perhaps("functions down", 4, self._take_down)
        self.timeline.run(timedelta(minutes=self.random.choice([20, 70])))
        self._count_ends(job)

    def begin(self, minutes):
        """Ask every device for a rotation; returns the job's id."""
        job = f"trial-{uuid.uuid4().hex[:12]}"
        arns = [self.iot.describe_thing(thingName=thing)["thingArn"] for thing in self.things]
        timeout = {"inProgressTimeoutInMinutes": minutes}
        self.iot.create_job(jobId=job, targets=arns, document=json.dumps(FAST), timeoutConfig=timeout)
        return job

    def _perhaps(self, what, one_in, action):
        if self._strikes(what, one_in):
            self.timeline.call_later(self.random.uniform(0, 120), action)

    def _cancel(self, job, thing):
        try:
            self.iot.cancel_job_execution(jobId=job, thingName=thing, force=True)
        except ClientError:  # it has ended, or its job is gone
            self.counted["executions ended by the cloud"] -= 1

    def _take_down(self):
        function = self.random.choice([CREATE, COMMIT, TERMINAL, SWEEP])
        until = self.world.clock.now() + timedelta(minutes=self.random.choice([1, 10, 60]))
        self.world.stack.unkindness.down(function, until)

    def _count_ends(self, job):
        for thing in self.things:
            try:
                found = self.iot.describe_job_execution(jobId=job, thingName=thing)["execution"]["status"]
            except self.iot.exceptions.ResourceNotFoundException:
                found = "DELETED"
            self.counted[found] += 1

    # how it ends ---------------------------------------------------------------------------------

    def calm(self):
        """Nothing goes wrong any more; every device is started once more, and two days pass."""
        self.is_calm = True
        self.timeline.run(timedelta(hours=1))
        for _ in range(2):
            for device in self.world.devices.values():
                device.lose_power(1.0)
            self.timeline.run(timedelta(minutes=20))
            self.timeline.leap(timedelta(days=1))
            self.timeline.run(timedelta(minutes=20))

    def certificates(self):
        """Every certificate of the registry → the things that hold it."""
        pages = self.iot.get_paginator("list_certificates").paginate()
        ids = [found["certificateId"] for page in pages for found in page["certificates"]]
        return {certificate: self._holders(certificate) for certificate in ids}

    def _holders(self, certificate):
        arn = self.world.cloud.site.arn(f"cert/{certificate}")
        found = self.iot.list_principal_things_v2(principal=arn)["principalThingObjects"]
        return [thing["thingName"] for thing in found]

    def assert_accounted_for(self):
        """Each is in use by the one thing that holds it, as TLS shows, or a notice names it."""
        in_use = {held_by(self.world, thing): thing for thing in self.things}
        assert len(in_use) == len(self.things)
        found, told = self.certificates(), "\n".join(self.operator.read())
        for certificate, thing in in_use.items():
            assert found.get(certificate) == [thing], (thing, certificate, found.get(certificate))
            assert self._connects(thing), thing
        for certificate in found.keys() - in_use.keys():
            assert certificate in told, (certificate, found[certificate], self._records(found[certificate]))
        return found.keys() - in_use.keys()

    def _connects(self, thing):
        connection = Connection(self.world, self.world.credential_of(thing), f"{thing}#2", self.folder)
        is_up = connection.up
        connection.close()
        return is_up

    def _records(self, things):
        return [record_of(self.world, thing) for thing in things]

    def decide(self, certificates):
        """What a person does who was told: deactivates what its device does not use."""
        for certificate in certificates:
            self.counted["decided by a person"] += 1
            self.iot.update_certificate(certificateId=certificate, newStatus="INACTIVE")
        self.timeline.run(timedelta(minutes=40))

    def assert_nothing_is_left(self, caplog):
        """No rotation is open, and a further sweep finds nothing."""
        phases = {thing: phase_of(self.world, thing) for thing in self.things}
        assert set(phases.values()) <= {"finished", None}, phases  # None: each of its jobs ended before it had asked
        before = self.certificates()
        caplog.clear()
        self.timeline.run(timedelta(minutes=16))
        swept = [record for record in caplog.records if getattr(record, "decision", None) == "swept"]
        assert {(sweep.open, sweep.failed, sweep.oldest_seconds) for sweep in swept} == {(0, 0, 0)}
        assert self.certificates() == before
        assert sorted(before.values()) == [[thing] for thing in self.things]
