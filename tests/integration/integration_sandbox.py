"""The bench in the sandbox: a world with a few devices, every kind of private CA, and what only a sandbox can do."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from contextlib import contextmanager

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from integration_bench import CREATE, Bench, Pace

from protocol.names import COMPONENT_NAME
from sandbox.builder import DEVICE_POLICY, Credential, generate_key, private_key_pem
from sandbox.edge.faults import Direction, Fault
from sandbox.fleet_file import SandboxFleet
from sandbox.world import COMPONENT_VERSION

GROUP = "under-test"
CA_KEYS = {"RSA": "RSA_2048", "P256": "EC_prime256v1", "P384": "EC_secp384r1"}
CA_ARNS = {
    name: f"arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/00000000-0000-0000-0000-00000000000{number}"
    for number, name in enumerate(CA_KEYS)
}
# CA signing algorithm → the CA that signs by it
SIGNERS = {
    "SHA256WITHRSA": "RSA",
    "SHA384WITHRSA": "RSA",
    "SHA512WITHRSA": "RSA",
    "SHA256WITHECDSA": "P256",
    "SHA384WITHECDSA": "P384",
    "SHA512WITHECDSA": "P384",
}
VALIDITY_DAYS = dict(zip(SIGNERS, (30, 60, 90, 120, 150, 180), strict=True))


def build_fleet(count, processes=None):
    """Devices by that many; all of them component processes if nothing else is asked for."""
    authorities = [
        {
            "name": f"ca-{name.lower()}",
            "arn": CA_ARNS[name],
            "keyAlgorithm": key,
            "signingAlgorithm": "SHA256WITHRSA" if name == "RSA" else "SHA256WITHECDSA",
        }
        for name, key in CA_KEYS.items()
    ]
    devices = {
        "prefix": "gateway-",
        "count": count,
        "processes": count if processes is None else processes,
        "groups": [GROUP],
        "age": "30d",
        "keyType": "ECDSA-P256",
    }
    return SandboxFleet.model_validate(
        {"authorities": authorities, "groups": [{"name": GROUP}], "devices": [devices] if count else []}
    )


class SandboxBench(Bench):
    """The devices of a world's one group."""

    def __init__(self, world):
        super().__init__(world.client, GROUP, world.fleet.backend.stack_name, Pace.sandbox())
        self.world = world

    def open(self):
        super().open()
        name_authorities(self)
        arn = self.aws("iot").describe_thing_group(thingGroupName=GROUP)["thingGroupArn"]
        self.aws("greengrassv2").create_deployment(
            targetArn=arn, components={COMPONENT_NAME: {"componentVersion": COMPONENT_VERSION}}
        )

    def close(self):
        """The world ends with its module."""

    def deploy(self, merge=None, reset=()):
        """As for devices that have been running for long: a component that is starting is not asked."""
        for thing in self.things:
            self.until(lambda thing=thing: self.world.devices[thing].is_validated, f"{thing} listens for deployments")
        return super().deploy(merge, reset)

    def root_of(self, authority):
        return super().root_of(authority) or pem_of(self.world.cloud.aws_iot_ca())

    def configuration_of(self, thing):
        return self.world.devices[thing].config.configuration(COMPONENT_NAME)

    @contextmanager
    def holding_create_answers(self):
        released = threading.Event()
        held = Fault(
            "awslabs/things/+/certificate/create/accepted",
            lambda delivery: (delivery,) if released.is_set() else (),
            Direction.TO_DEVICE,
        )
        self.world.faults.add(held)
        try:
            yield
        finally:
            released.set()  # the component asks again


def name_authorities(bench):
    """Put one named authority per CA signing algorithm where a deployment would put them."""
    table = {
        algorithm.lower(): {
            "arn": CA_ARNS[ca],
            "signingAlgorithm": algorithm,
            "validitySeconds": VALIDITY_DAYS[algorithm] * 86_400,
        }
        for algorithm, ca in SIGNERS.items()
    }
    for function in (CREATE,):
        bench._set_variables(function, {**bench.variables(function), "AUTHORITIES": json.dumps(table)})


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def enrol(world, name, key_type, *, policies=(DEVICE_POLICY,), attached=True, exclusive=True):
    """A thing with a certificate that is a month old; returns (certificate id, Credential)."""
    key = generate_key(key_type)
    seed = world.cloud.seed
    seed.thing(name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = seed.certificate(key.public_key(), subject=subject)
    if attached:
        seed.attach(name, certificate.certificate_id, exclusive=exclusive, policies=policies)
    return certificate.certificate_id, Credential(private_key_pem(key), certificate.pem.encode())


class Operator:
    """Reads the notification topic through a queue, as e-mail would be read."""

    def __init__(self, world):
        topic, sqs = world.stack.outputs["NotificationTopicArn"], world.client("sqs")
        self._sqs = sqs
        self._queue = sqs.create_queue(QueueName=f"operator-{uuid.uuid4().hex[:8]}")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        world.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        self.told = []

    def read(self):
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.told.append(json.loads(message["Body"])["Message"])
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return self.told


def record_of(world, thing):
    key = {"thingName": {"S": thing}, "record": {"S": "current"}}
    return world.client("dynamodb").get_item(TableName=world.stack.outputs["RotationTable"], Key=key).get("Item", {})


def phase_of(world, thing):
    return record_of(world, thing).get("phase", {}).get("S")


def held_by(world, thing):
    """The certificate id of the credential in the device's files."""
    pem = world.credential_of(thing).certificate_pem
    return hashlib.sha256(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)).hexdigest()
