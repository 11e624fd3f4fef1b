"""Whether a plan may be applied here and now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.errors import PlanError
from controller.reconcile.planning import check_plan, compared
from controller.reconcile.values import (
    Assessment,
    Certificate,
    CertificateStatus,
    DesiredState,
    Fleet,
    Health,
    JobStep,
    Policy,
    Reason,
    Source,
    Sync,
    TargetKind,
    WaveReport,
    WaveStatus,
    blocked,
    to_rotate,
    waiting,
)
from protocol.algorithms import KeyType

THINGS = TargetKind.THINGS
DESIRED = DesiredState(Fleet("factory", "123456789012", "eu-west-1", Source("fleet.yaml", 1)), {}, ())

REFUSED = {
    "made for another fleet": ({"fleet": "other"}, "is for fleet other, the desired state demands factory"),
    "made for another account": ({"account": "999999999999"}, "is for account 999999999999"),
    "made for another region": ({"region": "us-east-1"}, "is for region us-east-1"),
    "made from another commit": ({"commit": "b" * 40}, "was made from commit bbbbbbbbbbbb"),
    "made outside a repository": ({"commit": None}, "was made from commit none"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_plan_is_refused_that_was(kit, changes, message):
    with pytest.raises(PlanError, match=message) as caught:
        check_plan(kit.plan(**changes), replace(DESIRED, commit=kit.COMMIT), kit.NOW)
    assert "plan again" in caught.value.remedy


def test_a_plan_from_the_future_is_refused(kit):
    desired, plan = replace(DESIRED, commit=kit.COMMIT), kit.plan(valid_until=kit.later(hours=1))
    check_plan(plan, desired, kit.NOW - timedelta(minutes=5))  # clocks differ
    with pytest.raises(PlanError, match="after now"):
        check_plan(plan, desired, kit.NOW - timedelta(minutes=5, seconds=1))


def test_a_plan_ends(kit):
    desired = replace(DESIRED, commit=kit.COMMIT)
    check_plan(kit.plan(valid_until=kit.later(hours=72)), desired, kit.later(hours=72))
    for until in (kit.later(hours=72), kit.later(days=400), None):  # a date that was put off counts for nothing
        with pytest.raises(PlanError, match="the plan ended at") as caught:
            check_plan(kit.plan(valid_until=until), desired, kit.later(hours=73))
        assert "plan again" in caught.value.remedy


FOREIGN = {
    "a job of no policy of ours": (lambda k: k.job("line-z", 1, THINGS, k.devices("a")), None, "which git does not"),
    "a foreign thing group": (
        lambda k: k.job("line-a", 1, TargetKind.GROUP, k.devices("a"), "everything"), None, "a foreign one"),
    "a foreign job to cancel": (None, JobStep("other-job", "cancel", "because"), "not a job of certfleet's to cancel"),
    "another act on a job of ours": (
        None, JobStep("cf-line-a-w1-0123456789abcdef", "delete", ""), "not a job of certfleet's to delete"),
    "a thing group to remove": (None, JobStep("line-a", "remove-cohort", ""), "to remove-cohort"),
}  # fmt: skip


@pytest.mark.parametrize(("job", "step", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_plan_that_names_what_no_plan_of_ours_can_name_is_refused(kit, job, step, message):
    policy = Policy("line-a", "line-a", Source("policies.yaml", 1))
    desired = replace(DESIRED, commit=kit.COMMIT, policies=(policy,))
    plan = kit.plan(*([job(kit)] if job else []), steps=[step] if step else [])
    with pytest.raises(PlanError, match=message):
        check_plan(plan, desired, kit.NOW)


def test_of_documents_that_are_in_no_repository_a_plan_is_held_to_that(kit):
    check_plan(kit.plan(commit=None, valid_until=kit.later(hours=1)), DESIRED, kit.NOW)
    with pytest.raises(
        PlanError, match=r"made from commit none \(not a repository\), the desired state is at c0ffeec0ffee$"
    ):
        check_plan(kit.plan(commit=None), replace(DESIRED, commit=kit.COMMIT), kit.NOW)


def seen(kit, *findings, certificate="c" * 64):
    """How a device stands that was planned with that certificate."""
    held = None if certificate is None else Certificate(certificate, CertificateStatus.ACTIVE, kit.NOW)
    return Assessment("a", "line-a", held, findings, Sync.OUT_OF_SYNC, Health.HEALTHY)


OLD = to_rotate(Reason.AGE_EXCEEDED, "certificate is old", "spec")
WAIVED = blocked(Reason.WAIVED, "waiver spare leaves it out", "ask", "spec")
CLOSED = waiting(Reason.OUTSIDE_WINDOW, "no maintenance window is open", "spec")
LEFT_OUT = {
    "it holds another certificate": ((OLD,), "d" * 64, "certificate is dddddddddddd…, planned with cccccccccccc…"),
    "it holds none, or several": ((WAIVED,), None, "Waived: waiver spare leaves it out"),
    "it is blocked": ((OLD, WAIVED), "c" * 64, "Waived: waiver spare leaves it out"),
    "it waits": ((OLD, CLOSED), "c" * 64, "OutsideWindow: no maintenance window is open"),
    "to be blocked comes first": ((OLD, CLOSED, WAIVED), "c" * 64, "Waived: waiver spare leaves it out"),
    "nothing is wrong with it": ((), "c" * 64, "nothing is demanded of it any more"),
    "its wave holds it": ((OLD,), "c" * 64, "wave 1 of 2 soaks"),
}


@pytest.mark.parametrize(("findings", "certificate", "why"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_who_was_planned_and_does_not_rotate_now_is_told_with_why(kit, findings, certificate, why):
    given = kit.plan(kit.job("line-a", 1, THINGS, (kit.device("a", "c" * 64), kit.device("b", "b" * 64))))
    starting = kit.plan(kit.job("line-a", 2, THINGS, (kit.device("b", "b" * 64),)))
    waves = (WaveReport("line-a", 1, 2, WaveStatus.SOAKING, "wave 1 of 2 soaks"),)
    stands = {"a": seen(kit, *findings, certificate=certificate), "b": seen(kit, OLD)}
    assert compared(given, replace(starting, waves=waves), stands) == {"a": why}
    if why == waves[0].message:
        assert compared(given, starting, stands) == {"a": "its policy does not rotate"}


def test_a_job_with_another_document_and_a_device_that_nobody_governs_are_refused(kit):
    job = kit.job("line-a", 1, THINGS, (kit.device("a", "c" * 64),))
    stands = {"a": seen(kit, OLD)}
    assert compared(kit.plan(job), kit.plan(job), stands) == {}
    other = replace(job, document=replace(job.document, key_type=KeyType.RSA_2048, signing_algorithm=None))
    with pytest.raises(PlanError, match=f"another document for job {job.job_id} than is derived") as caught:
        compared(kit.plan(other), kit.plan(job), stands)
    assert "plan again" in caught.value.remedy
    assert compared(kit.plan(other), kit.plan(), stands) == {"a": "its policy does not rotate"}, "nothing is made of it"
    with pytest.raises(PlanError, match="rotates a, which no policy governs"):
        compared(kit.plan(job), kit.plan(job), {})
