"""Sites of devices: a thing attribute that the listing of things brings anyway."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fleet_registry import Fault

from controller.errors import FleetError
from controller.fleet import RefreshOptions, refresh

NO_SLICE = RefreshOptions(max_slice=0)
THINGS = ("a-1", "a-2", "a-3")
HOUR = timedelta(hours=1)


@pytest.fixture
def sites(registry, make_session, make_desired, inventory, now):
    """Looks once under a Fleet that names this attribute; returns the sites that reports show, and the calls."""
    registry.thing_attributes |= {"a-1": {"plant": "north", "line": "7"}, "a-2": {"plant": "south", "line": "8"}}
    registry.page_limit = 1

    def looked(attribute, after=0 * HOUR, **settings):
        desired = make_desired("line-a", site_attribute=attribute)
        session = make_session(registry, **settings)
        refresh(session, inventory, desired, now + after, options=NO_SLICE)
        return inventory.sites(attribute or "plant", THINGS), session.calls["ListThings"]

    return looked


def strangers(registry, number):
    for each in range(number):
        registry.add_certificate(f"f{each:02}f", f"stray-{each:02}")


def test_a_site_costs_a_first_look_the_pages_of_all_things_and_later_looks_nothing(sites, registry):
    strangers(registry, 9)
    assert sites("plant") == ({"a-1": "north", "a-2": "south"}, 12), "a-3 has no such attribute, which is no error"
    assert sites("plant", HOUR)[1] == 12, "certificates and things are listed once a day"
    assert sites("plant", 2 * HOUR) == ({"a-1": "north", "a-2": "south"}, 4)


def test_a_fleet_that_names_no_attribute_lists_no_page_more_and_keeps_no_site(sites, registry, inventory):
    strangers(registry, 9)
    assert sites(None) == ({}, 4)
    kept = inventory.database.connection.execute("SELECT count(*) FROM things WHERE site IS NOT NULL").fetchone()
    assert kept == (0,)


def test_a_thing_that_moves_has_its_new_site_within_a_day(sites, registry):
    strangers(registry, 9)
    sites("plant")
    sites("plant", HOUR)
    registry.thing_attributes = {"a-2": {"plant": "east"}, "a-3": {"plant": ""}, "stray-08": {"plant": "west"}}
    assert sites("plant", 26 * HOUR) == ({"a-2": "east"}, 12)


def test_another_attribute_shows_nothing_of_the_one_before_and_is_read_at_once(sites, registry, inventory):
    strangers(registry, 9)
    sites("plant")
    sites("plant", HOUR)
    assert inventory.sites("line", THINGS) == {}, "as a report without a new look asks"
    assert sites("line", 2 * HOUR) == ({"a-1": "7", "a-2": "8"}, 12)
    assert sites(None, 3 * HOUR) == ({}, 4)
    assert inventory.sites("line", THINGS) == {}


def test_pages_of_a_look_that_was_cut_off_are_not_taken_for_another_attribute(sites, registry):
    registry.faults["ListThings"] = Fault("ThrottlingException", 429, times=1, after=2)
    with pytest.raises(FleetError):
        sites("plant", attempts=1)
    assert sites("line") == ({"a-1": "7", "a-2": "8"}, 3)


def test_a_look_that_was_cut_off_goes_on_with_the_same_attribute(sites, registry):
    registry.faults["ListThings"] = Fault("ThrottlingException", 429, times=1, after=2)
    with pytest.raises(FleetError):
        sites("plant", attempts=1)
    assert sites("plant") == ({"a-1": "north", "a-2": "south"}, 1)


def test_a_role_that_may_not_list_things_knows_no_site_and_looks_all_the_same(sites, registry):
    registry.faults["ListThings"] = Fault("AccessDeniedException", 403, times=1)
    assert sites("plant") == ({}, 1)
    assert sites("plant", HOUR) == ({"a-1": "north", "a-2": "south"}, 3)
    registry.faults["ListThings"] = Fault("AccessDeniedException", 403, times=1)
    assert sites("line", 2 * HOUR) == ({}, 1), "what was read of another attribute is not shown for it"


def test_a_site_is_one_line_whatever_somebody_wrote_into_the_registry(sites, registry):
    registry.thing_attributes["a-1"]["plant"] = "north\n\x1b[31mred"
    assert sites("plant")[0]["a-1"] == "north \ufffd[31mred"
