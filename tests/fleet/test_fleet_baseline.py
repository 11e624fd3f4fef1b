"""What was governed before, as AWS keeps it: written whole, read whole, and never guessed."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import FleetError
from controller.fleet import RefreshOptions, refresh
from controller.fleet.baseline import MAX_ATTRIBUTES, MAX_VALUE, RECORD_GROUP, RUN, BaselineRecord, decode, encode
from controller.reconcile.values import Halt

NAMES = st.from_regex(r"[a-zA-Z0-9:_-]{1,128}", fullmatch=True)
AWS_NAME, AWS_VALUE = re.compile(r"[a-zA-Z0-9_.,@/:#-]{1,128}"), re.compile(r"[a-zA-Z0-9_.,@/:#-]*")


@pytest.fixture
def baseline(registry, make_session, make_desired, inventory, now):
    """What a refresh under these governed groups finds recorded."""

    def read(*groups: str):
        desired = make_desired(*groups)
        state = refresh(make_session(registry), inventory, desired, now, options=RefreshOptions(max_slice=0))
        return state.baseline

    return read


@pytest.fixture
def record(registry):
    def write(commit: str | None = "c" * 40, **sizes: int) -> None:
        registry.groups[RECORD_GROUP] = []
        registry.group_attributes[RECORD_GROUP] = encode(
            BaselineRecord({n.replace("_", "-"): s for n, s in sizes.items()}, commit)
        )

    return write


POLICY_NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
INSTANTS = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
RECORDS = st.builds(
    BaselineRecord,
    st.dictionaries(NAMES, st.integers(0, 1_000_000), max_size=60),
    st.sampled_from([None, "c" * 40]),
    st.none() | INSTANTS,
    st.dictionaries(POLICY_NAMES, INSTANTS, max_size=40),
    st.dictionaries(
        POLICY_NAMES, st.builds(Halt, st.from_regex(r"[0-9a-f]{6}", fullmatch=True), INSTANTS), max_size=40
    ),
    st.none() | INSTANTS,
)


@given(record=RECORDS)
def test_a_record_reads_as_it_was_written_and_fits_what_aws_takes(record):
    attributes = {**encode(record), RUN: "a1b2c3"}
    assert decode(attributes) == record
    assert len(attributes) < MAX_ATTRIBUTES
    for name, value in attributes.items():
        assert AWS_NAME.fullmatch(name)
        assert AWS_VALUE.fullmatch(value)
        assert len(value) <= MAX_VALUE


def test_more_groups_than_a_record_holds_are_an_error_and_not_left_out():
    assert decode(encode(BaselineRecord({f"group-{n:04}": n for n in range(2000)}))).sizes["group-1999"] == 1999
    with pytest.raises(FleetError, match="5,000 thing groups"):
        encode(BaselineRecord({f"group-{n:04}": n for n in range(5000)}))


def test_where_nothing_was_recorded_there_is_no_baseline(baseline):
    assert baseline("line-a") is None


def test_a_group_that_policies_still_name_is_not_counted(baseline, record):
    record(line_a=9)
    found = baseline("line-a")
    assert (found.group_sizes, found.ungoverned, found.commit) == ({"line-a": 9}, {}, "c" * 40)


def test_things_of_a_group_that_is_named_no_more_count_where_no_policy_governs_them(baseline, record, registry):
    registry.groups["line-b"] = ["a-1", "b-1", "b-2"]  # a-1 is governed through line-a
    registry.groups["line-c"] = ["b-2", "c-1"]  # b-2 is counted with line-b
    record(line_a=3, line_b=3, line_c=2)
    assert baseline("line-a").ungoverned == {"line-b": 2, "line-c": 1}


def test_a_policy_that_moved_to_a_parent_group_leaves_nobody_behind(baseline, record, registry):
    registry.groups["plant"] = ["a-1", "a-2", "a-3", "b-1"]
    record(line_a=3)
    assert baseline("plant").ungoverned == {"line-a": 0}


def test_of_a_group_that_is_gone_from_the_registry_what_was_recorded_stands(baseline, record):
    record(line_a=3, demolished=12)
    assert baseline("line-a").ungoverned == {}
    assert baseline("line-a").group_sizes["demolished"] == 12


@pytest.mark.parametrize("value", ["line-a", "line-a/many", "line-a/3;line-b/4", "", "line-a/-1"])
def test_a_record_that_someone_else_changed_is_named_with_what_to_do(baseline, registry, value):
    registry.groups[RECORD_GROUP] = []
    registry.group_attributes[RECORD_GROUP] = {"groups-1": value}
    with pytest.raises(FleetError, match="cf-governed is damaged") as caught:
        baseline("line-a")
    assert "delete-thing-group" in caught.value.remedy


def test_attributes_that_people_add_to_the_record_are_left_alone():
    assert decode({"owner": "ops", "groups-1": "line-a/3"}) == BaselineRecord({"line-a": 3})
