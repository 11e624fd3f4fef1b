"""API calls of a cold and a warm refresh, by name, for fleets of several sizes.

The registry is in memory, behind botocore's ``before-send`` event: real clients, hooks, parsers and
the real inventory, but no network and no rate limits, so the seconds are this machine's work alone.
At the quotas, a cold refresh takes about 1/8 second for each certificate, once ever.

    python benchmarks/refresh.py [SIZE ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fleet"))

from fleet_registry import ACCOUNT, EPOCH, REGION, Registry, full

from controller.fleet import ActAs, AwsSession, Inventory, refresh
from controller.reconcile.values import CertificateAuthority, DesiredState, Fleet, Policy, Source

SIZES = (1_000, 10_000, 100_000)
GROUPS = 3
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def build(size: int) -> tuple[Registry, DesiredState]:
    """A fleet of ``size`` devices in three groups, each with one certificate."""
    registry = Registry()
    for number in range(size):
        thing = f"device-{number:07}"
        registry.groups.setdefault(f"group-{number % GROUPS}", []).append(thing)
        registry.add_certificate(full(f"{number:07x}f"), thing, created_at=EPOCH + timedelta(seconds=number))
    registry.templates["AWSLabsCertificateRotator"] = {"document": "{}", "description": "certfleet"}
    source = Source("benchmark", 1)
    policies = tuple(Policy(group, group, source) for group in sorted(registry.groups))
    fleet = Fleet("benchmark", ACCOUNT, REGION, source)
    return registry, DesiredState(fleet, {"aws-iot": CertificateAuthority("aws-iot")}, policies)


def measure(size: int) -> None:
    """Print calls by name, total and seconds of a cold and a warm refresh, and the streaming of devices."""
    registry, desired = build(size)
    with tempfile.TemporaryDirectory() as folder, Inventory(Path(folder) / "inventory.sqlite") as inventory:
        for kind in ("cold", "warm"):
            session = AwsSession(desired.fleet, ActAs.READER, quota_factor=1e9, new_session=registry.new_session)
            registry.seen.clear()
            began = time.perf_counter()
            state = refresh(session, inventory, desired, NOW)
            report(f"{size:,} devices, {kind}", session.calls, time.perf_counter() - began)
        began = time.perf_counter()
        count = sum(1 for _ in inventory.devices(desired, state))
        print(f"{count:,} devices streamed in {time.perf_counter() - began:.2f} s")
        tracemalloc.start()
        for _ in inventory.devices(desired, state):
            pass
        print(f"  in at most {tracemalloc.get_traced_memory()[1] / 1e3:,.0f} kB of Python objects\n")
        tracemalloc.stop()


def report(title: str, calls: Counter[str], seconds: float) -> None:
    """One block: a line for each API, most called first."""
    print(f"{title}: {calls.total():,} calls, {seconds:.1f} s")
    for name, count in calls.most_common():
        print(f"  {name:<28}{count:>9,}")
    print(flush=True)


if __name__ == "__main__":
    os.environ |= {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "test"}
    for each in [int(argument) for argument in sys.argv[1:]] or SIZES:
        measure(each)
