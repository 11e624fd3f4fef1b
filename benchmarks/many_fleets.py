"""Many large fleets: the state machine over all of them, beside one process with threads.

The definition is that of the checked-in template, run by the sandbox's interpreter; functions, bucket and bundle are
the real ones. Each fleet is an account whose registry is computed on demand. Its quotas, and 50 ms for each call, pass
in virtual time, of which every function has its own; so that what a function computes can be told from what others do,
one computes at a time. A function's seconds are what it waits and, one after the other, what it computes at the share
of a core that its memory gives it. The machine's wall time is those seconds, laid out on as many lanes as it reads
fleets at once; that of the one process is its slowest fleet, or what it computes altogether if that is more.

    python benchmarks/many_fleets.py [--fleets N] [--cold N] [--devices N] [--at-once N]
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "shared"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fleet"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "aws_lambda"))

from aws_lambda_machines import Machines
from conftest import BUCKET, REGION, Site
from fleet_registry import ACCOUNT, AWSResponse, Registry, _error, _json, _Lazy, full
from shared_virtual_time import VirtualTime

from controller.commands.pipeline import each_fleet
from controller.desired import WorkingTree, load
from controller.fleet import ActAs, AwsSession, Inventory, refresh
from controller.lambda_reconcile.budget import TimeBudget
from controller.reconcile.checks import assess_fleet
from controller.reconcile.planning import make_plan
from controller.reconcile.values import DesiredState

LATENCY = 0.05  # seconds a call
TIMEOUT, MEMORY = 900.0, 1024  # of the reconcile function, as the template has them
A_CORE = 1769  # MB of memory, to which Lambda gives a whole one
GB_SECOND, REQUEST, TRANSITION = 0.0000133334, 0.0000002, 0.000025  # USD, list prices of us-east-1, arm64
PUT, GET = 0.000005, 0.0000004  # USD a request at S3
TRANSITIONS, OF_A_CHILD = 6, 4  # of a run; of each child besides: what the definition goes through
NAME = "fleet-{number:03}"
FLEET = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {{name: {name}}}
spec: {{account: "{account}", region: {region}}}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: line-a}}
spec:
  thingGroup: line-a
  certificate: {{maxAge: 180d, keyType: ECDSA-P256, authority: aws-iot}}
"""


class OnDemand(Registry):
    """So many things, each with one certificate, of which nothing is kept: what is asked is computed."""

    devices = 0

    def _iot_ListThingsInThingGroup(self, url: str, p: dict[str, Any]) -> AWSResponse:  # noqa: N802 (as AWS's)
        return self._page(url, p, "things", _Lazy(range(self.devices), _thing))

    def _iot_ListThings(self, url: str, p: dict[str, Any]) -> AWSResponse:  # noqa: N802
        things = _Lazy(range(self.devices), lambda number: {"thingName": _thing(number)})
        return self._page(url, p, "things", things)

    def _iot_ListThingPrincipalsV2(self, url: str, p: dict[str, Any]) -> AWSResponse:  # noqa: N802
        number = int(p["thingName"].rpartition("-")[2])
        principal = f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{_certificate(number)}"
        entry = {"principal": principal, "thingPrincipalType": "EXCLUSIVE_THING"}
        return self._page(url, p, "thingPrincipalObjects", [entry])

    def _iot_DescribeCertificate(self, url: str, p: dict[str, Any]) -> AWSResponse:  # noqa: N802
        described = self._described(p["certificateId"])
        if described is None:
            return _error(url, "iot", "ResourceNotFoundException", 404, "no such certificate")
        return _json(url, {"certificateDescription": described})

    def _iot_ListCertificates(self, url: str, p: dict[str, Any]) -> AWSResponse:  # noqa: N802
        def listed(number: int) -> dict[str, Any]:
            described = self._described(_certificate(self.devices - 1 - number)) or {}
            return {key: value for key, value in described.items() if key != "certificatePem"}

        page = {"maxResults": p.get("pageSize"), "nextToken": p.get("marker")}
        return self._page(url, page, "certificates", _Lazy(range(self.devices), listed), token_field="nextMarker")

    def _iot_ListThingGroups(self, url: str, p: dict[str, Any]) -> AWSResponse:  # noqa: N802
        return self._page(url, p, "thingGroups", [{"groupName": name} for name in self.groups])

    def _iot_CreateThingGroup(self, url: str, p: dict[str, Any]) -> AWSResponse:  # noqa: N802
        arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/{p['thingGroupName']}"
        return _json(url, {"thingGroupName": p["thingGroupName"], "thingGroupArn": arn})

    def _described(self, certificate_id: str) -> dict[str, Any] | None:
        number = int(certificate_id[:7], 16)
        if number >= self.devices:
            return None
        created = MADE + number
        return {
            "certificateId": certificate_id,
            "certificateArn": f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/{certificate_id}",
            "status": "ACTIVE",
            "creationDate": created,
            "certificateMode": "DEFAULT",
            "certificatePem": self.aws_pem(),
        }


MADE = (datetime.now(UTC) - timedelta(days=20)).timestamp()


def _thing(number: int) -> str:
    return f"device-{number:07}"


def _certificate(number: int) -> str:
    return full(f"{number:07x}f")


@dataclass
class Function:
    """One invocation: its task, and where its seconds went."""

    fleet: str | None
    clock: VirtualTime = field(default_factory=VirtualTime)
    computed: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def seconds(self) -> float:
        """As Lambda would bill it."""
        return self.clock.monotonic() + self.computed * A_CORE / MEMORY


class Cloud:
    """The registries of all fleets; every session of a fleet speaks to its own, in the time of who makes it."""

    def __init__(self, names: list[str], devices: int, patch: pytest.MonkeyPatch) -> None:
        self._here = threading.local()
        self._registries = {name: OnDemand(groups={"line-a": []}, account=account_of(name)) for name in names}
        for registry in self._registries.values():
            registry.devices = devices
            registry.templates["AWSLabsCertificateRotator"] = {"document": "{}", "description": "certfleet"}
        made, budget = AwsSession.__init__, TimeBudget.__init__

        def session(of: AwsSession, fleet: Any, act_as: ActAs, **options: Any) -> None:
            function = self.function
            registry = self._registries[fleet.name]
            registry.before = partial(self._call, function)
            options |= {"monotonic": function.clock.monotonic, "new_session": registry.new_session}
            made(of, fleet, act_as, **{"sleep": function.clock.sleep} | options)

        def bounded(of: TimeBudget, left: Any, reserve: float) -> None:
            budget(of, left, reserve, self.function.clock.sleep)

        patch.setattr(AwsSession, "__init__", session)
        patch.setattr(TimeBudget, "__init__", bounded)

    @property
    def function(self) -> Function:
        """The invocation that this thread is."""
        found: Function = self._here.function
        return found

    def begin(self, fleet: str | None) -> Function:
        """Be an invocation from now on."""
        self._here.function = Function(fleet)
        return self.function

    @staticmethod
    def _call(function: Function, operation: str, _parameters: Any) -> None:
        function.calls[operation] += 1
        function.clock.monotonic()
        function.clock.sleep(LATENCY)


class Metered(Machines):
    """The machines; of every function it is kept what it took. One computes at a time."""

    def __init__(self, site: Site, patch: pytest.MonkeyPatch, cloud: Cloud) -> None:
        self.functions: list[Function] = []
        self._cloud, self._one = cloud, threading.Lock()
        super().__init__(site, patch)

    def _work(self, event: dict[str, Any], environment: Any) -> Any:
        with self._one:
            function = self._cloud.begin(event.get("fleet"))
            self.functions.append(function)
            self.milliseconds[event.get("fleet")] = [lambda: 1000 * (TIMEOUT - function.clock.monotonic())]
            began = time.process_time()
            try:
                return super()._work(event, environment)
            finally:
                function.computed = time.process_time() - began


def account_of(name: str) -> str:
    """Of a fleet."""
    return f"{100_000_000_000 + int(name.rpartition('-')[2])}"


def main() -> None:
    """Print both ways."""
    parser = argparse.ArgumentParser()
    for name, default in {"--fleets": 200, "--cold": 5, "--devices": 5_000, "--at-once": 20}.items():
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        measure(Path(place), patch, given)


def measure(place: Path, patch: pytest.MonkeyPatch, given: argparse.Namespace) -> None:
    """A first run that only the cold fleets are in; what one of them left makes the others warm; then all."""
    names = [NAME.format(number=number) for number in range(given.fleets + given.cold)]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "sandbox")
    site = Site(place / "site")
    settings = {"BUCKET": BUCKET, "REPOSITORY": "github.com/acme/fleet", "TOPIC_ARN": site.topic}
    for name, value in (site.cloud.environment() | {f"CERTFLEET_{k}": v for k, v in settings.items()}).items():
        patch.setenv(name, value)
    (site.documents.desired / "factory.yaml").unlink()
    documents = {name: FLEET.format(name=name, account=account_of(name), region=REGION) for name in names}
    for name, text in documents.items():
        site.documents.write(text, f"{name}/fleet.yaml")
    cloud = Cloud(names, given.devices, patch)
    try:
        desired = load(WorkingTree(site.documents.desired), now=datetime.now(UTC))
        warm = _warm(place, cloud, desired[0], site, names[: given.fleets])
        of = f"{given.fleets} warm fleets and {given.cold} cold ones, {given.devices:,} devices each"
        print(f"{of}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
        site.add_all()
        site.publish()
        _by_machine(Metered(site, patch, cloud), given)
        _by_threads(place / "threads", cloud, desired, dict(zip(names, warm, strict=False)))
    finally:
        site.close()


def _warm(place: Path, cloud: Cloud, desired: DesiredState, site: Site, names: list[str]) -> list[Path]:
    """Read one fleet, and let every other warm one have what that left, an hour ago, in the bucket too."""
    first = place / "first.sqlite"
    cloud.begin(desired.fleet.name)
    session = AwsSession(desired.fleet, ActAs.READER)
    for hours in (2, 1):  # the second look has listed the account
        with Inventory(first) as inventory:
            refresh(session, inventory, desired, datetime.now(UTC).replace(microsecond=0) - timedelta(hours=hours))
            inventory.database.empty()
    found = []
    for name in names:
        path = place / "warm" / f"{account_of(name)}-{REGION}.sqlite"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(first, path)
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE binding SET account = ?", (account_of(name),))
        connection.close()
        with path.open("rb") as body:
            site.s3.put_object(Bucket=BUCKET, Key=f"reconcile/inventory/{path.name}", Body=body)
        found.append(path)
    print(f"an inventory: {first.stat().st_size / 1e6:.1f} MB")
    return found


def _by_machine(machines: Metered, given: argparse.Namespace) -> None:
    began = time.monotonic()
    run = machines.run(seconds=3600)
    took = time.monotonic() - began
    if run.status != "SUCCEEDED":
        raise SystemExit(machines.text[-2000:])
    functions = machines.functions
    seconds = defaultdict(float)
    for function in functions:
        seconds[function.fleet] += function.seconds
    lanes = [0.0] * given.at_once
    for fleet in filter(None, dict.fromkeys(function.fleet for function in functions)):
        lanes[lanes.index(min(lanes))] += seconds[fleet]
    billed = sum(seconds.values())
    children = sum(function.fleet is not None for function in functions)
    price = {
        "functions": billed * MEMORY / 1024 * GB_SECOND + len(functions) * REQUEST,
        "transitions": (TRANSITIONS + OF_A_CHILD * children) * TRANSITION,
        "bucket": children * (3 * PUT + 4 * GET),
    }
    told = ", ".join(f"{name} {usd:.4f}" for name, usd in price.items())
    calls = sum(function.calls.total() for function in functions)
    computed = sum(function.computed for function in functions)
    print(
        f"state machine, {given.at_once} at once: wall {max(lanes) + seconds[None]:,.0f} s, {calls:,} calls, "
        f"{len(functions)} functions of {billed:,.0f} s together ({computed:,.0f} s of a core), the slowest fleet "
        f"{max(seconds.values()):,.0f} s; {sum(price.values()):.4f} USD ({told}) [{took:,.0f} s here]"
    )


def _by_threads(folder: Path, cloud: Cloud, fleets: tuple[DesiredState, ...], warm: dict[str, Path]) -> None:
    folder.mkdir()
    functions: list[Function] = []

    def look(desired: DesiredState) -> int:
        name = desired.fleet.name
        function = cloud.begin(name)
        functions.append(function)
        path = folder / f"{name}.sqlite"
        if name in warm:
            shutil.copy(warm[name], path)
        now = datetime.now(UTC).replace(microsecond=0)
        session = AwsSession(desired.fleet, ActAs.READER)
        with Inventory(path) as inventory:
            state = refresh(session, inventory, desired, now)
            plan = make_plan(assess_fleet(inventory.devices(desired, state), desired, state, now), desired, state, now)
        return len(plan.refusals)

    began, worked = time.monotonic(), time.process_time()
    _found, failures = each_fleet(fleets, look)
    computed, took = time.process_time() - worked, time.monotonic() - began
    if failures:
        raise SystemExit(str(failures[0]))
    slowest = max(function.clock.monotonic() for function in functions)
    calls = sum(function.calls.total() for function in functions)
    print(
        f"one process, 64 at once: wall {max(computed, slowest):,.0f} s (the slowest fleet waits {slowest:,.0f} s, "
        f"all compute {computed:,.0f} s), {calls:,} calls [{took:,.0f} s here]"
    )


if __name__ == "__main__":
    main()
