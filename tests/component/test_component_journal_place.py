"""The journal lies out of others' reach, and an upgrade or a downgrade in the middle of a rotation finds it."""

from __future__ import annotations

import os

import pytest
from component_before import OfEitherVersion
from component_faults import CountingSystem, Injector, Killed, run_until_calm, with_messages
from component_world import Device

from component.certificate_rotator.journal import Journal, JournalRecord, Step
from component.certificate_rotator.store import Generation
from component.certificate_rotator.system import System

pytestmark = pytest.mark.posix
RECORD = JournalRecord(Step.CONNECTING, "job-1", notes={"oldId": "0a"})


class UpgradedDevice(OfEitherVersion, Device):
    """Runs the component of before, which keeps its journal in the working folder, or the one of now."""

    @property
    def before(self):
        return self.folder / "work" / "journal.json"

    def make_journal(self):
        self.before.parent.mkdir(exist_ok=True)
        if not self.is_new:
            return Journal(self.before, self.system)
        return Journal(self.folder / "root" / "state" / "journal.json", self.system, self.before)

    def leftovers(self):
        journals = [] if self.make_journal().load() is None else ["journal.json"]
        return sorted(journals + [name for name in super().leftovers() if name not in ("work", "root")])


def rotate_changing_at(make_world, folder, document, steps, *, rolls_back, begins_new):
    """The device stops right after it has come to one of these states, and another version starts then.

    Returns the world, and every state that it has come to.
    """
    injector = Injector()
    world = make_world(folder, kind=UpgradedDevice, system=CountingSystem(injector))
    named, wanted = [], list(steps)

    def look(_index, _name):
        state = world.device.rotator.state.value if world.device.rotator else None
        if state is not None and state != (named or [None])[-1]:
            named.append(state)
            if wanted and wanted[0] == state:
                wanted.pop(0)
                world.device.is_new = not world.device.is_new
                raise Killed

    world.device.is_new = begins_new
    world.device.switch_on()
    world.run(5)
    injector.act = look
    with_messages(world.device, injector)
    if rolls_back:
        world.cloud.refuse_connection = lambda certificate: certificate != world.first_certificate
    world.cloud.create_job(document=document)
    run_until_calm(world, power_cut=True)
    injector.heal()
    return world, named


STATES = {False: ("PREPARING", "CREATING", "INSTALLING", "RESTARTING", "CONNECTING", "COMMITTING", "REPORTING"),
          True: ("CREATING", "RESTARTING", "CONNECTING", "SWITCHING", "RECONNECTING", "REPORTING")}  # fmt: skip
UNDONE = {  # by the other version: that of before does not see how far the one of now has come
    True: ("PREPARING", "CREATING", "INSTALLING", "RESTARTING", "CONNECTING", "COMMITTING"),
    False: ("PREPARING", "INSTALLING"),
}
CHANGES = {
    "upgrade": (False, lambda step: [step]),
    "downgrade": (True, lambda step: [step]),
    "downgrade, and upgrade again": (True, lambda step: [step, "REPORTING"]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("rolls_back", [False, True], ids=["goes well", "rolls back"])
def test_another_version_carries_on_at_whatever_step_it_starts(
    make_world, memory_folder, rotation_document, change, rolls_back
):
    begins_new, at = CHANGES[change]
    for number, step in enumerate(STATES[rolls_back]):
        world, named = rotate_changing_at(
            make_world, memory_folder / str(number), rotation_document(), at(step),
            rolls_back=rolls_back, begins_new=begins_new,
        )  # fmt: skip
        assert step in named
        assert world.cloud.status() in ("SUCCEEDED", "FAILED")
        if step not in UNDONE[begins_new] and not rolls_back:
            assert world.cloud.status() == "SUCCEEDED", step
        world.device.is_new = True
        world.start_later()
        world.run(600)
        assert world.device.pair_matches()
        assert world.cloud.registry == {world.device.certificate_in_place()}
        world.cloud.refuse_connection = lambda _certificate: False
        world.cloud.create_job("job-2", rotation_document())  # what an older version has ended is not an obstacle
        world.run(600)
        assert world.cloud.status("job-2") == "SUCCEEDED"
        world.assert_sound()


@pytest.fixture
def places(tmp_path):
    """Where it lies now, and where earlier versions look for it."""
    (tmp_path / "work").mkdir()
    return tmp_path / "root" / "state" / "journal.json", tmp_path / "work" / "journal.json"


def test_power_may_fail_at_any_point_of_taking_it_along(places, tmp_path):
    now, before = places
    Journal(before, System()).save(RECORD)
    counter, index = Injector(), 0
    while True:
        injector = Injector().kill_at(index)
        try:
            Journal(now, CountingSystem(injector), before).load()
        except Killed:
            assert Journal(before, System()).load() == RECORD  # whoever starts next, the old version too
            index += 1
            continue
        break
    assert Journal(now, System(), before).load() == RECORD
    assert index > len(counter.points) + 10
    assert before.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["journal.json", "journal.json"]


def test_it_is_taken_along_once(places):
    now, before = places
    Journal(before, System()).save(RECORD)
    journal = Journal(now, System(), before)
    assert journal.load() == RECORD
    journal.clear()
    assert Journal(now, System(), before).load() is None
    assert not before.exists()


FORGED = RECORD.with_(step=Step.SWITCHING, target=Generation.OLD)


def planted(tmp_path, before, monkeypatch):
    Journal(before, System()).save(FORGED)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # the file is another user's


def linked(tmp_path, before, monkeypatch):
    Journal(tmp_path / "elsewhere", System()).save(FORGED)
    before.symlink_to(tmp_path / "elsewhere")


def another_name(tmp_path, before, monkeypatch):
    Journal(tmp_path / "elsewhere", System()).save(FORGED)
    os.link(tmp_path / "elsewhere", before)


def replayed(tmp_path, before, monkeypatch):
    """It was this user's own once, and somebody kept it."""
    Journal(before, System()).save(FORGED)
    os.utime(before, (1, 1))


def folder(tmp_path, before, monkeypatch):
    before.mkdir()
    (before / "x").touch()


def pipe(tmp_path, before, monkeypatch):
    os.mkfifo(before)


@pytest.mark.parametrize("attempt", [planted, linked, another_name, replayed, folder, pipe])
@pytest.mark.parametrize("record", [None, RECORD], ids=["idle", "rotating"])
def test_what_others_can_put_into_the_working_folder_decides_nothing(places, tmp_path, monkeypatch, attempt, record):
    now, before = places
    journal = Journal(now, System(), before)
    journal.load()
    if record is not None:
        journal.save(record)
    before.unlink()
    attempt(tmp_path, before, monkeypatch)
    assert Journal(now, System(), before).load() == record


def test_a_working_folder_that_others_empty_forgets_nothing(places):
    now, before = places
    journal = Journal(now, System(), before)
    journal.load()
    journal.save(RECORD)
    before.unlink()
    before.parent.rmdir()
    assert Journal(now, System(), before).load() == RECORD
