"""Many fleets side by side: the wall time of one process over all of them, beside its slowest fleet.

Every call takes 50 ms, of which the program sees nothing but the wait; the registries are those of
``tests/fleet/fleet_shapes.py``, each read for the first time and once more.

    python benchmarks/fleets.py [FLEETS]
"""

from __future__ import annotations

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
DEVICES = 40  # of a fleet


def main() -> None:
    """Print one line for a first look and one for the next."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test"}
    accounts = [account(DEVICES) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 50)]
    states = tuple(replace(made.desired, commit=str(number)) for number, made in enumerate(accounts))
    for made in accounts:
        made.registry.before = lambda _operation, _parameters: time.sleep(LATENCY)
    with tempfile.TemporaryDirectory() as folder:
        for title in ("first look", "next look"):
            alone = _look(accounts[0], Path(folder) / "alone.sqlite")

            def look(desired: DesiredState) -> float:
                number = states.index(desired)
                return _look(accounts[number], Path(folder) / f"{number}.sqlite")

            began, worked = time.perf_counter(), time.process_time()
            took, failures = each_fleet(states, look)
            whole, worked = time.perf_counter() - began, time.process_time() - worked
            if failures:
                raise SystemExit(str(failures[0]))
            print(
                f"{title}: one fleet alone {alone:.1f} s, {len(took)} side by side {whole:.1f} s "
                f"({worked:.1f} s of the processor), one after another about {alone * len(took):.0f} s",
                flush=True,
            )


def _look(made: Account, path: Path) -> float:
    began = time.perf_counter()
    session = AwsSession(made.desired.fleet, ActAs.READER, quota_factor=1e9, new_session=made.registry.new_session)
    with Inventory(path) as inventory:
        refresh(session, inventory, made.desired, NOW)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
