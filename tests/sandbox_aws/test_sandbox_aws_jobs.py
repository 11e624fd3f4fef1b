"""The job state machine, seen through boto3 as an operator and as a device sees it."""

import json
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from sandbox.interfaces import JobsDataError

DOCUMENT = json.dumps({"operation": "ROTATE_CERTIFICATE"})
MINUTE = timedelta(minutes=1)


@pytest.fixture
def fleet(cloud):
    """Ten things in ``line``, one of them in its child group only."""
    cloud.seed.group("line")
    cloud.seed.group("cell", parent="line")
    for i in range(9):
        cloud.seed.thing(f"t{i}", ["line"])
    cloud.seed.thing("t9", ["cell"])
    return [f"t{i}" for i in range(10)]


def group_arn(name="line"):
    return f"arn:aws:iot:eu-west-1:123456789012:thinggroup/{name}"


def thing_arn(name):
    return f"arn:aws:iot:eu-west-1:123456789012:thing/{name}"


def create(iot, job_id="job", targets=None, **more):
    return iot.create_job(jobId=job_id, targets=targets or [group_arn()], document=DOCUMENT, **more)


def end(cloud, thing, status="SUCCEEDED", job_id="job", **details):
    cloud.jobs.update(thing, job_id, {"status": "IN_PROGRESS"})
    cloud.jobs.update(thing, job_id, {"status": status, "statusDetails": details or {"CertificateRotator": "done"}})


def counts(iot, job_id="job"):
    details = iot.describe_job(jobId=job_id)["job"]["jobProcessDetails"]
    return {
        name.removeprefix("numberOf").removesuffix("Things"): n
        for name, n in details.items()
        if name.startswith("number") and n
    }


def refused(call, code, **request):
    with pytest.raises(ClientError) as error:
        call(**request)
    assert error.value.response["Error"]["Code"] == code
    return error.value.response["Error"]["Message"]


def test_a_group_job_gives_each_thing_of_the_group_and_its_child_groups_one_execution(iot, fleet):
    create(iot)
    found = iot.list_job_executions_for_job(jobId="job")["executionSummaries"]
    assert [e["thingArn"] for e in found] == [thing_arn(name) for name in fleet]
    assert counts(iot) == {"Queued": 10}


def test_a_thing_named_twice_is_told_once(iot, fleet):
    create(iot, targets=[group_arn(), thing_arn("t1"), thing_arn("t1")])
    assert counts(iot) == {"Queued": 10}


def test_a_snapshot_job_completes_when_its_last_execution_has_ended(iot, cloud, fleet):
    create(iot, targets=[thing_arn("t1"), thing_arn("t2")])
    end(cloud, "t1")
    assert iot.describe_job(jobId="job")["job"]["status"] == "IN_PROGRESS"
    end(cloud, "t2", "FAILED")
    job = iot.describe_job(jobId="job")["job"]
    assert (job["status"], job["completedAt"] is not None) == ("COMPLETED", True)
    assert counts(iot) == {"Succeeded": 1, "Failed": 1}


def test_a_snapshot_of_an_empty_group_completes_at_once(iot, cloud):
    cloud.seed.group("line")
    create(iot)
    assert iot.describe_job(jobId="job")["job"]["status"] == "COMPLETED"


def test_the_rollout_notifies_no_more_than_its_rate_in_any_minute(iot, clock, fleet):
    create(iot, jobExecutionsRolloutConfig={"maximumPerMinute": 4})
    assert counts(iot) == {"Queued": 4}
    clock.advance(timedelta(seconds=59))
    assert counts(iot) == {"Queued": 4}
    clock.advance(timedelta(seconds=1))
    assert counts(iot) == {"Queued": 8}
    clock.advance(MINUTE)
    assert counts(iot) == {"Queued": 10}


@pytest.mark.parametrize(
    ("criterion", "ended", "expected"),
    [
        ({"numberOfNotifiedThings": 2}, 0, [2, 6, 10]),
        ({"numberOfSucceededThings": 2}, 0, [2, 4, 6]),
        ({"numberOfSucceededThings": 2}, 2, [2, 6, 10]),
    ],
    ids=["grows with each two notified", "does not grow before two have succeeded", "grows once two have succeeded"],
)
def test_an_exponential_rollout_grows(iot, cloud, clock, fleet, criterion, ended, expected):
    rate = {"baseRatePerMinute": 2, "incrementFactor": 2.0, "rateIncreaseCriteria": criterion}
    create(iot, jobExecutionsRolloutConfig={"exponentialRate": rate, "maximumPerMinute": 4})
    told = [sum(counts(iot).values())]
    for thing in fleet[:ended]:
        end(cloud, thing)
    for _ in range(2):
        clock.advance(MINUTE)
        told.append(sum(counts(iot).values()))
    assert told == expected


def test_an_execution_times_out_from_the_moment_it_is_in_progress_and_not_while_it_is_queued(iot, cloud, clock, fleet):
    create(iot, targets=[thing_arn("t1"), thing_arn("t2")], timeoutConfig={"inProgressTimeoutInMinutes": 5})
    clock.advance(timedelta(days=30))
    assert counts(iot) == {"Queued": 2}
    cloud.jobs.update("t1", "job", {"status": "IN_PROGRESS"})
    left = iot.describe_job_execution(jobId="job", thingName="t1")["execution"]["approximateSecondsBeforeTimedOut"]
    assert left == 300
    clock.advance(timedelta(minutes=4))
    cloud.jobs.update("t1", "job", {"status": "IN_PROGRESS"})  # a report does not prolong it
    clock.advance(MINUTE)
    assert counts(iot) == {"Queued": 1, "TimedOut": 1}


def test_a_step_timer_of_the_device_times_out_sooner_and_can_be_taken_back(iot, cloud, clock, fleet):
    create(iot, targets=[thing_arn("t1"), thing_arn("t2")], timeoutConfig={"inProgressTimeoutInMinutes": 60})
    for thing in ("t1", "t2"):
        cloud.jobs.update(thing, "job", {"status": "IN_PROGRESS", "stepTimeoutInMinutes": 2})
    cloud.jobs.update("t2", "job", {"status": "IN_PROGRESS", "stepTimeoutInMinutes": -1})
    clock.advance(timedelta(minutes=2))
    assert counts(iot) == {"TimedOut": 1, "InProgress": 1}


@pytest.mark.parametrize(
    ("failure_type", "status", "attempts"),
    [("FAILED", "FAILED", 3), ("ALL", "FAILED", 3), ("TIMED_OUT", "FAILED", 1), ("ALL", "REJECTED", 1)],
    ids=["FAILED is retried", "ALL retries FAILED", "TIMED_OUT does not retry FAILED", "REJECTED is never retried"],
)
def test_retries(iot, cloud, fleet, failure_type, status, attempts):
    retry = {"criteriaList": [{"failureType": failure_type, "numberOfRetries": 2}]}
    create(iot, targets=[thing_arn("t1")], jobExecutionsRetryConfig=retry)
    for _ in range(attempts):
        end(cloud, "t1", status)
    assert iot.describe_job(jobId="job")["job"]["status"] == "COMPLETED"
    found = iot.list_job_executions_for_thing(thingName="t1")["executionSummaries"]
    assert [e["jobExecutionSummary"]["retryAttempt"] for e in found] == list(range(attempts))[::-1]
    assert {e["jobExecutionSummary"]["status"] for e in found} == {status}


def test_an_abort_cancels_what_is_queued_and_leaves_what_is_in_progress(iot, cloud, fleet):
    abort = [{"failureType": "FAILED", "action": "CANCEL", "thresholdPercentage": 50, "minNumberOfExecutedThings": 3}]
    create(iot, abortConfig={"criteriaList": abort})
    cloud.jobs.update("t5", "job", {"status": "IN_PROGRESS"})
    end(cloud, "t0", "FAILED")
    end(cloud, "t1", "FAILED")
    assert iot.describe_job(jobId="job")["job"]["status"] == "IN_PROGRESS"  # two executed are not enough
    end(cloud, "t2")
    assert iot.describe_job(jobId="job")["job"]["status"] == "CANCELED"
    assert counts(iot) == {"Failed": 2, "Succeeded": 1, "InProgress": 1, "Canceled": 6}


def test_an_abort_below_its_percentage_does_nothing(iot, cloud, fleet):
    abort = [{"failureType": "ALL", "action": "CANCEL", "thresholdPercentage": 50, "minNumberOfExecutedThings": 1}]
    create(iot, abortConfig={"criteriaList": abort})
    for thing, status in (("t0", "SUCCEEDED"), ("t1", "SUCCEEDED"), ("t2", "FAILED")):
        end(cloud, thing, status)
    assert iot.describe_job(jobId="job")["job"]["status"] == "IN_PROGRESS"


@pytest.mark.parametrize(("force", "in_progress"), [(False, "IN_PROGRESS"), (True, "CANCELED")])
def test_cancelling_a_job_spares_what_is_in_progress_unless_forced(iot, cloud, fleet, force, in_progress):
    create(iot, targets=[thing_arn("t1"), thing_arn("t2")])
    cloud.jobs.update("t1", "job", {"status": "IN_PROGRESS"})
    iot.cancel_job(jobId="job", force=force, reasonCode="WRONG", comment="by hand")
    job = iot.describe_job(jobId="job")["job"]
    assert (job["status"], job["reasonCode"], job["comment"]) == ("CANCELED", "WRONG", "by hand")
    found = {t: iot.describe_job_execution(jobId="job", thingName=t)["execution"]["status"] for t in ("t1", "t2")}
    assert found == {"t1": in_progress, "t2": "CANCELED"}
    refused(iot.cancel_job, "InvalidRequestException", jobId="job")


def test_a_job_is_deleted_when_it_is_over_or_by_force(iot, fleet):
    create(iot)
    refused(iot.delete_job, "InvalidStateTransitionException", jobId="job")
    iot.delete_job(jobId="job", force=True)
    refused(iot.describe_job, "ResourceNotFoundException", jobId="job")
    assert iot.list_job_executions_for_thing(thingName="t1")["executionSummaries"] == []


def test_an_execution_in_progress_is_cancelled_and_deleted_by_force_only(iot, cloud, fleet):
    create(iot, targets=[thing_arn("t1"), thing_arn("t2")])
    for thing in ("t1", "t2"):
        cloud.jobs.update(thing, "job", {"status": "IN_PROGRESS"})
    code = "InvalidStateTransitionException"
    refused(iot.cancel_job_execution, code, jobId="job", thingName="t1")
    refused(iot.delete_job_execution, code, jobId="job", thingName="t2", executionNumber=1)
    refused(
        iot.cancel_job_execution, "VersionConflictException", jobId="job", thingName="t1", force=True, expectedVersion=9
    )
    iot.cancel_job_execution(jobId="job", thingName="t1", force=True, statusDetails={"by": "operator"})
    iot.delete_job_execution(jobId="job", thingName="t2", executionNumber=1, force=True)
    execution = iot.describe_job_execution(jobId="job", thingName="t1")["execution"]
    assert (execution["status"], execution["forceCanceled"]) == ("CANCELED", True)
    assert execution["statusDetails"]["detailsMap"] == {"by": "operator"}
    assert iot.describe_job(jobId="job")["job"]["status"] == "COMPLETED"


class TestContinuousJobs:
    @pytest.fixture
    def job(self, iot, fleet):
        return create(iot, targetSelection="CONTINUOUS")

    def test_they_stay_open(self, iot, cloud, fleet, job):
        for thing in fleet:
            end(cloud, thing)
        assert iot.describe_job(jobId="job")["job"]["status"] == "IN_PROGRESS"

    def test_a_thing_that_joins_the_group_or_a_child_group_is_queued(self, iot, cloud, job):
        for name, group in (("new", "line"), ("newer", "cell")):
            cloud.seed.thing(name)
            iot.add_thing_to_thing_group(thingGroupName=group, thingName=name)
            assert iot.describe_job_execution(jobId="job", thingName=name)["execution"]["status"] == "QUEUED"

    def test_a_queued_thing_that_leaves_is_removed_one_in_progress_is_not(self, iot, cloud, job):
        cloud.jobs.update("t1", "job", {"status": "IN_PROGRESS"})
        for thing in ("t1", "t2"):
            iot.remove_thing_from_thing_group(thingGroupName="line", thingName=thing)
        found = {t: iot.describe_job_execution(jobId="job", thingName=t)["execution"]["status"] for t in ("t1", "t2")}
        assert found == {"t1": "IN_PROGRESS", "t2": "REMOVED"}

    def test_a_thing_that_is_still_covered_by_another_group_stays(self, iot, cloud, job):
        iot.add_thing_to_thing_group(thingGroupName="cell", thingName="t1")
        iot.remove_thing_from_thing_group(thingGroupName="line", thingName="t1")
        assert iot.describe_job_execution(jobId="job", thingName="t1")["execution"]["status"] == "QUEUED"

    def test_a_thing_that_comes_back_gets_a_new_execution(self, iot, cloud, job):
        end(cloud, "t1", "FAILED")
        iot.remove_thing_from_thing_group(thingGroupName="line", thingName="t1")
        iot.add_thing_to_thing_group(thingGroupName="line", thingName="t1")
        execution = iot.describe_job_execution(jobId="job", thingName="t1")["execution"]
        assert (execution["status"], execution["executionNumber"]) == ("QUEUED", 2)
        old = iot.describe_job_execution(jobId="job", thingName="t1", executionNumber=1)["execution"]
        assert old["status"] == "FAILED"
        with pytest.raises(JobsDataError, match="is FAILED and cannot become FAILED"):  # what a device tells late of it
            cloud.jobs.update("t1", "job", {"status": "FAILED", "executionNumber": 1})

    def test_further_groups_can_be_associated(self, iot, cloud, job):
        cloud.seed.group("other")
        cloud.seed.thing("u1", ["other"])
        iot.associate_targets_with_job(jobId="job", targets=[group_arn("other")])
        assert iot.describe_job_execution(jobId="job", thingName="u1")["execution"]["status"] == "QUEUED"

    def test_a_deleted_thing_is_removed(self, iot, cloud, heard, job):
        iot.update_event_configurations(eventConfigurations={"JOB_EXECUTION": {"Enabled": True}})
        iot.delete_thing(thingName="t1")
        assert "$aws/events/jobExecution/job/removed" in [topic for topic, _ in heard]


def test_a_thing_that_joins_later_is_not_part_of_a_snapshot(iot, cloud, fleet):
    create(iot)
    cloud.seed.thing("new", ["line"])
    assert counts(iot) == {"Queued": 10}
    refused(iot.associate_targets_with_job, "InvalidRequestException", jobId="job", targets=[group_arn("cell")])


class TestTemplates:
    def test_a_job_takes_document_and_configuration_from_its_template_and_may_override(self, iot, fleet):
        template = iot.create_job_template(
            jobTemplateId="AWSLabsCertificateRotator",
            document=DOCUMENT,
            description="rotate",
            timeoutConfig={"inProgressTimeoutInMinutes": 5},
            jobExecutionsRolloutConfig={"maximumPerMinute": 3},
        )
        iot.create_job(jobId="a", targets=[group_arn()], jobTemplateArn=template["jobTemplateArn"])
        iot.create_job(
            jobId="b",
            targets=[group_arn()],
            jobTemplateArn=template["jobTemplateArn"],
            jobExecutionsRolloutConfig={"maximumPerMinute": 7},
        )
        assert iot.get_job_document(jobId="a")["document"] == DOCUMENT
        job = iot.describe_job(jobId="a")["job"]
        assert job["timeoutConfig"] == {"inProgressTimeoutInMinutes": 5}
        assert job["jobTemplateArn"] == template["jobTemplateArn"]
        assert (counts(iot, "a"), counts(iot, "b")) == ({"Queued": 3}, {"Queued": 7})

    def test_they_are_listed_described_and_deleted(self, iot):
        for name in ("b", "a"):
            iot.create_job_template(jobTemplateId=name, document=DOCUMENT, description=name)
        assert [t["jobTemplateId"] for t in iot.list_job_templates()["jobTemplates"]] == ["a", "b"]
        assert iot.describe_job_template(jobTemplateId="a")["document"] == DOCUMENT
        refused(iot.create_job_template, "ConflictException", jobTemplateId="a", document=DOCUMENT, description="a")
        iot.delete_job_template(jobTemplateId="a")
        refused(iot.describe_job_template, "ResourceNotFoundException", jobTemplateId="a")


class TestLimits:
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"jobId": "no spaces"}, "InvalidRequestException"),
            ({"jobId": "x" * 65}, "InvalidRequestException"),
            ({"document": "{not json"}, "InvalidRequestException"),
            ({"document": json.dumps({"x": "y" * 33000})}, "InvalidRequestException"),
            (
                {"targets": [f"arn:aws:iot:eu-west-1:123456789012:thing/t{i}" for i in range(101)]},
                "LimitExceededException",
            ),
            ({"targets": ["arn:aws:iot:eu-west-1:123456789012:thing/nobody"]}, "ResourceNotFoundException"),
            ({"targets": ["arn:aws:iot:eu-west-1:210987654321:thing/t1"]}, "InvalidRequestException"),
            ({"documentParameters": {"a": "b"}}, "InvalidRequestException"),
            ({"timeoutConfig": {"inProgressTimeoutInMinutes": 10081}}, "InvalidRequestException"),
            ({"schedulingConfig": {"startTime": "2026-11-23T12:10:00Z"}}, "InvalidRequestException"),
            ({"documentSource": "https://s3.amazonaws.com/b/k"}, "NotImplemented"),
            ({"namespaceId": "x"}, "NotImplemented"),
        ],
        ids=[
            "a job id has no spaces",
            "a job id has 64 characters",
            "a document is JSON",
            "a document has 32 KiB",
            "a job has 100 targets",
            "a target exists",
            "a target is of this account",
            "parameters need a managed template",
            "a timeout has 10080 minutes",
            "a start lies half an hour ahead",
            "no documents from S3",
            "no namespaces",
        ],
    )
    def test_of_create_job(self, iot, fleet, change, code):
        request = {"jobId": "job", "targets": [thing_arn("t1")], "document": DOCUMENT, **change}
        assert refused(iot.create_job, code, **request)
        assert iot.list_jobs()["jobs"] == []

    def test_a_job_id_is_used_once(self, iot, fleet):
        create(iot)
        refused(iot.create_job, "ResourceAlreadyExistsException", jobId="job", targets=[group_arn()], document=DOCUMENT)

    def test_a_hundred_jobs_of_a_kind_are_active(self, iot, cloud, fleet):
        for i in range(100):
            create(iot, f"j{i}", [thing_arn("t1")])
        refused(iot.create_job, "LimitExceededException", jobId="j100", targets=[group_arn()], document=DOCUMENT)
        create(iot, "other-kind", targetSelection="CONTINUOUS")


def test_a_scheduled_job_starts_and_ends_by_the_clock(iot, clock, fleet):
    schedule = {"startTime": "2026-11-23T13:00:00Z", "endTime": "2026-11-23T14:00:00Z", "endBehavior": "CANCEL"}
    create(iot, schedulingConfig=schedule)
    assert (iot.describe_job(jobId="job")["job"]["status"], counts(iot)) == ("SCHEDULED", {})
    clock.advance(timedelta(hours=1))
    assert counts(iot) == {"Queued": 10}
    clock.advance(timedelta(hours=1))
    assert counts(iot) == {"Canceled": 10}


def test_update_job_changes_rate_and_timeout_of_a_running_job(iot, clock, fleet):
    create(iot, jobExecutionsRolloutConfig={"maximumPerMinute": 1})
    iot.update_job(jobId="job", jobExecutionsRolloutConfig={"maximumPerMinute": 500})
    clock.advance(MINUTE)
    assert counts(iot) == {"Queued": 10}


def test_lists_page_and_filter(iot, cloud, clock, fleet):
    for name in ("old", "new"):
        create(iot, name, [thing_arn("t1")] if name == "old" else None)
        clock.advance(MINUTE)
    end(cloud, "t1", job_id="old")
    assert [j["jobId"] for j in iot.list_jobs()["jobs"]] == ["new", "old"]
    assert [j["jobId"] for j in iot.list_jobs(status="COMPLETED")["jobs"]] == ["old"]
    assert [j["jobId"] for j in iot.list_jobs(thingGroupName="line")["jobs"]] == ["new"]
    pages = list(
        iot.get_paginator("list_job_executions_for_job").paginate(jobId="new", PaginationConfig={"PageSize": 3})
    )
    assert [len(p["executionSummaries"]) for p in pages] == [3, 3, 3, 1]
    queued = iot.list_job_executions_for_thing(thingName="t1", status="QUEUED")["executionSummaries"]
    assert [e["jobId"] for e in queued] == ["new"]


def test_tags_of_a_job(iot, fleet):
    arn = create(iot, tags=[{"Key": "policy", "Value": "line-a"}])["jobArn"]
    iot.tag_resource(resourceArn=arn, tags=[{"Key": "commit", "Value": "abc"}])
    iot.untag_resource(resourceArn=arn, tagKeys=["policy"])
    assert iot.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "commit", "Value": "abc"}]


class TestWhatIsPublished:
    def test_nothing_terminal_unless_events_are_enabled(self, iot, cloud, fleet, heard):
        create(iot, targets=[thing_arn("t1")])
        end(cloud, "t1")
        assert not [topic for topic, _ in heard if topic.startswith("$aws/events")]

    def test_the_event_of_each_terminal_status_names_thing_and_details(self, iot, cloud, clock, fleet, heard):
        iot.update_event_configurations(eventConfigurations={"JOB_EXECUTION": {"Enabled": True}})
        create(iot, targets=[thing_arn(t) for t in fleet[:6]], timeoutConfig={"inProgressTimeoutInMinutes": 1})
        end(cloud, "t0", "SUCCEEDED", CertificateRotator="x")
        end(cloud, "t1", "FAILED", DeviceFailureReason="disk")
        end(cloud, "t2", "REJECTED")
        cloud.jobs.update("t3", "job", {"status": "IN_PROGRESS"})
        clock.advance(MINUTE)
        iot.cancel_job_execution(jobId="job", thingName="t4")
        iot.delete_job_execution(jobId="job", thingName="t5", executionNumber=1)
        events = {topic: json.loads(raw) for topic, raw in heard if topic.startswith("$aws/events/jobExecution/job/")}
        assert [topic.rpartition("/")[2] for topic in events] == [
            "succeeded",
            "failed",
            "rejected",
            "timed_out",
            "canceled",
            "deleted",
        ]
        failed = events["$aws/events/jobExecution/job/failed"]
        assert failed.pop("eventId")
        assert failed == {
            "eventType": "JOB_EXECUTION",
            "timestamp": int(clock.now().timestamp()) - 60,
            "operation": "failed",
            "jobId": "job",
            "thingArn": thing_arn("t1"),
            "status": "FAILED",
            "statusDetails": {"DeviceFailureReason": "disk"},
        }

    def test_notify_next_follows_the_next_pending_execution(self, iot, cloud, fleet, heard):
        create(iot, "a", [thing_arn("t1")])
        create(iot, "b", [thing_arn("t1")])
        end(cloud, "t1", job_id="a")
        end(cloud, "t1", job_id="b")
        told = [json.loads(raw) for topic, raw in heard if topic == "$aws/things/t1/jobs/notify-next"]
        assert [t.get("execution", {}).get("jobId") for t in told] == ["a", "b", None]
        assert told[0]["execution"]["jobDocument"] == {"operation": "ROTATE_CERTIFICATE"}
        lists = [json.loads(raw)["jobs"] for topic, raw in heard if topic == "$aws/things/t1/jobs/notify"]
        assert [sum(len(v) for v in jobs.values()) for jobs in lists] == [1, 2, 1, 0]

    def test_job_events_tell_of_completion(self, iot, cloud, fleet, heard):
        iot.update_event_configurations(eventConfigurations={"JOB": {"Enabled": True}})
        create(iot, targets=[thing_arn("t1")])
        end(cloud, "t1")
        event = json.loads(dict(heard)["$aws/events/job/job/completed"])
        assert (event["status"], event["jobProcessDetails"]["numberOfSucceededThings"]) == ("COMPLETED", 1)


class TestTheDataPlane:
    @pytest.fixture(autouse=True)
    def job(self, iot, fleet):
        create(iot, targets=[thing_arn("t1")], timeoutConfig={"inProgressTimeoutInMinutes": 5})

    def test_https_calls(self, devices):
        assert [j["jobId"] for j in devices.get_pending_job_executions(thingName="t1")["queuedJobs"]] == ["job"]
        found = devices.describe_job_execution(thingName="t1", jobId="$next")["execution"]
        assert (found["status"], json.loads(found["jobDocument"])["operation"]) == ("QUEUED", "ROTATE_CERTIFICATE")
        started = devices.start_next_pending_job_execution(thingName="t1", statusDetails={"step": "1"})["execution"]
        assert (started["status"], started["versionNumber"], started["statusDetails"]) == (
            "IN_PROGRESS",
            2,
            {"step": "1"},
        )
        assert devices.get_pending_job_executions(thingName="t1")["inProgressJobs"][0]["jobId"] == "job"
        answer = devices.update_job_execution(
            thingName="t1", jobId="job", status="SUCCEEDED", includeJobExecutionState=True, includeJobDocument=True
        )
        assert answer["executionState"]["status"] == "SUCCEEDED"
        assert json.loads(answer["jobDocument"]) == {"operation": "ROTATE_CERTIFICATE"}
        refused(
            devices.update_job_execution,
            "InvalidStateTransitionException",
            thingName="t1",
            jobId="job",
            status="FAILED",
        )
        refused(devices.describe_job_execution, "TerminalStateException", thingName="t1", jobId="job")
        assert "execution" not in devices.start_next_pending_job_execution(thingName="t1")
        assert "execution" not in devices.describe_job_execution(thingName="t1", jobId="$next")

    @pytest.mark.parametrize(
        ("thing", "job_id", "request_", "code"),
        [
            ("nobody", "job", {"status": "IN_PROGRESS"}, "ResourceNotFound"),
            ("t2", "job", {"status": "IN_PROGRESS"}, "ResourceNotFound"),
            ("t1", "other", {"status": "IN_PROGRESS"}, "ResourceNotFound"),
            ("t1", "job", {"status": "QUEUED"}, "InvalidRequest"),
            ("t1", "job", {}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "expectedVersion": 7}, "VersionMismatch"),
            ("t1", "job", {"status": "IN_PROGRESS", "expectedVersion": "x"}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "executionNumber": 2}, "ResourceNotFound"),
            ("t1", "job", {"status": "IN_PROGRESS", "executionNumber": "x"}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "statusDetails": {"a b": "c"}}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "statusDetails": {"a": None}}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "statusDetails": {"a": {"b": "c"}}}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "statusDetails": {"a": "b" * 1025}}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "statusDetails": {"a": "b\nc"}}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "statusDetails": [1]}, "InvalidRequest"),
            ("t1", "job", {"status": "IN_PROGRESS", "stepTimeoutInMinutes": 0}, "InvalidRequest"),
        ],
    )
    def test_a_wrong_update_is_rejected_and_changes_nothing(self, iot, cloud, thing, job_id, request_, code):
        with pytest.raises(JobsDataError) as error:
            cloud.jobs.update(thing, job_id, request_)
        assert error.value.code == code
        assert counts(iot) == {"Queued": 1}

    def test_a_version_that_matches_is_taken_and_the_token_comes_back(self, cloud):
        answer = cloud.jobs.update(
            "t1",
            "job",
            {"status": "IN_PROGRESS", "expectedVersion": "1", "clientToken": "k", "includeExecutionState": True},
        )
        assert answer["clientToken"] == "k"
        assert answer["executionState"] == {"status": "IN_PROGRESS", "statusDetails": {}, "versionNumber": 2}

    def test_an_execution_in_progress_comes_before_older_queued_ones(self, iot, cloud):
        create(iot, "second", [thing_arn("t1")])
        cloud.jobs.update("t1", "second", {"status": "IN_PROGRESS"})
        assert cloud.jobs.describe("t1", "$next", {})["execution"]["jobId"] == "second"

    def test_with_nothing_pending_an_answer_has_no_execution_at_all(self, cloud):
        for answer in (cloud.jobs.describe("t2", "$next", {}), cloud.jobs.start_next("t2", {})):
            assert set(answer) == {"timestamp"}

    def test_booleans_and_numbers_in_the_details_are_taken_and_kept_as_text(self, iot, cloud):
        details = {"CertificateRotator": True, "done": False, "step": 3, "share": 0.5}
        cloud.jobs.update("t1", "job", {"status": "IN_PROGRESS", "statusDetails": details})
        kept = {"CertificateRotator": "true", "done": "false", "step": "3", "share": "0.5"}
        execution = iot.describe_job_execution(jobId="job", thingName="t1")["execution"]
        assert execution["statusDetails"]["detailsMap"] == kept
        assert cloud.jobs.describe("t1", "job", {})["execution"]["statusDetails"] == kept

    def test_over_https_a_document_comes_back_byte_for_byte(self, iot, devices):
        document = '{"operation":"ROTATE_CERTIFICATE",  "keyAlgorithm":\n"ECDSA-P256"}'
        iot.create_job(jobId="raw", targets=[thing_arn("t2")], document=document)
        request = {"thingName": "t2", "jobId": "$next"}
        assert devices.describe_job_execution(**request)["execution"]["jobDocument"] == document
        assert "jobDocument" not in devices.describe_job_execution(**request, includeJobDocument=False)["execution"]
        started = devices.start_next_pending_job_execution(thingName="t2")["execution"]
        assert started["jobDocument"] == document
        answer = devices.update_job_execution(
            thingName="t2", jobId="raw", status="IN_PROGRESS", includeJobDocument=True
        )
        assert answer["jobDocument"] == document

    def test_a_retry_is_queued_with_the_failure_and_announced_a_moment_later(self, iot, cloud, clock, heard):
        retry = {"criteriaList": [{"failureType": "FAILED", "numberOfRetries": 1}]}
        create(iot, "again", [thing_arn("t2")], jobExecutionsRetryConfig=retry)
        heard.clear()
        end(cloud, "t2", "FAILED", job_id="again")
        topics = [topic for topic, _ in heard]
        assert cloud.jobs.describe("t2", "$next", {})["execution"]["executionNumber"] == 2
        assert "$aws/things/t2/jobs/notify-next" not in topics
        clock.advance(timedelta(seconds=1))
        (announced,) = [json.loads(raw) for topic, raw in heard if topic == "$aws/things/t2/jobs/notify-next"]
        assert announced["execution"]["executionNumber"] == 2
