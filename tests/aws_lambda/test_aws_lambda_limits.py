"""Time that runs out, and other runs at the same moment: nothing is lost, nothing happens twice."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import pytest

from controller import cli
from controller.aws_lambda import in_turn
from controller.errors import CertfleetError
from controller.fleet.work import WINDOW
from controller.jobs import IotJobs
from controller.lambda_reconcile.budget import OutOfTimeError, TimeBudget
from controller.lambda_reconcile.settings import read_settings

BUCKET = "certfleet-reconcile"
INVENTORY = "inventory/123456789012-eu-west-1.sqlite"
PLENTY = 300_000


def test_a_run_without_time_does_nothing_and_the_next_one_does_all_of_it(site, invoke):
    site.publish()
    site.device("old", age=200)
    stopped = invoke(milliseconds=1_000)
    assert stopped.error is None
    assert stopped.value["fleets"]["factory"]["StoppedEarly"] == 1
    assert (site.jobs(), site.kept(INVENTORY)) == ([], None)
    assert invoke().value["fleets"]["factory"]["JobsCreated"] == 1


def test_a_refresh_that_runs_out_of_time_keeps_what_it_has_read_and_the_next_one_goes_on(site, invoke, tmp_path):
    asks = 30  # about the time that is left; each answer about a thing is followed by one
    most = asks + WINDOW  # answers that may be there: those under way then are kept too
    devices = most + 10
    site.publish()
    for number in range(devices):
        site.device(f"young-{number:03}")
    asked = []
    first = invoke(lambda: PLENTY if asked.append(1) or len(asked) < asks else 0).value["fleets"]["factory"]
    assert first["StoppedEarly"] == 1
    assert "Governed" not in first
    kept = tmp_path / "kept.sqlite"
    kept.write_bytes(site.kept(INVENTORY))
    with sqlite3.connect(kept) as connection:
        [(known,)] = connection.execute("SELECT count(*) FROM certificates WHERE are_things_read = 1")
    connection.close()
    second = invoke().value["fleets"]["factory"]
    assert (second["StoppedEarly"], second["Governed"], second["InSync"]) == (0, devices, devices)
    assert 0 < known <= most
    assert second["AwsCalls"] <= devices + (devices - known) + 20


def test_a_function_that_is_killed_in_a_long_look_has_kept_what_it_had_read_minutes_before(
    site, invoke, tmp_path, monkeypatch
):
    monkeypatch.setenv("CERTFLEET_QUOTA_FACTOR", "100")
    devices = 20
    site.publish()
    for number in range(devices):
        site.device(f"young-{number:03}")
    asked, killed = [], []

    def left():
        """Twenty seconds pass from one question to the next; the function is killed at the twenty-fourth."""
        asked.append(1)
        if len(asked) == 24:
            killed.append(site.kept(INVENTORY))
        return 2_000_000 - 20_000 * len(asked)

    invoke(left)
    kept = tmp_path / "kept.sqlite"
    assert killed != [None], "nothing was kept before"
    kept.write_bytes(killed[0])
    with sqlite3.connect(kept) as connection:
        [(known,)] = connection.execute("SELECT count(*) FROM certificates WHERE are_things_read = 1")
    connection.close()
    assert 0 < known < devices
    site.s3.put_object(Bucket=BUCKET, Key=f"reconcile/{INVENTORY}", Body=killed[0])
    second = invoke().value["fleets"]["factory"]
    assert (second["StoppedEarly"], second["InSync"]) == (0, devices)
    assert second["AwsCalls"] <= devices + (devices - known) + 20


def test_an_apply_that_runs_out_of_time_leaves_the_other_jobs_to_the_next_run(site, invoke):
    documents = (site.repository / "desired_state" / "factory.yaml").read_text()
    policy = documents.partition("---\n")[2].replace("line-a", "line-b")
    site.commit(f"{documents}---\n{policy}")
    site.cloud.seed.group("line-b")
    site.publish()
    site.device("a", age=200)
    site.cloud.seed.thing("b", ["line-b"])
    site.certificate("b", age=200)
    first = invoke(lambda: 0 if site.jobs() else PLENTY)
    assert first.value["fleets"]["factory"]["StoppedEarly"] == 1
    assert first.value["fleets"]["factory"]["JobsCreated"] == len(site.jobs()) > 0, "what was made is told"
    assert len(site.jobs()) == 1
    assert "next run goes on" in first.log
    invoke()
    assert len(site.jobs()) == 2
    site.wait_until_rotated(2)
    assert site.rotations == {"a": 1, "b": 1}


def test_a_run_that_another_one_overtook_discards_its_inventory_and_says_so(site, invoke):
    site.publish()
    site.device("old", age=200)
    asked = []

    def overtaken():
        asked.append(1)
        if len(asked) == 3:  # after the inventory was fetched
            site.s3.put_object(Bucket=BUCKET, Key=f"reconcile/{INVENTORY}", Body=b"the other run's")
        return PLENTY

    answer = invoke(overtaken)
    assert answer.value["fleets"]["factory"]["InventoryDiscarded"] == 1
    assert "this run's copy is discarded" in answer.log
    assert site.kept(INVENTORY) == b"the other run's"
    assert len(site.jobs()) == 1


@pytest.mark.unmeasured
@pytest.mark.parametrize("devices", [5, 110], ids=["a job on things", "a job on a cohort group"])
def test_ci_and_the_function_reconcile_the_same_drift_at_the_same_moment_and_each_device_rotates_once(
    site, invoke, monkeypatch, tmp_path, devices
):
    site.publish()
    for number in range(devices):
        site.device(f"old-{number:03}", age=200)
    for number in range(20):  # so that the wave is not the whole group
        site.device(f"young-{number:02}")
    meeting = threading.Barrier(2)
    write_group, met = IotJobs.write_group, set()

    def write_together(self, *arguments):
        """Both have looked, and neither has noted that it makes jobs."""
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            meeting.wait(60)
        return write_group(self, *arguments)

    monkeypatch.setattr(IotJobs, "write_group", write_together)
    monkeypatch.chdir(site.repository)
    codes = []
    arguments = ("apply", "--inventory", str(tmp_path / "ci.sqlite"), "--output", str(tmp_path / "out.txt"))
    ci = threading.Thread(target=lambda: codes.append(cli.main(arguments)))
    ci.start()
    answer = invoke()
    ci.join(120)
    assert codes == [0]
    assert answer.error is None
    assert len(site.jobs()) == 1
    created = answer.value["fleets"]["factory"]["JobsCreated"]
    assert created + ("1 job made" in (tmp_path / "out.txt").read_text()) == 1
    site.wait_until_rotated(devices)
    monkeypatch.setattr(IotJobs, "write_group", write_group)
    assert invoke().value["fleets"]["factory"]["InSync"] == devices + 20
    assert cli.main(arguments) == 0
    assert len(site.rotations) == devices
    assert set(site.rotations.values()) == {1}


@pytest.mark.parametrize("minutes", [5, 60, 720])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 60])
def test_every_fleet_is_the_first_one_sometimes_whatever_the_schedule(number, minutes):
    fleets = tuple(range(number))
    start = datetime(2026, 11, 23, 12, 0, 7, tzinfo=UTC)
    runs = [in_turn(fleets, start + timedelta(minutes=minutes * run)) for run in range(24 * number)]
    assert {run[0] for run in runs} == set(fleets)
    assert {tuple(sorted(run)) for run in runs} == {fleets}


def test_a_rate_limit_that_would_outlast_the_budget_is_not_slept_through():
    slept = []
    budget = TimeBudget(lambda: 40.0, reserve=30.0, sleep=slept.append)
    budget.sleep(5)
    with pytest.raises(OutOfTimeError, match="rate limit"):
        budget.sleep(11)
    assert slept == [5]


GIVEN = {"CERTFLEET_BUCKET": "b-b", "CERTFLEET_REPOSITORY": "github.com/acme/fleet"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"CERTFLEET_BUCKET": ""}, "CERTFLEET_BUCKET"),
        ({"CERTFLEET_REPOSITORY": ""}, "CERTFLEET_REPOSITORY"),
        ({"CERTFLEET_RESERVE_SECONDS": "soon"}, "CERTFLEET_RESERVE_SECONDS"),
        ({"CERTFLEET_STATE_PREFIX": "no-slash"}, "CERTFLEET_STATE_PREFIX"),
        ({"CERTFLEET_BUNDLE_KEY": "reconcile/bundle"}, "may not lie below the state prefix"),
    ],
    ids=[
        "no bucket",
        "no repository",
        "a reserve that is not a number",
        "a prefix without slash",
        "a bundle among the state",
    ],
)
def test_an_environment_is_refused_with_the_variable_named(change, named):
    with pytest.raises(CertfleetError, match=named):
        read_settings(GIVEN | change)
