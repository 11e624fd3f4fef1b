"""Seconds of processor time and peak memory of assess + schedule + plan over synthetic fleets.

    python benchmarks/assess_plan.py             1,000, 10,000 and 100,000 devices
    python benchmarks/assess_plan.py --million   1,000,000 as well
    python benchmarks/assess_plan.py --year      also simulates a year of 100,000 devices
    python benchmarks/assess_plan.py --oldest N  certificates up to N days old (183; due at 162 to 180)

A fleet that is rotated on time holds almost no certificate that is due; the default is one whose loop
has been away for some days, with about one device in fifteen to rotate. Drift costs most of the time,
so ``--oldest 216`` (one in five) shows what an emergency takes.

Devices are made while they are read, as the inventory streams them; making them is measured alone and
taken off. Each size runs in a process of its own, so that peak memory is its own. Limits to compare
with: 100,000 devices in 3 s and 300 MB; 1,000,000 in 15 s and 1 GB; a year of 100,000 devices in 60 s.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing import get_context

from controller.reconcile.checks import assess_fleet
from controller.reconcile.outlook import Luck, simulate
from controller.reconcile.planning import make_plan
from controller.reconcile.values import (
    Attachment,
    AttachmentType,
    Certificate,
    CertificateAuthority,
    CertificateRule,
    CertificateStatus,
    DesiredState,
    Device,
    Fleet,
    FleetState,
    Policy,
    Rollout,
    Schedule,
    Source,
    WaveSize,
    Window,
)
from protocol.algorithms import KeyType

NOW = datetime(2026, 11, 23, 3, tzinfo=UTC)
SOURCE = Source("policies.yaml", 1)
ENDLESS = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
OLDEST = 183  # days
GROUPS = ("line-a", "line-b", "line-c")


def desired_state() -> DesiredState:
    """Three policies with windows and jitter."""
    policies = tuple(
        Policy(
            name=group,
            thing_group=group,
            source=SOURCE,
            certificate=CertificateRule(
                max_age=timedelta(days=180), renew_before=timedelta(days=30), key_type=KeyType.ECDSA_P256
            ),
            schedule=Schedule(10, (Window("0 2 * * *", "Europe/London", timedelta(hours=4)),)),
            rollout=Rollout(waves=(WaveSize(100, is_percent=True),), max_in_flight=1_000_000),
        )
        for group in GROUPS
    )
    authority = CertificateAuthority("aws-iot")
    return DesiredState(Fleet("bench", "123456789012", "eu-west-1", SOURCE), {"aws-iot": authority}, policies)


def devices(number: int, oldest: int = OLDEST) -> Iterator[Device]:
    """A fleet whose certificates are up to so many days old, evenly."""
    kinds = (AttachmentType.EXCLUSIVE, CertificateStatus.ACTIVE, KeyType.ECDSA_P256.value)
    groups = tuple((group,) for group in GROUPS)
    for index in range(number):
        issued = NOW - timedelta(seconds=(index * 7919 * 613) % (oldest * 86_400))
        certificate = Certificate(
            certificate_id=sha256(b"%d" % index).hexdigest(),
            status=kinds[1],
            created_at=issued,
            key_type=kinds[2],
            authority="aws-iot",
            not_before=issued,
            not_after=ENDLESS,
        )
        yield Device(f"gateway-{index:07d}", groups[index % 3], (Attachment(certificate, kinds[0]),))


def measure(number: int, oldest: int) -> tuple[float, float, int, int]:
    """Seconds to make the devices, seconds to assess and plan them, devices in the plan, peak memory in MB."""
    gc.set_threshold(100_000, 50, 100)  # as the command line does
    start = time.process_time()
    for _device in devices(number, oldest):
        pass
    made = time.process_time() - start
    desired = desired_state()
    state = FleetState(NOW, dict.fromkeys(GROUPS, number // 3))
    start = time.process_time()
    plan = make_plan(assess_fleet(devices(number, oldest), desired, state, NOW), desired, state, NOW)
    spent = time.process_time() - start - made
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return made, spent, sum(len(job.devices) for job in plan.jobs), peak


def measure_year(number: int) -> tuple[float, str]:
    """Seconds to simulate a year, and what came of it."""
    gc.set_threshold(100_000, 50, 100)
    desired = desired_state()
    start = time.process_time()
    result = simulate(
        devices(number),
        desired,
        FleetState(NOW),
        NOW,
        span=timedelta(days=365),
        luck=Luck(1, 0.02, 0.1),
    )
    return (
        time.process_time() - start,
        f"{result.rotations:,} rotations in {result.jobs:,} jobs, {result.failures:,} failures",
    )


def main() -> int:
    """Print one line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", action="store_true", help="also 1,000,000 devices")
    parser.add_argument("--year", action="store_true", help="also simulate a year of 100,000 devices")
    parser.add_argument("--oldest", type=int, default=OLDEST, metavar="DAYS", help="age of the oldest certificate")
    arguments = parser.parse_args()
    sizes = [1_000, 10_000, 100_000] + ([1_000_000] if arguments.million else [])
    print(f"{'devices':>10} {'due':>6} {'assess+plan s':>14} {'µs/device':>10} {'planned':>9} {'peak MB':>8}")
    context = get_context("spawn")
    for size in sizes:
        with context.Pool(1) as pool:
            _made, spent, planned, peak = pool.apply(measure, (size, arguments.oldest))
        due = f"{100 * planned / size:.1f}%"
        print(f"{size:>10,} {due:>6} {spent:>14.2f} {1e6 * spent / size:>10.1f} {planned:>9,} {peak:>8,}")
    if arguments.year:
        spent, text = measure_year(100_000)
        print(f"a year of 100,000 devices: {spent:.1f} s, {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
