"""A cloud per test, and clients whose every answer is checked against botocore's model."""

import os
from datetime import UTC, datetime

import boto3
import pytest
from botocore.config import Config

from sandbox.aws import Cloud
from sandbox.bus import Bus
from sandbox.clock import SandboxClock

ACCOUNT, REGION = "123456789012", "eu-west-1"
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def cloud_folder(tmp_path_factory):
    """Keys and TLS are made once; state never is shared."""
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture
def bus():
    return Bus()


@pytest.fixture
def heard(bus):
    """Every message on the bus, as (topic, payload)."""
    messages = []
    bus.listen(lambda message: messages.append((message.topic, message.payload)))
    return messages


@pytest.fixture
def clock():
    """Time stands still until a test moves it."""
    return SandboxClock(frozen_at=START)


@pytest.fixture
def cloud(cloud_folder, clock, bus):
    cloud = Cloud(ACCOUNT, REGION, clock, bus, cloud_folder)
    cloud.start()
    yield cloud
    cloud.stop()


TYPES = {
    "structure": dict,
    "list": list,
    "map": dict,
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "timestamp": datetime,
    "double": float,
    "float": float,
}


def problems(shape, value, path):
    """Where a parsed answer departs from its shape: missing members, wrong types, unknown enum values."""
    kind = shape.type_name
    if kind == "blob":
        return
    if not isinstance(value, TYPES[kind]):
        yield f"{path} is {value!r}, expected {kind}"
        return
    if kind == "structure":
        yield from (f"{path}.{name} is missing" for name in shape.required_members if name not in value)
    elif kind == "string" and shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        yield f"{path} is {value!r}, expected one of {shape.metadata['enum']}"
    for inner, member, where in inner_values(shape, value, path):
        yield from problems(inner, member, where)


def inner_values(shape, value, path):
    """The values inside a value, each with its shape and place."""
    if shape.type_name == "structure":
        return [(shape.members[n], v, f"{path}.{n}") for n, v in value.items() if n != "ResponseMetadata"]
    if shape.type_name == "list":
        return [(shape.member, v, f"{path}[{i}]") for i, v in enumerate(value)]
    return [(shape.value, v, f"{path}.{k}") for k, v in value.items()] if shape.type_name == "map" else []


def check_answer(parsed, model, **_):
    if parsed["ResponseMetadata"]["HTTPStatusCode"] < 300 and model.output_shape is not None:
        found = list(problems(model.output_shape, parsed, model.name))
        assert not found, found


@pytest.fixture(scope="session")
def boto_session():
    """One session, so that the service models are read once."""
    return boto3.Session(region_name=REGION, aws_access_key_id="sandbox", aws_secret_access_key="sandbox")


@pytest.fixture
def client(cloud, boto_session, monkeypatch):
    """``client("iot")`` → boto3 client of the cloud under test."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)

    def make(service, **more):
        made = boto_session.client(
            service,
            **{
                "endpoint_url": cloud.endpoint_url,
                "config": Config(retries={"total_max_attempts": 1}),
                **more,
            },
        )
        made.meta.events.register(f"after-call.{made.meta.service_model.service_id.hyphenize()}", check_answer)
        clients.append(made)
        return made

    clients = []
    yield make
    for made in clients:
        made.close()


@pytest.fixture
def iot(client):
    return client("iot")


@pytest.fixture
def devices(client):
    return client("iot-jobs-data")
