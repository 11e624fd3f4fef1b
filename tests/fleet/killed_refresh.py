"""Refreshes of fleets side by side, killed like ``kill -9``, each run at another step: an API call or an SQL statement.

Run by test_fleet_inventory.py: ``killed_refresh.py FOLDER COUNT`` leaves FLEETS inventories of COUNT runs behind,
killed at evenly spread steps. Each dies in a process forked off this one,
which has no threads and has paid for all imports.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fleet_registry import ACCOUNT, REGION, Registry, full

from controller.commands.pipeline import each_fleet
from controller.fleet import ActAs, AwsSession, Inventory, RefreshOptions, refresh
from controller.reconcile.values import CertificateAuthority, DesiredState, Fleet, Policy, Source

DEVICES, FLEETS = 12, 3
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OPTIONS = RefreshOptions(backend="assume")


def build() -> tuple[Registry, DesiredState]:
    registry = Registry(page_limit=5)
    registry.groups["line-a"] = [f"a-{number:02}" for number in range(DEVICES)]
    for number, thing in enumerate(registry.groups["line-a"]):
        registry.add_certificate(full(f"{number:02x}f"), thing)
    registry.add_job("by-hand", {"a-03": "IN_PROGRESS", "a-04": "FAILED"}, reasons={"a-04": "no space"})
    source = Source("fleet.yaml", 1)
    fleet = Fleet("test", ACCOUNT, REGION, source)
    policies = (Policy("p", "line-a", source),)
    return registry, DesiredState(fleet, {"aws-iot": CertificateAuthority("aws-iot")}, policies)


def refresh_and_die(path: Path, kill_at: int) -> int:
    """Refresh in this process, which is killed at that step; returns the number of steps if it is not."""
    lock, steps = threading.Lock(), [0]

    def step(*_: object) -> None:
        with lock:
            steps[0] += 1
            if steps[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def traced(*args: object, **settings: object) -> sqlite3.Connection:
        connection = connect(*args, **settings)
        connection.set_trace_callback(step)
        return connection

    sqlite3.connect = traced
    accounts = [build() for _ in range(FLEETS)]
    states = tuple(replace(desired, commit=str(number)) for number, (_, desired) in enumerate(accounts))

    def look(desired: DesiredState) -> None:
        number = int(desired.commit or 0)
        registry = accounts[number][0]
        registry.before = step
        session = AwsSession(desired.fleet, ActAs.READER, new_session=registry.new_session, sleep=lambda _: None)
        with Inventory(path.with_suffix(f".{number}.sqlite")) as inventory:
            refresh(session, inventory, desired, NOW, options=OPTIONS)

    assert each_fleet(states, look)[1] == ()
    return steps[0]


def in_a_fork(path: Path, kill_at: int) -> tuple[int, int]:
    """(wait status, steps) of a refresh in a process of its own."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, str(refresh_and_die(path, kill_at)).encode())
        os._exit(0)
    os.close(writable)
    steps = os.read(readable, 20)
    os.close(readable)
    return os.waitpid(child, 0)[1], int(steps or 0)


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    status, steps = in_a_fork(folder / "whole", 0)
    assert status == 0
    for number in range(count):
        kill_at = 1 + number * steps // count
        status, _ = in_a_fork(folder / f"killed-at-{kill_at}", kill_at)
        assert os.WTERMSIG(status) == signal.SIGKILL, status


if __name__ == "__main__":
    main()
