"""The Lambda against a sandbox cloud: a repository, a bucket, a topic, and devices that rotate at once."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import botocore.session
import pytest
from shared_plant import Plant
from shared_repository import Repository

from controller import aws_lambda
from controller.desired import GitRef
from controller.desired.bundle import make_bundle, write_bundle
from controller.desired.limits import DEFAULT_LIMITS

ACCOUNT, REGION = "123456789012", "eu-west-1"
REPOSITORY = "github.com/acme/fleet"
BUCKET = "certfleet-reconcile"

DOCUMENTS = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec:
  account: "123456789012"
  region: eu-west-1
  guardrails: {maxChangePercent: 90, minExisting: 40}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec:
  thingGroup: line-a
  certificate: {maxAge: 90d, keyType: ECDSA-P256, csrSigningAlgorithm: ECDSA-WITH-SHA256, authority: aws-iot}
  rollout: {waves: ["100%"], soak: 0s, maximumPerMinute: 1000}
"""


class LambdaContext:
    """What Lambda hands to a handler; ``milliseconds`` may be a function."""

    def __init__(self, milliseconds=300_000):
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self):
        return self.milliseconds() if callable(self.milliseconds) else self.milliseconds


def make_repository(folder: Path) -> Repository:
    made = Repository(folder)
    made.git("remote", "add", "origin", f"https://{REPOSITORY}.git")
    made.write(DOCUMENTS)
    made.commit()
    return made


class Site(Plant):
    """One cloud with its devices, the repository, and what the function is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(ACCOUNT, REGION)
        self.folder = folder
        self.documents = make_repository(folder / "repository")
        self.repository = self.documents.repository
        self.s3, self.sqs = self.client("s3"), self.client("sqs")
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.topic = self.client("sns").create_topic(Name="people")["TopicArn"]
        self.inbox = self.sqs.create_queue(QueueName="inbox")["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:inbox"
        self.client("sns").subscribe(TopicArn=self.topic, Protocol="sqs", Endpoint=arn)

    # git and bundles

    def commit(self, text: str, date: datetime | None = None) -> None:
        self.documents.write(text)
        self.documents.commit(date=date)

    def add_all(self) -> None:
        self.documents.commit()

    def bundle(self, *, created_at=None, repository=None, signer=None) -> bytes:
        snapshot = GitRef(self.repository / "desired_state", "HEAD").read(DEFAULT_LIMITS)
        created = created_at or datetime.now(UTC).replace(microsecond=0)
        return write_bundle(make_bundle(snapshot, created, repository), signer)

    def publish(self, data: bytes | None = None) -> bytes:
        data = self.bundle() if data is None else data
        self.s3.put_object(Bucket=BUCKET, Key="desired-state.bundle", Body=data)
        return data

    # what the function left

    def kept(self, key: str) -> bytes | None:
        try:
            return self.s3.get_object(Bucket=BUCKET, Key=f"reconcile/{key}")["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None

    def heard(self) -> list[str]:
        """The notifications since the last look, as subjects and bodies."""
        found = []
        while messages := self.sqs.receive_message(QueueUrl=self.inbox, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                body = json.loads(message["Body"])
                found.append(f"{body['Subject']}\n{body['Message']}")
                self.sqs.delete_message(QueueUrl=self.inbox, ReceiptHandle=message["ReceiptHandle"])
        return found

    def wait_until_rotated(self, count: int, seconds: float = 60) -> None:
        done = threading.Event()
        self.bus.listen(lambda _message: done.set() if self.rotations.total() >= count else None)
        assert self.rotations.total() >= count or done.wait(seconds)


class Answer:
    """What one invocation gave: its value or its error, its log and its metrics."""

    def __init__(self, value, error, log):
        self.value, self.error, self.log = value, error, log
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        self.metrics = {line["Fleet"]: line for line in lines if "_aws" in line}


@pytest.fixture
def site_repository(tmp_path):
    """The repository by itself."""
    return make_repository(tmp_path / "repository").repository


@pytest.fixture
def site(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sandbox")
    made = Site(tmp_path)
    settings = {"BUCKET": BUCKET, "REPOSITORY": REPOSITORY, "TOPIC_ARN": made.topic, "QUOTA_FACTOR": "1000"}
    for name, value in (made.cloud.environment() | {f"CERTFLEET_{k}": v for k, v in settings.items()}).items():
        monkeypatch.setenv(name, value)
    yield made
    made.close()


@pytest.fixture
def two_fleets(site, monkeypatch):
    """Two fleets of one account, each in a region with a registry of its own; yields the second one's."""
    region = "eu-central-1"
    other = Plant(region=region)
    create = botocore.session.Session.create_client

    def create_client(session, service, region_name=None, **more):
        if region_name == region:
            more["endpoint_url"] = other.cloud.endpoint_url
        return create(session, service, region_name=region_name, **more)

    monkeypatch.setattr("botocore.session.Session.create_client", create_client)
    documents = (site.documents.desired / "factory.yaml").read_text()
    second = documents.replace("factory", "elsewhere").replace("eu-west-1", region)
    (site.documents.desired / "factory.yaml").unlink()
    site.documents.write(documents, "factory/fleet.yaml")
    site.documents.write(second, "elsewhere/fleet.yaml")
    site.add_all()
    site.publish()
    yield other
    other.close()


@pytest.fixture
def invoke(site):
    """Invoke the function as Lambda does; ``milliseconds`` is what it is told is left."""

    def run(milliseconds=300_000) -> Answer:
        out = io.StringIO()
        value = error = None
        with contextlib.redirect_stdout(out):
            try:
                value = aws_lambda.handler({}, LambdaContext(milliseconds))
            except aws_lambda.ReconcileFailedError as raised:
                error = raised
        return Answer(value, error, out.getvalue())

    return run
