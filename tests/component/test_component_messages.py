"""Every message of the sequence lost, doubled, delayed past its limit, malformed, oversized, or for another job."""

from __future__ import annotations

import json

import pytest
from component_cloud import identity_of, pem_of, subject_of
from component_world import LITE
from cryptography.hazmat.primitives import serialization

from component.certificate_rotator.errors import DeviceError
from component.certificate_rotator.ports import MessagesError
from component.certificate_rotator.store import opened_when_needed

THING = "gateway-7"
JOBS = f"$aws/things/{THING}/jobs"
ROTATION = f"awslabs/things/{THING}/certificate"

MESSAGES = {
    "get": ("to cloud", f"{JOBS}/$next/get"),
    "get accepted": ("to device", f"{JOBS}/$next/get/accepted"),
    "notify-next": ("to device", f"{JOBS}/notify-next"),
    "update": ("to cloud", f"{JOBS}/job-1/update"),
    "update accepted": ("to device", f"{JOBS}/job-1/update/accepted"),
    "create": ("to cloud", f"{ROTATION}/create"),
    "create accepted": ("to device", f"{ROTATION}/create/accepted"),
    "commit": ("to cloud", f"{ROTATION}/commit"),
    "commit accepted": ("to device", f"{ROTATION}/commit/accepted"),
}


def once(message, fault):
    """Treat the first message of its kind after the job was created; the rest pass."""
    direction, topic = message
    seen = []

    def intercept(found_direction, found_topic, payload):
        if (found_direction, found_topic) == (direction, topic) and not seen:
            seen.append(topic)
            return fault(payload)
        return [(0.0, payload)]

    intercept.seen = seen
    return intercept


def rotate(world, document, intercept, *, seconds=1200):
    world.device.switch_on()
    world.run(5)
    world.cloud.intercept = intercept
    world.cloud.create_job(document=document, notify=False)
    world.cloud.notify()
    if intercept.seen == [] or intercept.seen[0].endswith("notify-next"):
        world.loop.call_later(20.0, world.device.switch_on)  # the device is switched on anew one day
    world.run(seconds)
    assert intercept.seen


@pytest.mark.parametrize("name", MESSAGES)
def test_one_lost_message_costs_seconds_not_the_rotation(world, rotation_document, name):
    rotate(world, rotation_document(), once(MESSAGES[name], lambda _payload: []))
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


@pytest.mark.parametrize(
    "delay", [0.0, 2.0, 40.0, 700.0], ids=["at once", "soon", "after the step", "after everything"]
)
@pytest.mark.parametrize("name", MESSAGES)
def test_a_doubled_message_changes_nothing(world, rotation_document, name, delay):
    rotate(world, rotation_document(), once(MESSAGES[name], lambda p: [(0.0, p), (delay, p)]), seconds=2400)
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


@pytest.mark.parametrize("delay", [0.5, 15.0, 45.0, 200.0, 900.0])
@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_comes_late_and_out_of_order_never_costs_the_credential(world, rotation_document, name, delay):
    rotate(world, rotation_document(), once(MESSAGES[name], lambda p: [(delay, p)]), seconds=2400)
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


BAD = {
    "no JSON": b"\xff{",
    "a list": b"[]",
    "nothing": b"",
    "nested too deep": b"[" * 100_000,
    "too large": json.dumps({"certificatePem": "x" * 200_000, "errorMsg": "x" * 200_000}).encode(),
    "fields of other types": json.dumps({"certificatePem": 1, "errorMsg": [], "execution": 7, "jobId": {}}).encode(),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", [name for name in MESSAGES if MESSAGES[name][0] == "to device"])
def test_a_malformed_message_is_ignored_and_the_rotation_goes_on(world, rotation_document, name, bad):
    rotate(world, rotation_document(), once(MESSAGES[name], lambda p: [(0.0, bad), (0.1, p)]))
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


@pytest.mark.parametrize("name", [name for name in MESSAGES if MESSAGES[name][0] == "to device"])
def test_a_message_for_another_job_changes_nothing(world, rotation_document, name):
    """It comes on the same topic just before the right one; the device knows it by the job's id."""

    def another(payload):
        message = json.loads(payload)
        for part in (message, message.get("execution", {})):
            if "jobId" in part:
                part["jobId"] = "job-9"
        message.setdefault("errorMsg", "of another job")
        return json.dumps({**message, "clientToken": "another"}).encode()

    rotate(world, rotation_document(), once(MESSAGES[name], lambda p: [(0.0, another(p)), (0.1, p)]))
    assert world.cloud.status() == "SUCCEEDED"
    assert set(world.cloud.jobs) == {"job-1"}
    world.assert_sound()


@pytest.mark.parametrize("operation", ["create", "commit"])
def test_an_operation_that_is_never_answered_rolls_back_and_says_what_to_check(world, rotation_document, operation):
    world.cloud.intercept = lambda direction, topic, payload: (
        [] if topic == f"{ROTATION}/{operation}" else [(0.0, payload)]
    )
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(1200)
    assert world.cloud.status() == "FAILED"
    assert "in time" in world.cloud.details()["DeviceFailureReason"]
    assert "check the backend" in world.cloud.details()["DeviceFailureReason"]
    assert world.device.certificate_in_place() == world.first_certificate
    world.assert_sound()


@pytest.mark.parametrize("operation", ["create", "commit"])
def test_a_rejection_rolls_back_with_the_backends_own_words(world, rotation_document, operation):
    setattr(world.cloud, operation, lambda *_: {"errorMsg": "the moon is in the\nwrong house", "errorCode": "MOON"})
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(1200)
    assert world.cloud.status() == "FAILED"
    assert "the moon is in the wrong house (MOON)" in world.cloud.details()["DeviceFailureReason"]
    assert world.device.certificate_in_place() == world.first_certificate
    world.assert_sound()


@pytest.mark.parametrize(("times", "outcome"), [(3, "SUCCEEDED"), (1000, "FAILED")])
def test_a_throttled_get_after_the_restart_is_asked_again_until_the_time_limit(
    world, rotation_document, times, outcome
):
    world.device.switch_on()
    world.run(5)
    world.cloud.create_job(document=rotation_document())
    world.run(0.5)
    original, throttles = world.cloud.handle_jobs, []

    def throttled(parts, topic, message):
        is_new = world.device.certificate_in_place() != world.first_certificate
        if parts[-1] == "get" and is_new and len(throttles) < times:
            throttles.append(topic)
            world.cloud.send(f"{topic}/rejected", {"code": "RequestThrottled"})
        else:
            original(parts, topic, message)

    world.cloud.handle_jobs = throttled
    world.run(1200)
    assert world.cloud.status() == outcome
    assert (world.device.certificate_in_place() == world.first_certificate) == (outcome == "FAILED")
    if outcome == "FAILED":
        assert "RequestThrottled" in world.cloud.details()["DeviceFailureReason"]
    world.assert_sound()


def test_jobs_that_are_no_rotation_are_left_to_whom_they_concern(world):
    world.device.switch_on()
    world.cloud.create_job(document={"operation": "REBOOT"})
    world.run(600)
    assert world.cloud.status() == "QUEUED"
    world.assert_sound()


def test_a_rotation_with_a_wrong_document_fails_and_names_what_is_allowed(world):
    world.device.switch_on()
    world.cloud.create_job(document={"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "DSA-1024"})
    world.run(600)
    assert world.cloud.status() == "FAILED"
    assert "ECDSA-P256" in world.cloud.details()["DeviceFailureReason"]
    world.assert_sound()


def test_answers_to_another_jobs_update_are_not_ours(world, rotation_document):
    def intercept(_direction, topic, payload):
        if topic == f"{JOBS}/job-1/update/accepted" and b"in_progress" in payload:
            other = topic.replace("job-1", "job-2").replace("accepted", "rejected")
            world.device.deliver(other, b'{"code":"InvalidStateTransition"}')
        return [(0.0, payload)]

    world.cloud.intercept = intercept
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    assert world.cloud.status() == "SUCCEEDED"


def test_a_certificate_for_another_key_is_refused_and_the_right_one_still_taken(
    world, rotation_document, ca, first_pair
):
    wrong = json.dumps({"certificatePem": first_pair[0]}).encode()
    rotate(world, rotation_document(), once(MESSAGES["create accepted"], lambda p: [(0.0, wrong), (1.0, p)]))
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


def test_two_jobs_are_done_one_after_the_other(world, rotation_document):
    world.device.switch_on()
    world.cloud.create_job("job-1", rotation_document())
    world.cloud.create_job("job-2", rotation_document())
    world.run(1200)
    assert (world.cloud.status("job-1"), world.cloud.status("job-2")) == ("SUCCEEDED", "SUCCEEDED")
    world.assert_sound()


@pytest.mark.parametrize("status", ["CANCELED", "TIMED_OUT"])
@pytest.mark.parametrize("after", [0.0, 0.5, 1.2, 2.5])
def test_a_job_that_the_cloud_ends_leaves_a_working_credential(world, rotation_document, status, after):
    world.device.switch_on()
    world.run(5)
    world.cloud.create_job(document=rotation_document())
    world.loop.call_later(after, lambda: world.cloud.status() == "IN_PROGRESS" and world.cloud.end_job("job-1", status))
    world.run(3 * 3600)
    world.device.switch_on()
    world.run(3600)
    world.assert_sound()


def test_a_device_that_stays_offline_after_its_restart_is_patient_and_comes_back(world, rotation_document):
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    connect, offline = world.cloud.connect, [True]
    world.cloud.connect = lambda device: False if offline[0] and world.device.restarts else connect(device)
    world.run(7 * 24 * 3600)
    assert world.device.restarts < 40
    offline[0] = False
    world.run(24 * 3600)
    world.device.switch_on()
    world.run(24 * 3600)
    world.assert_sound()


def test_nucleus_lite_goes_on_without_a_new_process(make_world, tmp_path, rotation_document):
    world = make_world(tmp_path / "lite", nucleus=LITE)
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


def test_a_device_that_is_off_line_while_it_waits_for_its_certificate_says_so(world, rotation_document):
    world.cloud.create = lambda _message, _principal: setattr(world.cloud, "device", None) or {"errorMsg": "unheard"}
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(120)
    world.device.connect()
    world.run(600)
    assert "the device was off line" in world.cloud.details()["DeviceFailureReason"]


def test_a_restart_that_never_comes_is_undone_and_said(world, rotation_document):
    world.device.restart_works = False
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    assert world.cloud.status() == "FAILED"
    assert "restartCommand" in world.cloud.details()["DeviceFailureReason"]
    assert world.device.certificate_in_place() == world.first_certificate
    world.assert_sound()


def test_a_stock_job_takes_key_and_algorithm_from_the_configuration(world):
    world.device.switch_on()
    world.cloud.create_job(document={"operation": "ROTATE_CERTIFICATE"})
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED"
    created = next(message for topic, message in world.cloud.log if topic.endswith("/create"))
    assert len(created["csr"]) > 800  # RSA-2048, the default


@pytest.mark.parametrize("outcome", ["accepted", "rejected"])
def test_a_late_answer_to_an_earlier_commit_is_not_taken_for_this_one(world, rotation_document, outcome):
    """Found by the state machine: two rotations in a row, and a doubled answer in between."""

    def intercept(_direction, topic, payload):
        if topic == f"{ROTATION}/commit" and json.loads(payload)["jobId"] == "job-2":
            late = {"jobId": "job-1", **({"errorMsg": "no"} if outcome == "rejected" else {})}
            world.cloud.send(f"{ROTATION}/commit/{outcome}", late)
            return [(5.0, payload)]
        return [(0.0, payload)]

    world.cloud.intercept = intercept
    world.device.switch_on()
    world.cloud.create_job("job-1", rotation_document())
    world.cloud.create_job("job-2", rotation_document())
    world.run(600)
    assert (world.cloud.status("job-1"), world.cloud.status("job-2")) == ("SUCCEEDED", "SUCCEEDED")
    assert world.cloud.registry == {world.device.certificate_in_place()}
    world.assert_sound()


def test_create_says_which_certificate_lies_in_place(world, rotation_document):
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    (create,) = (message for topic, message in world.cloud.log if topic.endswith("/create"))
    assert create["certificateId"] == identity_of(world.first_certificate)


def test_a_device_whose_files_are_not_those_of_its_connection_is_refused_before_anything_is_issued(
    world, rotation_document, ca, first_pair
):
    """The nucleus uses another pair than the one that the component has found."""
    world.device.switch_on()
    world.run(5)
    issued = []
    world.cloud.ca.issue_pem, issue = (lambda *a, **k: issued.append(a) or issue(*a, **k)), world.cloud.ca.issue_pem
    key = serialization.load_pem_private_key(first_pair[1].encode(), None)
    world.device.certificate.write_text(pem_of(ca.issue(key.public_key(), subject_of())))
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    world.cloud.ca.issue_pem = issue
    assert world.cloud.status() == "FAILED"
    assert "not the connection's" in world.cloud.details()["DeviceFailureReason"]
    assert issued == []


def test_a_store_that_cannot_be_opened_fails_the_job_once_and_the_next_one_may_succeed(world, rotation_document):
    good, broken = world.device.make_store, [True]

    def open_store():
        if broken[0]:
            raise DeviceError("no nucleus is configured here")
        return good()

    world.device.make_store = lambda: opened_when_needed(open_store)
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    assert world.cloud.status() == "FAILED"
    assert world.cloud.details()["DeviceFailureReason"] == "no nucleus is configured here"
    broken[0] = False
    world.cloud.create_job("job-2", rotation_document())
    world.run(60)
    assert world.cloud.status("job-2") == "SUCCEEDED"
    world.assert_sound()


def test_an_answer_that_is_too_large_for_nucleus_lite_costs_the_rotation_and_says_so(world, rotation_document):
    """Seen: what is over 5,000 bytes never comes; here each answer carries a chain."""
    chained = []
    world.cloud.intercept = lambda _direction, _topic, payload: [(0.0, payload)] if len(payload) <= 4800 else []
    world.cloud.create = with_chain(world.cloud.create, 12, chained)
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    assert chained
    assert world.cloud.status() == "FAILED"
    assert "without its chain" in world.cloud.details()["DeviceFailureReason"]
    assert world.device.certificate_in_place() == world.first_certificate
    world.assert_sound()


def with_chain(create, length, answers):
    def answer(message, principal):
        answers.append(create(message, principal))
        return {name: value * length for name, value in answers[-1].items()}

    return answer


def sent(world, operation):
    return sum(topic.endswith(f"/{operation}") for topic, _ in world.cloud.log)


def test_a_stock_backend_with_a_slow_authority_is_asked_once_for_each_certificate(world, rotation_document):
    """It issues another certificate for each create."""
    world.cloud.correlates = False
    world.cloud.intercept = lambda _direction, topic, payload: [(12.0 if topic.endswith("/create") else 0.0, payload)]
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    assert world.cloud.status() == "SUCCEEDED"
    assert sent(world, "create") == 1
    world.assert_sound()


@pytest.mark.parametrize(
    ("lost", "creates"),
    [("subscriptions", 2), ("network", 1), ("both creates", 2)],
    ids=["the subscriptions are lost with the create", "it gets out at last", "each create gets lost"],
)
def test_a_create_that_cannot_have_been_answered_is_sent_again_and_never_a_third_time(
    world, rotation_document, lost, creates
):
    """The peer is not known yet: a stock backend would issue another certificate for each."""
    publish, tried = world.device.publish, []

    def badly(topic, payload):
        if topic.endswith("/create"):
            tried.append(world.loop.time)
            if lost == "network" and len(tried) < 4:
                raise MessagesError("offline")
            if lost == "subscriptions" and len(tried) == 1:
                world.device.handlers = {}  # as on nucleus lite, silently
                return
            if lost == "both creates":
                return
        publish(topic, payload)

    world.device.publish = badly
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    assert world.cloud.status() == ("FAILED" if lost == "both creates" else "SUCCEEDED")
    assert len(tried) - (3 if lost == "network" else 0) == creates
    assert tried[-1] - tried[0] <= 20
    world.assert_sound()


def test_no_subscription_is_given_up_while_a_stock_backend_may_still_answer(world, rotation_document):
    """What comes while it is made anew comes to nobody, and is not said again."""
    world.cloud.correlates = False
    late = (("/create", 12.0), ("/commit", 12.0))
    world.cloud.intercept = lambda _direction, topic, payload: [
        (next((delay for end, delay in late if topic.endswith(end)), 0.0), payload)
    ]
    subscribe, made = world.device.subscribe, []
    world.device.subscribe = lambda *arguments: (made.append(arguments[0]), subscribe(*arguments))
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(120)
    assert world.cloud.status() == "SUCCEEDED"
    assert len(made) == 2 * len(set(made))  # at both starts
    world.assert_sound()


@pytest.mark.parametrize("correlates", [True, False], ids=["ours", "stock"])
def test_a_commit_is_repeated_to_a_backend_that_takes_it_twice_only(world, rotation_document, correlates):
    world.cloud.correlates = correlates
    answers = []

    def lose_the_first_answer(_direction, topic, payload):
        if topic.endswith("/commit/accepted"):
            answers.append(topic)
            return [(0.0, payload)] if len(answers) > 1 else []
        return [(0.0, payload)]

    world.cloud.intercept = lose_the_first_answer
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(1200)
    assert sent(world, "commit") >= 2 if correlates else sent(world, "commit") == 1
    assert world.cloud.status() == ("SUCCEEDED" if correlates else "FAILED")
    world.assert_sound()
