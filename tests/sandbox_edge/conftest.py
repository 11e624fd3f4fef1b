"""A small registry and jobs service in place of the sandbox's cloud, and credentials to connect with."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sandbox_edge_device import CoreDevice

from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock
from sandbox.edge.mqtt.endpoint import MqttEndpoint
from sandbox.interfaces import JobsDataError


@dataclass(frozen=True)
class Credential:
    """Certificate and key of a device, as files and as bytes."""

    certificate_file: Path
    key_file: Path
    der: bytes

    @property
    def certificate_id(self) -> str:
        return hashlib.sha256(self.der).hexdigest()


class Issuer:
    """Signs certificates with one CA key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test CA")])
        self.serial = 0
        ca = self._build(self.name, self.key.public_key(), ca=True, days=365)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))

    def _build(self, subject, public_key, *, ca, days, san=None, not_before=None):
        self.serial += 1
        start = not_before or datetime.now(UTC) - timedelta(hours=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(self.serial)
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if san:
            builder = builder.add_extension(san, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def sign(self, subject, public_key):
        return self._build(subject, public_key, ca=False, days=30)

    def issue(self, name: str, *, key=None, days=30, san=None, not_before=None) -> Credential:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key.public_key(), ca=False, days=days, san=san, not_before=not_before)
        stem = f"{name.replace('/', '_')}-{self.serial}"
        certificate_file, key_file = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Credential(certificate_file, key_file, certificate.public_bytes(serialization.Encoding.DER))

    def issue_server(self) -> Credential:
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        return self.issue("localhost", san=names)


class FakeRegistry:
    """Implements ``interfaces.EndpointRegistry``: certificates by id, one rule for what they may."""

    def __init__(self) -> None:
        self.status: dict[str, str] = {}
        self.ders: list[bytes] = []
        self.denied: set[tuple[str, str]] = set()  # (action, resource)
        self.presence: list[tuple[str, str, str]] = []
        self.changed = threading.Condition()
        self._registered: list[Callable[[bytes], None]] = []
        self._disabled: list[Callable[[str], None]] = []

    def register(self, credential: Credential, status: str = "ACTIVE") -> str:
        return self.register_der(credential.der, status)

    def register_der(self, der: bytes, status: str = "ACTIVE") -> str:
        certificate_id = hashlib.sha256(der).hexdigest()
        self.status[certificate_id] = status
        self.ders.append(der)
        for listener in self._registered:
            listener(der)
        return certificate_id

    def deactivate(self, certificate_id: str) -> None:
        self.status[certificate_id] = "INACTIVE"
        for listener in self._disabled:
            listener(certificate_id)

    def authenticate(self, certificate_der: bytes) -> str | None:
        certificate_id = hashlib.sha256(certificate_der).hexdigest()
        return certificate_id if self.status.get(certificate_id) == "ACTIVE" else None

    def may(self, certificate_id: str, client_id: str, action: str, resource: str) -> bool:
        return (action, resource) not in self.denied

    def on_certificate_registered(self, listener: Callable[[bytes], None]) -> None:
        self._registered.append(listener)
        for der in self.ders:
            listener(der)

    def on_certificate_disabled(self, listener: Callable[[str], None]) -> None:
        self._disabled.append(listener)

    def on_client_ended(self, listener: Callable[[str], None]) -> None:
        pass

    def connected(self, certificate_id: str, client_id: str) -> None:
        self._note("connected", certificate_id, client_id)

    def disconnected(self, certificate_id: str, client_id: str) -> None:
        self._note("disconnected", certificate_id, client_id)

    def _note(self, *event: str) -> None:
        with self.changed:
            self.presence.append(event)
            self.changed.notify_all()

    def wait_for(self, kind: str, client_id: str, count: int = 1, certificate_id: str | None = None) -> None:
        """Wait until that many such presence events have been seen."""

        def enough() -> bool:
            found = [e for e in self.presence if e[0] == kind and e[2] == client_id and certificate_id in (None, e[1])]
            return len(found) >= count

        with self.changed:
            assert self.changed.wait_for(enough, 15), f"no {kind} {client_id} x{count} in {self.presence}"


@dataclass
class FakeJobs:
    """Implements ``interfaces.JobsData`` with one execution per thing."""

    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    updates: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    on_update: Callable[[str, dict[str, Any]], None] = lambda _thing, _request: None

    def get_pending(self, thing_name: str) -> dict[str, Any]:
        return {"inProgressJobs": [], "queuedJobs": []}

    def start_next(self, thing_name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"execution": self.executions.get(thing_name, {})}

    def describe(self, thing_name: str, job_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"execution": self.executions.get(thing_name, {})}

    def update(self, thing_name: str, job_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if job_id == "broken":
            raise RuntimeError("the jobs service is broken")
        if request.get("status") == "NONSENSE":
            raise JobsDataError("InvalidRequest", "status NONSENSE is unknown")
        self.updates.append((thing_name, job_id, dict(request)))
        self.on_update(thing_name, dict(request))
        return {}


class Recorder:
    """Every message of the bus, and a way to wait for one."""

    def __init__(self, bus: Bus) -> None:
        self.messages: list[Message] = []
        self._changed = threading.Condition()
        bus.listen(self._hear)

    def _hear(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def on(self, topic: str) -> list[Message]:
        return [m for m in self.messages if m.topic == topic]

    def wait_for(self, topic: str, count: int = 1) -> Message:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.on(topic)) >= count, 15), (
                f"no message on {topic}; seen: {[m.topic for m in self.messages]}"
            )
        return self.on(topic)[-1]


class FakeBackend:
    """Rotation jobs and the two handlers, in their simplest form, for one thing at a time."""

    def __init__(self, issuer: Issuer, registry: FakeRegistry, jobs: FakeJobs, bus: Bus) -> None:
        self.issuer, self.registry, self.jobs, self.bus = issuer, registry, jobs, bus
        self.finished: dict[str, dict[str, Any]] = {}
        self.changed = threading.Condition()
        self.certificates: dict[tuple[str, str], x509.Certificate] = {}
        self.issued: dict[str, bytes] = {}  # the newest certificate (DER) by thing
        bus.listen(self._hear)
        jobs.on_update = self._updated

    def start_job(self, thing: str, job_id: str = "job-1", **document: str) -> None:
        execution = {
            "jobId": job_id,
            "status": "QUEUED",
            "jobDocument": {"operation": "ROTATE_CERTIFICATE", **document},
        }
        self.jobs.executions[thing] = execution
        self._say(f"$aws/things/{thing}/jobs/notify-next", {"timestamp": 1, "execution": execution})

    def outcome(self, thing: str, seconds: float = 30) -> dict[str, Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: thing in self.finished, seconds), self.jobs.updates
        return self.finished[thing]

    def _say(self, topic: str, message: dict[str, Any]) -> None:
        self.bus.publish(Message(topic, json.dumps(message).encode(), 1))

    def _updated(self, thing: str, request: dict[str, Any]) -> None:
        execution = self.jobs.executions.get(thing)
        if execution and request.get("status") == "IN_PROGRESS":
            execution["status"] = "IN_PROGRESS"
        elif execution and request.get("status"):
            self.jobs.executions[thing] = {}
            with self.changed:
                self.finished[thing] = request
                self.changed.notify_all()

    def _hear(self, message: Message) -> None:
        parts = message.topic.split("/")
        if parts[0] == "awslabs" and parts[-1] in ("create", "commit") and message.principal:
            threading.Thread(target=self._answer, args=(message, parts[2], parts[-1])).start()

    def _answer(self, message: Message, thing: str, operation: str) -> None:
        if operation == "commit":
            newest = hashlib.sha256(self.issued[thing]).hexdigest()
            accepted = message.principal == newest
            self._say(
                f"{message.topic}/{'accepted' if accepted else 'rejected'}", {} if accepted else {"errorMsg": "no"}
            )
            return
        request = x509.load_pem_x509_csr(json.loads(message.payload)["csr"].encode())
        with self.changed:  # a repeated request is answered alike
            key = (thing, json.loads(message.payload)["csr"])
            if key not in self.certificates:
                self.certificates[key] = self.issuer.sign(request.subject, request.public_key())
            certificate = self.certificates[key]
        der = certificate.public_bytes(serialization.Encoding.DER)
        self.issued[thing] = der
        self.registry.register_der(der)
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self._say(f"{message.topic}/accepted", {"certificatePem": pem})


@pytest.fixture
def backend(issuer: Issuer, registry: FakeRegistry, jobs: FakeJobs, bus: Bus) -> FakeBackend:
    return FakeBackend(issuer, registry, jobs, bus)


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="session")
def server_credential(issuer: Issuer) -> Credential:
    return issuer.issue_server()


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def jobs() -> FakeJobs:
    return FakeJobs()


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def recorder(bus: Bus) -> Recorder:
    return Recorder(bus)


@pytest.fixture
def clock() -> SandboxClock:
    return SandboxClock()


@pytest.fixture
def endpoint(
    registry: FakeRegistry, jobs: FakeJobs, bus: Bus, clock: SandboxClock, server_credential: Credential
) -> Iterator[MqttEndpoint]:
    endpoint = MqttEndpoint(
        registry=registry,
        jobs=jobs,
        bus=bus,
        clock=clock,
        certificate_file=server_credential.certificate_file,
        key_file=server_credential.key_file,
    )
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def core(tmp_path_factory, endpoint, issuer, registry, bus, recorder):
    device = CoreDevice(tmp_path_factory.mktemp("gg"), endpoint, issuer, registry, bus, recorder)
    yield device
    if device.nucleus:
        device.nucleus.stop()
