"""The rights of the controller: the reading half, the half that makes jobs, and, in a role of its own, healing.

Neither of the halves can issue, attach, deactivate or delete a certificate; healing cannot issue or attach one. The
tests compare all three with the calls that the controller's code names.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from protocol.names import COMPONENT_NAME
from protocol.quarantine import PARTITION
from protocol.watch import KEY_PREFIX

from .access import authority_arns
from .grants import Grants
from .settings import StackSettings
from .storage import Storage
from .watching import NAMESPACE

OWN = "cf-"
"""How the names of the controller's jobs and cohort groups begin (controller/reconcile/values/job_ids.py)."""

_OF_AUTHORITIES = ("acm-pca:DescribeCertificateAuthority", "acm-pca:GetCertificateAuthorityCertificate")
_JOBS, _THINGS, _GROUPS = "iot:job/*", "iot:thing/*", "iot:thinggroup/*"


def reading(grants: Grants, settings: StackSettings, storage: Storage) -> list[iam.PolicyStatement]:
    """Return the rights to read the registry, jobs, the deployed backend, its table and the CAs' certificates."""
    rules = [f"iot:rule/{name}" for name in settings.names.rules]
    arns = authority_arns(settings)
    authorities = [grants.on_arns(arns, *_OF_AUTHORITIES)] if arns else []
    return [
        grants.anywhere(
            "iot:DescribeEventConfigurations",
            "iot:ListAttachedPolicies",
            "iot:ListCertificates",
            "iot:ListJobs",
            "iot:ListPolicies",
            "iot:ListThings",
            "iot:ListThingGroups",
            "iot:ListTopicRules",
        ),
        grants.anywhere("acm-pca:ListCertificateAuthorities"),
        grants.on("servicequotas:iotcore/*", "servicequotas:GetServiceQuota"),
        grants.on("iot:cert/*", "iot:DescribeCertificate", "iot:ListPrincipalThingsV2", "iot:TestAuthorization"),
        grants.on(rules, "iot:GetTopicRule"),
        grants.on_arns([storage.dead_letters.queue_arn], "sqs:GetQueueAttributes"),
        grants.on_arns(
            [storage.table.table_arn],
            "dynamodb:BatchGetItem",
            "dynamodb:GetItem",
            "dynamodb:Query",
            "dynamodb:Scan",
        ),
        grants.on("iot:policy/*", "iot:ListTargetsForPolicy"),
        grants.on(
            _THINGS, "iot:GetThingConnectivityData", "iot:ListJobExecutionsForThing", "iot:ListThingPrincipalsV2"
        ),
        grants.on("iot:index/AWS_Things", "iot:SearchIndex"),
        grants.on(_GROUPS, "iot:DescribeThingGroup", "iot:ListThingsInThingGroup"),
        grants.on(f"iot:jobtemplate/{settings.names.job_template}", "iot:DescribeJobTemplate"),
        grants.on(_JOBS, "iot:DescribeJob", "iot:GetJobDocument", "iot:ListJobExecutionsForJob"),
        grants.on([_JOBS, _THINGS], "iot:DescribeJobExecution"),
        grants.on(
            "greengrass:coreDevices:*", "greengrass:ListEffectiveDeployments", "greengrass:ListInstalledComponents"
        ),
        grants.on("greengrass:deployments:*", "greengrass:GetDeployment"),
        grants.on(f"greengrass:components:{COMPONENT_NAME}:versions:*", "greengrass:DescribeComponent"),
        grants.on(f"lambda:function:{settings.names.create_function}", "lambda:GetFunctionConfiguration"),
        grants.on(f"ssm:parameter{settings.names.deployment_parameter}", "ssm:GetParameter"),
        *authorities,
    ]


def rotating(grants: Grants, settings: StackSettings) -> list[iam.PolicyStatement]:
    """Return the rights over the controller's own jobs and its own thing groups.

    The groups are the cohorts that some jobs have as target, and the record of what is governed. A job's targets are
    things, cohorts, and the groups that policies of the deployment govern.
    """
    jobs, cohorts = f"iot:job/{OWN}*", f"iot:thinggroup/{OWN}*"
    governed = [f"iot:thinggroup/{name}" for name in settings.thing_groups]
    return [
        grants.on([jobs, _THINGS, *([cohorts, *governed] if governed else [_GROUPS])], "iot:CreateJob"),
        grants.on(jobs, "iot:CancelJob"),
        grants.on(cohorts, "iot:CreateThingGroup", "iot:DeleteThingGroup", "iot:UpdateThingGroup"),
        grants.on([_THINGS, cohorts], "iot:AddThingToThingGroup", "iot:RemoveThingFromThingGroup"),
        grants.on([jobs, cohorts], "iot:TagResource"),
    ]


def healing(grants: Grants, storage: Storage) -> list[iam.PolicyStatement]:
    """Return the rights to deactivate, detach and delete certificates, end connections, and take things out of jobs.

    In the table, healing may write the items of what is watched and of what is in quarantine, and no other.
    """
    watched = grants.on_arns([storage.table.table_arn], "dynamodb:DeleteItem", "dynamodb:PutItem")
    watched.add_condition("ForAllValues:StringLike", {"dynamodb:LeadingKeys": [f"{KEY_PREFIX}*", PARTITION]})
    removal = ("iot:DeleteCertificate", "iot:DetachPolicy", "iot:DetachThingPrincipal", "iot:UpdateCertificate")
    return [
        grants.on("iot:cert/*", *removal),
        grants.on("iot:client/*", "iot:DeleteConnection"),
        grants.on([_JOBS, _THINGS], "iot:CancelJobExecution"),
        watched,
    ]


def beating() -> list[iam.PolicyStatement]:
    """Return the right to report that the loop runs; CloudWatch can limit it by a namespace, but not by a resource."""
    statement = Grants.anywhere("cloudwatch:PutMetricData")
    statement.add_condition("StringEquals", {"cloudwatch:namespace": NAMESPACE})
    return [statement]


def assuming(roles: Sequence[str]) -> list[iam.PolicyStatement]:
    """Return the right to assume exactly the roles of other accounts that Fleet documents name."""
    return [Grants.on_arns(roles, "sts:AssumeRole")] if roles else []


def remembering(settings: StackSettings) -> list[iam.PolicyStatement]:
    """Return the rights to keep the numbers of past reports, below one prefix of one bucket."""
    if not settings.history_url:
        return []
    bucket, _, prefix = settings.history_url.removeprefix("s3://").rstrip("/").partition("/")
    arn = f"arn:{Aws.PARTITION}:s3:::{bucket}"
    return [
        Grants.on_arns([f"{arn}/{prefix}/*"], "s3:GetObject", "s3:PutObject"),
        iam.PolicyStatement(
            actions=["s3:ListBucket"], resources=[arn], conditions={"StringLike": {"s3:prefix": f"{prefix}/*"}}
        ),
    ]
