"""The device is stopped at every call that touches the disk and at every message, one run for each.

Counted, not drawn: a first run counts the points, then each is hit once. A write is also cut in half.
Two ways to stop: the power goes (the nucleus reads the credential again), or only the component dies
(the nucleus keeps the connection that it has).
"""

from __future__ import annotations

import errno

import pytest
from cryptography import x509

from component.certificate_rotator.ports import MessagesError
from component.certificate_rotator.system import System

MUTATING = {"create", "write", "sync", "replace", "remove", "sync_folder", "set_attributes"}
GROWING = {"create", "write"}


class Killed(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


class Injector:
    """Counts points, and acts at one of them or from one of them on."""

    def __init__(self):
        self.points = []
        self.act = lambda index, name: None

    def point(self, name):
        self.points.append(name)
        self.act(len(self.points) - 1, name)


class CountingSystem(System):
    """The real file system with a point before every call, and one in the middle of each write."""

    def __init__(self, injector):
        self._injector = injector

    def write(self, descriptor, data):
        self._injector.point("write")
        super().write(descriptor, data[: len(data) // 2])
        self._injector.point("write")
        super().write(descriptor, data[len(data) // 2 :])


def _counted(name):
    original = getattr(System, name)

    def method(self, *arguments):
        self._injector.point(name)
        return original(self, *arguments)

    return method


for _name in (
    "read exists create sync close replace remove sync_folder attributes set_attributes".split()  # noqa: SIM905
):
    setattr(CountingSystem, _name, _counted(_name))


def with_messages(device, injector):
    """Points before and after each message of the device, and before each that reaches it."""
    publish, restart, deliver = device.publish, device.restart, device.deliver

    def counted(name, method):
        def call(*arguments):
            injector.point(f"before {name}")
            method(*arguments)
            injector.point(f"after {name}")

        return call

    device.publish, device.restart = counted("publish", publish), counted("restart", restart)

    def counted_deliver(topic, payload):
        injector.point("deliver")
        deliver(topic, payload)

    device.deliver = counted_deliver


def begin(make_world, folder, injector, *, refuse, document, **device):
    world = make_world(folder, system=CountingSystem(injector), **device)
    with_messages(world.device, injector)
    if refuse:
        world.cloud.refuse_connection = lambda certificate: certificate != world.first_certificate
    world.cloud.create_job(document=document, notify=False)
    world.device.switch_on()
    return world


def run_until_calm(world, *, power_cut):
    """Let an hour pass; whenever the device dies, it comes back three seconds later."""
    end = world.loop.time + 3600
    while world.loop.time < end:
        try:
            world.run(end - world.loop.time)
        except Killed:
            if power_cut:
                world.device.switch_off()
            else:
                world.device.rotator.stop()
            world.loop.call_later(3.0, world.device.switch_on if power_cut else world.device.start_component)


def assert_ended(world):
    for _ in range(2):
        if world.device.leftovers():
            world.device.switch_on()
            world.run(600)
    world.assert_sound()
    in_place = world.device.certificate_in_place()
    if world.cloud.status() == "SUCCEEDED":
        assert in_place != world.first_certificate
        assert world.cloud.registry == {in_place}
    else:
        assert world.cloud.status() in ("FAILED", "TIMED_OUT")


@pytest.mark.parametrize("refuse", [False, True], ids=["rotation", "rollback"])
@pytest.mark.parametrize("power_cut", [True, False], ids=["power cut", "component killed"])
def test_a_device_stopped_at_any_point_ends_with_a_working_credential(
    tmp_path, make_world, rotation_document, refuse, power_cut, capsys
):
    counter = Injector()
    world = begin(make_world, tmp_path / "count", counter, refuse=refuse, document=rotation_document())
    run_until_calm(world, power_cut=power_cut)
    assert world.cloud.status() == ("FAILED" if refuse else "SUCCEEDED")
    outcomes = {}

    for index in range(len(counter.points)):
        injector = Injector()

        def kill(at, _name, index=index):
            if at == index:
                raise Killed

        injector.act = kill
        world = begin(make_world, tmp_path / str(index), injector, refuse=refuse, document=rotation_document())
        run_until_calm(world, power_cut=power_cut)
        try:
            assert_ended(world)
        except AssertionError as error:
            raise AssertionError(f"killed at {index} ({counter.points[index]}): {error}") from error
        outcomes[world.cloud.status()] = outcomes.get(world.cloud.status(), 0) + 1

    with capsys.disabled():
        print(f"\n{len(counter.points)} crash points, then {outcomes}", end=" ")  # noqa: T201  # how exhaustive it was
    assert sum(outcomes.values()) == len(counter.points) > 80


FAULTS = {
    "disk full": (errno.ENOSPC, GROWING),
    "disk read-only": (errno.EROFS, MUTATING),
    "permission denied": (errno.EACCES, MUTATING - {"write", "sync"}),
    "disk broken": (errno.EIO, MUTATING | {"read", "attributes"}),
}


@pytest.mark.parametrize(("code", "calls"), FAULTS.values(), ids=FAULTS)
def test_a_disk_that_fails_from_any_point_on_never_costs_the_credential(
    tmp_path, make_world, rotation_document, code, calls
):
    counter = Injector()
    world = begin(make_world, tmp_path / "count", counter, refuse=False, document=rotation_document())
    run_until_calm(world, power_cut=True)
    points = [index for index, name in enumerate(counter.points) if name in calls]
    assert len(points) > 10

    for index in points:
        injector = Injector()

        def fail(at, name, index=index):
            if at >= index and name in calls:
                raise OSError(code, errno.errorcode[code])

        injector.act = fail
        world = begin(make_world, tmp_path / str(index), injector, refuse=False, document=rotation_document())
        world.run(3600)
        if code == errno.ENOSPC:
            assert world.device.pair_matches(), f"failing from {index} ({counter.points[index]})"
            assert world.device.certificate_in_place() in world.cloud.registry, f"failing from {index}"
        else:  # nothing can be put in its place on such a disk, but a working credential is there
            assert world.device.holds_a_working_credential(), f"failing from {index} ({counter.points[index]})"

        injector.act = lambda at, name: None
        for _ in range(2):
            world.device.switch_on()
            world.run(3600)
        assert_ended(world)


def test_a_failing_disk_is_named_in_the_failure_reason(tmp_path, make_world, rotation_document):
    injector = Injector()
    world = begin(make_world, tmp_path / "full", injector, refuse=False, document=rotation_document())

    def fail(_at, name):
        if name in GROWING:
            raise OSError(errno.ENOSPC, "No space left on device")

    injector.act = fail
    world.run(60)
    assert world.cloud.status() == "FAILED"
    assert "No space left on device" in world.cloud.details()["DeviceFailureReason"]


def test_no_key_is_readable_by_others_at_any_instant(tmp_path, make_world, rotation_document):
    injector = Injector()
    world = begin(make_world, tmp_path / "modes", injector, refuse=False, document=rotation_document())
    seen = set()

    def look(_at, _name):
        for path in world.device.folder.iterdir():
            if path.name.startswith("privKey"):
                seen.add((path.name, path.stat().st_mode & 0o777))

    injector.act = look
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED"
    assert {mode for _, mode in seen} == {0o600}
    assert {"privKey.key", "privKey.key.new", "privKey.key.old", "privKey.key.tmp"} <= {name for name, _ in seen}


def test_nothing_is_written_and_nothing_sent_while_idle(tmp_path, make_world):
    injector = Injector()
    world = make_world(tmp_path / "idle", system=CountingSystem(injector))
    with_messages(world.device, injector)
    world.device.switch_on()
    world.run(10)
    before = len(injector.points)
    world.run(30 * 24 * 3600)
    assert len(injector.points) == before


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
