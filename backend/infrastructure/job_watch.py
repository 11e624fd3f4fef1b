"""Notify a person of a job that a role of the controller has made although it is not one of the controller's.

IAM limits such a role by job ids and targets; of a job's document, template and namespace it knows nothing. CloudTrail
does: if the account records management events, EventBridge receives each CreateJob within minutes. AWS does not
document whether CloudTrail records a job document that is passed in line. If it does not, a foreign one goes unnoticed,
and only a document in S3, a template, a namespace or a foreign job id is reported.
"""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from constructs import Construct

from protocol.job_document import CHECK_OPERATION, ROTATE_OPERATION

from .access_controller import OWN
from .storage import Storage

_OURS = [f'*"operation":"{name}"*' for name in (ROTATE_OPERATION, CHECK_OPERATION)]
"""Patterns of the documents that the controller writes: keys sorted, no spaces."""


class JobWatch(Construct):
    """One rule over the roles that may make jobs."""

    def __init__(self, scope: Construct, storage: Storage, roles: Sequence[iam.IRole]) -> None:
        super().__init__(scope, "JobWatch")
        # EventBridge carries no source condition into its calls to KMS.
        storage.key.grant(iam.ServicePrincipal("events.amazonaws.com"), "kms:Decrypt", "kms:GenerateDataKey*")
        by_role = {"sessionContext": {"sessionIssuer": {"arn": [role.role_arn for role in roles]}}}
        foreign: list[dict[str, object]] = [
            {"jobId": [{"anything-but": {"prefix": OWN}}]},
            {"document": [{"anything-but": {"wildcard": _OURS}}]},
            {"documentSource": [{"exists": True}]},
            {"namespaceId": [{"exists": True}]},
            {"jobTemplateArn": [{"exists": True}]},
        ]
        events.Rule(
            self,
            "ForeignJobs",
            description="certfleet: a role of the controller has made a job that is none of its own",
            event_pattern=events.EventPattern(
                source=["aws.iot"],
                detail_type=["AWS API Call via CloudTrail"],
                detail={
                    "eventSource": ["iot.amazonaws.com"],
                    "eventName": ["CreateJob"],
                    "userIdentity": by_role,
                    "requestParameters": {"$or": foreign},
                },
            ),
            targets=[targets.SnsTopic(storage.topic, message=_message())],
        )


def _message() -> events.RuleTargetInput:
    job, role = (events.EventField.from_path(path) for path in _PATHS)
    return events.RuleTargetInput.from_text(
        f"The role {role} has made the job {job}, which is not one of the controller's. Find out who used it, "
        f"and cancel the job: `aws iot cancel-job --force --job-id {job}`"
    )


_PATHS = ("$.detail.requestParameters.jobId", "$.detail.userIdentity.sessionContext.sessionIssuer.arn")
