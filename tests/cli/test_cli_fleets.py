"""Several fleets in one run: two accounts in two regions, one of them by an assumed role, and a third that refuses."""

from __future__ import annotations

import re
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import parse_qs

import boto3
import pytest
from cli_factory import DOCUMENTS
from shared_plant import Plant
from shared_repository import Repository

from controller.desired.bundle_reader import read_bundle
from controller.fleet.kms_signature import KmsKey

HOME, HOSPITAL, REFUSING = "123456789012", "210987654321", "999999999999"
DENIED = b"""<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>
<Message>not authorized to perform sts:AssumeRole</Message></Error><RequestId>1</RequestId></ErrorResponse>"""
NOON = (datetime.now(UTC) + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
READ, WRITE = (f"arn:aws:iam::{REFUSING}:role/certfleet-{name}" for name in ("read", "reconcile"))


OF_ONE_CONNECTION = {"connection", "content-length", "date", "server", "transfer-encoding"}


class Front:
    """One endpoint before several accounts, as AWS is: each request goes to the account of its credentials.

    The role of an account is assumed at that account; the keys that it answers belong there from then on.
    Those of a role named ``…-read`` are good for nothing that changes something.
    """

    def __init__(self, accounts: dict[str, str], home: str) -> None:
        self._accounts, self._owners = accounts, {"sandbox": (home, "")}
        self.assumed: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        key = re.search(r"Credential=([^/]+)/", headers["Authorization"]).group(1)
        account, acting = self._owners[key]
        reads = method == "GET" or b"Action=GetCallerIdentity" in body or ".Get" in headers.get("X-Amz-Target", "")
        if acting.endswith("-read") and not reads:
            return 403, {"Content-Type": "application/json"}, b'{"message": "this role only reads"}'
        role = parse_qs(body.decode()).get("RoleArn") if b"Action=AssumeRole" in body else None
        if role:
            self.assumed += role
            account = role[0].split(":")[4]
            if account not in self._accounts:
                return 403, {"Content-Type": "text/xml"}, DENIED
        request = urllib.request.Request(self._accounts[account] + path, body or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as got:
                status, told, text = got.status, dict(got.headers), got.read()
        except HTTPError as error:
            with error:
                status, told, text = error.code, dict(error.headers), error.read()
        if role:
            self._owners[re.search(rb"<AccessKeyId>(.*?)</AccessKeyId>", text).group(1).decode()] = (account, role[0])
        return status, told, text

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, told, text = front.answer(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in told.items():
                    if name.lower() not in OF_ONE_CONNECTION:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815 (the names that http.server calls)

            def log_message(self, *_arguments) -> None:
                pass

        return Handler


class World(Repository):
    """Two plants, three fleets in the documents."""

    def __init__(self, folder) -> None:
        super().__init__(folder / "repository")
        self.factory = Plant(HOME, "eu-west-1")
        self.hospital = Plant(HOSPITAL, "us-east-1")
        urls = {HOME: self.factory.cloud.endpoint_url, HOSPITAL: self.hospital.cloud.endpoint_url}
        self.front = Front(urls, HOME)
        self.write(DOCUMENTS, "factory/all.yaml")
        self.fleet("hospital", HOSPITAL, "us-east-1")
        self.fleet("overseas", REFUSING, "ap-south-1")
        self.commit()
        for number in range(2):
            self.factory.device(f"gateway-{number}", age=200)
            self.hospital.device(f"scanner-{number}", age=200)
        self.hospital.device("scanner-9")

    def fleet(self, name: str, account: str, region: str, *, only_role: bool = False) -> None:
        prefix = f"arn:aws:iam::{account}:role/certfleet"
        role = f"{prefix}-reconcile" + ("" if only_role else f"\n  readRoleArn: {prefix}-read")
        text = DOCUMENTS.replace("name: factory", f"name: {name}").replace("region: eu-west-1", f"region: {region}")
        self.write(text.replace(f'account: "{HOME}"', f'account: "{account}"\n  roleArn: {role}'), f"{name}/all.yaml")

    def close(self) -> None:
        self.front.close()
        self.factory.close()
        self.hospital.close()


@pytest.fixture
def world(tmp_path, surroundings):
    made = World(tmp_path)
    surroundings.setenv("AWS_ENDPOINT_URL", made.front.url)
    surroundings.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield made
    made.close()


def test_every_fleet_is_told_in_one_report_and_a_refusing_account_stops_none(world):
    s3 = boto3.client("s3", endpoint_url=world.factory.cloud.endpoint_url, region_name="us-east-1")
    s3.create_bucket(Bucket="fleet-reports")
    drift = world.run("drift", "--format", "json", "--history", "s3://fleet-reports/drift", "--now", NOON.isoformat())
    assert drift.code == 1, "a fleet that could not be read is an error"
    found = {fleet["fleet"]: (fleet["account"], fleet["region"], fleet["governed"]) for fleet in drift.json["fleets"]}
    assert found == {"factory": (HOME, "eu-west-1", 2), "hospital": (HOSPITAL, "us-east-1", 3)}
    [failure] = drift.json["failures"]
    assert failure["fleet"] == "overseas"
    assert "AssumeRole" in failure["message"]
    assert failure["remedy"]
    kept = [entry["Key"] for entry in s3.list_objects_v2(Bucket="fleet-reports")["Contents"]]
    assert kept == [f"drift/{fleet}/{NOON:%Y%m%dT%H%M%SZ}.json" for fleet in found], (
        "the caller's bucket has every account"
    )

    status = world.run("status")
    assert status.code == 1
    assert re.search(r"factory, account 123456789012.*hospital, account 210987654321", status.out, re.DOTALL)
    assert "FAILED  fleet overseas" in status.out

    coming = world.run("forecast", "--horizon", "400d", "--format", "json")
    assert coming.code == 1
    assert [fleet["fleet"] for fleet in coming.json["fleets"]] == ["factory", "hospital"]
    assert [failure["fleet"] for failure in coming.json["failures"]] == ["overseas"]


READING = [
    ("plan",),
    ("plan", "--base", "HEAD"),
    ("drift",),
    ("status",),
    ("forecast",),
    ("explain", "scanner-0"),
    ("simulate",),
]


def test_what_changes_nothing_assumes_the_role_that_only_reads_and_apply_the_other(world):
    """Of the account that refuses both, so that the first call shows it; the tests around this one go on."""

    def roles_of(*command: str) -> list[str]:
        world.front.assumed.clear()
        denied = world.run(*command, "--fleet", "overseas")
        assert "access to sts:AssumeRole" in denied.err
        return world.front.assumed.copy()

    assert {command: roles_of(*command) for command in READING} == {command: [READ] for command in READING}
    assert roles_of("apply") == [WRITE]
    assert roles_of("apply", "--wait") == [WRITE]

    world.fleet("overseas", REFUSING, "ap-south-1", only_role=True)
    world.commit()
    assert roles_of("drift") == [WRITE], "there is no other role"


def test_a_bundle_is_signed_by_the_caller_where_the_key_is_and_not_by_the_role_of_a_fleet(world):
    kms = boto3.client("kms", endpoint_url=world.factory.cloud.endpoint_url, region_name="eu-west-1")
    key = kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["Arn"]
    command = ("bundle", "--fleet", "hospital", "--repository", "github.com/acme/fleet", "--kms-key")

    packed = world.run(*command, key)
    assert packed.code == 0, packed.err
    bundle = read_bundle(packed.out.encode(), now=datetime.now(UTC), verifier=KmsKey(kms, key))
    assert bundle.repository == "github.com/acme/fleet"
    assert world.front.assumed == []

    unknown = world.run(*command, f"{key[:-4]}0000")
    assert (unknown.code, unknown.out) == (1, "")
    assert "kms Sign in region eu-west-1 failed: NotFoundException" in unknown.err


def test_one_fleet_is_asked_alone_and_judged_alone(world):
    drift = world.run("drift", "--fleet", "hospital", "--inventory", "hospital.sqlite")
    assert drift.code == 2
    assert "factory" not in drift.out
    alone = world.run("status", "--fleet", "overseas")
    assert alone.code == 1
    assert "AssumeRole" in alone.err
    unknown = world.run("drift", "--fleet", "atlantis")
    assert unknown.code == 1
    assert "factory, hospital, overseas" in unknown.err
    shared = world.run("drift", "--inventory", "cache.sqlite")
    assert shared.code == 1
    assert "--inventory names one file for 3 fleets" in shared.err


def test_one_plan_of_all_fleets_is_reviewed_and_applied_and_the_rest_follows(world):
    planned = world.run("plan", "--plan", "plan.json", "--format", "json")
    assert planned.code == 1
    assert "fleet overseas failed: " in planned.err
    assert [plan["fleet"] for plan in planned.json] == ["factory", "hospital"]

    reviewed = world.run("apply", "--plan", "plan.json", "--wait", "--timeout", "60s", "--format", "json")
    assert reviewed.code == 0, reviewed.err
    assert [fleet["fleet"] for fleet in reviewed.json["fleets"]] == ["factory", "hospital"]
    jobs = {plan["fleet"]: [job["job_id"] for job in plan["jobs"]] for plan in planned.json}
    assert world.factory.jobs() == jobs["factory"]
    assert world.hospital.jobs() == jobs["hospital"]

    applied = world.run("apply", "--wait", "--timeout", "60s")
    assert applied.code == 1, "overseas is still there"
    for fleet, number in (("factory", 2), ("hospital", 3)):
        assert f"APPLIED  {fleet}  1 job made · 1 device rotated" in applied.out
        assert f"Now  {number} of {number} devices in sync" in applied.out
    assert "FAILED  fleet overseas" in applied.out


def test_a_guardrail_of_one_fleet_holds_back_that_one_only(world):
    strict = (world.desired / "hospital" / "all.yaml").read_text()
    world.write(strict.replace("maxChangePercent: 90, minExisting: 4", "maxChangePercent: 5"), "hospital/all.yaml")
    for number in range(10, 20):
        world.hospital.device(f"scanner-{number}")
    (world.desired / "overseas" / "all.yaml").unlink()
    world.commit()

    assert world.run("plan").code == 3
    applied = world.run("apply", "--format", "json")

    assert applied.code == 3
    assert [fleet["fleet"] for fleet in applied.json["fleets"]] == ["factory"]
    [refused] = applied.json["failures"]
    assert refused["fleet"] == "hospital"
    assert "refused, nothing was changed" in refused["message"]
    assert refused["remedy"].startswith("--override maxChangePercent")
    assert len(world.factory.jobs()) == 1
    assert world.hospital.jobs() == []
