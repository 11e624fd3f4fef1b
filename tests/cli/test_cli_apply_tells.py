"""However an apply ends, it tells what it did: in the report, and to whoever the person's list is for."""

from __future__ import annotations

import json
import sys
import time
from functools import partial

import pytest
from cli_factory import Factory

from controller.commands import apply as command
from controller.commands.context import Context
from controller.errors import FleetError

APPLY = ("apply", "--wait", "--timeout", "60s", "--format", "json", "--needs-person", "person.json")


@pytest.fixture
def five(factory):
    """Five devices that are due: one of the first wave, four of the second."""
    for number in range(5):
        factory.device(f"old-{number}", age=200)
    return factory


def told(factory: Factory, outcome) -> dict:
    """What the report says of the fleet; the person's list is there too."""
    person = json.loads((factory.repository / "person.json").read_text())
    assert [fleet["fleet"] for fleet in person["fleets"]] == ["factory"]
    [fleet] = outcome.json["fleets"]
    return fleet


def raising(error):
    def anything(*_args, **_kwargs):
        raise error

    return anything


def in_its_second_round(call, error):
    rounds = []

    def observe(*args):
        rounds.append(None)
        return call(*args) if len(rounds) == 1 else raising(error)()

    return observe


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        ("controller.commands.apply.follow", KeyboardInterrupt(), "interrupted: what has been started goes on"),
        (
            "controller.commands.apply.follow",
            ZeroDivisionError("by nought"),
            "certfleet has a defect: ZeroDivisionError: by nought",
        ),
        ("controller.commands.apply.follow", FleetError("AWS is away", "wait"), "AWS is away"),
        ("controller.jobs.apply.sweep_cohorts", KeyboardInterrupt(), "interrupted"),  # before anything is followed
        (
            "controller.jobs.apply._unless_asked_twice",
            FleetError("AWS is away", "wait"),
            "AWS is away",
        ),  # just after CreateJob
    ],
)
def test_what_stops_it_in_the_middle_is_told_with_what_was_started(five, monkeypatch, function, error, said):
    module, _, name = function.rpartition(".")
    monkeypatch.setattr(sys.modules[module], name, raising(error))

    applied = five.run(*APPLY)

    assert applied.code == 1
    fleet = told(five, applied)
    assert fleet["stopped"]["message"].startswith(said)
    assert [job["job_id"] for job in fleet["jobs"]] == five.jobs()
    [policy] = fleet["policies"]
    assert (policy["policy"], policy["started"], policy["rotated"]) == ("line-a", 1, 0)
    assert "4 devices wait" in policy["stands"]
    assert policy["left"]["devices"] == 5
    [person] = json.loads((five.repository / "person.json").read_text())["fleets"]
    assert any(said in line for line in person["needs_person"]) is not said.startswith("interrupted")


def test_what_stops_a_later_round_is_told_with_what_the_first_has_done(five, monkeypatch):
    monkeypatch.setattr(command, "observe", in_its_second_round(command.observe, KeyboardInterrupt()))
    applied = five.run(*APPLY)
    assert applied.code == 1
    [policy] = told(five, applied)["policies"]
    assert (policy["started"], policy["rotated"], policy["failed"]) == (1, 1, 0)
    five.run("apply", "--wait", "--timeout", "60s")
    assert set(five.rotations.values()) == {1}, "the next run carries on, and rotates nobody twice"


def test_refused_in_a_later_round_it_says_what_was_done_and_then_what_refuses(five):
    five.write((five.desired / "factory.yaml").read_text().replace("maxChangePercent: 90", "maxChangePercent: 50"))
    five.commit()

    applied = five.run(*APPLY)

    assert applied.code == 3
    fleet = told(five, applied)
    assert fleet["stopped"]["message"].startswith("refused, what the rounds before have started goes on")
    assert fleet["stopped"]["remedy"] == "--override maxChangePercent=100"
    assert [device["status"] for device in fleet["devices"]] == ["SUCCEEDED"]
    assert sum(five.rotations.values()) == 1
    person = json.loads((five.repository / "person.json").read_text())["fleets"][0]["needs_person"]
    assert any("maxChangePercent=100" in line for line in person)


def test_refused_in_its_first_round_the_report_is_written_too(five):
    five.write((five.desired / "factory.yaml").read_text().replace("maxChangePercent: 90", "maxChangePercent: 10"))
    five.commit()
    applied = five.run(*APPLY)
    assert applied.code == 3
    assert applied.json["fleets"] == []
    assert applied.json["failures"][0]["message"].startswith("refused, nothing was changed")
    assert "refused, nothing was changed" in applied.err
    assert five.jobs() == []


def test_when_its_time_is_up_it_says_so_with_who_has_not_finished(five):
    five.offline = {f"old-{number}" for number in range(5)}
    applied = five.run("apply", "--wait", "--timeout", "1s", "--needs-person", "person.json")
    assert applied.code == 2
    assert "TIME IS UP" in applied.out
    assert "the next run carries on" in applied.out
    assert "Not finished" in applied.out
    assert (five.repository / "person.json").exists()


def test_whoever_interrupts_one_fleet_means_those_that_would_follow(five, monkeypatch):
    second = (five.desired / "factory.yaml").read_text().replace("name: factory", "name: second")
    five.write(second.replace("region: eu-west-1", "region: eu-west-2"), "second/second.yaml")
    (five.desired / "first").mkdir()
    (five.desired / "factory.yaml").rename(five.desired / "first" / "factory.yaml")
    five.commit()
    monkeypatch.setattr("controller.commands.apply.follow", raising(KeyboardInterrupt()))
    applied = five.run("apply", "--wait", "--format", "json")
    assert applied.code == 1
    assert [fleet["fleet"] for fleet in applied.json["fleets"]] == ["factory"]
    assert [failure["fleet"] for failure in applied.json["failures"]] == ["second"]
    assert applied.json["failures"][0]["message"].startswith("interrupted")


def test_it_waits_for_the_backend_after_a_job_that_an_earlier_run_made_and_goes_on_to_the_next_wave(five, monkeypatch):
    five.is_removing_late = True
    assert five.run("apply").code == 0
    [first] = five.jobs()
    assert five.has_ended(first)

    def sleep(_seconds):
        five.is_removing_late = False
        five.remove_old()
        time.sleep(0.05)

    monkeypatch.setattr("controller.cli.Context", partial(Context, sleep=sleep))
    outcome = five.run(*APPLY)

    assert outcome.code == 0
    assert five.rotations.total() == 5
    assert told(five, outcome)["in_sync"] == 5
