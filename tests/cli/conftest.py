"""Commands against a sandbox cloud: a git repository, a registry over HTTP, devices that rotate at once."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import subprocess
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from controller import cli
from sandbox.aws import Cloud
from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock

DAY = timedelta(days=1)

DOCUMENTS = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec:
  account: "123456789012"
  region: eu-west-1
  guardrails: {maxChangePercent: 90, minExisting: 4}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec:
  thingGroup: line-a
  certificate: {maxAge: 90d, keyType: ECDSA-P256, csrSigningAlgorithm: ECDSA-WITH-SHA256, authority: aws-iot}
  rollout: {waves: ["1", "100%"], soak: 0s, maximumPerMinute: 1000}
"""


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Factory:
    """One cloud, its devices, and the repository that says how they must be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = Bus()
        self.cloud = Cloud("123456789012", "eu-west-1", SandboxClock(), self.bus, folder / "cloud")
        self.cloud.start()
        self.failing: set[str] = set()  # devices that fail their rotation
        self.offline: set[str] = set()
        self._todo: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._rotate_all, daemon=True)
        self._thread.start()
        self.bus.listen(self._hear)
        self.desired = folder / "repository" / "desired_state"
        self.desired.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.write(DOCUMENTS)
        self.commit()
        self.cloud.seed.group("line-a")
        self.iot = boto3.client("iot", endpoint_url=self.cloud.endpoint_url, region_name="eu-west-1")
        self.iot.create_job_template(
            jobTemplateId="AWSLabsCertificateRotator",
            document='{"operation":"ROTATE_CERTIFICATE"}',
            description="certfleet: rotate by hand",
        )

    def close(self) -> None:
        self._todo.put(None)
        self._thread.join()
        self.cloud.stop()

    def git(self, *arguments: str) -> None:
        settings = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(("git", *settings, *arguments), cwd=self.folder / "repository", check=True)

    def write(self, text: str) -> None:
        (self.desired / "factory.yaml").write_text(text)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "desired state")

    def device(self, name: str, age: int = 10, key=None, kind: str = "EXCLUSIVE_THING", groups=("line-a",)) -> str:
        self.cloud.seed.thing(name, groups)
        return self.certificate(name, age, key, kind)

    def certificate(self, name: str, age: int = 0, key=None, kind: str = "EXCLUSIVE_THING") -> str:
        key = key or ec.generate_private_key(ec.SECP256R1())
        made = self.cloud.seed.certificate(key.public_key(), not_before=datetime.now(UTC) - age * DAY)
        self.iot.attach_thing_principal(thingName=name, principal=made.arn, thingPrincipalType=kind)
        return made.certificate_id

    def run(self, *arguments: str) -> Outcome:
        """Run a command in the repository, in this process."""
        out, err = io.StringIO(), io.StringIO()
        before = Path.cwd()
        os.chdir(self.folder / "repository")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.main(arguments)
        finally:
            os.chdir(before)
        return Outcome(code, out.getvalue(), err.getvalue())

    def jobs(self) -> list[str]:
        return sorted(job["jobId"] for job in self.iot.list_jobs(maxResults=250)["jobs"])

    def _hear(self, message: Message) -> None:
        if message.topic.endswith("/jobs/notify-next"):
            self._todo.put(message.topic.split("/")[2])

    def _rotate_all(self) -> None:
        while (thing := self._todo.get()) is not None:
            if thing not in self.offline:
                self._rotate(thing)

    def _rotate(self, thing: str) -> None:
        jobs = self.cloud.jobs
        execution = jobs.start_next(thing, {}).get("execution")
        if not execution:
            return
        details = {"CertificateRotator": "test"}
        if thing in self.failing:
            reason = {"DeviceFailureReason": "no space left on /greengrass"}
            jobs.update(thing, execution["jobId"], {"status": "FAILED", "statusDetails": {**details, **reason}})
            return
        [old] = self.iot.list_thing_principals_v2(thingName=thing)["thingPrincipalObjects"]
        self.certificate(thing)
        certificate_id = old["principal"].rpartition("/")[2]
        self.iot.detach_thing_principal(thingName=thing, principal=old["principal"])
        self.iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
        self.iot.delete_certificate(certificateId=certificate_id)
        jobs.update(thing, execution["jobId"], {"status": "SUCCEEDED", "statusDetails": details})


@pytest.fixture(scope="session")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def factory(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "sandbox")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sandbox")
    made = Factory(tmp_path)
    for name, value in {
        **made.cloud.environment(),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "CERTFLEET_QUOTA_FACTOR": "1000",
        "COLUMNS": "100",
    }.items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()
