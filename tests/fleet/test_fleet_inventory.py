"""The inventory file: private, its own, one writer, and never worse than before, whatever happens to it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta
from pathlib import Path

import pytest
from killed_refresh import DEVICES, FLEETS, NOW, OPTIONS, build

from controller.errors import ExitCode, InventoryError
from controller.fleet import ActAs, AwsSession, Inventory, last_look, rebuilt_where_damaged, refresh
from controller.fleet.database import UnusableInventoryError
from controller.fleet.devices import maker_of
from controller.fleet.last_look import keep_look, with_tables
from controller.fleet.lock import Patience, only_writer
from controller.fleet.schema import APPLICATION_ID, VERSION
from controller.fleet.schema import build as build_schema
from controller.fleet.work import Work
from controller.reconcile.values import (
    Attachment,
    Baseline,
    Certificate,
    Device,
    FleetState,
    Halt,
    PrivateCa,
    StockBackend,
)
from protocol.deployment import DeployedAuthority, DeployedBackend

HOUR = timedelta(hours=1)
ENDPOINT = "https://iot.eu-west-1.amazonaws.com"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "inventory.sqlite"


@pytest.fixture
def filled(path) -> Path:
    registry, desired = build()
    refresh_into(path, registry, desired)
    return path


def refresh_into(path, registry, desired, now=NOW, **how):
    """Refresh as the killed child would; returns devices and calls."""
    session = AwsSession(desired.fleet, ActAs.READER, new_session=registry.new_session, sleep=lambda _: None)

    def look():
        with Inventory(path, **how) as inventory:
            state = refresh(session, inventory, desired, now, options=OPTIONS)
            return list(inventory.devices(desired, state)), state, session.calls

    return rebuilt_where_damaged(look)


@pytest.mark.unmeasured
def test_fleets_side_by_side_killed_at_any_step_go_on_to_the_same_end_each(tmp_path):
    script = Path(__file__).with_name("killed_refresh.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(script), str(tmp_path), "8"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    registry, desired = build()
    expected = refresh_into(tmp_path / "expected.sqlite", registry, desired)[:2]

    killed = {path.name.partition(".")[0] for path in tmp_path.glob("killed-at-*")}
    assert len(killed) == 8
    described = 0
    for path in (tmp_path / f"{name}.{number}.sqlite" for name in sorted(killed) for number in range(FLEETS)):
        registry, desired = build()
        devices, state, calls = refresh_into(path, registry, desired)
        assert (devices, state) == expected, path.name
        described += calls["DescribeCertificate"]
    assert described < 8 * FLEETS * DEVICES, "what each had read is not read again"


def test_certificates_described_before_the_kill_are_not_described_again(tmp_path, path, monkeypatch):
    monkeypatch.setattr(Work.__init__, "__defaults__", (1, 64))  # of several threads the first may be the last to ask
    registry, desired = build()
    described = []

    def stop(operation, parameters):
        if operation == "DescribeCertificate":
            described.append(parameters["certificateId"])
            if len(described) == 8:
                raise KeyboardInterrupt

    registry.before = stop
    with pytest.raises(KeyboardInterrupt):
        refresh_into(path, registry, desired)
    registry.before = lambda operation, parameters: None
    _, _, calls = refresh_into(path, registry, desired)
    assert calls["DescribeCertificate"] == DEVICES - 7


def test_only_its_owner_may_read_the_file_and_its_companions(filled, tmp_path):
    with Inventory(filled) as inventory:
        inventory.bind(build()[1].fleet, ENDPOINT)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}


DAMAGES = {
    "cut in the first page": lambda data: data[:1000],
    "all but the first page overwritten": lambda data: data[:4096] + os.urandom(len(data) - 4096),
    "cut in half": lambda data: data[: len(data) // 2],
}
NOT_OURS_ANY_MORE = {
    "no database": lambda data: b"this is a text file, and quite long enough to be taken for something else" * 3,
    "header zeroed": lambda data: data[:16] + bytes(84) + data[100:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_file_is_rebuilt_and_told_in_one_line(filled, damage):
    filled.write_bytes(damage(filled.read_bytes()))
    assert_rebuilt(filled, "is damaged")


@pytest.mark.parametrize("damage", NOT_OURS_ANY_MORE.values(), ids=NOT_OURS_ANY_MORE)
def test_a_file_that_may_be_of_others_is_refused_but_for_the_cache(filled, damage):
    filled.write_bytes(damage(filled.read_bytes()))
    before = filled.read_bytes()
    with pytest.raises(InventoryError, match=f"{filled} is damaged") as raised:
        Inventory(filled)
    assert raised.value.remedy.startswith(f"delete it (rm {filled}*)")
    assert raised.value.exit_code is ExitCode.ERROR
    assert filled.read_bytes() == before
    assert_rebuilt(filled, "is damaged", is_cache=True)


def test_file_of_a_newer_version_is_rebuilt(filled):
    changed(filled, f"PRAGMA user_version = {VERSION + 1}")
    assert_rebuilt(filled, f"schema version {VERSION + 1}; this certfleet knows version {VERSION}")


@pytest.mark.parametrize("version", range(1, VERSION))
def test_file_of_an_earlier_version_is_read_on(path, version):
    connection = sqlite3.connect(path)
    build_schema(connection, until=version)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(
        "INSERT INTO binding (account, region, run, refreshed_at) VALUES ('123456789012', 'eu-west-1', 7, 1.0)"
    )
    connection.execute(
        "INSERT INTO jobs (id, created_at, status, completed_at, is_rotation, is_continuous, targets, is_final) "
        "VALUES ('j', 1.0, 'CANCELED', 2.0, 1, 0, '[]', 1)"
    )
    connection.commit()
    connection.close()
    told: list[str] = []
    with Inventory(path, tell=told.append) as inventory:
        row = inventory.database.connection.execute("SELECT id, is_read FROM jobs").fetchone()
        inventory.bind(build()[1].fleet, "https://iot.eu-west-1.amazonaws.com")
        run = inventory.database.connection.execute("SELECT run FROM binding").fetchone()
    assert (row, run, told) == (("j", 1), (7,), [])


FOREIGN = {
    "a trigger": "CREATE TRIGGER hide AFTER INSERT ON attachments BEGIN DELETE FROM members; END",
    "a view": "CREATE VIEW other AS SELECT * FROM things",
    "a table": "CREATE TABLE notes (text TEXT)",
    "an index": "CREATE INDEX mine ON things (last_seen)",
    "another column": "ALTER TABLE things ADD COLUMN mine TEXT",
    "a table less": "DROP TABLE unproven",
}


@pytest.mark.parametrize("statement", FOREIGN.values(), ids=FOREIGN)
def test_a_file_with_foreign_objects_in_it_is_rebuilt_before_a_row_is_read(filled, statement):
    changed(filled, statement)
    assert_rebuilt(filled, "its schema is not certfleet's")


def changed(path, statement):
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def assert_rebuilt(path, why, **how):
    told: list[str] = []
    registry, desired = build()
    devices, _, calls = refresh_into(path, registry, desired, tell=told.append, **how)
    assert (len(devices), calls["DescribeCertificate"]) == (DEVICES, DEVICES)
    (line,) = told
    assert why in line
    assert line.endswith("; it is built anew from AWS")


def roots(path):
    """The first page of every table and index, and the size of a page."""
    connection = sqlite3.connect(path)
    pages = connection.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 1").fetchall()
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    return [page for (page,) in pages], size


def without(data, pages, size):
    """The file with these pages lost."""
    for page in pages:
        data = data[: (page - 1) * size] + bytes(size) + data[page * size :]
    return data


def test_a_file_of_any_size_is_opened_without_reading_what_it_holds(filled):
    told: list[str] = []
    filled.write_bytes(without(filled.read_bytes(), *roots(filled)))
    Inventory(filled, tell=told.append).close()
    assert told == []


def test_one_page_that_is_lost_is_noticed_by_who_needs_it_and_once_a_day_by_everyone(filled):
    registry, desired = build()
    expected = refresh_into(filled, registry, desired)[0]
    whole = filled.read_bytes()
    pages, size = roots(filled)
    for page in pages:
        damaged = without(whole, [page], size)
        filled.write_bytes(damaged)
        told: list[str] = []
        assert refresh_into(filled, registry, desired, NOW + HOUR, tell=told.append)[0] == expected
        assert len(told) <= 1
        filled.write_bytes(damaged)
        told.clear()
        assert refresh_into(filled, registry, desired, NOW + 30 * HOUR, tell=told.append)[0] == expected
        (line,) = told
        assert f"{filled} is damaged: " in line


def test_damage_that_another_run_has_mended_is_not_removed_once_more(filled):
    whole, told = filled.read_bytes(), []
    filled.write_bytes(without(whole, *roots(filled)))

    def meet_it_late():
        with Inventory(filled, tell=told.append) as inventory:
            filled.unlink()
            filled.write_bytes(whole)
            inventory.database.require_sound()

    with pytest.raises(UnusableInventoryError) as raised:
        meet_it_late()
    assert (raised.value.is_removed, told, filled.read_bytes()) == (True, [], whole)


def test_inventory_of_another_endpoint_is_begun_anew(filled):
    told: list[str] = []
    fleet = build()[1].fleet
    with Inventory(filled, tell=told.append) as inventory:
        count = inventory.database.connection
        inventory.bind(fleet, "https://iot.eu-west-1.amazonaws.com")
        assert (told, count.execute("SELECT count(*) FROM things").fetchone()) == ([], (DEVICES,))
        inventory.bind(fleet, "http://127.0.0.1:4566")
        assert count.execute("SELECT count(*) FROM things").fetchone() == (0,)
    (line,) = told
    assert "was filled from https://iot.eu-west-1.amazonaws.com, this run speaks to http://127.0.0.1:4566" in line


def test_full_disk_says_so_and_changes_nothing(filled):
    def fill(inventory: Inventory) -> None:
        with inventory.database.transaction() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
            connection.execute("INSERT INTO issuers VALUES ('arn', 'key', ?)", ("x" * 1_000_000,))

    with Inventory(filled) as inventory:
        with pytest.raises(InventoryError, match="SQLITE_FULL") as raised:
            fill(inventory)
        assert inventory.database.connection.execute("SELECT count(*) FROM issuers").fetchone() == (0,)
    assert "disk is not full" in raised.value.remedy


def test_damage_that_shows_only_while_reading_is_an_inventory_error(filled):
    with Inventory(filled) as inventory, pytest.raises(InventoryError, match="damaged"), inventory.database.errors():
        inventory.database.connection.execute("SELECT * FROM no_such_table")


def test_database_of_another_program_is_not_touched(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE accounts (money INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InventoryError, match="another program") as raised:
        Inventory(path)
    assert "name another file" in raised.value.remedy

    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (0,)
    connection.execute("PRAGMA application_id = 17")
    connection.close()
    assert len(path.read_bytes()) == len(before)
    with pytest.raises(InventoryError, match="application id 0x11"):
        Inventory(path)


def test_empty_file_is_a_new_inventory(path):
    path.touch()
    registry, desired = build()
    assert len(refresh_into(path, registry, desired)[0]) == DEVICES


def test_folder_is_made_and_one_that_cannot_be_is_an_error(tmp_path):
    Inventory(tmp_path / "new" / "folder" / "inventory.sqlite").close()
    (tmp_path / "file").touch()
    with pytest.raises(InventoryError, match="cannot be used") as raised:
        Inventory(tmp_path / "file" / "inventory.sqlite")
    assert raised.value.remedy


def test_folder_in_place_of_the_file_is_an_error(tmp_path):
    with pytest.raises(InventoryError, match="cannot be used"):
        Inventory(tmp_path)


class Waiting:
    """Patience on a clock of its own; what is given as ``then`` happens at a look."""

    def __init__(self, seconds, then=lambda: None):
        self.now, self.told, self._then = 0.0, [], then
        self.patience = Patience(seconds, self.told.append, self.sleep, lambda: self.now)

    def sleep(self, seconds):
        self.now += seconds
        if self.now > 3:
            self._then()


def test_second_refresh_at_the_same_time_waits_and_says_so_once(filled):
    waiting = Waiting(60)
    with Inventory(filled) as first, Inventory(filled, patience=waiting.patience) as second, first.only_writer():
        lock = second.only_writer()
        with pytest.raises(InventoryError, match="another certfleet is refreshing") as raised:
            lock.__enter__()
    assert "--lock-timeout" in raised.value.remedy
    assert waiting.now == pytest.approx(60, abs=1)
    assert waiting.told == [f"waiting for another certfleet that is refreshing {filled}"]


def test_second_refresh_goes_on_as_soon_as_the_first_has_ended(filled):
    registry, desired = build()
    lock = only_writer(filled, Patience(0))
    lock.__enter__()
    waiting = Waiting(60, then=lambda: lock.__exit__(None, None, None))
    session = AwsSession(desired.fleet, ActAs.READER, new_session=registry.new_session, sleep=lambda _: None)
    with Inventory(filled, patience=waiting.patience) as second:
        refresh(session, second, desired, NOW, options=OPTIONS)
    assert waiting.now < 4


def test_damaged_lock_file_holds_nothing_and_nobody_up(filled):
    filled.with_name(filled.name + ".lock").write_bytes(b"no database at all, but long enough to look at" * 9)
    registry, desired = build()
    assert len(refresh_into(filled, registry, desired)[0]) == DEVICES


def test_reading_goes_on_while_another_writes(filled):
    _, desired = build()
    with Inventory(filled) as reader, Inventory(filled) as writer:
        devices = reader.devices(desired, FleetState(NOW))
        first = next(devices)
        with writer.database.transaction() as connection:
            connection.execute("DELETE FROM members")
        assert len([first, *devices]) == DEVICES, "a stream sees one state throughout"
        assert list(reader.devices(desired, FleetState(NOW))) == []


def test_an_earlier_look_stays_as_it_was_while_another_run_looks_anew(filled):
    _, desired = build()
    with Inventory(filled) as reader, Inventory(filled) as writer:
        state = last_look(reader, desired, ENDPOINT)
        with writer.database.transaction() as connection:
            connection.execute("DELETE FROM members")
        assert len(list(reader.devices(desired, state))) == len(list(reader.devices(desired, state))) == DEVICES
        reader.database.thaw()
        assert list(reader.devices(desired, state)) == []


def test_all_that_a_look_has_found_is_kept(filled):
    _, desired = build()
    days, soon = timedelta(days=7), NOW + timedelta(days=1)
    found = FleetState(
        NOW,
        group_arns={"line": "arn:line"},
        backend_is_stock=True,
        stock=StockBackend("arn:ca", days),
        deployment=DeployedBackend(
            "1.0", {"ca": DeployedAuthority("arn:ca", "SHA256WITHRSA", days)}, frozenset({"policy"})
        ),
        deployment_unknown="why",
        private_cas={"arn:ca": PrivateCa("ACTIVE", "RSA_2048", is_short_lived=True, not_after=soon)},
        cas_unknown=("another",),
        baseline=Baseline(
            {"line": 3}, {"old": 2}, "c0ffee", NOW, {"line": soon}, {"line": Halt("a1b2c3", soon)}, soon, 4
        ),
    )
    with Inventory(filled) as inventory:
        for state in (found, replace(found, stock=StockBackend(), deployment=None, baseline=None, private_cas={})):
            with inventory.database.transaction() as connection:
                keep_look(connection, desired, state)
                expected = with_tables(connection, state)
            assert last_look(inventory, desired, ENDPOINT) == expected
            inventory.database.thaw()


def test_write_that_meets_a_writer_outside_our_lock_says_in_use(filled):
    desired = build()[1]
    with (
        Inventory(filled, patience=Patience(0)) as one,
        Inventory(filled) as other,
        other.database.transaction(),
        pytest.raises(InventoryError, match="in use by another process"),
    ):
        one.bind(desired.fleet, ENDPOINT)


def test_transaction_that_fails_changes_nothing(filled):
    def fail(inventory: Inventory) -> None:
        with inventory.database.transaction() as connection:
            connection.execute("DELETE FROM members")
            raise RuntimeError

    with Inventory(filled) as inventory:
        with pytest.raises(RuntimeError):
            fail(inventory)
        count = inventory.database.connection.execute("SELECT count(*) FROM members").fetchone()
    assert count == (DEVICES,)


def test_inventory_of_another_account_or_region_is_refused(filled, make_desired):
    desired = make_desired("line-a")
    for account, region in (("999999999999", "eu-west-1"), ("123456789012", "us-east-1")):
        fleet = type(desired.fleet)("other", account, region, desired.fleet.source)
        with (
            Inventory(filled) as inventory,
            pytest.raises(InventoryError, match=f"Fleet 'other' is account {account} in {region}") as raised,
        ):
            inventory.bind(fleet, ENDPOINT)
        assert "another inventory file" in raised.value.remedy


def test_devices_of_an_inventory_that_was_never_refreshed_is_an_error_and_not_an_empty_fleet(path):
    _, desired = build()
    with Inventory(path) as inventory:
        with pytest.raises(InventoryError, match="has not been refreshed"):
            next(inventory.devices(desired, FleetState(NOW)))
        inventory.bind(desired.fleet, ENDPOINT)
        with pytest.raises(InventoryError, match="has not been refreshed"):
            next(inventory.devices(desired, FleetState(NOW)))


def test_only_the_asked_for_devices_are_streamed(filled):
    _, desired = build()
    with Inventory(filled) as inventory:
        found = list(inventory.devices(desired, FleetState(NOW), only={"a-07", "a-02", "stranger"}))
    assert [device.name for device in found] == ["a-02", "a-07"]
    assert all(device.attachments for device in found)


def test_nothing_in_the_file_looks_like_a_secret(filled):
    tables = sqlite3.connect(filled)
    names = [row[0] for row in tables.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    data = b"".join(file.read_bytes() for file in filled.parent.iterdir())
    tables.close()
    assert names
    assert b"PRIVATE KEY" not in data
    assert b"AKIATEST" not in data


@pytest.mark.parametrize("kind", [Certificate, Attachment, Device])
def test_a_value_that_is_made_for_a_stream_is_the_one_that_its_class_makes(kind):
    values = [each.name for each in fields(kind)]
    made, of_class = maker_of(kind)(*values), kind(*values)
    assert (type(made), made, hash(made), repr(made)) == (kind, of_class, hash(of_class), repr(of_class))
    with pytest.raises(FrozenInstanceError):
        setattr(made, values[0], "another")
    with pytest.raises(TypeError):
        maker_of(kind)(*values[:-1])
