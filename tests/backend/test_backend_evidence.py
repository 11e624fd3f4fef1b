"""What was in use is never removed, whatever is sent by whom, and in whatever order it is handled."""

from __future__ import annotations

import itertools
from datetime import timedelta

import backend_aws
import pytest
from backend_device import Device

from backend.functions import rotation

BY_THE_CLOUD = ["TIMED_OUT", "CANCELED", "REMOVED", "REJECTED", "DELETED"]
A_QUARTER = timedelta(minutes=15)


def sent(device, before=0.0):
    """The instant some seconds ago, as a rule tells it."""
    return int((device.aws.now - timedelta(seconds=before)).timestamp() * 1000)


@pytest.fixture
def created(device):
    device.create()
    device.aws.tick(seconds=5)
    return device


@pytest.fixture
def in_use(created):
    """The device is connected with its new certificate, and has not committed yet."""
    created.connected(created.new)
    created.aws.tick(seconds=1)
    return created


def assert_both_stay(device):
    assert {c.status for c in device.attached.values()} == {"ACTIVE"}
    assert set(device.attached) == {device.old, device.new}


class TestAJobThatTheCloudHasEnded:
    """The component did not come back in time, or somebody cancelled: that says nothing about what the device uses."""

    @pytest.mark.parametrize("ending", BY_THE_CLOUD)
    def test_takes_no_certificate_that_is_in_use(self, in_use, ending):
        in_use.ended(ending)
        assert_both_stay(in_use)
        assert ending in in_use.aws.notices[-1]

    @pytest.mark.parametrize("ending", BY_THE_CLOUD)
    def test_takes_no_certificate_that_the_device_may_be_about_to_use(self, created, ending):
        created.ended(ending)
        assert_both_stay(created)
        created.aws.tick(seconds=30)
        created.connected(created.new)
        assert_both_stay(created)

    @pytest.mark.parametrize("ending", BY_THE_CLOUD)
    def test_is_made_good_by_a_commit(self, in_use, ending):
        new = in_use.new
        in_use.ended(ending)
        in_use.aws.tick(seconds=30)
        assert in_use.commit() == {"status": "accepted"}
        in_use.assert_only(new)

    def test_is_not_decided_by_connections_with_the_old_certificate(self, in_use):
        in_use.ended("TIMED_OUT")
        for _ in range(3):
            in_use.aws.tick(minutes=20)
            in_use.connected(in_use.old)
        assert_both_stay(in_use)

    def test_counts_as_failed_if_the_device_fails_at_its_next_attempt(self, created, keys, csr_of):
        created.ended("TIMED_OUT")
        created.start_job()  # the job is tried again
        created.aws.tick(seconds=30)
        assert created.create(csr=csr_of(keys["ECDSA-P384"]))["code"] == "RotationInProgress"
        assert_both_stay(created)
        created.aws.tick(seconds=5)
        created.ended("FAILED")
        created.assert_only(created.old)

    def test_counts_as_failed_if_the_device_fails_in_another_rotation_job(self, created):
        created.ended("TIMED_OUT")
        created.start_job("by-hand")
        created.aws.tick(seconds=30)
        assert created.create(jobId="by-hand")["code"] == "RotationInProgress"
        created.aws.tick(seconds=5)
        created.ended("FAILED", jobId="firmware-7")
        assert_both_stay(created)
        created.ended("FAILED", jobId="by-hand")
        created.assert_only(created.old)


class TestAFailure:
    def test_of_a_device_that_was_never_seen_with_the_new_one_removes_it(self, created):
        created.ended("FAILED")
        created.assert_only(created.old)

    def test_of_a_device_that_was_seen_with_the_new_one_removes_nothing(self, in_use):
        in_use.ended("FAILED")
        assert_both_stay(in_use)

    def test_is_not_believed_against_a_commit_that_was_sent_before_and_is_handled_after_it(self, in_use):
        """A thief can fail the job as well."""
        in_use.ended("FAILED")
        in_use.aws.tick(seconds=3)
        assert in_use.commit(receivedAt=sent(in_use, before=3.5)) == {"status": "accepted"}
        in_use.connected(in_use.old)
        in_use.aws.tick(hours=1)
        in_use.connected(in_use.old)
        assert_both_stay(in_use)
        assert "somebody else holds" in in_use.aws.notices[-1]


class TestAForgedAnswerToTheCommit:
    """Who holds the old key publishes ``commit/accepted``: SUCCEEDED may be handled before the device's commit is."""

    @pytest.mark.parametrize("late", [0.3, 1.5, 60])
    def test_does_not_lose_the_commit_that_is_handled_after_the_jobs_end(self, in_use, late):
        new, event = in_use.new, in_use.commit_event()
        in_use.ended("SUCCEEDED")
        assert_both_stay(in_use)
        in_use.aws.tick(seconds=late)
        assert in_use.commit(receivedAt=event["receivedAt"]) == {"status": "accepted"}
        in_use.assert_only(new)

    @pytest.mark.parametrize("late", [0.3, 1.5, 60])
    @pytest.mark.parametrize("thief", ["before the commit is handled", "after it"])
    def test_and_a_connection_with_the_old_key_do_not_take_the_new_certificate(self, in_use, late, thief):
        new, event = in_use.new, in_use.commit_event()
        in_use.aws.tick(seconds=0.1)
        in_use.ended("SUCCEEDED")
        if thief == "before the commit is handled":
            in_use.connected(in_use.old)
        in_use.aws.tick(seconds=late)
        in_use.commit(receivedAt=event["receivedAt"])
        in_use.aws.tick(seconds=1)
        in_use.connected(in_use.old)
        in_use.aws.tick(hours=2)
        in_use.connected(in_use.old)
        assert in_use.aws.certificates[new].status == "ACTIVE"
        if thief == "before the commit is handled":
            assert_both_stay(in_use)
            assert "somebody else holds" in in_use.aws.notices[-1]

    def test_with_a_commit_that_never_arrives_leaves_both(self, in_use):
        in_use.ended("SUCCEEDED")
        in_use.aws.tick(seconds=5)
        in_use.connected(in_use.old)
        in_use.aws.tick(hours=2)
        in_use.connected(in_use.old)
        assert_both_stay(in_use)


ENDINGS_AS_WRITTEN = {
    "without any details": {"statusDetails": {}},
    "with other details": {"statusDetails": {"note": "x"}},
    "without the member": None,
}


@pytest.mark.parametrize("written", ENDINGS_AS_WRITTEN.values(), ids=ENDINGS_AS_WRITTEN)
@pytest.mark.parametrize("ending", ["SUCCEEDED", "FAILED", "TIMED_OUT"])
def test_an_end_is_handled_whatever_was_written_into_it(created, written, ending):
    if ending == "SUCCEEDED":
        created.commit()
    event = created.ended_event(ending, **(written or {}))
    if written is None:
        del event["statusDetails"]
    created.handle_end(event)
    if ending == "TIMED_OUT":
        assert created.record["ending"]["S"] == "TIMED_OUT"
    else:
        assert len(created.attached) == 1


class TestASecondKeyUnderOneJob:
    """Two ask: one of them is not the device, and nobody can tell which."""

    def test_is_not_answered_while_the_first_is_under_way(self, created, keys, csr_of):
        answers = len(created.aws.published)
        assert created.create(csr=csr_of(keys["ECDSA-P384"]))["status"] == "not answered"
        assert len(created.aws.published) == answers
        assert_both_stay(created)

    def test_keeps_both_if_the_first_is_committed(self, created, keys, csr_of):
        created.create(csr=csr_of(keys["ECDSA-P384"]))
        created.commit()
        created.aws.tick()
        created.ended("SUCCEEDED")
        assert_both_stay(created)
        assert "second key" in created.aws.notices[-1]

    def test_leaves_the_old_one_if_the_device_fails(self, created, keys, csr_of):
        created.create(csr=csr_of(keys["ECDSA-P384"]))
        created.ended("FAILED")
        created.assert_only(created.old)


# Whose key came first may be the thief's: what the device asks for in vain is evidence at any moment ----------------


@pytest.fixture
def rivalled(device, csr_of, keys):
    """A second key is asked for while the first one's certificate is being made."""
    device.second = csr_of(keys["ECDSA-P384"])
    device.aws.before_call["iot:CreateCertificateFromCsr"] = lambda: device.create(csr=device.second)
    device.create()
    device.aws.tick(seconds=5)
    return device


def succeed(device):
    device.commit()
    device.aws.tick()
    device.ended("SUCCEEDED")


def test_a_second_key_that_is_asked_for_while_the_first_ones_certificate_is_made_keeps_both(rivalled):
    succeed(rivalled)
    assert_both_stay(rivalled)
    assert "second key" in rivalled.aws.notices[-1]


def test_it_is_no_evidence_against_the_attempt_after_the_one_that_it_came_in(rivalled):
    """The authority was slow, the device has failed, and asks under the job's next attempt with its new key."""
    rivalled.ended("FAILED")
    rivalled.aws.tick(seconds=5)
    rivalled.start_job()
    assert rivalled.create(csr=rivalled.second)["status"] == "accepted"
    new = rivalled.new
    succeed(rivalled)
    rivalled.assert_only(new)


@pytest.mark.parametrize("end_is_first", [False, True], ids=["and all is over", "and the commit is not heard of yet"])
def test_a_second_key_is_weighed_that_is_held_back_until_the_job_has_ended(created, keys, csr_of, end_is_first):
    second, asked, new = csr_of(keys["ECDSA-P384"]), sent(created), created.new
    created.aws.tick(seconds=2)
    committed = sent(created)
    if not end_is_first:
        created.commit(receivedAt=committed)
    created.aws.tick()
    created.ended("SUCCEEDED")
    created.aws.tick(seconds=20)
    for _ in range(2):
        assert created.create(csr=second, receivedAt=asked)["status"] == "too late"
    if end_is_first:
        created.commit(receivedAt=committed)
        assert_both_stay(created)
    else:
        created.assert_only(new)
    [notice] = created.aws.notices
    assert "second key" in notice


# A connection may be older than the commit: a request over it is all that shows its use, refused or not ------------


@pytest.fixture
def committed(created):
    created.commit()
    created.aws.tick(seconds=3)
    return created


@pytest.mark.parametrize("kind", ["create", "commit"])
def test_a_request_over_the_old_certificate_after_the_commit_is_told_once_though_it_is_refused(committed, kind):
    committed.ended("SUCCEEDED")
    new = committed.new
    committed.aws.tick()
    for _ in range(2):
        ask = committed.create if kind == "create" else committed.commit
        assert ask(principal=committed.old)["status"] == "rejected"
    [notice] = committed.aws.notices
    assert "was used after the commit" in notice
    committed.assert_only(new)


def test_such_a_request_keeps_both_if_the_job_has_not_ended(committed):
    assert committed.create(csr="hello")["code"] == "CsrUnreadable"
    committed.aws.tick()
    committed.ended("SUCCEEDED")
    assert_both_stay(committed)
    assert "somebody else holds" in committed.aws.notices[-1]


def test_such_a_request_that_was_sent_before_the_commit_is_no_news(committed):
    before = sent(committed, before=4)
    committed.ended("SUCCEEDED")
    committed.create(csr="hello", receivedAt=before)
    assert committed.aws.notices == []


ORDERS = list(itertools.permutations(["commit", "succeeded", "new", "old"]))


@pytest.mark.unmeasured
@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
@pytest.mark.parametrize("old_sent", ["before the commit", "after the commit"])
def test_the_order_in_which_functions_run_decides_nothing(created: Device, order, old_sent):
    """The device switches, commits and succeeds; the old certificate connects before, or after: a thief's."""
    device, new, old = created, created.new, created.old
    base = device.aws.now

    def at(seconds):
        return int((base + timedelta(seconds=seconds)).timestamp() * 1000)

    events = {
        "new": lambda: device.connected(new, timestamp=at(2)),
        "commit": lambda: device.commit(principal=new, receivedAt=at(3)),
        "old": lambda: device.connected(old, timestamp=at(1 if old_sent == "before the commit" else 4)),
        "succeeded": lambda: device.ended("SUCCEEDED", timestamp=at(5) // 1000),
    }
    device.aws.tick(seconds=60)
    for name in order:
        events[name]()
        device.aws.tick(seconds=1)
    if old_sent == "before the commit":
        device.assert_only(new)
        assert device.aws.notices == []
        return
    assert new in device.attached
    assert order.index("old") > max(map(order.index, ("commit", "succeeded"))) or old in device.attached
    assert "somebody else holds" in device.aws.notices[-1]


def test_two_that_fight_for_a_devices_client_id_for_hours_leave_a_record_that_can_be_written(created, monkeypatch):
    """Each connection ends the other's, and is evidence; of hours of it no more is kept than an item may hold."""
    monkeypatch.setattr(backend_aws, "ITEM_BYTES", 20_000)
    monkeypatch.setattr(rotation, "LINES", 20)  # of 200, in an item of 400 KB: each would be written in full each time
    created.commit()
    for _ in range(60):
        for certificate in (created.old, created.new):
            created.aws.tick(seconds=1)
            created.connected(certificate)
    created.ended("SUCCEEDED")
    assert_both_stay(created)
    lines = [line["M"]["what"]["S"] for line in created.record["history"]["L"]]
    assert "committed" in lines
    assert "both stay" in lines[-1]
