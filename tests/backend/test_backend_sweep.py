"""What no event has brought to its end, the sweep does: by the same table, thing by thing, however many there are."""

from __future__ import annotations

import pytest
from backend_aws import JOB, client_error

from backend.functions import sweep
from backend.functions.errors import ConflictError
from backend.functions.table import RotationTable

QUARTER = {"minutes": 16}


@pytest.fixture
def committed(device):
    device.create()
    device.aws.tick(seconds=5)
    device.commit()
    device.aws.tick(seconds=5)
    return device


def unheard(device, status):
    """The job ends, and its event is lost."""
    device.aws.executions[device.name, JOB]["status"] = status


def test_a_success_that_nobody_heard_of_removes_the_old_certificate(committed):
    new = committed.new
    unheard(committed, "SUCCEEDED")
    committed.aws.tick(days=1)
    committed.sweep()
    committed.assert_only(new)
    assert committed.aws.notices == []


def test_a_failure_that_nobody_heard_of_removes_the_new_certificate(device):
    device.create()
    unheard(device, "FAILED")
    device.aws.tick(**QUARTER)
    device.sweep()
    device.assert_only(device.old)


@pytest.mark.parametrize("gone", ["TIMED_OUT", "deleted"])
def test_an_end_that_says_nothing_of_the_device_leaves_both_and_a_day_later_asks_a_person(device, gone):
    device.create()
    if gone == "deleted":
        device.aws.executions.clear()
    else:
        unheard(device, gone)
    device.aws.tick(**QUARTER)
    device.sweep()
    assert len(device.attached) == 2
    device.aws.tick(days=1)
    device.sweep()
    assert "--new-status INACTIVE" in device.aws.notices[-1]
    assert len(device.attached) == 2


def test_a_rotation_that_runs_is_left_alone_for_a_day(device):
    device.create()
    device.aws.tick(hours=23)
    device.sweep()
    assert device.aws.notices == []
    device.aws.tick(hours=1)
    device.sweep()
    [notice] = device.aws.notices
    assert "The job runs before the commit" in notice


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_person_decides_of_a_job_that_never_ends_as_its_notice_says(device, which):
    device.create()
    device.aws.tick(days=1)
    device.sweep()
    certificate = getattr(device, which)
    assert f"--new-status INACTIVE --certificate-id {certificate}" in device.aws.notices[-1]
    device.aws.certificates[certificate].status = "INACTIVE"
    device.aws.tick(**QUARTER)
    device.sweep()
    device.assert_only(device.new if which == "old" else device.old)


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_certificate_that_is_switched_off_for_a_moment_while_a_rotation_is_under_way_stays(device, which):
    """An incident, a quarantine: a deactivation can be taken back, a deletion cannot. Nobody was asked."""
    device.create()
    device.aws.certificates[getattr(device, which)].status = "INACTIVE"
    device.aws.tick(**QUARTER)
    device.aws.calls.clear()
    device.sweep()
    assert len(device.attached) == 2
    assert "iot:DescribeCertificate" not in device.aws.calls


def test_a_create_that_broke_off_is_undone(device):
    def kill():
        raise KeyboardInterrupt

    device.aws.before_call["iot:AttachThingPrincipal"] = kill
    with pytest.raises(KeyboardInterrupt):
        device.create()
    assert len(device.aws.certificates) == 2
    device.aws.tick(**QUARTER)
    device.sweep()
    device.assert_only(device.old)


def test_a_removal_that_broke_off_goes_on(committed):
    new = committed.new

    def refuse(_request):
        raise client_error("ThrottlingException", "DeleteCertificate")

    works, committed.aws.iot_delete_certificate = committed.aws.iot_delete_certificate, refuse
    with pytest.raises(Exception, match="Throttling"):
        committed.ended("SUCCEEDED")
    committed.aws.iot_delete_certificate = works
    committed.aws.tick(**QUARTER)
    committed.sweep()
    committed.assert_only(new)


def test_one_thing_that_fails_keeps_no_other_waiting(device, make_device):
    others = [make_device(device.aws, f"gw-{n}") for n in (2, 3)]
    for each in (device, *others):
        each.create()
        unheard(each, "FAILED")
    device.aws.items["gw-2", "current"]["phase"] = {"S": "removing"}  # and it does not say what
    device.aws.tick(**QUARTER)
    assert device.sweep() == {"status": "swept", "open": 3, "failed": 1, "oldest_seconds": 16 * 60}
    assert [len(each.attached) for each in (device, *others)] == [1, 2, 1]


def test_of_very_many_things_each_has_its_turn(device, make_device, monkeypatch):
    monkeypatch.setattr(sweep, "MOST", 3)
    device.aws.page = 2
    for number in range(2, 9):
        make_device(device.aws, f"gw-{number}").create()
    looked = []
    device.aws.iot_describe_job_execution = lambda request: (
        looked.append(request["thingName"]) or {"execution": {"status": "IN_PROGRESS"}}
    )
    device.aws.tick(**QUARTER)
    for _ in range(3):
        device.sweep()
        device.aws.tick(minutes=15)
    assert set(looked) == {f"gw-{number}" for number in range(2, 9)}
    assert len(looked) == 9


def test_a_sweep_reports_how_much_is_open_and_since_when(committed, caplog):
    committed.aws.tick(hours=30)
    committed.sweep()
    [line] = [r for r in caplog.records if getattr(r, "decision", None) == "swept"]
    assert (line.open, line.failed) == (1, 0)
    assert line.oldest_seconds == 30 * 3600 + 10


def test_with_nothing_open_a_sweep_costs_a_few_reads(device):
    assert device.sweep() == {"status": "swept", "open": 0, "failed": 0, "oldest_seconds": 0}
    assert set(device.aws.calls) == {"dynamodb:Query", "dynamodb:GetItem"}


def test_a_rotation_that_somebody_else_is_at_work_on_is_left_to_them(device, monkeypatch):
    def overtaken(*_arguments):
        raise ConflictError(device.name)

    device.create()
    device.aws.tick(**QUARTER)
    monkeypatch.setattr(sweep, "visit", overtaken)
    swept = device.sweep()
    assert (swept["open"], swept["failed"]) == (1, 0)


def test_a_rotation_that_ends_while_the_sweep_is_under_way_is_passed_over(device, monkeypatch):
    device.create()
    device.aws.tick(**QUARTER)
    monkeypatch.setattr(RotationTable, "current", lambda _table, _thing_name: None)
    assert device.sweep()["failed"] == 0
    assert len(device.attached) == 2
