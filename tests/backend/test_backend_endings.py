"""How rotations end: every terminal event in every phase, and what a connection tells."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from backend_aws import Fault, run
from botocore.exceptions import ClientError

from backend.functions import commit_certificate, job_execution_terminal

ENDINGS = ["FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED", "DELETED"]


@pytest.fixture
def created(device):
    device.create()
    device.aws.tick(seconds=5)
    return device


@pytest.fixture
def committed(created):
    created.commit()
    created.aws.tick(seconds=5)
    return created


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_end_before_the_commit_removes_the_new_certificate_and_tells(created, ending):
    created.ended(ending)
    created.assert_only(created.old)
    assert ending in created.aws.notices[-1]
    assert created.aws.shadows["gw-1"]["progress"] == "rolledBack"


@pytest.mark.parametrize("ending", [*ENDINGS, "SUCCEEDED"])
def test_an_end_before_the_create_touches_nothing_and_tells(device, ending):
    device.ended(ending)
    device.assert_only(device.old)
    assert "nothing was touched" in device.aws.notices[-1]


@pytest.mark.parametrize("ending", [*ENDINGS, "SUCCEEDED"])
def test_an_execution_of_a_foreign_job_touches_nothing_and_tells(created, ending):
    created.ended(ending, jobId="firmware-7")
    assert len(created.attached) == 2
    assert "firmware-7" in created.aws.notices[-1]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_end_after_the_commit_keeps_both_and_tells(committed, ending):
    committed.ended(ending)
    assert len(committed.attached) == 2
    assert committed.record["phase"]["S"] == "unresolved"
    assert "both certificates stay" in committed.aws.notices[-1]


def test_success_without_a_commit_keeps_both_until_the_next_connection(created):
    created.ended("SUCCEEDED")
    assert len(created.attached) == 2
    assert "nothing was committed" in created.aws.notices[-1]
    new = created.new
    created.aws.tick()
    created.connected(new)
    created.assert_only(new)


def test_the_devices_reason_reaches_the_operator(created):
    created.ended("FAILED", statusDetails={"CertificateRotator": "x", "DeviceFailureReason": "no answer to commit"})
    assert "no answer to commit" in created.aws.notices[-1]


def test_a_repeated_event_changes_nothing_and_tells_nothing(created):
    created.ended("FAILED")
    notices = list(created.aws.notices)
    created.ended("FAILED")
    assert created.aws.notices == notices
    created.assert_only(created.old)


def test_a_repeated_event_after_the_commit_changes_nothing(committed):
    committed.ended("TIMED_OUT")
    notices = list(committed.aws.notices)
    committed.ended("TIMED_OUT")
    assert committed.aws.notices == notices
    assert len(committed.attached) == 2


class TestUnresolved:
    """Timed out after the commit: the next connection settles it, and the operator hears of it."""

    @pytest.fixture
    def unresolved(self, committed):
        committed.ended("TIMED_OUT")
        committed.aws.tick(seconds=60)
        return committed

    def test_a_connection_with_the_new_certificate_removes_the_old(self, unresolved):
        new = unresolved.new
        unresolved.connected(new, clientId="gw-1#2")
        unresolved.assert_only(new)
        assert "uses its new certificate" in unresolved.aws.notices[-1]

    def test_a_connection_with_the_old_certificate_removes_the_new(self, unresolved):
        unresolved.connected(unresolved.old)
        unresolved.assert_only(unresolved.old)
        assert "uses its old certificate" in unresolved.aws.notices[-1]

    @pytest.mark.parametrize("certificate", ["new", "old"])
    def test_a_connection_from_before_the_end_that_is_told_after_it_settles_nothing(self, unresolved, certificate):
        before = unresolved.aws.now - timedelta(seconds=61)
        unresolved.connected(getattr(unresolved, certificate), timestamp=int(before.timestamp() * 1000))
        assert len(unresolved.attached) == 2

    def test_a_repeated_commit_removes_the_old(self, unresolved):
        new = unresolved.new
        assert unresolved.commit(principal=new) == {"status": "accepted"}
        unresolved.assert_only(new)

    @pytest.mark.parametrize("certificate", ["new", "old"])
    def test_a_commit_that_was_sent_before_the_end_and_is_handled_after_it_settles_nothing(
        self, unresolved, certificate
    ):
        ended = datetime.fromisoformat(unresolved.record["unresolvedAt"]["S"])
        answers, principal = len(unresolved.aws.published), getattr(unresolved, certificate)
        held_back = int((ended - timedelta(seconds=20)).timestamp() * 1000)
        assert unresolved.commit(principal=principal, receivedAt=held_back)["status"] == "too late"
        assert (len(unresolved.attached), len(unresolved.aws.published)) == (2, answers)
        assert unresolved.record["phase"]["S"] == "unresolved"

    def test_a_commit_of_a_rule_that_does_not_say_when_it_came_in_is_believed(self, unresolved):
        """For the seconds of an update: the function is new already, the rule is still the former one."""
        new, event = unresolved.new, unresolved.commit_event()
        del event["receivedAt"]
        assert run(unresolved.aws, commit_certificate, event) == {"status": "accepted"}
        unresolved.assert_only(new)

    def test_a_commit_over_the_old_certificate_removes_the_new_and_is_rejected(self, unresolved):
        unresolved.commit(principal=unresolved.old)
        unresolved.assert_code("OldCertificate")
        unresolved.assert_only(unresolved.old)

    def test_a_new_job_settles_it_by_its_own_connection(self, unresolved):
        unresolved.start_job("job-2")
        assert unresolved.create(jobId="job-2")["status"] == "accepted"
        assert len(unresolved.attached) == 2
        assert unresolved.old in unresolved.attached

    @pytest.mark.parametrize(
        "changes",
        [
            {"principal": "f" * 64},
            {"clientId": "gw-2"},
            {"timestamp": 0},
        ],
        ids=["of a third certificate", "of another thing", "of before the commit"],
    )
    def test_a_connection_tells_nothing_that_is(self, unresolved, changes):
        principal = changes.pop("principal", unresolved.old)
        assert unresolved.connected(principal, **changes) == {"status": "nothing"}
        assert len(unresolved.attached) == 2


class TestASuccessAlthoughTheOldCertificateHasConnectedSince:
    """One of the two is wrong, and it may be a thief who connects: nothing goes before a person knows."""

    @pytest.fixture
    def doubtful(self, committed):
        self.event = committed.connected_event(committed.old)
        assert job_execution_terminal.handler(self.event, None) == {"status": "noted"}
        committed.ended("SUCCEEDED")
        return committed

    def test_keeps_both_and_tells(self, doubtful):
        assert len(doubtful.attached) == 2
        assert "somebody else holds the old one's key" in doubtful.aws.notices[-1]

    def test_is_not_settled_by_a_repeat_of_that_event(self, doubtful):
        assert job_execution_terminal.handler(self.event, None) == {"status": "nothing"}
        assert len(doubtful.attached) == 2

    def test_is_not_settled_by_the_old_certificate_whatever_it_sends(self, doubtful):
        doubtful.aws.tick(seconds=30)
        assert doubtful.connected(doubtful.old) == {"status": "nothing"}
        doubtful.commit(principal=doubtful.old)
        doubtful.assert_code("OldCertificate")
        assert len(doubtful.attached) == 2

    @pytest.mark.parametrize("how", ["connection", "commit"])
    def test_is_settled_by_the_new_certificate(self, doubtful, how):
        new = doubtful.new
        doubtful.aws.tick(seconds=30)
        doubtful.connected(new) if how == "connection" else doubtful.commit(principal=new)
        doubtful.assert_only(new)

    def test_is_settled_for_the_old_one_by_the_next_rotation_that_a_person_starts(self, doubtful, keys, csr_of):
        new = doubtful.new
        doubtful.start_job("by-hand")
        doubtful.aws.tick(seconds=30)
        assert doubtful.create(jobId="by-hand", csr=csr_of(keys["ECDSA-P384"]))["status"] == "accepted"
        assert new not in doubtful.aws.certificates
        assert doubtful.old in doubtful.attached


def test_a_failure_of_a_device_seen_with_its_old_certificate_since_the_commit_removes_the_new_one(committed):
    committed.connected(committed.old)
    committed.ended("FAILED")
    committed.assert_only(committed.old)
    assert "returned to its old certificate" in committed.aws.notices[-1]


def test_a_device_that_connects_again_and_again_leaves_one_line_of_evidence(committed):
    before = len(committed.record["history"]["L"])
    for _ in range(5):
        committed.connected(committed.new)
        committed.aws.tick(seconds=2)
    assert len(committed.record["history"]["L"]) == before + 1
    latest = committed.aws.now - timedelta(seconds=2)
    assert committed.record["seenAt"]["S"] == latest.isoformat()


def test_a_failure_after_the_commit_is_settled_at_once_where_a_connection_was_seen(committed):
    new = committed.new
    committed.connected(new)
    committed.ended("FAILED")
    committed.assert_only(new)


def test_of_two_connections_out_of_order_the_later_one_counts(committed):
    new = committed.new
    later = int(committed.aws.now.timestamp() * 1000)
    committed.connected(new, timestamp=later)
    assert committed.connected(committed.old, timestamp=later - 1000) == {"status": "nothing"}
    committed.ended("TIMED_OUT")
    committed.assert_only(new)


def test_connections_without_a_rotation_cost_one_read(device):
    device.connected(device.old)
    assert device.aws.calls == ["dynamodb:GetItem"]


def test_a_late_event_of_an_earlier_attempt_leaves_the_present_one_alone(device):
    early = int(device.aws.now.timestamp())
    device.aws.tick(seconds=30)
    device.create()
    device.ended("FAILED", timestamp=early)
    assert len(device.attached) == 2
    assert device.commit()["status"] == "accepted"


def test_an_event_of_the_same_second_is_told_apart_by_the_execution(created):
    event = created.ended_event("FAILED")
    job_execution_terminal.handler(event, None)  # the execution is IN_PROGRESS again: a retry
    assert len(created.attached) == 2


def test_an_event_in_seconds_and_one_in_milliseconds_are_the_same(created):
    created.ended("FAILED", timestamp=int(created.aws.now.timestamp() * 1000))
    created.assert_only(created.old)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"eventType": "JOB_EXECUTION"},
        {"eventType": "JOB_EXECUTION", "operation": "exploded", "timestamp": 1, "jobId": "j",
         "thingArn": "arn:aws:iot:eu-west-1:123456789012:thing/gw-1", "status": "X"},
        *({"eventType": "connected", "clientId": client, "timestamp": 1, "principalIdentifier": "f" * 64}
          for client in ("", "#2", "a client", "x" * 129)),
    ],
)  # fmt: skip
def test_an_event_that_is_none_of_ours_is_ignored(device, event):
    assert job_execution_terminal.handler(event, None) == {"status": "ignored"}
    assert device.aws.calls == []


class TestRegistryContradicts:
    """Nothing is deleted that the registry does not show as this thing's alone."""

    def test_an_old_certificate_now_of_another_thing_is_not_touched(self, committed):
        committed.aws.certificates[committed.old].things = {"gw-9": "EXCLUSIVE_THING"}
        committed.ended("SUCCEEDED")
        assert committed.aws.certificates[committed.old].status == "ACTIVE"
        assert "gw-9" in committed.aws.notices[-1]

    def test_an_old_certificate_that_was_detached_by_hand_is_not_touched(self, committed):
        committed.aws.certificates[committed.old].things = {}
        committed.ended("SUCCEEDED")
        assert committed.aws.certificates[committed.old].status == "ACTIVE"
        assert "no thing" in committed.aws.notices[-1]

    def test_a_new_certificate_of_another_thing_is_not_touched(self, created):
        new = created.new
        created.aws.certificates[new].things["gw-9"] = "NON_EXCLUSIVE_THING"
        created.ended("FAILED")
        assert created.aws.certificates[new].status == "ACTIVE"
        assert "gw-9" in created.aws.notices[-1]

    def test_a_certificate_that_is_gone_already_is_no_error(self, committed):
        new = committed.new
        del committed.aws.certificates[committed.old]
        committed.ended("SUCCEEDED")
        committed.assert_only(new)

    def test_a_record_that_does_not_say_what_it_removes_is_an_error(self, created):
        created.aws.items["gw-1", "current"]["phase"] = {"S": "removing"}
        with pytest.raises(Exception, match="does not say what"):
            created.ended("FAILED")

    def test_a_record_that_lost_its_certificate_is_an_error(self, created):
        del created.aws.items["gw-1", "current"]["certificatePem"]
        with pytest.raises(Exception, match="holds no certificate"):
            created.create()


def test_the_clock_may_not_go_backwards_for_presence(committed):
    before = committed.aws.now - timedelta(minutes=1)
    committed.connected(committed.old, timestamp=int(before.timestamp() * 1000))
    assert "seenPrincipal" not in committed.record


def test_a_commit_over_the_old_certificate_clears_away_what_was_issued_without_its_id_becoming_known(device):
    device.aws.faults = [Fault(6, after=True), Fault(7)]  # its answer is lost, then the undoing fails
    with pytest.raises(ClientError):
        device.create()
    assert "newCertificateId" not in device.record
    assert len(device.aws.certificates) == 2
    device.aws.tick(seconds=60)
    device.ended("SUCCEEDED")
    device.aws.tick(seconds=5)
    device.commit(principal=device.old)
    device.assert_code("OldCertificate")
    device.assert_only(device.old)
