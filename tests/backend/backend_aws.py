"""An AWS in memory for the handlers: every request and every answer is checked against botocore's models.

Calls can be made to fail, one at a time, before or after they take effect. What a function calls without its role
in the template allowing it is noted.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from backend import synth
from backend.functions.csr import load_request
from protocol.names import BackendNames

ACCOUNT, REGION = "123456789012", "eu-west-1"
PREFIX = f"arn:aws:iot:{REGION}:{ACCOUNT}"
PLANT_CA = f"arn:aws:acm-pca:{REGION}:{ACCOUNT}:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
JOB = "certfleet-line-a-1"
VARIABLES = {
    "STACK_NAME": "AWSLabsCertificateRotator",
    "TABLE_NAME": "rotations",
    "SNS_TOPIC_ARN": f"arn:aws:sns:{REGION}:{ACCOUNT}:AWSLabsCertificateRotatorNotification",
    "IOT_DATA_ENDPOINT": "data.example",
    "IOT_JOBS_ENDPOINT": "jobs.example",
    "AUTHORITIES": json.dumps(
        {"plant-ca": {"arn": PLANT_CA, "signingAlgorithm": "SHA256WITHECDSA", "validitySeconds": 365 * 86_400}}
    ),
    "PCA_CA_ARN": "",
}
ITEM_BYTES = 400 * 1024  # of DynamoDB
CA_KEY = ec.generate_private_key(ec.SECP256R1())


@cache
def operations(service: str) -> dict[str, Any]:
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


def check(shape: Any, value: Any, what: str) -> None:
    if shape is None:
        assert not value, f"{what} answers nothing, found {value}"
        return
    report = ParamValidator().validate(value, shape)
    assert not report.has_errors(), f"{what}: {report.generate_report()}"


_seen: set[frozenset[str]] = set()


def without_known_items(message: dict[str, Any]) -> dict[str, Any]:
    """Without the table's items of whose members botocore has judged all before: that costs more than all else."""
    if "TransactItems" in message:
        puts = [{"Put": without_known_items(entry["Put"])} for entry in message["TransactItems"]]
        return {**message, "TransactItems": puts}
    members = frozenset(message.get("Item", ()))
    if members in _seen and members:
        return {**message, "Item": {}}
    _seen.add(members)
    return message


IAM_PREFIX = {"iot-data": "iot", "iot-jobs-data": "iotjobsdata"}
IAM_ACTION = {"dynamodb:TransactWriteItems": "dynamodb:PutItem"}  # of which it is made
denied: list[str] = []


@cache
def granted(function: str) -> set[str]:
    """The actions that the template allows a function."""
    found: set[str] = set()
    for name, resource in json.loads(synth.TEMPLATE.read_text())["Resources"].items():
        if resource["Type"] == "AWS::IAM::Policy" and name.startswith(function):
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                listed = statement["Action"]
                found |= {listed} if isinstance(listed, str) else set(listed)
    return found


def client_error(code: str, operation: str, status: int = 400, message: str | None = None) -> ClientError:
    said = {"Code": code, "Message": code if message is None else message}
    return ClientError({"Error": said, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


def subject(text: str = "AWS IoT Certificate") -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certify(public_key: Any, name: x509.Name, now: datetime) -> str:
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(subject("test CA"))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=365))
        .sign(CA_KEY, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def certificate_id(pem: str) -> str:
    return hashlib.sha256(
        x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)
    ).hexdigest()


def make_csr(key: Any, name: x509.Name | None = None, digest: Any = None, **signing: Any) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject() if name is None else name)
    return builder.sign(key, digest or hashes.SHA256(), **signing).public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Certificate:
    pem: str
    status: str
    created: datetime
    changed: datetime | None = None  # its status
    policies: list[str] = field(default_factory=list)
    things: dict[str, str] = field(default_factory=dict)


class KilledError(BaseException):
    """The function ends here, and nothing of it runs any more."""


@dataclass
class Fault:
    """Fails the n-th call from now (0: the next): before it takes effect, or after (a server's error, or no answer).

    ``kills``: it is the function itself that dies.
    """

    at: int
    code: str = "ThrottlingException"
    after: bool = False
    kills: bool = False

    def error(self, operation: str) -> BaseException:
        return KilledError() if self.kills else client_error(self.code, operation, 500 if self.after else 400)


class FakeAws:
    """State of one account, the calls made, and the fault to come."""

    def __init__(self) -> None:
        self.now = START
        self.certificates: dict[str, Certificate] = {}
        self.executions: dict[tuple[str, str], dict[str, Any]] = {}
        self.first_asked: dict[tuple[str, str], datetime] = {}  # by the first attempt of an execution that is repeated
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.pending_issues: dict[str, str] = {}
        self.pca_polls_needed = 0
        self.notices: list[str] = []
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.shadows: dict[str, dict[str, Any]] = {}
        self.streams: list[io.BytesIO] = []  # answers; one that is not closed keeps its connection
        self.stack = self.stack_before = VARIABLES["STACK_NAME"]
        self.calls: list[str] = []
        self.faults: list[Fault] = []
        self.before_call: dict[str, Any] = {}
        self.after_call: dict[str, Any] = {}
        self.before_each: Any = lambda: None
        self.is_presence_off = False
        self.page, self.batch = 250, 100
        self.keys_read = 0  # by batches
        self.things_page = 250
        self.force_delete_works = True
        self.acting: str | None = None  # the function that is running
        self.detaching = 0  # deletions that still meet a thing that was detached

    def client(self, service: str, _endpoint_url: str | None) -> FakeClient:
        return FakeClient(self, service)

    def tick(self, **by: float) -> None:
        self.now += timedelta(**(by or {"seconds": 1}))

    # iot

    def _certificate(self, identifier: str) -> Certificate:
        if identifier not in self.certificates:
            raise client_error("ResourceNotFoundException", "iot", 404)
        return self.certificates[identifier]

    def register(self, pem: str, status: str = "ACTIVE") -> str:
        identifier = certificate_id(pem)
        self.certificates[identifier] = Certificate(pem, status, self.now)
        return identifier

    def iot_create_certificate_from_csr(self, request):
        csr = load_request(request["certificateSigningRequest"])
        identifier = self.register(certify(csr.public_key(), csr.subject, self.now))
        return {
            "certificateArn": f"{PREFIX}:cert/{identifier}",
            "certificateId": identifier,
            "certificatePem": self.certificates[identifier].pem,
        }

    def iot_register_certificate_without_ca(self, request):
        identifier = self.register(request["certificatePem"], request["status"])
        return {"certificateArn": f"{PREFIX}:cert/{identifier}", "certificateId": identifier}

    def iot_describe_certificate(self, request):
        found = self._certificate(request["certificateId"])
        description = {
            "certificateArn": f"{PREFIX}:cert/{request['certificateId']}",
            "certificatePem": found.pem,
            "status": found.status,
            "creationDate": found.created,
            "lastModifiedDate": found.changed or found.created,
        }
        return {"certificateDescription": description}

    def iot_list_certificates(self, request):
        assert request["ascendingOrder"] is False
        ordered = sorted(self.certificates.items(), key=lambda item: item[1].created, reverse=True)
        start = int(request.get("marker", 0))
        end = start + self.page
        answer = {"certificates": [{"certificateId": i, "creationDate": c.created} for i, c in ordered[start:end]]}
        return {**answer, "nextMarker": str(end)} if end < len(ordered) else answer

    def iot_update_certificate(self, request):
        found = self._certificate(request["certificateId"])
        found.status, found.changed = request["newStatus"], self.now
        return {}

    def iot_get_topic_rule(self, request):
        assert request["ruleName"] == BackendNames(self.stack).presence_rule
        return {"rule": {"ruleName": request["ruleName"], "ruleDisabled": self.is_presence_off}}

    def iot_delete_certificate(self, request):
        found = self._certificate(request["certificateId"])
        blocked = found.status == "ACTIVE" or found.things or self.detaching > 0
        self.detaching -= 1
        if blocked or (found.policies and not (request.get("forceDelete") and self.force_delete_works)):
            raise client_error("DeleteConflictException", "DeleteCertificate", 409)
        del self.certificates[request["certificateId"]]
        return {}

    def iot_attach_policy(self, request):
        self._certificate(request["target"].rpartition("/")[2]).policies.append(request["policyName"])
        return {}

    def iot_detach_policy(self, request):
        self._certificate(request["target"].rpartition("/")[2]).policies.remove(request["policyName"])
        return {}

    def iot_list_attached_policies(self, request):
        names = self._certificate(request["target"].rpartition("/")[2]).policies
        start = int(request.get("marker", 0))
        end = start + self.page
        answer = {"policies": [{"policyName": name} for name in names[start:end]]}
        return {**answer, "nextMarker": str(end)} if end < len(names) else answer

    def iot_attach_thing_principal(self, request):
        found = self._certificate(request["principal"].rpartition("/")[2])
        found.things[request["thingName"]] = request["thingPrincipalType"]
        return {}

    def iot_detach_thing_principal(self, request):
        self._certificate(request["principal"].rpartition("/")[2]).things.pop(request["thingName"], None)
        return {}

    def iot_list_thing_principals_v2(self, request):
        thing = request["thingName"]
        return {
            "thingPrincipalObjects": [
                {"principal": f"{PREFIX}:cert/{i}", "thingPrincipalType": c.things[thing]}
                for i, c in self.certificates.items()
                if thing in c.things
            ]
        }

    def iot_list_principal_things_v2(self, request):
        things = self._certificate(request["principal"].rpartition("/")[2]).things
        listed = [{"thingName": name, "thingPrincipalType": kind} for name, kind in things.items()]
        start = int(request.get("nextToken", 0))
        end = start + self.things_page
        answer = {"principalThingObjects": listed[start:end]}
        return {**answer, "nextToken": str(end)} if end < len(listed) else answer

    def iot_describe_job_execution(self, request):
        """The control plane knows executions that have ended, too, and earlier attempts by their number."""
        key = (request["thingName"], request["jobId"])
        if key not in self.executions or ("executionNumber" in request and key not in self.first_asked):
            raise client_error("ResourceNotFoundException", "DescribeJobExecution", 404)
        if "executionNumber" in request:
            assert request["executionNumber"] == 1
            return {"execution": {"status": "FAILED", "queuedAt": self.first_asked[key]}}
        return {"execution": {"status": self.executions[key]["status"], "lastUpdatedAt": self.now}}

    def iot_get_job_document(self, request):
        found = [e for (_, job), e in self.executions.items() if job == request["jobId"]]
        if not found:
            raise client_error("ResourceNotFoundException", "GetJobDocument", 404)
        return {"document": found[0]["jobDocument"]}

    # the others

    def iot_jobs_data_describe_job_execution(self, request):
        assert request["includeJobDocument"] is True
        if (request["thingName"], request["jobId"]) not in self.executions:
            raise client_error("ResourceNotFoundException", "DescribeJobExecution", 404)
        execution = self.executions[request["thingName"], request["jobId"]]
        if execution["status"] not in ("QUEUED", "IN_PROGRESS"):
            raise client_error("TerminalStateException", "DescribeJobExecution", 410)
        return {"execution": execution}

    def iot_data_publish(self, request):
        assert request["qos"] == 0
        self.published.append((request["topic"], json.loads(request["payload"])))
        return {}

    def iot_data_get_thing_shadow(self, request):
        assert request["shadowName"] == self.stack_before
        if request["thingName"] not in self.shadows:
            raise client_error("ResourceNotFoundException", "GetThingShadow", 404)
        state = {"state": {"reported": self.shadows[request["thingName"]]}}
        self.streams.append(io.BytesIO(json.dumps(state).encode()))
        return {"payload": self.streams[-1]}

    def iot_data_update_thing_shadow(self, request):
        assert request["shadowName"] == self.stack
        self.shadows[request["thingName"]] = json.loads(request["payload"])["state"]["reported"]
        self.streams.append(io.BytesIO(request["payload"]))
        return {"payload": self.streams[-1]}

    def sns_publish(self, request):
        self.notices.append(request["Message"])
        return {"MessageId": "m"}

    def acm_pca_issue_certificate(self, request):
        assert request["CertificateAuthorityArn"] == PLANT_CA
        self.last_issue = request
        csr = x509.load_pem_x509_csr(request["Csr"])
        arn = f"{PLANT_CA}/certificate/{request['IdempotencyToken']}"
        self.pending_issues.setdefault(arn, certify(csr.public_key(), csr.subject, self.now))
        return {"CertificateArn": arn}

    def acm_pca_get_certificate(self, request):
        if self.pca_polls_needed > 0:
            self.pca_polls_needed -= 1
            raise client_error("RequestInProgressException", "GetCertificate")
        pem = self.pending_issues[request["CertificateArn"]]
        return {"Certificate": pem, "CertificateChain": pem * 4}  # as long as that of a CA of a CA of a CA

    def dynamodb_get_item(self, request):
        assert request["ConsistentRead"] is True
        item = self.items.get((request["Key"]["thingName"]["S"], request["Key"]["record"]["S"]))
        return {"Item": item} if item else {}

    def dynamodb_batch_get_item(self, request):
        """As many at once as the table keeps up with; what it leaves out stands in the answer."""
        [(name, wanted)] = request["RequestItems"].items()
        assert wanted["ConsistentRead"] is True
        read, left = wanted["Keys"][: self.batch], wanted["Keys"][self.batch :]
        self.keys_read += len(read)
        found = [self.items.get((key["thingName"]["S"], key["record"]["S"])) for key in read]
        answer = {"Responses": {name: [item for item in found if item]}, "UnprocessedKeys": {}}
        return {**answer, "UnprocessedKeys": {name: {**wanted, "Keys": left}}} if left else answer

    def dynamodb_query(self, request):
        assert request["KeyConditionExpression"] == "phase = :phase AND startedAt < :before"
        assert request["IndexName"] == "phase"
        wanted = request["ExpressionAttributeValues"]
        items = [
            {name: item[name] for name in ("thingName", "record", "phase", "startedAt")}
            for item in self.items.values()
            if item.get("phase") == wanted[":phase"] and item["startedAt"]["S"] < wanted[":before"]["S"]
        ]
        items.sort(key=lambda item: item["startedAt"]["S"])
        start = int(request.get("ExclusiveStartKey", {}).get("n", {"N": "0"})["N"])
        answer = {"Items": items[start : start + self.page]}
        end = start + self.page
        return {**answer, "LastEvaluatedKey": {"n": {"N": str(end)}}} if end < len(items) else answer

    def dynamodb_put_item(self, request):
        key = (request["Item"]["thingName"]["S"], request["Item"]["record"]["S"])
        found = self.items.get(key)
        if request.get("ConditionExpression") == "attribute_not_exists(thingName)":
            holds = found is None
        elif request.get("ConditionExpression") == "version = :read":
            holds = found is not None and found["version"] == request["ExpressionAttributeValues"][":read"]
        else:
            assert "ConditionExpression" not in request
            holds = True
        if not holds:
            raise client_error("ConditionalCheckFailedException", "PutItem")
        if len(json.dumps(request["Item"])) > ITEM_BYTES:
            raise client_error("ValidationException", "PutItem")
        self.items[key] = request["Item"]
        return {}

    def dynamodb_transact_write_items(self, request):
        before = dict(self.items)
        try:
            for entry in request["TransactItems"]:
                self.dynamodb_put_item(entry["Put"])
        except ClientError:
            self.items = before
            raise client_error("TransactionCanceledException", "TransactWriteItems") from None
        return {}


class FakeClient:
    """A boto3 client as the handlers see it."""

    def __init__(self, aws: FakeAws, service: str) -> None:
        self._aws = aws
        self._service = service

    def __getattr__(self, name: str) -> Any:
        operation = operations(self._service)[name]

        def call(**request: Any) -> Any:
            check(operation.input_shape, without_known_items(request), f"request of {operation.name}")
            aws = self._aws
            aws.calls.append(f"{self._service}:{operation.name}")
            action = f"{IAM_PREFIX.get(self._service, self._service)}:{operation.name}"
            if aws.acting and IAM_ACTION.get(action, action) not in granted(aws.acting):
                denied.append(f"{aws.acting} may not {action}")
            if hook := aws.before_call.pop(f"{self._service}:{operation.name}", None):
                hook()
            aws.before_each()
            fault = self._due_fault()
            if fault is not None and not fault.after:
                raise fault.error(operation.name)
            answer = getattr(aws, f"{self._service}_{name}".replace("-", "_"))(request)
            if hook := aws.after_call.pop(f"{self._service}:{operation.name}", None):
                hook()
            if fault is not None:
                raise fault.error(operation.name)
            check(operation.output_shape, without_known_items(answer), f"answer of {operation.name}")
            return answer

        return call

    def _due_fault(self) -> Fault | None:
        for fault in self._aws.faults:
            fault.at -= 1
        due = [fault for fault in self._aws.faults if fault.at < 0]
        self._aws.faults = [fault for fault in self._aws.faults if fault.at >= 0]
        return due[0] if due else None
