"""The construct: off by default, and what one context flag adds to the stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend import build, synth
from backend.infrastructure.settings import from_context

pytestmark = pytest.mark.unmeasured  # of the stack's definition, of which there is no floor


@pytest.fixture(scope="module")
def added():
    return json.loads(synth.RECONCILE.read_text())["Resources"]


@pytest.fixture
def of_type(added):
    return lambda kind: [r["Properties"] for r in added.values() if r["Type"] == kind]


def text_of(node):
    """Any property as one line, intrinsic functions included."""
    return json.dumps(node, sort_keys=True)


def test_what_is_checked_in_is_what_the_flag_adds_to_the_template_and_cdk_nag_finds_nothing():
    base = json.loads(synth.TEMPLATE.read_text())
    fresh = synth.differences(synth.synthesise(synth.RECONCILE_CONTEXT), base)
    assert synth.RECONCILE.read_text() == synth.as_text(fresh), "run: python -m backend.synth"


def test_without_the_flag_the_template_knows_nothing_of_it():
    text = synth.TEMPLATE.read_text()
    assert "controller.aws_lambda" not in text
    assert "AWS::S3::Bucket" not in text
    assert "ReconcileSchedule" not in text


def test_cfn_lint_finds_nothing(tmp_path, added):
    whole = json.loads(synth.TEMPLATE.read_text())
    for path in (synth.RECONCILE, synth.MACHINE):
        for section, entries in json.loads(path.read_text()).items():
            whole[section] |= entries
    path = tmp_path / "template.json"
    path.write_text(
        json.dumps(whole).replace("${Partition}", "aws")
    )  # a substitution that cfn-lint does not look through
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--ignore-checks", "W3005", "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_one_run_at_a_time_every_hour_and_a_failed_one_is_not_repeated(of_type):
    [function] = of_type("AWS::Lambda::Function")
    assert function["ReservedConcurrentExecutions"] == 1
    assert (function["Timeout"], function["Architectures"], function["Runtime"]) == (900, ["arm64"], "python3.14")
    [rule] = [rule for rule in of_type("AWS::Events::Rule") if "ScheduleExpression" in rule]
    assert rule["ScheduleExpression"] == "rate(1 hour)"
    assert rule["Targets"][0]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    [config] = of_type("AWS::Lambda::EventInvokeConfig")
    assert config["MaximumRetryAttempts"] == 0


def test_the_bucket_is_encrypted_versioned_private_and_speaks_tls_only(of_type):
    [bucket] = of_type("AWS::S3::Bucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    [policy] = of_type("AWS::S3::BucketPolicy")
    denied = [s["Condition"] for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
    assert {"Bool": {"aws:SecureTransport": "false"}} in denied


def statements(added, path):
    found = [
        statement
        for resource in added.values()
        if resource["Type"] == "AWS::IAM::Policy" and path in text_of(resource["Properties"]["Roles"])
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
    ]
    assert found
    return found


def allowed(statements, service):
    """Action → resources, as text."""
    found = {}
    for statement in statements:
        names = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        for name in names:
            if name.startswith(f"{service}:"):
                found[name] = text_of(statement["Resource"])
    return found


def test_the_function_may_do_what_the_controller_may_and_keep_its_own_objects(added):
    mine = statements(added, "ReconcileRole286C6F45")
    s3 = allowed(mine, "s3")
    assert set(s3) == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    assert "/reconcile/*" in s3["s3:PutObject"]
    assert "desired-state.bundle" not in s3["s3:PutObject"]
    assert set(allowed(mine, "kms")) >= {"kms:Verify"}
    assert "kms:Sign" not in allowed(mine, "kms")
    assert allowed(mine, "sts") == {"sts:AssumeRole": '"arn:aws:iam::210987654321:role/certfleet-reconcile"'}
    assert set(allowed(mine, "sns")) == {"sns:Publish"}
    issuing = {"iot:CreateCertificateFromCsr", "iot:DeleteCertificate", "iot:UpdateCertificate", "iot:AttachPolicy"}
    assert not issuing & set(allowed(mine, "iot"))


def test_each_role_of_ci_assumes_what_fleets_name_for_it_and_nothing_else(added):
    reading, writing = statements(added, "GitHubReadRole"), statements(added, "GitHubReconcileRole")
    assert allowed(reading, "sts") == {"sts:AssumeRole": '"arn:aws:iam::210987654321:role/certfleet-read"'}
    assert allowed(writing, "sts") == {"sts:AssumeRole": '"arn:aws:iam::210987654321:role/certfleet-reconcile"'}


def test_the_role_of_ci_may_replace_the_bundle_and_sign_but_not_touch_what_the_function_keeps(added):
    ci = next(
        s
        for r in added.values()
        if r["Type"] == "AWS::IAM::Policy" and "kms:Sign" in text_of(r)
        for s in [r["Properties"]["PolicyDocument"]["Statement"]]
    )
    s3 = allowed(ci, "s3")
    assert set(s3) == {"s3:PutObject"}
    assert "desired-state.bundle" in s3["s3:PutObject"]
    assert set(allowed(ci, "kms")) == {"kms:Sign"}


def test_a_failed_run_and_a_silent_day_raise_an_alarm(of_type):
    alarms = {
        a["AlarmName"].removeprefix("AWSLabsCertificateRotatorReconcile"): a for a in of_type("AWS::CloudWatch::Alarm")
    }
    assert set(alarms) == {"Errors", "Silent"}
    assert alarms["Silent"]["TreatMissingData"] == "breaching"
    assert all(alarm["AlarmActions"] for alarm in alarms.values())


@pytest.mark.parametrize(
    "context",
    [
        {"reconcile": "true"},
        {"ReconcileEveryMinutes": "1"},
        {"ReconcileSigningKeyArn": "alias/mine"},
    ],
    ids=["no repository is named", "every minute", "an alias, which can be moved"],
)
def test_a_context_is_refused_where(context):
    with pytest.raises(ValidationError):
        from_context(context.get)


def test_the_zip_holds_the_controller_and_the_protocol_and_no_other_part():
    names = [name for name, _ in build.reconcile_sources()]
    assert {"controller/aws_lambda.py", "controller/lambda_reconcile/bucket.py", "protocol/topics.py"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"controller", "protocol"}


def test_the_handler_can_be_imported_from_the_zip_alone_without_git(tmp_path):
    build.write_zip(tmp_path / "reconcile.zip", list(build.reconcile_sources()))
    with zipfile.ZipFile(tmp_path / "reconcile.zip") as archive:
        archive.extractall(tmp_path / "task")
    program = "import controller.aws_lambda as m; print(m.__file__)"
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(tmp_path / "task"), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == os.fspath(tmp_path / "task" / "controller" / "aws_lambda.py"), done.stderr


SERVICES = ("acm-pca", "greengrassv2", "iot", "kms", "lambda", "s3", "sns", "ssm", "stepfunctions", "sts")


def test_the_zip_has_models_of_the_services_that_are_called_and_of_hardly_any_other():
    models = [
        (f"botocore/data/{service}/2015-05-28/service-2.json.gz", b"") for service in (*SERVICES, "ec2", "quicksight")
    ]
    others = [("botocore/data/endpoints.json", b""), ("botocore/client.py", b""), ("rich/data/ec2/table.py", b"")]
    kept = [name for name, _ in build.needed([*models, *others], list(build.reconcile_sources()))]
    assert kept == [name for name, _ in (*models[: len(SERVICES)], *others)]
