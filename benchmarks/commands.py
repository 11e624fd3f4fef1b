"""Whole commands, each a process of its own: processor seconds (user + sys, start included) and peak memory.

They answer from an inventory that is filled beforehand (``--no-refresh``), in groups of 10,000 things, a policy for
each, one device in sixteen to rotate; then what a refresh of the same inventory takes besides, and three commands with
their look, each without its registry, which is in memory.

    python benchmarks/commands.py [SIZE…] [--only COMMAND] [--times N]
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fleet"))

from fleet_registry import ACCOUNT, REGION, full
from fleet_shapes import Account, account

from controller.cli import main as main_of_certfleet
from controller.desired import WorkingTree, load
from controller.fleet import ActAs, AwsSession, Inventory, refresh
from controller.fleet.aws import QUOTA_FACTOR_VARIABLE
from controller.fleet.last_look import keep_look
from controller.reconcile.values import DesiredState, FleetState

T = TypeVar("T")

NOW = datetime.now(UTC).replace(microsecond=0)
GROUP = 10_000  # things
NOT_COUNTED = "not counted: "
LIFE, OLDEST = timedelta(days=365), 340  # days; thirty before the end it is time
FLEET = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {{name: benchmark}}
spec: {{account: "{account}", region: {region}, guardrails: {{maxChangePercent: 90}}}}
"""
POLICY = """\
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: group-{number}}}
spec:
  thingGroup: group-{number}
  certificate: {{renewBefore: {days}d, keyType: ECDSA-P256, authority: aws-iot}}
  rollout: {{waves: ["1%", "100%"], maximumPerMinute: 1000}}
"""
COMMANDS = {
    "--help": "",
    "validate": "",
    "drift": "--no-refresh",
    "drift --format html": "--no-refresh",
    "plan": "--no-refresh",
    "plan --base HEAD~1": "--no-refresh",
    "status --policy group-0": "--no-refresh",
    "explain device-0000007": "--no-refresh",
    "forecast": "--no-refresh",
    "simulate --span 365d": "--no-refresh",
}

LOOKING = ("drift", "drift --format html", "plan --base HEAD~1")


def repository(folder: Path, groups: int) -> DesiredState:
    """Documents in two commits; the second has every certificate renewed five days earlier."""
    (folder / "desired_state").mkdir(parents=True)
    git = ("git", "-c", "user.name=b", "-c", "user.email=b@example.org")
    subprocess.run((*git, "init", "-q"), cwd=folder, check=True)
    for days in (40, 45):
        text = FLEET.format(account=ACCOUNT, region=REGION)
        text += "".join(POLICY.format(number=number, days=days) for number in range(groups))
        (folder / "desired_state" / "fleet.yaml").write_text(text)
        subprocess.run((*git, "add", "-A"), cwd=folder, check=True)
        subprocess.run((*git, "commit", "-qm", f"{days} days"), cwd=folder, check=True)
    return load(WorkingTree(folder / "desired_state"), now=NOW)[0]


def fill(path: Path, desired: DesiredState, size: int) -> None:
    """An inventory as a refresh would leave it."""
    things = [f"device-{number:07}" for number in range(size)]
    session = AwsSession(desired.fleet, ActAs.READER)
    arns = {policy.thing_group: f"arn:{policy.thing_group}" for policy in desired.policies}
    with Inventory(path) as inventory:
        inventory.bind(desired.fleet, session.endpoint("iot"))
        with inventory.database.transaction() as connection:
            connection.executemany("INSERT INTO things (name, read_in_run) VALUES (?, 1)", ((name,) for name in things))
            groups = ((name, f"group-{number // GROUP}") for number, name in enumerate(things))
            connection.executemany("INSERT INTO members VALUES (?, ?)", groups)
            connection.executemany(
                "INSERT INTO certificates VALUES (?, 'ACTIVE', ?, 0, 1, 1, 'ECDSA-P256', 'sha256WithRSAEncryption', "
                "'OU=Amazon Web Services', 'aws-iot', ?, ?, NULL)",
                (certificate(number, size) for number in range(size)),
            )
            held = ((name, full(f"{number:07x}f"), "EXCLUSIVE_THING") for number, name in enumerate(things))
            connection.executemany("INSERT INTO attachments VALUES (?, ?, ?)", held)
            instants = "refreshed_at = :now, listed_at = :now, jobs_listed_at = :now"
            connection.execute(f"UPDATE binding SET run = 1, unmanaged = 0, {instants}", {"now": NOW.timestamp()})
            keep_look(connection, desired, FleetState(NOW, group_arns=arns))


def certificate(number: int, size: int) -> tuple[str, float, float, float]:
    """Of every age up to the oldest, shuffled."""
    made = (NOW - timedelta(days=OLDEST) * ((number * 7919) % size / size)).timestamp()
    return full(f"{number:07x}f"), made, made, made + LIFE.total_seconds()


def whole(folder: Path, command: str, options: str, path: Path) -> tuple[float, float]:
    """Processor seconds and resident MB of one command."""
    inventory = ["--inventory", str(path)] if options else []
    arguments = [*command.split(), *options.split(), *inventory]
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "controller.cli", *arguments], cwd=folder, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(child.pid, 0)
        if os.waitstatus_to_exitcode(status) not in {0, 2, 3}:
            output.seek(0)
            raise SystemExit(output.read().decode())
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Clocked:
    """A registry whose own work is timed, to be taken off."""

    def __init__(self, made: Account) -> None:
        self.seconds, self._lock = 0.0, threading.Lock()
        self._serve, self._new_session = made.registry._serve, made.registry.new_session  # noqa: SLF001
        made.registry._serve = self._timed  # type: ignore[method-assign]  # noqa: SLF001
        self.new_session = made.registry.new_session

    def _timed(self, *arguments: Any, **more: Any) -> Any:
        began = time.thread_time()
        try:
            return self._serve(*arguments, **more)
        finally:
            with self._lock:
                self.seconds += time.thread_time() - began


def registry(size: int) -> Clocked:
    """What AWS shows of the filled inventory."""
    made = account(size)
    things = made.registry.groups.pop("group-0")
    for number in range(0, size, GROUP):
        made.registry.groups[f"group-{number // GROUP}"] = things[number : number + GROUP]
    for number in range(size):
        identity, created, *_ = certificate(number, size)
        made.registry.certificates[identity]["creationDate"] = created
    gc.freeze()  # or whoever looks for garbage meanwhile goes through the registry too
    return Clocked(made)


def refreshed(path: Path, desired: DesiredState, size: int) -> float:
    """Processor seconds of a look at what has not changed."""
    clocked = registry(size)
    session = AwsSession(desired.fleet, ActAs.READER, quota_factor=1e9, new_session=clocked.new_session)
    with Inventory(path) as inventory:
        began = time.process_time()
        refresh(session, inventory, desired, NOW + timedelta(hours=1))
        return time.process_time() - began - clocked.seconds


def looking(folder: Path, command: str, path: Path, size: int) -> float:
    """Processor seconds of one command with its look, start included; as long as the registry works does not count."""
    copied = path.with_suffix(".looked")
    shutil.copy(path, copied)
    arguments = [*command.split(), "--inventory", str(copied)]
    code = f"import commands; commands.look_and_tell({size}, {arguments!r})"
    here = f"{Path(__file__).parent}{os.pathsep}{os.environ['PYTHONPATH']}"
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": here, QUOTA_FACTOR_VARIABLE: "1e9"},
        )
        _, status, usage = os.wait4(child.pid, 0)
        output.seek(0)
        lines = output.read().decode().splitlines()
    if os.waitstatus_to_exitcode(status) or not lines[-1].startswith(NOT_COUNTED):
        raise SystemExit("\n".join(lines))
    return usage.ru_utime + usage.ru_stime - float(lines[-1].removeprefix(NOT_COUNTED))


def look_and_tell(size: int, arguments: list[str]) -> None:
    """Run a command against a registry of this process, and print how long that took of it."""
    began = time.process_time()
    clocked = registry(size)
    built = time.process_time() - began
    AwsSession.__init__.__kwdefaults__["new_session"] = clocked.new_session
    if main_of_certfleet(arguments) not in {0, 2, 3}:
        raise SystemExit(1)
    print(f"\n{NOT_COUNTED}{built + clocked.seconds}")


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """In a process of its own: what this one once held would count as the peak of those that it starts."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as executor:
        return executor.submit(work, *arguments).result()


def main() -> None:
    """A table in Markdown for each size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--only", default="")
    parser.add_argument("--times", type=int, default=1)
    arguments = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test"}
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    print("| devices | command | processor s | MB |\n|---|---|---|---|")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as place:
            folder, path = Path(place) / "repository", Path(place) / "inventory.sqlite"
            desired = repository(folder, -(-size // GROUP))
            apart(fill, path, desired, size)
            for command, options in COMMANDS.items():
                if not command.startswith(arguments.only):
                    continue
                runs = [whole(folder, command, options, path) for _ in range(arguments.times)]
                seconds, megabytes = min(runs)
                print(f"| {size:,} | {command} | {seconds:.2f} | {megabytes:.0f} |", flush=True)
            if "refresh".startswith(arguments.only):
                seconds = min(apart(refreshed, path, desired, size) for _ in range(arguments.times))
                print(f"| {size:,} | refresh, in addition | {seconds:.2f} | |", flush=True)
            for command in LOOKING:
                if f"look: {command}".startswith(arguments.only):
                    seconds = min(looking(folder, command, path, size) for _ in range(arguments.times))
                    print(f"| {size:,} | {command}, with its look | {seconds:.2f} | |", flush=True)


if __name__ == "__main__":
    main()
