"""``certfleet drill``: from the draw to what report and evidence tell of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cli_factory import DOCUMENTS
from cli_schema import check
from test_cli_evidence import evidence, head, rotated

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = [f"a-{number}" for number in range(8)]


@pytest.fixture
def plant(world):
    world.git("commit", "-q", "--amend", "-m", "the first policy", date=NOW - timedelta(days=30))
    for name in NAMES:
        world.device(name, age=20)
    return world


def drawn(plant, *arguments):
    told = plant.run("drill", "autumn", "--policy", "line-a", *arguments)
    assert told.code == 0, told.err
    return told.out


def test_what_is_drawn_is_a_valid_document_and_rotates_its_devices_alone(plant):
    text = drawn(plant, "--count", "3", "--reason", "the CA leaks: practise")
    assert drawn(plant, "--count", "3", "--reason", "the CA leaks: practise").splitlines()[9:] == text.splitlines()[9:]
    spec = yaml.safe_load(text)["spec"]
    assert (spec["sample"], len(spec["devices"])) == ({"of": 8, "count": 3}, 3)
    plant.write(DOCUMENTS + "---\n" + text)
    plant.commit("practise")
    assert "1 drill" in plant.run("validate").out
    plan = plant.run("plan", "--format", "json").json
    check("plan", plan)
    [told] = plan["drills"]
    assert (told["devices"], told["remaining"], told["is_over"]) == (3, 3, False)
    # wave 1 of the policy is one device
    assert {device["name"] for job in plan["jobs"] for device in job["devices"]} < set(spec["devices"])
    page = plant.run("plan")
    assert "Drill autumn" in page.out
    assert "0 of 3 devices rotated; 3 to go" in " ".join(page.out.split())


def test_among_a_group_in_proportion(plant):
    plant.iot.create_thing_group(thingGroupName="north")
    for name in NAMES[:4]:
        plant.iot.add_thing_to_thing_group(thingGroupName="north", thingName=name)
    spec = yaml.safe_load(drawn(plant, "--group", "north", "--stratify-by", "keyType"))["spec"]
    assert (spec["devices"], spec["sample"]) == (NAMES[:4], {"of": 8, "group": "north", "stratifyBy": "keyType"})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "neither --count nor --group"),
        (["--count", "0"], "expected 1 to 10,000"),
        (["--group", "nobody"], "thing group nobody does not exist"),
        (["--count", "1", "--policy", "line-x"], "no fleet has a policy 'line-x'"),
    ],
)
def test_what_cannot_be_drawn_is_said_with_what_to_do(plant, arguments, why):
    told = plant.run("drill", "autumn", "--policy", "line-a", *arguments)
    assert (told.code, why in told.err, "→" in told.err or "fix" in told.err) == (1, True, True), told.err


def test_evidence_tells_whom_a_drill_has_rotated_and_who_answers_also_once_its_document_is_gone(plant):
    text = drawn(plant, "--count", "3")
    since = NOW - timedelta(hours=9)
    spec = yaml.safe_load(text)
    spec["spec"] |= {
        "since": f"{since:%Y-%m-%dT%H:%M:%SZ}",
        "deadline": f"{since + timedelta(hours=8):%Y-%m-%dT%H:%M:%SZ}",
    }
    plant.write(DOCUMENTS + "---\n" + yaml.safe_dump(spec))
    plant.commit("practise\n\nReviewed-by: Grace <grace@plant.example>", date=since)
    commit = head(plant)
    first, second, third = spec["spec"]["devices"]
    rotated(plant, first, since + timedelta(minutes=10), "1" * 64, "2" * 64, commit=commit)
    rotated(plant, second, since + timedelta(minutes=30), "3" * 64, "4" * 64, commit=commit)
    rotated(plant, third, since + timedelta(hours=8, minutes=1), "5" * 64, "6" * 64, commit=commit)  # too late
    for is_there in (True, False):
        if not is_there:
            plant.write(DOCUMENTS)
            plant.commit("it is over", date=NOW)
        [told] = evidence(plant)["drills"]
        assert told["rotated"] == sorted([first, second])
        assert told["last_rotated_at"] == f"{since + timedelta(minutes=31):%Y-%m-%dT%H:%M:%SZ}"
        assert told["change"]["approvals"][0]["who"] == "Grace <grace@plant.example>"
        assert (told["commit"], told["result"] is not None) == (commit, is_there)
    text = " ".join(plant.run("evidence").out.split())
    assert "2 of 3 devices rotated, the last 31 minutes after the decision; who was offline when asked is not" in text
    assert "the last 31" in plant.run("evidence", "--format", "html").out


def test_quarantines_stand_among_those_who_were_left_out(plant):
    quarantine = (
        "---\napiVersion: certfleet/v1\nkind: Quarantine\nmetadata: {name: theft}\nspec:\n  devices: [a-2]\n"
        f"  certificates: [{'a' * 64}]\n  owner: security\n  reason: a laptop was stolen\n  since: 2026-01-01\n"
    )
    plant.write(DOCUMENTS + quarantine)
    plant.commit("cut it off", date=NOW - timedelta(days=2))
    [told] = evidence(plant)["exemptions"]
    assert (told["kind"], told["devices"], told["certificates"], told["expires"]) == (
        "Quarantine", ["a-2"], ["a" * 64], None,
    )  # fmt: skip
    assert "Quarantine theft a-2, certificate aaaaaaaaaaaa: a laptop was stolen, security answers for it" in " ".join(
        plant.run("evidence").out.split()
    )
