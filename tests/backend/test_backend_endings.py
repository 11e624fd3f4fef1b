"""How rotations end: every terminal event in every phase, and what a connection tells."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from backend_aws import Fault
from backend_device import Device, run
from botocore.exceptions import ClientError
from component_world import SECRET, URIS

from backend.functions import commit_certificate, job_execution_terminal
from component.certificate_rotator import nucleus
from component.certificate_rotator.errors import DeviceError
from protocol.messages import ExecutionStatus, encode_update
from protocol.names import CHECK_DETAILS_KEY

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


def test_a_failure_before_the_commit_removes_the_new_certificate_and_tells(created):
    created.ended("FAILED")
    created.assert_only(created.old)
    assert "FAILED before the commit" in created.aws.notices[-1]
    assert created.aws.shadows["gw-1"]["progress"] == "rolledBack"


@pytest.mark.parametrize("ending", [*ENDINGS, "SUCCEEDED"])
def test_an_end_before_the_create_touches_nothing_and_tells(device, ending):
    device.ended(ending)
    device.assert_only(device.old)
    assert "nothing was touched" in device.aws.notices[-1]


@pytest.mark.parametrize("ending", [*ENDINGS, "SUCCEEDED"])
def test_an_execution_of_a_foreign_job_touches_nothing_and_is_no_news(created, ending):
    created.ended(ending, jobId="firmware-7", statusDetails={})
    assert len(created.attached) == 2
    assert created.aws.notices == []


@pytest.mark.parametrize("ending", ["SUCCEEDED", "FAILED"])
@pytest.mark.parametrize("is_rotating", [False, True])
def test_the_answer_to_a_pre_flight_touches_nothing_and_is_no_news(device, ending, is_rotating):
    if is_rotating:
        device.create()
    before = dict(device.attached)
    answer = encode_update(ExecutionStatus(ending), "checked", "the disk is full", mark=CHECK_DETAILS_KEY)
    device.ended(ending, jobId="cf-line-a-check-0123456789abcdef", statusDetails=json.loads(answer)["statusDetails"])
    assert (device.attached, device.aws.notices) == (before, [])


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_end_after_the_commit_keeps_both_and_tells(committed, ending):
    committed.ended(ending)
    assert len(committed.attached) == 2
    assert committed.record["phase"]["S"] == "unresolved"
    assert committed.aws.shadows["gw-1"]["progress"] == "unresolved"
    assert "both certificates stay" in committed.aws.notices[-1]


def test_success_without_a_commit_keeps_both_and_is_told_after_a_day(created):
    created.connected(created.new)
    created.aws.tick()
    created.ended("SUCCEEDED")
    created.aws.tick(hours=23)
    created.sweep()
    assert (len(created.attached), created.aws.notices) == (2, [])
    created.aws.tick(hours=1)
    created.sweep()
    created.sweep()
    [notice] = created.aws.notices
    assert "nothing was committed" in notice
    assert len(created.attached) == 2


def test_the_devices_reason_reaches_the_operator(created):
    created.ended("FAILED", statusDetails={"CertificateRotator": "x", "DeviceFailureReason": "no answer to commit"})
    assert 'The device writes: "no answer to commit".' in created.aws.notices[-1]


@pytest.mark.parametrize("lite", [False, True], ids=["classic", "lite"])
def test_no_pin_reaches_a_notice_the_table_the_shadow_or_a_log_whatever_form_of_uri_the_device_complains_of(
    device, lite, tmp_path, caplog
):
    caplog.set_level(0)
    reasons = set()
    (tmp_path / "config").mkdir()
    provider = {"aws.greengrass.crypto.Pkcs11Provider": {"configuration": {"library": "/l.so", "userPin": SECRET}}}
    for certificate, key in [(uri, other or uri) for uri in URIS for other in ("/a/file", "pkcs11:object=other", None)]:
        system = {"certificateFilePath": certificate, "privateKeyPath": key}
        settings = json.dumps({"system": system, "services": provider})
        (tmp_path / "config" / "effectiveConfig.yaml").write_text(settings)
        with pytest.raises(DeviceError) as refused:
            nucleus.of_lite(system.get) if lite else nucleus.of_classic(tmp_path)
        reasons.add(str(refused.value))
    for number, reason in enumerate(reasons):
        sent = json.loads(encode_update(ExecutionStatus.FAILED, "rolled back", reason))
        Device(device.aws, f"gw-{number}-{lite}").ended("FAILED", statusDetails=sent["statusDetails"])
        assert f'The device writes: "{reason[:40]}' in device.aws.notices[-1]
    assert len(device.aws.notices) == len(reasons) > 1
    assert SECRET not in repr([device.aws.notices, device.aws.items, device.aws.shadows, caplog.text])


def test_what_a_device_writes_is_one_quoted_line_of_bounded_length(created):
    forged = 'x".\n\nAll is well\u202e: no action is needed.\r\n' + "y" * 5000
    created.ended("FAILED", statusDetails={"DeviceFailureReason": forged})
    said = created.aws.notices[-1].partition("The device writes: ")[2]
    assert said.startswith("\"x'. All is well : no action is needed. yyy")
    assert said.endswith('yy…".')
    assert len(said) < 320


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
    """Timed out after the commit: what the device does next settles it, as far as no thief could do it."""

    @pytest.fixture
    def unresolved(self, committed):
        committed.ended("TIMED_OUT")
        committed.aws.tick(seconds=60)
        return committed

    def test_a_connection_with_the_new_certificate_removes_the_old(self, unresolved):
        new = unresolved.new
        unresolved.connected(new, clientId="gw-1#2")
        unresolved.assert_only(new)
        assert "committed the new one and uses it" in unresolved.aws.notices[-1]
        assert unresolved.aws.shadows["gw-1"]["progress"] == "rotated"

    def test_a_connection_with_the_old_certificate_removes_none_and_is_told(self, unresolved):
        unresolved.connected(unresolved.old)
        assert len(unresolved.attached) == 2
        [_, notice] = unresolved.aws.notices
        for certificate in (unresolved.old, unresolved.new):
            assert f"--certificate-id {certificate}" in notice

    @pytest.mark.parametrize("certificate", ["new", "old"])
    def test_a_connection_from_before_the_commit_that_is_told_after_the_end_settles_nothing(
        self, unresolved, certificate
    ):
        before = unresolved.aws.now - timedelta(seconds=69)
        unresolved.connected(getattr(unresolved, certificate), timestamp=int(before.timestamp() * 1000))
        assert (len(unresolved.attached), len(unresolved.aws.notices)) == (2, 1)

    def test_a_repeated_commit_removes_the_old(self, unresolved):
        new = unresolved.new
        assert unresolved.commit(principal=new) == {"status": "accepted"}
        unresolved.assert_only(new)

    def test_a_repeated_commit_that_was_sent_before_the_end_settles_nothing(self, unresolved):
        sent = int((unresolved.aws.now - timedelta(seconds=63)).timestamp() * 1000)
        assert unresolved.commit(receivedAt=sent)["status"] == "accepted"
        assert len(unresolved.attached) == 2
        assert unresolved.record["phase"]["S"] == "unresolved"

    def test_a_commit_of_a_rule_that_does_not_say_when_it_came_in_counts_from_now(self, unresolved):
        """For the seconds of an update: the function is new already, the rule is still the former one."""
        new, event = unresolved.new, unresolved.commit_event()
        del event["receivedAt"]
        assert run(unresolved.aws, commit_certificate, event) == {"status": "accepted"}
        unresolved.assert_only(new)

    def test_a_commit_over_the_old_certificate_is_rejected_and_told(self, unresolved):
        unresolved.commit(principal=unresolved.old)
        unresolved.assert_code("OldCertificate")
        assert len(unresolved.attached) == 2
        assert "somebody else holds a copy" in unresolved.aws.notices[-1]

    @pytest.mark.parametrize("certificate", ["new", "old"])
    def test_a_new_job_has_to_wait_unless_its_connection_settles_it(self, unresolved, certificate, keys, csr_of):
        new, principal = unresolved.new, getattr(unresolved, certificate)
        unresolved.start_job("job-2")
        answer = unresolved.create(jobId="job-2", principal=principal, csr=csr_of(keys["ECDSA-P384"]))
        if certificate == "new":
            assert answer["status"] == "accepted"
            assert set(unresolved.attached) == {new, unresolved.new}
        else:
            assert answer["code"] == "RotationInProgress"
            assert len(unresolved.attached) == 2

    @pytest.mark.parametrize(
        "changes",
        [{"principal": "f" * 64}, {"clientId": "gw-2"}],
        ids=["of a third certificate", "of another thing"],
    )
    def test_a_connection_tells_nothing_that_is(self, unresolved, changes):
        principal = changes.pop("principal", unresolved.old)
        assert unresolved.connected(principal, **changes) == {"status": "nothing"}
        assert len(unresolved.attached) == 2

    @pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
    @pytest.mark.parametrize("certificate", ["new", "old"])
    def test_a_person_settles_it_by_deactivating_one(self, unresolved, certificate, status):
        gone = getattr(unresolved, certificate)
        [left] = {unresolved.old, unresolved.new} - {gone}
        unresolved.connected(unresolved.old)
        unresolved.aws.certificates[gone].status = status
        unresolved.aws.tick(minutes=15)
        unresolved.sweep()
        unresolved.assert_only(left)
        assert "a person has deactivated it" in unresolved.aws.notices[-1]

    def test_nothing_is_settled_by_deactivating_both(self, unresolved):
        for certificate in unresolved.aws.certificates.values():
            certificate.status = "INACTIVE"
        unresolved.aws.tick(minutes=15)
        unresolved.sweep()
        assert len(unresolved.attached) == 2

    def test_a_person_settles_it_by_deleting_one(self, unresolved):
        del unresolved.aws.certificates[unresolved.old]
        unresolved.aws.tick(minutes=15)
        unresolved.sweep()
        unresolved.assert_only(unresolved.new)
        assert unresolved.record["phase"]["S"] == "finished"


class TestASuccessAlthoughTheOldCertificateHasConnectedSince:
    """One of the two is wrong, and it may be a thief who connects: nothing goes before a person has looked."""

    @pytest.fixture
    def doubtful(self, committed):
        self.event = committed.connected_event(committed.old)
        assert job_execution_terminal.handler(self.event, None) == {"status": "noted"}
        committed.ended("SUCCEEDED")
        return committed

    def test_keeps_both_and_tells_what_each_holder_would_look_like(self, doubtful):
        assert len(doubtful.attached) == 2
        [notice] = doubtful.aws.notices
        assert "If it uses the new one, somebody else holds a copy of the old one's key" in notice
        assert "If it uses the old one, nobody uses the new one, or somebody else does" in notice

    def test_is_told_once_however_often_the_event_is_repeated(self, doubtful):
        for _ in range(3):
            job_execution_terminal.handler(self.event, None)
        assert (len(doubtful.attached), len(doubtful.aws.notices)) == (2, 1)

    @pytest.mark.parametrize("certificate", ["new", "old"])
    @pytest.mark.parametrize("how", ["connection", "commit", "a new job"])
    def test_is_settled_by_neither_certificate_whatever_it_sends(self, doubtful, certificate, how, keys, csr_of):
        principal = getattr(doubtful, certificate)
        doubtful.aws.tick(seconds=30)
        if how == "connection":
            doubtful.connected(principal)
        elif how == "commit":
            doubtful.commit(principal=principal)
        else:
            doubtful.start_job("by-hand")
            doubtful.create(jobId="by-hand", principal=principal, csr=csr_of(keys["ECDSA-P384"]))
            doubtful.assert_code("RotationInProgress")
            doubtful.ended("FAILED", jobId="by-hand")
        assert len(doubtful.attached) == 2


def test_a_failure_after_the_commit_leaves_both_to_a_person(committed):
    committed.connected(committed.old)
    committed.ended("FAILED")
    assert len(committed.attached) == 2
    assert "somebody else holds a copy" in committed.aws.notices[-1]


def test_an_old_certificate_that_was_used_after_the_commit_and_is_gone_when_that_is_heard_is_told_once(committed):
    committed.aws.tick(seconds=-4)
    event = committed.connected_event(committed.old)
    committed.aws.tick(seconds=5)
    committed.ended("SUCCEEDED")
    assert committed.aws.notices == []
    for expected in ({"status": "told"}, {"status": "nothing"}):
        assert job_execution_terminal.handler(event, None) == expected
    [notice] = committed.aws.notices
    assert "was used after the commit" in notice
    assert f"--certificate-id {committed.new}" in notice


def test_a_device_that_connects_again_and_again_leaves_one_line_of_evidence(committed):
    committed.connected(committed.old, timestamp=int((committed.aws.now - timedelta(hours=1)).timestamp() * 1000))
    before = len(committed.record["history"]["L"])
    for _ in range(5):
        committed.connected(committed.new)
        committed.aws.tick(seconds=2)
    assert len(committed.record["history"]["L"]) == before
    latest = committed.aws.now - timedelta(seconds=2)
    assert committed.record["newSeenAt"]["S"] == latest.isoformat()


def test_of_two_connections_out_of_order_the_later_one_counts(created):
    later = int(created.aws.now.timestamp() * 1000)
    created.connected(created.new, timestamp=later)
    created.connected(created.new, timestamp=later - 1000)
    assert created.record["newSeenAt"]["S"] == created.aws.now.isoformat()


@pytest.mark.parametrize("client", ["gw-1", "#2", "a client", "x" * 129])
def test_connections_without_a_rotation_cost_one_call_whosever_they_are(device, client):
    device.connected(device.old, clientId=client)
    assert device.aws.calls == ["dynamodb:BatchGetItem"]


def test_a_late_event_of_an_earlier_attempt_leaves_the_present_one_alone(device):
    early = int(device.aws.now.timestamp())
    device.aws.tick(seconds=30)
    device.create()
    device.ended("FAILED", timestamp=early)
    assert len(device.attached) == 2
    assert device.commit()["status"] == "accepted"


def test_an_event_of_the_second_in_which_the_rotation_began_is_told_apart_by_the_execution(device):
    event = device.ended_event("FAILED")
    device.create()
    job_execution_terminal.handler(event, None)  # the execution is IN_PROGRESS again: a retry
    assert len(device.attached) == 2
    device.ended("FAILED")
    device.assert_only(device.old)


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
          for client in ("", "x" * 257)),
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
        with pytest.raises(Exception, match="does not show what"):
            created.ended("FAILED")

    def test_a_record_that_lost_its_certificate_is_an_error(self, created):
        del created.aws.items["gw-1", "current"]["certificatePem"]
        with pytest.raises(Exception, match="holds no certificate"):
            created.create()


def test_what_was_issued_without_its_id_becoming_known_is_found_by_the_sweep(device):
    device.aws.faults = [Fault(10, after=True), Fault(11)]  # its answer is lost, then the undoing fails
    with pytest.raises(ClientError):
        device.create()
    assert "newCertificateId" not in device.record
    assert len(device.aws.certificates) == 2
    device.aws.tick(minutes=16)
    assert device.sweep() == {"status": "swept", "open": 1, "failed": 0, "oldest_seconds": 16 * 60}
    device.assert_only(device.old)
