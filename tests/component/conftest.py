"""A device on virtual time, and a backend in memory that keeps the real registry's rules."""

from __future__ import annotations

import heapq
import itertools
import json
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from component.certificate_rotator.configuration import Configuration
from component.certificate_rotator.journal import Journal
from component.certificate_rotator.ports import MessagesError
from component.certificate_rotator.rotator import Rotator
from component.certificate_rotator.store_files import FileStore
from component.certificate_rotator.system import System
from protocol.algorithms import CsrSigningAlgorithm, KeyType
from protocol.topics import parse_rotation_topic

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
THING = "gateway-7"


class VirtualTimer:
    def __init__(self, action):
        self.action = action

    def cancel(self):
        self.action = None


class VirtualLoop:
    """Actions in order; time jumps to the next timer when nothing else is left."""

    def __init__(self):
        self.time = 0.0
        self._ready = deque()
        self._timers = []
        self._order = itertools.count()

    def call_soon(self, action):
        self._ready.append(action)

    def call_later(self, seconds, action):
        timer = VirtualTimer(action)
        heapq.heappush(self._timers, (self.time + seconds, next(self._order), timer))
        return timer

    def settle(self):
        """Run what is ready, and let no time pass."""
        while self._ready:
            self._ready.popleft()()

    def run(self, seconds=0.0):
        """Let this much time pass."""
        until = self.time + seconds
        self.settle()
        while self._timers and self._timers[0][0] <= until:
            due, _, timer = heapq.heappop(self._timers)
            self.time = max(self.time, due)
            if timer.action is not None:
                timer.action()
            self.settle()
        self.time = until

    def discard(self):
        """The process is gone, and with it everything that it had in mind."""
        self._ready.clear()
        self._timers.clear()


class Ca:
    """Issues over any CSR, as AWS IoT does."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Amazon Web Services")])

    def issue(self, public_key, subject, *, not_before=NOW - timedelta(days=1), days=365):
        builder = x509.CertificateBuilder(
            self.name, subject, public_key, x509.random_serial_number(), not_before, not_before + timedelta(days=days)
        )
        return builder.sign(self.key, hashes.SHA256())

    def issue_pem(self, csr_pem, **kwargs):
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        assert csr.is_signature_valid
        return pem_of(self.issue(csr.public_key(), csr.subject, **kwargs))


def pem_of(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def subject_of(name=THING):
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "X")]
    )


@pytest.fixture(scope="session")
def ca():
    return Ca()


@pytest.fixture(scope="session")
def first_pair(ca):
    """The credential a device is born with: (certificate PEM, key PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = ca.issue(key.public_key(), subject_of())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return pem_of(certificate), pem


class Cloud:
    """Jobs, registry and backend for one thing, by the rules of the protocol document.

    ``registry`` maps certificate PEM → ACTIVE. What a rule of the real cloud would refuse is refused;
    what must never happen raises AssertionError at once.
    """

    def __init__(self, ca, first_certificate, loop):
        self.ca = ca
        self.loop = loop
        self.registry = {first_certificate}
        self.jobs = {}  # id → [status, document, details]
        self.record = None  # (job id, CSR public key, old, new, progress)
        self.undecided = frozenset()
        self.correlates = True  # our backend names the job in its answers, the stock one does not
        self.timeout = 300.0  # seconds in progress
        self.device = None
        self.log = []  # every message from the device: (topic, parsed payload)
        self.intercept = lambda direction, topic, payload: [(0.0, payload)]
        self.refuse_connection = lambda certificate: False

    # jobs
    def create_job(self, job_id="job-1", document=None, notify=True):
        self.jobs[job_id] = ["QUEUED", document or {"operation": "ROTATE_CERTIFICATE"}, {}]
        if notify:
            self.notify()

    def status(self, job_id="job-1"):
        return self.jobs[job_id][0]

    def details(self, job_id="job-1"):
        return self.jobs[job_id][2]

    def pending(self):
        ordered = sorted(self.jobs.items(), key=lambda item: item[1][0] != "IN_PROGRESS")
        for job_id, (status, document, details) in ordered:
            if status in ("QUEUED", "IN_PROGRESS"):
                return {"jobId": job_id, "status": status, "jobDocument": document, "statusDetails": details}
        return None

    def notify(self):
        execution = self.pending()
        self.send(f"$aws/things/{THING}/jobs/notify-next", {"execution": execution or {}})

    def expire(self, job_id):
        if self.jobs[job_id][0] == "IN_PROGRESS":
            self.end_job(job_id, "TIMED_OUT")

    def end_job(self, job_id, status):
        """The cloud ends an execution by itself: timeout, cancel."""
        self.jobs[job_id][0] = status
        self.terminal(job_id, status)
        self.notify()

    # messages
    def connect(self, device):
        """A nucleus connects with what lies in place; False if the registry refuses."""
        self.device = None
        certificate = device.certificate_in_place()
        if self.undecided and certificate in self.undecided:  # timed out after the commit: now it shows which is used
            for other in self.undecided - {certificate}:
                self.retire(other)
            self.undecided = frozenset()
        if certificate in self.registry and device.pair_matches() and not self.refuse_connection(certificate):
            self.device = device
            return True
        return False

    def send(self, topic, message):
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        for delay, data in self.intercept("to device", topic, payload):
            self._later(delay, lambda data=data: self.device and self.device.deliver(topic, data))

    def receive(self, device, topic, payload):
        if self.device is not device or device.principal not in self.registry:
            raise MessagesError("not connected")
        principal = device.principal
        for delay, data in self.intercept("to cloud", topic, payload):
            self._later(delay, lambda data=data: self.handle(topic, data, principal))

    def _later(self, delay, action):
        if delay:
            self.loop.call_later(delay, action)
        else:
            self.loop.call_soon(action)

    def handle(self, topic, payload, principal):
        message = json.loads(payload)
        self.log.append((topic, message))
        rotation = parse_rotation_topic(topic)
        if rotation is None:
            self.handle_jobs(topic.split("/")[4:], topic, message)
            return
        answer = self.create(message, principal) if rotation.operation == "create" else self.commit(message, principal)
        if self.correlates:
            answer = {**answer, "jobId": message["jobId"]}
        self.send(f"{topic}/{'rejected' if 'errorMsg' in answer else 'accepted'}", answer)

    def handle_jobs(self, parts, topic, message):
        if parts[-1] == "get":
            execution = self.pending()
            self.send(f"{topic}/accepted", {"execution": execution} if execution else {})
            return
        job_id, status = parts[0], message["status"]
        token = {"clientToken": message["clientToken"]} if "clientToken" in message else {}
        job = self.jobs.get(job_id)
        if job is None or job[0] not in ("QUEUED", "IN_PROGRESS"):
            self.send(f"{topic}/rejected", {"code": "InvalidStateTransition", "message": "terminal", **token})
            return
        if job[0] == "QUEUED" and status == "IN_PROGRESS":
            self.loop.call_later(self.timeout, lambda: self.expire(job_id))
        job[0] = status
        job[2] = message["statusDetails"]
        self.send(f"{topic}/accepted", token)
        if status != "IN_PROGRESS":
            self.terminal(job_id, status)
            self.notify()

    # backend
    def create(self, message, principal):
        job_id, csr = message["jobId"], message["csr"]
        if self.jobs.get(job_id, [""])[0] != "IN_PROGRESS":
            return {"errorMsg": "no rotation in progress"}
        public = spki(x509.load_pem_x509_csr(csr.encode()).public_key())
        if self.record and self.record["job"] == job_id:
            same = self.record["public"] == public and self.record["progress"] == "created"
            return {"certificatePem": self.record["new"]} if same else {"errorMsg": "another key", "errorCode": "KEY"}
        if self.registry != {principal}:
            return {"errorMsg": "not exactly one certificate"}
        new = self.ca.issue_pem(csr)
        self.registry.add(new)
        self.record = {"job": job_id, "public": public, "old": principal, "new": new, "progress": "created"}
        return {"certificatePem": new}

    def commit(self, message, principal):
        record = self.record
        if record is None or record["job"] != message["jobId"] or principal != record["new"]:
            return {"errorMsg": "not the new certificate"}
        if record["progress"] == "created" and self.status(message["jobId"]) != "IN_PROGRESS":
            return {"errorMsg": "no rotation in progress"}
        record["progress"] = "committed"
        return {}

    def terminal(self, job_id, status):
        record = self.record
        if record is None or record["job"] != job_id:
            return
        if status == "SUCCEEDED" and record["progress"] == "committed":
            self.retire(record["old"])
        elif record["progress"] == "created" and status != "SUCCEEDED":
            self.retire(record["new"])
        else:  # timed out after the commit, or a success that contradicts the record: both stay
            self.undecided = frozenset({record["old"], record["new"]})
            return  # the record stays: a repeated commit is still answered
        self.record = None

    def retire(self, certificate):
        self.registry.discard(certificate)
        if self.device is not None and self.device.principal == certificate:
            self.device = None  # deactivation disconnects

    def rotated(self):
        return any(topic.endswith("/update") and m["status"] == "SUCCEEDED" for topic, m in self.log)


class FrozenClock:
    def now(self):
        return NOW


class Device:
    """Hardware that is switched on and off: what survives is the folder."""

    outlived = False

    def __init__(self, folder: Path, pair, cloud, loop, *, system=None, configuration=Configuration, make_store=None):
        self.folder, self.cloud, self.loop = folder, cloud, loop
        self.system = system or System()
        self.configuration = configuration
        self.make_store = make_store or self._file_store
        self.certificate, self.key = folder / "thingCert.crt", folder / "privKey.key"
        self.certificate.write_text(pair[0])
        self.key.write_text(pair[1])
        self.key.chmod(0o600)
        self.rotator = None
        self.principal = None
        self.handlers = {}
        self.restarts = 0
        self.restart_works = True

    def _file_store(self, system):
        return FileStore(self.certificate, self.key, system)

    def certificate_in_place(self):
        return self.certificate.read_text()

    def holds_a_working_credential(self):
        """In place or kept beside it."""
        for suffix in ("", ".old", ".new"):
            certificate, key = (path.with_name(path.name + suffix) for path in (self.certificate, self.key))
            complete = certificate.exists() and key.exists() and self.pair_matches(certificate, key)
            if complete and certificate.read_text() in self.cloud.registry:
                return True
        return False

    def pair_matches(self, certificate=None, key=None):
        certificate = x509.load_pem_x509_certificate((certificate or self.certificate).read_bytes())
        key = serialization.load_pem_private_key((key or self.key).read_bytes(), None)
        return spki(certificate.public_key()) == spki(key.public_key())

    def switch_on(self):
        """The nucleus reads the credential and starts the component; off it was before, if it was on."""
        self.switch_off()
        self.connect()
        self.start_component()

    def connect(self):
        self.principal = self.certificate_in_place()
        self.cloud.connect(self)

    def start_component(self):
        self.handlers = {}
        self.rotator = Rotator(
            thing_name=THING,
            configuration=self.configuration,
            store=self.make_store(self.system),
            journal=Journal(self.folder / "journal.json", self.system),
            messages=self,
            restarter=self,
            loop=self.loop,
            clock=FrozenClock(),
        )
        self.rotator.start()

    def switch_off(self):
        if self.rotator is not None:
            self.rotator.stop()
        self.rotator = None
        self.principal = None
        if self.cloud.device is self:
            self.cloud.device = None

    # ports
    def subscribe(self, topic_filter, handler):
        self.handlers[topic_filter] = handler

    def publish(self, topic, payload):
        self.cloud.receive(self, topic, payload)

    def restart(self):
        self.restarts += 1
        if not self.restart_works:
            return
        if self.outlived:
            self.connect()
            return

        self.loop.call_later(1.0, self.switch_on)

    def deliver(self, topic, payload):
        for topic_filter, handler in list(self.handlers.items()):
            wanted, found = topic_filter.split("/"), topic.split("/")
            if len(wanted) == len(found) and all(w in ("+", f) for w, f in zip(wanted, found, strict=True)):
                handler(topic, payload)

    def leftovers(self):
        expected = {self.certificate.name, self.key.name}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in expected)


class World:
    """One device and its cloud on one virtual loop."""

    def __init__(self, folder, ca, pair, **device):
        self.loop = VirtualLoop()
        self.cloud = Cloud(ca, pair[0], self.loop)
        self.device = Device(folder, pair, self.cloud, self.loop, **device)
        self.first_certificate = pair[0]

    def run(self, seconds=600.0):
        self.loop.run(seconds)

    def assert_sound(self):
        """What must hold whenever everything has calmed down."""
        assert self.device.pair_matches()
        assert self.device.certificate_in_place() in self.cloud.registry
        assert self.device.leftovers() == []


@pytest.fixture
def world(tmp_path, ca, first_pair):
    return World(tmp_path, ca, first_pair)


@pytest.fixture
def make_world(ca, first_pair):
    def make(folder, **device):
        folder.mkdir(parents=True, exist_ok=True)
        return World(folder, ca, first_pair, **device)

    return make


def rotation(key_type=KeyType.ECDSA_P256, algorithm=CsrSigningAlgorithm.SHA256_ECDSA):
    return {"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": key_type.value, "signingAlgorithm": algorithm.value}


@pytest.fixture
def rotation_document():
    return rotation
