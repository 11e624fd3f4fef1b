"""How asynchronous invocations are repeated, given up and bounded; what a template may not do."""

from __future__ import annotations

import itertools
import json
import threading
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from sandbox.aws import Cloud
from sandbox.bus import Bus
from sandbox.clock import SandboxClock
from sandbox.stack import Stack, TemplateError, functions, sql
from sandbox.stack.clients import Clients
from sandbox.stack.invocations import RetryDelays

HANDLER = "backend.functions.job_execution_terminal.handler"


class Runs:
    """Stands in for a handler's code: counts its runs, does what it is told."""

    def __init__(self) -> None:
        self.count = 0
        self.failures = 0
        self.ran = threading.Event()

    def __call__(self, _event, _context):
        self.count += 1
        self.ran.set()
        if self.count <= self.failures:
            raise RuntimeError("as told")
        return {"status": "done"}


@pytest.fixture
def runs():
    return Runs()


@pytest.fixture
def queue_url(world):
    return world.client("sqs").create_queue(QueueName="dead")["QueueUrl"]


@pytest.fixture
def pool(world, runs, monkeypatch):
    monkeypatch.setattr(functions, "_handler", lambda _name: runs)
    pool = functions.StackFunctions(world.cloud, world.stack._clients, world.clock)
    pool.unkindness.waits = RetryDelays(retries=(0.0,), throttled_first=0.05, throttled_most=0.05)
    environment = world.cloud.functions.environment("AWSLabsCertificateRotatorJobExecutionTerminal")
    pool.create("probe", environment, {"Handler": HANDLER, "Timeout": 5})
    yield pool
    pool.stop()


def dead_letters(world, queue_url):
    answer = world.client("sqs").receive_message(QueueUrl=queue_url)
    return [json.loads(message["Body"])["requestContext"]["condition"] for message in answer.get("Messages", [])]


def test_the_sandboxs_own_clients_are_answered_as_over_a_connection_without_one(tmp_path):
    cloud = Cloud("123456789012", "eu-west-1", SandboxClock(), Bus(), tmp_path)  # that serves nobody
    try:
        clients = Clients(cloud)
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            clients.get("iot").describe_thing(thingName="nobody")
        s3 = clients.get("s3")
        s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["kept"]
        with pytest.raises(ClientError, match="404"):
            s3.head_object(Bucket="kept", Key="a b")
    finally:
        cloud.stop()


def test_a_failed_run_is_repeated(pool, runs):
    runs.failures = 2
    pool.invoke("probe", {})
    assert pool.drain(20)
    assert runs.count == 3


def test_a_run_that_fails_once_too_often_goes_to_the_queue(pool, runs, world, queue_url):
    runs.failures = 10
    pool.configure("probe", functions.InvokeConfig(1, 60, queue_url))
    pool.invoke("probe", {"x": 1})
    assert pool.drain(20)
    assert runs.count == 2
    assert dead_letters(world, queue_url) == ["RetriesExhausted"]


def test_a_function_that_is_not_the_backends_own_runs_what_the_caller_has_brought(world):
    told = []
    function = {
        "Type": "AWS::Lambda::Function",
        "Properties": {"FunctionName": "Foreign", "Handler": "create.handler", "Timeout": 5,
                       "Environment": {"Variables": {"NAME": "value"}}},
    }  # fmt: skip
    code = {"create.handler": lambda event, variables: told.append((event, variables))}
    stack = Stack({"Resources": {"F": function}}, world.cloud, Bus(), SandboxClock(), code=code)
    stack.start()
    stack.invoke("Foreign", {"x": 1})
    assert stack.drain(20)
    stack.stop()
    assert told == [({"x": 1}, {"NAME": "value"})]


def test_without_a_queue_a_given_up_event_is_gone(pool, runs):
    runs.failures = 10
    pool.configure("probe", functions.InvokeConfig(0, 60, None))
    pool.invoke("probe", {})
    assert pool.drain(20)
    assert runs.count == 1


def test_an_event_that_waits_too_long_for_a_throttled_function_is_given_up(pool, runs, world, queue_url):
    pool.configure("probe", functions.InvokeConfig(2, 0.2, queue_url))
    world.client("lambda").put_function_concurrency(FunctionName="probe", ReservedConcurrentExecutions=0)
    pool.invoke("probe", {})
    assert pool.drain(20)
    world.client("lambda").delete_function_concurrency(FunctionName="probe")
    assert runs.count == 0
    assert dead_letters(world, queue_url) == ["EventAgeExceeded"]


def test_a_run_beyond_its_time_limit_counts_as_failed(pool, world, monkeypatch):
    world.client("lambda").update_function_configuration(FunctionName="probe", Timeout=1)
    pool.configure("probe", functions.InvokeConfig(0, 60, None))
    monkeypatch.setattr(functions, "time", SimpleNamespace(thread_time=itertools.count(step=2).__next__))
    with pytest.raises(functions.FunctionTimeoutError):
        world.cloud.functions.run("probe", {})


def test_what_waits_is_dropped_at_the_stop_and_nothing_is_taken_after_it(pool, runs):
    pool.unkindness.waits = RetryDelays.of_lambda()
    runs.failures = 10
    pool.invoke("probe", {})
    assert runs.ran.wait(20)
    assert not pool.drain(0.1)
    pool.stop()
    pool.invoke("probe", {})
    assert runs.count == 1


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"A": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Ref": "B"}}}}, "leads to B"),
        (
            {
                "A": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Ref": "B"}}},
                "B": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Ref": "A"}}},
            },
            "in a circle: A → B → A",
        ),
        (
            {
                "A": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Fn::GetAtt": ["B", "Colour"]}}},
                "B": {"Type": "AWS::Logs::LogGroup"},
            },
            "no attribute Colour",
        ),
    ],
)
def test_a_template_that_does_not_hold_together_is_refused(world, resources, message):
    with pytest.raises(TemplateError, match=message):
        Stack({"Resources": resources}, world.cloud, Bus(), SandboxClock()).start()


def test_a_rule_with_an_action_that_the_sandbox_does_not_run_is_refused(world):
    rule = {
        "Type": "AWS::IoT::TopicRule",
        "Properties": {
            "RuleName": "Archive",
            "TopicRulePayload": {
                "Sql": "SELECT * FROM '#'",
                "Actions": [{"S3": {"BucketName": "b", "Key": "k", "RoleArn": "arn:aws:iam::123456789012:role/r"}}],
            },
        },
    }
    with pytest.raises(sql.SqlError, match="Lambda actions only"):
        Stack({"Resources": {"R": rule}}, world.cloud, Bus(), SandboxClock()).start()


def test_a_function_can_be_invoked_by_hand(world, caplog):
    world.stack.invoke("AWSLabsCertificateRotatorJobExecutionTerminal", {"eventType": "none"})
    assert world.stack.drain(20)
    assert "ignored" in [record.getMessage() for record in caplog.records]
