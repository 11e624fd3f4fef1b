"""After a commit both credentials are kept, until the new one has connected at a later start."""

from __future__ import annotations

import errno
import itertools
import json

import pytest
from component_cloud import THING
from component_faults import GROWING, Counter, CountingSystem, Injector, run_until_calm, with_messages
from component_token_device import TokenDevice
from component_world import CLASSIC, LITE, Device
from cryptography.hazmat.primitives import serialization

from component.certificate_rotator import journal
from component.certificate_rotator.journal import Journal, JournalRecord, Step
from component.certificate_rotator.machine import State, resume_state
from component.certificate_rotator.store import Generation
from component.certificate_rotator.system import System
from protocol.messages import ExecutionStatus

JOBS = f"$aws/things/{THING}/jobs"
ROTATION = f"awslabs/things/{THING}/certificate"


@pytest.fixture
def begin(make_world, memory_folder, request):
    """A device switched on, with its credential in files or in a token."""
    worlds = itertools.count()

    def begin(store, injector=None, *, nucleus=CLASSIC):
        injector = injector or Injector()
        device = {"kind": Device, "nucleus": nucleus}
        if store == "softhsm":
            device |= {"kind": TokenDevice, "machine": request.getfixturevalue("softhsm"), "injector": injector}
        world = make_world(memory_folder / str(next(worlds)), system=CountingSystem(injector), **device)
        injector.world = world
        with_messages(world.device, injector)
        world.device.switch_on()
        return world

    return begin


@pytest.fixture(params=["files", "softhsm"])
def rotated(request, begin, rotation_document):
    """A device whose rotation was committed and confirmed; it has not been started since."""
    world = begin(request.param)
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED"
    assert world.device.rotator.state is State.IDLE
    yield world
    world.device.discard()


def test_a_job_that_was_claimed_before_a_later_start_is_carried_out_after_it(rotated, rotation_document):
    """What that start proves is the credential of the job before."""
    rotated.cloud.intercept = lambda _, topic, payload: [] if topic.endswith("/update/accepted") else [(0.0, payload)]
    rotated.cloud.create_job("job-2", document=rotation_document())
    rotated.run(5)
    assert (rotated.device.rotator.state, rotated.cloud.status("job-2")) == (State.PREPARING, "IN_PROGRESS")
    rotated.cloud.intercept = lambda _direction, _topic, payload: [(0.0, payload)]
    rotated.device.switch_on()
    rotated.run(600)
    assert rotated.cloud.status("job-2") == "SUCCEEDED"


def test_nothing_that_arrives_releases_the_old_credential_before_a_later_start(rotated, rotation_document):
    kept = rotated.device.leftovers()
    assert kept
    for topic in (f"{JOBS}/$next/get/accepted", f"{JOBS}/job-1/update/accepted", f"{ROTATION}/commit/accepted"):
        rotated.cloud.send(topic, {"jobId": "job-1"})
    rotated.cloud.send(f"{ROTATION}/commit/rejected", {"errorMsg": "no"})
    rotated.cloud.device = None
    rotated.run(3600)
    rotated.device.connect()
    rotated.run(36 * 3600)
    assert rotated.device.leftovers() == kept
    rotated.start_later()
    assert rotated.device.leftovers() == []


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_a_component_that_is_started_alone_proves_nothing_about_a_later_connection(
    rotated, rotation_document, is_known
):
    """It speaks over the connection that has committed; where nobody knows that, it is taken to."""
    if not is_known:
        rotated.device.nucleus_run = str
    kept = rotated.device.leftovers()
    for _ in range(3):
        rotated.device.rotator.stop()
        rotated.device.start_component()
        rotated.run(3600)
        assert rotated.device.leftovers() == kept
        assert rotated.device.rotator.state is State.IDLE
    if is_known:
        rotated.start_later()
    else:  # whatever is not known, the next rotation lets go of it
        rotated.start_later()
        assert rotated.device.leftovers() == kept
        rotated.cloud.create_job("job-2", rotation_document())
        rotated.run(600)
        assert rotated.cloud.status("job-2") == "SUCCEEDED"
        del rotated.device.nucleus_run
        rotated.start_later()  # known from here on
        rotated.start_later()
    assert rotated.device.leftovers() == []


def test_a_journal_of_before_the_run_was_noted_is_released_at_the_second_start_that_is_known(rotated):
    record = Journal(rotated.device.folder / "journal.json", System()).load()
    Journal(rotated.device.folder / "journal.json", System()).save(record.with_(run=""))
    rotated.device.switch_on()
    rotated.run(60)
    assert rotated.device.leftovers()
    rotated.start_later()
    assert rotated.device.leftovers() == []


def test_a_commit_that_is_accepted_once_more_ends_the_doubt_about_the_new_credential(rotated):
    """Also if nobody knows the nucleus' run, and another rotation has come to nothing meanwhile: both stay."""
    file = Journal(rotated.device.folder / "journal.json", System())
    file.save(file.load().during(Step.REPORTING).with_(swaps=3))
    rotated.device.nucleus_run = str
    rotated.start_later()
    assert (file.load().kept, file.load().swaps) == (Generation.NEW, 0)


def test_a_job_that_has_not_heard_of_its_end_hears_of_it_from_a_component_started_alone(rotated):
    kept = rotated.device.leftovers()
    rotated.cloud.jobs["job-1"][0] = "IN_PROGRESS"
    rotated.device.rotator.stop()
    rotated.device.start_component()
    rotated.run(60)
    assert rotated.cloud.status() == "SUCCEEDED"
    assert rotated.device.leftovers() == kept
    rotated.start_later()
    assert rotated.device.leftovers() == []


def test_a_committed_credential_that_does_not_connect_at_a_later_start_yields_to_the_old_one(rotated):
    new = rotated.device.certificate_in_place()
    rotated.cloud.registry = {rotated.first_certificate}
    rotated.device.switch_on()
    rotated.run(3 * 3600)
    assert rotated.device.certificate_in_place() == rotated.first_certificate
    assert rotated.cloud.device is rotated.device
    rotated.start_later()
    assert rotated.device.holds_a_working_credential()
    rotated.cloud.registry = {new}  # not removed, but late to be seen everywhere
    rotated.cloud.device = None
    rotated.run(24 * 3600)
    rotated.device.switch_on()
    rotated.run(3600)
    assert rotated.device.certificate_in_place() == new
    rotated.assert_sound()


def test_a_later_start_without_network_is_no_proof_against_the_new_credential(rotated):
    new = rotated.device.certificate_in_place()
    connect = rotated.cloud.connect
    rotated.cloud.connect = lambda _device: False
    rotated.device.switch_on()
    rotated.run(1800)
    assert rotated.device.restarts == 1
    rotated.run(3 * 24 * 3600)
    assert rotated.device.restarts < 30
    rotated.cloud.connect = connect
    rotated.run(24 * 3600)
    assert rotated.device.certificate_in_place() == new
    rotated.assert_sound()


def test_an_old_credential_that_is_retired_late_while_it_lies_in_place_again_yields_to_the_new_one(rotated):
    """What removes it may still be on its way, from before it connected again."""
    new = rotated.device.certificate_in_place()
    rotated.cloud.registry = {rotated.first_certificate, new}
    rotated.cloud.refuse_connection = lambda certificate: certificate == new  # for whatever reason, for now
    rotated.device.switch_on()
    rotated.run(3 * 3600)
    assert rotated.cloud.device.certificate_in_place() == rotated.first_certificate
    rotated.cloud.refuse_connection = lambda _certificate: False
    rotated.cloud.retire(rotated.first_certificate)
    rotated.run(36 * 3600)
    assert rotated.cloud.device.certificate_in_place() == new
    rotated.assert_sound()


def canceled_when_it_asks(world):
    def create(message, _principal):
        world.cloud.end_job(message["jobId"], "CANCELED")
        return {"errorMsg": "no rotation in progress"}

    world.cloud.create = create


ENDINGS = {
    "succeeds": lambda _world: None,
    "is refused a certificate": lambda world: setattr(world.cloud, "create", lambda *_: {"errorMsg": "no"}),
    "is canceled when it asks": canceled_when_it_asks,
    "cannot connect": lambda world: setattr(
        world.cloud, "refuse_connection", lambda certificate: certificate not in world.known
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_rotation_that_begins_meanwhile_leaves_both_kept_until_it_installs(rotated, rotation_document, ending):
    second = rotated.device.certificate_in_place()
    rotated.known = {rotated.first_certificate, second}
    ENDINGS[ending](rotated)
    rotated.cloud.create_job("job-2", rotation_document())
    rotated.run(600)
    if ending == "succeeds":
        assert rotated.cloud.status("job-2") == "SUCCEEDED"
        assert rotated.device.certificate_in_place() not in rotated.known
    else:
        assert rotated.cloud.status("job-2") in ("FAILED", "CANCELED")
        assert rotated.device.certificate_in_place() == second
        if ending != "cannot connect":  # nothing in place was touched
            rotated.cloud.registry = {rotated.first_certificate}
            rotated.device.switch_on()
            rotated.run(3 * 3600)
            assert rotated.device.certificate_in_place() == rotated.first_certificate
            rotated.cloud.registry = {rotated.first_certificate, second}
            rotated.cloud.retire(rotated.first_certificate)
            rotated.run(36 * 3600)
    rotated.assert_sound()


@pytest.mark.parametrize("refuse", [False, True], ids=["second rotation", "second rotation rolled back"])
@pytest.mark.parametrize("store", ["files", pytest.param("softhsm", marks=pytest.mark.soak)])
def test_a_device_stopped_at_any_point_of_a_rotation_that_begins_meanwhile(
    begin, rotation_document, store, refuse, capsys
):
    def begun(injector):
        world = begin(store, injector)
        world.cloud.create_job(document=rotation_document())
        world.run(60)
        second = world.device.certificate_in_place()
        if refuse:
            world.cloud.refuse_connection = lambda c: c not in (world.first_certificate, second)
        world.cloud.create_job("job-2", rotation_document())
        return world, len(injector.points)

    counter = Counter()
    world, first = begun(counter)
    run_until_calm(world, power_cut=True)
    assert world.cloud.status("job-2") == ("FAILED" if refuse else "SUCCEEDED")
    outcomes, stops = {}, [(index, alike) for index, alike in counter.stops() if index >= first]
    for index, alike in stops:
        injector = Injector()
        world, _ = begun(injector)
        injector.kill_at(index)
        run_until_calm(world, power_cut=True)
        try:
            world.assert_sound()
        except AssertionError as error:
            raise AssertionError(f"killed at {index} ({counter.points[index]}): {error}") from error
        outcomes[world.cloud.status("job-2")] = outcomes.get(world.cloud.status("job-2"), 0) + alike
        world.device.discard()
    points = len(counter.points) - first
    with capsys.disabled():
        print(f"\n{store}: {points} crash points, {len(stops)} tried, then {outcomes}", end=" ")  # noqa: T201  # how exhaustive
    assert sum(outcomes.values()) == points


STEPS_BEFORE = {
    "PREPARING",
    "CREATING",
    "INSTALLING",
    "CONNECTING",
    "SWITCHING",
    "RECONNECTING",
    "RETRYING",
    "REPORTING",
}
KEYS_BEFORE = {
    "schema", "step", "job_id", "key_type", "signing_algorithm", "outcome", "reason", "target", "starts", "swaps",
    "notes",
}  # fmt: skip


def as_written_before(record):
    """The journal of a component that knew nothing of what is kept."""
    content = json.loads(journal.encode(record))
    return json.dumps({key: content[key] for key in KEYS_BEFORE}).encode()


@pytest.mark.parametrize("step", Step)
def test_a_journal_of_before_anything_was_kept_is_read_as_it_was_meant(step):
    record = JournalRecord(step, "job-1", outcome=ExecutionStatus.SUCCEEDED, swaps=1, notes={"oldId": "0a"})
    assert journal.decode(as_written_before(record)) == record
    assert resume_state(record) is State(step.value)


def test_a_component_of_before_settles_what_this_one_keeps(rotated):
    """It knows every step and every key that stands there, and ignores the rest."""
    content = json.loads((rotated.device.folder / "journal.json").read_text())
    assert content["step"] in STEPS_BEFORE
    assert content["schema"] == journal.SCHEMA
    assert set(content) >= KEYS_BEFORE
    before = journal.decode(as_written_before(journal.decode(json.dumps(content).encode())))
    Journal(rotated.device.folder / "journal.json", System()).save(before)
    rotated.start_later()
    assert rotated.device.leftovers() == []
    rotated.assert_sound()


def test_a_rotation_that_a_component_of_before_had_committed_is_finished(rotated):
    """It had let go of the old credential already, or not quite yet."""
    record = JournalRecord(Step.REPORTING, "job-1", outcome=ExecutionStatus.SUCCEEDED)
    (rotated.device.folder / "journal.json").write_bytes(as_written_before(record))
    rotated.start_later()
    assert rotated.cloud.status() == "SUCCEEDED"
    assert rotated.device.leftovers() == []


def commits(world):
    return [message for topic, message in world.cloud.log if topic == f"{ROTATION}/commit"]


def test_a_later_start_commits_once_more_because_the_first_answer_may_have_been_forged(rotated):
    rotated.cloud.proven.clear()  # what the backend has never heard
    sent = len(commits(rotated))
    rotated.device.switch_on()
    rotated.run(60)
    assert len(commits(rotated)) > sent
    assert rotated.device.leftovers()
    assert rotated.device.certificate_in_place() != rotated.first_certificate


@pytest.mark.parametrize("cloud", ["ours", "stock"])
def test_a_commit_that_is_refused_at_a_later_start_lets_nothing_go_unless_the_backend_takes_each_once(
    begin, rotation_document, cloud
):
    world = begin("files")
    world.cloud.correlates = cloud == "ours"
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    world.cloud.proven.clear()
    world.start_later()
    assert bool(world.device.leftovers()) is (cloud == "ours")


def test_a_device_that_failed_before_its_commit_was_answered_never_settles_on_the_new_one_unasked(
    begin, rotation_document
):
    world, issued = begin("files"), []
    issue = world.cloud.ca.issue_pem
    world.cloud.ca.issue_pem = lambda csr: issued.append(issue(csr)) or issued[-1]
    world.cloud.commit = lambda *_: {"errorMsg": "no"}
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    assert world.cloud.status() == "FAILED"
    world.cloud.registry = set(issued)  # for a while
    world.device.switch_on()
    world.run(3 * 3600)
    assert world.device.certificate_in_place() == issued[0]
    world.cloud.registry = {world.first_certificate}
    world.device.switch_on()
    world.run(36 * 3600)
    assert world.device.certificate_in_place() == world.first_certificate


def over(world, certificate):
    """Commits that the cloud gets over a connection with this certificate, from here on."""
    commit, found = world.cloud.commit, []

    def watched(message, principal):
        found.extend([message] if principal == certificate else [])
        return commit(message, principal)

    world.cloud.commit = watched
    return found


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("store", ["files", "softhsm"])
def test_a_full_disk_that_took_no_word_of_the_way_back_and_a_power_cut_never_make_the_old_one_commit(
    begin, rotation_document, store
):
    injector = Injector()
    world = begin(store, injector)
    world.cloud.refuse_connection = lambda certificate: certificate != world.first_certificate
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    assert world.device.rotator.state is State.CONNECTING
    injector.fail_from(0, GROWING, NO_SPACE)
    world.run(200)
    assert world.device.certificate_in_place() == world.first_certificate
    commits_over_the_old_one = over(world, world.first_certificate)
    injector.heal()
    world.start_later()
    world.run(600)
    assert commits_over_the_old_one == []
    assert world.cloud.status() == "FAILED"
    assert "its disk had not taken the reason" in world.cloud.details()["DeviceFailureReason"]
    world.assert_sound()
    world.device.discard()


def test_a_full_disk_that_took_no_word_of_the_way_back_at_a_later_start_never_makes_the_old_one_commit(rotated):
    rotated.cloud.registry = {rotated.first_certificate}
    injector = rotated.device.system.injector.fail_from(0, GROWING, NO_SPACE)
    rotated.device.switch_on()
    rotated.run(3 * 3600)
    assert rotated.device.certificate_in_place() == rotated.first_certificate
    commits_over_the_old_one = over(rotated, rotated.first_certificate)
    injector.heal()
    rotated.start_later()
    rotated.start_later()
    assert commits_over_the_old_one == []
    rotated.assert_sound()


def test_a_device_that_is_connected_stays_so_however_long_the_backend_is_silent_at_later_starts(rotated):
    rotated.cloud.intercept = lambda _, topic, payload: [] if topic.startswith(ROTATION) else [(0.0, payload)]
    new, kept = rotated.device.certificate_in_place(), rotated.device.leftovers()
    for _ in range(2):
        rotated.device.switch_on()
        rotated.run(6 * 3600)
        assert rotated.cloud.device is rotated.device
        assert (rotated.device.certificate_in_place(), rotated.device.leftovers()) == (new, kept)
        assert rotated.device.rotator.state is State.IDLE
    assert rotated.device.restarts == 1


def test_a_job_that_is_still_in_progress_when_the_backend_has_been_silent_for_long_hears_of_the_way_back(rotated):
    """Its success was never heard: as after any commit that nobody answers, the old one connects and waits."""
    rotated.run(600)  # its own limit does not end it
    rotated.cloud.jobs["job-1"][0] = "IN_PROGRESS"
    rotated.cloud.intercept = lambda _, topic, payload: [] if topic.startswith(ROTATION) else [(0.0, payload)]
    rotated.cloud.registry.add(rotated.first_certificate)  # no success, so it is still there
    asked = len(rotated.cloud.log)
    rotated.device.switch_on()
    rotated.run(3 * 3600)
    assert not [topic for topic, _ in rotated.cloud.log[asked:] if topic.endswith("create")]
    assert "no answer to the commit in time" in rotated.cloud.details()["DeviceFailureReason"]
    assert rotated.device.holds_a_working_credential()


def test_an_answer_to_a_commit_from_before_a_restart_that_the_component_outlived_is_no_second_run(
    begin, rotation_document
):
    """Nucleus lite, whose IoT core service somebody restarts: what was sent over the connection of before is old."""
    world = begin("files", nucleus=LITE)
    world.cloud.create_job(document=rotation_document())
    world.run(120)
    assert (world.cloud.status(), world.device.rotator.state) == ("SUCCEEDED", State.IDLE)
    held, kept = [], world.device.leftovers()

    def intercept(direction, topic, payload):
        is_answer = direction == "to device" and topic.startswith(f"{ROTATION}/commit")
        held.extend([(topic, payload)] if is_answer else [])
        return [] if is_answer or (held and direction == "to cloud") else [(0.0, payload)]

    world.cloud.intercept = intercept
    world.device.rotator.stop()
    world.device.start_component()  # alone: the run is that of the first commit
    world.run(5)
    assert held
    world.device.go_offline()
    world.device.launch()
    for topic, payload in held:
        world.device.deliver(topic, payload)
    world.run(5)
    assert world.device.leftovers() == kept
    world.cloud.intercept = lambda _direction, _topic, payload: [(0.0, payload)]
    world.start_later()
    assert world.device.leftovers() == []


def test_an_outcome_is_told_to_the_attempt_that_it_is_of(rotated, rotation_document):
    """A device that kept both on its way back tells FAILED again at its next start; a new attempt waits meanwhile."""
    second = rotated.device.certificate_in_place()
    rotated.cloud.commit = lambda *_: {"errorMsg": "no"}
    rotated.cloud.create_job("job-2", rotation_document())
    rotated.run(600)
    assert (rotated.cloud.status("job-2"), rotated.device.certificate_in_place()) == ("FAILED", second)
    rotated.cloud.create_job("another", {"operation": "REBOOT"})
    rotated.cloud.jobs["another"][0] = "IN_PROGRESS"
    rotated.cloud.retry("job-2")
    rotated.start_later()
    rotated.run(600)
    assert rotated.cloud.status("job-2") == "QUEUED"


def test_a_key_that_somebody_has_written_in_another_form_is_no_sign_of_a_way_back(begin, rotation_document):
    world = begin("files")
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    new, key = world.device.certificate_in_place(), world.device.key
    form = serialization.PrivateFormat.TraditionalOpenSSL
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    rewritten = loaded.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    assert rewritten != key.read_bytes()
    key.write_bytes(rewritten)
    world.start_later()
    assert (world.device.certificate_in_place(), world.device.restarts) == (new, 1)
    world.assert_sound()


# Nobody lets go before AWS IoT Jobs has taken SUCCEEDED -----------------------------------------------------


def ended_by_another(world):
    """Another client of the thing says FAILED, right before the device's own report arrives."""
    handle = world.cloud.handle_jobs

    def handle_jobs(parts, topic, message):
        if message.get("status") == "SUCCEEDED" and parts[0] == "job-1":
            world.cloud.jobs["job-1"][0] = "FAILED"
        handle(parts, topic, message)

    world.cloud.handle_jobs = handle_jobs


def answer_is_lost(world):
    def without(_direction, topic, payload):
        return [] if topic.endswith("/update/accepted") and b"succeeded" in payload else [(0.0, payload)]

    world.cloud.intercept = without


def answer_is_lost_and_no_state_is_told(world):
    world.cloud.tells_state = False
    answer_is_lost(world)


def answer_is_not_written_down(world):
    """The journal is one of a component that did not note it."""
    world.run(60)
    file = Journal(world.device.folder / "journal.json", System())
    file.save(file.load().with_(succeeded=False))


UNNOTED = {  # what happens to the report of success: starts until the old credential goes; None: it stays
    "all is well": (lambda _world: None, 1),
    "another client has ended the job": (ended_by_another, None),
    "its answer is lost": (answer_is_lost, 1),
    "its answer is lost, and a refusal does not tell how the job has ended": (
        answer_is_lost_and_no_state_is_told,
        None,
    ),
    "the component of before did not note it": (answer_is_not_written_down, 1),
}


@pytest.mark.parametrize(("happens", "starts"), UNNOTED.values(), ids=UNNOTED)
def test_the_old_credential_stays_until_success_was_taken_or_the_next_rotation_installs(
    begin, rotation_document, happens, starts
):
    world = begin("files")
    world.cloud.create_job(document=rotation_document())
    happens(world)
    world.run(60)
    for start in range(1, 5):
        world.start_later()
        assert bool(world.device.leftovers()) is (starts is None or start < starts)
        assert len(commits(world)) == 1 + (start if starts is None else min(start, starts))
        assert world.device.holds_a_working_credential()
    world.cloud.intercept = lambda _direction, _topic, payload: [(0.0, payload)]
    world.cloud.registry = {world.device.certificate_in_place()}  # whoever has decided that
    world.cloud.create_job("job-2", rotation_document())
    world.run(600)
    assert world.cloud.status("job-2") == "SUCCEEDED"
    world.start_later()
    assert world.device.leftovers() == []
    world.assert_sound()


def test_what_another_job_reports_does_not_count_as_success_of_the_one_that_was_committed(begin, rotation_document):
    world = begin("files")
    world.cloud.create_job(document=rotation_document())
    ended_by_another(world)
    world.run(60)
    world.cloud.create = lambda *_: {"errorMsg": "no"}
    world.cloud.create_job("job-2", rotation_document())
    world.run(600)
    assert world.cloud.status("job-2") == "FAILED"
    world.start_later()
    world.start_later()
    assert world.device.leftovers()
    assert world.device.holds_a_working_credential()


def test_a_kept_key_is_never_taken_for_the_new_one_that_a_power_cut_has_left_no_trace_of(rotated, rotation_document):
    """The power failed when an attempt had been cleared away, and before the journal told so."""
    kept, second = rotated.device.leftovers(), rotated.device.certificate_in_place()
    rotated.cloud.intercept = lambda _way, topic, payload: [] if topic.endswith("/create") else [(0.0, payload)]
    rotated.cloud.create_job("job-2", rotation_document())
    rotated.run(5)
    assert rotated.device.rotator.state is State.CREATING
    rotated.device.rotator.stop()
    store = rotated.device.make_store()
    store.resume(rotated.device.make_journal().load().notes)
    store.abandon()
    asked = []
    rotated.cloud.intercept = lambda _way, topic, payload: asked.append(topic) or [(0.0, payload)]
    rotated.device.switch_on()
    for _ in range(20):  # whoever has read the answer to the device's first request can send it again
        rotated.run(1)
        rotated.cloud.send(f"{ROTATION}/create/accepted", {"certificatePem": second})
    rotated.run(600)
    assert f"{ROTATION}/create" not in asked
    assert rotated.cloud.status("job-2") == "FAILED"
    assert rotated.device.leftovers() == kept
    assert rotated.device.certificate_in_place() == second
    rotated.start_later()
    rotated.assert_sound()
