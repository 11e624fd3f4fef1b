"""Following jobs: when the wait ends, how often AWS is asked, what is told of each device."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.jobs import Pace, apply, follow
from controller.reconcile.values import TargetKind
from protocol.messages import ExecutionStatus


@pytest.fixture
def started(cloud, iot, kit):
    """A job on two devices; returns the job as the cloud holds it."""
    job = kit.job("line-a", 1, TargetKind.THINGS, kit.devices("a", "b"))
    apply(kit.plan(job), iot, kit.NOW)
    return cloud.jobs[job.job_id]


@pytest.fixture
def watch(iot, timeline):
    def run(*job_ids, progress=None, **pace):
        return follow(job_ids, iot, Pace(**pace), progress, sleep=timeline.sleep, monotonic=timeline.monotonic)

    return run


def test_the_wait_ends_with_the_last_device_and_says_what_each_one_did(cloud, started, watch, timeline):
    timeline.at(3, lambda: started.executions.update(a="SUCCEEDED"))
    timeline.at(40, lambda: started.executions.update(b="FAILED"))
    started.reasons["b"] = "the disk is full: free 1 MB under /greengrass"

    result = watch(*cloud.jobs)

    assert [(found.device, found.status, found.reason) for found in result.outcomes] == [
        ("a", ExecutionStatus.SUCCEEDED, None),
        ("b", ExecutionStatus.FAILED, "the disk is full: free 1 MB under /greengrass"),
    ]
    assert [found.device for found in result.failed] == ["b"]
    assert not result.timed_out
    assert not result.unfinished


def test_the_pause_doubles_while_nothing_changes_and_is_short_again_after_a_change(cloud, started, watch, timeline):
    timeline.at(60, lambda: started.executions.update(a="SUCCEEDED"))
    timeline.at(64, lambda: started.executions.update(b="SUCCEEDED"))

    watch(*cloud.jobs)

    assert timeline.sleeps[:5] == [1, 2, 4, 8, 15]
    assert timeline.sleeps[-1] <= 4
    assert cloud.calls.count("DescribeJob") < 15


def test_only_failures_cost_a_call_each_and_no_more_than_the_limit(cloud, started, watch, timeline):
    started.executions.update(a="FAILED", b="TIMED_OUT")

    result = watch(*cloud.jobs, max_reasons=1)

    assert cloud.calls.count("DescribeJobExecution") == 1
    assert len(result.failed) == 2


def test_devices_that_stay_queued_are_offline_and_do_not_hold_the_wait(cloud, started, watch, timeline):
    timeline.at(5, lambda: started.executions.update(a="SUCCEEDED"))

    result = watch(*cloud.jobs, offline_after=timedelta(minutes=2))

    assert [found.device for found in result.unfinished] == ["b"]
    assert not result.timed_out
    assert 120 <= timeline.seconds < 160


def test_a_device_at_work_is_waited_for_until_the_time_is_up(cloud, started, watch, timeline):
    started.executions.update(a="IN_PROGRESS")

    result = watch(*cloud.jobs, timeout=timedelta(minutes=10))

    assert result.timed_out
    assert timeline.seconds == pytest.approx(600)
    assert {found.device for found in result.unfinished} == {"a", "b"}


def test_an_aborted_job_ends_the_wait_and_is_named(cloud, started, watch):
    started.status = "CANCELED"
    started.executions.update(a="FAILED", b="CANCELED")

    result = watch(*cloud.jobs)

    assert result.aborted == tuple(cloud.jobs)
    assert [one.device for one in result.outcomes if one.status is ExecutionStatus.CANCELED] == ["b"]


def test_a_continuous_job_is_left_as_soon_as_nothing_of_it_is_open(cloud, iot, kit, watch, timeline):
    job = kit.job("line-a", None, TargetKind.COHORT, kit.devices("a"))
    apply(kit.plan(job), iot, kit.NOW)
    timeline.at(2, lambda: cloud.jobs[job.job_id].executions.update(a="SUCCEEDED"))

    result = watch(job.job_id)

    assert [found.status for found in result.outcomes] == [ExecutionStatus.SUCCEEDED]
    assert timeline.seconds < 10


def test_a_job_that_was_deleted_meanwhile_ends_the_wait_without_an_outcome(watch):
    assert watch("cf-line-a-w1-0000000000000000").outcomes == ()


def test_progress_counts_devices_over_all_jobs(cloud, started, watch, timeline):
    timeline.at(2, lambda: started.executions.update(a="SUCCEEDED", b="REJECTED"))
    told = []

    watch(*cloud.jobs, progress=lambda *words: told.append(words))

    assert told[0] == ("rotating", 0, 2)
    assert told[-1] == ("rotating", 2, 2)


def test_many_jobs_are_looked_at_no_faster_than_the_quota_allows(cloud, iot, kit, watch, timeline):
    jobs = [kit.job(f"policy-{n}", 1, TargetKind.THINGS, kit.devices(f"device-{n}")) for n in range(20)]
    apply(kit.plan(*jobs), iot, kit.NOW)

    def finish():
        for job in cloud.jobs.values():
            job.executions = dict.fromkeys(job.executions, "SUCCEEDED")

    timeline.at(10, finish)
    watch(*cloud.jobs, calls_per_second=5)

    assert min(timeline.sleeps) >= 4
