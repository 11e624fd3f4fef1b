"""What regulated users demand of a stack: each is one variable of the context, and holds for every resource."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend import synth
from backend.infrastructure.settings import from_context

pytestmark = pytest.mark.unmeasured  # of the stack's definition, of which there is no floor

BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
SUBNETS, GROUP = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"], "sg-0123456789abcdef0"
LEFT_OUT = ("ComponentBucket", "TestThingGroup")
CONTEXT = {name: value for name, value in synth.MACHINE_CONTEXT.items() if name not in LEFT_OUT} | {
    "GitHubEnvironment": "live",
    "GitHubReleaseEnvironment": "shipping",
    "OwnKey": "true",
    "PermissionsBoundary": BOUNDARY,
    "Tags": '{"owner": "plant"}',
    "SubnetIds": " ".join(SUBNETS),
    "SecurityGroupIds": GROUP,
    "ReservedConcurrency": "20",
    "LogRetentionDays": "365",
}
DOC = (Path(__file__).parents[2] / "docs" / "backend.md").read_text()


@pytest.fixture(scope="module")
def resources():
    return synth.synthesise(CONTEXT)["Resources"]


@pytest.fixture(scope="module")
def of_type(resources):
    return lambda kind: [r["Properties"] for r in resources.values() if r["Type"] == kind]


@pytest.fixture(scope="module")
def functions(of_type):
    return [f for f in of_type("AWS::Lambda::Function") if f["Handler"] != "index.handler"]


def is_own_key(value):
    return value["Fn::GetAtt"][0].startswith("StorageKey")


def test_whatever_is_stored_is_encrypted_with_the_stacks_own_key(of_type, functions):
    [table] = of_type("AWS::DynamoDB::Table")
    assert is_own_key(table["SSESpecification"]["KMSMasterKeyId"])
    assert all(is_own_key(group["KmsKeyId"]) for group in of_type("AWS::Logs::LogGroup"))
    assert all(is_own_key(function["KmsKeyArn"]) for function in functions)
    assert len(functions) == 6


def test_the_functions_run_in_the_vpc_with_reserved_concurrency(functions):
    assert {json.dumps(f["VpcConfig"], sort_keys=True) for f in functions} == {
        json.dumps({"SecurityGroupIds": [GROUP], "SubnetIds": SUBNETS}, sort_keys=True)
    }
    assert sorted(f["ReservedConcurrentExecutions"] for f in functions) == [
        2,
        20,
        20,
        20,
        20,
        24,
    ]  # its own for each part of the loop


def test_every_role_has_the_boundary_and_logs_stay_as_long_as_they_must(of_type):
    assert {json.dumps(role.get("PermissionsBoundary")) for role in of_type("AWS::IAM::Role")} == {json.dumps(BOUNDARY)}
    assert {group["RetentionInDays"] for group in of_type("AWS::Logs::LogGroup")} == {365}


@pytest.mark.parametrize("kind", ["AWS::DynamoDB::Table", "AWS::Lambda::Function", "AWS::KMS::Key", "AWS::SNS::Topic"])
def test_tags_are_on_everything_that_takes_them(of_type, kind):
    assert all({"Key": "owner", "Value": "plant"} in resource["Tags"] for resource in of_type(kind))


def test_environments_have_other_names_if_the_context_says_so_and_no_bucket_or_group_gives_no_right_to_any(resources):
    def of_role(kind, name):
        return [
            r["Properties"] for n, r in resources.items() if r["Type"] == kind and n.startswith(f"GitHub{name}Role")
        ]

    [reconcile], [release] = (of_role("AWS::IAM::Role", name) for name in ("Reconcile", "Release"))
    assert ":environment:live" in json.dumps(reconcile["AssumeRolePolicyDocument"])
    assert ":environment:shipping" in json.dumps(release["AssumeRolePolicyDocument"])
    policies = of_role("AWS::IAM::Policy", "Release")
    actions = [statement["Action"] for p in policies for statement in p["PolicyDocument"]["Statement"]]
    assert {action for each in actions for action in ([each] if isinstance(each, str) else each)} == {
        "sts:AssumeRole", "greengrass:CreateComponentVersion", "greengrass:ListComponentVersions",
        "greengrass:DescribeComponent",
    }  # fmt: skip


def test_gitlab_gets_three_roles_for_exactly_its_project_and_writing_ones_for_its_default_branch_alone():
    """Its subjects name a branch and no environment; there is no release from a mirror."""
    context = {"DesiredState": synth.DEMO_CONTEXT["DesiredState"], "GitLabProject": "plants/west/fleet"}
    context |= {"GitLabHost": "gitlab.example", "HistoryUrl": "s3://example-reports/drift/"}
    context |= {"FleetReadTrusts": synth.RECONCILE_CONTEXT["FleetReadTrusts"]}  # another account has no repository
    template = synth.synthesise(context)
    found = {
        name.removeprefix("GitLab").rpartition("Role")[0]: resource["Properties"]["AssumeRolePolicyDocument"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Role" and name.startswith("GitLab")
    }
    main, audience = (
        "project_path:plants/west/fleet:ref_type:branch:ref:main",
        {"gitlab.example:aud": "sts.amazonaws.com"},
    )
    of_main = {"StringEquals": {**audience, "gitlab.example:sub": [main]}}
    of_any = {"StringEquals": audience, "StringLike": {"gitlab.example:sub": [main.removesuffix("main") + "*"]}}
    trusted = {name: document["Statement"][0] for name, document in found.items()}
    assert {name: each["Condition"] for name, each in trusted.items()} == {
        "Reconcile": of_main, "Heal": of_main, "Read": of_any,
    }  # fmt: skip
    assert all("oidc-provider/gitlab.example" in json.dumps(each["Principal"]) for each in trusted.values())
    assert {"ReadRoleArn", "ReconcileRoleArn", "HealRoleArn"} <= set(template["Outputs"])
    assert "ReleaseRoleArn" not in template["Outputs"]


REFUSED = {
    "subnets without security groups": {"SubnetIds": SUBNETS[0]},
    "a boundary that is not a policy": {"PermissionsBoundary": "arn:aws:iam::123456789012:role/x"},
    "a retention that CloudWatch Logs does not know": {"LogRetentionDays": "100"},
    "tags that are not map": {"Tags": '["a"]'},
}


@pytest.mark.parametrize("context", REFUSED.values(), ids=REFUSED)
def test_a_context_is_refused_with(context):
    with pytest.raises(ValidationError):
        from_context(context.get)


def test_the_docs_answer_each_finding_of_checkov_that_is_left():
    answered = set(re.findall(r"CKV_AWS_\d+", DOC))
    assert answered >= {f"CKV_AWS_{n}" for n in (18, 111, 115, 116, 117, 119, 158, 173)}
