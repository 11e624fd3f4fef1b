"""What a rotation asks of AWS, and how many a minute the quotas allow; with ``--zips`` the size of the functions' code.

The three functions over the account in memory of the backend's own tests. The quotas are AWS's defaults, all of them:
looks of the controller take their share of the same (docs/decisions/0129-why-commit-asks-what-the-thing-holds.md).

    python benchmarks/backend_rotation.py [--zips]
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "backend"))

from backend_aws import VARIABLES, FakeAws
from backend_device import Device

from backend import build
from backend.functions import services
from controller.fleet.quotas import QUOTAS


def rotation() -> Counter[str]:
    """Return the calls of a rotation that goes well, by API."""
    aws = FakeAws()
    with services.running(services.build(dict(VARIABLES), aws.client, lambda: aws.now)):
        device = Device(aws)
        answers = [device.create()["status"]]
        aws.tick()
        answers.append(device.commit()["status"])
        aws.tick()
        answers.append(device.ended("SUCCEEDED")["status"])
    assert answers == ["accepted", "accepted", "rotated"]
    return Counter(aws.calls)


def main() -> None:
    """Print a table in Markdown."""
    counts = rotation()
    print("| call | a rotation | quota a second | rotations a minute |\n|---|---|---|---|")
    least = float("inf")
    for call, number in sorted(counts.items()):
        service, _, api = call.partition(":")
        quota = QUOTAS.get(api) if service == "iot" else None
        if quota is not None:
            least = min(least, 60 * quota.per_second / number)
        bounds = (" ", " ") if quota is None else (f"{quota.per_second:g}", f"{60 * quota.per_second / number:.0f}")
        print(f"| {call} | {number} | {' | '.join(bounds)} |")
    of_iot = sum(number for call, number in counts.items() if call.startswith("iot"))
    print(f"{of_iot} calls to AWS IoT and {counts.total() - of_iot} others; {least:.0f} rotations a minute")
    for make in (build.build, build.build_reconcile) if "--zips" in sys.argv else ():
        path = make()
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
