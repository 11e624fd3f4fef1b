"""A device in quarantine: nobody rotates it, it counts for no wave, and whoever must still cut it off is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from reconcile_rollouts import OLD, World

from controller.reconcile.checks import assess
from controller.reconcile.checks.governance import Governance
from controller.reconcile.values import CertificateStatus, Health, Outcome, Reason, WaveStatus

DAY = timedelta(days=1)
NAME = "gateway-1"


def assessed(make, device, *quarantines, **fields):
    desired = make.desired(quarantines=quarantines, **fields)
    return assess(device, Governance(desired, make.state(), make.now))


@pytest.mark.parametrize(("status", "is_left"), [("ACTIVE", True), ("INACTIVE", False)], ids=["before", "after"])
def test_of_a_device_in_quarantine_nothing_is_asked_and_whoever_must_cut_it_off_is_told(make, status, is_left):
    found = assessed(make, make.device(age=OLD, status=CertificateStatus(status)), make.quarantine(NAME))
    [finding] = found.findings
    assert (finding.reason, finding.outcome, found.health) == (
        Reason.QUARANTINED, Outcome.BLOCKED, Health.SUSPENDED,
    )  # fmt: skip
    assert ("still ACTIVE" in finding.message, finding.is_decided) == (is_left, not is_left)
    assert "security" in finding.message
    assert "a laptop was stolen" in finding.message


def test_a_certificates_quarantine_is_its_holders_until_that_holds_another_one(make):
    meant, other = (make.certificate(OLD, name=name) for name in "ab")
    only = make.quarantine(certificates=(meant.certificate_id,))
    assert [f.reason for f in assessed(make, make.device(certificates=(meant,)), only).findings] == [Reason.QUARANTINED]
    assert Reason.QUARANTINED not in {
        f.reason for f in assessed(make, make.device(certificates=(other,)), only).findings
    }
    both = assessed(
        make, make.device(certificates=(make.replace(meant, status=CertificateStatus.INACTIVE), other)), only
    )
    assert both.findings[0].is_decided, "the other certificate is not in quarantine"


def test_what_a_device_holds_besides_an_older_documents_certificate_is_cut_off_with_it(make):
    named, other = (make.certificate(OLD, name=name) for name in "ab")
    device = make.device(NAME, certificates=(make.replace(named, status=CertificateStatus.INACTIVE), other))
    older = make.quarantine(certificates=(named.certificate_id,), since=make.now - 300 * DAY)
    [finding] = assessed(make, device, older, make.quarantine(NAME)).findings
    assert f"{other.certificate_id[:12]} is still ACTIVE" in finding.message


def test_of_two_documents_that_each_name_a_certificate_of_one_device_both_are_looked_at(make):
    first, second = (make.certificate(OLD, name=name) for name in "ab")
    device = make.device(NAME, certificates=(make.replace(first, status=CertificateStatus.INACTIVE), second))
    older = make.quarantine(certificates=(first.certificate_id,), since=make.now - 300 * DAY)
    newer = make.quarantine(certificates=(second.certificate_id,))
    [finding] = assessed(make, device, older, newer).findings
    assert f"{second.certificate_id[:12]} is still ACTIVE" in finding.message


def test_a_device_that_was_never_asked_before_is_not_taken_for_one_of_which_nothing_is_said(make):
    devices = [make.device(f"gateway-{n}", age=DAY) for n in range(1, 200)]
    governance = Governance(make.desired(quarantines=(make.quarantine("gateway-199"),)), make.state(), make.now)
    assert [a.device for a in (assess(device, governance) for device in devices) if a.findings] == ["gateway-199"]


def test_an_incident_counts_it_until_it_is_cut_off(make):
    incident = make.incident(issued_before=make.now - DAY)
    for status, remaining in (("ACTIVE", 1), ("INACTIVE", 0)):
        device = make.device(age=OLD, status=CertificateStatus(status))
        desired = make.desired(incidents=(incident,), quarantines=(make.quarantine(NAME),))
        [report] = make.plan([device], desired).incidents
        assert report.remaining == remaining


def test_a_wave_is_not_unhealthy_for_a_device_that_was_cut_off_in_the_middle_of_it(make):
    def status(*quarantines):
        world = World(make).wave(1, {"g000": "SUCCEEDED", "g001": "FAILED"})
        world.desired = make.replace(world.desired, quarantines=quarantines)
        [wave] = world.plan().waves
        return wave.status

    assert status() is WaveStatus.UNHEALTHY
    assert status(make.quarantine("g001")) is WaveStatus.OPEN


def test_a_job_that_still_asks_it_is_withdrawn_and_the_others_are_asked_anew(make):
    world = World(make).wave(1, {"g000": "QUEUED", "g001": "QUEUED"}, ended=timedelta(hours=1))
    world.desired = make.desired(world.policy, quarantines=(make.quarantine("g000"),))
    [step] = world.plan().steps
    assert (step.job_id, step.reason) == (
        world.job_id(1), "a device that it asks is in quarantine; the others are asked anew",
    )  # fmt: skip
