"""When silent devices were last connected, and which version failing ones run; both only where it is known."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fleet_registry import EPOCH, Fault

from controller.fleet import RefreshOptions, health, refresh


@pytest.fixture
def run(registry, make_session, make_desired, inventory, now):
    def run(at=now):
        desired = make_desired("line-a")
        session = make_session(registry, attempts=1)
        state = refresh(session, inventory, desired, at, options=RefreshOptions(max_slice=0))
        return {device.name: device for device in inventory.devices(desired, state)}, session.calls

    return run


def test_silent_devices_show_when_they_were_last_connected(run, registry, now):
    registry.add_job("by-hand", dict.fromkeys(("a-1", "a-2", "a-3"), "QUEUED"))
    registry.presence = {
        "a-1": {"connected": False, "timestamp": EPOCH.timestamp()},
        "a-2": {"connected": True, "timestamp": EPOCH.timestamp()},
    }
    devices, calls = run()
    assert {name: device.last_seen for name, device in devices.items()} == {"a-1": EPOCH, "a-2": now, "a-3": None}
    assert calls["GetThingConnectivityData"] == 3


def test_device_that_is_no_longer_silent_forgets_what_would_grow_stale(run, registry, now):
    registry.add_job("by-hand", {"a-1": "QUEUED"})
    registry.presence["a-1"] = {"connected": True}
    assert run()[0]["a-1"].last_seen == now
    registry.jobs["by-hand"]["executions"]["a-1"] = "SUCCEEDED"
    devices, calls = run()
    assert devices["a-1"].last_seen is None
    assert calls["GetThingConnectivityData"] == 0


def test_device_that_was_just_asked_to_rotate_is_not_silent_yet(run, registry, now):
    registry.add_job("by-hand", {"a-1": "QUEUED"}, created_at=now - timedelta(minutes=5))
    assert run()[1]["GetThingConnectivityData"] == 0


def test_questions_are_bounded_and_come_round_to_every_device(run, registry, monkeypatch):
    monkeypatch.setattr(health, "MAX_ASKED", 1)
    registry.add_job("by-hand", dict.fromkeys(("a-1", "a-2", "a-3"), "QUEUED"))
    registry.presence = {f"a-{number}": {"connected": False, "timestamp": EPOCH.timestamp()} for number in (1, 2, 3)}
    seen = [sum(device.last_seen is not None for device in run()[0].values()) for _ in range(3)]
    assert seen == [1, 2, 3]


def test_more_silent_devices_than_are_asked_are_found_by_the_index_a_page_at_a_time(run, registry, now, monkeypatch):
    monkeypatch.setattr(health, "MAX_ASKED", 1)
    registry.is_indexed, registry.page_limit = True, 2
    registry.add_job("by-hand", dict.fromkeys(("a-1", "a-2", "a-3"), "QUEUED"))
    registry.presence = {
        "a-1": {"connected": False, "timestamp": EPOCH.timestamp()},
        "a-2": {"connected": True},
        "a-3": {"connected": False, "timestamp": EPOCH.timestamp() + 60},
        "of-somebody-else": {"connected": False, "timestamp": EPOCH.timestamp()},
    }
    devices, calls = run()
    assert {name: device.last_seen for name, device in devices.items()} == {
        "a-1": EPOCH, "a-2": now, "a-3": EPOCH + timedelta(minutes=1),
    }  # fmt: skip
    assert (calls["SearchIndex"], calls["GetThingConnectivityData"]) == (2, 1), "who is not offline is asked alone"


def test_an_index_of_a_whole_account_is_not_read_to_its_end_for_a_few_devices(run, registry, monkeypatch):
    monkeypatch.setattr(health, "MAX_ASKED", 1)
    registry.is_indexed = True
    registry.add_job("by-hand", dict.fromkeys(("a-1", "a-2", "a-3"), "QUEUED"))
    others = [*(f"0-{number:03}" for number in range(900)), "a-1", "a-2", "a-3"]
    registry.presence = {name: {"connected": False, "timestamp": EPOCH.timestamp()} for name in others}
    devices, calls = run()
    assert calls["SearchIndex"] == 2
    assert [device.last_seen for device in devices.values()] == [EPOCH, None, None], "not known, within the bound"


def test_without_an_index_silent_devices_are_asked_one_by_one_within_the_bound(run, registry, monkeypatch):
    monkeypatch.setattr(health, "MAX_ASKED", 2)
    registry.add_job("by-hand", dict.fromkeys(("a-1", "a-2", "a-3"), "QUEUED"))
    calls = run()[1]
    assert (calls["SearchIndex"], calls["GetThingConnectivityData"]) == (1, 2)


def test_failing_devices_show_versions_then_and_now(run, registry):
    failed = dict.fromkeys(("a-1", "a-2", "a-3"), "FAILED")
    registry.add_job("by-hand", failed, reasons={"a-1": "no space"}, details={"ComponentVersion": "1.0.0"})
    registry.versions = {"a-1": "1.1.0", "a-2": ""}
    devices, calls = run()

    assert devices["a-1"].component_version == "1.1.0"
    assert devices["a-1"].failures[0].component_version == "1.0.0"
    assert devices["a-2"].component_version is None
    assert devices["a-2"].failures[0].component_version is None
    assert devices["a-3"].component_version is None
    assert calls["ListInstalledComponents"] == 3


@pytest.mark.parametrize("code", ["AccessDeniedException", "IndexNotReadyException", "ResourceNotFoundException"])
def test_presence_that_cannot_be_asked_is_not_known(run, registry, code):
    registry.add_job("by-hand", {"a-1": "QUEUED"})
    registry.faults["GetThingConnectivityData"] = Fault(code, 403, times=9)
    assert run()[0]["a-1"].last_seen is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault("ThrottlingException", 429, times=99),
        Fault("InternalFailureException", 500, times=99),
        Fault("SomethingNew", 418, times=99),
        Fault("UnreadableAnswer", 502, times=99),
    ],
    ids=lambda fault: fault.code,
)
def test_a_question_that_a_run_can_do_without_never_ends_it(run, registry, fault):
    registry.add_job("by-hand", {"a-1": "QUEUED", "a-2": "FAILED", "a-3": "FAILED"})
    registry.faults["GetThingConnectivityData"] = registry.faults["ListInstalledComponents"] = fault
    devices, calls = run()
    assert [device.last_seen or device.component_version for device in devices.values()] == [None, None, None]
    assert calls["ListInstalledComponents"] <= 2, "a service that does not answer is not asked for every device"
