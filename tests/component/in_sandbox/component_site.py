"""Everything around one real device: registry, jobs data plane and backend in one small class, and its judges.

Only the device is under test: the nucleus stand-in and the MQTT endpoint are the sandbox's. Results are judged
by openssl and pkcs11-tool.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import queue
import subprocess
import threading
import time
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.algorithms import Family, KeyType
from protocol.der import der_of
from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock
from sandbox.edge import MqttEndpoint
from sandbox.interfaces import JobsDataError

THING = "gateway-7"
RESTART_TAKES = timedelta(seconds=30)  # of every nucleus here, by the world's clock
SUBJECT = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, THING)])
PEM = serialization.Encoding.PEM
OPENSSL_KEY = {
    KeyType.RSA_2048: "2048 bit",
    KeyType.RSA_3072: "3072 bit",
    KeyType.ECDSA_P256: "prime256v1",
    KeyType.ECDSA_P384: "secp384r1",
    KeyType.ECDSA_P521: "secp521r1",
}


class Site:
    """Registry, jobs data plane and backend for one thing."""

    def __init__(self, folder: Path):
        self.folder, self.bus = folder, Bus()
        self.clock = SandboxClock(skips_waits=True)  # of the endpoint and of every nucleus here
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site CA")])
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._sign(self.ca_name, self.ca_key.public_key(), ca=True).public_bytes(PEM))
        self.active, self.ders, self.pems = set(), {}, {}
        self.registered, self.disabled = [], []
        self.jobs, self.record = {}, None
        self.changed = threading.Condition()
        self.throttled = 0  # gets that are still to be refused
        self.deaf = set()  # rotation operations that are not answered
        self.work: queue.Queue[Message | None] = queue.Queue()
        self.bus.listen(lambda m: self.work.put(m) if m.topic.endswith(("/create", "/commit")) else None)
        self.worker = threading.Thread(target=self._serve, daemon=True)
        self.worker.start()
        server = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        (folder / "server.pem").write_bytes(self._sign(subject, server.public_key(), names=names).public_bytes(PEM))
        (folder / "server.key").write_bytes(
            server.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        self.endpoint = MqttEndpoint(
            registry=self, jobs=self, bus=self.bus, clock=self.clock,
            certificate_file=folder / "server.pem", key_file=folder / "server.key",
        )  # fmt: skip
        self.endpoint.start()

    def stop(self):
        self.endpoint.stop()
        self.work.put(None)
        self.worker.join(5)

    def _sign(self, subject, public_key, *, ca=False, names=None):
        start = self.clock.now() - timedelta(hours=1)
        builder = x509.CertificateBuilder(
            self.ca_name, subject, public_key, x509.random_serial_number(), start, start + timedelta(days=30)
        ).add_extension(x509.BasicConstraints(ca, None), critical=True)
        if names:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.ca_key, hashes.SHA256())

    def issue(self, public_key, subject):
        certificate = self._sign(subject, public_key)
        return self.register(certificate.public_bytes(PEM).decode())

    def register(self, pem):
        der = der_of(pem)
        identity = hashlib.sha256(der).hexdigest()
        self.pems[identity] = pem
        self.active.add(identity)
        self.ders[identity] = der
        for listener in self.registered:
            listener(der)
        return identity

    def der(self, identity):
        return self.ders[identity]

    def retire(self, identity):
        self.active.discard(identity)
        for listener in self.disabled:
            listener(identity)

    # Registry
    def authenticate(self, certificate_der):
        identity = hashlib.sha256(certificate_der).hexdigest()
        return identity if identity in self.active else None

    def may(self, *_):
        return True

    def on_certificate_registered(self, listener):
        self.registered.append(listener)
        for der in self.ders.values():
            listener(der)

    def on_certificate_disabled(self, listener):
        self.disabled.append(listener)

    def on_client_ended(self, _listener):
        pass

    def connected(self, *_):
        pass

    def disconnected(self, *_):
        pass

    # JobsData
    def create_job(self, document, job_id="job-1"):
        self.jobs[job_id] = {"jobId": job_id, "status": "QUEUED", "jobDocument": document, "statusDetails": {}}
        self._notify()

    def _pending(self):
        return next((job for job in self.jobs.values() if job["status"] in ("QUEUED", "IN_PROGRESS")), None)

    def _notify(self):
        payload = json.dumps({"execution": self._pending() or {}}).encode()
        self.bus.publish(Message(f"$aws/things/{THING}/jobs/notify-next", payload, qos=1))

    def get_pending(self, _thing):
        return {}

    def start_next(self, _thing, _request):
        return {}

    def describe(self, _thing, _job_id, _request):
        if self.throttled:
            self.throttled -= 1
            raise JobsDataError("RequestThrottled", "rate exceeded")
        return {"execution": self._pending()} if self._pending() else {}

    def update(self, _thing, job_id, request):
        job = self.jobs[job_id]
        if job["status"] not in ("QUEUED", "IN_PROGRESS"):
            raise JobsDataError("InvalidStateTransition", "the execution has ended", {"status": job["status"]})
        with self.changed:
            job.update(status=request["status"], statusDetails=request.get("statusDetails", {}))
            if job["status"] in ("SUCCEEDED", "FAILED") and self.record and self.record["job"] == job_id:
                self.retire(self.record["old" if job["status"] == "SUCCEEDED" else "new"])
            self.changed.notify_all()
        return {}

    def wait_ended(self, job_id="job-1", timeout=60):
        with self.changed:
            ended = self.changed.wait_for(lambda: self.jobs[job_id]["status"] in ("SUCCEEDED", "FAILED"), timeout)
        assert ended, self.jobs
        return self.jobs[job_id]

    # Backend
    def _serve(self):
        while (message := self.work.get()) is not None:
            if message.topic.rsplit("/", 1)[-1] in self.deaf:
                continue
            body = json.loads(message.payload)
            answer = self._create(body, message) if message.topic.endswith("create") else self._commit(message)
            answer = {**answer, "jobId": body["jobId"]}  # as our backend does, and the stock one does not
            outcome = "rejected" if "errorMsg" in answer else "accepted"
            self.bus.publish(Message(f"{message.topic}/{outcome}", json.dumps(answer).encode(), qos=1))

    def _create(self, body, message):
        csr = x509.load_pem_x509_csr(body["csr"].encode())
        assert csr.is_signature_valid
        if self.record and (self.record["job"], self.record["csr"].public_key()) == (body["jobId"], csr.public_key()):
            return {"certificatePem": self.pems[self.record["new"]]}  # a repeat is answered alike
        new = self.issue(csr.public_key(), csr.subject)
        self.record = {"job": body["jobId"], "old": message.principal, "new": new, "csr": csr}
        return {"certificatePem": self.pems[new]}

    def _commit(self, message):
        return {} if message.principal == self.record["new"] else {"errorMsg": "not the new certificate"}


def enrol(site, root):
    """A first credential in the nucleus' default files."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (root / "privKey.key").write_bytes(pem)
    (root / "privKey.key").chmod(0o600)
    (root / "thingCert.crt").write_text(site.pems[site.issue(key.public_key(), SUBJECT)])


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def openssl_says_they_match(root):
    certified = openssl("x509", "-in", str(root / "thingCert.crt"), "-noout", "-pubkey")
    return certified == openssl("pkey", "-in", str(root / "privKey.key"), "-pubout")


def openssl_says_of(request, folder):
    """The lines that openssl prints of a signing request whose signature holds."""
    (folder / "request.pem").write_bytes(request.public_bytes(PEM))
    command = ["openssl", "req", "-in", str(folder / "request.pem"), "-noout", "-text", "-verify"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "verify OK" in done.stderr + done.stdout
    return {line.strip() for line in done.stdout.splitlines()}


def signed_with(algorithm):
    """How openssl says that a signing request is signed with an algorithm."""
    name = algorithm.hash_name.lower()
    if algorithm.family is Family.ECDSA:
        return {f"Signature Algorithm: ecdsa-with-{name.upper()}"}
    if not algorithm.is_pss:
        return {f"Signature Algorithm: {name}WithRSAEncryption"}
    salt = f"Salt Length: 0x{int(name[3:]) // 8:X}"
    return {"Signature Algorithm: rsassaPss", f"Hash Algorithm: {name}", f"Mask Algorithm: mgf1 with {name}", salt}


def wait_for_log(nucleus, text, timeout=20, *, after=0):
    """Wait until the component has said so, beyond the first ``after`` characters of its log."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if nucleus.log_file.exists() and text in nucleus.log_file.read_text()[after:]:
            return
        time.sleep(0.05)
    raise AssertionError(f"{text!r} not in {nucleus.log_file.read_text()}")


IN_PLACE = {"privKey.key", "thingCert.crt"}
KEPT = {name + suffix for name in IN_PLACE for suffix in ("", ".old", ".new")}


def files_of(nucleus):
    """The names of the files in the nucleus' root folder, but for its own memory."""
    return {path.name for path in nucleus.root.iterdir() if path.is_file() and path != nucleus.config.path}


def cut_ipc(nucleus):
    """End the component's connection to the nucleus, which still knows it."""

    def cut():
        for connection in list(nucleus._ipc._connections):
            connection.close()

    nucleus._loop.call(cut)


def wait_for(condition, timeout=60):
    """Wait until it is so."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def start_later(nucleus):
    """The device is started anew one day; the new credential has connected again then."""
    said = len(nucleus.log_file.read_text())
    nucleus.restart()
    wait_for_log(nucleus, "job -: ASKING → IDLE", after=said)


def python_pid(nucleus):
    group = nucleus.component_pid
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[2]) == group and b"certificate_rotator" in command and b"python" in command.split(b"\0")[0]:
            return int(entry.name)
    raise AssertionError("the component does not run")
