"""A desired state that has shrunk is refused by every run until a person allows it, whatever was committed since."""

from __future__ import annotations

import pytest
from shared_documents import policy

from controller.fleet.baseline import RECORD_GROUP

SECOND = policy("line-b")


@pytest.fixture
def governed(factory):
    """Two lines, three devices each, all in sync, applied once: so what is governed is on record."""
    factory.cloud.seed.group("line-b")
    for number in range(3):
        factory.device(f"a-{number}")
        factory.device(f"b-{number}", groups=["line-b"])
    (factory.desired / "line-b.yaml").write_text(SECOND)
    factory.commit()
    first = factory.run("apply")
    assert first.code == 0, first.err
    return factory


def recorded(factory) -> dict:
    group = factory.iot.describe_thing_group(thingGroupName=RECORD_GROUP)
    return group["thingGroupProperties"]["attributePayload"]["attributes"]


def refused(factory) -> tuple[str, list[str]]:
    """What apply says when it refuses, and the override that it prints, as arguments."""
    told = factory.run("apply")
    assert told.code == 3, told.out + told.err
    assert "refused, nothing was changed" in told.err
    return told.err, told.err.strip().splitlines()[-1].removeprefix("→ ").split()


def test_the_first_plan_says_that_nothing_is_on_record_and_apply_records_it(factory):
    factory.device("a-0")
    assert "nothing is recorded of what was governed before" in factory.run("plan").out
    assert factory.run("apply").code == 0
    assert recorded(factory)["groups-1"] == "line-a/1"
    again = factory.run("plan")
    assert again.code == 0
    assert "recorded" not in again.out


def test_a_deleted_file_is_refused_until_its_override_is_given_and_an_unrelated_commit_does_not_help(governed):
    (governed.desired / "line-b.yaml").unlink()
    governed.commit()
    planned = governed.run("plan")
    assert planned.code == 3
    assert "no policy names line-b (3 devices) any more: 3 devices would be left to themselves" in planned.out
    governed.commit()  # an empty one, on top
    governed.run("drift", "--inventory", "elsewhere.sqlite")
    message, override = refused(governed)
    assert "no policy names line-b" in message
    assert recorded(governed)["groups-1"] == "line-a/3,line-b/3"

    assert governed.run("apply", *override).code == 0

    assert recorded(governed)["groups-1"] == "line-a/3"
    assert governed.run("apply").code == 0, "allowed once, allowed for good"


def test_an_override_is_given_to_apply_whatever_the_plan_file_was_made_with(governed):
    (governed.desired / "line-b.yaml").unlink()
    governed.commit()
    assert governed.run("plan", "--plan", "plan.json").code == 3
    assert governed.run("apply", "--plan", "plan.json").code == 3
    assert governed.run("plan", "--plan", "plan.json", "--override", "orphans=3").code == 0
    assert governed.run("apply", "--plan", "plan.json").code == 3, "a plan file is not authority"
    assert governed.run("apply", "--plan", "plan.json", "--override", "orphans=3").code == 0
    assert recorded(governed)["groups-1"] == "line-a/3"


def test_a_policy_that_points_at_another_group_leaves_its_devices_and_is_refused(governed):
    governed.cloud.seed.group("line-c")
    (governed.desired / "line-b.yaml").write_text(SECOND.replace('"thingGroup": "line-b"', '"thingGroup": "line-c"'))
    governed.commit()
    message, override = refused(governed)
    assert "no policy names line-b (3 devices) any more" in message
    assert governed.run("apply", *override).code == 0


def test_a_thing_group_that_was_emptied_in_aws_is_refused_with_nothing_committed(governed):
    for number in range(3):
        governed.iot.remove_thing_from_thing_group(thingGroupName="line-b", thingName=f"b-{number}")
    message, override = refused(governed)
    assert "line-b had 3 things and has 0: 3 devices would be left to themselves" in message
    assert governed.run("apply", *override).code == 0
    assert recorded(governed)["groups-1"] == "line-a/3,line-b/0"


def test_a_desired_state_without_policies_is_refused(governed):
    (governed.desired / "line-b.yaml").unlink()
    governed.write((governed.desired / "factory.yaml").read_text().partition("---")[0])
    governed.commit()
    message, override = refused(governed)
    assert "the desired state has no policy" in message
    assert override == ["--override", "orphans=6"]
    assert governed.run("apply", *override).code == 0
    assert governed.run("apply").code == 0


def test_a_fleet_that_is_deleted_or_renamed_is_compared_before_the_merge(governed):
    whole = (governed.desired / "factory.yaml").read_text()
    governed.write(whole.replace("name: factory", "name: plant"))
    governed.commit()
    renamed = governed.run("plan", "--base", "HEAD~1", "--format", "json")
    assert renamed.code == 0, renamed.err
    assert [(fleet["fleet"], fleet["left_alone"]) for fleet in renamed.json["fleets"]] == [("plant", 0)]

    governed.write(whole.replace("123456789012", "999999999999").replace("name: factory", "name: overseas"))
    governed.commit()
    told = governed.run("plan", "--base", "HEAD~2", "--format", "json")
    assert told.code == 1, "the new fleet's account is not that of the credentials"
    [fleet] = told.json["fleets"]
    assert (fleet["fleet"], fleet["left_alone"]) == ("factory", 6)
    assert [refusal["guardrail"] for refusal in fleet["refusals"]] == ["orphans"]
    comment = governed.run("plan", "--base", "HEAD~2", "--format", "markdown").out
    assert "no run looks at that account any more, and nobody is asked" in comment
    assert "A reviewer will be asked for" not in comment, "no run would ask"
