"""Git against what is deployed: nothing rotates while the backend would issue something else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.reconcile.planning.deployed import departures
from controller.reconcile.values import CertificateAuthority, Mode, PrivateCa, parse_overrides
from protocol.algorithms import CaSigningAlgorithm
from protocol.deployment import DeployedAuthority, DeployedBackend
from protocol.job_document import DOCUMENT_FIELDS

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)  # of the fixture make
PLANT = DeployedAuthority("arn:aws:acm-pca:plant", "SHA256WITHECDSA", 365 * DAY, "")
TEMPLATE = "arn:aws:acm-pca:::template/EndEntityClientAuthCertificate/V1"


ACTIVE = PrivateCa("ACTIVE", "EC_prime256v1", not_after=NOW + 365 * DAY)


def deployed(**authorities):
    return DeployedBackend("0.1.0", {name.replace("_", "-"): one for name, one in authorities.items()}, DOCUMENT_FIELDS)


def planned(
    make, deployment, *, policy=None, overrides=(), algorithm=CaSigningAlgorithm.SHA256_ECDSA, template=None, **state
):
    desired = make.desired(policy or make.policy())
    plant = replace(desired.authorities["plant-ca"], signing_algorithm=algorithm, template_arn=template)
    desired = replace(desired, authorities={**desired.authorities, "plant-ca": plant})
    devices = [make.device(f"g{n}", age=200 * DAY) for n in range(4)]
    return make.plan(devices, desired, make.state(deployment=deployment, **state), overrides=parse_overrides(overrides))


OTHERWISE = {
    "another CA under the same name": (
        deployed(plant_ca=replace(PLANT, arn="arn:aws:acm-pca:before")),
        "git has arn:aws:acm-pca:plant, the backend issues from arn:aws:acm-pca:before"),
    "another validity": (
        deployed(plant_ca=replace(PLANT, validity=7 * DAY)),
        "git has validity 365 days, the backend issues for 7 days"),
    "another algorithm": (
        deployed(plant_ca=replace(PLANT, signing_algorithm="SHA384WITHECDSA")),
        "git has SHA256WITHECDSA, the backend signs with SHA384WITHECDSA"),
    "by a template": (
        deployed(plant_ca=replace(PLANT, template_arn=TEMPLATE)),
        f"git has no template, the backend issues by {TEMPLATE}"),
    "no authority of that name": (deployed(old_ca=PLANT), "the backend has no authority of this name"),
    "a backend that would not hold the job to the ARN": (
        replace(deployed(plant_ca=PLANT), job_document_fields=DOCUMENT_FIELDS - {"certificateAuthorityArn"}),
        "the backend, version 0.1.0, does not heed certificateAuthorityArn of a job"),
}  # fmt: skip


@pytest.mark.parametrize("scene", OTHERWISE)
def test_what_is_deployed_otherwise_is_refused_with_both_values_and_the_remedy(make, scene):
    deployment, expected = OTHERWISE[scene]
    plan = planned(make, deployment)
    [refusal] = plan.refusals
    assert (refusal.guardrail, refusal.policy) == ("deployment", "line-a")
    assert expected in refusal.message
    assert (
        "authority plant-ca (demo/policies.yaml:3), of which line-a would rotate, is not deployed as git demands"
        in refusal.message
    )
    assert "Deploy the backend AWSLabsCertificateRotator again" in refusal.message
    assert refusal.override == "--override deployment=plant-ca"
    assert not planned(make, deployment, overrides=["deployment=plant-ca"]).refusals


def test_a_backend_that_is_deployed_as_git_says_is_refused_nothing(make):
    plan = planned(make, deployed(plant_ca=PLANT, old_ca=replace(PLANT, arn="arn:of-another")))
    assert (plan.refusals, len(plan.jobs)) == ((), 1)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (TEMPLATE, None),
        ("", f"git has {TEMPLATE}, the backend issues by none"),
        (None, f"git has {TEMPLATE}, the backend does not show by which template it issues"),
    ],
)
def test_the_template_in_git_is_the_one_that_the_backend_issues_by(make, template, said):
    deployment = deployed(plant_ca=replace(PLANT, template_arn=template))
    refusals = planned(make, deployment, template=TEMPLATE).refusals
    assert [said in refusal.message for refusal in refusals] == ([True] if said else [])


def test_a_backend_of_before_that_says_nothing_of_templates_is_refused_nothing_where_git_asks_for_none(make):
    assert not planned(make, deployed(plant_ca=replace(PLANT, template_arn=None))).refusals


@pytest.mark.parametrize(
    ("mode", "are_all_asked", "asks"),
    [(Mode.ENFORCE, False, True), (Mode.REPORT, False, False), (Mode.REPORT, True, True)],
    ids=["enforces", "only reports", "only reports, looking ahead"],
)
def test_a_policy_without_jobs_asks_something_of_the_backend_if_it(make, mode, are_all_asked, asks):
    desired, state = make.desired(make.policy(mode=mode)), make.state(deployment=deployed())
    assert bool(departures(desired, state, NOW, are_all_asked=are_all_asked)) is asks


def test_who_only_reports_is_refused_nothing(make):
    assert not planned(make, deployed(), policy=make.policy(mode=Mode.REPORT)).refusals


UNABLE = {
    "disabled": (replace(ACTIVE, status="DISABLED"), "the CA is DISABLED and issues nothing"),
    "gone": (PrivateCa("gone", ""), "the CA is gone and issues nothing"),
    "ended before what it is to issue": (
        replace(ACTIVE, not_after=NOW + 364 * DAY),
        "git has validity 365 days, the CA itself ends in 364 days, on 2027-"),
    "for short-lived certificates": (
        replace(ACTIVE, is_short_lived=True), "git has validity 365 days, the CA is one for at most 7 days"),
    "of another family": (
        replace(ACTIVE, key_algorithm="RSA_2048"), "git has SHA256WITHECDSA, the CA's key is RSA_2048"),
    "of a family to come": (replace(ACTIVE, key_algorithm="ML_DSA_65"), "the CA's key is ML_DSA_65"),
}  # fmt: skip


@pytest.mark.parametrize("scene", UNABLE)
def test_a_ca_that_cannot_issue_what_git_says_is_refused_before_a_device_asks(make, scene):
    ca, expected = UNABLE[scene]
    [refusal] = planned(make, deployed(plant_ca=PLANT), private_cas={PLANT.arn: ca}).refusals
    assert (refusal.guardrail, refusal.override) == ("deployment", "--override deployment=plant-ca")
    assert expected in refusal.message


@pytest.mark.parametrize("cas", [{}, {PLANT.arn: ACTIVE}, {"arn:of-another": UNABLE["disabled"][0]}])
def test_a_ca_that_can_issue_or_was_not_seen_is_no_reason_to_refuse(make, cas):
    plan = planned(make, deployed(plant_ca=PLANT), private_cas=cas, cas_unknown=("it may not be read",))
    assert not plan.refusals
    assert "it may not be read" in plan.notices


def test_a_ca_for_short_lived_certificates_issues_for_seven_days(make):
    desired, state = make.desired(), make.state(private_cas={PLANT.arn: replace(ACTIVE, is_short_lived=True)})
    for validity, is_able in ((7 * DAY, True), (8 * DAY, False)):
        plant = replace(desired.authorities["plant-ca"], validity=validity)
        assert bool(departures(replace(desired, authorities={"plant-ca": plant}), state, NOW)) is not is_able


KEEPS = {"authority": None, "key_type": None}


@pytest.mark.parametrize("rule", [{}, KEEPS], ids=["demanded", "kept because the policy leaves it out"])
def test_a_private_authority_rests_on_what_is_deployed_and_unknown_is_refused(make, rule):
    policy = make.policy(rule=make.rule(**rule))
    unknown = {"deployment_unknown": "the backend does not show what it is"}
    [refusal] = planned(make, None, policy=policy, **unknown).refusals
    assert refusal.override == "--override deployment=plant-ca"
    assert "the backend does not show what it is" in refusal.message
    assert not planned(make, None, policy=policy, overrides=["deployment=plant-ca"], **unknown).refusals
    of_aws = make.policy(rule=make.rule(authority="aws-iot"))
    assert not planned(make, None, policy=of_aws, **unknown).refusals, "it is everywhere the same"


def test_aws_iots_own_ca_is_always_deployed(make):
    rule = make.rule(authority="aws-iot")
    desired = make.desired(make.policy(rule=rule))
    assert desired.authorities["aws-iot"] == CertificateAuthority("aws-iot")
    assert not planned(make, deployed(), policy=make.policy(rule=rule)).refusals


def test_a_backend_that_says_nothing_is_told_in_the_plan(make):
    state = make.state(deployment_unknown="the backend does not show what it is")
    assert "the backend does not show what it is" in make.plan([], make.desired(), state).notices
