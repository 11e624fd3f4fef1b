"""How many devices a sandbox carries: ``python benchmarks/sandbox_fleet.py [--devices N] [--rotate N] [--key TYPE]``.

``--devices``: a fleet of virtual devices from nothing to all connected. ``--rotate``: that many of them in one job, all
announced at once; how many succeed, and how many in a second. Processor seconds are of the whole process, all threads.
"""

from __future__ import annotations

import argparse
import collections
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protocol.algorithms import KeyType, default_csr_algorithm
from protocol.job_document import JobDocument
from sandbox.fleet_file import SandboxFleet
from sandbox.world import World

GROUP = "all"
ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED"}


def fleet(devices: int, key: KeyType) -> SandboxFleet:
    """Devices with P-256 keys, which cost nothing to make, unless they are to rotate."""
    entry = {"prefix": "gw-", "count": devices, "groups": [GROUP], "age": "400d", "keyType": key.value}
    return SandboxFleet.model_validate({"groups": [{"name": GROUP}], "devices": [entry]})


def spent() -> float:
    """Processor seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def megabytes() -> float:
    """The most memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def outcomes(world: World, job: str) -> collections.Counter[str]:
    """Executions by status."""
    pages = world.client("iot").get_paginator("list_job_executions_for_job").paginate(jobId=job)
    return collections.Counter(e["jobExecutionSummary"]["status"] for page in pages for e in page["executionSummaries"])


def rotate(world: World, key: KeyType, devices: int) -> None:
    """One job for everybody."""
    group = world.client("iot").describe_thing_group(thingGroupName=GROUP)["thingGroupArn"]
    document = JobDocument(key, default_csr_algorithm(key)).to_json()
    began, processor = time.monotonic(), spent()
    world.client("iot").create_job(jobId="all", targets=[group], document=document)
    found = outcomes(world, "all")
    while sum(number for status, number in found.items() if status in ENDED) < devices:
        time.sleep(2)
        found = outcomes(world, "all")
    seconds = time.monotonic() - began
    print(
        f"rotated to {key.value}: {dict(found)}; {seconds:.1f} s, {devices / seconds:.1f} a second, "
        f"{(spent() - processor) / devices * 1000:.0f} ms of processor each"
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=0)
    parser.add_argument("--rotate", type=int, default=0)
    parser.add_argument("--key", type=KeyType, default=KeyType.RSA_2048)
    arguments = parser.parse_args()
    devices = arguments.devices or arguments.rotate or 400
    with tempfile.TemporaryDirectory() as folder:
        began, processor = time.monotonic(), spent()
        world = World(fleet(devices, KeyType.ECDSA_P256), Path(folder))
        try:
            world.start()
            late = world.wait_until_online(600)
            print(
                f"{devices} devices, {len(late)} of them late: {time.monotonic() - began:.1f} s, "
                f"{spent() - processor:.1f} s of processor, {megabytes():.0f} MB"
            )
            if arguments.rotate:
                rotate(world, arguments.key, devices)
        finally:
            world.stop()


if __name__ == "__main__":
    main()
