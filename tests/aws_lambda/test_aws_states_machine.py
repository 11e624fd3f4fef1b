"""The state machine over a sandbox cloud: what becomes of many fleets, of a killed function, of a refused plan."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from aws_lambda_machines import ALICE, BOB, KilledError, Machines

from controller import aws_states
from controller.lambda_reconcile import reconcile

FOREIGN = '"210987654321"'


@pytest.fixture
def machines(site, monkeypatch):
    return Machines(site, monkeypatch)


def guarded(site, percent):
    documents = (site.documents.desired / "factory.yaml").read_text()
    site.commit(
        documents.replace("maxChangePercent: 90, minExisting: 40", f"maxChangePercent: {percent}, minExisting: 1")
    )
    site.publish()


def later(site, fleet="factory"):
    """The lease of a function that was killed has run out."""
    record = json.loads(site.kept(f"fleets/{fleet}.json"))
    record["until"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    site.s3.put_object(Bucket="certfleet-reconcile", Key=f"reconcile/fleets/{fleet}.json", Body=json.dumps(record))


def test_every_fleet_is_read_by_a_child_of_its_own_and_people_hear_of_all_in_one_message(site, machines, two_fleets):
    site.device("old", age=200)
    site.cloud.seed.thing("empty", ["line-a"])
    two_fleets.cloud.seed.thing("empty-too", ["line-a"])
    run = machines.run()
    assert (run.status, run.output) == ("SUCCEEDED", {"failed": 0, "left": 0, "asked": 0})
    assert Counter(machines.invoked) == Counter(
        [("fleets", None), ("fleet", "factory"), ("fleet", "elsewhere"), ("summary", None)]
    )
    assert len(site.jobs()) == 1
    [told] = site.heard()
    assert told.startswith("certfleet: news of 2 fleets, 2 of which need a person\n")
    assert ("empty: " in told, "empty-too: " in told) == (True, True)
    assert machines.run().status == "SUCCEEDED"
    assert (site.heard(), len(site.jobs())) == ([], 1)


def test_a_child_goes_on_where_its_last_function_stopped_until_the_fleet_is_whole(site, machines):
    site.publish()
    for number in range(30):
        site.device(f"old-{number:02}", age=200)
    asked = []
    machines.milliseconds["factory"] = [lambda: 300_000 if asked.append(1) or len(asked) < 20 else 0]
    run = machines.run()
    assert run.status == "SUCCEEDED"
    assert machines.invoked.count(("fleet", "factory")) == 2
    assert "next run goes on" in machines.text
    assert len(site.jobs()) == 1


def test_a_fleet_whose_functions_never_come_to_an_end_fails_and_people_hear_why(site, machines, monkeypatch):
    monkeypatch.setattr("controller.aws_states.MAX_ROUNDS", 3)
    site.publish()
    machines.milliseconds["factory"] = [0] * 10
    assert machines.run().status == "FAILED"
    assert machines.invoked.count(("fleet", "factory")) == 3
    [told] = site.heard()
    assert "3 functions in a row have not finished fleet" in told


def killed_in(monkeypatch, fleet, times):
    """The function of a fleet dies while it reads, so often."""
    whole, left = reconcile.refresh, [None] * times

    def refresh(session, inventory, desired, *given, **more):
        if desired.fleet.name == fleet and left:
            left.pop()
            raise KilledError
        return whole(session, inventory, desired, *given, **more)

    monkeypatch.setattr(reconcile, "refresh", refresh)


def test_a_function_that_is_killed_is_begun_once_more_and_the_run_knows_no_failure(
    site, machines, two_fleets, monkeypatch
):
    site.device("old", age=200)
    killed_in(monkeypatch, "factory", times=1)
    run = machines.run()
    assert (run.status, run.output["failed"]) == ("SUCCEEDED", 0)
    assert len(site.jobs()) == 1


def test_a_fleet_whose_function_is_killed_again_harms_no_other_and_the_next_run_goes_on_there(
    site, machines, two_fleets, monkeypatch
):
    site.device("old", age=200)
    killed_in(monkeypatch, "elsewhere", times=2)
    run = machines.run()
    assert run.status == "FAILED", "the interpreter calls the map a success all the same: the summary decides"
    assert len(site.jobs()) == 1
    [told] = site.heard()
    assert told.startswith("certfleet: elsewhere needs a person")
    assert "ended before it could report" in told
    later(site, "elsewhere")
    assert machines.run().status == "SUCCEEDED"
    [told] = site.heard()
    assert "Nothing in fleet elsewhere needs a person any more." in told


def test_what_failed_in_one_fleet_fails_the_run_with_its_name_and_no_other_fleet(site, machines, two_fleets):
    path = site.documents.desired / "elsewhere" / "fleet.yaml"
    path.write_text(path.read_text().replace('"123456789012"', FOREIGN))
    site.add_all()
    site.publish()
    site.device("old", age=200)
    assert machines.run().status == "FAILED"
    assert machines.invoked.count(("fleet", "elsewhere")) == 1, "it said what failed: there is no reason to repeat it"
    [told] = site.heard()
    assert "belong to account 123456789012" in told
    assert len(site.jobs()) == 1


def test_a_fleet_that_another_run_is_at_work_on_is_left_to_it(site, machines):
    site.publish()
    site.device("old", age=200)
    now = datetime.now(UTC)
    record = {"run": "the-other", "until": (now + timedelta(minutes=5)).isoformat()}
    site.s3.put_object(Bucket="certfleet-reconcile", Key="reconcile/fleets/factory.json", Body=json.dumps(record))
    run = machines.run()
    assert (run.status, run.output) == ("SUCCEEDED", {"failed": 0, "left": 1, "asked": 0})
    assert site.jobs() == []
    later(site)
    assert machines.run().output["left"] == 0
    assert len(site.jobs()) == 1


def test_a_bundle_that_is_refused_fails_the_run_and_people_hear_why(site, machines):
    site.publish(site.bundle(repository="github.com/mallory/fleet"))
    assert machines.run().status == "FAILED"
    [told] = site.heard()
    assert "this function takes github.com/acme/fleet only" in told
    assert machines.invoked == [("fleets", None)]


def test_a_bundle_that_is_replaced_while_the_run_goes_on_is_the_next_runs(site, machines, monkeypatch):
    site.publish()
    site.device("old", age=200)
    names = aws_states._names

    def replaced(found):
        site.commit((site.documents.desired / "factory.yaml").read_text().replace("90d", "80d"))
        site.publish()
        return names(found)

    monkeypatch.setattr(aws_states, "_names", replaced)
    assert machines.run().output == {"failed": 0, "left": 0, "asked": 0}
    assert site.jobs() == []
    assert "was replaced by one of commit" in machines.text
    monkeypatch.setattr(aws_states, "_names", names)
    machines.run()
    assert len(site.jobs()) == 1


# A refused plan, and a person ------------------------------------------------------------------------


@pytest.fixture
def refused(site, machines):
    """Four old devices, of which a guardrail lets none start; the question stands."""
    guarded(site, 10)
    for number in range(4):
        site.device(f"old-{number}", age=200)
    assert machines.run().output == {"failed": 0, "left": 0, "asked": 1}
    return machines.asked()


def test_a_refused_plan_is_applied_exactly_once_a_person_repeats_its_overrides_and_their_arn_is_kept(
    site, machines, refused
):
    [told] = site.heard()
    assert "--override maxChangePercent=100" in told
    assert "GET https://answer.example/?fleet=factory shows what exactly is asked" in told
    assert (refused["overrides"], refused["devices"], refused["answered_by"]) == (["maxChangePercent=100"], 4, None)
    assert "token" not in refused
    assert site.jobs() == []
    code, said = machines.permit(refused)
    assert (code, said["answered_by"], said["is_applied_now"]) == (200, ALICE, True)
    [question] = machines.questions()
    assert machines.ended(question).status == "SUCCEEDED"
    assert len(site.jobs()) == 1
    [told] = site.heard()
    assert f"which {ALICE} permitted, is applied: 1 jobs made, 4 devices start." in told
    assert json.loads(site.kept("questions/factory.json"))["answered_by"] == ALICE
    code, said = machines.permit(refused, by=BOB)
    assert (code, said["answered_by"], said["is_applied_now"]) == (200, ALICE, False), "the first answer stands"
    assert f'"asked_by": "{BOB}"' in machines.text
    token = json.loads(site.kept("questions/factory.json"))["token"]
    assert token not in machines.text


WRONG = {
    "a larger number": ({"overrides": ["maxChangePercent=101"]}, "the plan needs exactly maxChangePercent=100"),
    "none": ({"overrides": []}, "found the overrides none"),
    "another plan": ({"plan": "0" * 64}, "the question is about plan"),
    "another fleet": ({"fleet": "elsewhere"}, "nothing is asked about fleet elsewhere"),
    "something else": ({"overrides": 3}, "not the JSON of an answer"),
}


def test_an_answer_that_does_not_repeat_the_question_changes_nothing(site, machines, refused):
    for name, (other, message) in WRONG.items():
        code, said = machines.permit(refused, **other)
        assert (code, message in said["error"], bool(said["remedy"])) == (409, True, True), name
    code, said = machines.permit(refused, by="")
    assert (code, "found no IAM principal" in said["error"]) == (403, True)
    assert json.loads(site.kept("questions/factory.json"))["answered_by"] is None
    assert site.jobs() == []


def test_the_same_refused_plan_is_asked_about_once_and_a_newer_one_replaces_it(site, machines, refused):
    assert machines.run().output["asked"] == 0
    site.device("old-4", age=200)
    assert machines.run().output["asked"] == 1
    while (newer := machines.asked())["plan"] == refused["plan"]:
        pass
    assert newer["devices"] == 5
    code, said = machines.permit(refused)
    assert (code, f"the question is about plan {newer['plan'][:16]}" in said["error"]) == (409, True)
    assert len(machines.questions()) == 2


def test_a_permitted_plan_that_no_longer_holds_is_not_applied_and_people_hear_why(site, machines, refused):
    documents = (site.documents.desired / "factory.yaml").read_text()
    site.commit(documents.replace("90d", "80d"))
    site.publish()
    site.heard()
    assert machines.permit(refused)[0] == 200
    [question] = machines.questions()
    machines.ended(question)
    assert site.jobs() == []
    [told] = site.heard()
    assert "was replaced by one of commit" in told


def test_of_a_permitted_plan_a_device_that_has_changed_meanwhile_is_left_out_and_named(site, machines, refused):
    site.certificate("old-0")  # a second one
    site.heard()
    machines.permit(refused)
    [question] = machines.questions()
    assert machines.ended(question).status == "SUCCEEDED"
    [job] = site.jobs()
    targets = site.iot.describe_job(jobId=job)["job"]["targets"]
    assert sorted(arn.rpartition("/")[2] for arn in targets) == ["old-1", "old-2", "old-3"]
    [told] = site.heard()
    assert "is applied: 1 jobs made, 3 devices start.\nold-0 is left out: " in told


def test_a_permitted_plan_is_refused_where_the_fleet_has_changed_since_and_people_hear_why(site, machines, refused):
    site.device("old-4", age=200)  # nobody was asked about it
    site.heard()
    machines.permit(refused)
    [question] = machines.questions()
    machines.ended(question)
    assert site.jobs() == []
    [told] = site.heard()
    assert f"which {ALICE} permitted, is refused now: thing group line-a had 4 things" in told


def test_a_question_that_nobody_answers_expires_and_the_next_run_asks_anew(site, monkeypatch):
    machines = Machines(site, monkeypatch, question_seconds=2)
    guarded(site, 10)
    site.device("old", age=200)
    site.device("old-too", age=200)
    machines.run()
    question = machines.asked()
    [asked] = machines.questions()
    assert machines.ended(asked).status == "SUCCEEDED"
    while datetime.now(UTC) < datetime.fromisoformat(question["expires_at"]):  # counted from when it was asked
        time.sleep(0.02)
    code, said = machines.permit(question)
    assert (code, "has expired" in said["error"]) == (409, True)
    assert site.jobs() == []
    assert machines.run().output["asked"] == 1
