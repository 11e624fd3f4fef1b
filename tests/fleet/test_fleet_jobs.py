"""Which rotations are in flight, which failed and why, and what their end makes us read."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from fleet_registry import EPOCH, Fault, Registry, full

from controller.errors import FleetError
from controller.fleet import RefreshOptions, refresh
from controller.fleet import jobs_reader as module
from controller.fleet.baseline import RECORD_GROUP, BaselineRecord, encode
from controller.reconcile.values import LOOK_BACK
from controller.reconcile.values.job_ids import make_job_id
from protocol.deployment import DeployedAuthority, DeployedBackend
from protocol.messages import ExecutionStatus

OURS = make_job_id("line-a", 2, "0123456789abcdef")
DOCUMENT = json.dumps({"operation": "ROTATE_CERTIFICATE", "policy": "line-a", "commit": "c0ffee"})
OPTIONS = RefreshOptions(max_slice=0)


@pytest.fixture
def run(registry, make_session, make_desired, inventory, now):
    def run(options=OPTIONS, at=now):
        desired = make_desired("line-a")
        session = make_session(registry)
        state = refresh(session, inventory, desired, at, options=options)
        return {device.name: device for device in inventory.devices(desired, state)}, state, session.calls

    return run


def test_our_job_carries_policy_wave_commit_and_executions(run, registry):
    registry.add_job(OURS, {"a-1": "QUEUED", "a-2": "IN_PROGRESS", "a-3": "SUCCEEDED"}, document=DOCUMENT)
    devices, state, _ = run()

    (job,) = state.jobs
    assert (job.job_id, job.policy, job.wave, job.commit) == (OURS, "line-a", 2, "c0ffee")
    assert job.document == DOCUMENT
    assert (job.status, job.created_at, job.is_continuous) == ("IN_PROGRESS", EPOCH, False)
    assert {thing: execution.status.value for thing, execution in job.executions.items()} == registry.jobs[OURS][
        "executions"
    ]
    assert [execution.status for execution in devices["a-1"].executions] == [ExecutionStatus.QUEUED]
    assert devices["a-2"].executions[0].started_at == EPOCH + timedelta(minutes=1)
    assert devices["a-3"].executions == ()


def test_job_started_by_hand_counts_and_a_foreign_one_does_not(run, registry):
    registry.add_job("from-the-console", {"a-1": "QUEUED"}, targetSelection="CONTINUOUS")
    registry.add_job("firmware", {"a-2": "QUEUED"}, document='{"operation": "UPDATE"}')
    registry.add_job("odd", {"a-2": "QUEUED"}, document="not JSON")
    registry.add_job("list", {"a-2": "QUEUED"}, document="[1]")
    registry.add_job("check", {"a-2": "QUEUED"}, document='{"operation": "CHECK_ROTATION"}')  # it changes nothing
    devices, state, _ = run()

    (job,) = state.jobs
    assert (job.job_id, job.policy, job.wave, job.is_continuous) == ("from-the-console", None, None, True)
    assert devices["a-1"].executions
    assert not devices["a-2"].executions


def test_what_a_job_is_gets_asked_once(run, registry):
    registry.add_job(OURS, {"a-1": "QUEUED"}, document=DOCUMENT)
    registry.add_job("firmware", {"a-2": "QUEUED"}, document="{}")
    _, _, first = run()
    assert (first["GetJobDocument"], first["DescribeJob"], first["ListJobExecutionsForJob"]) == (2, 0, 1)

    _, _, second = run()
    assert (second["GetJobDocument"], second["DescribeJob"], second["ListJobExecutionsForJob"]) == (0, 0, 1)


def test_ended_job_is_read_once_after_its_end(run, registry):
    registry.add_job(OURS, {"a-1": "IN_PROGRESS"}, document=DOCUMENT)
    run()
    ended = (EPOCH + timedelta(hours=1)).timestamp()
    registry.jobs[OURS]["summary"] |= {"status": "COMPLETED", "completedAt": ended}
    registry.jobs[OURS]["executions"]["a-1"] = "SUCCEEDED"

    _, state, calls = run()
    assert calls["ListJobExecutionsForJob"] == 1
    assert (state.jobs[0].status, state.jobs[0].completed_at) == ("COMPLETED", EPOCH + timedelta(hours=1))

    _, state, calls = run()
    assert calls["ListJobExecutionsForJob"] == 0
    assert state.jobs[0].executions["a-1"].status is ExecutionStatus.SUCCEEDED


def test_cancelled_job_is_read_on_while_an_execution_runs(run, registry):
    registry.add_job(OURS, {"a-1": "IN_PROGRESS", "a-2": "CANCELED"}, document=DOCUMENT, status="CANCELED")
    devices, _, _ = run()
    assert devices["a-1"].executions

    registry.jobs[OURS]["executions"]["a-1"] = "SUCCEEDED"
    devices, _, calls = run()
    assert calls["ListJobExecutionsForJob"] == 1
    assert not devices["a-1"].executions


def test_failure_brings_the_reason_that_the_device_gave_and_it_is_asked_once(run, registry):
    executions = {"a-1": "FAILED", "a-2": "TIMED_OUT", "a-3": "REJECTED"}
    registry.add_job(OURS, executions, document=DOCUMENT, reasons={"a-1": "no space on device"})
    devices, _, calls = run()

    (failure,) = devices["a-1"].failures
    assert (failure.status, failure.failure_reason) == (ExecutionStatus.FAILED, "no space on device")
    assert devices["a-2"].failures[0].failure_reason is None
    assert devices["a-3"].failures[0].status is ExecutionStatus.REJECTED
    assert calls["DescribeJobExecution"] == 3

    devices, _, calls = run()
    assert devices["a-1"].failures == (failure,)
    assert calls["DescribeJobExecution"] == 0


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "SUCCEEDED", "CANCELED"])
def test_of_an_execution_that_aws_iot_has_repeated_it_is_asked_once_when_the_first_attempt_began(run, registry, status):
    """A minute lies between the two."""
    registry.add_job(OURS, {"a-1": status, "a-2": status}, document=DOCUMENT, numbers={"a-2": 3})
    devices, state, calls = run()
    once, repeated = (state.jobs[0].executions[name] for name in ("a-1", "a-2"))
    assert (once.first_queued_at, repeated.first_queued_at) == (None, EPOCH)
    assert repeated.queued_at == EPOCH + timedelta(minutes=1)
    has_failed = status in {"FAILED", "TIMED_OUT"}
    assert calls["DescribeJobExecution"] == (3 if has_failed else 2)
    assert devices["a-2"].failures == ((repeated,) if has_failed else ())
    assert run()[2]["DescribeJobExecution"] == 0


def test_execution_that_fails_again_after_a_retry_is_asked_again(run, registry):
    registry.add_job(OURS, {"a-1": "FAILED"}, document=DOCUMENT, reasons={"a-1": "first"})
    run()
    registry.jobs[OURS]["executions"]["a-1"] = "QUEUED"
    devices, _, _ = run()
    assert devices["a-1"].failures == ()

    registry.jobs[OURS] |= {"executions": {"a-1": "FAILED"}, "reasons": {"a-1": "second"}}
    devices, _, _ = run()
    assert [failure.failure_reason for failure in devices["a-1"].failures] == ["second"]


def test_failures_before_the_certificate_do_not_count(run, registry):
    registry.add_job(OURS, {"a-1": "FAILED"}, document=DOCUMENT)
    registry.remove_certificate("c1")
    registry.add_certificate("c9", "a-1", created_at=EPOCH + timedelta(days=1))
    devices, _, _ = run()
    assert devices["a-1"].failures == ()


def test_failures_come_oldest_first(run, registry):
    for day, job_id in ((3, "cf-p-w1-3333333333333333"), (1, "cf-p-w1-1111111111111111")):
        registry.add_job(job_id, {"a-1": "FAILED"}, document=DOCUMENT, created_at=EPOCH + timedelta(days=day))
    devices, _, _ = run()
    assert [failure.job_id[-1] for failure in devices["a-1"].failures] == ["1", "3"]


def test_failure_reasons_are_bounded_per_run_newest_first(run, registry, monkeypatch):
    monkeypatch.setattr(module, "MAX_REASONS", 1)
    for day in (1, 2):
        registry.add_job(
            f"cf-p-w1-{day:016}",
            {"a-1": "FAILED"},
            document=DOCUMENT,
            created_at=EPOCH + timedelta(days=day),
            reasons={"a-1": f"day {day}"},
        )
    devices, _, _ = run()
    assert [failure.failure_reason for failure in devices["a-1"].failures] == [None, "day 2"]
    devices, _, _ = run()
    assert [failure.failure_reason for failure in devices["a-1"].failures] == ["day 1", "day 2"]


def test_rotation_that_ended_without_a_new_certificate_has_its_thing_read(run, registry):
    registry.add_job(OURS, {"a-1": "IN_PROGRESS", "a-2": "QUEUED"}, document=DOCUMENT)
    run()
    registry.jobs[OURS]["executions"] = {"a-1": "FAILED", "a-2": "CANCELED"}
    registry.detach("c1", "a-1")
    devices, _, calls = run()

    assert devices["a-1"].attachments == ()
    assert calls["ListThingPrincipalsV2"] == 1


@pytest.mark.parametrize("seen_before", ["QUEUED", "IN_PROGRESS"])
def test_a_rotation_costs_two_calls_what_the_thing_holds_and_what_that_says(run, registry, seen_before):
    registry.add_job(OURS, {"a-1": seen_before}, document=DOCUMENT)
    run()
    registry.jobs[OURS]["executions"] = {"a-1": "SUCCEEDED"}
    registry.remove_certificate("c1")
    registry.add_certificate("c9", "a-1", created_at=EPOCH + timedelta(days=1))
    devices, _, calls = run()

    assert devices["a-1"].attachments[0].certificate.certificate_id == full("c9")
    asked = ("ListThingPrincipalsV2", "DescribeCertificate", "ListPrincipalThingsV2")
    assert [calls[name] for name in asked] == [1, 1, 0]
    _, _, calls = run()
    assert calls["ListThingPrincipalsV2"] == 0


def test_deleted_job_is_forgotten_and_its_running_things_read(run, registry):
    registry.add_job(OURS, {"a-1": "IN_PROGRESS"}, document=DOCUMENT)
    run()
    del registry.jobs[OURS]
    devices, state, calls = run()

    assert state.jobs == ()
    assert devices["a-1"].executions == ()
    assert calls["ListThingPrincipalsV2"] == 1


def test_job_deleted_between_listing_and_reading_has_no_executions(run, registry):
    registry.add_job(OURS, {"a-1": "QUEUED"}, document=DOCUMENT)

    def vanish(operation, _):
        if operation == "ListJobExecutionsForJob":
            registry.jobs.pop(OURS, None)

    registry.before = vanish
    devices, _, _ = run()
    assert devices["a-1"].executions == ()


def test_job_id_taken_by_another_job_is_read_anew(run, registry):
    registry.add_job("by-hand", {"a-1": "QUEUED"})
    run()
    registry.add_job("by-hand", {"a-1": "QUEUED"}, document="{}", created_at=EPOCH + timedelta(days=1))
    _, state, _ = run()
    assert state.jobs == ()


def test_jobs_that_ended_before_the_look_back_are_not_read(run, registry, now):
    long_ago = now - LOOK_BACK - timedelta(days=1)
    registry.add_job(OURS, {"a-1": "FAILED"}, document=DOCUMENT, status="COMPLETED", created_at=long_ago)
    _, state, calls = run()
    assert state.jobs == ()
    assert calls["GetJobDocument"] == 0


@pytest.mark.parametrize("days", [0, 400])
def test_jobs_count_back_from_the_last_apply_for_nobody_has_recorded_since_what_came_of_them(run, registry, now, days):
    applied_at = now - timedelta(days=days)
    registry.groups[RECORD_GROUP] = []
    registry.group_attributes[RECORD_GROUP] = encode(BaselineRecord({"line-a": 2}, applied_at=applied_at))
    for name, ended in [("1", applied_at - LOOK_BACK), ("2", applied_at - LOOK_BACK - timedelta(seconds=1))]:
        job_id = f"cf-p-w1-{name:>016}"
        registry.add_job(job_id, {"a-1": "FAILED"}, document=DOCUMENT, status="COMPLETED", created_at=ended)
    for _ in range(2):
        _, state, _ = run()
        assert [job.job_id for job in state.jobs] == [f"cf-p-w1-{'1':>016}"]


def test_long_history_of_ended_jobs_is_bounded_and_read_over_several_runs(run, registry, monkeypatch):
    monkeypatch.setattr(module, "MAX_FOREIGN", 2)
    registry.page_limit = 2
    for day in range(6):
        registry.add_job(
            f"by-hand-{day}", {}, document=DOCUMENT, status="COMPLETED", created_at=EPOCH + timedelta(days=day)
        )
    counts = [len(run()[1].jobs) for _ in range(4)]
    assert counts == [2, 4, 6, 6], "two new jobs a run"


def test_what_is_in_flight_is_looked_into_before_what_has_ended_and_ours_before_all(run, registry, monkeypatch):
    monkeypatch.setattr(module, "MAX_FOREIGN", 2)
    for number in range(4):
        made = EPOCH + timedelta(days=number)
        registry.add_job(f"ended-{number}", {}, document=DOCUMENT, status="COMPLETED", created_at=made)
        registry.add_job(f"begun-{number}", {}, document=DOCUMENT, created_at=made - timedelta(days=1))
        registry.add_job(f"cf-p-w1-{number:016}", {}, document=DOCUMENT, created_at=made)
    seen = [[job.job_id for job in run()[1].jobs if not job.job_id.startswith("cf-")] for _ in range(2)]
    assert sorted(seen[0]) == ["begun-2", "begun-3"]
    assert sorted(seen[1]) == ["begun-0", "begun-1", "begun-2", "begun-3"]
    assert len(run()[1].jobs) == 10


def test_failures_of_our_own_jobs_are_known_at_once_whatever_else_the_account_does(run, registry):
    registry.page_limit = 50
    registry.add_job(OURS, {"a-1": "FAILED", "a-2": "FAILED"}, document=DOCUMENT, status="CANCELED")
    for number in range(300):
        created_at = EPOCH + timedelta(minutes=number + 1)
        status = ("COMPLETED", "CANCELED")[number % 2]
        registry.add_job(f"firmware-{number}", {}, document="{}", status=status, created_at=created_at)
    devices, state, _ = run()
    assert [job.job_id for job in state.jobs] == [OURS]
    assert [failure.status.value for failure in devices["a-2"].failures] == ["FAILED"]

    _, _, warm = run()
    assert warm["ListJobs"] == 3, "in flight, and of both kinds of ended ones a page that was listed already"


def test_a_job_that_ended_long_after_it_was_made_is_found_behind_older_ones(run, registry, now):
    registry.page_limit = 2
    long_ago = now - LOOK_BACK - timedelta(days=9)
    for number in range(6):
        made = long_ago + timedelta(hours=number)
        registry.add_job(f"cf-p-w1-{number:016}", {}, document=DOCUMENT, status="CANCELED", created_at=made)
    just_now = (now - timedelta(hours=1)).timestamp()
    oldest = long_ago - timedelta(days=1)
    registry.add_job(
        OURS, {"a-1": "FAILED"}, document=DOCUMENT, status="CANCELED", created_at=oldest, completedAt=just_now
    )
    assert [job.job_id for job in run()[1].jobs] == [OURS]


def test_a_rotation_that_a_listing_does_not_show_is_asked_for_by_its_id(run, registry):
    registry.add_job(OURS, {"a-1": "IN_PROGRESS"}, document=DOCUMENT)
    run()
    registry.jobs[OURS]["summary"] |= {"status": "DELETION_IN_PROGRESS"}  # no listing of ours shows that
    devices, state, calls = run()
    assert [(job.job_id, job.status) for job in state.jobs] == [(OURS, "DELETION_IN_PROGRESS")]
    assert devices["a-1"].executions
    assert calls["DescribeJob"] == 1


def test_a_rotation_that_has_ended_stays_known_where_no_page_shows_it_any_more(run, registry, now):
    registry.page_limit = 1
    registry.add_job(OURS, {"a-1": "FAILED"}, document=DOCUMENT, status="CANCELED")
    run()
    for number in range(3):
        made = now + timedelta(minutes=number)
        registry.add_job(f"firmware-{number}", {}, document="{}", status="CANCELED", created_at=made)
    hour = timedelta(hours=1)
    devices, _, calls = run(at=now + hour)
    assert calls["ListJobs"] == 6, "in flight, none completed, four cancelled until one is known"
    assert devices["a-1"].failures

    del registry.jobs[OURS]
    assert run(at=now + 2 * hour)[0]["a-1"].failures, "not listed is not gone"
    assert not run(at=now + timedelta(days=2))[0]["a-1"].failures, "a listing to its end says that it is"


@pytest.mark.parametrize("odd", [{"a": 1}, [1], 10**30, True], ids=repr)
def test_a_document_that_somebody_wrote_may_say_anything(run, registry, odd):
    document = json.dumps({"operation": "ROTATE_CERTIFICATE", "policy": odd, "commit": odd})
    registry.add_job("by-hand", {"a-1": "QUEUED"}, document=document)
    assert [(job.policy, job.commit) for job in run()[1].jobs] == [(None, None)]


def test_stock_backend_is_its_document_without_our_word(run, registry):
    template = registry.templates["AWSLabsCertificateRotator"]
    cases = {
        (template["document"], "certfleet: rotate by hand"): False,
        (template["document"], "Certfleet"): False,
        ('{"operation" : "ROTATE_CERTIFICATE"}', "rotates"): True,
        ('{"operation":"ROTATE_CERTIFICATE","x":1}', ""): False,
        ("not JSON", ""): False,
    }
    for (document, description), expected in cases.items():
        template |= {"document": document, "description": description}
        assert run()[1].backend_is_stock is expected, (document, description)


def test_what_the_backend_publishes_is_read_where_it_is_ours(run, registry: Registry):
    deployment = DeployedBackend("0.1.0", {"ca": DeployedAuthority("arn", "SHA256WITHRSA", timedelta(days=7))})
    registry.published = deployment.to_json()
    assert run()[1].deployment == deployment

    registry.published = None  # a backend of before
    _, state, _ = run()
    assert state.deployment is None
    assert "deploy the backend of this version" in state.deployment_unknown

    registry.faults["GetParameter"] = Fault("AccessDeniedException", 400, times=9)
    _, state, _ = run()
    assert "allow ssm:GetParameter" in state.deployment_unknown

    registry.faults.clear()
    registry.published = '{"format": 9}'
    with pytest.raises(FleetError, match="its format is 9, this version reads 1") as raised:
        run()
    assert "deploy the backend AWSLabsCertificateRotator again" in raised.value.remedy

    registry.templates["AWSLabsCertificateRotator"]["description"] = "rotates"
    _, state, calls = run()
    assert (state.backend_is_stock, state.deployment, calls["GetParameter"]) == (True, None, 0)


def test_missing_backend_names_stack_and_document_line_unless_it_is_assumed(run, registry: Registry):
    registry.templates.clear()
    with pytest.raises(FleetError, match=r"'AWSLabsCertificateRotator' \(fleet/fleet\.yaml:9\)") as raised:
        run()
    assert "deploy the backend" in raised.value.remedy

    _, state, calls = run(options=RefreshOptions(backend="assume"))
    assert state.backend_is_stock is False
    assert calls["DescribeJobTemplate"] == 0


# Pre-flights ------------------------------------------------------------------------------------------

CHECKS = "cf-line-a-check-0123456789abcdef"
ASKS = json.dumps({"operation": "CHECK_ROTATION", "policy": "line-a", "keyAlgorithm": "ECDSA-P256"})


def test_the_answers_to_a_preflight_are_facts_of_the_devices_and_no_rotations(run, registry):
    answers = {"a-1": "FAILED", "a-2": "SUCCEEDED", "a-3": "QUEUED"}
    registry.add_job(CHECKS, answers, document=ASKS, reasons={"a-1": "no space"})
    devices, state, calls = run()

    assert state.jobs == ()
    [job] = state.checks
    assert (job.policy, job.executions.keys()) == ("line-a", answers.keys())
    assert (devices["a-1"].preflight.reason, devices["a-1"].preflight.job_id) == ("no space", CHECKS)
    assert devices["a-2"].preflight.reason is None
    assert devices["a-3"].preflight is None
    assert not any(device.failures or device.executions for device in devices.values())
    assert not {"ListInstalledComponents", "GetThingConnectivityData"} & calls.keys(), "nobody failed, nobody is late"


def test_of_two_answers_the_later_one_counts_and_a_question_that_is_none_counts_nothing(run, registry):
    registry.add_job(CHECKS, {"a-1": "FAILED"}, document=ASKS, reasons={"a-1": "no space"}, status="COMPLETED")
    registry.add_job("by-hand", {"a-1": "SUCCEEDED"}, document=ASKS, created_at=EPOCH + timedelta(hours=1))
    wrong = json.dumps({"operation": "CHECK_ROTATION", "keyAlgorithm": 7})
    registry.add_job("wrong", {"a-1": "FAILED"}, document=wrong, created_at=EPOCH + timedelta(hours=2))
    devices, state, _ = run()
    assert len(state.checks) == 3
    assert (devices["a-1"].preflight.job_id, devices["a-1"].preflight.reason) == ("by-hand", None)


def test_who_has_answered_a_preflight_is_not_read_again_for_it(run, registry):
    registry.add_job(CHECKS, {"a-1": "IN_PROGRESS"}, document=ASKS)
    run()
    registry.jobs[CHECKS]["executions"]["a-1"] = "FAILED"
    devices, _, calls = run()
    assert devices["a-1"].preflight.reason == "it reports no reason"
    assert calls["ListThingPrincipalsV2"] == 0
    registry.jobs[CHECKS]["summary"] |= {"status": "CANCELED", "completedAt": EPOCH.timestamp()}
    run()
    assert run()[2]["ListJobExecutionsForJob"] == 0, "an ended one is read once"


def test_a_look_at_one_policy_reads_what_its_devices_have_answered(
    registry, make_session, make_desired, inventory, now
):
    registry.add_job("cf-p-line-a-check-0123456789abcdef", {"a-1": "SUCCEEDED"}, document=ASKS)
    registry.add_job(CHECKS, {"a-2": "SUCCEEDED"}, document=ASKS)
    desired = make_desired("line-a")
    state = refresh(make_session(registry), inventory, desired, now, options=OPTIONS, only=desired.policies[0])
    assert [job.executions.keys() for job in state.checks] == [{"a-1"}]
