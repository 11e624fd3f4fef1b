"""``certfleet doctor --migrate``: from the stock backend to ours and back, as what is seen of the account changes."""

from __future__ import annotations

import json

import pytest

from protocol.names import COMPONENT_NAME
from sandbox.aws.greengrass.deployments import InstalledComponent

STOCK, OURS = "AWSLabsCertificateRotator", "Certfleet"
FUNCTIONS = ("CreateCertificate", "CommitCertificate", "JobExecutionTerminal")
CERTIFICATES = "arn:aws:iot:eu-west-1:123456789012:cert/"
PAYLOAD = {"sql": "SELECT * FROM 'a'", "actions": [{"republish": {"roleArn": "arn:aws:iam::123456789012:role/r", "topic": "b"}}]}  # fmt: skip  # noqa: E501


@pytest.fixture
def account(factory):
    """A stock backend that hears three devices; ours stands beside it, deaf."""
    factory.iot.delete_job_template(jobTemplateId=STOCK)
    factory.iot.create_job_template(
        jobTemplateId=STOCK, document='{"operation":"ROTATE_CERTIFICATE"}', description="stock"
    )
    factory.iot.update_event_configurations(eventConfigurations={"JOB_EXECUTION": {"Enabled": True}})
    factory.cloud.seed.policy("rotates", '{"Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}')
    for name in ("gateway-1", "gateway-2", "gateway-3"):
        certificate_id = factory.device(name)
        factory.iot.attach_policy(policyName="rotates", target=f"{CERTIFICATES}{certificate_id}")
        factory.cloud.deployments.report_device(name, [InstalledComponent(COMPONENT_NAME, "1.2.0")])
    for stack, names in ((STOCK, FUNCTIONS), (OURS, (*FUNCTIONS, "PresenceConnected"))):
        for name in names:
            payload = PAYLOAD | {"ruleDisabled": stack == OURS}
            factory.iot.create_topic_rule(ruleName=stack + name, topicRulePayload=payload)
    published = {"format": 1, "version": "0.1.0", "authorities": {}, "jobDocumentFields": [], "attachments": []}
    factory.client("ssm").put_parameter(Name=f"/certfleet/{OURS}", Value=json.dumps(published), Type="String")
    return factory


def asked(account, *arguments):
    """(exit code, verdict by line of the migration, what comes next)."""
    told = account.run("doctor", "--migrate", "--format", "json", *arguments)
    [fleet] = told.json["fleets"]
    verdicts = {line["what"]: line["verdict"] for line in fleet["lines"]}
    first = list(verdicts).index("our backend")
    return told.code, dict(list(verdicts.items())[first:]), fleet["next"]


def turn(account, verb, stack, names=FUNCTIONS):
    for name in names:
        getattr(account.iot, f"{verb}_topic_rule")(ruleName=stack + name)


def test_where_all_is_well_the_stock_rules_go_off_before_ours_go_on(account):
    code, verdicts, steps = asked(account)
    assert code == 0
    assert verdicts == {
        "our backend": "ok", "who answers": "ok", "rotations in progress": "ok", "certificates": "ok",
        "component": "cannot tell", "notifications": "cannot tell",
    }  # fmt: skip
    assert steps == [
        *(f"aws iot disable-topic-rule --rule-name {STOCK}{name}" for name in FUNCTIONS),
        f"npx cdk deploy -c StackName={OURS} -c Replaces={STOCK}",
    ]
    turn(account, "disable", STOCK)
    turn(account, "enable", OURS, (*FUNCTIONS, "PresenceConnected"))
    code, _, steps = asked(account)
    assert (code, len(steps)) == (0, 1)
    assert "the stock stack may go" in steps[0]


def both_hear(account):
    turn(account, "enable", OURS, (*FUNCTIONS, "PresenceConnected"))


def none_hears(account):
    turn(account, "disable", STOCK)


def half_turned(account):
    turn(account, "disable", STOCK, FUNCTIONS[:1])


def half_of_ours(account):
    turn(account, "disable", STOCK)
    turn(account, "enable", OURS)


def not_deployed(account):
    account.client("ssm").delete_parameter(Name=f"/certfleet/{OURS}")


def two_certificates(account):
    account.certificate("gateway-2")


def rotating(account):
    account.offline = {"gateway-1"}
    account.iot.create_job(
        jobId="by-hand", targets=[account.iot.describe_thing(thingName="gateway-1")["thingArn"]],
        document='{"operation":"ROTATE_CERTIFICATE"}',
    )  # fmt: skip
    account.cloud.jobs.start_next("gateway-1", {})


@pytest.mark.parametrize(
    ("happens", "line", "remedy"),
    [
        (both_hear, "who answers", f"aws iot disable-topic-rule --rule-name {STOCK}CreateCertificate"),
        (none_hears, "who answers", f"npx cdk deploy -c StackName={OURS} -c Replaces={STOCK}"),
        (half_turned, "who answers", f"aws iot enable-topic-rule --rule-name {STOCK}CreateCertificate"),
        (half_of_ours, "who answers", f"npx cdk deploy -c StackName={OURS} -c Replaces={STOCK}"),
        (not_deployed, "our backend", "RulesEnabled=false"),
        (two_certificates, "certificates", "certfleet explain"),
        (rotating, "rotations in progress", "ask again"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_nothing_changes_hands_while(account, happens, line, remedy):
    happens(account)
    code, verdicts, steps = asked(account)
    assert code == 2
    assert [what for what, verdict in verdicts.items() if verdict == "not ok"] == [line]
    assert steps == ["mend what is not ok, then ask again"]
    told = account.run("doctor", "--migrate").out
    assert "NOT OK" in told
    assert remedy in told


def test_one_name_cannot_serve_two_stacks(account):
    code, verdicts, _ = asked(account, "--to", STOCK)
    assert (code, verdicts["our backend"]) == (2, "not ok")


def test_an_account_that_cannot_be_read_is_named_and_is_an_error(account):
    told = account.run("doctor", "--migrate", "--fleet", "nobody")
    assert told.code == 1
