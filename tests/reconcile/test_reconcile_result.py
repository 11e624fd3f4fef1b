"""What a rotation makes of a device is known before it is made, and said in full."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.values import (
    HoldingChange,
    Outcome,
    RotationResult,
    StockBackend,
    held_by,
    kind_of,
    parse_overrides,
    result_of,
    unasked,
)
from controller.reconcile.values.result import Holding
from protocol.algorithms import KeyType
from protocol.job_document import parse_job_document

DAY = timedelta(days=1)
KEYS = [key.value for key in KeyType]


def silent(make):
    return make.policy(rule=make.rule(key_type=None, authority=None, max_age=40 * DAY))


def test_what_a_policy_leaves_out_stays_as_it_is_and_the_job_says_so(make):
    device = make.device(age=50 * DAY, left=315 * DAY, key_type="ECDSA-P384")
    (job,) = make.plan([device], make.desired(silent(make))).jobs
    assert job.document.to_wire() == {
        "operation": "ROTATE_CERTIFICATE",
        "keyAlgorithm": "ECDSA-P384",
        "signingAlgorithm": "ECDSA-WITH-SHA256",
        "certificateAuthority": "plant-ca",
        "certificateAuthorityArn": "arn:aws:acm-pca:plant",
        "policy": "line-a",
        "commit": "c" * 40,
    }
    assert [str(one) for one in job.transitions] == [
        "1 × ECDSA-P384 / plant-ca / 365 d → ECDSA-P384 / plant-ca / 365 d"
    ]


def test_devices_that_hold_different_things_rotate_in_jobs_of_their_own_and_share_the_rate(make):
    policy = make.policy(rule=make.rule(key_type=None, authority=None), rollout=make.rollout(maximum_per_minute=60))
    devices = [make.device(f"ec-{n}", age=200 * DAY) for n in range(4)]
    devices += [make.device(f"rsa-{n}", age=200 * DAY, key_type="RSA-3072", authority="aws-iot") for n in range(2)]
    first, second = make.plan(devices, make.desired(policy)).jobs
    assert [d.name for d in first.devices] == ["ec-0", "ec-1", "ec-2", "ec-3"]
    assert (first.rollout.maximum_per_minute, second.rollout.maximum_per_minute) == (40, 20)
    assert second.document.key_type is KeyType.RSA_3072
    assert (second.document.certificate_authority, second.document.certificate_authority_arn) == ("aws-iot", None)
    assert kind_of(first.job_id) != kind_of(second.job_id)
    assert [str(one) for one in second.transitions] == ["2 × RSA-3072 / aws-iot → RSA-3072 / aws-iot"]


def test_stragglers_of_two_kinds_wait_in_two_standing_jobs(make):
    policy = make.policy(rule=make.rule(key_type=None))
    desired = make.desired(policy)
    devices = [make.device("ec", age=200 * DAY), make.device("rsa", age=200 * DAY, key_type="RSA-2048")]
    jobs, later = [], make.now
    for planned in make.plan(devices, desired).jobs:
        asked = {d.name: make.replace(make.execution(planned.job_id), queued_at=make.now) for d in planned.devices}
        jobs.append(make.replace(make.job(planned.job_id, asked), created_at=make.now))
    devices = [make.replace(d, executions=(job.executions[d.name],)) for d, job in zip(devices, jobs, strict=True)]
    later += 30 * timedelta(hours=1)
    plan = make.plan(devices, desired, make.state(*jobs, now=later), now=later)
    told = {job.document.key_type.value: (job.is_standing, [d.name for d in job.devices]) for job in plan.jobs}
    assert told == {"ECDSA-P256": (True, ["ec"]), "RSA-2048": (True, ["rsa"])}
    assert {step.job_id for step in plan.steps} == {job.job_id for job in jobs}


def test_a_job_that_asks_for_something_else_than_its_devices_need_now_is_withdrawn(make):
    policy = make.policy(rule=make.rule(key_type=None))
    desired = make.desired(policy)
    (planned,) = make.plan([make.device(age=200 * DAY)], desired).jobs
    asked = make.execution(planned.job_id)
    replaced = make.device(age=200 * DAY, key_type="ECDSA-P384", executions=(asked,))
    plan = make.plan([replaced], desired, make.state(make.job(planned.job_id, {"gateway-1": asked})))
    [step] = plan.steps
    assert (step.job_id, step.reason) == (planned.job_id, "it asks for something else than its devices need now")


OF_AWS, OF_PLANT = StockBackend(), StockBackend("arn:aws:acm-pca:plant", 365 * DAY)
ANY, DEMANDS = {"key_type": None, "authority": None}, {"key_type": KeyType.ECDSA_P384, "authority": "plant-ca"}
P384 = {"key_algorithm": "ECDSA-P384"}
STOCK = {
    "it makes what the policy demands": (DEMANDS, OF_PLANT, P384, "rotates"),
    "it makes another key than demanded": (DEMANDS, OF_PLANT, {"key_algorithm": "RSA-2048"}, "UnsupportedByBackend"),
    "it issues from another CA than demanded": (DEMANDS, OF_AWS, P384, "UnsupportedByBackend"),
    "it keeps what the policy leaves out": (ANY, OF_PLANT, P384, "rotates"),
    "it makes another key than there is": (ANY, OF_PLANT, {"key_algorithm": "RSA-2048"}, "refused: the key)"),
    "it issues from another CA": (ANY, OF_AWS, P384, "refused: the issuer and a longer life)"),
    "it issues for longer": (ANY, replace(OF_PLANT, validity=730 * DAY), P384, "refused: a longer life)"),
    "its stack may not be read": (
        ANY,
        StockBackend(unknown="allow lambda:GetFunctionConfiguration"),
        P384,
        "ResultUnknown",
    ),
    "its component may not be read": (
        ANY,
        OF_PLANT,
        {"setting_unknown": "allow greengrass:ListEffectiveDeployments"},
        "ResultUnknown",
    ),
    "its component makes what is not a key here": (ANY, OF_PLANT, {"key_algorithm": "RSA-1024"}, "ResultUnknown"),
    "git does not know its CA": (ANY, StockBackend("arn:of-another", 7 * DAY), P384, "ResultUnknown"),
}


@pytest.mark.parametrize("scene", STOCK)
def test_a_stock_backend_gets_its_own_document_and_only_those_whom_its_result_suits(make, scene):
    rule, stock, setting, expected = STOCK[scene]
    policy = make.policy(rule=make.rule(**rule))
    device = replace(make.device(age=200 * DAY, left=165 * DAY, key_type="ECDSA-P384"), **setting)
    state = make.state(backend_is_stock=True, stock=stock)
    desired = make.desired(policy)
    plan = make.plan([device], desired, state)
    if expected == "rotates" or expected.startswith("refused"):
        [job] = plan.jobs
        assert job.document.is_stock
        assert [refusal.guardrail for refusal in plan.refusals] == (["result"] if expected != "rotates" else [])
        assert all(expected.removeprefix("refused: ") in refusal.message for refusal in plan.refusals)
        assert all(refusal.override == "--override result=line-a" for refusal in plan.refusals)
        assert not make.plan([device], desired, state, overrides=parse_overrides(["result=line-a"])).refusals
        return
    assert plan.jobs == ()
    found = make.assess(device, desired, state)
    [blocked] = [finding for finding in found.findings if finding.outcome is Outcome.BLOCKED]
    assert blocked.reason == expected
    unknown = stock.unknown or setting.get("setting_unknown")
    assert unknown is None or unknown in blocked.message, "the permission that is missing is named"


def test_what_nobody_can_say_is_rotated_once_a_person_has_looked_unless_the_policy_demands_something(make):
    device = make.device(age=200 * DAY, left=165 * DAY, key_type="ECDSA-P384")
    state, overrides = make.state(backend_is_stock=True), parse_overrides(["result=line-a"])
    for rule, jobs in ((ANY, 1), (DEMANDS, 0)):
        plan = make.plan([device], make.desired(make.policy(rule=make.rule(**rule))), state, overrides=overrides)
        assert (len(plan.jobs), plan.refusals) == (jobs, ())


def test_a_private_authority_that_is_kept_may_not_come_to_live_longer_unasked(make):
    """Git raises the authority's validity; a policy that names it says so, one that leaves it out does not."""
    for authority, refused in (("plant-ca", 0), (None, 1)):
        policy = make.policy(rule=make.rule(key_type=None, authority=authority))
        desired = make.desired(policy)
        longer = replace(desired.authorities["plant-ca"], validity=730 * DAY)
        desired = replace(desired, authorities={**desired.authorities, "plant-ca": longer})
        plan = make.plan([make.device(age=200 * DAY, left=165 * DAY)], desired)
        assert len(plan.refusals) == refused
        assert all("365 d → ECDSA-P256 / plant-ca / 730 d (a longer life)" in r.message for r in plan.refusals)


@given(
    demanded_key=st.sampled_from([None, *KeyType]),
    demanded_authority=st.sampled_from([None, "plant-ca", "aws-iot"]),
    held_key=st.sampled_from(KEYS),
    held_authority=st.sampled_from(["plant-ca", "aws-iot"]),
)
def test_nothing_changes_that_the_policy_does_not_say(make, demanded_key, demanded_authority, held_key, held_authority):
    policy = make.policy(rule=make.rule(key_type=demanded_key, authority=demanded_authority))
    certificate = make.certificate(key_type=held_key, authority=held_authority)
    result = result_of(certificate, policy, make.desired(policy), None)
    assert isinstance(result, RotationResult)
    assert result.key_type.value == (demanded_key.value if demanded_key else held_key)
    assert result.authority == (demanded_authority or held_authority)
    document = parse_job_document(result.document("line-a", None).to_wire())
    assert (document.key_type, document.certificate_authority) == (result.key_type, result.authority)
    assert document.signing_algorithm.family is result.key_type.family


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"not_after": None}, Holding("ECDSA-P256", "plant-ca")),
        ({"authority": None}, Holding("ECDSA-P256", "unknown (CN=plant)")),
        ({}, Holding("ECDSA-P256", "plant-ca")),
    ],
)
def test_what_is_held_is_told_even_where_something_is_not_known(make, fields, expected):
    assert held_by(make.certificate(**fields)) == expected


def test_where_nobody_can_say_what_comes_everything_may_change(make):
    assert unasked(HoldingChange(1, Holding("ECDSA-P256", "plant-ca"), None), make.rule()) == "everything"
