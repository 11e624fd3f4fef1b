"""Shapes of accounts, and what a look at them costs at least: for the benchmark in full size, for the tests in small.

The floor of a first look is what cannot be asked in fewer calls: a page of every 250 things of a governed group,
of 250 jobs and executions, and for each governed thing what it holds and what that says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from fleet_registry import ACCOUNT, EPOCH, REGION, Registry, full

from controller.reconcile.values import CertificateAuthority, DesiredState, Fleet, Policy, Source
from controller.reconcile.values.job_ids import make_job_id

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE = 250
SOURCE = Source("shape", 1)
OURS = '{"operation":"ROTATE_CERTIFICATE","policy":"line"}'


@dataclass
class Account:
    """One account as a shape makes it; ``floor`` counts the calls of a first look."""

    registry: Registry
    groups: list[str]
    floor: int
    changes: Callable[[], None] = field(default=lambda: None)  # before the second look

    @property
    def desired(self) -> DesiredState:
        fleet = Fleet("shape", ACCOUNT, REGION, SOURCE)
        policies = tuple(Policy(group, group, SOURCE) for group in self.groups)
        return DesiredState(fleet, {"aws-iot": CertificateAuthority("aws-iot")}, policies)


def pages(number: int) -> int:
    return max(1, ceil(number / PAGE))


def account(governed: int, foreign: int = 0, groups: int = 1) -> Account:
    """So many governed things, in each of the groups, among foreign ones."""
    registry = Registry(foreign=foreign)
    things = [f"device-{number:07}" for number in range(governed)]
    names = [f"group-{number}" for number in range(groups)]
    for name in names:
        registry.groups[name] = list(things)
    for number, thing in enumerate(things):
        registry.add_certificate(f"{number:07x}f", thing, created_at=EPOCH + timedelta(seconds=number))
    registry.templates["AWSLabsCertificateRotator"] = {"document": "{}", "description": "certfleet"}
    return Account(registry, names, groups * pages(governed) + 2 * governed + 3)


def overlapping(scale: int) -> Account:
    return account(2_000 // scale, groups=10)


def replaced(scale: int) -> Account:
    made = account(2_000 // scale)

    def change() -> None:
        for number in range(400 // scale):
            registry, thing = made.registry, f"device-{number:07}"
            registry.detach(f"{number:07x}f", thing)
            registry.certificates[full(f"{number:07x}f")]["status"] = "INACTIVE"
            registry.add_certificate(f"{number:07x}e", thing, created_at=NOW + timedelta(minutes=5))

    made.changes = change
    return made


def foreign_jobs(scale: int) -> Account:
    made = account(1_000 // scale)
    for number in range(5_000 // scale):
        made.registry.add_job(f"firmware-{number:05}", {"a": "QUEUED"}, document="{}")
    made.floor += pages(5_000 // scale) - 1
    return made


def own_jobs(scale: int) -> Account:
    """Half of them within the look back."""
    made = account(400 // scale)
    for number in range(500 // scale):
        ended = NOW - timedelta(days=90 * number / (500 // scale), hours=2)
        made.registry.add_job(
            make_job_id("line", 1, f"{number:016x}"),
            {f"device-{number % (400 // scale):07}": "SUCCEEDED"},
            document=OURS,
            status="COMPLETED",
            created_at=ended,
            completedAt=ended.timestamp(),
        )
    made.floor += pages(500 // scale) - 1 + 2 * (250 // scale)
    return made


def rotated(scale: int, *, governed: int = 2_000, is_recorded: bool = False) -> Account:
    """A wave of our own: a fifth rotates between the looks. The backend keeps what it issued if ``is_recorded``."""
    made = account(governed // scale)
    names = [f"device-{number:07}" for number in range(governed // scale // 5)]
    job_id = make_job_id("line", 1, "0" * 16)
    made.registry.add_job(job_id, dict.fromkeys(names, "QUEUED"), document=OURS, created_at=NOW - timedelta(minutes=1))

    def change() -> None:
        made.registry.jobs[job_id]["executions"] = dict.fromkeys(names, "SUCCEEDED")
        made.registry.variables = {"TABLE_NAME": "rotations"}
        for thing in names:
            made.registry.rotate(thing, job_id, NOW + timedelta(minutes=5))
            if not is_recorded:
                del made.registry.records[thing]["certificatePem"]

    made.changes = change
    made.floor += 1 + pages(len(names))
    return made


def offline(scale: int) -> Account:
    """All wait in a standing job, and nobody is connected; the account's things are indexed."""
    made = account(10_000 // scale)
    names = made.registry.groups["group-0"]
    made.registry.is_indexed = True
    gone = {"connected": False, "timestamp": (NOW - timedelta(days=3)).timestamp()}
    made.registry.presence = dict.fromkeys(names, gone)
    made.registry.add_job(make_job_id("line", 1, "0" * 16), dict.fromkeys(names, "QUEUED"), document=OURS)
    made.floor += 1 + pages(len(names)) + ceil(len(names) / 100)
    return made


SHAPES: dict[str, Callable[[int], Account]] = {
    "4,000 governed = account": lambda scale: account(4_000 // scale),
    "200 governed of 20,000": lambda scale: account(200, 19_800 // scale),
    "100 governed of 10,000": lambda scale: account(100, 9_900 // scale),
    "3,000 governed of 53,000": lambda scale: account(3_000 // scale, 50_000 // scale),
    "10 wholly overlapping groups, 2,000 things": overlapping,
    "a fifth of 2,000 replaced, the old ones INACTIVE": replaced,
    "a fifth of 2,000 rotated by us, by a backend of before": rotated,
    "a fifth of 2,000 rotated by us": lambda scale: rotated(scale, is_recorded=True),
    "5,000 foreign jobs in progress, 1,000 governed": foreign_jobs,
    "500 own jobs in 90 days, 400 governed": own_jobs,
    "10,000 offline in a standing job": offline,
}
LARGE: dict[str, Callable[[int], Account]] = {
    "3,000 governed of 1,000,000": lambda scale: account(3_000 // scale, 997_000 // scale),
    "100,000 governed = account": lambda scale: account(100_000 // scale),
    "a fifth of 100,000 rotated by us": lambda scale: rotated(scale, governed=100_000, is_recorded=True),
}


def plain_loop(made: Account) -> int:
    """What a script would do: list each group, ask each thing, describe what it holds. Returns how many calls."""
    client: Any = made.registry.new_session().create_client("iot", region_name=REGION)
    calls = 0
    for group in made.groups:
        token: dict[str, str] = {}
        while True:
            answer = client.list_things_in_thing_group(thingGroupName=group, recursive=True, maxResults=PAGE, **token)
            calls += 1
            for thing in answer["things"] if group == made.groups[0] else ():
                held = client.list_thing_principals_v2(thingName=thing, maxResults=PAGE)["thingPrincipalObjects"]
                certificates = [one["principal"].rpartition("/")[2] for one in held if ":cert/" in one["principal"]]
                for certificate_id in certificates:
                    client.describe_certificate(certificateId=certificate_id)
                calls += 1 + len(certificates)
            if "nextToken" not in answer:
                break
            token = {"nextToken": answer["nextToken"]}
    return calls
