"""A device of one's own making: a thing, its credential, and an MQTT client (paho, mutual TLS) that sends anything.

Nothing of the component is in it, so that the backend meets messages that the component would never send.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import uuid

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from integration_sandbox import enrol

from protocol import topics
from protocol.algorithms import KeyType
from protocol.names import DEFAULT_STACK_NAME
from sandbox.builder import DEVICE_POLICY

LAX_POLICY = "AllowsEverything"
WAIT = 60  # seconds for what takes milliseconds


def make_csr(key, subject, digest=None):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, digest or hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


class Thing:
    """A registered thing; ``policies`` are those of its certificate."""

    def __init__(self, world, folder, *, policies=(DEVICE_POLICY,), attached=True, exclusive=True):
        self.world = world
        self.name = f"{folder.name[:60]}-{uuid.uuid4().hex[:8]}"
        certificate_id, self.credential = enrol(
            world, self.name, KeyType.ECDSA_P256, policies=policies, attached=attached, exclusive=exclusive
        )
        self.certificate_id = certificate_id
        if not attached:
            arn = f"arn:aws:iot:eu-west-1:123456789012:cert/{certificate_id}"
            for policy in policies:
                world.client("iot").attach_policy(policyName=policy, target=arn)
        self.folder = folder / self.name
        self.folder.mkdir()
        self.jobs = []

    @property
    def key(self):
        return serialization.load_pem_private_key(self.credential.key_pem, None)

    def start_job(self, **document):
        """A rotation job for this thing alone, put in progress as its device would."""
        self.job = f"job-{uuid.uuid4().hex[:12]}"
        iot = self.world.client("iot")
        arn = iot.describe_thing(thingName=self.name)["thingArn"]
        text = json.dumps({"operation": "ROTATE_CERTIFICATE", **document})
        iot.create_job(jobId=self.job, targets=[arn], document=text)
        self.jobs.append(self.job)
        self.report("IN_PROGRESS")
        return self

    def withdraw(self):
        """Leave no job in progress, of which an account has a hundred at most, and no rotation to each later sweep."""
        iot = self.world.client("iot")
        for job in self.jobs:
            with contextlib.suppress(iot.exceptions.ResourceNotFoundException):
                iot.delete_job(jobId=job, force=True)
        assert self.world.stack.settle(WAIT)
        table = self.world.stack.outputs["RotationTable"]
        key = {"thingName": {"S": self.name}, "record": {"S": "current"}}
        self.world.client("dynamodb").delete_item(TableName=table, Key=key)

    def report(self, status):
        self.world.cloud.jobs.update(
            self.name, self.job, {"status": status, "statusDetails": {"CertificateRotator": "rotating"}}
        )

    def connect(self, client_id=None, credential=None):
        return Connection(self.world, credential or self.credential, client_id or self.name, self.folder)


class Connection:
    """One MQTT connection. ``lost`` says whether it was refused or has been closed by the endpoint."""

    def __init__(self, world, credential, client_id, folder):
        self.client_id = client_id
        self._changed = threading.Condition()
        self.up = self.lost = False
        context = ssl.create_default_context(cafile=str(world.ca_bundle))
        stem = folder / uuid.uuid4().hex
        certificate, key = stem.with_suffix(".crt"), stem.with_suffix(".key")
        certificate.write_bytes(credential.certificate_pem)
        key.write_bytes(credential.key_pem)
        context.load_cert_chain(certificate, key)
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, reconnect_on_failure=False)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda _c, _u, _f, reason, _p: self._note(
            up=not reason.is_failure, lost=reason.is_failure
        )
        self._client.on_disconnect = lambda *_: self._note(up=False, lost=True)
        try:
            self._client.connect(world.mqtt_host, world.mqtt_port)
        except OSError:  # refused while the handshake was under way
            self.lost = True
            return
        self._client.loop_start()
        self._wait(lambda: self.up or self.lost)

    def _note(self, *, up, lost):
        with self._changed:
            self.up, self.lost = up, lost
            self._changed.notify_all()

    def _wait(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, WAIT)

    def wait_lost(self):
        self._wait(lambda: self.lost)

    def send(self, topic, payload):
        assert self.up, "the endpoint let this client in"
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, body, qos=1)

    def write_shadow(self, thing, reported):
        topic = f"$aws/things/{thing}/shadow/name/{DEFAULT_STACK_NAME}/update"
        self.send(topic, {"state": {"reported": reported}})

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()  # a pair that wakes its thread, which it leaves to the collector


class Answers:
    """Hears what the backend answers to any thing."""

    def __init__(self, bus):
        self._changed = threading.Condition()
        self._heard = []
        bus.listen(self._hear)

    def _hear(self, message):
        topic = topics.parse_rotation_topic(message.topic)
        if topic is not None and topic.outcome is not None:
            with self._changed:
                self._heard.append((topic, json.loads(message.payload)))
                self._changed.notify_all()

    def to(self, thing):
        """What a thing was answered, in order: (operation, outcome, payload)."""
        return [(t.operation, t.outcome, payload) for t, payload in list(self._heard) if t.thing_name == thing]

    def next_to(self, thing, count=1):
        """Wait for the n-th answer to a thing."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.to(thing)) >= count, WAIT), f"{thing} was never answered"
        return self.to(thing)[count - 1]
