"""A device in quarantine, over MQTT with mutual TLS: from the merged document to the refused connection, and back.

``certfleet heal`` plans from the document and carries the plan out, as the workflow does. The device, and a thief
with another credential of the fleet, try what a connection lets them send; nothing of it ends a quarantine.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

import pytest
from boto3.dynamodb.types import TypeDeserializer
from cryptography.hazmat.primitives.asymmetric import ec
from integration_intruder import LAX_POLICY, WAIT, Thing, make_csr
from integration_sandbox import GROUP
from shared_documents import QUARANTINE
from shared_repository import Repository

from protocol import topics
from protocol.quarantine import key_of

PROCESSES = 0
DOCUMENTS = f"""\
apiVersion: certfleet/v1
kind: Fleet
metadata: {{name: factory}}
spec: {{account: "123456789012", region: eu-west-1}}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: under-test}}
spec: {{thingGroup: {GROUP}, certificate: {{maxAge: 3650d}}}}
"""


class Plant(Repository):
    """The world, and the repository whose merges its registry follows."""

    def __init__(self, world, folder):
        super().__init__(folder / "repository")
        self.world, self.plan = world, folder / "heal.json"
        self.merge(DOCUMENTS)

    def merge(self, text):
        self.write(text)
        self.commit()

    def heal(self):
        """Plan and carry out, as the workflow heal does once a reviewer has approved it."""
        here = ("--inventory", str(self.plan.with_name("inventory.sqlite")))
        planned = self.run(
            "heal", "plan", "--only", "quarantine", "--format", "json", "--output", str(self.plan), *here
        )
        assert planned.code == 2, planned.err
        done = self.run("heal", "apply", str(self.plan), "--pause", "0s")
        assert done.code == 0, done.out + done.err

    def status(self, thing):
        described = self.world.client("iot").describe_certificate(certificateId=thing.certificate_id)
        return described["certificateDescription"]["status"]

    def quarantined(self, thing):
        table = self.world.stack.outputs["RotationTable"]
        key = {name: {"S": value} for name, value in key_of(thing.name).items()}
        item = self.world.client("dynamodb").get_item(TableName=table, Key=key).get("Item", {})
        return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}


@pytest.fixture
def plant(world, tmp_path, monkeypatch):
    for name, value in world.environment().items():
        monkeypatch.setenv(name, value)
    everything = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    world.cloud.seed.policy(LAX_POLICY, json.dumps({"Version": "2012-10-17", "Statement": [everything]}))
    return Plant(world, tmp_path)


@pytest.fixture
def thing(world, tmp_path):
    """Makes things of the group; what they left is taken away at the end."""
    made, open_connections = [], []

    def make(**how):
        one = Thing(world, tmp_path, **how)
        world.client("iot").add_thing_to_thing_group(thingName=one.name, thingGroupName=GROUP)
        made.append(one)
        connect = one.connect

        def connected(**options):
            open_connections.append(connect(**options))
            return open_connections[-1]

        one.connect = connected
        return one

    yield make
    for connection in open_connections:
        connection.close()
    for one in made:
        one.withdraw()


def attempts(victim, csr):
    """Topic and payload of everything that concerns a device, its jobs, its shadow and its presence."""
    own = f"$aws/things/{victim.name}"
    told = {"status": "SUCCEEDED", "statusDetails": {"CertificateRotator": "done"}}
    record = {"state": {"desired": {"thing": victim.name}, "reported": {"deactivated": {}, "phase": "committed"}}}
    presence = {"clientId": victim.name, "eventType": "connected", "principalIdentifier": victim.certificate_id}
    return [
        (topics.create(victim.name), {"jobId": victim.job, "csr": csr}),
        (topics.commit(victim.name), {"jobId": victim.job}),
        (f"{own}/jobs/{victim.job}/update", told),
        (f"{own}/jobs/start-next", {}),
        (f"{own}/shadow/update", record),
        (f"{own}/shadow/name/AWSLabsCertificateRotator/update", record),
        (f"{own}/shadow/name/quarantine/delete", {}),
        (f"$aws/events/presence/connected/{victim.name}", presence | {"timestamp": int(time.time() * 1000)}),
        (f"$aws/events/jobExecution/{victim.job}/succeeded", {"thingArn": victim.name, **told}),
    ]


def send(connection, messages):
    """Send while the connection stands; an endpoint may end one that asks for what is not allowed."""
    sent = 0
    for topic, body in messages:
        if connection.up:
            connection.send(topic, body)
            sent += 1
    return sent


def test_from_the_merge_to_the_refused_connection_and_back_by_a_revert(plant, thing, world, capsys):
    victim, neighbour = thing().start_job(), thing()
    open_connection, other = victim.connect(), neighbour.connect()
    assert (open_connection.up, other.up) == (True, True)

    merged = time.monotonic()
    plant.merge(DOCUMENTS + QUARANTINE % victim.name)
    plant.heal()
    open_connection.wait_lost()
    ended = time.monotonic() - merged
    assert victim.connect().lost, "the same credential is refused"
    refused = time.monotonic() - merged
    with capsys.disabled():
        sys.stdout.write(f"\nfrom merge to ended connection {ended:.1f} s, to refused CONNECT {refused:.1f} s\n")
    assert (plant.status(victim), plant.status(neighbour)) == ("INACTIVE", "ACTIVE")
    assert victim.connect(client_id=f"{victim.name}#2").lost, "under no name"
    assert (other.up, neighbour.connect().up) == (True, True)
    execution = world.client("iot").describe_job_execution(jobId=victim.job, thingName=victim.name)
    assert execution["execution"]["status"] == "CANCELED"

    plant.merge(DOCUMENTS)
    plant.heal()
    assert (plant.status(victim), plant.quarantined(victim)) == ("ACTIVE", {})
    assert victim.connect().up, "the very credential of before"


def test_neither_the_device_nor_another_can_end_a_quarantine(plant, thing, world):
    victim, thief = thing(policies=(LAX_POLICY,)).start_job(), thing(policies=(LAX_POLICY,)).start_job()
    csr = make_csr(ec.generate_private_key(ec.SECP256R1()), victim.name)
    lingers = victim.connect(client_id=f"{victim.name}#9")  # a client id that healing does not know
    plant.merge(DOCUMENTS + QUARANTINE % victim.name)
    plant.heal()
    before = plant.quarantined(victim)
    assert list(before["deactivated"]) == [victim.certificate_id]

    assert victim.connect().lost, "its own credential lets nobody in any more"
    assert victim.connect(client_id=thief.name).lost, "nor under the name of another"
    victim.start_job()  # by somebody who knows of no quarantine
    allowed = [one for one in attempts(victim, csr) if not one[0].startswith("$aws/events/")]
    assert lingers.up, "AWS ends it within minutes, and it sends until then"
    for attempt in allowed:
        assert send(lingers, [attempt]) == 1
        assert world.stack.settle(WAIT)  # before its job is over
    sent = 0
    for attempt in attempts(victim, csr):
        sent += send(thief.connect(client_id=victim.name), [attempt])
        sent += send(thief.connect(), [attempt])
    assert sent == 2 * len(attempts(victim, csr)), "the endpoint let all of it in"
    assert world.stack.settle(WAIT)
    world.cloud.site.clock.advance(timedelta(hours=1))  # the sweep has come round
    assert world.stack.settle(WAIT)

    assert (plant.status(victim), plant.quarantined(victim)) == ("INACTIVE", before)
    held = world.client("iot").list_thing_principals(thingName=victim.name)["principals"]
    assert [arn[-64:] for arn in held] == [victim.certificate_id], "nothing was made for it"
    assert victim.connect().lost
    planned = plant.run("heal", "plan", "--only", "quarantine", "--format", "json")
    assert json.loads(planned.out)["fleets"][0]["actions"] == [], "there is nothing to do"
    assert plant.status(thief) == "ACTIVE"
