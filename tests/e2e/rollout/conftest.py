"""A world whose clock a test moves, and the commands against it as an operator would give them."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from shared_command import Outcome, run_command
from shared_repository import Repository
from shared_wire import answer_without_wire

from controller.fleet import own_rotations
from controller.fleet.reading import RegistryReader
from controller.reconcile.values import parse_job_id
from sandbox.clock import SandboxClock
from sandbox.fleet_file import SandboxFleet
from sandbox.world import World

PATIENCE = 60.0  # seconds, for what takes one on an idle machine


def eventually(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until it holds; fails with ``what`` where it never does."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"never came true: {what()}"
        time.sleep(0.02)


class Factory(Repository):
    """A world, and the repository that says how it must be."""

    def __init__(self, folder: Path, groups: Iterable[str], devices: Iterable[dict], **fleet) -> None:
        super().__init__(folder / "repository")
        document = {"groups": [{"name": name} for name in groups], "devices": list(devices), **fleet}
        self.folder = folder
        self.clock = SandboxClock()
        self.world = World(SandboxFleet.model_validate(document), folder / "world", self.clock)
        answer_without_wire(self.world.cloud)
        self.inventory = folder / "inventory.sqlite"
        entries = self.world.fleet.devices
        self._off = {name for entry in entries if not entry.online for name in entry.names()}

    def start(self) -> None:
        self.world.start()
        assert self.world.wait_until_online(900) == []
        self.iot = self.world.client("iot")
        self.certificates_at_start = len(self.certificates())

    # git

    def declare(self, name: str, text: str) -> None:
        """Commit a file of the desired state."""
        self.write(text, f"{name}.yaml")
        self.commit()

    # commands

    def arguments(self, command: str, *more: str) -> list[str]:
        os.environ["CERTFLEET_CLOCK_AHEAD"] = f"{self.clock.ahead.total_seconds():.0f}"
        given = [command, "--desired-state", str(self.desired)]
        return [*given, "--inventory", str(self.inventory), *more]

    def run(self, command: str, *more: str) -> Outcome:
        """Run a command in this process, at the world's time."""
        return run_command(self.arguments(command, *more))

    def apply(self, *more: str) -> dict:
        """Apply without waiting, then let the devices that are online do their part; the fleet's report."""
        outcome = self.run("apply", "--format", "json", *more)
        assert outcome.code in {0, 2}, outcome.err
        self.settle()
        [fleet] = outcome.json["fleets"]
        return fleet

    def plan(self, *more: str) -> dict:
        """The plan document as it would be applied now."""
        outcome = self.run("plan", "--format", "json", *more)
        assert outcome.code in {0, 2, 3}, outcome.err
        return outcome.json

    def wave(self, policy: str, *more: str) -> dict:
        """Where one policy's rollout stands."""
        [report] = [wave for wave in self.plan(*more)["waves"] if wave["policy"] == policy]
        return report

    # the world

    def settle(self) -> None:
        """Wait until every job of a connected device has ended, and the backend has done what follows from it."""
        online = [name for name in self.world.devices if name not in self._off]
        eventually(
            lambda: not any(self.pending(name) for name in online),
            lambda: f"these have done their jobs: {[self._told(name) for name in online if self.pending(name)]}",
        )
        eventually(lambda: self.world.stack.drain(PATIENCE), lambda: "the backend is idle")

    def _told(self, name: str) -> str:
        """What there is to say of a device that does not get on."""
        device = self.world.devices[name]
        life = getattr(device, "_life", None)
        state = life.rotator.state if life else "not running"
        return f"{name} (connected: {device.is_connected}, {state}): {self.pending(name)}"

    def pending(self, device: str) -> list[dict]:
        answer = self.world.cloud.jobs.get_pending(device)
        return [*answer["inProgressJobs"], *answer["queuedJobs"]]

    def power_off(self, names: Iterable[str]) -> None:
        for name in names:
            self._off.add(name)
            self.world.devices[name].stop()

    def power_on(self, names: Iterable[str]) -> None:
        for name in names:
            self._off.remove(name)
            self.world.devices[name].start()
        for name in names:
            assert self.world.devices[name].wait_connected(PATIENCE), name

    def advance(self, **span: float) -> None:
        self.clock.advance(timedelta(**span))

    # what AWS says

    def jobs(self, *statuses: str) -> list[str]:
        found = [self.iot.list_jobs(status=status, maxResults=250)["jobs"] for status in statuses or ALL_STATUSES]
        return sorted(job["jobId"] for job in itertools.chain.from_iterable(found))

    def active_jobs(self) -> Counter:
        """Jobs in progress, by policy."""
        return Counter(parse_job_id(job_id).policy for job_id in self.jobs("IN_PROGRESS"))

    def executions(self, device: str) -> Counter:
        """How often a device was asked, by what came of it."""
        pages = self.iot.get_paginator("list_job_executions_for_thing").paginate(thingName=device)
        return Counter(item["jobExecutionSummary"]["status"] for page in pages for item in page["executionSummaries"])

    def certificates(self) -> dict[str, str]:
        """Status of every certificate, by id."""
        pages = self.iot.get_paginator("list_certificates").paginate(pageSize=250)
        return {c["certificateId"]: c["status"] for page in pages for c in page["certificates"]}

    def certificate_of(self, device: str) -> str:
        [principal] = self.iot.list_thing_principals_v2(thingName=device)["thingPrincipalObjects"]
        assert principal["thingPrincipalType"] == "EXCLUSIVE_THING"
        return principal["principal"].rpartition("/")[2]

    def holdings(self) -> dict[str, str]:
        """The certificate that the registry shows for each device, exactly one."""
        return {name: self.certificate_of(name) for name in self.world.devices}

    def is_whole(self) -> bool:
        """Whether each device holds the certificate that the registry shows for it, ACTIVE, and there is no other."""
        registered = self.certificates()
        for name, certificate_id in self.holdings().items():
            credential = self.world.credential_of(name)
            if credential is None or fingerprint(credential.certificate_pem) != certificate_id:
                return False
        return registered == dict.fromkeys(self.holdings().values(), "ACTIVE")


ALL_STATUSES = ("IN_PROGRESS", "COMPLETED", "CANCELED")


def fingerprint(pem: bytes) -> str:
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


@pytest.fixture
def from_records(monkeypatch):
    """What looks take from the backend's records, by thing, with three of a wave as enough for that."""
    taken = Counter()
    keep = RegistryReader.keep_recorded

    def counted(reader, thing, described):
        taken[thing] += 1
        keep(reader, thing, described)

    monkeypatch.setattr(RegistryReader, "keep_recorded", counted)
    monkeypatch.setattr(own_rotations, "FEWEST", 3)
    monkeypatch.setattr(own_rotations, "SAMPLE", 1)
    return taken


@pytest.fixture
def build(tmp_path, monkeypatch, from_records):
    """Builds and starts factories; their cloud is where AWS calls of the test go."""
    with contextlib.ExitStack() as closing:

        def make(groups: Iterable[str], devices: Iterable[dict], **fleet) -> Factory:
            factory = Factory(tmp_path, groups, devices, **fleet)
            closing.callback(factory.world.stop)
            factory.start()
            for name, value in factory.world.environment().items():
                monkeypatch.setenv(name, value)
            return factory

        yield make
