"""An upgrade from the version before: its inventory, its plan, its bundle and its backend, as it left them."""

from __future__ import annotations

import gzip
import json
import sqlite3

import pytest
from cli_kept import KEPT, Kept, keep

from protocol.deployment import parse_deployment

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
    made.commit = known["commit"]
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
