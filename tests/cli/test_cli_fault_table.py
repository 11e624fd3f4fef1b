"""Every operation of AWS that we use, under every fault that its answers may have: a table without an open field.

``pytest -rP`` prints it. What a field says is what was seen: ``again`` the answer was asked for again, and all was
well; ``named`` an error named the operation and what to do; ``without`` the run goes on without that answer;
``taken`` what came is good enough; ``–`` the fault does not exist for the operation.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from queue import Queue
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import shared_fault_proxy as faulty
from shared_fault_proxy import FaultProxy, error, first, is_listing
from shared_plant import Plant

from controller.aws_lambda import own_clients
from controller.commands.history import history_at
from controller.errors import FleetError
from controller.fleet import ActAs, AwsSession
from controller.fleet.authorities import fetch_issuer
from controller.fleet.aws_answers import MEMBERS
from controller.fleet.backend import is_stock_backend
from controller.fleet.baseline import RECORD_GROUP
from controller.fleet.discovery import private_authorities
from controller.fleet.kms_signature import KmsKey
from controller.fleet.reading import read_principals
from controller.fleet.rotation_table import read_current, read_records
from controller.heal import HealingRegistry
from controller.jobs import IotJobs
from controller.lambda_reconcile.bucket import Bucket
from controller.lambda_reconcile.notices import Notices
from controller.lambda_reconcile.step_functions import StepFunctions
from controller.reconcile.values import CertificateAuthority, CertificateStatus, Fleet, Source
from controller.report.attention import Attention
from protocol.names import COMPONENT_NAME
from protocol.watch import Watch, key_of

CA = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/00000000-0000-0000-0000-000000000001"
FLEET = Fleet("plant", "123456789012", "eu-west-1", Source("fleet.yaml", 1))
OPTIONAL = {
    "DescribeComponent", "GetServiceQuota", "GetThingConnectivityData", "ListInstalledComponents", "SearchIndex",
}  # fmt: skip
COMPONENT = f"arn:aws:greengrass:eu-west-1:123456789012:components:{COMPONENT_NAME}:versions:1.0.0"
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:asks"
THING = {"coreDeviceThingName": "a-1", "topologyFilter": "ALL", "maxResults": 100}
DOCUMENT = json.dumps({"operation": "ROTATE_CERTIFICATE"})


class Session:
    """One session, and what is built on it."""

    def __init__(self, fleet: Fleet = FLEET, **settings: Any) -> None:
        self.aws = AwsSession(fleet, ActAs.WRITER, quota_factor=1e6, sleep=lambda _: None, **settings)
        self.aws.verify()
        self.iot = IotJobs(self.aws, workers=1)
        self.registry = HealingRegistry(self.aws, "watches", lambda _: None)
        self.of_the_function = own_clients(**like(self))

    def arn(self) -> str:
        (one,) = read_principals(self.aws, "a-1") or ()
        return f"arn:aws:iot:eu-west-1:123456789012:cert/{one[0]}"


def like(session: Session) -> dict[str, Any]:
    """Settings of another session with the same patience."""
    retries, timeout = session.aws._config.retries, session.aws._config.read_timeout
    return {"attempts": retries["total_max_attempts"], "read_timeout": timeout}


Use = Callable[[Session, str], Any]
"""What makes the product call an operation; the text is another one for each field of the table."""

USES: dict[str, Use] = {
    "DescribeEventConfigurations": lambda s, _: s.aws.call("iot", "DescribeEventConfigurations"),
    "GetTopicRule": lambda s, _: s.aws.call("iot", "GetTopicRule", ruleName="heard"),
    "GetQueueAttributes": lambda s, _: s.aws.call(
        "sqs", "GetQueueAttributes", QueueUrl=f"{s.aws.client('sqs').meta.endpoint_url}/123456789012/given-up"
    ),
    "TestAuthorization": lambda s, _: s.aws.call(
        "iot",
        "TestAuthorization",
        principal=s.arn(),
        authInfos=[{"actionType": "CONNECT", "resources": [s.aws.arn("client/a-1")]}],
    ),
    "ListPolicies": lambda s, _: list(s.aws.pages("ListPolicies")),
    "ListTargetsForPolicy": lambda s, _: list(s.aws.pages("ListTargetsForPolicy", policyName="rotates")),
    "ListAttachedPolicies": lambda s, _: s.aws.find_all("ListAttachedPolicies", "policies", target=s.arn()),
    "BatchGetItem": lambda s, _: read_current(s.aws, "watches", ["a-1"]),
    "GetItem": lambda s, _: s.registry.watch("unwatched"),
    "Query": lambda s, _: read_records(s.aws, "watches", "a-1"),
    "Scan": lambda s, _: read_records(s.aws, "watches"),
    "PutItem": lambda s, name: s.registry.save(Watch(name, "", NOW)),
    "DeleteItem": lambda s, _: s.aws.call("dynamodb", "DeleteItem", TableName="watches", Key=ITEM),
    "DeleteConnection": lambda s, _: s.aws.find("iot-data", "DeleteConnection", clientId="a-1", cleanSession=True),
    "ListJobExecutionsForThing": lambda s, _: s.aws.find_all(
        "ListJobExecutionsForThing", "executionSummaries", thingName="a-1"
    ),
    "CancelJobExecution": lambda s, _: s.registry.cancel("a-1", "standing"),
    "UpdateCertificate": lambda s, _: s.registry.set_status(s.arn()[-64:], CertificateStatus.ACTIVE),
    "DetachPolicy": lambda s, _: s.aws.call("iot", "DetachPolicy", policyName="rotates", target=s.arn()),
    "DetachThingPrincipal": lambda s, _: s.aws.call(
        "iot", "DetachThingPrincipal", thingName="offline", principal=s.arn()
    ),
    "DeleteCertificate": lambda s, _: s.aws.find("iot", "DeleteCertificate", certificateId="0" * 64),
    "GetCallerIdentity": lambda s, _: Session(**like(s)),
    "AssumeRole": lambda s, _: Session(replace(FLEET, role_arn="arn:aws:iam::123456789012:role/r"), **like(s)),
    "DescribeThingGroup": lambda s, _: s.iot.group_attributes(RECORD_GROUP),
    "ListThingsInThingGroup": lambda s, _: s.iot.group_members("line-a"),
    "ListThings": lambda s, _: [page["things"] for page in s.aws.pages("ListThings")],
    "ListTopicRules": lambda s, _: list(s.aws.pages("ListTopicRules")),
    "GetServiceQuota": lambda s, _: s.aws.ask(
        "service-quotas", "GetServiceQuota", ServiceCode="vpc", QuotaCode="L-F678F1CE"
    ),
    "ListThingGroups": lambda s, _: list(s.iot.groups_named("line")),
    "ListCertificates": lambda s, _: s.iot.active_certificates(),
    "DescribeCertificate": lambda s, _: s.aws.call("iot", "DescribeCertificate", certificateId=s.arn()[-64:]),
    "ListPrincipalThingsV2": lambda s, _: s.aws.find_all(
        "ListPrincipalThingsV2", "principalThingObjects", principal=s.arn()
    ),
    "ListThingPrincipalsV2": lambda s, _: s.iot.certificates("a-1"),
    "SearchIndex": lambda s, _: s.aws.ask("iot", "SearchIndex", queryString="connectivity.connected:false"),
    "GetThingConnectivityData": lambda s, _: s.aws.ask("iot", "GetThingConnectivityData", thingName="a-1"),
    "ListInstalledComponents": lambda s, _: s.aws.ask("greengrassv2", "ListInstalledComponents", **THING),
    "DescribeComponent": lambda s, _: s.aws.ask("greengrassv2", "DescribeComponent", arn=COMPONENT),
    "CreateThingGroup": lambda s, name: s.iot.make_group(name, "made by a test", {}),
    "UpdateThingGroup": lambda s, _: s.aws.call("iot", "UpdateThingGroup", thingGroupName="line-b", **PROPERTIES),
    "DeleteThingGroup": lambda s, name: s.iot.delete_group(name),
    "AddThingToThingGroup": lambda s, _: s.iot.add_to_group("line-b", "a-1"),
    "RemoveThingFromThingGroup": lambda s, _: s.iot.remove_from_group("line-b", "a-1"),
    "DescribeJobTemplate": lambda s, _: is_stock_backend(s.aws),
    "ListJobs": lambda s, _: [page["jobs"] for page in s.aws.pages("ListJobs", status="IN_PROGRESS")],
    "GetJobDocument": lambda s, _: s.iot.job_document("standing"),
    "DescribeJob": lambda s, _: s.iot.job("standing"),
    "DescribeJobExecution": lambda s, _: s.iot.failure_reason("standing", "offline"),
    "ListJobExecutionsForJob": lambda s, _: list(s.iot.executions("standing")),
    "CreateJob": lambda s, name: s.iot.create_job(job(name)),
    "CancelJob": lambda s, name: (s.iot.create_job(job(name)), s.iot.cancel_job(name, "by a test")),
    "ListCertificateAuthorities": lambda s, _: private_authorities(s.aws),
    "GetCertificateAuthorityCertificate": lambda s, _: fetch_issuer(
        s.aws, CertificateAuthority("plant-ca", FLEET.source, CA)
    )[1],
    "DescribeCertificateAuthority": lambda s, _: s.aws.call(
        "acm-pca", "DescribeCertificateAuthority", CertificateAuthorityArn=CA
    ),
    "ListEffectiveDeployments": lambda s, _: list(
        s.aws.pages("ListEffectiveDeployments", service="greengrassv2", coreDeviceThingName="a-1", maxResults=100)
    ),
    "GetDeployment": lambda s, _: s.aws.call("greengrassv2", "GetDeployment", deploymentId=DEPLOYMENT[0]),
    "GetFunctionConfiguration": lambda s, _: s.aws.call("lambda", "GetFunctionConfiguration", FunctionName="create"),
    "GetParameter": lambda s, _: s.aws.call("ssm", "GetParameter", Name="/certfleet/test"),
    "ListObjectsV2": lambda s, _: history_at("s3://trend/x", s.aws).names("plant"),
    "GetObject": lambda s, _: history_at("s3://trend/x", s.aws).read("plant", "20261121T060000Z.json"),
    "Publish": lambda s, name: notices(s).tell(Attention(name, ("x",), ("x",))),
    "StartExecution": lambda s, name: machines(s).start(MACHINE, sha256(name.encode()).hexdigest(), {}),
    "SendTaskSuccess": lambda s, _: machines(s).succeed(token_of_a_task_that_waits(), {}),
    "Sign": lambda s, _: KmsKey(s.aws.client("kms"), KEY).sign(DIGEST),
    "Verify": lambda s, _: KmsKey(s.of_the_function("kms"), KEY).verify(DIGEST, b"of nobody"),
    "PutObject": lambda s, _: history_at("s3://trend/x", s.aws).write("plant", "20261121T060000Z.json", "{}"),
}
DEPLOYMENT: list[str] = []
NOW = datetime(2026, 12, 1, tzinfo=UTC)
ITEM = {name: {"S": value} for name, value in key_of("x").items()}
PROPERTIES = {"thingGroupProperties": {"thingGroupDescription": "of a test"}}


KEY, DIGEST = "alias/bundles", b"x" * 32


def notices(session: Session) -> Notices:
    made = session.of_the_function
    topic = "arn:aws:sns:eu-west-1:123456789012:people"
    return Notices(Bucket(made("s3"), "trend"), "reconcile/", made("sns"), topic, lambda _: None)


def machines(session: Session) -> StepFunctions:
    return StepFunctions(session.of_the_function("stepfunctions"))


TOKENS: Queue[str] = Queue()
TASKS: list[Callable[[], Any]] = []  # the last one begins a task


def token_of_a_task_that_waits() -> str:
    while not TOKENS.empty():  # of the executions that StartExecution has started
        TOKENS.get()
    TASKS[-1]()
    return TOKENS.get(timeout=60)


def job(name: str) -> dict[str, Any]:
    return {"jobId": name, "targets": ["arn:aws:iot:eu-west-1:123456789012:thing/offline"], "document": DOCUMENT}


FAULTS: dict[str, faulty.Fault] = {
    "cut": faulty.cut,
    "cut in a chunk": faulty.cut_chunked,
    "cut unnoticed": faulty.cut_unnoticed,
    "HTML": faulty.html,
    "empty": faulty.empty,
    "no object": faulty.not_an_object,
    "bare object": faulty.bare_object,
    "500": error(500, "InternalFailureException"),
    "503": error(503, "ServiceUnavailableException"),
    "clock skew": faulty.skewed,
    "repeated token": faulty.repeated_token,
    "cyclic token": faulty.cyclic_token,
    "unheard-of values": faulty.unknown_values,
    "429": error(429, "ThrottlingException"),  # after which botocore slows the client down
    "stall": faulty.stall,
}
NEVER_WELL = {"clock skew", "repeated token", "cyclic token", "stall"}  # asking again does not help
OF_JSON = {"unheard-of values", "repeated token", "cyclic token", "no object", "bare object"}
IN_XML = {"GetCallerIdentity", "AssumeRole", "Publish", "ListObjectsV2", "GetObject", "PutObject"}
DONE_BY_THE_FIRST = {"CreateJob", "CancelJob", "DeleteItem"}  # attempt, whose answer was lost: the second finds it done
WITHOUT_A_BODY = {"UpdateCertificate", "DetachPolicy"}  # of which nothing can be cut
NO_MEMBERS = {operation for operation, members in MEMBERS.items() if all("?" in member for member in members)}


@pytest.fixture(scope="module")
def surroundings_of_all():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "sandbox")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _seconds: None))  # between attempts
        yield patch


@pytest.fixture(scope="module")
def plant(surroundings_of_all):
    """An account in which every operation has something to answer."""
    made = Plant()
    made.offline |= {"a-1", "offline"}
    made.device("a-1")
    made.device("offline")
    made.cloud.seed.group("line-b")
    made.cloud.seed.private_ca(CA)
    made.iot.create_thing_group(
        thingGroupName=RECORD_GROUP, thingGroupProperties={"attributePayload": {"attributes": {"groups-1": "line-a/2"}}}
    )
    made.iot.create_job(**job("standing"))
    made.iot.create_job(**job("standing-2") | {"targets": ["arn:aws:iot:eu-west-1:123456789012:thing/a-1"]})
    made.cloud.deployments.report_device("a-1", ())
    recipe = {"ComponentName": COMPONENT_NAME, "ComponentVersion": "1.0.0"}
    made.client("greengrassv2").create_component_version(inlineRecipe=json.dumps(recipe))
    target = "arn:aws:iot:eu-west-1:123456789012:thing/a-1"
    DEPLOYMENT.append(made.client("greengrassv2").create_deployment(targetArn=target)["deploymentId"])
    made.cloud.functions.register("create", lambda event, _environment: event, {"PCA_CA_ARN": ""})
    made.client("ssm").put_parameter(Name="/certfleet/test", Value="{}", Type="String")
    made.client("sns").create_topic(Name="people")
    made.client("sqs").create_queue(QueueName="given-up")
    asks = made.cloud.functions.register("asks", lambda event, _: TOKENS.put(event["token"]), {})
    states = made.client("stepfunctions")
    asking = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
        "Parameters": {"FunctionName": asks, "Payload": {"token.$": "$$.Task.Token"}},
        "End": True,
    }
    states.create_state_machine(
        name="asks",
        definition=json.dumps({"StartAt": "Ask", "States": {"Ask": asking}}),
        roleArn="arn:aws:iam::123456789012:role/states",
    )
    TASKS.append(lambda: states.start_execution(stateMachineArn=MACHINE, name=uuid4().hex))
    made.cloud.seed.policy("rotates", '{"Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}')
    made.client("dynamodb").create_table(
        TableName="watches", BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "thingName", "KeyType": "HASH"}, {"AttributeName": "record", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("thingName", "record")],
    )  # fmt: skip
    made.iot.create_topic_rule(ruleName="heard", topicRulePayload={"sql": "SELECT * FROM 'a'", "actions": []})
    kms = made.client("kms")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName=KEY, TargetKeyId=key)
    s3 = made.client("s3")
    s3.create_bucket(Bucket="trend", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    s3.put_object(Bucket="trend", Key="x/plant/20261121T060000Z.json", Body=b"{}" * 100)
    yield made
    made.close()


@pytest.fixture(scope="module")
def proxy(plant, surroundings_of_all):
    with FaultProxy(plant.cloud.endpoint_url) as proxy:
        for name, value in plant.cloud.environment().items():
            surroundings_of_all.setenv(name, value)
        surroundings_of_all.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def exists(operation: str, fault: str) -> bool:
    if "token" in fault:
        return is_listing(operation) and operation not in IN_XML and operation not in OPTIONAL
    if operation in IN_XML:
        return fault not in OF_JSON and not (operation == "PutObject" and "cut" in fault)
    if operation in NO_MEMBERS and fault in {"cut", "cut in a chunk", "cut unnoticed"}:
        return fault != "cut unnoticed"
    return True


def attempt(session: Session, operation: str, name: str) -> str:
    try:
        USES[operation](session, name)
    except FleetError as raised:
        return "named" if operation in str(raised) and raised.remedy else f"open: {raised}"
    return "well"


def end_of(proxy: FaultProxy, session: Session, operation: str, fault: str) -> str:
    """What becomes of one use of an operation under a fault, once passing and once lasting."""
    proxy.calls.clear()
    name = f"t-{operation}-{fault}".replace(" ", "-")
    proxy.faults = {operation: first(1, FAULTS[fault])}
    passing = attempt(session, operation, f"{name}-1")
    was_asked_again = proxy.calls[operation] > 1
    proxy.faults = {operation: FAULTS[fault]}
    lasting = attempt(session, operation, f"{name}-2")
    proxy.faults = {}
    if operation in OPTIONAL:
        session.aws._unanswering.clear()
        return "without" if (passing, lasting) == ("well", "well") else "open"
    ends = {
        ("well", "well", False): "taken",
        ("well", "well", True): "again" if operation in DONE_BY_THE_FIRST else "open",
        ("well", "named", True): "again",
        ("named", "named", False): "named",
        ("named", "named", True): "named",
    }
    return ends.get((passing, lasting, was_asked_again), "open")


def stalled(proxy: FaultProxy) -> dict[str, str]:
    """Every operation held back at once: each ends by its own patience."""
    session = Session(attempts=1, read_timeout=4.0)
    for service in ("iot", "acm-pca", "ssm", "s3", "greengrassv2", "lambda", "service-quotas"):
        session.aws.client(service)
    ends: dict[str, str] = {}
    by_themselves = {"ListThingPrincipalsV2", "CreateJob", "DescribeJob", "Publish"}  # other calls stand around them
    for operations in (set(USES) - by_themselves, by_themselves):
        proxy.faults = dict.fromkeys(operations, faulty.stall)
        with ThreadPoolExecutor(len(operations)) as pool:
            found = {operation: pool.submit(attempt, session, operation, "standing-3") for operation in operations}
            ends |= {operation: future.result() for operation, future in found.items()}
    proxy.faults = {}
    return {op: "without" if op in OPTIONAL and end == "well" else end for op, end in ends.items()}


def test_the_table_has_a_row_for_every_operation_that_we_use():
    assert set(USES) == set(MEMBERS)


def test_every_operation_under_every_fault_comes_to_a_right_end(proxy):
    held = stalled(proxy)
    table: dict[str, dict[str, str]] = {}
    for operation, use in USES.items():
        session = Session(attempts=2)  # botocore allows one client so many attempts, and no more
        use(session, f"t-{operation}")  # all is well at first
        ends = {
            f: end_of(proxy, session, operation, f) if exists(operation, f) else "–" for f in FAULTS if f != "stall"
        }
        table[operation] = ends | {"stall": held[operation]}
    width = max(map(len, USES))
    rows = [["", *FAULTS]] + [[operation, *ends.values()] for operation, ends in table.items()]
    for first_column, *others in rows:
        sys.stdout.write(f"{first_column:<{width}}{''.join(f'{each:>18}' for each in others)}\n")
    assert [(o, f) for o, ends in table.items() for f, end in ends.items() if end == "open"] == []
    wrong = [
        (operation, fault, end)
        for operation, ends in table.items()
        for fault, end in ends.items()
        if operation not in OPTIONAL and end != "–"
        if end not in right_ends(operation, fault)
    ]
    assert wrong == []


def right_ends(operation: str, fault: str) -> set[str]:
    if fault in NEVER_WELL:
        return {"named", "again"} if operation in IN_XML else {"named"}
    if (operation, fault) == ("GetObject", "cut unnoticed"):
        return {"taken"}  # a stream of no stated length has no end that could be missed; its reader parses it
    if fault == "unheard-of values" or (operation in WITHOUT_A_BODY and "cut" in fault):
        return {"taken"}
    if fault in {"empty", "bare object"} and operation in NO_MEMBERS | {"PutObject", "GetObject"}:
        return {"taken", "again"}
    return {"again"}
