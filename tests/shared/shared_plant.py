"""Registries over HTTP, and devices that rotate as soon as they are asked: AWS as the controller sees it."""

from __future__ import annotations

import atexit
import queue
import shutil
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import boto3
from cryptography.hazmat.primitives.asymmetric import ec
from shared_wire import answer_without_wire

from protocol.job_document import is_check
from sandbox.aws import Cloud
from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock

DAY = timedelta(days=1)


@cache
def keys_folder() -> Path:
    """The keys of every cloud here and its TLS, made once a process; all else is each cloud's own."""
    folder = Path(tempfile.mkdtemp(prefix="certfleet-keys-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Plant:
    """One account and region with a stock backend, and devices that rotate as soon as they are asked."""

    def __init__(self, account: str = "123456789012", region: str = "eu-west-1") -> None:
        self.bus = Bus()
        self.cloud = Cloud(account, region, SandboxClock(), self.bus, keys_folder())
        self.cloud.start()
        answer_without_wire(self.cloud)
        self.failing: set[str] = set()  # devices that fail their rotation
        self.unfit: dict[str, str] = {}  # devices that say to a pre-flight that they would, and why
        self.offline: set[str] = set()
        self.is_removing_late = False  # as AWS: a job says SUCCEEDED before the backend has removed what is old
        self._old: list[tuple[str, str]] = []  # (thing, principal)
        self.rotations: Counter[str] = Counter()  # by device
        self._todo: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._rotate_all, daemon=True)
        self._thread.start()
        self.bus.listen(self._hear)
        self.cloud.seed.group("line-a")
        self.iot = self.client("iot")
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

    def remove_old(self) -> None:
        """Remove the certificates that rotations have replaced."""
        while self._old:
            thing, principal = self._old.pop()
            certificate_id = principal.rpartition("/")[2]
            self.iot.detach_thing_principal(thingName=thing, principal=principal)
            self.iot.update_certificate(certificateId=certificate_id, newStatus="INACTIVE")
            self.iot.delete_certificate(certificateId=certificate_id)

    def client(self, service: str):
        return boto3.client(service, endpoint_url=self.cloud.endpoint_url, region_name=self.cloud.site.region)

    def jobs(self) -> list[str]:
        return sorted(job["jobId"] for job in self.iot.list_jobs(maxResults=250)["jobs"])

    def has_ended(self, job_id: str, patience: float = 60) -> bool:
        """Whether a job ends before patience, in seconds, does."""
        until = time.monotonic() + patience
        while self.iot.describe_job(jobId=job_id)["job"]["status"] != "COMPLETED" and time.monotonic() < until:
            time.sleep(0.1)
        return time.monotonic() < until

    def comes_back(self, thing: str) -> None:
        """Connect a device, which then asks for its next job."""
        self.offline.discard(thing)
        self._todo.put(thing)

    def has_rotated(self, thing: str, patience: float = 60) -> bool:
        """Whether a device rotates before patience, in seconds, ends."""
        until = time.monotonic() + patience
        while not self.rotations[thing] and time.monotonic() < until:
            time.sleep(0.02)
        return bool(self.rotations[thing])

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
        if is_check(execution["jobDocument"]):
            why = {"DeviceFailureReason": self.unfit[thing]} if thing in self.unfit else {}
            status = "FAILED" if why else "SUCCEEDED"
            details = {"CertificateRotatorCheck": "checked", **why}
            jobs.update(thing, execution["jobId"], {"status": status, "statusDetails": details})
            return
        details = {"CertificateRotator": "test"}
        if thing in self.failing:
            reason = {"DeviceFailureReason": "no space left on /greengrass"}
            jobs.update(thing, execution["jobId"], {"status": "FAILED", "statusDetails": {**details, **reason}})
            return
        [old] = self.iot.list_thing_principals_v2(thingName=thing)["thingPrincipalObjects"]
        self.certificate(thing)
        self._old.append((thing, old["principal"]))
        if not self.is_removing_late:
            self.remove_old()
        self.rotations[thing] += 1
        jobs.update(thing, execution["jobId"], {"status": "SUCCEEDED", "statusDetails": details})
