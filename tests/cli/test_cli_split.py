"""``sharedCertificate: split`` from the registry and the backend's list to what is reported."""

from __future__ import annotations

import sqlite3

import pytest
from cli_factory import DOCUMENTS
from cli_heal_world import ARN, NAMES, TABLE

from controller.fleet.aws_errors import AwsCallError
from controller.fleet.rotation_table import read_shared
from controller.reconcile.values import Fleet, Source
from protocol.deployment import EXCLUSIVE, NON_EXCLUSIVE, DeployedBackend
from protocol.job_document import DOCUMENT_FIELDS
from protocol.watch import SHARED_KEY

CLONES = ("clone-1", "clone-2", "clone-3")
DEPLOYED = DeployedBackend("0.3.0", {}, DOCUMENT_FIELDS, frozenset({EXCLUSIVE, NON_EXCLUSIVE}))


@pytest.fixture
def world(world):
    world.write(DOCUMENTS.replace("authority: aws-iot}", "authority: aws-iot, sharedCertificate: split}"))
    world.commit()
    world.client("ssm").put_parameter(Name=NAMES.deployment_parameter, Value=DEPLOYED.to_json(), Type="String")
    world.shared = world.device(CLONES[0])
    world.iot.detach_thing_principal(thingName=CLONES[0], principal=ARN + world.shared)
    for name in CLONES:
        world.cloud.seed.thing(name, ["line-a"]) if name != CLONES[0] else None
        world.iot.attach_thing_principal(thingName=name, principal=ARN + world.shared)
    return world


def listed(world):
    ids = {"L": [{"S": world.shared}]}
    item = {**{name: {"S": value} for name, value in SHARED_KEY.items()}, "certificateIds": ids, "version": {"N": "1"}}
    world.dynamodb.put_item(TableName=TABLE, Item=item)


def found(world):
    [fleet] = world.run("drift", "--format", "json").json["fleets"]
    return {
        one["device"]: [
            (each["reason"], each["outcome"]) for each in one["findings"] if each["reason"] != "WaveSoaking"
        ]
        for one in fleet["devices"]
    }


def test_things_that_share_a_certificate_rotate_and_so_does_the_last_that_held_it(world):
    assert found(world) == {name: [("SharedCertificate", "rotate")] for name in CLONES}
    for name in CLONES[1:]:
        world.iot.detach_thing_principal(thingName=name, principal=ARN + world.shared)
        world.certificate(name)
    listed(world)
    assert found(world) == {CLONES[0]: [("SharedCertificate", "rotate")]}
    explained = world.run("explain", CLONES[0], "--no-refresh").out
    assert "the things that left it still know its key" in explained


def test_who_holds_the_rest_open_outside_the_policies_is_named(world):
    world.cloud.seed.thing("forgotten", [])
    world.iot.attach_thing_principal(thingName="forgotten", principal=ARN + world.shared)
    for name in CLONES:
        world.iot.detach_thing_principal(thingName=name, principal=ARN + world.shared)
    listed(world)
    assert "stays in use by forgotten, which no policy governs" in world.run("plan").out
    world.iot.detach_thing_principal(thingName="forgotten", principal=ARN + world.shared)
    assert "stays in use" not in world.run("plan").out


def test_what_no_thing_holds_any_more_is_the_backends_affair():
    class Session:
        fleet = Fleet("factory", "123456789012", "eu-west-1", Source("fleet.yaml", 1))

        def find(self, *_, **__):
            return {"Environment": {"Variables": {"TABLE_NAME": "rotations"}}}

        def call(self, *_, **__):
            return {"Item": {"certificateIds": {"L": [{"S": "held"}, {"S": "let-go"}, {"S": "governed"}]}}}

        def arn(self, resource):
            return resource

        def find_all(self, *_, principal):
            return {"cert/held": [{"thingName": "forgotten"}], "cert/let-go": None}[principal]

    inventory = sqlite3.connect(":memory:")
    inventory.executescript("CREATE TABLE attachments (certificate_id); INSERT INTO attachments VALUES ('governed')")
    assert read_shared(Session(), DEPLOYED, inventory) == ({"governed": (), "held": ("forgotten",)}, None)
    inventory.close()


@pytest.mark.parametrize("is_denied", [True, False])
def test_that_the_list_may_not_be_read_is_told_and_any_other_failure_ends_the_look(is_denied):
    class Session:
        fleet = Fleet("factory", "123456789012", "eu-west-1", Source("fleet.yaml", 1))

        def find(self, *_, **__):
            code = "AccessDeniedException" if is_denied else "Unheard"
            raise AwsCallError("it is denied", "grant it", operation="GetFunctionConfiguration", code=code)

    if is_denied:
        assert read_shared(Session(), DEPLOYED, sqlite3.connect(":memory:")) == (
            {}, "which certificates have been shared is not known: it is denied; grant it",
        )  # fmt: skip
    else:
        with pytest.raises(AwsCallError):
            read_shared(Session(), DEPLOYED, sqlite3.connect(":memory:"))
