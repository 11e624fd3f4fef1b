"""The rights of a release: deploy this stack, publish the component, try both on devices that are there for it.

Deployment goes through the roles of the CDK's bootstrap, and CloudFormation's own role behind them
may do whatever the bootstrap gave it: whoever releases can change the backend. That is why the role
is for one protected environment only.
"""

from __future__ import annotations

from aws_cdk import Aws, Stack
from aws_cdk import aws_iam as iam

from protocol.names import COMPONENT_NAME

from .access import authority_arns
from .grants import Grants
from .settings import StackSettings


def deploying(grants: Grants, stack: Stack) -> list[iam.PolicyStatement]:
    """Return the right to deploy through the CDK's bootstrap roles of this account and region."""
    qualifier = stack.synthesizer.bootstrap_qualifier
    where = f"{stack.account}-{stack.region}"
    roles = [f"iam:role/cdk-{qualifier}-{kind}-role-{where}" for kind in ("deploy", "file-publishing", "lookup")]
    return [grants.on(roles, "sts:AssumeRole")]


def publishing(grants: Grants, settings: StackSettings) -> list[iam.PolicyStatement]:
    """Return the rights to publish versions of our component, and their artifacts in the one bucket."""
    component = f"greengrass:components:{COMPONENT_NAME}"
    statements = [
        grants.on(component, "greengrass:CreateComponentVersion", "greengrass:ListComponentVersions"),
        grants.on(f"{component}:versions:*", "greengrass:DescribeComponent"),
    ]
    if settings.component_bucket:
        bucket = f"arn:{Aws.PARTITION}:s3:::{settings.component_bucket}"
        # Greengrass reads an artifact with the caller's permissions, to take its digest.
        statements += [
            grants.on_arns([f"{bucket}/{COMPONENT_NAME}/*"], "s3:GetObject", "s3:PutObject"),
            grants.on_arns([bucket], "s3:GetBucketLocation"),
        ]
    return statements


def testing(grants: Grants, settings: StackSettings) -> list[iam.PolicyStatement]:
    """Return the rights of the integration suite: rotations of one group's devices, and an operator's levers here.

    The levers are those by which an operator switches rules and functions of this backend off and on.
    """
    if not settings.test_thing_group:
        return []
    return [*_rotations(grants, settings), *_deployments(grants, settings), *_levers(grants, settings)]


def _rotations(grants: Grants, settings: StackSettings) -> list[iam.PolicyStatement]:
    things, group = _devices(settings), f"iot:thinggroup/{settings.test_thing_group}"
    jobs = "iot:job/*"  # the suite's, and those behind deployments, to which Greengrass gives ids of its own
    arns = authority_arns(settings)
    authorities = [grants.on_arns(arns, "acm-pca:GetCertificateAuthorityCertificate")] if arns else []
    return [
        grants.on(group, "iot:DescribeThingGroup", "iot:ListThingsInThingGroup"),
        grants.on(things, "iot:DescribeThing", "iot:ListThingPrincipalsV2"),
        grants.on([jobs, things, group], "iot:CreateJob"),
        grants.on([jobs, things], "iot:DescribeJobExecution"),
        grants.on(jobs, "iot:CancelJob", "iot:DescribeJob"),
        grants.on("iot:cert/*", "iot:DescribeCertificate"),
        grants.anywhere("iot:ListAttachedPolicies"),
        *authorities,
    ]


def _deployments(grants: Grants, settings: StackSettings) -> list[iam.PolicyStatement]:
    """Return the rights to deploy the component; Greengrass makes jobs and shadows with the caller's permissions."""
    things = _devices(settings)
    core = things.replace("iot:thing/", "greengrass:coreDevices:")
    return [
        grants.anywhere("greengrass:CreateDeployment", "greengrass:ListDeployments"),
        grants.on("greengrass:deployments:*", "greengrass:GetDeployment"),
        grants.on(core, "greengrass:ListEffectiveDeployments"),
        grants.on("iot:job/*", "iot:UpdateJob"),
        grants.on(things, "iot:DeleteThingShadow", "iot:GetThingShadow", "iot:UpdateThingShadow"),
    ]


def _levers(grants: Grants, settings: StackSettings) -> list[iam.PolicyStatement]:
    names = settings.names
    functions = (names.create_function, names.commit_function, names.terminal_function)
    return [
        grants.on([f"iot:rule/{name}" for name in functions], "iot:DisableTopicRule", "iot:EnableTopicRule"),
        grants.on(
            [f"lambda:function:{name}" for name in functions],
            "lambda:DeleteFunctionConcurrency",
            "lambda:GetFunctionConfiguration",
            "lambda:PutFunctionConcurrency",
            "lambda:UpdateFunctionConfiguration",
        ),
        grants.on("iot:cert/*", "iot:UpdateCertificate"),  # certificates have neither names nor tags to narrow it by
    ]


def _devices(settings: StackSettings) -> str:
    """Return the pattern of test devices: they bear their group's name, because IAM cannot know a group's members."""
    return f"iot:thing/{settings.test_thing_group}-*"
