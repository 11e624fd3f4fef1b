"""What an intruder with a certificate of their own may try, over MQTT with mutual TLS, against the deployed template.

Rules, SQL, functions and table are those of the synthesised stack. Every attempt is answered with its
code, logged as one line without secrets, and leaves registry and table as they were. AWS IoT's policies
stop some attempts before the backend hears of them: those are shown twice, stopped under the policy that
devices should have, and refused by the backend where a policy allows everything.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from boto3.dynamodb.types import TypeDeserializer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from integration_intruder import LAX_POLICY, WAIT, Answers, Connection, Thing, make_csr

from protocol import topics
from protocol.names import DEFAULT_STACK_NAME
from protocol.rotation_record import REFUSED

PROCESSES = 0
SECRETS = ("BEGIN", "PRIVATE", "MII", "-----")


class Attempt(NamedTuple):
    """A message, the connection that it is sent over, and the thing on whose topic it is sent."""

    connection: Connection
    thing: Thing
    operation: str
    body: dict

    @property
    def topic(self):
        return {"create": topics.create, "commit": topics.commit}[self.operation](self.thing.name)


class Scene:
    """A victim with a rotation of its own under way, and an intruder with one, too."""

    def __init__(self, ground, folder):
        self.world, self.answers, self.keys, self.folder = ground.world, ground.answers, ground.keys, folder
        self.connections = []
        self.victim = self.me = Thing(self.world, folder).start_job()

    def intruder(self, *, lax=False, job=None, **how):
        """A thing of the intruder's, with a job in progress; ``lax``: its policy allows everything."""
        policies = {"policies": (LAX_POLICY,)} if lax else {}
        self.me = Thing(self.world, self.folder, **policies, **how)
        return self.me.start_job(**(job or {}))

    def connect(self, thing, **how):
        self.connections.append(thing.connect(**how))
        return self.connections[-1]

    def csr(self, key="new", subject=None):
        return make_csr(self.keys[key] if isinstance(key, str) else key, subject or self.me.name)

    def create(self, *, over=None, of=None, **body):
        """A create; by default over the intruder's own connection, on the own topic, for the own job."""
        of = of or self.me
        connection = over or self.connect(self.me)
        return Attempt(connection, of, "create", {"jobId": of.job, "csr": self.csr(), **body})

    def commit(self, *, over=None, of=None, **body):
        of = of or self.me
        return Attempt(over or self.connect(self.me), of, "commit", {"jobId": of.job, **body})

    def send(self, attempt):
        attempt.connection.send(attempt.topic, attempt.body)

    def state(self):
        """Certificates of the account, those of both things with what hangs on them, and both things' records."""
        iot, found = self.world.client("iot"), {}
        pages = iot.get_paginator("list_certificates").paginate()
        found["account"] = sorted((c["certificateId"], c["status"]) for page in pages for c in page["certificates"])
        for thing in (self.victim.name, self.me.name):
            principals = iot.list_thing_principals_v2(thingName=thing)["thingPrincipalObjects"]
            found[thing] = (
                [
                    (
                        p["principal"],
                        p["thingPrincipalType"],
                        iot.list_attached_policies(target=p["principal"])["policies"],
                    )
                    for p in principals
                ],
                self.records(thing),
            )
        return found

    def records(self, thing):
        answer = self.world.client("dynamodb").query(
            TableName=self.world.stack.outputs["RotationTable"],
            KeyConditionExpression="thingName = :t",
            ExpressionAttributeValues={":t": {"S": thing}},
        )
        read, noted = (
            TypeDeserializer().deserialize,
            {"oldSeenAt", "version"},
        )  # that a certificate is used is not an effect
        found = [{name: read(value) for name, value in item.items() if name not in noted} for item in answer["Items"]]
        counted = ("budget", REFUSED)  # what it asks for, and what it was told
        return [record for record in found if not record["record"].startswith(counted)]

    def begin(self, thing, connection):
        """A create that is in order: the thing now has two certificates."""
        self.me, before = thing, self.me
        self.send(self.create(over=connection))
        assert self.answers.next_to(thing.name)[1] == "accepted"
        self.settle()
        self.me = before

    def settle(self):
        assert self.world.stack.drain(WAIT)


@pytest.fixture(scope="module")
def ground(world):
    everything = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    world.cloud.seed.policy(LAX_POLICY, json.dumps({"Version": "2012-10-17", "Statement": [everything]}))
    return SimpleNamespace(
        world=world,
        answers=Answers(world.bus),
        keys={
            "new": ec.generate_private_key(ec.SECP256R1()),
            "weak": rsa.generate_private_key(65537, 1024),  # on purpose
            "RSA": rsa.generate_private_key(65537, 2048),
        },
    )


@pytest.fixture
def scene(ground, tmp_path, caplog):
    caplog.set_level("INFO")
    scene = Scene(ground, tmp_path)
    yield scene
    for connection in scene.connections:
        connection.close()
    ground.world.stack.unkindness.clear()
    for thing in {scene.victim, scene.me}:
        thing.withdraw()


# Refused by the backend ------------------------------------------------------------------------------


def other_things_job(scene):
    scene.intruder()
    return scene.create(jobId=scene.victim.job)


def own_job_from_another_connection(scene):
    scene.intruder(lax=True)
    return scene.create(of=scene.victim)


def own_job_from_another_connection_under_its_client_id(scene):
    me = scene.intruder(lax=True)
    over = scene.connect(me, client_id=f"{scene.victim.name}#2")
    return scene.create(over=over, of=scene.victim, csr=scene.csr(subject=scene.victim.name))


def client_id_of_nobody(scene):
    me = scene.intruder(lax=True)
    return scene.create(over=scene.connect(me, client_id="somebody-else"))


def not_attached(scene):
    me = scene.intruder(lax=True, attached=False)
    over = scene.connect(me, client_id=scene.victim.name)
    return scene.create(over=over, of=scene.victim, csr=scene.csr(subject=scene.victim.name))


def attached_to_nothing(scene):
    scene.intruder(lax=True, attached=False)
    return scene.create()


def also_another_things(scene):
    me = scene.intruder(exclusive=False)
    scene.world.cloud.seed.attach(scene.victim.name, me.certificate_id, exclusive=False)
    return scene.create()


def unknown_authority(scene):
    scene.intruder(job={"certificateAuthority": "intruders-ca"})
    return scene.create()


def weak_key(scene):
    scene.intruder()
    return scene.create(csr=scene.csr("weak"))


def wrong_key_type(scene):
    scene.intruder(job={"keyAlgorithm": "ECDSA-P256"})
    return scene.create(csr=scene.csr("RSA"))


def wrong_algorithm(scene):
    scene.intruder(job={"signingAlgorithm": "ECDSA-WITH-SHA512"})
    return scene.create()


def reused_key(scene):
    me = scene.intruder()
    return scene.create(csr=scene.csr(me.key))


def wrong_subject(scene):
    scene.intruder()
    return scene.create(csr=scene.csr(subject=scene.victim.name))


def bad_signature(scene):
    scene.intruder()
    lines = scene.csr().splitlines()
    lines[-2] = ("A" if lines[-2][0] != "A" else "B") + lines[-2][1:]
    return scene.create(csr="\n".join(lines))


def five_kilobytes(scene):
    scene.intruder()
    return scene.create(csr="x" * 5120)


def no_csr(scene):
    scene.intruder()
    return scene.create(csr="hello")


def forged_rule_fields(scene):
    scene.intruder()
    victim = scene.victim
    forged = {"thingName": victim.name, "clientId": victim.name, "principal": victim.certificate_id}
    return scene.create(jobId=victim.job, csr=scene.csr(subject=victim.name), **forged)


def forged_shadow(scene):
    me = scene.intruder()
    over = scene.connect(me)
    forged = {
        "progress": "created",
        "oldCertificateId": scene.victim.certificate_id,
        "newCertificateId": me.certificate_id,
    }
    over.write_shadow(me.name, forged)
    return scene.commit(over=over)


def replayed_commit(scene):
    me = scene.intruder()
    over = scene.connect(me)
    scene.begin(me, over)
    return scene.commit(over=over)


def commit_for_another_thing(scene):
    me = scene.intruder(lax=True)
    scene.begin(scene.victim, scene.connect(scene.victim))
    return scene.commit(over=scene.connect(me, client_id=f"{scene.victim.name}#2"), of=scene.victim)


ATTEMPTS = {
    "another thing's job id": (other_things_job, "NoExecution"),
    "a thing's job from another thing's connection": (own_job_from_another_connection, "ClientIdMismatch"),
    "the same under that thing's client id": (
        own_job_from_another_connection_under_its_client_id, "CertificateNotAttached",
    ),
    "a client id that does not match": (client_id_of_nobody, "ClientIdMismatch"),
    "a certificate that is not the thing's": (not_attached, "CertificateNotAttached"),
    "a certificate that is attached to nothing": (attached_to_nothing, "NoCertificate"),
    "a certificate that another thing holds too": (also_another_things, "NotExclusive"),
    "a job whose document names an unknown authority": (unknown_authority, "UnknownAuthority"),
    "a CSR with a weak key": (weak_key, "CsrWeakKey"),
    "a CSR with a key of another type than the job's": (wrong_key_type, "CsrWrongKeyType"),
    "a CSR signed otherwise than the job demands": (wrong_algorithm, "CsrWrongAlgorithm"),
    "a CSR over the current key": (reused_key, "CsrReusedKey"),
    "a CSR with another thing's subject": (wrong_subject, "CsrWrongSubject"),
    "a CSR with a bad signature": (bad_signature, "CsrBadSignature"),
    "a CSR of 5 KB": (five_kilobytes, "CsrTooLong"),
    "a CSR that is none": (no_csr, "CsrUnreadable"),
    "the fields that the rule adds, forged in the payload": (forged_rule_fields, "NoExecution"),
    "a commit after a forged shadow that names another device's certificate": (forged_shadow, "NoRotation"),
    "a commit replayed over the old certificate": (replayed_commit, "OldCertificate"),
    "a commit of another thing's rotation": (commit_for_another_thing, "OldCertificate"),
}  # fmt: skip


@pytest.mark.parametrize(("arrange", "code"), ATTEMPTS.values(), ids=ATTEMPTS)
def test_rejected_logged_and_without_effect_is(scene, caplog, arrange, code):
    attempt = arrange(scene)
    before = scene.state()
    already = len(scene.answers.to(attempt.thing.name))
    scene.send(attempt)

    operation, outcome, payload = scene.answers.next_to(attempt.thing.name, already + 1)
    assert (operation, outcome, payload.get("errorCode")) == (attempt.operation, "rejected", code), payload
    assert len(payload["errorMsg"]) > 20

    scene.settle()
    assert scene.state() == before

    [line] = [r for r in caplog.records if getattr(r, "decision", None) == "rejected"]
    facts = (line.code, line.thing, line.client, line.principal, line.function)
    who = (attempt.thing.name, attempt.connection.client_id, scene.me.certificate_id)
    assert facts == (code, *who, f"{attempt.operation}_certificate")
    text = json.dumps({name: value for name, value in vars(line).items() if isinstance(value, str)})
    assert not [secret for secret in SECRETS if secret in text]


def test_a_forged_shadow_costs_nobody_a_certificate_when_the_job_ends(scene):
    """The function that deletes certificates does not read it."""
    scene.send(forged_shadow(scene))
    scene.answers.next_to(scene.me.name)
    data = scene.world.client("iot-data")
    shadow = data.get_thing_shadow(thingName=scene.me.name, shadowName=DEFAULT_STACK_NAME)
    assert json.loads(shadow["payload"].read())["state"]["reported"]["oldCertificateId"] == scene.victim.certificate_id
    before = scene.state()
    scene.me.report("FAILED")
    scene.settle()
    assert scene.state() == before


def test_a_device_rotates_undisturbed_by_all_of_it(scene):
    victim, attacks = scene.victim, (own_job_from_another_connection_under_its_client_id, not_attached)
    for number, arrange in enumerate(attacks, 1):
        scene.send(arrange(scene))
        assert scene.answers.next_to(victim.name, number)[1] == "rejected"
    scene.me = victim
    scene.send(scene.create(over=scene.connect(victim)))
    assert scene.answers.next_to(victim.name, len(attacks) + 1)[1] == "accepted"
    assert len(scene.state()[victim.name][0]) == 2


# Stopped by the policy that devices should have ------------------------------------------------------


def create_on_the_topic_of_another(scene):
    scene.intruder()
    return scene.create(of=scene.victim)


def commit_on_the_topic_of_another(scene):
    scene.intruder()
    return scene.commit(of=scene.victim)


@pytest.mark.parametrize("arrange", [create_on_the_topic_of_another, commit_on_the_topic_of_another])
def test_publishing_on_anothers_topic_ends_the_connection_and_reaches_nobody(scene, caplog, arrange):
    attempt = arrange(scene)
    before = scene.state()
    scene.send(attempt)
    attempt.connection.wait_lost()
    scene.settle()
    assert scene.answers.to(scene.victim.name) == []
    assert not [r for r in caplog.records if hasattr(r, "decision")]
    assert scene.state() == before


REFUSED_AT_THE_DOOR = {
    "another thing's client id": ({}, lambda scene: scene.victim.name),
    "a client id that does not match": ({}, lambda _scene: "somebody-else"),
    "a certificate that is attached to nothing": ({"attached": False}, lambda scene: scene.me.name),
}


@pytest.mark.parametrize(("how", "client_id"), REFUSED_AT_THE_DOOR.values(), ids=REFUSED_AT_THE_DOOR)
def test_no_connection_comes_about_with(scene, how, client_id):
    me = scene.intruder(**how)
    assert scene.connect(me, client_id=client_id(scene)).lost
    assert scene.connect(me).up is ("attached" not in how)  # its own door is open to it


def test_an_inactive_certificate_gets_no_connection_under_any_policy(scene):
    me = scene.intruder(lax=True)
    assert scene.connect(me).up
    scene.world.client("iot").update_certificate(certificateId=me.certificate_id, newStatus="INACTIVE")
    assert scene.connect(me).lost
