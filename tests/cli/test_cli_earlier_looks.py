"""An earlier look that will do: nothing is asked of AWS, and every report gives its date."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from controller.fleet import AwsSession
from controller.fleet.schema import build


def inventory(tmp_path):
    [path] = (tmp_path / "cache" / "certfleet").glob("*.sqlite")
    return path


def change(path, statement, *values):
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.fixture
def then():
    """An hour ago, in whole minutes."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=1)


@pytest.fixture
def seen(factory, tmp_path, then):
    """A fleet that was looked at then; since, a device has come, and a branch asks for more."""
    factory.device("gateway", age=100)
    assert factory.run("drift").code == 2
    path = inventory(tmp_path)
    connection = sqlite3.connect(path)
    ((text,),) = connection.execute("SELECT look FROM binding")
    connection.close()
    look = json.loads(text) | {"observed_at": then.timestamp()}
    change(path, "UPDATE binding SET look = ?", json.dumps(look))
    factory.device("newcomer", age=100)
    return factory


@pytest.fixture
def calls(monkeypatch):
    """Every attempt at an API of AWS."""
    made, attempt = [], AwsSession._before_attempt

    def counted(self, operation_name, **more):
        made.append(operation_name)
        attempt(self, operation_name, **more)

    monkeypatch.setattr(AwsSession, "_before_attempt", counted)
    return made


QUESTIONS = {
    "drift": ("text", "json", "markdown", "html", "sarif", "junit", "github"),
    "status": ("text", "json", "markdown", "html"),
    "plan": ("text", "json", "markdown", "html", "github"),
    "plan --base HEAD": ("text", "json", "markdown"),
    "forecast": ("text", "json", "markdown", "ics"),
    "explain gateway": ("text", "json", "markdown"),
    "simulate --span 2d": ("text", "json"),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("age", ["--no-refresh", "--max-age 2h"])
def test_a_question_is_answered_from_an_earlier_look_and_dated_in_every_format(seen, calls, then, question, age):
    for form in QUESTIONS[question]:
        told = seen.run(*question.split(), *age.split(), "--format", form)
        assert told.code in {0, 2}, told.err
        dates = {f"{then:%Y-%m-%d %H:%M}Z", f"{then:%Y-%m-%dT%H:%M:%SZ}", f"{then:%Y%m%dT%H%M%SZ}"}
        is_plan_for_apply = (question, form) == ("plan", "json")
        assert is_plan_for_apply or any(date in told.out for date in dates), told.out
        assert f"as it was seen at {then:%Y-%m-%d %H:%M}Z; AWS was asked nothing" in told.err
        assert "newcomer" not in told.out
    assert calls == []


def test_who_may_expire_while_away_is_named_in_every_report(seen, calls, tmp_path, then):
    gone = [then.timestamp() - days * 86_400 for days in range(220, 0, -20)]
    path = inventory(tmp_path)
    change(path, "UPDATE certificates SET not_after = ?", then.timestamp() + 15 * 86_400)
    absences = json.dumps([int(instant) for instant in gone])
    change(path, "UPDATE things SET absences = ?, absences_at = ?", absences, then.timestamp())
    for question in ("drift", "plan"):
        for form in ("text", "markdown", "html"):
            told = seen.run(question, "--no-refresh", "--format", form)
            assert told.code in {0, 2}, told.err
            assert "1 device of line-a will expire before it is likely to be seen again" in " ".join(told.out.split())
    [fleet] = seen.run("drift", "--no-refresh", "--format", "json").json["fleets"]
    [risk] = fleet["offline_risks"]
    assert (risk["device"], risk["absences"], risk["usual_absence_seconds"]) == ("gateway", 5, 20 * 86_400)
    told = seen.run("explain", "gateway", "--no-refresh", "--format", "json").json
    assert told["offline_risk"]["is_at_risk"]
    assert "bring it online until then" in told["words"][-1]
    seen.write((seen.desired / "factory.yaml").read_text().replace("soak: 0s", "soak: 0s, maxInFlight: 7"))
    comment = seen.run("plan", "--base", "HEAD", "--no-refresh", "--format", "markdown")
    assert "line-a: 1 device may expire while offline" in comment.out, comment.out
    assert calls == []


def test_a_look_that_is_too_old_or_of_the_future_is_made_anew(seen, calls, tmp_path):
    assert seen.run("drift", "--max-age", "30m").out.count("newcomer") == 1
    assert "ListThingsInThingGroup" in calls
    path = inventory(tmp_path)
    connection = sqlite3.connect(path)
    ((text,),) = connection.execute("SELECT look FROM binding")
    connection.close()
    ahead = datetime.now(UTC) + timedelta(hours=3)
    change(path, "UPDATE binding SET look = ?", json.dumps(json.loads(text) | {"observed_at": ahead.timestamp()}))
    calls.clear()
    assert seen.run("drift", "--max-age", "30m").code == 2
    assert calls


def cut_off(seen, path):
    change(path, "UPDATE binding SET run = run + 1")


def of_another_group(seen, path):
    seen.cloud.seed.group("line-b")
    seen.write((seen.desired / "factory.yaml").read_text().replace("thingGroup: line-a", "thingGroup: line-b"))


def of_before(seen, path):
    """As a version of before has left it."""
    path.unlink()
    connection = sqlite3.connect(path)
    build(connection, until=5)
    connection.execute("PRAGMA application_id = 1128680532")
    connection.execute(
        "INSERT INTO binding (account, region, run, refreshed_at, endpoint) VALUES (?, ?, 3, 1.0, ?)",
        ("123456789012", "eu-west-1", seen.cloud.endpoint_url),
    )
    connection.commit()
    connection.close()


def of_a_sandbox(seen, path):
    change(path, "UPDATE binding SET endpoint = 'http://127.0.0.1:1'")


NO_ANSWERS = {
    "cut off": (cut_off, "a look is under way, or was cut off"),
    "other groups": (of_another_group, "the last look was at other thing groups or authorities"),
    "a version of before": (of_before, "nobody has looked at the whole fleet yet"),
    "another endpoint": (of_a_sandbox, "nobody has looked at the whole fleet yet"),
}


@pytest.mark.parametrize(("make", "why"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_where_no_look_answers_it_is_an_error_and_with_an_age_a_new_look(seen, calls, tmp_path, make, why):
    make(seen, inventory(tmp_path))
    told = seen.run("status", "--no-refresh")
    assert (told.code, calls) == (1, [])
    assert why in told.err
    assert "leave out --no-refresh" in told.err
    assert seen.run("status", "--max-age", "9d").code == 0
    assert calls


def test_a_drill_is_drawn_from_an_earlier_look(seen, calls):
    seen.cloud.seed.group("line-b")
    for among in ("--count 5", "--group line-a"):
        told = seen.run("drill", "autumn", "--policy", "line-a", *among.split(), "--no-refresh")
        assert (told.code, "- gateway" in told.out, "newcomer" in told.out) == (0, True, False), told.err
    told = seen.run("drill", "autumn", "--policy", "line-a", "--group", "line-b", "--no-refresh")
    assert (told.code, calls) == (1, [])
    assert "no look lists the group 'line-b', because no policy names it" in told.err
    assert "leave out --no-refresh" in told.err


def test_what_acts_or_proves_takes_no_earlier_look(seen):
    for command in ("apply", "doctor --migrate", "heal plan", "evidence"):
        told = seen.run(*command.split(), "--no-refresh")
        assert (told.code, "unrecognized arguments: --no-refresh" in told.err) == (1, True)
    told = seen.run("plan", "--plan", "plan.json", "--max-age", "1d")
    assert told.code == 1
    assert "--plan and --max-age or --no-refresh were both given" in told.err
