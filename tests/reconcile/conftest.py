"""Builders of values: a device in sync under a plain policy, and everything that departs from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from shared_iot import Wire

from controller.reconcile.checks import Governance, assess, assess_fleet
from controller.reconcile.planning import make_plan
from controller.reconcile.values import (
    NO_OVERRIDES,
    AbortRule,
    Attachment,
    AttachmentType,
    Certificate,
    CertificateAuthority,
    CertificateRule,
    CertificateStatus,
    DesiredState,
    Device,
    DeviceExecution,
    Drill,
    DrillSample,
    FailureType,
    Fleet,
    FleetState,
    Guardrails,
    Incident,
    Policy,
    Preflight,
    Quarantine,
    Rollout,
    RotationJob,
    Schedule,
    Source,
    Suspension,
    Waiver,
    WaveSize,
    Window,
    WindowKind,
    execution_status,
)
from protocol.algorithms import KeyType, default_csr_algorithm
from protocol.job_document import JobDocument

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
ENDLESS = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
SOURCE = Source("demo/policies.yaml", 3, {"spec.certificate.maxAge": 11, "spec.certificate": 9, "spec.priority": 5})


class Make:
    """One function per value; what is not named is as a healthy fleet has it."""

    now, day, hour, endless, source = NOW, DAY, HOUR, ENDLESS, SOURCE

    @staticmethod
    def certificate(age=10 * DAY, *, name="a", left=None, **fields):
        start = NOW - age
        values = {
            "certificate_id": sha256(name.encode()).hexdigest(),
            "status": CertificateStatus.ACTIVE,
            "created_at": start,
            "key_type": "ECDSA-P256",
            "issuer": "CN=plant",
            "authority": "plant-ca",
            "not_before": start,
            "not_after": ENDLESS if left is None else NOW + left,
        }
        return Certificate(**(values | fields))

    @classmethod
    def device(
        cls,
        name="gateway-1",
        *,
        age=10 * DAY,
        groups=("line-a",),
        certificates=None,
        type_=None,
        shared=(),
        left=None,
        executions=(),
        failures=(),
        last_seen=None,
        component_version=None,
        **fields,
    ):
        if certificates is None:
            certificates = (cls.certificate(age, name=name, left=left, **fields),)
        kind = type_ or AttachmentType.EXCLUSIVE
        attachments = tuple(Attachment(certificate, kind, shared) for certificate in certificates)
        return Device(name, groups, attachments, executions, failures, last_seen, component_version)

    @staticmethod
    def set_to(key_algorithm, device):
        """The device with its component set to make such a key."""
        return replace(device, key_algorithm=key_algorithm)

    @classmethod
    def answered(cls, device, reason=None, *, ago=HOUR, **asked):
        """The device after a pre-flight of the rotation that the usual policy demands."""
        rule, arn = cls.rule(), cls.desired().authorities["plant-ca"].arn
        algorithm = default_csr_algorithm(rule.key_type)
        wanted = JobDocument(rule.key_type, algorithm, "plant-ca", "line-a", "c0ffee", arn)
        answer = Preflight("cf-line-a-check-0123456789abcdef", NOW - ago, replace(wanted, **asked), reason)
        return replace(device, preflight=answer)

    @staticmethod
    def rule(**fields):
        values = {"max_age": 180 * DAY, "key_type": KeyType.ECDSA_P256, "authority": "plant-ca"}
        return CertificateRule(**(values | fields))

    @classmethod
    def policy(cls, name="line-a", *, rule=None, windows=(), jitter=0, **fields):
        rollout = fields.pop("rollout", None) or cls.rollout()
        values = {"thing_group": name, "source": SOURCE, "certificate": rule or cls.rule()}
        return Policy(name=name, schedule=Schedule(jitter, tuple(windows)), rollout=rollout, **(values | fields))

    @staticmethod
    def rollout(waves=("100%",), **fields):
        sizes = tuple(WaveSize(int(w.rstrip("%")), is_percent=w.endswith("%")) for w in waves)
        return Rollout(waves=sizes, **fields)

    @staticmethod
    def abort(percent=20, least=5, kind=FailureType.FAILED):
        return AbortRule(kind, percent, least)

    @staticmethod
    def window(cron="0 2 * * *", duration=4 * HOUR, timezone="UTC", kind=WindowKind.ALLOW):
        return Window(cron, timezone, duration, kind)

    @classmethod
    def desired(cls, *policies, guardrails=None, **fields):
        fleet = Fleet("demo", "123456789012", "eu-west-1", SOURCE, guardrails=guardrails or Guardrails(100, 10))
        authorities = {
            "aws-iot": CertificateAuthority("aws-iot"),
            "plant-ca": CertificateAuthority("plant-ca", SOURCE, "arn:aws:acm-pca:plant", validity=365 * DAY),
        }
        values = {"commit": "c" * 40, "policies": policies or (cls.policy(),)}
        return DesiredState(fleet, authorities, **(values | fields))

    @staticmethod
    def state(*jobs, now=NOW, **fields):
        return FleetState(now, jobs=jobs, **fields)

    @staticmethod
    def waiver(*devices, expires=NOW + DAY):
        return Waiver("spare-part", frozenset(devices), "ops@example.com", "waits for a spare part", expires, SOURCE)

    @staticmethod
    def quarantine(*devices, certificates=(), since=NOW - DAY):
        return Quarantine(
            "theft", frozenset(devices), frozenset(certificates), "security", "a laptop was stolen", since, SOURCE
        )

    @staticmethod
    def incident(name="leak", deadline=NOW + 2 * DAY, **fields):
        return Incident(name, "key material leaked", deadline, SOURCE, **fields)

    @staticmethod
    def drill(*devices, name="autumn", since=HOUR, lasts=8 * HOUR, **fields):
        values = {
            "policy": "line-a",
            "reason": "practise that the plant CA leaks",
            "since": NOW - since,
            "deadline": NOW - since + lasts,
            "devices": frozenset(devices),
            "sample": DrillSample(of=100, count=max(1, len(devices))),
            "source": SOURCE,
        }
        return Drill(name, **(values | fields))

    @staticmethod
    def suspension(until=NOW + DAY):
        return Suspension("line rebuild", until)

    @staticmethod
    def execution(
        job_id="cf-line-a-w1-0123456789abcdef", status="QUEUED", queued=HOUR, updated=None, reason=None, version=None
    ):
        started = None if status in {"QUEUED", "CANCELED", "REMOVED"} else NOW - queued
        changed = NOW - (queued if updated is None else updated)
        return DeviceExecution(job_id, execution_status(status), NOW - queued, changed, started, reason, version)

    @staticmethod
    def job(job_id, executions, *, status="IN_PROGRESS", age=HOUR, **fields):
        return RotationJob(job_id, status, NOW - age, executions=dict(executions), **fields)

    @staticmethod
    def assess(device, desired, state=None, now=NOW):
        return assess(device, Governance(desired, state or FleetState(now), now))

    @staticmethod
    def assess_all(devices, desired, state):
        return assess_fleet(devices, desired, state, NOW)

    @staticmethod
    def plan(devices, desired, state=None, now=NOW, **options):
        state = state or FleetState(now)
        overrides = options.get("overrides", NO_OVERRIDES)
        return make_plan(assess_fleet(devices, desired, state, now, overrides), desired, state, now, **options)

    @staticmethod
    def reasons(assessment):
        return [finding.reason.value for finding in assessment.findings]

    replace = staticmethod(replace)


@pytest.fixture(scope="session")
def make():
    """The builders."""
    return Make


@pytest.fixture(scope="session")
def wire() -> Wire:
    """A session that reaches whichever account in memory is plugged in."""
    return Wire()
