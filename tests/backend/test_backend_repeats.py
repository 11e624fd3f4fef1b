"""Repeats, races, and one failure at every call: nothing is doubled, nothing is orphaned."""

from __future__ import annotations

import itertools
from contextlib import suppress
from datetime import datetime

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from backend.functions import errors, services
from backend.functions.rotation import LEASE
from backend.stack import CREATE_TIMEOUT

FEWEST_CALLS = 18  # of a rotation that is rolled back; so that a way that does nothing shows


def test_a_repeated_create_is_answered_with_the_same_certificate(device):
    device.create()
    first = device.aws.published[-1]
    device.aws.tick(seconds=10)
    assert device.create()["status"] == "accepted"
    assert device.aws.published[-1] == first
    assert len(device.attached) == 2


def test_a_concurrent_repeat_leaves_the_answer_to_the_first(device):
    outcomes = []
    device.aws.before_call["iot:CreateCertificateFromCsr"] = lambda: outcomes.append(device.create())
    device.create()
    assert outcomes == [{"status": "waiting"}]
    assert len(device.attached) == 2
    assert len(device.aws.published) == 1


def test_a_repeat_that_races_to_begin_loses_and_waits(device):
    """Both have read that nothing is under way; the second write fails, so the first to write goes on."""
    outcomes = []
    device.aws.before_call["iot:ListAttachedPolicies"] = lambda: outcomes.append(device.create())
    assert device.create()["status"] == "accepted"
    assert [outcome["status"] for outcome in outcomes] == ["accepted"]
    assert len(device.attached) == 2
    assert device.aws.published[0] == device.aws.published[1]


def test_a_concurrent_create_over_another_key_is_not_answered(device, keys, csr_of):
    other = csr_of(keys["ECDSA-P384"])
    outcomes = []
    device.aws.before_call["iot:CreateCertificateFromCsr"] = lambda: outcomes.append(device.create(csr=other))
    device.create()
    assert outcomes == [{"status": "waiting"}]


def test_a_retry_over_a_new_key_waits_for_the_end_of_the_attempt_before_and_a_late_one_is_refused(device, keys, csr_of):
    first, second = device.csr, csr_of(keys["ECDSA-P384"])
    device.create()
    abandoned = device.new
    device.aws.tick(seconds=40)
    failed = device.ended_event("FAILED")
    device.aws.tick(seconds=1)
    assert device.create(csr=second)["status"] == "not answered"
    device.handle_end(failed)
    assert abandoned not in device.aws.certificates
    device.aws.tick(seconds=9)
    assert device.create(csr=second)["status"] == "accepted"
    device.create(csr=first)
    device.assert_code("SupersededKey")
    assert len(device.attached) == 2


def test_a_create_after_a_killed_function_clears_its_remains_away(device):
    def kill():
        raise KeyboardInterrupt

    device.aws.before_call["iot:AttachThingPrincipal"] = kill
    with pytest.raises(KeyboardInterrupt):
        device.create()
    assert device.create() == {"status": "waiting"}
    device.aws.tick(seconds=26)
    assert device.create()["status"] == "accepted"
    assert len(device.aws.certificates) == 2


def test_a_certificate_whose_id_never_became_known_is_found_and_removed(device):
    def kill():
        raise KeyboardInterrupt

    device.aws.page = 1
    device.aws.after_call["iot:CreateCertificateFromCsr"] = kill
    with pytest.raises(KeyboardInterrupt):
        device.create()
    assert len(device.aws.certificates) == 2
    device.aws.tick(seconds=60)
    device.ended("TIMED_OUT")
    device.assert_only(device.old)


def test_a_create_that_is_handled_after_the_commit_does_not_take_the_new_certificate_away(device):
    """Lambda held it back; it was sent over the connection with the old certificate."""
    held_back = device.create_event()
    device.create()
    device.aws.tick(seconds=15)
    device.commit()
    answers = len(device.aws.published)
    device.aws.tick(seconds=15)
    assert device.create(receivedAt=held_back["receivedAt"])["status"] == "not answered"
    assert (len(device.aws.published), len(device.attached)) == (answers, 2)
    new = device.new
    device.ended("SUCCEEDED")
    device.assert_only(new)


def test_a_create_that_was_sent_before_an_end_that_left_both_is_not_answered(device):
    held_back = device.create_event()
    device.create()
    device.aws.tick(seconds=2)
    device.commit()
    device.ended("TIMED_OUT")
    device.start_job()  # the job is tried again
    assert device.create(receivedAt=held_back["receivedAt"])["status"] == "too late"
    assert len(device.attached) == 2


def test_a_create_by_a_connection_of_neither_certificate_is_rejected_while_one_is_under_way(device):
    device.create()
    device.aws.tick(seconds=60)
    device.create(principal="f" * 64)
    device.assert_code("CertificateNotAttached")


def test_a_device_that_asks_again_over_its_new_connection_without_a_commit_loses_neither(device, keys, csr_of):
    device.create()
    device.aws.tick(seconds=60)
    assert device.create(principal=device.new, csr=csr_of(keys["ECDSA-P384"]))["status"] == "not answered"
    assert len(device.attached) == 2


def test_a_rotation_whose_end_nobody_told_is_asked_about_by_the_next_jobs_create(device, keys, csr_of):
    device.create()
    device.aws.tick()
    new = device.new
    device.commit()
    device.aws.tick()
    device.aws.executions["gw-1", "certfleet-line-a-1"]["status"] = "SUCCEEDED"
    device.start_job("job-2")
    device.aws.tick(hours=1)
    assert device.create(jobId="job-2", principal=new, csr=csr_of(keys["ECDSA-P384"]))["status"] == "accepted"
    assert device.old not in device.aws.certificates
    assert new in device.attached


def test_a_repeated_commit_is_accepted_again(device):
    device.create()
    device.commit()
    assert device.commit() == {"status": "accepted"}
    device.ended("SUCCEEDED")
    assert device.aws.published[-1][0].endswith("commit/accepted")


def test_of_a_commit_and_the_repeat_that_overtook_it_the_earlier_counts(device):
    device.create()
    first = device.commit_event()
    device.aws.tick(seconds=5)
    device.commit()
    assert device.commit(receivedAt=first["receivedAt"]) == {"status": "accepted"}
    committed = datetime.fromisoformat(device.aws.items["gw-1", "current"]["committedAt"]["S"])
    assert committed.timestamp() * 1000 == first["receivedAt"]


def test_an_earlier_end_that_is_heard_of_last_is_no_news(device):
    device.create()
    device.connected(device.new)
    earlier = device.ended_event("FAILED")
    device.aws.tick(seconds=30)
    device.ended("TIMED_OUT")
    device.handle_end(earlier)
    assert device.aws.items["gw-1", "current"]["ending"] == {"S": "TIMED_OUT"}


def test_a_commit_after_the_end_is_accepted_again(device):
    device.create()
    new = device.new
    device.commit()
    device.ended("SUCCEEDED")
    assert device.commit(principal=new) == {"status": "accepted"}


def test_a_commit_of_an_earlier_job_over_what_a_later_one_that_was_given_up_began_at_is_accepted(device):
    device.create()
    earlier, alone = "job-of-before", device.old
    assert device.commit(jobId=earlier, principal=alone)["status"] == "rejected"  # not decided yet
    device.ended("FAILED")
    assert list(device.attached) == [alone]
    assert device.commit(jobId=earlier, principal=alone)["status"] == "accepted"
    assert device.commit(principal=alone)["status"] == "rejected"
    assert list(device.attached) == [alone]


def test_a_commit_that_races_with_the_end_has_one_winner(device):
    device.create()
    new = device.new
    device.aws.before_call["iot:ListThingPrincipalsV2"] = lambda: device.ended("TIMED_OUT")
    device.aws.tick(seconds=2)
    assert device.commit()["status"] == "accepted"
    assert len(device.attached) == 2  # both in the same second: which was first is not known
    device.aws.tick(seconds=2)
    device.commit()
    device.assert_only(new)


def test_an_end_during_a_create_leaves_one_certificate(device):
    device.aws.before_call["iot:CreateCertificateFromCsr"] = lambda: device.ended("TIMED_OUT")
    device.create()
    device.assert_code("ExecutionNotInProgress")
    device.assert_only(device.old)


def test_an_end_during_a_create_that_also_fails_leaves_one_certificate(device):
    def end_and_fail():
        device.ended("TIMED_OUT")
        raise ClientError({"Error": {"Code": "InternalFailureException"}}, "CreateCertificateFromCsr")

    device.aws.before_call["iot:CreateCertificateFromCsr"] = end_and_fail
    with pytest.raises(ClientError):
        device.create()
    device.assert_only(device.old)


@pytest.mark.parametrize("taken", [False, True], ids=["is removed", "is left alone if another thing has it"])
def test_a_certificate_that_comes_when_another_create_has_taken_over(device, taken):
    def overtaken():
        device.aws.tick(seconds=30)
        assert device.create()["status"] == "accepted"
        device.aws.before_call["iot:ListPrincipalThingsV2"] = take if taken else lambda: None

    def take():
        [stray] = set(device.aws.certificates) - {device.old, device.new}
        device.aws.certificates[stray].things = {"gw-9": "EXCLUSIVE_THING"}

    device.aws.before_call["iot:CreateCertificateFromCsr"] = overtaken
    assert device.create()["status"] == "accepted"  # tried again, and answered as the other was
    assert len(device.attached) == 2
    assert len(device.aws.certificates) == (3 if taken else 2)


@pytest.mark.parametrize(
    "failure",
    [
        ClientError({"Error": {"Code": "InternalFailureException"}}, "CreateCertificateFromCsr"),
        ConnectTimeoutError(endpoint_url="https://iot"),
    ],
    ids=["refused", "without an answer"],
)
def test_a_create_that_fails_when_another_has_taken_over_leaves_what_that_one_made(device, failure):
    def overtaken_and_failing():
        device.aws.tick(seconds=30)
        assert device.create()["status"] == "accepted"
        raise failure

    device.aws.before_call["iot:CreateCertificateFromCsr"] = overtaken_and_failing
    with pytest.raises(type(failure)):
        device.create()
    assert sorted(device.attached) == sorted(device.aws.certificates) == sorted([device.old, device.new])


def test_endless_conflicts_end_in_an_error_and_the_device_asks_again(device):
    """Another run has the record, such as that of the same event, which Lambda may give twice: that one answers."""

    def conflict(_request):
        raise ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, "PutItem")

    device.aws.dynamodb_put_item = conflict
    with pytest.raises(errors.ConflictError):
        device.create()
    assert device.aws.published == []


def test_endless_conflicts_of_an_end_are_raised_so_that_lambda_repeats(device):
    def conflict(_request):
        raise ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, "PutItem")

    device.create()
    device.aws.dynamodb_put_item = conflict
    with pytest.raises(errors.ConflictError):
        device.ended("FAILED")


def run_through(device):
    """Create, commit and end, as the device and Lambda repeat them."""
    outcome = repeat(device.create, 4)
    if outcome == "accepted":
        device.aws.tick()
        outcome = repeat(device.commit, 2)
    finish(device, "SUCCEEDED" if outcome == "accepted" else "FAILED")


def repeat(ask, times):
    """What the device is answered in the end; None for no answer."""
    for _ in range(times):
        try:
            status = ask()["status"]
        except ClientError:
            continue
        if status != "waiting":
            return status
    return None


def finish(device, status):
    for _attempt in range(3):  # as Lambda repeats an asynchronous invocation
        try:
            device.ended(status)
            return
        except ClientError:
            device.aws.tick(seconds=60)
    raise AssertionError("the end was never handled")


def run_and_settle(settle):
    """Create, commit, time out after the commit; then the device's connection settles it."""

    def run(device):
        outcome = repeat(device.create, 4)
        device.aws.tick()
        if outcome != "accepted" or repeat(device.commit, 2) != "accepted":
            finish(device, "FAILED")
            return
        new = device.new
        device.aws.tick(seconds=5)
        finish(device, "TIMED_OUT")
        device.aws.tick(seconds=5)
        settle(device, new)

    return run


def by_presence(device, new):
    event = device.connected_event(new)
    for _attempt in range(2):  # Lambda repeats the same event
        with suppress(ClientError):
            device.connected(new, timestamp=event["timestamp"])
        device.aws.tick(seconds=60)


def by_commit(device, new):
    repeat(lambda: device.commit(principal=new), 2)
    repeat(lambda: device.commit(principal=new), 1)  # of its next start, where the answer was that it failed


def run_and_roll_back(device):
    """Create, and the job fails before the commit."""
    repeat(device.create, 4)
    device.aws.tick(seconds=5)
    finish(device, "FAILED")


WAYS = {
    "to the end": run_through,
    "settled by a presence event": run_and_settle(by_presence),
    "settled by a repeated commit": run_and_settle(by_commit),
    "rolled back": run_and_roll_back,
}


BY_AUTHORITY = [("aws-iot", way) for way in WAYS] + [("plant-ca", "to the end"), ("plant-ca", "rolled back")]


@pytest.mark.parametrize(("authority", "way"), BY_AUTHORITY, ids=[" ".join(each) for each in BY_AUTHORITY])
@pytest.mark.parametrize(
    "after", [False, pytest.param(True, marks=pytest.mark.unmeasured)], ids=["before-effect", "answer-lost"]
)
@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_one_failure_at_any_call_leaves_one_certificate(
    aws, make_device, fault, variables, code, after, authority, way
):
    make_account = type(aws)
    for at in itertools.count():
        account = make_account()
        device = make_device(account)
        device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": authority})
        account.faults = [fault(at, code, after)]
        with services.running(services.build(variables, account.client, lambda account=account: account.now)):
            WAYS[way](device)
        assert len(account.certificates) == 1, (at, account.calls, device.record)
        [left] = account.certificates.values()
        assert (left.status, left.things) == ("ACTIVE", {"gw-1": "EXCLUSIVE_THING"}), (at, account.calls)
        assert left.policies == ["device"], at
        if account.faults:  # beyond the last call: every one has failed once
            assert at == len(account.calls) > FEWEST_CALLS
            break


def test_two_failures_in_a_row_are_cleared_away_by_the_next_create(device, fault):
    device.aws.faults = [fault(13), fault(14)]  # attaching fails, then the undoing
    with pytest.raises(ClientError):
        device.create()
    assert len(device.aws.certificates) == 2
    device.aws.tick(seconds=30)
    assert device.create()["status"] == "accepted"
    assert len(device.attached) == 2


def test_a_removal_that_was_begun_goes_on_before_the_next_create(device, fault):
    device.create()
    device.aws.faults = [fault(6, after=True)]
    with pytest.raises(ClientError):
        device.ended("FAILED")
    assert device.record["phase"]["S"] == "removing"
    device.start_job("job-2")
    device.aws.tick(seconds=60)
    assert device.create(jobId="job-2")["status"] == "accepted"
    assert len(device.aws.certificates) == 2


def test_a_certificate_that_vanishes_while_it_is_removed_is_no_error(device):
    device.create()
    new = device.new
    device.aws.before_call["iot:DetachThingPrincipal"] = lambda: device.aws.certificates.pop(new)
    device.ended("FAILED")
    device.assert_only(device.old)


def test_the_search_for_a_lost_certificate_looks_at_recent_ones_only_page_by_page(device, make_device):
    device.aws.page = 1
    device.aws.before_call["iot:CreateCertificateFromCsr"] = _killed
    with pytest.raises(KeyboardInterrupt):
        device.create()
    strangers = [make_device(device.aws, f"gw-{n}") for n in (2, 3)]
    for stranger in strangers:
        device.aws.certificates[stranger.old].created = device.aws.now
    device.aws.tick(seconds=60)
    device.ended("TIMED_OUT")
    assert set(device.aws.certificates) == {device.old, *(s.old for s in strangers)}
    assert device.aws.calls.count("iot:DescribeCertificate") == 3  # create's own, and the two recent ones


def test_the_search_ends_with_the_account(device):
    device.aws.before_call["iot:CreateCertificateFromCsr"] = _killed
    with pytest.raises(KeyboardInterrupt):
        device.create()
    device.aws.certificates[device.old].created = device.aws.now  # the only one there is, and a recent one
    device.aws.tick(seconds=60)
    device.ended("TIMED_OUT")
    device.assert_only(device.old)


def _killed():
    raise KeyboardInterrupt


def test_the_lease_outlives_the_function():
    assert LEASE.total_seconds() > CREATE_TIMEOUT
