"""A git repository, registries over HTTP, devices that rotate at once: what commands are run against."""

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
from cryptography.hazmat.primitives.asymmetric import ec

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


class Plant:
    """One account and region with a stock backend, and devices that rotate as soon as they are asked."""

    def __init__(self, folder: Path, account: str = "123456789012", region: str = "eu-west-1") -> None:
        self.bus = Bus()
        self.cloud = Cloud(account, region, SandboxClock(), self.bus, folder)
        self.cloud.start()
        self.failing: set[str] = set()  # devices that fail their rotation
        self.offline: set[str] = set()
        self._todo: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._rotate_all, daemon=True)
        self._thread.start()
        self.bus.listen(self._hear)
        self.cloud.seed.group("line-a")
        self.iot = boto3.client("iot", endpoint_url=self.cloud.endpoint_url, region_name=region)
        self.iot.create_job_template(
            jobTemplateId="AWSLabsCertificateRotator",
            document='{"operation":"ROTATE_CERTIFICATE"}',
            description="certfleet: rotate by hand",
        )

    def close(self) -> None:
        self._todo.put(None)
        self._thread.join()
        self.cloud.stop()

    def device(self, name: str, age: int = 10, key=None, kind: str = "EXCLUSIVE_THING", groups=("line-a",)) -> str:
        self.cloud.seed.thing(name, groups)
        return self.certificate(name, age, key, kind)

    def certificate(self, name: str, age: int = 0, key=None, kind: str = "EXCLUSIVE_THING") -> str:
        key = key or ec.generate_private_key(ec.SECP256R1())
        made = self.cloud.seed.certificate(key.public_key(), not_before=datetime.now(UTC) - age * DAY)
        self.iot.attach_thing_principal(thingName=name, principal=made.arn, thingPrincipalType=kind)
        return made.certificate_id

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


class Repository:
    """The documents, and commands run where they lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.desired = folder / "repository" / "desired_state"
        self.desired.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> None:
        settings = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(("git", *settings, *arguments), cwd=self.folder / "repository", check=True)

    def write(self, text: str, name: str = "factory.yaml") -> None:
        file = self.desired / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "desired state")

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


class Factory(Plant, Repository):
    """One plant, and the repository that says how its devices must be."""

    def __init__(self, folder: Path) -> None:
        Plant.__init__(self, folder / "cloud")
        Repository.__init__(self, folder)
        self.write(DOCUMENTS)
        self.commit()
