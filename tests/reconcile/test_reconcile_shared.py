"""Certificates that several things share, in the plan: what the job says, and what a person is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.reconcile.values import Mode, Outcome, SharedCertificate
from protocol.deployment import EXCLUSIVE, NON_EXCLUSIVE, DeployedAuthority, DeployedBackend
from protocol.job_document import DOCUMENT_FIELDS

PLANT = {"plant-ca": DeployedAuthority("arn:aws:acm-pca:plant", "SHA256WITHECDSA", timedelta(days=365))}
OURS = DeployedBackend("0.3.0", PLANT, DOCUMENT_FIELDS, frozenset({EXCLUSIVE, NON_EXCLUSIVE}))
OLDER = DeployedBackend("0.2.0", PLANT, DOCUMENT_FIELDS - {"sharedCertificate"}, OURS.attachments)


@pytest.fixture
def clones(make):
    """Three clones of one image."""
    one = make.certificate(name="image")
    names = ("a", "b", "c")

    def made(**changes):
        return [
            make.device(name, certificates=(one,), shared=tuple(o for o in names if o != name), **changes.get(name, {}))
            for name in names
        ]

    return made


def planned(make, devices, deployment=OURS, *, rule=None, jobs=(), state=(), **fields):
    policy = make.policy(rule=rule or make.rule(shared_certificate=SharedCertificate.SPLIT), **fields)
    return make.plan(devices, make.desired(policy), make.state(*jobs, deployment=deployment, **dict(state)))


def test_a_job_of_a_policy_that_splits_says_so_and_no_other_does(make, clones):
    [job] = planned(make, clones()).jobs
    assert job.document.to_wire()["sharedCertificate"] == "split"
    assert [device.name for device in job.devices] == ["a", "b", "c"]
    [job] = planned(make, [make.device(age=timedelta(days=300))], rule=make.rule()).jobs
    assert "sharedCertificate" not in job.document.to_wire()


def test_the_plan_says_what_a_shared_key_means(make, clones):
    [told] = [one for one in planned(make, clones()).notices if "key" in one]
    assert "3 devices hold 1 certificate whose key others know" in told
    assert "answer for each of its things" in told
    assert "docs/security.md" in told


def test_an_older_backend_is_asked_for_no_split_and_refused_nothing_else(make, clones):
    plan = planned(make, [*clones(), make.device("old", age=timedelta(days=300))], OLDER)
    assert plan.refusals == ()
    [job] = plan.jobs
    assert [device.name for device in job.devices] == ["old"]
    assert "sharedCertificate" not in job.document.to_wire()


@pytest.mark.parametrize(("holders", "rotates"), [(500, True), (501, False)])
def test_what_more_things_hold_than_the_backend_splits_rotates_nobody_in_vain(make, clones, holders, rotates):
    [one, *_] = clones()
    one = replace(one, attachments=(replace(one.attachments[0], unnamed=holders - 3),))
    splits = make.policy(rule=make.rule(shared_certificate=SharedCertificate.SPLIT))
    assessed = make.assess(one, make.desired(splits), make.state(deployment=OURS))
    assert assessed.outcome is (Outcome.ROTATE if rotates else Outcome.BLOCKED)
    [finding] = assessed.findings
    assert f"{holders - 1} other things: b, c and {holders - 3} more" in finding.message
    assert rotates or "at most 500 things" in finding.remedy


def test_who_keeps_a_shared_certificate_from_going_is_named_with_the_reason(make, clones):
    offline = {"executions": (make.execution(queued=timedelta(hours=30)),)}
    told = " ".join(planned(make, clones(b=offline)).notices)
    assert "stays in use by b (Straggler)" in told
    assert "a (" not in told


def test_a_thing_that_no_policy_governs_is_named_when_it_alone_is_left(make):
    told = " ".join(planned(make, [make.device()], state={"shared": {"5" * 64: ("u", "v")}}).notices)
    assert f"shared certificate {'5' * 12} stays in use by u, v, which no policy governs" in told


@pytest.mark.parametrize("is_last", [False, True])
def test_a_thing_whose_policy_does_not_split_is_named_also_when_it_alone_is_left(make, clones, is_last):
    *others, kept = clones()
    kept = replace(kept, groups=("line-b",))
    if is_last:
        kept = replace(kept, attachments=(replace(kept.attachments[0], shared_with=(), unnamed=0),))
    splits = make.policy(rule=make.rule(shared_certificate=SharedCertificate.SPLIT))
    desired = make.desired(splits, make.policy("line-b"))
    certificate_id = kept.attachments[0].certificate.certificate_id
    state = make.state(deployment=OURS, shared={certificate_id: ()} if is_last else {})
    told = " ".join(make.plan([kept] if is_last else [*others, kept], desired, state).notices)
    assert "stays in use by c, whose policy does not split it" in told


def test_why_nobody_knows_what_was_shared_is_told(make):
    assert "it may not be read" in planned(make, [], state={"shared_unknown": "it may not be read"}).notices


def test_a_policy_that_only_reports_tells_and_splits_nothing(make, clones):
    plan = planned(make, clones(), mode=Mode.REPORT)
    assert plan.jobs == ()


@pytest.mark.parametrize(("before", "after"), [(OLDER, OURS), (OURS, OLDER)], ids=["upgraded", "rolled back"])
def test_a_standing_job_is_withdrawn_once_the_backend_splits_or_no_longer_does(make, before, after):
    def asked_in(job, hours, **fields):
        executions = {"old": make.execution(job.job_id, queued=timedelta(hours=hours))}
        document = job.document.to_json()
        made = make.job(job.job_id, executions, age=timedelta(hours=hours), document=document, **fields)
        return [make.device("old", age=timedelta(days=300), executions=tuple(executions.values()))], (made,)

    [wave] = planned(make, [make.device("old", age=timedelta(days=300))], before).jobs
    waiting, asking = asked_in(wave, 26)
    [standing] = planned(make, waiting, before, jobs=asking).jobs
    waiting, asking = asked_in(standing, 25, is_continuous=True)
    plan = planned(make, waiting, after, jobs=asking)

    assert standing.is_standing
    assert [(step.job_id, step.action) for step in plan.steps] == [(standing.job_id, "cancel")]
    assert not plan.jobs, "the next run asks it, in another job"
