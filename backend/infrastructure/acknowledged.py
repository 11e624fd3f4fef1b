"""The findings of cdk-nag (AwsSolutions) that we accept, each by its exact name and with its reason."""

from __future__ import annotations

from aws_cdk import Acknowledgment, Validations
from constructs import Construct

from protocol.names import COMPONENT_NAME

from .access_controller import OWN
from .reconcile import FLEETS
from .settings import StackSettings

_IOT = "arn:<AWS::Partition>:iot:<AWS::Region>:<AWS::AccountId>"
_QUOTAS = "arn:<AWS::Partition>:servicequotas:<AWS::Region>:<AWS::AccountId>"
_GREENGRASS = "arn:<AWS::Partition>:greengrass:<AWS::Region>:<AWS::AccountId>"
_CONTROLLER = "jobs and cohort groups that the controller makes and removes; it names them so"
_TEST_DEVICES = "the devices of the test group bear its name"
_DEVICES = "the devices of the account are not known when this is deployed; the actions are named one by one"
_ENVELOPE = "the CDK's own grant for envelope encryption, on the stack's one key only"


def acknowledge(stack: Construct, settings: StackSettings) -> None:
    """Record the reasons in the stack's construct tree; a finding that is not listed here fails the synthesis."""
    answers = [f"topic/awslabs/things/*/certificate/{o}/{r}" for o in ("create", "commit") for r in _OUTCOMES]
    shadows = {f"thing/*/{names.shadow}" for names in (settings.names, settings.before)}
    resources = [*answers, "cert/*", "client/*", "job/*", "policy/*", "thing/*", *shadows, "thinggroup/*"]
    accepted = {
        "IAM5[Resource::*]": "the service knows no resource for these actions; they stand in statements of their own",
        **{f"IAM5[Resource::{_IOT}:{resource}]": _DEVICES for resource in resources},
        **{f"IAM5[Resource::{_IOT}:{kind}/{OWN}*]": _CONTROLLER for kind in ("job", "thinggroup")},
        f"IAM5[Resource::{_GREENGRASS}:coreDevices:*]": _DEVICES,
        f"IAM5[Resource::{_GREENGRASS}:components:{COMPONENT_NAME}:versions:*]": "versions come with each release",
        f"IAM5[Resource::{_GREENGRASS}:deployments:*]": "Greengrass gives a deployment its id when it is made",
        f"IAM5[Resource::{_QUOTAS}:iotcore/*]": "what the account is allowed, of AWS IoT alone",
        "IAM5[Action::kms:GenerateDataKey*]": _ENVELOPE,
        "IAM5[Action::kms:ReEncrypt*]": _ENVELOPE,
        "IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole]": (
            "the role of the CDK's provider for SDK calls at deploy time, which we do not declare"
        ),
        "SQS3": "this queue is the dead-letter queue, of functions and rules",
    }
    if settings.github_repository:
        accepted |= _of_a_release(settings)
    if settings.history_url:
        prefix = settings.history_url.removeprefix("s3://").rstrip("/")
        accepted[f"IAM5[Resource::arn:<AWS::Partition>:s3:::{prefix}/*]"] = "one record per fleet and report"
    if settings.reconcile:
        accepted |= {
            "IAM5[Resource::<ReconcileBucket288DE056.Arn>/reconcile/*]": "the function's own objects, one per fleet",
            "S1": "every version of an object is kept for a month, and one principal writes each; it holds no secret",
        }
    if settings.reconcile_concurrency:
        executions = (
            f"arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:{settings.stack_name}{FLEETS}"
        )
        accepted |= {
            "IAM5[Resource::<ReconcileBucket288DE056.Arn>/reconcile/questions/*]": "one question per fleet",
            **{
                f"IAM5[Resource::{executions}{rest}]": "executions get their ids when they start"
                for rest in (":*", "/*:*")
            },
            "SF2": "history, log and the functions' own lines show all that a trace would, and more",
        }
    Validations.of(stack).acknowledge(
        *(Acknowledgment(id=f"AwsSolutions::AwsSolutions-{name}", reason=why) for name, why in accepted.items())
    )


def _of_a_release(settings: StackSettings) -> dict[str, str]:
    group = settings.test_thing_group
    bucket = f"arn:<AWS::Partition>:s3:::{settings.component_bucket}"
    return {
        f"IAM5[Resource::{bucket}/{COMPONENT_NAME}/*]": "artifacts come with each version, of this component",
        f"IAM5[Resource::{_IOT}:thing/{group}-*]": _TEST_DEVICES,
        f"IAM5[Resource::{_GREENGRASS}:coreDevices:{group}-*]": _TEST_DEVICES,
    }


_OUTCOMES = ("accepted", "rejected")
