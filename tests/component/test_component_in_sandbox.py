"""The component as its own process: built archive, recipe, Greengrass IPC, mutual TLS, nucleus restart.

The nucleus stand-in and the MQTT endpoint are the sandbox's; registry, jobs and backend are one small
class here, so that only the device is under test. Results are judged by openssl and pkcs11-tool.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from component import build
from protocol.algorithms import KeyType, default_csr_algorithm, matching_csr_algorithms
from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock
from sandbox.edge import Component, Deployment, MqttEndpoint, Nucleus, Pkcs11Settings, Provisioning, Variant, provision
from sandbox.interfaces import JobsDataError

THING = "gateway-7"
PEM = serialization.Encoding.PEM


class Site:
    """Registry, jobs data plane and backend for one thing."""

    def __init__(self, folder: Path):
        self.folder, self.bus = folder, Bus()
        self.ca_key = ec.generate_private_key(ec.SECP256R1())
        self.ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site CA")])
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(self._sign(self.ca_name, self.ca_key.public_key(), ca=True).public_bytes(PEM))
        self.active, self.ders, self.pems = set(), [], {}
        self.registered, self.disabled = [], []
        self.jobs, self.record = {}, None
        self.changed = threading.Condition()
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
            registry=self, jobs=self, bus=self.bus, clock=SandboxClock(),
            certificate_file=folder / "server.pem", key_file=folder / "server.key",
        )  # fmt: skip
        self.endpoint.start()

    def stop(self):
        self.endpoint.stop()
        self.work.put(None)
        self.worker.join(5)

    def _sign(self, subject, public_key, *, ca=False, names=None):
        start = datetime.now(UTC) - timedelta(hours=1)
        builder = x509.CertificateBuilder(
            self.ca_name, subject, public_key, x509.random_serial_number(), start, start + timedelta(days=30)
        ).add_extension(x509.BasicConstraints(ca, None), critical=True)
        if names:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.ca_key, hashes.SHA256())

    def issue(self, public_key, subject):
        certificate = self._sign(subject, public_key)
        der = certificate.public_bytes(serialization.Encoding.DER)
        identity = hashlib.sha256(der).hexdigest()
        self.pems[identity] = certificate.public_bytes(PEM).decode()
        self.active.add(identity)
        self.ders.append(der)
        for listener in self.registered:
            listener(der)
        return identity

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
        for der in self.ders:
            listener(der)

    def on_certificate_disabled(self, listener):
        self.disabled.append(listener)

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
        return {"execution": self._pending()} if self._pending() else {}

    def update(self, _thing, job_id, request):
        job = self.jobs[job_id]
        if job["status"] not in ("QUEUED", "IN_PROGRESS"):
            raise JobsDataError("InvalidStateTransition", "the execution has ended")
        with self.changed:
            job.update(status=request["status"], statusDetails=request.get("statusDetails", {}))
            if job["status"] in ("SUCCEEDED", "FAILED") and self.record:
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
            outcome = "rejected" if "errorMsg" in answer else "accepted"
            self.bus.publish(Message(f"{message.topic}/{outcome}", json.dumps(answer).encode(), qos=1))

    def _create(self, body, message):
        csr = x509.load_pem_x509_csr(body["csr"].encode())
        assert csr.is_signature_valid
        new = self.issue(csr.public_key(), csr.subject)
        self.record = {"old": message.principal, "new": new, "csr": csr}
        return {"certificatePem": self.pems[new]}

    def _commit(self, message):
        return {} if message.principal == self.record["new"] else {"errorMsg": "not the new certificate"}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The built archive, unpacked as the nucleus unpacks it, beside its recipe."""
    folder = tmp_path_factory.mktemp("build")
    build.main(["--output", str(folder), "--version", "1.2.3"])
    with zipfile.ZipFile(folder / build.ARCHIVE) as archive:
        archive.extractall(folder / "unpacked")
    return folder


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.stop()


@pytest.fixture
def start(tmp_path, site, artifacts):
    """Provision a device with a first credential and start its nucleus."""
    started = []

    def run(*, variant=Variant.CLASSIC, interpolate=True, configuration=None, environment=None, **system):
        root = Path(os.path.realpath(tmp_path)) / "gg"
        config = provision(
            root,
            Provisioning(
                THING,
                site.endpoint.host,
                site.endpoint.port,
                site.ca_file,
                variant=variant,
                interpolate=interpolate,
                **system,
            ),
        )
        key = ec.generate_private_key(ec.SECP256R1())
        (root / "privKey.key").write_bytes(
            key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (root / "privKey.key").chmod(0o600)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, THING)])
        first = site.issue(key.public_key(), subject)
        (root / "thingCert.crt").write_text(site.pems[first])
        component = Component(
            artifacts / "recipe.yaml", artifacts / "unpacked", environment=environment or {}, run_install=True
        )
        nucleus = Nucleus(root, component, variant=variant)
        if configuration:
            default = {**nucleus.recipe.default_configuration, **configuration}
            config.set_configuration(nucleus.recipe.name, default, "1.2.3")
        nucleus.start()
        started.append(nucleus)
        return nucleus

    yield run
    for nucleus in started:
        nucleus.stop()


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def openssl_says_they_match(root):
    certified = openssl("x509", "-in", str(root / "thingCert.crt"), "-noout", "-pubkey")
    return certified == openssl("pkey", "-in", str(root / "privKey.key"), "-pubout")


def wait_for_log(nucleus, text, timeout=20):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if nucleus.log_file.exists() and text in nucleus.log_file.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{text!r} not in {nucleus.log_file.read_text()}")


OPENSSL_KEY = {
    KeyType.RSA_2048: "2048 bit",
    KeyType.RSA_3072: "3072 bit",
    KeyType.ECDSA_P256: "prime256v1",
    KeyType.ECDSA_P384: "secp384r1",
    KeyType.ECDSA_P521: "secp521r1",
}


def test_each_key_type_and_every_csr_algorithm_rotates_through_ipc_and_tls(start, site):
    nucleus = start()
    assert nucleus.wait_connected()
    restarts = 0
    for key_type in KeyType:
        for algorithm in matching_csr_algorithms(key_type):
            slow = key_type is KeyType.RSA_3072 and algorithm is not default_csr_algorithm(key_type)
            if slow:  # the larger modulus signs by the same code: one algorithm shows it
                continue
            job_id = f"{key_type.value}-{algorithm.value}"
            site.create_job(
                {
                    "operation": "ROTATE_CERTIFICATE",
                    "keyAlgorithm": key_type.value,
                    "signingAlgorithm": algorithm.value,
                },
                job_id,
            )
            job = site.wait_ended(job_id)
            assert job["status"] == "SUCCEEDED", (job, nucleus.log_file.read_text()[-3000:])
            restarts += 1
            assert openssl_says_they_match(nucleus.root)
            text = openssl("x509", "-in", str(nucleus.root / "thingCert.crt"), "-noout", "-text")
            assert OPENSSL_KEY[key_type] in text
            assert site.record["csr"].signature_hash_algorithm.name == algorithm.hash_name.lower()
            assert {path.name for path in nucleus.root.iterdir() if path.is_file()} == {"privKey.key", "thingCert.crt"}
            assert (nucleus.root / "privKey.key").stat().st_mode & 0o777 == 0o600
    assert nucleus.component_starts == restarts + 1
    assert len(site.active) == 1


PIN = "7391"
LABEL = "device"


class SoftToken:
    """A SoftHSM token, made, filled and looked into by the tools that Debian ships."""

    def __init__(self, folder, monkeypatch):
        self.configuration = folder / "softhsm2.conf"
        (folder / "tokens").mkdir()
        self.configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
        monkeypatch.setenv("SOFTHSM2_CONF", str(self.configuration))
        # The library reads its settings once a process: a copy is one that nobody else has loaded.
        self.library = shutil.copy("/usr/lib/softhsm/libsofthsm2.so", folder)
        made = self.run("softhsm2-util", "--init-token", "--free", "--label", "t", "--pin", PIN, "--so-pin", PIN)
        self.slot = int(re.search(r"slot (\d+)", made)[1])

    def run(self, *command):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command[0], done.stdout, done.stderr)
        return done.stdout

    def tool(self, *arguments):
        return self.run(
            "pkcs11-tool", "--module", self.library, "--token-label", "t", "--login", "--pin", PIN, *arguments
        )

    def store(self, key_file, certificate_der):
        self.run(
            "softhsm2-util", "--module", self.library, "--import", key_file, "--token", "t", "--label", LABEL,
            "--id", "01", "--pin", PIN,
        )  # fmt: skip
        self.tool("--write-object", certificate_der, "--type", "cert", "--label", LABEL, "--id", "01")

    def certificate(self, file):
        self.tool("--read-object", "--type", "cert", "--label", LABEL, "--output-file", file)
        return openssl("x509", "-inform", "DER", "-in", str(file), "-noout", "-text")

    def proves(self, folder, mechanism):
        """Whether the token's key signs what the token's certificate verifies, say pkcs11-tool and openssl."""
        (folder / "digest").write_bytes(hashlib.sha256(b"x").digest())
        self.tool(
            "--sign", "--mechanism", mechanism, "--label", LABEL, "--input-file", folder / "digest",
            "--output-file", folder / "signature", "--signature-format", "openssl",
        )  # fmt: skip
        self.tool("--read-object", "--type", "cert", "--label", LABEL, "--output-file", folder / "c.der")
        (folder / "c.pub").write_text(
            openssl("x509", "-inform", "DER", "-in", str(folder / "c.der"), "-noout", "-pubkey")
        )
        return openssl(
            "pkeyutl", "-verify", "-pubin", "-inkey", str(folder / "c.pub"), "-in", str(folder / "digest"),
            "-sigfile", str(folder / "signature"),
        )  # fmt: skip


def test_a_softhsm_rotates_through_ipc_and_tls_with_each_key_that_the_tls_library_can_use(
    start, site, tmp_path, monkeypatch
):
    token = SoftToken(tmp_path, monkeypatch)
    key = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "first.key").write_bytes(pkcs8)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, THING)])
    first = site.issue(key.public_key(), subject)
    (tmp_path / "first.der").write_bytes(site.ders[-1])
    token.store(tmp_path / "first.key", tmp_path / "first.der")
    nucleus = start(
        environment={"SOFTHSM2_CONF": str(token.configuration)},
        certificate=f"pkcs11:object={LABEL};type=cert",
        private_key=f"pkcs11:object={LABEL};type=private",
        pkcs11=Pkcs11Settings("softhsm", token.library, token.slot, PIN),
        configuration={"reconnectTimeLimitSeconds": 10, "resendIntervalSeconds": 1},
    )
    assert nucleus.wait_connected()
    for key_type in (KeyType.RSA_2048, KeyType.RSA_3072, KeyType.ECDSA_P256, KeyType.ECDSA_P384):
        site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": key_type.value}, key_type.value)
        job = site.wait_ended(key_type.value)
        assert job["status"] == "SUCCEEDED", (job, nucleus.log_file.read_text()[-3000:])
        assert OPENSSL_KEY[key_type] in token.certificate(tmp_path / "now.der")
        if key_type in (KeyType.ECDSA_P256, KeyType.ECDSA_P384):
            assert "Signature Verified Successfully" in token.proves(tmp_path, "ECDSA")
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P521"}, "P521")
    job = site.wait_ended("P521", timeout=120)
    assert job["status"] == "FAILED"
    assert "rolled back" in job["statusDetails"]["DeviceFailureReason"]
    assert OPENSSL_KEY[KeyType.ECDSA_P384] in token.certificate(tmp_path / "now.der")
    labels = [line.split(":")[1].strip() for line in token.tool("-O").splitlines() if "label:" in line]
    assert labels == [LABEL] * 3
    assert first not in site.active
    assert PIN not in nucleus.log_file.read_text()


def test_nucleus_lite_rotates_without_ending_the_component(start, site):
    nucleus = start(variant=Variant.LITE)
    assert nucleus.wait_connected()
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    assert site.wait_ended()["status"] == "SUCCEEDED", nucleus.log_file.read_text()
    assert openssl_says_they_match(nucleus.root)


def test_a_commit_without_answer_is_rolled_back_and_the_job_says_why(start, site):
    nucleus = start(configuration={"stepTimeLimitSeconds": 5, "resendIntervalSeconds": 1})
    site.deaf.add("commit")
    before = (nucleus.root / "privKey.key").read_bytes()
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    job = site.wait_ended()
    assert job["status"] == "FAILED"
    assert "no answer to the commit" in job["statusDetails"]["DeviceFailureReason"]
    assert (nucleus.root / "privKey.key").read_bytes() == before
    assert openssl_says_they_match(nucleus.root)


def test_a_deployment_with_families_that_do_not_match_is_refused_with_the_reason(start):
    nucleus = start()
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    refused = nucleus.deploy(Deployment("d-1", {"keyAlgorithm": "ECDSA-P256"}))
    assert refused.status == "FAILED"
    assert "cannot sign with SHA256WITHRSA" in refused.reason
    merge = {"keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}
    assert nucleus.deploy(Deployment("d-2", merge)).status == "SUCCEEDED"


def test_a_real_kill_nine_at_spread_out_moments_never_costs_the_credential(start, site):
    nucleus = start(configuration={"resendIntervalSeconds": 1})
    assert nucleus.wait_connected()
    for number in range(8):
        job_id = f"job-{number}"
        site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"}, job_id)
        time.sleep(number * 0.02)  # a moment of its own for each kill: that is what is under test
        while (group := nucleus.component_pid) is None:  # the nucleus is restarting just now
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        job = site.wait_ended(job_id)
        assert openssl_says_they_match(nucleus.root), job
        in_place = (nucleus.root / "thingCert.crt").read_text()
        assert in_place in {site.pems[identity] for identity in site.active}, job


def test_without_interpolation_the_log_names_the_setting(start):
    nucleus = start(interpolate=False)
    wait_for_log(nucleus, "interpolateComponentConfiguration")


def test_losing_the_nucleus_ends_the_process_with_a_line_that_says_so(start):
    nucleus = start()
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    first = nucleus.component_starts
    nucleus._loop.run(_drop_ipc(nucleus))
    wait_for_log(nucleus, "the connection to the nucleus is lost")
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    assert nucleus.component_starts >= first


async def _drop_ipc(nucleus):
    nucleus._ipc.disconnect_all()


def test_idle_the_process_is_small_and_starts_within_a_second(start):
    nucleus = start()
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    status = Path(f"/proc/{_python_pid(nucleus)}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident < 60 * 1024, f"{resident} KiB"


def _python_pid(nucleus):
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
