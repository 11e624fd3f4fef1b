"""AWS calls of a first look, of the next one an hour later and of one a day later, beside a plain loop over boto3.

The registry is in memory, behind botocore's ``before-send`` event: real clients, hooks, parsers and
the real inventory, but no network and no rate limits, so the seconds are this machine's work alone.
``a day later`` lists the whole account once; the shapes and the floor are those of ``tests/fleet/fleet_shapes.py``.

    python benchmarks/refresh.py [--large] [--only-large] [--by-name]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fleet"))

from fleet_shapes import LARGE, NOW, SHAPES, Account, plain_loop

from controller.fleet import ActAs, AwsSession, Inventory, refresh

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TITLES = ("shape", "plain loop", "floor", "cold", "of floor", "next", "an hour later", "a day later", "cpu s")


def look(made: Account, inventory: Inventory, after: timedelta) -> Counter[str]:
    """The calls of one look, by name."""
    session = AwsSession(made.desired.fleet, ActAs.READER, quota_factor=1e9, new_session=made.registry.new_session)
    refresh(session, inventory, made.desired, NOW + after)
    return session.calls


def measure(name: str, made: Account, *, by_name: bool) -> None:
    """Print one row: a first look, what changes then, and three more."""
    plain = plain_loop(made)
    with tempfile.TemporaryDirectory() as folder, Inventory(Path(folder) / "inventory.sqlite") as inventory:
        began = time.process_time()
        cold = look(made, inventory, 0 * HOUR)
        made.changes()
        later = [look(made, inventory, after) for after in (HOUR, 2 * HOUR, DAY + 3 * HOUR)]
        seconds = time.process_time() - began
    counts = [calls.total() for calls in later]
    row = (plain, made.floor, cold.total(), f"{cold.total() / made.floor:.2f}", *counts, f"{seconds:.0f}")
    print(f"| {name} | " + " | ".join(f"{one:,}" if isinstance(one, int) else one for one in row) + " |", flush=True)
    for calls in (cold, *later) if by_name else ():
        print(f"    {dict(calls.most_common())}", flush=True)


def main() -> None:
    """All shapes, as a table in Markdown."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test"}
    print("| " + " | ".join(TITLES) + " |\n|" + "---|" * len(TITLES), flush=True)
    only_large = "--only-large" in sys.argv
    shapes = ({} if only_large else SHAPES) | (LARGE if only_large or "--large" in sys.argv else {})
    for name, make in shapes.items():
        measure(name, make(1), by_name="--by-name" in sys.argv)


if __name__ == "__main__":
    main()
