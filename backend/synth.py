"""Synthesise the template that the sandbox runs, for the demo's desired state.

``python -m backend.synth`` refreshes the checked-in template; it needs Node, the sandbox does not.
The code asset gets a fixed name, so that the template changes with the stack and not with each edit
of a handler: the sandbox takes the handlers from the working tree.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "backend" / "template" / "AWSLabsCertificateRotator.template.json"

# What reconcile=true, other accounts and a trend in S3 add to the template or change in it.
RECONCILE = ROOT / "backend" / "template" / "reconcile.json"

# What ReconcileConcurrency adds to that or changes in it.
MACHINE = ROOT / "backend" / "template" / "reconcile-machine.json"

# The role that reads, by itself: for who looks at a fleet before anything is deployed.
READ_ONLY = ROOT / "backend" / "template" / "read-only.json"

DEMO_CONTEXT = {
    "DesiredState": str(ROOT / "desired_state" / "demo"),
    "GitHubRepository": "example/fleet",
    "ComponentBucket": "example-components",
    "TestThingGroup": "canaries",
}

RECONCILE_CONTEXT = DEMO_CONTEXT | {
    "reconcile": "true",
    "ReconcileSigningKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/3f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c0aa",
    "Fleets": str(ROOT / "desired_state" / "example"),
    "HistoryUrl": "s3://example-reports/drift/",
    "FleetReadTrusts": "arn:aws:iam::345678901234:role/certfleet-read",
    "FleetReconcileTrusts": (
        "arn:aws:iam::345678901234:role/certfleet-reconcile arn:aws:iam::345678901234:role/certfleet-function"
    ),
}


MACHINE_CONTEXT = RECONCILE_CONTEXT | {"ReconcileConcurrency": "20"}


def synthesise(context: dict[str, Any]) -> dict[str, Any]:
    """Return the template for a context, with a fixed name in place of the code asset's hash.

    A finding of cdk-nag that is not acknowledged is a RuntimeError.
    """
    os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
    # The CDK starts Node when it is imported: only who synthesises pays for that.
    from aws_cdk import App, AssetHashType, Validations  # noqa: PLC0415
    from aws_cdk import aws_lambda as lambda_  # noqa: PLC0415
    from cdk_nag import AwsSolutionsChecks  # noqa: PLC0415

    from .infrastructure.settings import from_context  # noqa: PLC0415
    from .stack import BackendStack  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        settings = from_context(context.get)
        app = App(outdir=folder)
        Validations.of(app).add_plugins(AwsSolutionsChecks(app))
        code = lambda_.Code.from_asset(
            str(ROOT / "backend" / "functions"), asset_hash="functions", asset_hash_type=AssetHashType.CUSTOM
        )
        # Only its name matters to the template; the folder is small.
        reconcile_code = lambda_.Code.from_asset(
            str(ROOT / "protocol"), asset_hash="reconcile", asset_hash_type=AssetHashType.CUSTOM
        )
        stack = BackendStack(app, settings, code, reconcile_code)
        template: dict[str, Any] = app.synth().get_stack_artifact(stack.artifact_id).template
        return template


def as_text(template: dict[str, Any]) -> str:
    """Return the file's text: keys sorted, so that a difference is a change of the stack."""
    return json.dumps(template, indent=1, sort_keys=True) + "\n"


def differences(template: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return what a template adds to ``base`` or changes in it, by section."""
    return {
        section: {name: entry for name, entry in found.items() if base.get(section, {}).get(name) != entry}
        for section, found in template.items()
        if found != base.get(section)
    }


def read_only(template: dict[str, Any]) -> dict[str, Any]:
    """Return a template with nothing but a role that reads what certfleet reads: plain CloudFormation, no CDK.

    It is the read role of the workflows, without the rights over the backend's own resources and alarms. It may read
    every private CA of the account, because nobody knows yet which of them matter.
    """
    [policy] = [
        resource["Properties"]["PolicyDocument"]
        for name, resource in template["Resources"].items()
        if name.startswith("GitHubReadRole") and resource["Type"] == "AWS::IAM::Policy"
    ]
    own = {"Fn::Sub": "arn:${AWS::Partition}:acm-pca:${AWS::Region}:${AWS::AccountId}:certificate-authority/*"}
    statements = [
        {**statement, "Resource": own} if "acm-pca:DescribeCertificateAuthority" in statement["Action"] else statement
        for statement in policy["Statement"]
        if "Fn::GetAtt" not in statement["Resource"] and statement["Action"] != "cloudwatch:PutMetricData"
    ]
    trust = {"Effect": "Allow", "Principal": {"AWS": {"Ref": "Trusts"}}, "Action": "sts:AssumeRole"}
    role = {
        "Description": "certfleet: looks at a fleet, changes nothing",
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
        "MaxSessionDuration": 7200,
        "Policies": [{"PolicyName": "read", "PolicyDocument": {**policy, "Statement": statements}}],
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "certfleet: a role for certfleet init, validate, drift, plan, and doctor, without the backend",
        "Parameters": {"Trusts": {"Type": "String", "Description": "ARN of the user or role that may assume it"}},
        "Resources": {"ReadRole": {"Type": "AWS::IAM::Role", "Properties": role}},
        "Outputs": {"ReadRoleArn": {"Value": {"Fn::GetAtt": ["ReadRole", "Arn"]}}},
    }


def main() -> None:
    """Write what is checked in: the template, and what further context adds to it."""
    TEMPLATE.parent.mkdir(exist_ok=True)
    template = synthesise(DEMO_CONTEXT)
    TEMPLATE.write_text(as_text(template), encoding="utf-8")
    READ_ONLY.write_text(as_text(read_only(template)), encoding="utf-8")
    reconcile = synthesise(RECONCILE_CONTEXT)
    RECONCILE.write_text(as_text(differences(reconcile, template)), encoding="utf-8")
    MACHINE.write_text(as_text(differences(synthesise(MACHINE_CONTEXT), reconcile)), encoding="utf-8")


if __name__ == "__main__":
    main()
