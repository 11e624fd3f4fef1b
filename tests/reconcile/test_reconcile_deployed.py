"""Git against what is deployed: nothing rotates while the backend would issue something else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.reconcile.values import CertificateAuthority, Mode, parse_overrides
from protocol.algorithms import CaSigningAlgorithm
from protocol.deployment import DeployedAuthority, Deployment

DAY = timedelta(days=1)
PLANT = DeployedAuthority("arn:aws:acm-pca:plant", "SHA256WITHECDSA", 365 * DAY)


def deployed(**authorities):
    return Deployment("0.1.0", {name.replace("_", "-"): one for name, one in authorities.items()})


def planned(make, deployment, *, policy=None, overrides=(), algorithm=CaSigningAlgorithm.SHA256_ECDSA):
    desired = make.desired(policy or make.policy())
    plant = replace(desired.authorities["plant-ca"], signing_algorithm=algorithm)
    desired = replace(desired, authorities={**desired.authorities, "plant-ca": plant})
    devices = [make.device(f"g{n}", age=200 * DAY) for n in range(4)]
    return make.plan(devices, desired, make.state(deployment=deployment), overrides=parse_overrides(overrides))


OTHERWISE = {
    "another CA under the same name": (
        deployed(plant_ca=replace(PLANT, arn="arn:aws:acm-pca:before")),
        "git says arn:aws:acm-pca:plant, the backend issues from arn:aws:acm-pca:before"),
    "another validity": (
        deployed(plant_ca=replace(PLANT, validity=7 * DAY)),
        "git says valid for 365 days, the backend issues for 7 days"),
    "another algorithm": (
        deployed(plant_ca=replace(PLANT, signing_algorithm="SHA384WITHECDSA")),
        "git says SHA256WITHECDSA, the backend signs with SHA384WITHECDSA"),
    "no authority of that name": (deployed(old_ca=PLANT), "the backend has no authority of this name"),
}  # fmt: skip


@pytest.mark.parametrize("scene", OTHERWISE)
def test_what_is_deployed_otherwise_is_refused_with_both_values_and_the_remedy(make, scene):
    deployment, expected = OTHERWISE[scene]
    plan = planned(make, deployment)
    [refusal] = plan.refusals
    assert (refusal.guardrail, refusal.policy) == ("deployment", "line-a")
    assert expected in refusal.message
    assert "authority plant-ca (demo/policies.yaml:3), which line-a demands, is deployed otherwise" in refusal.message
    assert "Deploy the backend AWSLabsCertificateRotator again" in refusal.message
    assert refusal.override == "--override deployment=plant-ca"
    assert not planned(make, deployment, overrides=["deployment=plant-ca"]).refusals


def test_a_backend_that_is_deployed_as_git_says_is_refused_nothing(make):
    plan = planned(make, deployed(plant_ca=PLANT, old_ca=replace(PLANT, arn="arn:of-another")))
    assert (plan.refusals, len(plan.jobs)) == ((), 1)


def test_who_only_reports_asks_nothing_of_the_backend(make):
    assert not planned(make, deployed(), policy=make.policy(mode=Mode.REPORT)).refusals


def test_aws_iots_own_ca_is_always_deployed(make):
    rule = make.rule(authority="aws-iot")
    desired = make.desired(make.policy(rule=rule))
    assert desired.authorities["aws-iot"] == CertificateAuthority("aws-iot")
    assert not planned(make, deployed(), policy=make.policy(rule=rule)).refusals


def test_a_backend_that_says_nothing_is_told_in_the_plan(make):
    state = make.state(deployment_unknown="the backend does not say what it is")
    assert "the backend does not say what it is" in make.plan([], make.desired(), state).notices
