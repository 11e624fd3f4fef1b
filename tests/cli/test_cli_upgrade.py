"""An upgrade from the version before: its inventory, plan, bundle, table and backend, as it left them."""

from __future__ import annotations

import gzip
import json
import sqlite3
from datetime import timedelta

import pytest
from cli_kept import AT, BEGUN, DOCUMENTS, KEPT, RECORD, SHARED, TABLE, WATCHED, Kept, keep
from shared_plant import DAY

from backend.functions.rotation import Phase
from backend.functions.table import RotationTable
from protocol.deployment import parse_deployment
from protocol.names import BackendNames

VERSIONS = sorted(path.name for path in KEPT.iterdir())


@pytest.fixture(params=VERSIONS)
def left(request):
    """The folder of what a version left."""
    return KEPT / request.param


@pytest.fixture
def world(left, tmp_path, surroundings):
    """The world of then, at the moment of then, with the inventory of that version in the cache."""
    known = json.loads((left / "world.json").read_text())
    for name in ("CERTFLEET_CLOCK_AHEAD", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        surroundings.setenv(name, "0")  # so that it is put back
    made = Kept(tmp_path, known["certificates"])
    made.inventory.parent.mkdir(parents=True)
    made.inventory.write_bytes(gzip.decompress((left / "inventory.gz").read_bytes()))
    with sqlite3.connect(made.inventory) as connection:  # to the program, a port of this machine is where AWS answers
        connection.execute("UPDATE binding SET endpoint = ?", (made.plant.cloud.endpoint_url,))
    connection.close()
    for item in json.loads((left / "table.json").read_text()):
        made.dynamodb.put_item(TableName=TABLE, Item=item)
    made.commit, made.recorded = known["commit"], known["governed"]
    yield made
    made.plant.close()


def test_its_inventory_is_read_on_without_asking_again_what_it_knew(world):
    told = world.repository.run("drift", "--no-refresh", "--format", "json")
    assert told.code == 2, told.err
    [fleet] = told.json["fleets"]
    assert (fleet["governed"], fleet["in_sync"], fleet["commit"]) == (4, 2, world.commit)
    assert "AWS was asked nothing" in told.err
    looked = world.repository.run("drift", "--format", "json")
    assert looked.json["fleets"][0]["outcomes"] == fleet["outcomes"]
    assert "rebuilt" not in looked.err


def test_its_plan_is_applied_to_the_devices_that_it_named_and_no_others(world, left):
    told = world.repository.run("apply", "--plan", str(left / "plan.json"), "--wait", "--timeout", "60s")
    assert told.code == 0, told.err + told.out
    named = {d["name"] for job in json.loads((left / "plan.json").read_text())["jobs"] for d in job["devices"]}
    assert set(world.plant.rotations) == named == {"old-1"}


def test_its_bundle_is_applied(world, left):
    told = world.repository.run("plan", "--bundle", str(left / "desired-state.bundle"), "--format", "json")
    assert told.code == 2, told.err
    assert told.json["commit"] == world.commit


def test_its_record_of_what_is_governed_guards_what_this_version_applies(world):
    world.plant.iot.create_thing_group(
        thingGroupName=RECORD,
        thingGroupProperties={"attributePayload": {"attributes": world.recorded}},
    )
    told = world.repository.run("plan", "--format", "json")
    assert told.code == 2, told.err
    world.repository.write(DOCUMENTS.replace("line-a}", "elsewhere}").replace("thingGroup: line-a", "thingGroup: few"))
    world.plant.cloud.seed.group("few")
    world.repository.commit(date=AT)
    told = world.repository.run("plan", "--format", "json")
    assert (told.code, "line-a" in json.dumps(told.json["refusals"])) == (3, True), told.err


def test_its_table_is_read_on_by_the_backend(world):
    table = RotationTable(world.dynamodb, TABLE)
    assert table.open_since_before(AT) == [(AT - timedelta(hours=1), "old-1")]
    begun = table.current("old-1")
    assert (begun.phase, begun.new_certificate_id, begun.commit) == (Phase.CREATED, BEGUN, world.commit)
    saved = table.save(begun.step(AT, "commit", "committed", committed_at=AT.isoformat(), phase=Phase.COMMITTED))
    assert table.current("old-1") == saved
    assert (table.budget("old-1").requests, table.budget("old-1").refusal.sentence) == (1, "it says no")
    watch = table.watch(WATCHED)
    assert (watch.thing, watch.first_own) == ("old-2", AT - 19 * DAY)
    assert table.save_watch(watch.seen("old-2", AT)).last_seen == AT


def test_its_table_is_evidence(world, left):
    world.plant.cloud.functions.register(BackendNames().create_function, lambda event, _: event, {"TABLE_NAME": TABLE})
    told = world.repository.run("evidence", "--format", "json")
    assert told.code == 0, told.err
    [fleet] = told.json["fleets"]
    assert fleet["unreadable_records"] == []
    fates = {(row["thing"], row["fate"]): row["gaps"] for row in fleet["rows"]}
    assert "no-record" not in fates[("old-2", "in use")]
    assert ("young-1", "taken back") in fates
    written = [item["record"]["S"] for item in json.loads((left / "table.json").read_text())]
    assert len(fleet["refusals"]) == sum(name.startswith("refused#") for name in written)


def test_whom_it_cut_off_and_what_it_found_shared_is_known(world, left):
    written = {item["thingName"]["S"] for item in json.loads((left / "table.json").read_text())}
    table = RotationTable(world.dynamodb, TABLE)
    assert table.is_quarantined("young-2") is ("quarantine#" in written)
    assert (SHARED in table.shared().certificate_ids) is ("shared#" in written)


def test_what_its_backend_publishes_is_read(left):
    found = parse_deployment((left / "published.json").read_text())
    assert found.version == "0.1.0"
    assert found.authorities["plant-ca"].signing_algorithm == "SHA256WITHECDSA"


def test_what_this_version_leaves_behind_is_kept_by_one_command(tmp_path, surroundings):
    surroundings.setenv("CERTFLEET_CLOCK_AHEAD", "0")
    for name in ("AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        surroundings.setenv(name, "0")
    keep(tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        path.name for path in (KEPT / VERSIONS[0]).iterdir()
    }
