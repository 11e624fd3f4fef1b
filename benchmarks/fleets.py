"""Many fleets side by side: the wall time of one process over all of them, beside its slowest fleet.

Every call takes 50 ms, of which the program sees nothing but the wait, and each fleet keeps to the quotas of AWS, which
are its account's own; the registries are those of ``tests/fleet/fleet_shapes.py``, each read for the first time and
once more. With ``--quota-factor 1e9`` nothing but the processor is waited for.

    python benchmarks/fleets.py [FLEETS] [--devices N] [--quota-factor F]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fleet"))

from fleet_shapes import NOW, Account, account

from controller.commands.pipeline import each_fleet
from controller.fleet import ActAs, AwsSession, Inventory, refresh
from controller.reconcile.values import DesiredState

LATENCY = 0.05  # seconds


def main() -> None:
    """Print one line for a first look and one for the next."""
    parser = argparse.ArgumentParser()
    parser.add_argument("fleets", nargs="?", type=int, default=50)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--quota-factor", type=float, default=1.0)
    given = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test"}
    accounts = [account(given.devices) for _ in range(given.fleets)]
    states = tuple(replace(made.desired, commit=str(number)) for number, made in enumerate(accounts))
    for made in accounts:
        made.registry.before = lambda _operation, _parameters: time.sleep(LATENCY)
    with tempfile.TemporaryDirectory() as folder:
        for title in ("first look", "next look"):
            alone = _look(accounts[0], Path(folder) / "alone.sqlite", given.quota_factor)

            def look(desired: DesiredState) -> float:
                number = states.index(desired)
                return _look(accounts[number], Path(folder) / f"{number}.sqlite", given.quota_factor)

            began, worked = time.perf_counter(), time.process_time()
            took, failures = each_fleet(states, look)
            whole, worked = time.perf_counter() - began, time.process_time() - worked
            if failures:
                raise SystemExit(str(failures[0]))
            print(
                f"{title}: one fleet alone {alone:.1f} s, {len(took)} side by side {whole:.1f} s "
                f"({whole / max(took):.2f} of the slowest of them, {whole / alone:.2f} of one alone; {worked:.1f} s of "
                f"the processor, {worked / whole:.0%} of that time, {worked / len(took) * 1000:.0f} ms a fleet with "
                f"its registry), one after another about {alone * len(took):.0f} s",
                flush=True,
            )


def _look(made: Account, path: Path, quota_factor: float) -> float:
    began = time.perf_counter()
    new_session = made.registry.new_session
    session = AwsSession(made.desired.fleet, ActAs.READER, quota_factor=quota_factor, new_session=new_session)
    with Inventory(path) as inventory:
        refresh(session, inventory, made.desired, NOW)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
