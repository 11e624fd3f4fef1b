"""``certfleet doctor``: an account in which all is well, and what is told as soon as one thing in it is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest
from cli_factory import DOCUMENTS
from shared_fault_proxy import FaultProxy, error

from controller.commands import condition
from controller.commands.progress import TimeLimitError
from controller.fleet import examination
from controller.reconcile.values import DeviceExecution
from protocol.messages import ExecutionStatus
from protocol.names import COMPONENT_NAME, BackendNames
from sandbox.aws.greengrass.deployments import InstalledComponent

NAMES = BackendNames()
CA = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/00000000-0000-0000-0000-000000000001"
AUTHORITY = {"arn": CA, "signingAlgorithm": "SHA256WITHECDSA", "validitySeconds": 30 * 86_400}
DOCUMENT = f"""\
---
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {{name: plant-ca}}
spec: {{type: PrivateCA, arn: {CA}, signingAlgorithm: SHA256WITHECDSA, validity: 30d}}
"""
ALLOW = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
CANNOT_TELL = {  # of what is not there, nothing can be asked
    *(f"permission iot:{name}" for name in (
        "DescribeJob", "GetJobDocument", "ListJobExecutionsForJob", "DescribeJobExecution",
    )),
    "permission greengrass:DescribeComponent", "permission greengrass:GetDeployment",
    "permission dynamodb:BatchGetItem", "permission dynamodb:GetItem", "permission dynamodb:Query",
    "permission dynamodb:Scan",
    "permission lambda:GetFunctionConfiguration", "permissions to rotate",
    "permission servicequotas:GetServiceQuota", "quotas",  # the sandbox has none of AWS IoT's
}  # fmt: skip


OWN_VERSION = version("certfleet")


def deployed(version_of_it=OWN_VERSION, **authority):
    fields = ["certificateAuthority", "certificateAuthorityArn", "commit", "csrSigningAlgorithm", "keyAlgorithm"]
    fields += ["operation", "policy", "signingAlgorithm"]
    return json.dumps({"format": 1, "version": version_of_it, "authorities": {"plant-ca": AUTHORITY | authority},
                       "jobDocumentFields": fields})  # fmt: skip


@pytest.fixture
def account(factory):
    """Our backend in this version with a private CA, two devices that run the component and may rotate."""
    factory.cloud.seed.private_ca(CA)
    factory.write(DOCUMENTS.replace("authority: aws-iot", "authority: plant-ca") + DOCUMENT)
    policy(factory, "rotates", ALLOW)
    factory.held = {}
    for name in ("gateway-1", "gateway-2"):
        factory.held[name] = factory.device(name)
        attach(factory, "rotates", factory.held[name])
        report(factory, name)
    factory.queue = factory.client("sqs").create_queue(QueueName="given-up")["QueueUrl"]
    for name in NAMES.rules:
        factory.iot.create_topic_rule(ruleName=name, topicRulePayload={
            "sql": "SELECT * FROM 'a'", "actions": [],
            "errorAction": {"sqs": {"queueUrl": factory.queue, "roleArn": "arn:aws:iam::123456789012:role/r"}},
        })  # fmt: skip
    publish(factory, deployed())
    events(factory, is_on=True)
    return factory


def policy(account, name, *statements):
    account.cloud.seed.policy(name, json.dumps({"Version": "2012-10-17", "Statement": statements}))


def attach(account, named, certificate_id):
    arn = f"arn:aws:iot:eu-west-1:123456789012:cert/{certificate_id}"
    for name in account.iot.list_attached_policies(target=arn)["policies"]:
        account.iot.detach_policy(policyName=name["policyName"], target=arn)
    account.iot.attach_policy(policyName=named, target=arn)


def report(account, thing, nucleus="2.14.0", component="2.0.0"):
    versions = {"aws.greengrass.Nucleus": nucleus, COMPONENT_NAME: component}
    installed = [InstalledComponent(name, of, is_root=True) for name, of in versions.items() if of]
    account.cloud.deployments.report_device(thing, installed)


def publish(account, text):
    account.client("ssm").put_parameter(Name=NAMES.deployment_parameter, Value=text, Type="String", Overwrite=True)


def events(account, *, is_on):
    account.iot.update_event_configurations(eventConfigurations={"JOB_EXECUTION": {"Enabled": is_on}})


def lines(told):
    [fleet] = told.json["fleets"]
    return {line["what"]: line for line in fleet["lines"]}


def of(found, verdict):
    return {what for what, line in found.items() if line["verdict"] == verdict}


def test_where_all_is_well_every_line_says_so_or_that_it_cannot_tell(account):
    told = account.run("doctor", "--format", "json")
    found = lines(told)
    assert (told.code, of(found, "not ok")) == (0, set()), told.out
    assert of(found, "cannot tell") == CANNOT_TELL
    assert of(found, "ok") == {
        "credentials", "permissions", "backend", "authority plant-ca", "rules", "dead-letter queue", "job events",
        "component in line-a", "device policies in line-a", "look at the devices", "executions in flight",
    }  # fmt: skip
    assert "CertificateRotator 2.0.0 on 2; Nucleus 2.14.0 on 2" in found["component in line-a"]["message"]


def not_deployed(account):
    account.iot.delete_job_template(jobTemplateId=NAMES.job_template)


def says_nothing(account):
    account.client("ssm").delete_parameter(Name=NAMES.deployment_parameter)


def of_another_version(account):
    publish(account, deployed("0.0.1"))


def of_another_validity(account):
    publish(account, deployed(validitySeconds=86_400))


def ca_disabled(account):
    account.client("acm-pca").update_certificate_authority(CertificateAuthorityArn=CA, Status="DISABLED")


def events_off(account):
    events(account, is_on=False)


def rule_off(account):
    account.iot.disable_topic_rule(ruleName=NAMES.presence_rule)


def rule_missing(account):
    account.iot.delete_topic_rule(ruleName=NAMES.create_function)


def given_up(account):
    account.client("sqs").send_message(QueueUrl=account.queue, MessageBody="{}")


def no_component(account):
    report(account, "gateway-2", component=None)


def old_nucleus(account):
    report(account, "gateway-2", nucleus="2.6.9")


def may_not_ask(account):
    topic = "arn:aws:iot:*:*:topic/awslabs/things/*/certificate/create"
    policy(account, "mute", ALLOW, {"Effect": "Deny", "Action": "iot:Publish", "Resource": topic})
    attach(account, "mute", account.held["gateway-2"])


@pytest.mark.parametrize(
    ("happens", "line", "remedy"),
    [
        (not_deployed, "backend", "npx cdk deploy -c StackName=AWSLabsCertificateRotator"),
        (says_nothing, "backend", "npx cdk deploy"),
        (of_another_version, "backend", "or run certfleet 0.0.1"),
        (of_another_validity, "authority plant-ca", "certfleet validate --live"),
        (ca_disabled, "authority plant-ca", "certfleet validate --live"),
        (events_off, "job events", "aws iot update-event-configurations --event-configurations"),
        (rule_off, "rules", f"aws iot enable-topic-rule --rule-name {NAMES.presence_rule}"),
        (rule_missing, "rules", "npx cdk deploy"),
        (given_up, "dead-letter queue", "aws sqs receive-message --queue-url"),
        (no_component, "component in line-a", "deploy the component"),
        (old_nucleus, "component in line-a", "deploy nucleus 2.7 or later"),
        (may_not_ask, "device policies in line-a", "attach backend/device-policy.json"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_not_ok_is_told_with_what_to_do(account, happens, line, remedy):
    happens(account)
    told = account.run("doctor", "--format", "json")
    found = lines(told)
    assert told.code == 2, told.err
    assert line in of(found, "not ok") <= {line, "authority plant-ca", "look at the devices"}
    assert any(remedy in step for step in found[line]["remedy"])
    assert remedy in account.run("doctor").out.replace("\n", " ")


@pytest.mark.parametrize(("nucleus", "verdict"), [("2.5.6", "not ok"), ("2.6.0", "ok")])
def test_without_a_private_ca_an_older_nucleus_will_do(account, nucleus, verdict):
    account.write(DOCUMENTS)
    report(account, "gateway-2", nucleus=nucleus)
    assert lines(account.run("doctor", "--format", "json"))["component in line-a"]["verdict"] == verdict


def test_policies_with_variables_of_a_connection_cannot_be_told(account):
    thing = "arn:aws:iot:eu-west-1:123456789012:client/${iot:Connection.Thing.ThingName}"
    policy(account, "as-itself", {"Effect": "Allow", "Action": "iot:Connect", "Resource": thing})
    attach(account, "as-itself", account.held["gateway-2"])
    told = account.run("doctor", "--format", "json")
    assert (told.code, of(lines(told), "cannot tell") - CANNOT_TELL) == (0, {"device policies in line-a"})


def test_a_stock_backend_is_named_and_only_its_rules_are_asked_for(account):
    account.iot.delete_job_template(jobTemplateId=NAMES.job_template)
    account.iot.create_job_template(
        jobTemplateId=NAMES.job_template, document='{"operation":"ROTATE_CERTIFICATE"}', description="stock"
    )
    rule_off(account)
    found = lines(account.run("doctor", "--format", "json"))
    assert "is the stock one" in found["backend"]["message"]
    assert "dead-letter queue" not in found
    assert found["rules"]["verdict"] == "ok"


DENIED = ["ListTopicRules", "ListThings", "DescribeEventConfigurations", "GetQueueAttributes", "TestAuthorization",
          "ListInstalledComponents", "GetParameter", "ListCertificates", "DescribeCertificateAuthority"]  # fmt: skip


@pytest.mark.parametrize("operation", DENIED)
def test_an_action_that_is_denied_is_named_and_what_hangs_on_it_is_no_guess(account, surroundings, operation):
    with FaultProxy(account.cloud.endpoint_url, {operation: error(403, "AccessDeniedException")}) as proxy:
        surroundings.setenv("AWS_ENDPOINT_URL", proxy.url)
        told = account.run("doctor", "--format", "json")
    found = lines(told)
    assert told.code == 2, told.err
    [denied] = [what for what in of(found, "not ok") if what.startswith("permission")]
    assert denied.endswith(f":{operation}")
    assert f"allow {denied.removeprefix('permission ')}" in found[denied]["remedy"][0]


def test_credentials_that_are_of_another_account_are_the_one_line(account):
    account.write(DOCUMENTS.replace("123456789012", "210987654321"))
    told = account.run("doctor", "--format", "json")
    assert told.code == 2
    assert of(lines(told), "not ok") == set(lines(told)) == {"credentials"}


def over_at_thing(number):
    """A time limit that is over when so many things have been read, whichever of a look's threads is faster."""

    def on(_limit, _tell):
        def timed(phase, done, _total):
            if phase == "things" and done >= number:
                raise TimeLimitError("the time limit is over")

        return timed

    return on


@pytest.mark.parametrize("number", [1, 32])
def test_a_look_that_takes_longer_is_left_to_others_with_the_time_it_takes(account, surroundings, number):
    for sensor in range(30):
        account.device(f"sensor-{sensor}")
    surroundings.setenv("CERTFLEET_QUOTA_FACTOR", "10")
    surroundings.setattr("controller.commands.progress.TimeLimit.on", over_at_thing(number))
    told = account.run("doctor", "--format", "json")
    found = lines(told)
    assert found["look at the devices"]["verdict"] == "cannot tell", told.out
    assert "are not known yet; at the quotas in use that takes about" in found["look at the devices"]["message"]
    assert found["executions in flight"]["verdict"] == "cannot tell"
    surroundings.setattr("controller.commands.progress.TimeLimit.on", over_at_thing(1))
    assert account.run("doctor", "--migrate").code == 1


NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "hours", "verdict"),
    [("IN_PROGRESS", 13, "not ok"), ("IN_PROGRESS", 1, "ok"), ("QUEUED", 1000, "ok")],
)
def test_a_rotation_that_stands_still_is_told_and_a_device_that_is_away_is_not(status, hours, verdict):
    began = NOW - timedelta(hours=hours)
    execution = DeviceExecution("job", ExecutionStatus(status), began, began, began)
    line = condition.in_flight(condition.Looked(1, (("gateway-1", execution),)), NOW)
    assert line.verdict == verdict


LIVE = {"ListThingsInThingGroup": 50.0, "ListThingPrincipalsV2": 20.0, "DescribeCertificate": 30.0}
QUOTAS = {
    "that nobody tells": (
        {}, 1, "cannot tell", "We use 80% of the defaults of AWS: a first look at 9,600 devices takes about 20 min",
        "aws service-quotas get-service-quota --service-code iotcore --quota-code L-00ACEBE9"),
    "as they are used": (LIVE, 2, "ok", "times 2: a first look at 9,600 devices takes about 10 min", ""),
    "of which more may be used": (
        LIVE, 1, "ok", "ListThingPrincipalsV2 20", "export CERTFLEET_QUOTA_FACTOR=2    # a first look at 9,600"),
    "of which too much is used": (LIVE, 4, "not ok", "times 4", "export CERTFLEET_QUOTA_FACTOR=2"),
}  # fmt: skip


@pytest.mark.parametrize("case", QUOTAS)
def test_quotas_are_told_with_the_time_that_a_first_look_takes(case):
    live, factor, verdict, said, remedy = QUOTAS[case]
    line = condition.quotas(live, factor, 9_600)
    assert line.verdict.value == verdict
    assert said in line.message
    assert remedy in " ".join(line.remedy)


def test_quotas_are_those_of_the_account_as_far_as_service_quotas_tells():
    class Session:
        def ask(self, service, operation, **asked):
            assert (service, operation, asked["ServiceCode"]) == ("service-quotas", "GetServiceQuota", "iotcore")
            return {"Quota": {"Value": 40}} if asked["QuotaCode"] == "L-FC864907" else None

    assert examination.quotas(Session()) == {"DescribeCertificate": 40.0}
