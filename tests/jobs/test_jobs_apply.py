"""Applying a plan: what is asked of AWS, what is left out, and that any end of the process is harmless."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.errors import FleetError
from controller.fleet.baseline import RECORD_GROUP, decode
from controller.jobs import IotJobs, JobFate, Ledger, admission, apply, sweep_cohorts
from controller.reconcile.values import (
    AbortRule,
    DeviceExecution,
    FailureType,
    Halt,
    JobStep,
    RotationJob,
    TargetKind,
)
from protocol.job_document import STOCK_DOCUMENT, JobDocument
from protocol.messages import ExecutionStatus

THINGS, GROUP, COHORT = TargetKind.THINGS, TargetKind.GROUP, TargetKind.COHORT


def test_a_small_wave_becomes_a_job_on_its_things(cloud, iot, kit):
    job = kit.job("line-a", 1, THINGS, kit.devices("b", "a"))

    result = apply(kit.plan(job), iot, kit.NOW)

    assert [applied.fate for applied in result.jobs] == [JobFate.CREATED]
    request = cloud.jobs[job.job_id].request
    assert request["targets"] == [f"{kit.ARN}thing/a", f"{kit.ARN}thing/b"]
    assert request["targetSelection"] == "SNAPSHOT"
    assert json.loads(request["document"]) == {
        "operation": "ROTATE_CERTIFICATE",
        "keyAlgorithm": "ECDSA-P256",
        "signingAlgorithm": "ECDSA-WITH-SHA256",
        "certificateAuthority": "plant-ca",
        "policy": "line-a",
        "commit": kit.COMMIT,
    }
    assert {"Key": "certfleet-policy", "Value": "line-a"} in request["tags"]
    assert kit.COMMIT[:12] in request["description"]


STOPPED = {
    "four of eight have failed since": ({"FAILED": 4, "SUCCEEDED": 4}, {}, True),
    "timed out is failed too": ({"TIMED_OUT": 2, "REJECTED": 2, "SUCCEEDED": 4}, {}, True),
    "three of eight are fewer than its half": ({"FAILED": 3, "SUCCEEDED": 5}, {}, False),
    "of fewer than three nobody can tell": ({"FAILED": 2, "QUEUED": 6}, {}, False),
    "of the first three most have": ({"FAILED": 2, "SUCCEEDED": 1, "QUEUED": 5}, {}, True),
    "none has failed": ({"SUCCEEDED": 8}, {}, False),
    "its rule counts another kind": ({"FAILED": 8}, {"abort": (AbortRule(FailureType.TIMED_OUT, 10.0, 1),)}, False),
    "its rule counts this kind": (
        {"FAILED": 1, "SUCCEEDED": 9},
        {"abort": (AbortRule(FailureType.FAILED, 10.0, 1),)},
        True,
    ),
}


@pytest.mark.parametrize(("statuses", "rollout", "is_stopped"), STOPPED.values(), ids=STOPPED)
def test_no_job_is_made_if_an_earlier_one_has_to_stop_since_the_look(cloud, iot, kit, statuses, rollout, is_stopped):
    seen = running(cloud, kit)
    of_each = [status for status, number in statuses.items() for _ in range(number)]
    cloud.jobs[seen.job_id].executions = {f"d{n}": status for n, status in enumerate(of_each)}
    plan = kit.plan(kit.job("line-a", 2, THINGS, kit.devices("a"), **rollout))
    result = apply(plan, iot, kit.NOW, seen=[seen])
    assert result.is_overtaken is is_stopped
    assert (plan.jobs[0].job_id in cloud.jobs) is not is_stopped


def running(cloud, kit, **executions):
    """A wave's job under way, as a look found it: with these executions, and one that is queued."""
    wave = kit.job("line-a", 1, THINGS, kit.devices("x"))
    apply(kit.plan(wave), IotJobs(kit.connect(cloud), workers=1), kit.NOW)
    known = {
        name: DeviceExecution(wave.job_id, ExecutionStatus(told), kit.NOW, kit.NOW) for name, told in executions.items()
    }
    return RotationJob(wave.job_id, "IN_PROGRESS", kit.NOW, executions=known)


def test_what_had_failed_at_the_look_was_weighed_then_and_stops_nothing(cloud, iot, kit):
    seen = running(cloud, kit, d0="FAILED", d1="FAILED", d2="FAILED")
    cloud.jobs[seen.job_id].executions = dict.fromkeys(("d0", "d1", "d2"), "FAILED") | {"x": "QUEUED"}
    assert not apply(kit.plan(kit.job("line-a", 2, THINGS, kit.devices("a"))), iot, kit.NOW, seen=[seen]).is_overtaken


@pytest.mark.parametrize(
    ("policy", "is_seen_open", "withdraws", "is_stopped"),
    [
        ("line-a", True, False, True),
        ("line-b", True, False, False),
        ("line-a", False, False, False),
        ("line-a", True, True, False),
    ],
    ids=["by hand", "of another policy", "before the look", "by this very run"],
)
def test_no_job_is_made_if_an_earlier_one_was_cancelled_since(
    cloud, iot, kit, policy, is_seen_open, withdraws, is_stopped
):
    seen = running(cloud, kit)
    cloud.jobs[seen.job_id].status = "CANCELED"
    seen = seen if is_seen_open else replace(seen, status="CANCELED")
    steps = [JobStep(seen.job_id, "cancel", "the policy has changed")] if withdraws else []
    plan = kit.plan(kit.job(policy, 2, THINGS, kit.devices("a")), steps=steps)
    assert apply(plan, iot, kit.NOW, seen=[seen]).is_overtaken is is_stopped


def test_a_job_of_others_and_one_that_is_gone_stop_nothing(cloud, iot, kit):
    seen = [RotationJob(name, "IN_PROGRESS", kit.NOW) for name in ("by-hand", "cf-line-a-w1-0123456789abcdef")]
    assert not apply(kit.plan(kit.job("line-a", 2, THINGS, kit.devices("a"))), iot, kit.NOW, seen=seen).is_overtaken


@pytest.mark.parametrize("wave", [1, None], ids=["a wave's job", "the standing job"])
@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    ("urgent", "late", "is_made"),
    [("", 29, True), ("", 30, False), ("a", 30, False), ("ab", 30, True)],
    ids=["within the window", "once it has closed", "though one of two hurries", "nobody waits for windows"],
)
def test_no_job_is_made_after_the_window_closes_however_long_the_look_took(
    cloud, iot, kit, wave, is_there, urgent, late, is_made
):
    devices = tuple(replace(device, is_urgent=device.name in urgent) for device in kit.devices("a", "b"))
    job = replace(kit.job("line-a", wave, THINGS, devices), closes=kit.later(minutes=30))
    if is_there and wave is None:
        apply(kit.plan(replace(job, devices=kit.devices("z"))), iot, kit.NOW)
    result = apply(kit.plan(job), iot, kit.NOW, present=lambda: kit.later(minutes=late))
    asked = cloud.jobs[job.job_id].executions.keys() if job.job_id in cloud.jobs else set()
    assert (asked - {"z"} == {"a", "b"}, result.is_overtaken) == (is_made, not is_made)


def test_the_rollout_of_the_policy_becomes_the_limits_of_the_job(cloud, iot, kit):
    job = kit.job(
        "line-a",
        1,
        THINGS,
        kit.devices("a"),
        maximum_per_minute=7,
        timeout=timedelta(seconds=90),
        retries=3,
        abort=(AbortRule(FailureType.FAILED, 12.5, 4),),
    )

    apply(kit.plan(job), iot, kit.NOW)

    request = cloud.jobs[job.job_id].request
    assert request["jobExecutionsRolloutConfig"] == {"maximumPerMinute": 7}
    assert request["timeoutConfig"] == {"inProgressTimeoutInMinutes": 2}
    assert request["jobExecutionsRetryConfig"] == {"criteriaList": [{"failureType": "ALL", "numberOfRetries": 3}]}
    criteria = {
        "failureType": "FAILED",
        "action": "CANCEL",
        "thresholdPercentage": 12.5,
        "minNumberOfExecutedThings": 4,
    }
    assert request["abortConfig"] == {"criteriaList": [criteria]}


def test_no_retries_are_not_sent_and_a_job_without_abort_rules_has_the_brakes_that_always_hold(cloud, iot, kit):
    job = kit.job("line-a", 1, THINGS, kit.devices("a"), retries=0)

    apply(kit.plan(job), iot, kit.NOW)

    request = cloud.jobs[job.job_id].request
    assert "jobExecutionsRetryConfig" not in request
    rules = [(r["failureType"], r["thresholdPercentage"], r["minNumberOfExecutedThings"])
             for r in request["abortConfig"]["criteriaList"]]  # fmt: skip
    assert rules == [("ALL", 25.0, 10), ("ALL", 50.0, 3)]


def test_a_stock_backend_is_sent_exactly_the_stock_document(cloud, iot, kit):
    job = replace(kit.job("line-a", 1, THINGS, kit.devices("a")), document=JobDocument())

    apply(kit.plan(job), iot, kit.NOW)

    assert json.loads(cloud.jobs[job.job_id].request["document"]) == STOCK_DOCUMENT


def test_a_wave_that_is_the_whole_group_targets_the_group(cloud, iot, kit):
    job = kit.job("line-a", 1, GROUP, kit.devices("a", "b"), "line-a-gateways")
    cloud.groups["line-a-gateways"] = kit.Group(members={"a", "b"})

    apply(kit.plan(job), iot, kit.NOW)

    assert cloud.jobs[job.job_id].request["targets"] == [f"{kit.ARN}thinggroup/line-a-gateways"]


def test_a_group_that_gained_a_device_since_the_plan_is_not_targeted(cloud, iot, kit):
    job = kit.job("line-a", 1, GROUP, kit.devices("a", "b"), "line-a-gateways")
    cloud.groups["line-a-gateways"] = kit.Group(members={"a", "b", "newcomer"})

    apply(kit.plan(job), iot, kit.NOW)

    assert set(cloud.jobs[job.job_id].executions) == {"a", "b"}


def test_a_large_wave_gets_a_cohort_group_that_holds_exactly_its_devices(cloud, iot, kit):
    names = [f"device-{number:03}" for number in range(101)]
    job = kit.job("line-a", 2, COHORT, kit.devices(*names))

    apply(kit.plan(job), iot, kit.NOW)

    assert cloud.jobs[job.job_id].request["targets"] == [f"{kit.ARN}thinggroup/{job.job_id}"]
    assert sorted(cloud.jobs[job.job_id].executions) == names
    assert ("managed-by", "certfleet") in cloud.groups[job.job_id].tags


def test_a_cohort_that_an_interrupted_run_filled_otherwise_is_put_right(cloud, iot, kit):
    names = [f"device-{number:03}" for number in range(101)]
    job = kit.job("line-a", 2, COHORT, kit.devices(*names))
    cloud.groups[job.job_id] = kit.Group("certfleet: another wording", members={"device-000", "changed-since"})

    apply(kit.plan(job), iot, kit.NOW)

    assert sorted(cloud.jobs[job.job_id].executions) == names


def test_a_standing_job_is_continuous_on_a_cohort_and_takes_in_later_stragglers(cloud, iot, kit):
    first = kit.job("line-a", None, COHORT, kit.devices("a"))
    apply(kit.plan(first), iot, kit.NOW)
    grown = replace(first, devices=(*first.devices, *kit.devices("b")))
    result = apply(kit.plan(grown), iot, kit.NOW)

    assert [applied.fate for applied in result.jobs] == [JobFate.ADOPTED]
    assert cloud.jobs[first.job_id].request["targetSelection"] == "CONTINUOUS"
    assert cloud.jobs[first.job_id].executions == {"a": "QUEUED", "b": "QUEUED"}


def test_who_was_asked_ahead_of_its_wave_was_started_as_a_waves_devices_were_and_a_straggler_was_not(cloud, iot, kit):
    standing = kit.job("line-a", None, COHORT, kit.devices("away", "boat"))
    first = replace(standing, early=("boat",))
    wave = kit.job("line-a", 1, THINGS, kit.devices("a", "gone"))
    cloud.attached.pop("gone")
    result = apply(kit.plan(first, wave), iot, kit.NOW)
    assert result.begun == {"boat", "a"}
    grown = replace(standing, devices=(*standing.devices, *kit.devices("ship")), early=("ship",))
    assert apply(kit.plan(grown), iot, kit.NOW).begun == {"ship"}, "it joins the job that there is"


CHANGES = {
    "it holds another certificate": lambda cloud: cloud.attached.update(b=[("f" * 64, "EXCLUSIVE_THING")]),
    "it holds none": lambda cloud: cloud.attached.update(b=[]),
    "it holds two": lambda cloud: cloud.thing("b", "e" * 64),
    "it is attached otherwise": lambda cloud: cloud.attached.update(
        b=[(cloud.attached["b"][0][0], "NON_EXCLUSIVE_THING")]
    ),
    "the thing is gone": lambda cloud: cloud.attached.pop("b"),
    "its certificate is inactive": lambda cloud: cloud.certificates.update({cloud.attached["b"][0][0]: "INACTIVE"}),
    "its certificate is revoked": lambda cloud: cloud.certificates.update({cloud.attached["b"][0][0]: "REVOKED"}),
    "its certificate is in a state to come": lambda cloud: cloud.certificates.update(
        {cloud.attached["b"][0][0]: "PARKED"}
    ),
    "its certificate is gone, and still attached": lambda cloud: cloud.certificates.pop(cloud.attached["b"][0][0]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("kind", [THINGS, GROUP])
def test_a_device_that_changed_since_the_plan_is_skipped_because(cloud, iot, kit, change, kind):
    job = kit.job("line-a", 1, kind, kit.devices("a", "b", "c"), "line-a-gateways" if kind is GROUP else None)
    cloud.groups["line-a-gateways"] = kit.Group(members={"a", "b", "c"})
    change(cloud)

    result = apply(kit.plan(job), iot, kit.NOW)

    assert set(cloud.jobs[job.job_id].executions) == {"a", "c"}
    assert list(result.jobs[0].skipped) == ["b"]
    assert result.jobs[0].device_count == 2


def test_a_wave_whose_devices_all_changed_makes_no_job(cloud, iot, kit):
    job = kit.job("line-a", 1, THINGS, kit.devices("a"))
    cloud.attached["a"] = []

    result = apply(kit.plan(job), iot, kit.NOW)

    assert [applied.fate for applied in result.jobs] == [JobFate.EMPTY]
    assert result.jobs[0].device_count == 0
    assert not cloud.jobs


def test_a_big_wave_is_rechecked_by_one_listing_not_device_by_device(cloud, iot, kit, monkeypatch):
    monkeypatch.setattr(admission, "EACH_UP_TO", 2)
    job = kit.job("line-a", 1, THINGS, kit.devices("a", "b", "c"))
    cloud.certificates[job.devices[1].certificate_id] = "INACTIVE"

    result = apply(kit.plan(job), iot, kit.NOW)

    assert set(cloud.jobs[job.job_id].executions) == {"a", "c"}
    assert list(result.jobs[0].skipped) == ["b"]
    assert "ListThingPrincipalsV2" not in cloud.calls


def test_a_second_apply_makes_nothing_and_says_what_is_under_way(cloud, iot, kit):
    plan = kit.plan(kit.job("line-a", 1, THINGS, kit.devices("a")))
    apply(plan, iot, kit.NOW)
    before = cloud.snapshot()

    result = apply(plan, iot, kit.NOW)

    assert cloud.snapshot() == before
    assert [applied.fate for applied in result.jobs] == [JobFate.ADOPTED]
    assert result.under_way == (plan.jobs[0].job_id,)
    assert result.created == ()


def test_a_job_that_has_ended_is_reported_and_not_made_again(cloud, iot, kit):
    plan = kit.plan(kit.job("line-a", 1, THINGS, kit.devices("a")))
    apply(plan, iot, kit.NOW)
    cloud.jobs[plan.jobs[0].job_id].executions["a"] = "FAILED"

    result = apply(plan, iot, kit.NOW)

    assert [applied.fate for applied in result.jobs] == [JobFate.ENDED]
    assert result.under_way == ()


def test_a_job_made_by_another_run_in_the_same_moment_is_adopted(cloud, iot, kit, monkeypatch):
    plan = kit.plan(kit.job("line-a", 1, THINGS, kit.devices("a")))
    apply(plan, iot, kit.NOW)
    monkeypatch.setattr(iot, "job", lambda job_id: None)  # as it was when this run looked

    result = apply(plan, iot, kit.NOW)

    assert [applied.fate for applied in result.jobs] == [JobFate.ADOPTED]


def test_a_job_made_before_an_unrelated_commit_is_adopted(cloud, iot, kit):
    plan = kit.plan(kit.job("line-a", 1, THINGS, kit.devices("a")))
    apply(plan, iot, kit.NOW)
    (job,) = plan.jobs
    later = replace(plan, jobs=(replace(job, document=replace(job.document, commit="f" * 40)),))

    assert [applied.fate for applied in apply(later, iot, kit.NOW).jobs] == [JobFate.ADOPTED]


FOREIGN = {
    "another document": {"document": '{"operation":"REBOOT"}'},
    "another device": {"targets": [f"arn:aws:iot:eu-west-1:123456789012:thing/{name}" for name in ("a", "z")]},
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_job_of_our_id_with_something_else_in_it_stops_the_run(cloud, iot, kit, change):
    plan = kit.plan(kit.job("line-a", 1, THINGS, kit.devices("a")))
    apply(plan, iot, kit.NOW)
    cloud.jobs[plan.jobs[0].job_id].request.update(change)

    with pytest.raises(FleetError, match="something else than planned") as caught:
        apply(plan, iot, kit.NOW)
    assert "delete-job" in caught.value.remedy


def test_steps_cancel_what_is_queued_and_repeat_harmlessly(cloud, iot, kit):
    job = kit.job("line-a", 1, THINGS, kit.devices("a", "b"))
    apply(kit.plan(job), iot, kit.NOW)
    cloud.jobs[job.job_id].executions["a"] = "SUCCEEDED"
    steps = (
        JobStep(job.job_id, "cancel", "queued for 24 hours"),
        JobStep("cf-gone-w1-0000000000000000", "cancel", "x"),
    )

    for _ in range(2):
        apply(kit.plan(steps=steps), iot, kit.NOW)

    assert cloud.jobs[job.job_id].executions == {"a": "SUCCEEDED", "b": "CANCELED"}


def test_a_step_of_a_newer_version_is_refused(iot, kit):
    with pytest.raises(FleetError, match="does not know"):
        apply(kit.plan(steps=[JobStep("cf-x-w1-0000000000000000", "teleport", "")]), iot, kit.NOW)


def test_what_aws_refuses_reaches_the_reader_with_its_remedy(cloud, iot, kit):
    cloud.errors["CreateJob"] = "LimitExceededException"

    with pytest.raises(FleetError, match="LimitExceededException") as caught:
        apply(kit.plan(kit.job("line-a", 1, THINGS, kit.devices("a"))), iot, kit.NOW)
    assert caught.value.remedy


class TestCohorts:
    NAME = "cf-line-a-w2-0123456789abcdef"

    def sweep(self, iot, kit, **later):
        return sweep_cohorts(iot, kit.later(**later))

    def test_a_cohort_is_removed_when_its_job_has_ended(self, cloud, iot, kit):
        cloud.groups[self.NAME] = kit.Group("certfleet: line-a")
        cloud.jobs[self.NAME] = kit.Job(
            {"jobId": self.NAME, "targets": ["x"], "targetSelection": "SNAPSHOT"}, "CANCELED"
        )
        assert self.sweep(iot, kit) == (self.NAME,)
        assert not cloud.groups

    def test_a_cohort_stays_while_its_job_runs(self, cloud, iot, kit):
        cloud.groups[self.NAME] = kit.Group("certfleet: line-a")
        request = {"jobId": self.NAME, "targets": ["x"], "targetSelection": "SNAPSHOT"}
        cloud.jobs[self.NAME] = kit.Job(request, executions={"a": "QUEUED"})
        assert self.sweep(iot, kit, days=9) == ()

    def test_a_cohort_whose_job_was_never_made_is_left_to_its_run_for_an_hour(self, cloud, iot, kit):
        cloud.groups[self.NAME] = kit.Group("certfleet: line-a")
        assert self.sweep(iot, kit, minutes=59) == ()
        assert self.sweep(iot, kit, minutes=61) == (self.NAME,)

    @pytest.mark.parametrize(("name", "description"), [(NAME, "mine"), ("cf-my-own-group", "certfleet: x")])
    def test_a_group_that_is_not_ours_stays_whatever_it_is_called(self, cloud, iot, kit, name, description):
        cloud.groups[name] = kit.Group(description)
        assert self.sweep(iot, kit, days=9) == ()
        assert name in cloud.groups


@pytest.mark.unmeasured
class TestKilledAnywhere:
    """The run dies at every call, before and after its effect; the next run ends where one run would have."""

    def plan(self, cloud, kit):
        """One job of every kind, and steps."""
        cloud.groups["whole"] = kit.Group(members={"g1", "g2"})

        def kit_devices(*names):
            return tuple(kit.device(name, cloud.thing(name)) for name in names)

        old = kit.job("old", 1, THINGS, kit_devices("o1", "o2"))
        cloud.do_CreateJob(
            jobId=old.job_id,
            targets=[f"{kit.ARN}thing/o1"],
            targetSelection="SNAPSHOT",
            document=old.document.to_json(),
        )
        ended = "cf-ended-w1-00000000000000aa"
        cloud.groups[ended] = kit.Group("certfleet: ended")
        cloud.jobs[ended] = kit.Job({"jobId": ended, "targets": ["x"], "targetSelection": "SNAPSHOT"}, "COMPLETED")
        jobs = (
            kit.job("small", 1, THINGS, kit_devices("s1", "s2")),
            kit.job("whole", 1, GROUP, kit_devices("g1", "g2"), "whole"),
            kit.job("large", 1, COHORT, kit_devices("l1", "l2", "l3")),
            kit.job("away", None, COHORT, kit_devices("a1", "a2")),
        )
        cloud.attached["l3"] = [("9" * 64, "EXCLUSIVE_THING")]  # changed since the plan
        return kit.plan(*jobs, steps=[JobStep(old.job_id, "cancel", "stragglers")])

    def run(self, kit, *, die_at=None, after=False):
        cloud = kit.FakeIot()
        plan = self.plan(cloud, kit)
        cloud.dies_after_effect = after
        cloud.die_at = die_at
        died = False
        try:
            apply(plan, IotJobs(kit.connect(cloud), workers=1), kit.NOW)
        except kit.Killed:
            died = True
        cloud.die_at = None
        if died:
            apply(plan, IotJobs(kit.connect(cloud), workers=1), kit.NOW)
        return cloud, died

    @pytest.fixture(autouse=True)
    def small_targets(self, monkeypatch):
        monkeypatch.setattr(importlib.import_module("controller.jobs.apply"), "MAX_TARGETS", 2)

    @pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
    def test_and_run_again_it_neither_doubles_nor_forgets(self, kit, after):
        whole, _ = self.run(kit)
        wanted, calls = whole.snapshot(), len(whole.calls)
        assert calls > 25
        assert len(wanted["jobs"]) == 6

        for number in range(1, calls + 1):
            cloud, died = self.run(kit, die_at=number, after=after)
            assert died, f"call {number}"
            assert cloud.snapshot() == wanted, f"killed at call {number}: {whole.calls[number - 1]}"
            assert cloud.calls.count("CreateJob") <= 5, "only the interrupted one is sent twice"


def test_a_device_that_rotates_in_its_standing_job_just_now_stays_in_it(cloud, iot, kit):
    job = kit.job("line-a", None, COHORT, kit.devices("a", "b"))
    apply(kit.plan(job), iot, kit.NOW)
    cloud.thing("a", "f" * 64)  # the old and the new certificate, while it rotates

    result = apply(kit.plan(job), iot, kit.NOW)

    assert cloud.groups[job.job_id].members == {"a", "b"}
    assert result.jobs[0].skipped == {}


def test_who_is_at_work_in_a_standing_job_stays_in_its_group_while_others_come_and_go(cloud, iot, kit):
    job = kit.job("line-a", None, COHORT, kit.devices("a", "b"))
    apply(kit.plan(job), iot, kit.NOW)
    cloud.thing("a", "f" * 64)  # the old and the new certificate, while it rotates

    apply(kit.plan(replace(job, devices=kit.devices("c"), stays=("a",))), iot, kit.NOW)

    assert cloud.groups[job.job_id].members == {"a", "c"}


def test_a_device_that_begins_as_its_job_is_closed_for_silence_is_not_asked_by_the_standing_job_too(cloud, iot, kit):
    """Nothing is issued to it yet, so that the registry shows it as it was planned."""
    both = kit.devices("a", "b")
    wave = kit.job("line-a", 1, THINGS, both)
    apply(kit.plan(wave), iot, kit.NOW)
    cloud.jobs[wave.job_id].executions["a"] = "IN_PROGRESS"
    standing = kit.job("line-a", None, COHORT, both)

    result = apply(kit.plan(standing, steps=(JobStep(wave.job_id, "cancel", "silent"),)), iot, kit.NOW)

    assert cloud.groups[standing.job_id].members == {"b"}
    assert result.jobs[0].skipped == {"a": f"it rotates in job {wave.job_id} already"}


class TestTwoRuns:
    """To look and then to make jobs is one transaction: who has looked too early looks again."""

    def job(self, kit, *names):
        return kit.plan(kit.job("line-a", 1, THINGS, kit.devices(*names)))

    def test_the_later_run_makes_nothing_and_is_told(self, cloud, iot, kit):
        plan, other = self.job(kit, "a", "b"), self.job(kit, "c", "d", "e")
        first, second = Ledger.opened_now(iot), Ledger.opened_now(iot)  # both have looked
        assert not apply(plan, iot, kit.NOW, ledger=first).is_overtaken
        made = set(cloud.jobs)

        result = apply(other, iot, kit.NOW, ledger=second)

        assert result.is_overtaken
        assert result.jobs == []
        assert set(cloud.jobs) == made
        assert len(apply(other, iot, kit.NOW, ledger=Ledger.opened_now(iot)).created) == 1

    def test_a_run_that_comes_in_between_two_jobs_of_another_stops_that_one(self, cloud, iot, kit):
        apply(kit.plan(), iot, kit.NOW)
        jobs = kit.job("line-a", 1, THINGS, kit.devices("a")), kit.job("line-b", 1, THINGS, kit.devices("b", "c"))
        ledger = Ledger.opened_now(iot)
        claim, claims = ledger.claim, []

        def interrupted(plan):
            claims.append(plan)
            if len(claims) == 3:  # the one before the second job
                apply(self.job(kit, "d", "e", "f"), iot, kit.NOW)
            claim(plan)

        ledger.claim = interrupted
        result = apply(kit.plan(*jobs), iot, kit.NOW, ledger=ledger)
        assert result.is_overtaken
        assert [applied.job.policy for applied in result.jobs] == ["line-a"]

    def test_the_commit_of_a_run_that_has_made_jobs_is_known_even_if_it_was_killed(self, cloud, iot, kit):
        apply(kit.plan(), iot, kit.NOW)
        sizes = Ledger.opened_now(iot).found.sizes
        jobs = kit.job("line-a", 1, THINGS, kit.devices("a")), kit.job("line-b", 1, THINGS, kit.devices("b"))
        plan = replace(kit.plan(*jobs), commit="b" * 40, group_sizes={"another": 7})
        ledger = Ledger.opened_now(iot)
        claim = ledger.claim

        def killed(plan):
            if cloud.jobs:
                raise kit.Killed
            claim(plan)

        ledger.claim = killed
        with pytest.raises(kit.Killed):
            apply(plan, iot, kit.NOW, ledger=ledger)
        assert len(cloud.jobs) == 1
        found = Ledger.opened_now(iot).found
        assert (found.commit, found.sizes) == ("b" * 40, sizes), "it has not come to the end: sizes are asked again"

    def test_a_plan_of_no_commit_leaves_the_one_that_was_applied_last(self, cloud, iot, kit):
        apply(kit.plan(), iot, kit.NOW)
        apply(replace(self.job(kit, "a"), commit=None, committed_at=None), iot, kit.NOW)
        assert Ledger.opened_now(iot).found.commit == kit.COMMIT

    def test_who_rotates_in_a_job_that_somebody_made_by_hand_is_left_out(self, cloud, iot, kit):
        plan = self.job(kit, "a", "b")
        by_hand = {"jobId": "by-hand", "targets": [f"{kit.ARN}thing/b"], "targetSelection": "SNAPSHOT"}
        rotates = {**by_hand, "document": '{"operation":"ROTATE_CERTIFICATE"}'}
        cloud.jobs["by-hand"] = kit.Job(rotates, executions={"b": "QUEUED"})
        cloud.jobs["reboot"] = kit.Job({**by_hand, "document": '{"operation":"REBOOT"}'}, executions={"a": "QUEUED"})

        [applied] = apply(plan, iot, kit.NOW).jobs

        assert applied.skipped == {"b": "it rotates in job by-hand already"}
        assert cloud.jobs[plan.jobs[0].job_id].executions == {"a": "QUEUED"}

    def test_what_is_known_of_the_jobs_of_others_is_not_asked_unless_they_were_made_anew(self, cloud, kit, wire):
        plan = self.job(kit, "a", "b")
        others = {"targets": [f"{kit.ARN}thing/b"], "targetSelection": "SNAPSHOT"}
        for name in ("reboot", "firmware"):
            job = {**others, "jobId": name, "document": '{"operation":"REBOOT"}'}
            cloud.jobs[name] = kit.Job(job, executions={"a": "QUEUED"})
        rotates = {**others, "jobId": "reboot", "document": '{"operation":"ROTATE_CERTIFICATE"}'}
        known = {"reboot": kit.NOW.timestamp(), "firmware": kit.NOW.timestamp()}

        cloud.jobs["reboot"] = kit.Job(rotates, executions={"b": "QUEUED"}, created_at=kit.NOW + timedelta(hours=1))
        [applied] = apply(plan, IotJobs(wire.connect(cloud), workers=1, foreign=known), kit.NOW).jobs

        assert applied.skipped == {"b": "it rotates in job reboot already"}
        assert cloud.calls.count("GetJobDocument") == 1, "of the job that is another one under the same name"

    def test_who_makes_a_job_in_the_same_moment_as_another_withdraws_it(self, cloud, iot, kit, monkeypatch):
        plan = self.job(kit, "a", "b")
        create = iot.create_job

        def at_once(request):
            by_hand = {"jobId": "by-hand", "targets": [f"{kit.ARN}thing/b"], "targetSelection": "SNAPSHOT"}
            by_hand["document"] = '{"operation":"ROTATE_CERTIFICATE"}'
            cloud.jobs["by-hand"] = kit.Job(by_hand, executions={"b": "QUEUED"})
            return create(request)

        monkeypatch.setattr(iot, "create_job", at_once)
        result = apply(plan, iot, kit.NOW)

        [applied] = result.jobs
        assert (applied.fate, applied.device_count, result.is_overtaken) == (JobFate.WITHDRAWN, 0, True)
        assert applied.skipped == {"b": "it rotates in job by-hand as well"}
        assert cloud.jobs[plan.jobs[0].job_id].status == "CANCELED"

    def test_what_a_person_resumes_is_recorded_with_the_jobs_that_follow(self, cloud, iot, kit):
        plan = replace(self.job(kit, "a"), resumed=("line-a",), policies=(kit.summary("line-a"),))
        apply(plan, iot, kit.NOW)
        assert decode(cloud.groups[RECORD_GROUP].attributes).resumed == {"line-a": kit.NOW}
        apply(replace(plan, jobs=(), resumed=()), iot, kit.later(hours=1))
        assert decode(cloud.groups[RECORD_GROUP].attributes).resumed == {"line-a": kit.NOW}

    def test_who_resumes_has_looked_when_the_command_was_given_however_long_its_look_takes(self, cloud, iot, kit):
        plan = replace(self.job(kit, "a"), resumed=("line-a",), policies=(kit.summary("line-a"),))
        given = kit.NOW - timedelta(minutes=40)
        apply(plan, iot, kit.NOW, ledger=Ledger(iot, None, given))
        assert decode(cloud.groups[RECORD_GROUP].attributes).resumed == {"line-a": given}

    def test_a_halt_is_recorded_and_a_run_that_dies_once_it_is_resumed_has_ended_it(self, cloud, iot, kit):
        halt = Halt("a1b2c3", kit.later(days=45))
        apply(kit.plan(policies=(kit.summary("line-a"),), halts={"line-a": halt}), iot, kit.NOW)
        assert decode(cloud.groups[RECORD_GROUP].attributes).halted == {"line-a": halt}
        cloud.errors["CreateJob"] = "LimitExceededException"
        with pytest.raises(FleetError):
            apply(replace(self.job(kit, "a"), resumed=("line-a",)), iot, kit.NOW)
        record = decode(cloud.groups[RECORD_GROUP].attributes)
        assert (record.halted, record.resumed) == ({}, {"line-a": kit.NOW})


class TestRecord:
    """What is governed is noted in AWS once a plan has passed, so that the next run can tell what was lost."""

    def recorded(self, cloud):
        record = decode(cloud.groups[RECORD_GROUP].attributes)
        return record.sizes, record.commit

    def test_the_first_apply_makes_the_record_and_the_next_leaves_it_alone(self, cloud, iot, kit):
        plan = kit.plan(group_sizes={"line-a": 3, "line-b": 0})
        apply(plan, iot, kit.NOW)
        assert self.recorded(cloud) == ({"line-a": 3, "line-b": 0}, kit.COMMIT)
        cloud.calls.clear()
        apply(plan, iot, kit.NOW)
        assert {"CreateThingGroup", "UpdateThingGroup"}.isdisjoint(cloud.calls)

    @pytest.mark.parametrize(
        ("hours", "noted"), [(23, 0), (24, 24), (-1, -1)], ids=["a day", "later", "a clock put right"]
    )
    def test_that_an_apply_came_to_its_end_is_noted_once_a_day(self, cloud, iot, kit, hours, noted):
        """Jobs count back from there."""
        apply(kit.plan(), iot, kit.NOW)
        plan = replace(kit.plan(), created_at=kit.later(hours=hours))
        apply(plan, iot, kit.later(hours=hours))
        assert decode(cloud.groups[RECORD_GROUP].attributes).applied_at == kit.later(hours=noted)

    def test_what_is_governed_no_more_leaves_the_record(self, cloud, iot, kit):
        apply(kit.plan(group_sizes={"line-a": 3, "line-b": 7}), iot, kit.NOW)
        apply(kit.plan(group_sizes={"line-a": 4}, commit="f" * 40), iot, kit.NOW)
        assert self.recorded(cloud) == ({"line-a": 4}, "f" * 40)

    def test_a_run_that_dies_before_its_end_leaves_the_old_record_and_is_asked_again(self, cloud, iot, kit):
        apply(kit.plan(group_sizes={"line-b": 7}), iot, kit.NOW)
        cloud.errors["CreateJob"] = "LimitExceededException"
        with pytest.raises(FleetError):
            apply(kit.plan(kit.job("line-a", 1, THINGS, kit.devices("a")), group_sizes={"line-a": 1}), iot, kit.NOW)
        assert self.recorded(cloud)[0] == {"line-b": 7}

    @pytest.mark.parametrize("code", ["VersionConflictException", "ResourceAlreadyExistsException"])
    def test_who_is_overtaken_leaves_the_other_runs_record(self, cloud, iot, kit, code):
        if code == "VersionConflictException":
            apply(kit.plan(group_sizes={"line-a": 1}), iot, kit.NOW)
            cloud.errors["UpdateThingGroup"] = code
        else:
            cloud.errors["CreateThingGroup"] = code
        before = cloud.snapshot()
        apply(kit.plan(group_sizes={"line-a": 2}), iot, kit.NOW)
        assert cloud.snapshot() == before

    def test_a_record_that_may_not_be_written_fails_the_run(self, cloud, iot, kit):
        cloud.errors["CreateThingGroup"] = "UnauthorizedException"
        with pytest.raises(FleetError, match="CreateThingGroup"):
            apply(kit.plan(group_sizes={"line-a": 2}), iot, kit.NOW)

    def test_the_sweep_of_cohorts_leaves_the_record(self, cloud, iot, kit):
        apply(kit.plan(group_sizes={"line-a": 2}), iot, kit.NOW)
        assert sweep_cohorts(iot, kit.later(days=9)) == ()
        assert RECORD_GROUP in cloud.groups
