"""A backend in memory that keeps the real registry's rules, and a CA that issues over any CSR."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from component.certificate_rotator.ports import MessagesError
from protocol.der import der_of
from protocol.topics import parse_rotation_topic

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
THING = "gateway-7"


FATES = ["pass", "pass", "pass", "lost", "doubled", "late"]
"""What a network does to messages, the first most often."""


def deliveries(fate, payload):
    """When a message arrives, in seconds from now, and what arrives."""
    return {
        "pass": [(0.0, payload)],
        "lost": [],
        "doubled": [(0.0, payload), (3.0, payload)],
        "late": [(25.0, payload)],
    }[fate]


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


def identity_of(pem):
    return hashlib.sha256(der_of(pem)).hexdigest()


def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def subject_of(name=THING):
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "X")]
    )


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
        self.attempts = {}  # id → number of the latest one, where it is not the first
        self.record = None  # (job id, CSR public key, old, new, progress)
        self.proven = set()  # (job id, certificate) of every commit
        self.undecided = frozenset()
        self.tells_state = True  # with the refusal of a report, as the documentation of AWS IoT Jobs has it
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

    def retry(self, job_id):
        """The next attempt of a job that has ended waits to be done; its number is told from here on."""
        self.jobs[job_id][0] = "QUEUED"
        self.attempts[job_id] = self.attempts.get(job_id, 1) + 1
        self.notify()

    def status(self, job_id="job-1"):
        return self.jobs[job_id][0]

    def details(self, job_id="job-1"):
        return self.jobs[job_id][2]

    def pending(self):
        ordered = sorted(self.jobs.items(), key=lambda item: item[1][0] != "IN_PROGRESS")
        for job_id, (status, document, details) in ordered:
            if status in ("QUEUED", "IN_PROGRESS"):
                number = self.attempts.get(job_id, 1)
                return {"jobId": job_id, "status": status, "jobDocument": document, "statusDetails": details,
                        "executionNumber": number}  # fmt: skip
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
        """A nucleus connects with what it has read; False if the registry refuses."""
        self.device = None
        certificate = device.principal
        if self.undecided and certificate in self.undecided:  # timed out after the commit: now it shows which is used
            for other in self.undecided - {certificate}:
                self.retire(other)
            self.undecided = frozenset()
        if certificate in self.registry and not self.refuse_connection(certificate):
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
        latest = self.attempts.get(job_id, 1)
        if job is None or job[0] not in ("QUEUED", "IN_PROGRESS") or message.get("executionNumber", latest) != latest:
            refusal = {"code": "InvalidStateTransition", "message": "terminal", **token}
            state = {"executionState": {"status": job[0]}} if job and self.tells_state else {}
            self.send(f"{topic}/rejected", {**refusal, **state})
            return
        if not all(value.isprintable() for value in message["statusDetails"].values()):
            self.send(f"{topic}/rejected", {"code": "InvalidRequest", "message": "statusDetails", **token})
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
        if message.get("certificateId", identity_of(principal)) != identity_of(principal):
            return {"errorMsg": "the certificate in place is not the connection's", "errorCode": "OtherCertificate"}
        if self.registry != {principal}:
            return {"errorMsg": "not exactly one certificate"}
        new = self.ca.issue_pem(csr)
        self.registry.add(new)
        self.record = {"job": job_id, "public": public, "old": principal, "new": new, "progress": "created"}
        return {"certificatePem": new}

    def commit(self, message, principal):
        if self.correlates and (message["jobId"], principal) in self.proven:
            return {}  # our backend takes a commit at any time; the stock one has forgotten it when the job has ended
        record = self.record
        if record is None or record["job"] != message["jobId"] or principal != record["new"]:
            return {"errorMsg": "not the new certificate"}
        if record["progress"] == "created" and self.status(message["jobId"]) != "IN_PROGRESS":
            return {"errorMsg": "no rotation in progress"}
        record["progress"] = "committed"
        self.proven.add((message["jobId"], principal))
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
