"""The device is stopped at every call that touches disk or token and at every message, one run for each.

Two stores: files, and a token (SoftHSM) with its journal on disk. Two ways to stop: the power goes, or only the
component dies. Two lives: a rotation, and a rollback. Two kinds of nucleus, as component_world.py has them: a restart
takes 30 seconds, and a fourth start of the component within an hour is its end. How many points there are is printed.
"""

from __future__ import annotations

import errno
import itertools
import logging
import sys

import pytest
from component_faults import (
    GROWING,
    MUTATING,
    TOKEN_CALLS,
    TOKEN_CHANGES,
    Counter,
    CountingSystem,
    Injector,
    Killed,
    assert_ended,
    run_until_calm,
    run_while_one_is_tried,
    with_messages,
)
from component_token_device import TokenDevice
from component_world import CLASSIC, LITE, Device
from cryptography import x509
from pkcs11 import exceptions as pkcs11_errors

from component.certificate_rotator.ports import MessagesError

NUCLEI = {"classic": CLASSIC, "lite": LITE}
# A rotation waits for the disk so often; a connection that takes lite half a minute is noted. A token's own is unknown.
SYNCS = {("files", "classic"): 13, ("files", "lite"): 15, ("softhsm", "classic"): 7}
STORES = {"files": NUCLEI, "softhsm": ["classic"]}  # lite has no tokens of this kind


@pytest.fixture
def begin(make_world, memory_folder, rotation_document, request):
    """Begin a rotation (``refuse``: one whose new credential cannot connect) in a world of its own."""
    worlds = itertools.count()

    def begin(store, injector, *, refuse=False, nucleus="classic"):
        device = {"kind": Device, "nucleus": NUCLEI[nucleus]}
        if store == "softhsm":
            device |= {"kind": TokenDevice, "machine": request.getfixturevalue("softhsm"), "injector": injector}
        world = make_world(memory_folder / str(next(worlds)), system=CountingSystem(injector), **device)
        injector.world = world
        with_messages(world.device, injector)
        if refuse:
            world.cloud.refuse_connection = lambda certificate: certificate != world.first_certificate
        world.cloud.create_job(document=rotation_document(), notify=False)
        world.device.switch_on()
        return world

    return begin


CRASHES = [
    # `make test` leaves to `make soak`: of a token, which is slow, the rollbacks; of nucleus lite all but one.
    pytest.param(
        store, nucleus, power_cut, refuse, every,
        id=" ".join([
            store, nucleus, "power cut" if power_cut else "killed", "rollback" if refuse else "rotation",
            *(["every point"] if every else []),
        ]),
        marks=[pytest.mark.soak] * (
            every or (store == "softhsm" and refuse) or (nucleus == "lite" and (power_cut or refuse))
        ),
    )
    for store, nuclei in STORES.items() for nucleus in nuclei
    for power_cut in (True, False) for refuse in (False, True) for every in (False, True)
]  # fmt: skip


@pytest.mark.parametrize(("store", "nucleus", "power_cut", "refuse", "every"), CRASHES)
def test_a_device_stopped_at_any_point_ends_with_a_working_credential(
    begin, store, nucleus, refuse, power_cut, every, say
):
    counter = Counter()
    world = begin(store, counter, refuse=refuse, nucleus=nucleus)
    run_until_calm(world, power_cut=power_cut)
    assert world.cloud.status() == ("FAILED" if refuse else "SUCCEEDED")
    world.device.discard()
    outcomes, stops = {}, counter.stops(every=every)
    for index, alike in stops:
        world = begin(store, Injector().kill_at(index), refuse=refuse, nucleus=nucleus)
        run_until_calm(world, power_cut=power_cut)
        try:
            assert_ended(world)
        except AssertionError as error:
            raise AssertionError(f"killed at {index} ({counter.points[index]}): {error}") from error
        outcomes[world.cloud.status()] = outcomes.get(world.cloud.status(), 0) + alike
        world.device.discard()

    say(f"{store} on {nucleus}: {len(counter.points)} crash points, {len(stops)} tried, then {outcomes}")
    assert sum(outcomes.values()) == len(counter.points) > 80
    assert refuse or sum(map(counter.points.count, ("sync", "sync_folder"))) == SYNCS[store, nucleus]
    kinds = {name.split()[0] for name in counter.points}
    elsewhere = {"make_folder", "link"}  # for the journal's own place: test_component_journal_place.py
    assert {"before", "after", "deliver", *MUTATING} - {"set_attributes"} - elsewhere <= kinds
    assert ("set_attributes" in kinds) == (store == "files")
    assert ("token" in kinds) == (store == "softhsm")


PAIRS = [
    pytest.param(
        nucleus, power_cut, refuse, most,
        id=" ".join([nucleus, "power cut" if power_cut else "killed", "rollback" if refuse else "rotation", f"{most}"]),
        marks=[pytest.mark.soak] * (most is None),
    )
    for nucleus in NUCLEI for power_cut in (True, False) for refuse in (False, True)
    for most in (*([5] if not power_cut else []), None)
]  # fmt: skip


@pytest.mark.parametrize(("nucleus", "power_cut", "refuse", "most"), PAIRS)
def test_a_device_stopped_twice_within_an_hour_ends_with_a_working_credential(
    begin, nucleus, refuse, power_cut, most, say
):
    """At one point and, in a life that follows, at a second; with the first start that makes three in the hour."""

    def lived(injector):
        world = begin("files", injector, refuse=refuse, nucleus=nucleus)
        run_until_calm(world, power_cut=power_cut)
        return world

    def some(stops):
        return stops if most is None else stops[:: max(1, len(stops) // most)]

    counter, pairs, longest = Counter(), 0, 0
    lived(counter)
    for first, _ in some(counter.stops()):
        follows = Counter(after=first)
        lived(follows)
        for second, _ in some(follows.stops()):
            world = lived(Injector().kill_at(first, second))
            longest = max(longest, run_while_one_is_tried(world))
            try:
                assert_ended(world)
            except AssertionError as error:
                where = f"{first} ({counter.points[first]}) and {second} ({follows.points[second]})"
                raise AssertionError(f"killed at {where}: {error}") from error
            pairs += 1
    say(f"files on {nucleus}: {pairs} pairs of stops, at rest within {longest:.0f} minutes")
    assert pairs >= 25


def test_an_object_that_softhsm_loses_in_the_middle_of_a_write_costs_the_other_credential_at_most(begin, softhsm, say):
    """SoftHSM empties an object's file and then writes it anew; a kill between the two loses the object."""
    counter = Injector()
    world = begin("softhsm", counter)
    run_until_calm(world, power_cut=True)
    world.device.discard()
    objects = {"token make done": 2, "token store done": 1, "token rename done": 1}  # written by such a call
    points = [(index, n) for index, name in enumerate(counter.points) for n in range(objects.get(name, 0))]
    outcomes = {}
    for index, number in points:
        injector, before = Injector(), {}

        def tear(at, _name, index=index, number=number, before=before):
            if at == index - 1:
                before.update((path, path.read_bytes()) for path in softhsm.tokens.rglob("*.object"))
            elif at == index:
                changed = [path for path in softhsm.tokens.rglob("*.object") if before.get(path) != path.read_bytes()]
                sorted(changed)[number].write_bytes(b"")
                raise Killed

        injector.act = tear
        world = begin("softhsm", injector)
        run_until_calm(world, power_cut=True)
        assert_ended(world)
        outcomes[world.cloud.status()] = outcomes.get(world.cloud.status(), 0) + 1
        world.device.discard()
    say(f"softhsm: {len(points)} torn writes, then {outcomes}")
    assert len(points) >= 8


def test_every_file_that_is_opened_renamed_or_removed_is_so_by_a_counted_call(begin):
    """What makes the count exhaustive: Python reports every such call, whoever makes it."""
    injector, uncounted, watched = Injector(), [], []

    def hook(event, arguments):
        if watched and event in FILE_EVENTS and str(arguments[0]).startswith(watched[0]):
            uncounted.extend([(event, arguments)] if not injector.within else [])

    world = begin("files", injector)
    looks = ("certificate_in_place", "pair_matches")  # the nucleus' part, played by the test

    def unwatched(method):
        def call(*arguments):
            held = watched[:]
            watched.clear()
            try:
                return method(*arguments)
            finally:
                watched.extend(held)

        return call

    for name in looks:
        setattr(world.device, name, unwatched(getattr(world.device, name)))
    sys.addaudithook(hook)
    watched.append(str(world.device.folder))
    try:
        world.run(600)
    finally:
        watched.clear()
    assert world.cloud.status() == "SUCCEEDED"
    assert uncounted == []


FILE_EVENTS = {"open", "os.rename", "os.remove", "os.chmod", "os.chown", "os.truncate", "os.link", "os.setxattr"}

DISK_FAULTS = {
    "disk full": (errno.ENOSPC, GROWING),
    "disk read-only": (errno.EROFS, MUTATING),
    "permission denied": (errno.EACCES, MUTATING - {"write", "sync"}),
    "disk broken": (errno.EIO, MUTATING | {"read", "attributes"}),
}
TOKEN_FAULTS = {
    "token removed": (pkcs11_errors.DeviceRemoved, TOKEN_CALLS),
    "session lost": (pkcs11_errors.SessionHandleInvalid, TOKEN_CALLS - {"token open"}),
    "permission denied by the token": (pkcs11_errors.PinLocked, {"token open"}),
    "token full": (pkcs11_errors.DeviceMemory, {"token make", "token store"}),
    "token read-only": (pkcs11_errors.TokenWriteProtected, TOKEN_CHANGES),
}
FAULTS = [
    # A token is slow: `make test` takes each third of many points, `make soak` every one.
    pytest.param(store, fault, error, calls, step, id=f"{store} {fault}{' some' * (step > 1)}",
                 marks=[pytest.mark.soak] * (store == "softhsm" and step == 1))
    for store, faults in (("files", DISK_FAULTS), ("softhsm", DISK_FAULTS | TOKEN_FAULTS))
    for fault, (error, calls) in faults.items() for step in ((1, 3) if store == "softhsm" else (1,))
]  # fmt: skip


@pytest.mark.parametrize(("store", "fault", "error", "calls", "step"), FAULTS)
def test_what_fails_from_any_point_on_never_costs_the_credential(begin, store, fault, error, calls, step, say):
    failure = OSError(error, errno.errorcode[error]) if isinstance(error, int) else error()
    counter = Injector()
    run_until_calm(begin(store, counter), power_cut=True)
    points = [index for index, name in enumerate(counter.points) if name in calls]
    tried = points[::step] if len(points) > 20 else points
    for index in tried:
        injector = Injector().fail_from(index, calls, failure)
        world = begin(store, injector)
        world.run(1800)
        where = f"failing from {index} ({counter.points[index]})"
        if error == errno.ENOSPC:
            assert world.device.pair_matches(), where
            assert world.device.certificate_in_place() in world.cloud.registry, where
        else:  # nothing can be put in its place meanwhile, but a working credential is there
            assert world.device.holds_a_working_credential(), where

        injector.heal()
        world.device.switch_on()
        world.run(900)
        assert_ended(world)
        world.device.discard()
    say(f"{store}, {fault}: {len(points)} points, {len(tried)} tried")
    assert len(points) >= (2 if fault == "token full" else 4)


def test_a_failing_disk_is_named_in_the_failure_reason(begin):
    injector = Injector().fail_from(0, GROWING, OSError(errno.ENOSPC, "No space left on device"))
    world = begin("files", injector)
    world.run(60)
    assert world.cloud.status() == "FAILED"
    assert "No space left on device" in world.cloud.details()["DeviceFailureReason"]


@pytest.mark.posix  # by modes; tests/component/test_component_windows.py has the same by access control lists
def test_no_key_is_readable_by_others_at_any_instant(begin):
    injector, seen = Injector(), set()
    world = begin("files", injector)

    def look(_at, _name):
        for path in world.device.folder.iterdir():
            if path.name.startswith("privKey"):
                seen.add((path.name, path.stat().st_mode & 0o777))

    injector.act = look
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED"
    assert {mode for _, mode in seen} == {0o600}
    assert {"privKey.key", "privKey.key.new", "privKey.key.old", "privKey.key.tmp"} <= {name for name, _ in seen}


def test_an_idle_device_touches_no_disk_and_says_nothing_but_one_question_in_five_minutes(
    tmp_path, make_world, say, caplog
):
    """Nor does it write a line into its log, which the nucleus keeps on the same disk."""
    caplog.set_level(logging.INFO)
    injector = Injector()
    world = make_world(tmp_path / "idle", system=CountingSystem(injector))
    with_messages(world.device, injector)
    world.device.switch_on()
    world.run(10)
    before = len(injector.points)
    assert "ASKING → IDLE" in caplog.text
    caplog.clear()
    world.run(10 * 24 * 3600)
    since = injector.points[before:]
    assert set(since) == {"before publish", "after publish", "deliver"}
    asked, heard = since.count("before publish") / 10, since.count("deliver") / 10
    say(f"messages of an idle device and day: {asked:.0f} questions and {heard:.0f} answers")
    assert caplog.messages == []
    assert 24 * 3600 / 270 - 1 <= asked <= 24 * 3600 / 180 + 1


def test_publishing_while_offline_is_no_failure_but_retried(world, rotation_document):
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document(), notify=False)
    world.cloud.device = None
    world.run(3600)
    with pytest.raises(MessagesError):
        world.device.publish("any", b"{}")
    world.device.connect()
    world.run(400)
    assert world.cloud.status() == "SUCCEEDED"
    assert x509.load_pem_x509_certificate(world.device.certificate_in_place().encode()) is not None
