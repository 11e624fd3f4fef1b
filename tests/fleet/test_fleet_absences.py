"""When things that connect rarely went away and came back: what looks from day to day make of it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from fleet_registry import EPOCH, Fault
from hypothesis import given
from hypothesis import strategies as st

from controller.fleet import RefreshOptions, health, refresh
from controller.fleet.absences import MOST, Sighting, noted

HOUR, DAY = 3_600, 86_400
SEEN = st.tuples(st.integers(0, 3 * DAY), st.booleans(), st.integers(0, 5 * DAY))


def here(since):
    return Sighting(is_connected=True, since=since)


def away(since):
    return Sighting(is_connected=False, since=since)


@pytest.mark.parametrize(
    ("known", "looked_at", "now", "sighting", "expected"),
    [
        pytest.param(None, None, DAY, here(0), None, id="always here: nothing is kept"),
        pytest.param(None, None, DAY, away(HOUR), [HOUR], id="away for the first time"),
        pytest.param([HOUR], DAY, 2 * DAY, away(HOUR), [HOUR], id="away still"),
        pytest.param([HOUR], DAY, 2 * DAY, here(DAY + HOUR), [HOUR, DAY + HOUR], id="it came back"),
        pytest.param([HOUR], DAY, 2 * DAY, away(DAY + HOUR), [HOUR, DAY + HOUR, DAY + HOUR], id="back, and gone again"),
        pytest.param([DAY], DAY, 2 * DAY, here(DAY + HOUR - 1), [], id="back within the hour is no absence"),
        pytest.param([DAY], DAY, 2 * DAY, away(DAY + HOUR - 1), [DAY + HOUR - 1], id="nor is a short connection"),
        pytest.param([HOUR], DAY, 9 * DAY, here(8 * DAY), [], id="nobody looked for days: nobody knows how long"),
        pytest.param([HOUR], DAY, 9 * DAY, away(8 * DAY), [8 * DAY], id="nor when it went away again"),
        pytest.param([DAY], DAY, 2 * DAY, away(HOUR), [DAY], id="news of before changes nothing"),
        pytest.param([HOUR, DAY], DAY, 2 * DAY, away(HOUR), [HOUR, DAY], id="nor does an index that is late"),
        pytest.param([HOUR, DAY], DAY, 2 * DAY, here(DAY), [HOUR, DAY], id="here still"),
        pytest.param([], DAY, 2 * DAY, here(DAY), [], id="here, and looked at on"),
        pytest.param([HOUR, DAY], DAY, 200 * DAY, here(DAY), None, id="here for half a year: it does not come and go"),
        pytest.param([HOUR], DAY, 2 * DAY, away(3 * DAY), [HOUR, 2 * DAY, 2 * DAY], id="a clock ahead of this one"),
    ],
)
def test_what_is_known_of_a_thing_once_it_was_sighted(known, looked_at, now, sighting, expected):
    assert noted(known, looked_at, now, sighting) == expected


@given(st.lists(SEEN, max_size=80))
def test_whatever_is_heard_it_stays_in_order_bounded_and_never_longer_than_was_looked_at(seen):
    known, looked_at, now = None, None, 1_000 * DAY
    for later, is_connected, before in seen:
        now += later
        found = noted(known, looked_at, now, Sighting(is_connected=is_connected, since=now - before))
        assert noted(found, now, now, Sighting(is_connected=is_connected, since=now - before)) == found, "twice is once"
        if found is not None:
            assert found == sorted(found)
            assert len(found) <= 2 * MOST + 1
            assert all(back - gone >= HOUR for gone, back in zip(found[::2], found[1::2], strict=False))
        known, looked_at = found, now


@pytest.fixture
def look(registry, make_session, make_desired, inventory, now):
    """One look of the loop, so many hours from now; the devices by name, and the calls."""

    def look(hours):
        desired = make_desired("line-a")
        session = make_session(registry, attempts=1)
        at = now + timedelta(hours=hours)
        state = refresh(session, inventory, desired, at, options=RefreshOptions(max_slice=0))
        return {device.name: device for device in inventory.devices(desired, state)}, session.calls

    return look


def is_seen(registry, thing, is_connected, at):
    registry.presence[thing] = {"connected": is_connected, "timestamp": at.timestamp()}


def test_a_device_that_comes_and_goes_is_known_after_two_weeks_and_no_other_is_asked(look, registry, now):
    registry.add_job("by-hand", {"a-1": "QUEUED", "a-2": "QUEUED"}, created_at=now - timedelta(days=1))
    is_seen(registry, "a-1", False, now - timedelta(days=3))
    is_seen(registry, "a-2", True, now - timedelta(days=9))
    devices, calls = look(0)
    assert devices["a-1"].absences.is_away
    assert devices["a-1"].absences.seen_at == now - timedelta(days=3)
    assert devices["a-2"].absences is None, "it is only slow"
    assert calls["GetThingConnectivityData"] == 2
    registry.jobs["by-hand"]["executions"] = {"a-1": "CANCELED", "a-2": "CANCELED"}
    for day in range(1, 17):
        at = now + timedelta(days=day)
        if day % 3 == 1:
            is_seen(registry, "a-1", True, at - timedelta(hours=20))
        elif day % 3 == 2:
            is_seen(registry, "a-1", False, at - timedelta(hours=30))
        devices, calls = look(24 * day)
        assert calls["GetThingConnectivityData"] == 1, "once a day, and nobody else"
    assert look(24 * day + 1)[1]["GetThingConnectivityData"] == 0
    known = devices["a-1"].absences
    assert [gap / timedelta(days=1) for gap in known.gaps][1:] == pytest.approx([2.42] * 5, abs=0.01)
    assert devices["a-1"].last_seen is None, "what is only kept for this does not count as an answer"


def test_a_device_that_begins_with_its_job_has_come_back(look, registry, now):
    registry.add_job("by-hand", {"a-1": "QUEUED"}, created_at=now - timedelta(hours=3))
    is_seen(registry, "a-1", False, now - timedelta(days=2))
    assert look(0)[0]["a-1"].absences.gaps == ()
    registry.jobs["by-hand"]["executions"]["a-1"] = "IN_PROGRESS"
    devices, calls = look(1)
    assert calls["GetThingConnectivityData"] == 0
    known = devices["a-1"].absences
    assert not known.is_away
    assert len(known.gaps) == 1


def test_what_the_index_says_of_silent_devices_is_noted_too(look, registry, now, monkeypatch):
    monkeypatch.setattr(health, "MAX_ASKED", 1)
    registry.is_indexed = True
    registry.add_job("by-hand", dict.fromkeys(("a-1", "a-2"), "QUEUED"), created_at=now - timedelta(hours=3))
    for name in ("a-1", "a-2"):
        is_seen(registry, name, False, EPOCH)
    devices, calls = look(0)
    assert calls["GetThingConnectivityData"] == 0
    assert [devices[name].absences.seen_at for name in ("a-1", "a-2")] == [EPOCH, EPOCH]


def test_silent_devices_come_first_and_the_bound_holds_for_all(look, registry, now, monkeypatch):
    registry.add_job("by-hand", {"a-1": "QUEUED"}, created_at=now - timedelta(hours=3))
    is_seen(registry, "a-1", False, EPOCH)
    look(0)
    registry.jobs["by-hand"]["executions"] = {"a-2": "QUEUED"}
    monkeypatch.setattr(health, "MAX_ASKED", 1)
    assert look(30)[1]["GetThingConnectivityData"] == 1
    registry.jobs["by-hand"]["executions"] = {}
    is_seen(registry, "a-1", True, now + timedelta(hours=30))
    assert not look(31)[0]["a-1"].absences.is_away


def test_without_an_answer_what_is_known_stays(look, registry, now, inventory):
    registry.add_job("by-hand", {"a-1": "QUEUED"}, created_at=now - timedelta(hours=3))
    is_seen(registry, "a-1", False, EPOCH)
    before = look(0)[0]["a-1"].absences
    registry.faults["GetThingConnectivityData"] = Fault("AccessDeniedException", 403, times=9)
    assert look(30)[0]["a-1"].absences == before
    with inventory.database.snapshot() as connection:
        rows = connection.execute("SELECT name, absences FROM things WHERE absences IS NOT NULL").fetchall()
    assert [(name, json.loads(text)) for name, text in rows] == [("a-1", [int(EPOCH.timestamp())])]
