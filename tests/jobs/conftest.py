"""Plans as values, and the account in memory that they are carried out on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from shared_iot import ACCOUNT, ARN, NOW, REGION, FakeIot, Group, Job, Killed, Wire

from controller.fleet.aws import AwsSession
from controller.jobs import IotJobs
from controller.reconcile.values import (
    Plan,
    PlannedDevice,
    PlannedJob,
    PolicySummary,
    Reason,
    Rollout,
    TargetKind,
)
from controller.reconcile.values.job_ids import make_job_id
from protocol.algorithms import CsrSigningAlgorithm, KeyType
from protocol.job_document import JobDocument

COMMIT = "c0ffee" * 6 + "c0ff"


def planned_device(name: str, certificate: str) -> PlannedDevice:
    return PlannedDevice(name, certificate, (Reason.AGE_EXCEEDED,), NOW)


def make_job(
    policy: str, wave: int | None, kind: TargetKind, devices, group: str | None = None, **rollout
) -> PlannedJob:
    digest = f"{len(devices):016x}"
    return PlannedJob(
        job_id=make_job_id(policy, wave, digest),
        policy=policy,
        wave=wave or 1,
        target_kind=kind,
        target_group=group,
        devices=tuple(devices),
        document=JobDocument(KeyType.ECDSA_P256, CsrSigningAlgorithm.SHA256_ECDSA, "plant-ca", policy, COMMIT),
        rollout=Rollout(**rollout),
        is_standing=wave is None,
    )


def make_plan(*jobs: PlannedJob, steps=(), **changes) -> Plan:
    values = {
        "fleet": "factory",
        "account": ACCOUNT,
        "region": REGION,
        "commit": COMMIT,
        "created_at": NOW,
        "jobs": tuple(jobs),
        "steps": tuple(steps),
        "refusals": (),
        "policies": (),
        "digest": "d" * 64,
        "group_sizes": {},
    }
    return Plan(**{**values, **changes})


@pytest.fixture
def cloud() -> FakeIot:
    return FakeIot()


@pytest.fixture(scope="session")
def wire() -> Wire:
    return Wire()


@pytest.fixture
def session(wire: Wire, cloud: FakeIot) -> AwsSession:
    return wire.connect(cloud)


@pytest.fixture
def iot(session: AwsSession) -> IotJobs:
    return IotJobs(session, workers=1)


@pytest.fixture
def kit(wire: Wire, cloud: FakeIot) -> SimpleNamespace:
    """What tests build plans and further clouds with."""

    def devices(*names: str) -> tuple[PlannedDevice, ...]:
        return tuple(planned_device(name, cloud.thing(name)) for name in names)

    return SimpleNamespace(
        devices=devices,
        job=make_job,
        plan=make_plan,
        device=planned_device,
        summary=lambda policy: PolicySummary(policy, 0, 0, 0, 0, 0, 0),
        FakeIot=FakeIot,
        Group=Group,
        Job=Job,
        Killed=Killed,
        connect=wire.connect,
        ARN=ARN,
        NOW=NOW,
        COMMIT=COMMIT,
        later=lambda **span: NOW + timedelta(**span),
    )


class Timeline:
    """Time that passes only by sleeping; ``events`` happen when their second has come."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sleeps: list[float] = []
        self.events: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, event: Callable[[], None]) -> None:
        self.events.append((seconds, event))

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        assert len(self.sleeps) < 10_000, "this wait never ends"
        self.sleeps.append(seconds)
        self.seconds += seconds
        ready = [event for due, event in self.events if due <= self.seconds]
        self.events = [(due, event) for due, event in self.events if due > self.seconds]
        for event in ready:
            event()


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()
