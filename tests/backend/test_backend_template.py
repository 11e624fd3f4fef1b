"""The synthesised template: what is checked in, what cfn-lint says, and who may do what."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from backend import synth
from protocol import topics
from protocol.names import BackendNames
from sandbox.stack import sql

pytestmark = pytest.mark.unmeasured  # of the stack's definition, of which there is no floor

ROOT = Path(__file__).parents[2]
STOCK_FUNCTIONS = ("CreateCertificate", "CommitCertificate", "JobExecutionTerminal")
PCA = {
    "PcaCaId": "5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001", "StackName": "Other", "Replaces": "Before",
    "RulesEnabled": "false",
}  # fmt: skip


def stock_names(stack):
    """Every physical name of the stock stack's template (1.2.0, seen 2026-11-30); a log group outlives it."""
    functions = [f"{stack}{name}" for name in (*STOCK_FUNCTIONS, "CustomResourceJobExecutionEvents")]
    return {
        *(("AWS::Lambda::Function", name) for name in functions),
        *(("AWS::IAM::Role", f"{name}Role") for name in functions),
        *(("AWS::Logs::LogGroup", f"/aws/lambda/{name}") for name in functions),
        *(("AWS::IoT::TopicRule", f"{stack}{name}") for name in STOCK_FUNCTIONS),
        ("AWS::IoT::JobTemplate", stack),
        ("AWS::SNS::Topic", f"{stack}Notification"),
    }


def physical_names(template):
    """(type, name) of each resource that is given a name of its own."""
    kinds = {
        "AWS::Lambda::Function": "FunctionName", "AWS::IAM::Role": "RoleName", "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::IoT::TopicRule": "RuleName", "AWS::IoT::JobTemplate": "JobTemplateId", "AWS::SNS::Topic": "TopicName",
        "AWS::SSM::Parameter": "Name", "AWS::CloudWatch::Alarm": "AlarmName", "AWS::DynamoDB::Table": "TableName",
        "AWS::CloudWatch::Dashboard": "DashboardName", "AWS::SQS::Queue": "QueueName", "AWS::Events::Rule": "Name",
    }  # fmt: skip
    resources = [(r["Type"], r.get("Properties", {})) for r in template["Resources"].values()]
    return {(kind, p[kinds[kind]]) for kind, p in resources if isinstance(p.get(kinds.get(kind)), str)}


@pytest.fixture(scope="session")
def template():
    return json.loads(synth.TEMPLATE.read_text())


@pytest.fixture
def of_type(template):
    return lambda kind: [r for r in template["Resources"].values() if r["Type"] == kind]


def actions(template, role_prefix):
    return {
        action
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::Policy" and name.startswith(role_prefix)
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }


def test_the_template_checked_in_is_what_a_fresh_synthesis_gives_without_a_finding_of_cdk_nag():
    fresh = synth.as_text(synth.synthesise(synth.DEMO_CONTEXT))
    assert synth.TEMPLATE.read_text() == fresh, "run: python -m backend.synth"


def test_the_role_that_reads_may_be_had_without_the_backend(template):
    assert synth.READ_ONLY.read_text() == synth.as_text(synth.read_only(template)), "run: python -m backend.synth"
    alone = json.loads(synth.READ_ONLY.read_text())
    assert [resource["Type"] for resource in alone["Resources"].values()] == ["AWS::IAM::Role"]
    [policy] = alone["Resources"]["ReadRole"]["Properties"]["Policies"]
    granted = (statement["Action"] for statement in policy["PolicyDocument"]["Statement"])
    alone = {action for each in granted for action in ([each] if isinstance(each, str) else each)}
    assert {re.match("[A-Z][a-z]+", action.partition(":")[2])[0] for action in alone} == {
        "Describe", "Get", "List", "Search", "Test",
    }  # fmt: skip
    assert actions(template, "GitHubReadRole") - alone == {
        "cloudwatch:PutMetricData", "dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan",
        "sqs:GetQueueAttributes",
    }  # fmt: skip


@pytest.fixture(scope="session")
def beside():
    """Our stack under another name, deaf as yet, in the place of a stack that is still there."""
    return synth.synthesise(PCA)


def test_under_the_stock_name_our_stack_can_stand_neither_beside_nor_right_after_the_stock_one(template):
    taken = physical_names(template) & stock_names("AWSLabsCertificateRotator")
    assert {kind for kind, _ in taken} == {
        "AWS::Lambda::Function", "AWS::Logs::LogGroup", "AWS::IoT::TopicRule", "AWS::IoT::JobTemplate",
        "AWS::SNS::Topic",
    }  # fmt: skip
    assert len(taken) == 3 + 3 + 3 + 1 + 1


def test_under_another_name_it_stands_beside_the_stock_one_and_hears_nothing(beside):
    assert physical_names(beside)
    assert physical_names(beside) & stock_names("Before") == set()
    assert physical_names(beside) & stock_names("AWSLabsCertificateRotator") == set()
    rules = [r["Properties"] for r in beside["Resources"].values() if r["Type"] == "AWS::IoT::TopicRule"]
    assert [rule["TopicRulePayload"]["RuleDisabled"] for rule in rules] == [True] * 4
    schedules = [r["Properties"] for r in beside["Resources"].values() if r["Type"] == "AWS::Events::Rule"]
    assert [one["State"] for one in schedules if "ScheduleExpression" in one] == ["DISABLED"]


def test_what_the_stack_before_has_begun_is_looked_up_under_its_name_and_shown_under_ours(beside):
    functions = [r["Properties"] for r in beside["Resources"].values() if r["Type"] == "AWS::Lambda::Function"]
    told = [f["Environment"]["Variables"]["REPLACES"] for f in functions if "Environment" in f]
    assert told == ["Before"] * 4
    shadows = {
        action: resource
        for r in beside["Resources"].values() if r["Type"] == "AWS::IAM::Policy"
        for statement in r["Properties"]["PolicyDocument"]["Statement"]
        if "ThingShadow" in (action := str(statement["Action"])) and (resource := json.dumps(statement["Resource"]))
    }  # fmt: skip
    assert "thing/*/Before" in shadows["iot:GetThingShadow"]
    assert "thing/*/Other" in shadows["iot:UpdateThingShadow"]


def test_our_rules_and_schedule_are_on_where_nothing_else_is_said(of_type):
    assert [r["Properties"]["TopicRulePayload"]["RuleDisabled"] for r in of_type("AWS::IoT::TopicRule")] == [False] * 4
    schedules = [r["Properties"] for r in of_type("AWS::Events::Rule")]
    assert [one["State"] for one in schedules if "ScheduleExpression" in one] == ["ENABLED"]


def test_the_stock_variables_give_a_default_authority_and_another_stack_name_renames_everything(beside):
    template = beside
    text = json.dumps(template)
    assert "AWSLabsCertificateRotator" not in text
    [create] = [
        r["Properties"] for r in template["Resources"].values()
        if r["Properties"].get("FunctionName") == "OtherCreateCertificate" and r["Type"] == "AWS::Lambda::Function"
    ]  # fmt: skip
    arn = json.dumps(create["Environment"]["Variables"]["PCA_CA_ARN"])
    assert "certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001" in arn
    assert {"acm-pca:IssueCertificate", "iot:RegisterCertificateWithoutCA"} <= actions(template, "CreateCertificate")
    assert "sts:AssumeRoleWithWebIdentity" not in text


def test_cfn_lint_finds_nothing():
    templates = [str(path) for path in (synth.TEMPLATE, synth.READ_ONLY)]
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--ignore-checks", "W3005", "--", *templates]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_rules_hear_the_standard_topics(of_type):
    rules = {r["Properties"]["RuleName"]: r["Properties"]["TopicRulePayload"] for r in of_type("AWS::IoT::TopicRule")}
    names = BackendNames()
    heard = {name: sql.parse(rule["Sql"]).topic_filter for name, rule in rules.items()}
    assert sql.matches(heard[names.create_function], topics.create("T"))
    assert sql.matches(heard[names.commit_function], topics.commit("T"))
    assert sql.matches(heard[names.terminal_function], "$aws/events/jobExecution/job-1/failed")
    assert sql.matches(heard["AWSLabsCertificateRotatorPresenceConnected"], "$aws/events/presence/connected/T")
    assert sql.matches(heard[names.terminal_function], "$aws/events/jobExecution/job-1/deleted")
    assert len(rules) == 4
    assert all("Sqs" in rule["ErrorAction"] for rule in rules.values())


def test_the_functions_are_arm64_on_the_current_runtime_with_a_dead_letter_queue(of_type):
    ours = [r["Properties"] for r in of_type("AWS::Lambda::Function") if r["Properties"]["Handler"] != "index.handler"]
    assert [f["Architectures"] for f in ours] == [["arm64"]] * 4
    assert {f["Runtime"] for f in ours} == {"python3.14"}
    configs = [r["Properties"] for r in of_type("AWS::Lambda::EventInvokeConfig")]
    assert len(configs) == 4
    assert all("OnFailure" in c["DestinationConfig"] for c in configs)


def test_what_is_stored_is_encrypted_and_can_be_restored(of_type):
    [table] = of_type("AWS::DynamoDB::Table")
    assert table["Properties"]["SSESpecification"]["SSEEnabled"] is True
    assert table["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionPolicy"] == "Retain"
    [topic] = of_type("AWS::SNS::Topic")
    [queue] = of_type("AWS::SQS::Queue")
    assert "KmsMasterKeyId" in topic["Properties"]
    assert "KmsMasterKeyId" in queue["Properties"]
    assert {r["Properties"].get("RetentionInDays") for r in of_type("AWS::Logs::LogGroup")} == {90, 30}


def test_there_is_an_alarm_for_errors_and_rejections_of_each_function_and_for_dead_letters(of_type):
    alarms = {
        r["Properties"]["AlarmName"].removeprefix("AWSLabsCertificateRotator")
        for r in of_type("AWS::CloudWatch::Alarm")
    }
    functions = ("CreateCertificate", "CommitCertificate", "JobExecutionTerminal", "Sweep")
    further = {f"{f}Rejections" for f in functions[:2]} | {"DeadLetters", "OldestRotation", "SweepSilent", "LoopSilent"}
    assert alarms == {f"{f}Errors" for f in functions} | further
    assert all(r["Properties"]["AlarmActions"] for r in of_type("AWS::CloudWatch::Alarm"))


def metrics_on(dashboard, template):
    """(namespace, metric, the logical id of what it is of, None without a dimension) of each line of a widget."""
    named = set(template["Resources"])

    def text(part):
        if isinstance(part, str):
            return part
        target = part.get("Ref") or part["Fn::GetAtt"][0]
        return target if target in named else "region"

    body = json.loads("".join(map(text, dashboard["Properties"]["DashboardBody"]["Fn::Join"][1])))
    for line in (line for widget in body["widgets"] for line in widget["properties"]["metrics"]):
        namespace, metric, *dimension = (word for word in line if isinstance(word, str))
        yield namespace, metric, dimension[1] if dimension else None


def test_the_dashboard_shows_what_the_alarms_are_about_and_nothing_that_nobody_measures(of_type, template):
    """That no loop has run is of the repository, and is seen there."""
    [dashboard] = of_type("AWS::CloudWatch::Dashboard")
    shown = set(metrics_on(dashboard, template))
    of_logs = {
        (made["MetricNamespace"], made["MetricName"], None)
        for filtered in of_type("AWS::Logs::MetricFilter")
        for made in filtered["Properties"]["MetricTransformations"]
    }
    assert {metric for metric in shown if metric[2] is None} == of_logs
    kinds = {"AWS/Lambda": "AWS::Lambda::Function", "AWS/SQS": "AWS::SQS::Queue"}
    of_aws = {metric for metric in shown if metric[2] is not None}
    assert all(template["Resources"][of]["Type"] == kinds[namespace] for namespace, _, of in of_aws)
    alarms = [r["Properties"] for r in of_type("AWS::CloudWatch::Alarm")]
    own = [alarm for alarm in alarms if alarm["Namespace"] != "certfleet"]
    assert len(own) == len(alarms) - 1
    for alarm in own:
        [of] = [d["Value"].get("Ref") or d["Value"]["Fn::GetAtt"][0] for d in alarm.get("Dimensions", ())] or [None]
        assert (alarm["Namespace"], alarm["MetricName"], of) in shown


@pytest.mark.parametrize("operation", ["create", "commit"])
def test_no_member_of_a_devices_message_stands_in_for_what_the_rule_knows(of_type, operation):
    rules = {r["Properties"]["RuleName"]: r["Properties"]["TopicRulePayload"] for r in of_type("AWS::IoT::TopicRule")}
    rule = rules[getattr(BackendNames(), f"{operation}_function")]
    forged = dict.fromkeys(("thingName", "topic", "clientId", "principal", "receivedAt", "extra"), "forged")
    topic = f"awslabs/things/gw-1/certificate/{operation}"
    known = sql.MessageContext({"jobId": "j", **forged}, topic, "gw-1#2", "f" * 64, 1_764_000_000_000)
    assert sql.parse(rule["Sql"]).apply(known) == {
        "jobId": "j", "thingName": "gw-1", "topic": topic, "clientId": "gw-1#2", "principal": "f" * 64,
        "receivedAt": 1_764_000_000_000,
    }  # fmt: skip
    assert not rule["Sql"].startswith("SELECT *")


def test_job_execution_events_are_turned_on(of_type):
    calls = [json.loads(r["Properties"]["Create"]) for r in of_type("Custom::AWS")]
    [events] = [c for c in calls if c["action"] == "updateEventConfigurations"]
    assert events["parameters"] == {"eventConfigurations": {"JOB_EXECUTION": {"Enabled": True}}}


def test_every_part_of_the_cdk_that_is_used_is_type_checked():
    """mypy leaves out the rest, which takes most of its time; whatever came of a part left out would be of any type."""
    sources = "\n".join(
        path.read_text() for folder in ("backend", "controller") for path in (ROOT / folder).rglob("*.py")
    )
    used = {
        f"aws_cdk.{part}" for part in re.findall(r"^ *from aws_cdk import ((?:aws_|custom_)\w+)", sources, re.MULTILINE)
    }
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
    [checked] = [set(one["module"]) for one in overrides if one.get("follow_imports") == "normal"]
    assert "aws_cdk.aws_iot" in used
    assert used <= checked
