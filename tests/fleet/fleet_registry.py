"""An AWS account in memory, behind botocore's ``before-send`` event.

Requests and answers pass botocore's serialisers and parsers for real; only the wire is missing, so
tests and benchmarks run real clients, hooks and retries at the speed of function calls.
"""

# ruff: noqa: N802 (methods carry the names of AWS's APIs)
from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.awsrequest import AWSResponse
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.fleet.aws import new_session

ACCOUNT = "123456789012"
REGION = "eu-west-1"
EPOCH = datetime(2026, 11, 1, tzinfo=UTC)
AWS_IOT_ISSUER = "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"
LARGE = 10_000  # entries that are not put in order again for each page of a listing
STOCK_TEMPLATE = {"document": '{"operation":"ROTATE_CERTIFICATE"}', "description": "by the public solution"}

_DER = serialization.Encoding.DER


def full(short: str) -> str:
    """A certificate id as AWS demands it, from a short hexadecimal one that tests can read."""
    return short.ljust(64, "0")


def certificate_id_of(pem: str) -> str:
    """The id that AWS IoT gives a certificate: SHA-256 of its DER."""
    return hashlib.sha256(x509.load_pem_x509_certificate(pem.encode()).public_bytes(_DER)).hexdigest()


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


AWS_IOT_NAME = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, AWS_IOT_ISSUER)])


class Issuer:
    """A CA with a key of its own."""

    def __init__(self, issuer_name: x509.Name) -> None:
        self.name = issuer_name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self.certify(issuer_name, self.key.public_key())

    def certify(
        self,
        subject: x509.Name,
        public_key: Any,
        *,
        not_before: datetime = EPOCH,
        validity: timedelta = timedelta(days=365),
        digest: Any = None,
    ) -> str:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_before + validity)
        )
        certificate = builder.sign(self.key, digest or hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Fault:
    """An answer instead of the real one, for the next ``times`` calls of an API."""

    code: str
    status: int
    times: float
    message: str = "because the test says so"
    after: int = 0  # calls that succeed first


@dataclass
class Registry:
    """One account's state; tests change it directly between refreshes."""

    groups: dict[str, list[str]] = field(default_factory=dict)
    group_attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    thing_attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=lambda: {"PCA_CA_ARN": ""})  # of a stock backend's function
    certificates: dict[str, dict[str, Any]] = field(default_factory=dict)
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)  # certificate id → thing → type
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    authorities: dict[str, str] = field(default_factory=dict)  # ARN → PEM
    published: str | None = None  # what the backend says of itself
    presence: dict[str, dict[str, Any]] = field(default_factory=dict)  # of GetThingConnectivityData
    is_indexed: bool = False  # fleet indexing is off in a new account
    versions: dict[str, str] = field(default_factory=dict)  # of the component; "" where it is not installed
    account: str = ACCOUNT
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # thing → its latest rotation, as DynamoDB has it
    unprocessed: int = 0  # keys of each BatchGetItem that a throttled table leaves out
    faults: dict[str, Fault] = field(default_factory=dict)
    before: Callable[[str, dict[str, Any]], None] = lambda operation, parameters: None
    page_limit: int = 250
    cycles: dict[str, int] = field(default_factory=dict)  # operation → pages after which its tokens come again
    foreign: int = 0  # older certificates, and things that hold them, which are shown in listings only
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._in_order: dict[str, list[Any]] = {}
        self._by_thing: dict[str, dict[str, str]] = {}
        self._aws = Issuer(AWS_IOT_NAME)
        self._key = ec.generate_private_key(ec.SECP256R1()).public_key()
        self._pems: dict[Any, str] = {}

    # building

    def add_certificate(
        self,
        certificate_id: str,
        *things: str,
        pem: str | None = None,
        status: str = "ACTIVE",
        kind: str = "EXCLUSIVE_THING",
        created_at: datetime = EPOCH,
        **more: Any,
    ) -> None:
        certificate_id = full(certificate_id)
        self.certificates[certificate_id] = {
            "certificateId": certificate_id,
            "certificateArn": f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate_id}",
            "status": status,
            "creationDate": created_at.timestamp(),
            "certificateMode": "DEFAULT",
            "certificatePem": pem or self.aws_pem(),
            **more,
        }
        self.attachments[certificate_id] = {}
        for thing in things:
            self.attach(certificate_id, thing, kind)

    def rotate(
        self, thing: str, job_id: str, at: datetime, *, issuer: Issuer | None = None, authority: str = "aws-iot"
    ) -> str:
        """Replace what the thing holds as our backend does, with a record; returns the new certificate's id."""
        old = next(iter(self._by_thing[thing]))
        pem = (issuer or self._aws).certify(name(thing), self._key)
        new = certificate_id_of(pem)
        self.remove_certificate(old)
        self.add_certificate(new, thing, pem=pem, created_at=at, certificateMode="SNI_ONLY" if issuer else "DEFAULT")
        values = {
            "thingName": thing, "record": "current", "jobId": job_id, "authority": authority, "phase": "finished",
            "startedAt": at.isoformat(), "oldCertificateId": old, "newCertificateId": new, "outcome": "rotated",
            "certificatePem": pem,
        }  # fmt: skip
        self.records[thing] = {key: {"S": value} for key, value in values.items()}
        return new

    def aws_pem(self) -> str:
        if "aws" not in self._pems:
            self._pems["aws"] = self._aws.certify(name("device"), self._key)
        return self._pems["aws"]

    def attach(self, certificate_id: str, thing: str, kind: str = "EXCLUSIVE_THING") -> None:
        certificate_id = full(certificate_id)
        self.attachments[certificate_id][thing] = kind
        self._by_thing.setdefault(thing, {})[certificate_id] = kind

    def detach(self, certificate_id: str, thing: str) -> None:
        certificate_id = full(certificate_id)
        del self.attachments[certificate_id][thing]
        del self._by_thing[thing][certificate_id]

    def remove_certificate(self, certificate_id: str) -> None:
        certificate_id = full(certificate_id)
        for thing in list(self.attachments[certificate_id]):
            self.detach(certificate_id, thing)
        del self.certificates[certificate_id], self.attachments[certificate_id]

    def add_job(
        self,
        job_id: str,
        executions: dict[str, str],
        *,
        document: str = STOCK_TEMPLATE["document"],
        status: str = "IN_PROGRESS",
        created_at: datetime = EPOCH,
        reasons: dict[str, str] | None = None,
        details: dict[str, str] | None = None,
        numbers: dict[str, int] | None = None,
        **more: Any,
    ) -> None:
        self.jobs[job_id] = {
            "numbers": numbers or {},
            "document": document,
            "executions": executions,
            "reasons": reasons or {},
            "details": details or {},
            "summary": {"jobId": job_id, "status": status, "createdAt": created_at.timestamp(), **more},
        }

    # serving

    def new_session(self) -> Any:
        """A botocore session whose clients speak to this registry."""
        session = new_session()
        session.register("before-send", self._serve)
        return session

    def _serve(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        _, service, operation = event_name.split(".")
        parameters = _parameters(service, operation, request)
        self.before(operation, parameters)
        with self._lock:
            self.seen.append((operation, parameters))
            fault = self.faults.get(operation)
            if fault and fault.times > 0:
                if fault.after <= 0:
                    fault.times -= 1
                    return _error(request.url, service, fault.code, fault.status, fault.message)
                fault.after -= 1
            answer = getattr(self, f"_{service.replace('-', '_')}_{operation}")
            if operation in self.cycles:
                return self._without_end(answer, request.url, operation, parameters)
            return answer(request.url, parameters)

    def _without_end(self, answer: Any, url: str, operation: str, parameters: dict[str, Any]) -> AWSResponse:
        """The first page again and again, with tokens that come round."""
        asked = str(parameters.get("nextToken") or parameters.get("marker") or "-1")
        first = {name: value for name, value in parameters.items() if name not in {"nextToken", "marker"}}
        token = "nextMarker" if operation == "ListCertificates" else "nextToken"
        number = (int(asked) + 1) % self.cycles[operation]
        return _json(url, {**json.loads(answer(url, first).content), token: str(number)})

    def _sts_GetCallerIdentity(self, url: str, _: dict[str, Any]) -> AWSResponse:
        inner = f"<Account>{self.account}</Account><Arn>arn:aws:iam::{self.account}:user/t</Arn><UserId>U</UserId>"
        return _answer(url, 200, _xml("GetCallerIdentity", inner))

    def _sts_AssumeRole(self, url: str, _: dict[str, Any]) -> AWSResponse:
        expiry = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        inner = (
            "<Credentials><AccessKeyId>ASSUMED</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>t</SessionToken><Expiration>{expiry}</Expiration></Credentials>"
        )
        return _answer(url, 200, _xml("AssumeRole", inner))

    def _acm_pca_GetCertificateAuthorityCertificate(self, url: str, parameters: dict[str, Any]) -> AWSResponse:
        for arn, pem in self.authorities.items():
            if arn.encode() in parameters["body"]:
                return _json(url, {"Certificate": pem})
        return _error(url, "acm-pca", "ResourceNotFoundException", 400, "no such CA")

    def _lambda_GetFunctionConfiguration(self, url: str, parameters: dict[str, Any]) -> AWSResponse:
        return _json(url, {"FunctionName": "create", "Environment": {"Variables": self.variables}})

    def _dynamodb_BatchGetItem(self, url: str, parameters: dict[str, Any]) -> AWSResponse:
        [(table, asked)] = json.loads(parameters["body"])["RequestItems"].items()
        assert asked["ConsistentRead"], "a record may be younger than its copies"
        assert len(asked["Keys"]) <= 100
        left, keys = asked["Keys"][: self.unprocessed], asked["Keys"][self.unprocessed :]
        assert all(key["record"] == {"S": "current"} for key in keys)
        found = [self.records[key["thingName"]["S"]] for key in keys if key["thingName"]["S"] in self.records]
        unprocessed = {table: {"Keys": left, "ConsistentRead": True}} if left else {}
        return _json(url, {"Responses": {table: found}, "UnprocessedKeys": unprocessed})

    def _greengrassv2_ListEffectiveDeployments(self, url: str, parameters: dict[str, Any]) -> AWSResponse:
        return _json(url, {"effectiveDeployments": []})

    def _acm_pca_DescribeCertificateAuthority(self, url: str, parameters: dict[str, Any]) -> AWSResponse:
        if not any(arn.encode() in parameters["body"] for arn in self.authorities):
            return _error(url, "acm-pca", "ResourceNotFoundException", 400, "no such CA")
        configuration = {"KeyAlgorithm": "EC_prime256v1"}
        return _json(
            url, {"CertificateAuthority": {"Status": "ACTIVE", "CertificateAuthorityConfiguration": configuration}}
        )

    def _iot_DescribeThingGroup(self, url: str, p: dict[str, Any]) -> AWSResponse:
        group = p["thingGroupName"]
        if group not in self.groups:
            return _error(url, "iot", "ResourceNotFoundException", 404, f"no group {group}")
        found = {"thingGroupName": group, "thingGroupArn": f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/{group}"}
        payload = {"attributePayload": {"attributes": self.group_attributes.get(group, {})}}
        metadata = {"creationDate": EPOCH.timestamp()}
        return _json(url, {**found, "thingGroupProperties": payload, "thingGroupMetadata": metadata, "version": 1})

    def _iot_ListThingsInThingGroup(self, url: str, p: dict[str, Any]) -> AWSResponse:
        assert p["recursive"] == "true"
        if p["thingGroupName"] not in self.groups:
            return _error(url, "iot", "ResourceNotFoundException", 404, "no such group")
        return self._page(url, p, "things", self.groups[p["thingGroupName"]])

    def _iot_ListCertificates(self, url: str, p: dict[str, Any]) -> AWSResponse:
        keys = ("certificateArn", "certificateId", "status", "certificateMode", "creationDate")
        newest_first = self._sorted(
            "certificates", p.get("marker"), self.certificates.values(), lambda entry: -entry["creationDate"]
        )

        def shape(number: int) -> dict[str, Any]:
            entry = newest_first[number] if number < len(newest_first) else _foreign(number - len(newest_first))
            return {key: entry[key] for key in keys}

        entries = _Lazy(range(len(newest_first) + self.foreign), shape)
        page = {"maxResults": p.get("pageSize"), "nextToken": p.get("marker")}
        return self._page(url, page, "certificates", entries, token_field="nextMarker")

    def _iot_ListThings(self, url: str, p: dict[str, Any]) -> AWSResponse:
        things = {*self._by_thing, *(thing for things in self.groups.values() for thing in things)}
        names = self._sorted("things", p.get("nextToken"), things, None)

        def shape(number: int) -> dict[str, Any]:
            name = names[number] if number < len(names) else f"foreign-{number}"
            return {"thingName": name, "attributes": self.thing_attributes.get(name, {})}

        return self._page(url, p, "things", _Lazy(range(len(names) + self.foreign), shape))

    def _iot_DescribeCertificate(self, url: str, p: dict[str, Any]) -> AWSResponse:
        entry = self.certificates.get(p["certificateId"])
        if entry is None:
            return _error(url, "iot", "ResourceNotFoundException", 404, "no such certificate")
        return _json(url, {"certificateDescription": entry})

    def _iot_ListPrincipalThingsV2(self, url: str, p: dict[str, Any]) -> AWSResponse:
        certificate_id = p["principal"].rpartition("/")[2]
        if certificate_id not in self.attachments:
            return _error(url, "iot", "ResourceNotFoundException", 404, "no such principal")
        entries = [{"thingName": t, "thingPrincipalType": k} for t, k in self.attachments[certificate_id].items()]
        return self._page(url, p, "principalThingObjects", entries)

    def _iot_ListThingPrincipalsV2(self, url: str, p: dict[str, Any]) -> AWSResponse:
        thing = p["thingName"]
        held = self._by_thing.get(thing, {})
        if not held and not any(thing in things for things in self.groups.values()):
            return _error(url, "iot", "ResourceNotFoundException", 404, "no such thing")
        arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/"
        entries = [{"principal": arn + one, "thingPrincipalType": kind} for one, kind in held.items()]
        cognito = {"principal": f"{REGION}:4ae34b5b-identity", "thingPrincipalType": "NON_EXCLUSIVE_THING"}
        return self._page(url, p, "thingPrincipalObjects", [*entries, cognito])

    def _iot_ListJobs(self, url: str, p: dict[str, Any]) -> AWSResponse:
        jobs = [job["summary"] for job in self.jobs.values() if job["summary"]["status"] == p["status"]]
        return self._page(url, p, "jobs", sorted(jobs, key=lambda job: -job["createdAt"]))

    def _iot_GetJobDocument(self, url: str, p: dict[str, Any]) -> AWSResponse:
        return self._of_job(url, p, lambda job: {"document": job["document"]})

    def _iot_DescribeJob(self, url: str, p: dict[str, Any]) -> AWSResponse:
        target = f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/x"
        return self._of_job(url, p, lambda job: {"job": {**job["summary"], "targets": [target]}})

    def _iot_ListJobExecutionsForJob(self, url: str, p: dict[str, Any]) -> AWSResponse:
        if p["jobId"] not in self.jobs:
            return _error(url, "iot", "ResourceNotFoundException", 404, "no such job")
        job = self.jobs[p["jobId"]]
        at = job["summary"]["createdAt"] + 60
        entries = [
            {
                "thingArn": f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/{thing}",
                "jobExecutionSummary": {
                    "status": s,
                    "queuedAt": at,
                    "lastUpdatedAt": at,
                    "executionNumber": job["numbers"].get(thing, 1),
                    **({} if s in {"QUEUED", "CANCELED"} else {"startedAt": at}),
                },
            }
            for thing, s in job["executions"].items()
        ]
        return self._page(url, p, "executionSummaries", entries)

    def _iot_DescribeJobExecution(self, url: str, p: dict[str, Any]) -> AWSResponse:
        def answer(job: dict[str, Any]) -> dict[str, Any]:
            reason = job["reasons"].get(p["thingName"])
            details = {"detailsMap": {"DeviceFailureReason": reason, **job["details"]}} if reason else {}
            status = job["executions"][p["thingName"]]
            first = {"queuedAt": job["summary"]["createdAt"]} if p.get("executionNumber") == "1" else {}
            return {"execution": {"jobId": p["jobId"], "status": status, "statusDetails": details, **first}}

        return self._of_job(url, p, answer)

    def _iot_DescribeJobTemplate(self, url: str, p: dict[str, Any]) -> AWSResponse:
        template = self.templates.get(p["jobTemplateId"])
        if template is None:
            return _error(url, "iot", "ResourceNotFoundException", 404, "no such template")
        return _json(url, {"jobTemplateId": p["jobTemplateId"], **template})

    def _ssm_GetParameter(self, url: str, parameters: dict[str, Any]) -> AWSResponse:
        if self.published is None:
            return _error(url, "ssm", "ParameterNotFound", 400, "no such parameter")
        name = json.loads(parameters["body"])["Name"]
        return _json(url, {"Parameter": {"Name": name, "Type": "String", "Value": self.published}})

    def _iot_GetThingConnectivityData(self, url: str, p: dict[str, Any]) -> AWSResponse:
        return _json(url, {"thingName": p["thingName"], **self.presence.get(p["thingName"], {"connected": False})})

    def _iot_SearchIndex(self, url: str, p: dict[str, Any]) -> AWSResponse:
        if not self.is_indexed:
            return _error(url, "iot", "IndexNotReadyException", 400, "the index AWS_Things is not there")
        offline = [
            {"thingName": name, "connectivity": {**entry, "timestamp": int(entry.get("timestamp", 0) * 1000)}}
            for name, entry in sorted(self.presence.items())
            if not entry["connected"]
        ]
        return self._page(url, {**p, "maxResults": min(int(p["maxResults"]), 100)}, "things", offline)

    def _greengrassv2_ListInstalledComponents(self, url: str, p: dict[str, Any]) -> AWSResponse:
        thing = url.split("/coreDevices/")[1].partition("/")[0]
        if thing not in self.versions:
            return _error(url, "greengrassv2", "ResourceNotFoundException", 404, "no such core device")
        names = ("aws.greengrass.Nucleus", "aws.greengrass.labs.CertificateRotator")
        components = [{"componentName": one, "componentVersion": self.versions[thing]} for one in names]
        return _json(url, {"installedComponents": components[: 1 if self.versions[thing] == "" else 2]})

    def _of_job(self, url: str, p: dict[str, Any], answer: Callable[[dict[str, Any]], dict[str, Any]]) -> AWSResponse:
        job = self.jobs.get(p["jobId"])
        if job is None:
            return _error(url, "iot", "ResourceNotFoundException", 404, "no such job")
        return _json(url, answer(job))

    def _sorted(self, name: str, token: str | None, entries: Collection[Any], key: Any) -> list[Any]:
        """Entries in order; in a large account, in that of the first page."""
        kept = self._in_order.get(name, [])
        if token is None or len(kept) != len(entries) or len(kept) < LARGE:
            self._in_order[name] = kept = sorted(entries, key=key)
        return kept

    def _page(
        self, url: str, p: dict[str, Any], field_name: str, entries: Any, token_field: str = "nextToken"
    ) -> AWSResponse:
        if p.get("nextToken") == "stale":
            return _error(url, "iot", "InvalidRequestException", 400, "the token is not valid")
        start = int(p.get("nextToken") or 0)
        end = start + min(int(p["maxResults"]), self.page_limit)
        answer: dict[str, Any] = {field_name: list(entries[start:end])}
        if end < len(entries):
            answer[token_field] = str(end)
        return _json(url, answer)


def _foreign(number: int) -> dict[str, Any]:
    certificate_id = f"f{number:063x}"
    arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate_id}"
    created = EPOCH.timestamp() - 1e6 - number
    return {"certificateId": certificate_id, "certificateArn": arn, "status": "ACTIVE", "certificateMode": "DEFAULT",
            "creationDate": created}  # fmt: skip


class _Lazy:
    """A list whose entries are shaped only where a page shows them."""

    def __init__(self, entries: Any, shape: Callable[[Any], Any]) -> None:
        self._entries, self._shape = entries, shape

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, where: slice) -> Iterable[Any]:
        return map(self._shape, self._entries[where])


class _Raw:
    """A body as urllib3 hands it over."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterable[bytes]:
        yield self._body


_ROUTES: dict[str, tuple[re.Pattern[str], dict[str, str]]] = {}
_MODEL: list[Any] = []


def _parameters(service: str, operation: str, request: Any) -> dict[str, Any]:
    """What the client asked, read back from path, query and headers by botocore's model."""
    if service != "iot":
        body = request.body or b""
        return {"body": body if isinstance(body, bytes) else str(body).encode()}
    if operation not in _ROUTES:
        if not _MODEL:
            _MODEL.append(new_session().get_service_model("iot"))
        model = _MODEL[0].operation_model(operation)
        path = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", model.http["requestUri"])
        headers = {
            shape.serialization["name"]: member
            for member, shape in (model.input_shape.members if model.input_shape else {}).items()
            if shape.serialization.get("location") == "header"
        }
        _ROUTES[operation] = re.compile(path), headers
    pattern, headers = _ROUTES[operation]
    url = urlsplit(request.url)
    match = pattern.fullmatch(url.path)
    assert match, (operation, url.path)
    parameters: dict[str, Any] = {key: unquote(value) for key, value in match.groupdict().items()}
    parameters.update({key: values[0] for key, values in parse_qs(url.query).items()})
    for header, member in headers.items():
        value = request.headers[header]
        parameters[member] = value.decode() if isinstance(value, bytes) else value
    if operation == "SearchIndex":  # the one that asks in its body
        parameters |= json.loads(request.body)
    return parameters


def _answer(url: str, status: int, body: bytes, headers: dict[str, str] | None = None) -> AWSResponse:
    return AWSResponse(url, status, headers or {}, _Raw(body))


def _json(url: str, value: dict[str, Any]) -> AWSResponse:
    return _answer(url, 200, json.dumps(value).encode())


def _error(url: str, service: str, code: str, status: int, message: str) -> AWSResponse:
    if service == "sts":
        body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>".encode()
        return _answer(url, status, body)
    # REST services name the error in a header, the others in the body.
    body = json.dumps({"__type": code, "message": message}).encode()
    return _answer(url, status, body, {"x-amzn-errortype": code})


def _xml(operation: str, inner: str) -> bytes:
    result = f"<{operation}Result>{inner}</{operation}Result>"
    xml = f'<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{result}</{operation}Response>'
    return xml.encode()
