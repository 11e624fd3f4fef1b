"""A fleet in memory, assessed and planned by the real core, for the renderers to show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from report_browser import Browser

from controller.reconcile.checks import assess_fleet
from controller.reconcile.planning import make_plan
from controller.reconcile.values import (
    Attachment,
    AttachmentType,
    Certificate,
    CertificateAuthority,
    CertificateRule,
    CertificateStatus,
    DesiredState,
    Device,
    Fleet,
    FleetState,
    Guardrails,
    Policy,
    Rollout,
    Source,
    WaveSize,
)
from controller.report.model import FleetReport, Report
from controller.report.tally import Tally
from protocol.algorithms import KeyType

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DAY = timedelta(days=1)


def source(line: int) -> Source:
    return Source("desired_state/factory/policies.yaml", line, {"spec.certificate.maxAge": line + 4})


def policy(name: str, line: int, **rule) -> Policy:
    waves = (WaveSize(2, is_percent=False), WaveSize(100, is_percent=True))
    certificate = CertificateRule(**{"max_age": 180 * DAY, "authority": "aws-iot", **rule})
    return Policy(name, name, source(line), certificate=certificate, rollout=Rollout(waves=waves))


def desired(**changes) -> DesiredState:
    fleet = Fleet("factory", "123456789012", "eu-west-1", Source("f.yaml", 1), guardrails=Guardrails(100, 10))
    policies = (
        policy("line-a-gateways", 10),
        policy("line-b-gateways", 30, key_type=KeyType.ECDSA_P256),
        policy("test-benches", 50),
    )
    values = {"authorities": {"aws-iot": CertificateAuthority("aws-iot")}, "policies": policies, "commit": COMMIT}
    return replace(DesiredState(fleet, **values), **changes)


def certificate(name: str, age: int = 10, **changes) -> Certificate:
    values = {
        "status": CertificateStatus.ACTIVE,
        "created_at": NOW - age * DAY,
        "key_type": "ECDSA-P256",
        "authority": "aws-iot",
        "not_before": NOW - age * DAY,
        "not_after": NOW + 9000 * DAY,
    }
    return Certificate(name.encode().hex().ljust(64, "0"), **{**values, **changes})


def device(name: str, group: str, age: int = 10, **changes) -> Device:
    held = certificate(name, age, **changes)
    return Device(name, (group,), (Attachment(held, AttachmentType.EXCLUSIVE),))


def devices() -> list[Device]:
    found = [device(f"bench-{n}", "test-benches") for n in range(4)]
    found += [device(f"gateway-a-{n:02}", "line-a-gateways", 300 if n < 6 else 20) for n in range(20)]
    found += [device(f"gateway-b-{n:02}", "line-b-gateways", key_type="RSA-2048") for n in range(3)]
    found += [device(f"gateway-b-{n:02}", "line-b-gateways") for n in range(3, 12)]
    found.append(Device("gateway-b-90", ("line-b-gateways",)))
    found.append(device("gateway-b-91", "line-b-gateways", status=CertificateStatus.INACTIVE))
    twice = (certificate("old"), certificate("new"))
    found.append(
        Device("gateway-b-92", ("line-b-gateways",), tuple(Attachment(c, AttachmentType.EXCLUSIVE) for c in twice))
    )
    return found


def state(found: list[Device], **changes) -> FleetState:
    sizes = Counter(group for each in found for group in each.groups)
    return replace(FleetState(NOW, sizes, unmanaged=("printer-1", "printer-2"), unmanaged_count=2), **changes)


def fleet_report(found: list[Device] | None = None, *, with_plan: bool = False, **changes) -> FleetReport:
    found = devices() if found is None else found
    wanted, seen = desired(**changes), state(found)
    tally = Tally(wanted, NOW)
    assessments = list(tally.assessments(assess_fleet(tally.devices(found), wanted, seen, NOW)))
    plan = make_plan(assessments, wanted, seen, NOW)
    return tally.finish(seen, plan if with_plan else None, expected=None if with_plan else plan)


@pytest.fixture
def make() -> SimpleNamespace:
    """What tests build reports with."""

    def report(*fleets: FleetReport, **changes) -> Report:
        return Report(NOW, fleets or (fleet_report(),), **changes)

    return SimpleNamespace(
        report=report, fleet=fleet_report, device=device, desired=desired, devices=devices, NOW=NOW, COMMIT=COMMIT
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One Chromium for the tests of a file; it ends with them."""
    started = Browser(tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()
