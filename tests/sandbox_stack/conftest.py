"""A cloud with the backend's synthesised template running in it, and a device that speaks over the bus."""

from __future__ import annotations

import json
import queue
from typing import Any

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from backend.synth import TEMPLATE
from protocol import topics
from sandbox.aws import Cloud
from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock
from sandbox.stack import Stack, load

ACCOUNT, REGION = "123456789012", "eu-west-1"
PLANT_CA = f"arn:aws:acm-pca:{REGION}:{ACCOUNT}:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
PATIENCE = 20  # seconds for something that takes milliseconds


class World:
    """One cloud, one stack, one bus."""

    def __init__(self, folder) -> None:
        self.bus, self.clock = Bus(), SandboxClock()
        self.cloud = Cloud(ACCOUNT, REGION, self.clock, self.bus, folder)
        self.cloud.start()
        self.cloud.seed.private_ca(PLANT_CA)
        self.cloud.seed.policy(
            "device",
            json.dumps(
                {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}
            ),
        )
        self.stack = Stack(load(TEMPLATE), self.cloud, self.bus, self.clock)
        self.stack.start()
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.cloud.endpoint_url,
                region_name=REGION,
                aws_access_key_id="x",
                aws_secret_access_key="y",
            )
        return self._clients[service]

    def close(self) -> None:
        self.stack.stop()
        self.cloud.stop()


class Device:
    """A thing with one certificate; its messages carry its connection's client id and principal."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.answers: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        seed = world.cloud.seed
        seed.thing(name)
        self.old = seed.certificate(ec.generate_private_key(ec.SECP256R1()).public_key()).certificate_id
        iot = world.client("iot")
        arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{self.old}"
        iot.attach_policy(policyName="device", target=arn)
        iot.attach_thing_principal(thingName=name, principal=arn, thingPrincipalType="EXCLUSIVE_THING")
        self.principal = self.old
        self.new_key = ec.generate_private_key(ec.SECP256R1())
        world.bus.listen(self._hear)

    def start_job(self, job: str, document: dict[str, str] | None = None) -> None:
        self.job = job
        arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/{self.name}"
        text = json.dumps(document or {"operation": "ROTATE_CERTIFICATE"})
        self.world.client("iot").create_job(jobId=job, targets=[arn], document=text)
        self.report("IN_PROGRESS")

    def report(self, status: str, reason: str | None = None) -> None:
        details = {"CertificateRotator": "rotating"} | ({"DeviceFailureReason": reason} if reason else {})
        self.world.cloud.jobs.update(self.name, self.job, {"status": status, "statusDetails": details})

    def create(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AWS IoT Certificate")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.new_key, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        self.send(topics.create(self.name), {"jobId": self.job, "csr": pem})

    def commit(self) -> None:
        self.send(topics.commit(self.name), {"jobId": self.job})

    def send(self, topic: str, payload: object) -> None:
        self.world.bus.publish(Message(topic, json.dumps(payload).encode(), 0, self.principal, self.name))

    def answer(self) -> tuple[str, dict[str, Any]]:
        topic, payload = self.answers.get(timeout=PATIENCE)
        return topic.removeprefix(f"awslabs/things/{self.name}/certificate/"), payload

    def certificates(self) -> dict[str, str]:
        """Id → association of every certificate attached."""
        found = self.world.client("iot").list_thing_principals_v2(thingName=self.name)["thingPrincipalObjects"]
        return {p["principal"].rpartition("/")[2]: p["thingPrincipalType"] for p in found}

    def _hear(self, message: Message) -> None:
        if message.topic.startswith(f"awslabs/things/{self.name}/") and message.topic.endswith(
            ("accepted", "rejected")
        ):
            self.answers.put((message.topic, json.loads(message.payload)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("cloud"))
    yield world
    world.close()


@pytest.fixture
def make_device(world, request):
    count = iter(range(100))

    def make() -> Device:
        return Device(world, f"{request.node.name[:100].replace('[', '-').replace(']', '')}-{next(count)}")

    return make


@pytest.fixture
def device(make_device):
    return make_device()
