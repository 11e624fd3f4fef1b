"""Commands behind a network that cuts, replaces, repeats and holds back what AWS answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from shared_documents import policy
from shared_fault_proxy import (
    FaultProxy,
    bare_object,
    cut,
    cut_chunked,
    cut_unnoticed,
    empty,
    first,
    html,
    not_an_object,
    only_about,
)

from controller.fleet.baseline import RECORD_GROUP

UNREADABLE = [cut, cut_chunked, cut_unnoticed, html, empty, not_an_object, bare_object]


@pytest.fixture
def proxy(factory, surroundings):
    surroundings.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _seconds: None))  # between attempts
    with FaultProxy(factory.cloud.endpoint_url) as proxy:
        surroundings.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def shrunk(factory, proxy):
    """Two lines on record; the policy of one is gone from git since."""
    factory.cloud.seed.group("line-b")
    for number in range(3):
        factory.device(f"a-{number}")
        factory.device(f"b-{number}", groups=["line-b"])
    factory.write(policy("line-b"), "line-b.yaml")
    factory.commit()
    assert factory.run("apply").code == 0
    (factory.desired / "line-b.yaml").unlink()
    factory.commit()
    return factory


def recorded(factory) -> dict:
    group = factory.iot.describe_thing_group(thingGroupName=RECORD_GROUP)
    return group["thingGroupProperties"]["attributePayload"]["attributes"]


def test_one_cut_answer_does_not_switch_the_guard_against_a_shrunken_desired_state_off(shrunk, proxy):
    for fault in UNREADABLE:
        proxy.calls.clear()
        proxy.faults["DescribeThingGroup"] = only_about(RECORD_GROUP, first(3, fault))
        told = shrunk.run("apply")
        assert told.code == 3, (fault, told.err)
        assert "no policy names line-b (3 devices) any more" in told.err
    assert recorded(shrunk)["groups-1"] == "line-a/3,line-b/3"


@pytest.mark.parametrize("operation", ["ListThingsInThingGroup", "ListCertificates", "GetCallerIdentity"])
def test_an_answer_that_is_none_is_asked_for_again(shrunk, proxy, operation):
    for fault in (cut, html):
        proxy.calls.clear()
        proxy.faults[operation] = first(2, fault)
        told = shrunk.run("plan", "--format", "json")
        assert told.code == 3, (fault, told.err)


def test_an_answer_that_stays_none_is_named_with_what_to_do_and_changes_nothing(shrunk, proxy):
    for fault in UNREADABLE:
        proxy.faults["DescribeThingGroup"] = only_about(RECORD_GROUP, fault)
        told = shrunk.run("apply")
        assert told.code == 1
        assert "DescribeThingGroup in account 123456789012, region eu-west-1" in told.err
        assert "AWS_ENDPOINT_URL" in told.err
    assert recorded(shrunk)["groups-1"] == "line-a/3,line-b/3"


def test_a_record_without_what_was_governed_is_damaged_and_not_empty(shrunk):
    group = shrunk.iot.describe_thing_group(thingGroupName=RECORD_GROUP)
    properties = {"attributePayload": {"attributes": {}, "merge": False}}
    shrunk.iot.update_thing_group(
        thingGroupName=RECORD_GROUP, thingGroupProperties=properties, expectedVersion=group["version"]
    )
    told = shrunk.run("apply")
    assert told.code == 1
    assert f"thing group {RECORD_GROUP} is damaged" in told.err
