"""AWS is reached through one door: the right account, at the right rate, with errors that say what to do."""

from __future__ import annotations

from io import BytesIO
from urllib.parse import parse_qs

import botocore.exceptions as boto
import pytest
from fleet_registry import ACCOUNT, Fault, Registry, full

from controller.errors import ExitCode, FleetError
from controller.fleet import ActAs, AwsCallError, AwsSession, refresh
from controller.fleet.aws_errors import explain

ROLE = f"arn:aws:iam::{ACCOUNT}:role/certfleet-reconcile"
READ_ROLE = f"arn:aws:iam::{ACCOUNT}:role/certfleet-read"


def test_credentials_of_another_account_are_refused_before_anything_is_read(
    registry, make_session, make_desired, inventory, now
):
    registry.account = "999999999999"
    with pytest.raises(FleetError) as raised:
        refresh(make_session(registry), inventory, make_desired("line-a"), now)

    message = str(raised.value)
    assert "is account 123456789012 in eu-west-1" in message
    assert "belong to account 999999999999" in message
    assert "fleet/fleet.yaml:5" in message
    assert "123456789012" in raised.value.remedy
    assert raised.value.exit_code is ExitCode.ERROR
    assert [operation for operation, _ in registry.seen] == ["GetCallerIdentity"]


def test_no_client_is_handed_out_for_another_account(registry, make_session):
    registry.account = "999999999999"
    with pytest.raises(FleetError, match="999999999999"):
        make_session(registry).client("iot")


def test_account_is_asked_for_once(registry, make_session):
    session = make_session(registry)
    session.client("iot")
    session.client("acm-pca")
    session.verify()
    assert session.calls == {"GetCallerIdentity": 1}


def test_role_of_another_account_is_refused_without_any_call(registry, make_session, make_desired):
    fleet = make_desired("line-a", role_arn="arn:aws:iam::999999999999:role/r").fleet
    with pytest.raises(FleetError, match=r"spec\.roleArn names account 999999999999"):
        make_session(registry, fleet=fleet)
    fleet = make_desired("line-a", read_role_arn="arn:aws:iam::999999999999:role/r").fleet
    with pytest.raises(FleetError, match=r"spec\.readRoleArn names account 999999999999"):
        make_session(registry, fleet=fleet)
    assert registry.seen == []


def test_role_is_assumed_before_the_account_is_proven(registry, make_session, make_desired):
    fleet = make_desired("line-a", role_arn=ROLE).fleet
    signed_by: list[str] = []
    session = make_session(registry, fleet=fleet)
    session._session.register(
        "before-send", lambda request, **_: signed_by.append(str(request.headers["Authorization"]))
    )
    session.call("iot", "DescribeCertificate", certificateId=full("c1"))

    assert [operation for operation, _ in registry.seen] == ["AssumeRole", "GetCallerIdentity", "DescribeCertificate"]
    assert b"certfleet-reconcile" in registry.seen[0][1]["body"]
    assert all("Credential=ASSUMED/" in header for header in signed_by)
    assert session.calls["AssumeRole"] == 1


ROLES = {
    # the Fleet document's roles, as whom: the role that is assumed
    "a reader with a role of its own": ({"role_arn": ROLE, "read_role_arn": READ_ROLE}, ActAs.READER, READ_ROLE),
    "a reader without one": ({"role_arn": ROLE}, ActAs.READER, ROLE),
    "a reader where nobody writes by a role": ({"read_role_arn": READ_ROLE}, ActAs.READER, READ_ROLE),
    "a writer": ({"role_arn": ROLE, "read_role_arn": READ_ROLE}, ActAs.WRITER, ROLE),
    "a writer who never takes the reader's": ({"read_role_arn": READ_ROLE}, ActAs.WRITER, None),
    "the caller": ({"role_arn": ROLE, "read_role_arn": READ_ROLE}, ActAs.CALLER, None),
    "a fleet without roles": ({}, ActAs.READER, None),
}


@pytest.mark.parametrize(("roles", "act_as", "expected"), ROLES.values(), ids=ROLES)
def test_who_assumes_which_role(registry, make_session, make_desired, roles, act_as, expected):
    session = make_session(registry, fleet=make_desired("line-a", **roles).fleet, act_as=act_as)
    session.call("iot", "DescribeCertificate", certificateId=full("c1"))
    assumed = [parse_qs(sent["body"].decode())["RoleArn"] for name, sent in registry.seen if name == "AssumeRole"]
    assert assumed == ([[expected]] if expected else [])


def test_a_reader_makes_no_call_that_may_change_something(registry, make_session):
    client = make_session(registry).client("iot")
    with pytest.raises(RuntimeError, match="CancelJob may change something, and this session is for reading"):
        client.cancel_job(jobId="cf-line-a-w1-0")
    assert [operation for operation, _ in registry.seen] == ["GetCallerIdentity"]


def test_the_caller_may_be_of_any_account_and_errors_say_so(registry, make_session):
    registry.account = "999999999999"
    registry.faults["DescribeCertificate"] = Fault("AccessDeniedException", 403, times=9)
    session = make_session(registry, act_as=ActAs.CALLER)
    with pytest.raises(AwsCallError, match="in the caller's own account, region eu-west-1 is denied"):
        session.call("iot", "DescribeCertificate", certificateId=full("c1"))
    assert "GetCallerIdentity" not in session.calls


def test_role_that_may_not_be_assumed_names_the_action(registry, make_session, make_desired):
    registry.faults["AssumeRole"] = Fault("AccessDenied", 403, times=9, message="not authorized")
    fleet = make_desired("line-a", role_arn=ROLE).fleet
    with pytest.raises(FleetError, match=r"access to sts:AssumeRole .* is denied") as raised:
        make_session(registry, fleet=fleet).client("iot")
    assert "sts:AssumeRole" in raised.value.remedy
    assert "readRoleArn" in raised.value.remedy


@pytest.mark.parametrize("role_arn", [None, ROLE], ids=["own credentials", "as source of a role"])
def test_no_credentials_at_all_says_how_to_get_some(registry, make_session, make_desired, monkeypatch, role_arn):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fleet = make_desired("line-a", role_arn=role_arn).fleet
    with pytest.raises(FleetError, match="no usable AWS credentials") as raised:
        make_session(registry, fleet=fleet).client("iot")
    assert "AWS_PROFILE" in raised.value.remedy


@pytest.mark.parametrize("role_arn", [None, ROLE], ids=["own credentials", "as source of a role"])
def test_unknown_profile_is_named(registry, make_session, make_desired, monkeypatch, role_arn):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    fleet = make_desired("line-a", role_arn=role_arn).fleet
    with pytest.raises(FleetError, match="nobody"):
        make_session(registry, fleet=fleet).client("iot")


@pytest.mark.parametrize("role_arn", [None, ROLE], ids=["own credentials", "as source of a role"])
def test_helper_that_yields_no_credentials_says_so(
    registry, make_session, make_desired, monkeypatch, tmp_path, role_arn
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text("[default]\ncredential_process = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    fleet = make_desired("line-a", role_arn=role_arn).fleet
    with pytest.raises(FleetError, match="no usable AWS credentials"):
        make_session(registry, fleet=fleet).client("iot")


def test_no_network_is_said_with_a_remedy(make_desired, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    session = AwsSession(make_desired("line-a").fleet, ActAs.READER, attempts=1)
    with pytest.raises(FleetError, match="could not be reached") as raised:
        session.client("iot")
    assert "AWS_ENDPOINT_URL" in raised.value.remedy
    assert isinstance(raised.value, AwsCallError)
    assert raised.value.code == "EndpointConnectionError"


def test_region_that_makes_no_endpoint_is_an_error_with_a_remedy(registry, make_session, make_desired):
    desired = make_desired("line-a")
    fleet = type(desired.fleet)("test", ACCOUNT, "not a region", desired.fleet.source)
    with pytest.raises(FleetError, match="not a region"):
        make_session(registry, fleet=fleet).client("iot")


@pytest.mark.parametrize(
    ("code", "status", "says", "remedy"),
    [
        ("AccessDeniedException", 403, "access to iot:DescribeCertificate", "allow iot:DescribeCertificate"),
        ("UnauthorizedException", 401, "access to iot:DescribeCertificate", "allow iot:DescribeCertificate"),
        ("ExpiredTokenException", 403, "have expired", "goes on where it stopped"),
        ("UnrecognizedClientException", 403, "does not accept the credentials", "clock"),
        ("ThrottlingException", 429, "throttled DescribeCertificate", "goes on where it stopped"),
        ("InvalidRequestException", 400, "failed: InvalidRequestException", "documentation"),
        ("InternalFailureException", 500, "failed: InternalFailureException", "run again"),
    ],
)
def test_each_refusal_says_what_and_what_to_do(registry, make_session, code, status, says, remedy):
    registry.faults["DescribeCertificate"] = Fault(code, status, times=9)
    with pytest.raises(AwsCallError, match=says) as raised:
        make_session(registry, attempts=1).call("iot", "DescribeCertificate", certificateId=full("c1"))
    assert remedy in raised.value.remedy
    assert raised.value.operation == "DescribeCertificate"
    assert raised.value.code == code
    assert raised.value.is_throttling is (code == "ThrottlingException")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (boto.UnauthorizedSSOTokenError(), "login .* has expired"),
        (boto.ConnectTimeoutError(endpoint_url="x"), "could not be reached"),
        (boto.ReadTimeoutError(endpoint_url="x"), "could not be reached"),
        (boto.SSLError(endpoint_url="x", error="certificate verify failed"), "could not be reached"),
        (boto.ProxyConnectionError(proxy_url="x"), "could not be reached"),
        (boto.ConfigParseError(path="/p"), "failed before it was sent"),
        (boto.ClientError({}, "X"), "failed: Unknown"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_failure_below_aws_says_what_and_what_to_do(error, says):
    explained = explain(error, "iot", "ListJobs", "account 1, region r")
    with pytest.raises(AwsCallError, match=says):
        raise explained
    assert explained.remedy


def test_jobs_data_denied_names_the_iam_prefix_and_not_the_client_name():
    error = boto.ClientError({"Error": {"Code": "AccessDenied"}}, "DescribeJobExecution")
    assert "iotjobsdata:DescribeJobExecution" in str(explain(error, "iot-jobs-data", "DescribeJobExecution", "here"))


def test_throttled_call_is_tried_again_and_every_attempt_is_counted_and_limited(registry, make_session):
    registry.faults["DescribeCertificate"] = Fault("ThrottlingException", 429, times=1)
    session = make_session(registry, attempts=3)
    session.call("iot", "DescribeCertificate", certificateId=full("c1"))
    assert session.calls["DescribeCertificate"] == 2


def test_an_object_whose_body_breaks_off_is_asked_for_again_and_each_stream_is_closed(
    registry, make_session, monkeypatch
):
    session, streams = make_session(registry), [BytesIO(b"half"), BytesIO(b"half of it, and the rest")]
    told = iter(streams)
    monkeypatch.setattr(session, "call", lambda *_, **__: {"Body": next(told), "ContentLength": 24})
    assert session.read("s3", "GetObject", 100, Bucket="b", Key="k") == b"half of it, and the rest"
    assert all(stream.closed for stream in streams)  # else the next call opens a connection of its own


def test_rate_limit_holds_for_clients_that_callers_use_directly(registry, make_desired):
    waits: list[float] = []
    session = AwsSession(
        make_desired("line-a").fleet,
        ActAs.READER,
        new_session=registry.new_session,
        monotonic=lambda: 0.0,
        sleep=waits.append,
    )
    client = session.client("iot")
    for _ in range(10):
        client.describe_certificate(certificateId=full("c1"))
    assert waits == [pytest.approx(1 / 8), pytest.approx(2 / 8)]


def test_quota_factor_of_the_environment_multiplies_every_rate(registry, make_desired, monkeypatch):
    monkeypatch.setenv("CERTFLEET_QUOTA_FACTOR", "10")
    waits: list[float] = []
    session = AwsSession(
        make_desired("line-a").fleet,
        ActAs.READER,
        new_session=registry.new_session,
        monotonic=lambda: 0.0,
        sleep=waits.append,
    )
    for _ in range(20):
        session.call("iot", "DescribeCertificate", certificateId=full("c1"))
    assert waits == []


@pytest.mark.parametrize("text", ["fast", "0", "-1", "inf", "nan", ""])
def test_quota_factor_that_is_no_positive_number_is_refused(make_desired, monkeypatch, text):
    monkeypatch.setenv("CERTFLEET_QUOTA_FACTOR", text)
    with pytest.raises(FleetError, match="CERTFLEET_QUOTA_FACTOR is"):
        AwsSession(make_desired("line-a").fleet, ActAs.READER)


def test_find_is_none_for_what_does_not_exist_and_raises_for_the_rest(registry: Registry, make_session):
    session = make_session(registry, attempts=1)
    assert session.find("iot", "DescribeCertificate", certificateId=full("d0")) is None
    registry.faults["DescribeCertificate"] = Fault("AccessDeniedException", 403, times=1)
    with pytest.raises(AwsCallError):
        session.find("iot", "DescribeCertificate", certificateId=full("d0"))


def test_find_all_is_none_for_what_does_not_exist_and_raises_for_the_rest(registry: Registry, make_session):
    session = make_session(registry, attempts=1)
    listing = ("ListJobExecutionsForJob", "executionSummaries")
    assert session.find_all(*listing, jobId="none") is None
    registry.faults["ListJobExecutionsForJob"] = Fault("AccessDeniedException", 403, times=1)
    with pytest.raises(AwsCallError):
        session.find_all(*listing, jobId="none")
