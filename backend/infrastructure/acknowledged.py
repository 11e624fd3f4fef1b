"""What cdk-nag (AwsSolutions) finds and we accept, each finding by its exact name and with its reason."""

from __future__ import annotations

from aws_cdk import Acknowledgment, Validations
from constructs import Construct

from .settings import Settings

_IOT = "arn:<AWS::Partition>:iot:<AWS::Region>:<AWS::AccountId>"
_DEVICES = "the devices of the account are not known when this is deployed; the actions are named one by one"
_ENVELOPE = "the CDK's own grant for envelope encryption, on the stack's one key only"


def acknowledge(stack: Construct, settings: Settings) -> None:
    """Record the reasons in the construct tree; a finding that is not listed here fails the synthesis."""
    answers = [f"topic/awslabs/things/*/certificate/{o}/{r}" for o in ("create", "commit") for r in _OUTCOMES]
    resources = [*answers, "cert/*", "index/*", "job/*", "thing/*", f"thing/*/{settings.names.shadow}", "thinggroup/*"]
    accepted = {
        "IAM5[Resource::*]": "AWS IoT knows no resource for these actions; they stand in statements of their own",
        **{f"IAM5[Resource::{_IOT}:{resource}]": _DEVICES for resource in resources},
        f"IAM5[Resource::{_IOT}:thinggroup/cf-*]": "cohort groups are made and removed by the controller",
        "IAM5[Action::kms:GenerateDataKey*]": _ENVELOPE,
        "IAM5[Action::kms:ReEncrypt*]": _ENVELOPE,
        "IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole]": (
            "the role of the CDK's provider for SDK calls at deploy time, which we do not declare"
        ),
        "SQS3": "this queue is the dead-letter queue, of functions and rules",
    }
    if settings.reconcile:
        accepted |= {
            "IAM5[Resource::<ReconcileBucket288DE056.Arn>/reconcile/*]": "the function's own objects, one per fleet",
            "S1": "every version of an object is kept for a month, and one principal writes each; it holds no secret",
        }
    Validations.of(stack).acknowledge(
        *(Acknowledgment(id=f"AwsSolutions::AwsSolutions-{name}", reason=why) for name, why in accepted.items())
    )


_OUTCOMES = ("accepted", "rejected")
