"""Certfleet and the public Certificate Rotator in one sandbox, in every pairing of component and backend.

    git clone https://github.com/awslabs/aws-greengrass-labs-certificate-rotator stock
    (cd stock/backend && npm ci)
    .venv/bin/python -m tools.stock_trial stock

The stock solution runs as it is: the template is what its own CDK application makes of it, its handlers run as its
functions, its recipe as a deployment brings it. Its needs on a device are there: ``sudo``, and the packages that
its install step asks pip for. A fleet moves from its component to ours and back, half by half and while jobs run, on
either backend, with slow authorities, lost answers and late functions; after each step every certificate is counted.
Ends with 1 if a device is without a working credential, or off line. Takes about twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3

from backend import synth
from protocol.names import COMPONENT_NAME
from sandbox.aws.functions import Invoke
from sandbox.demo.proof import certificate_id
from sandbox.edge import Component
from sandbox.edge.faults import Fault, drop
from sandbox.edge.nucleus.recipe import Variant, load_recipe
from sandbox.fleet_file import SandboxFleet
from sandbox.stack import Stack, load
from sandbox.stack.invocations import InvocationFault, late
from sandbox.world import World, build_component

STOCK, OURS = "AWSLabsCertificateRotator", "Certfleet"
CA = {
    "PcaCaId": "5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001",
    "PcaSigningAlgorithm": "SHA256WITHECDSA",
    "PcaValidityInDays": "30",
}
DOCUMENT = '{"operation":"ROTATE_CERTIFICATE"}'
IN_PROGRESS_MINUTES = 5  # as the stock job template has it
ENDED = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED"})
WORKERS = 64  # functions at a time


@dataclass(frozen=True, slots=True)
class Step:
    """A job for the whole fleet, and what is done to it meanwhile."""

    backend: str
    deploy: str = ""  # to one half, as soon as a third of the devices have begun: stock or ours
    group: str = ""
    authority: int = 0  # seconds that it takes to issue
    is_lossy: bool = False  # the first answers to create are lost, and as many to commit: to one device in twelve
    is_late: bool = False  # every function

    def __str__(self) -> str:
        troubles = (
            f"authority {self.authority} s" if self.authority else "",
            "answers lost" if self.is_lossy else "",
            "functions late" if self.is_late else "",
            f"{self.group} moves to {self.deploy}" if self.deploy else "",
        )
        return ", ".join(filter(None, troubles)) or "kind"


STEPS = (
    Step("stock"),
    Step("stock", deploy="ours", group="a", is_lossy=True),
    Step("stock", is_late=True, is_lossy=True),
    Step("stock", authority=45),
    Step("stock", deploy="ours", group="b", authority=12),
    Step("stock", authority=12, is_lossy=True, is_late=True),
    Step("ours", authority=12, is_lossy=True, is_late=True),
    Step("ours", deploy="stock", group="a", is_lossy=True),
    Step("ours", is_late=True, is_lossy=True),
    Step("ours", authority=45),
    Step("ours", deploy="stock", group="b", authority=12),
    Step("ours", is_lossy=True),
    Step("stock"),
)


AGAINST_ADVICE = (
    Step("stock", deploy="ours", group="a"),
    Step("stock", deploy="ours", group="b"),
    Step("stock"),
    Step("stock", deploy="stock", group="a"),
)
"""The order that docs/migration.md warns of: the stock component replaces ours, and the stock backend hears."""


def main() -> int:
    """Run every step, print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="of the stock solution, with its backend's Node packages")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--against-advice", action="store_true", help="do what docs/migration.md warns of, instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(options.checkout.resolve(), Path(folder), options.devices)
        try:
            is_sound = min(map(trial.take, AGAINST_ADVICE if options.against_advice else STEPS))  # every one is taken
        finally:
            trial.stop()
    return 0 if is_sound else 1


class Trial:
    """Both solutions in one account."""

    def __init__(self, checkout: Path, folder: Path, devices: int) -> None:
        tell("seconds | backend | a, b run | meanwhile | rotations | certificates | devices")
        self._began = time.monotonic()
        os.environ["AWS_DEFAULT_REGION"] = "eu-west-1"
        ours = folder / "certfleet.json"
        ours.write_text(
            synth.as_text(synth.synthesise({"StackName": OURS, "Replaces": STOCK, "RulesEnabled": "false", **CA}))
        )
        stock, code = stock_backend(checkout, folder / "stock")
        self.components = {"stock": stock_component(checkout, folder / "component")}
        self.runs = dict.fromkeys("ab", "stock")
        self.world = world = World(
            fleet_of(devices), folder / "world", template=ours, component=self.components["stock"], workers=WORKERS
        )
        self.world.start()
        self.components["ours"] = build_component(folder / "ours", "2.0.0")
        self.world.deployment_agent.offer(self.components["ours"])
        os.environ.update(self.world.environment())
        self.iot, self.greengrass = self.world.client("iot"), self.world.client("greengrassv2")
        stack = Stack(stock, world.cloud, world.bus, world.clock, STOCK, code=code, workers=WORKERS)
        stack.start()
        self.stacks = {"stock": stack, "ours": world.stack}
        self.hears = "stock"

    def stop(self) -> None:
        """End everything."""
        self.stacks["stock"].stop()
        self.world.stop()

    def take(self, step: Step) -> bool:
        """Return whether every device has a working credential afterwards."""
        self._hear(step.backend)
        runs = ", ".join(self.runs.values())
        self._trouble(step)
        job = f"job-{time.monotonic_ns()}"
        things = [self.iot.describe_thing(thingName=name)["thingArn"] for name in self.world.devices]
        self.iot.create_job(
            jobId=job, targets=things, document=DOCUMENT,
            timeoutConfig={"inProgressTimeoutInMinutes": IN_PROGRESS_MINUTES},
        )  # fmt: skip
        if step.deploy:
            wait(lambda: sum(n for s, n in self._outcomes(job).items() if s != "QUEUED") >= len(things) // 3, 300)
            self._deploy(step.deploy, step.group)
        if not wait(lambda: sum(n for s, n in self._outcomes(job).items() if s in ENDED) == len(things), 600):
            self.iot.cancel_job(jobId=job, force=True)
        outcomes = self._outcomes(job)
        self._heal()
        certificates, devices = self._count()
        seconds = time.monotonic() - self._began
        told = (
            f"{seconds:.0f}", step.backend, runs, str(step), counted(outcomes), counted(certificates), counted(devices),
        )  # fmt: skip
        tell(" | ".join(told))
        self._tidy()
        return set(devices) == {"connected"}

    def _hear(self, backend: str) -> None:
        """Turn this backend's rules on, and the other's off."""
        if backend == self.hears:
            return
        for name, turn in ((self.hears, self.iot.disable_topic_rule), (backend, self.iot.enable_topic_rule)):
            prefix = {"stock": STOCK, "ours": OURS}[name]
            for rule in self.iot.list_topic_rules()["rules"]:
                if rule["ruleName"].startswith(prefix):
                    turn(ruleName=rule["ruleName"])
        self.hears = backend

    def _trouble(self, step: Step) -> None:
        self.world.cloud.private_cas.issuing_takes = timedelta(seconds=step.authority)
        for operation in ("create", "commit") if step.is_lossy else ():
            times = max(1, len(self.world.devices) // 12)
            self.world.faults.add(Fault(f"awslabs/things/+/certificate/{operation}/accepted", drop(), times=times))
        for function, seconds in (("CreateCertificate", 12), ("CommitCertificate", 5), ("JobExecutionTerminal", 15)):
            if step.is_late:
                self.stacks[step.backend].unkindness.add(InvocationFault(function, late(seconds)))

    def _heal(self) -> None:
        """End the faults, and deliver what was on its way."""
        self.world.faults.clear()
        for stack in self.stacks.values():
            stack.unkindness.clear()
            stack.drain(120)

    def _deploy(self, kind: str, group: str) -> None:
        """Deploy a version of the component to one half, as docs/migration.md has it."""
        version = load_recipe(self.components[kind].recipe, Variant.CLASSIC).version
        arn = self.iot.describe_thing_group(thingGroupName=group)["thingGroupArn"]
        made = self.greengrass.create_deployment(
            targetArn=arn, components={COMPONENT_NAME: {"componentVersion": version}}
        )
        wait(lambda: set(self._outcomes(made["iotJobId"])) <= ENDED, 600)
        self.runs[group] = kind

    def _outcomes(self, job: str) -> Counter[str]:
        pages = self.iot.get_paginator("list_job_executions_for_job").paginate(jobId=job)
        return Counter(one["jobExecutionSummary"]["status"] for page in pages for one in page["executionSummaries"])

    def _held(self, thing: str) -> list[str]:
        found = self.iot.list_thing_principals_v2(thingName=thing)["thingPrincipalObjects"]
        return [one["principal"] for one in found]

    def _count(self) -> tuple[Counter[str], Counter[str]]:
        """Return how many certificates the things have, and how many of the devices work with theirs."""
        certificates, devices = Counter[str](), Counter[str]()
        attached = 0
        for thing, device in self.world.devices.items():
            held = self._held(thing)
            attached += len(held)
            certificates[["none", "one", "two", "three"][len(held)]] += 1
            devices["connected" if device.wait_connected(150) and self._works(thing, held) else f"LOST {thing}"] += 1
        pages = self.iot.get_paginator("list_certificates").paginate()
        certificates["nobody's"] = sum(len(page["certificates"]) for page in pages) - attached
        return +certificates, devices

    def _works(self, thing: str, held: Iterable[str]) -> bool:
        in_place = self._in_place(thing)
        return any(arn.endswith(in_place) for arn in held)

    def _in_place(self, thing: str) -> str:
        credential = self.world.credential_of(thing)
        return certificate_id(credential) if credential else "none"

    def _tidy(self) -> None:
        """Do what a notification asks a person for: remove the second certificate, which the device does not use."""
        for thing in self.world.devices:
            held, in_place = self._held(thing), self._in_place(thing)
            for arn in held if len(held) > 1 else []:
                if not arn.endswith(in_place):
                    self.iot.detach_thing_principal(thingName=thing, principal=arn)
                    self.iot.update_certificate(certificateId=arn.rpartition("/")[2], newStatus="INACTIVE")
                    self.iot.delete_certificate(certificateId=arn.rpartition("/")[2], forceDelete=True)


def fleet_of(devices: int) -> SandboxFleet:
    """Two groups of devices that all run a component as a process of its own."""
    halves = {"a": devices // 2, "b": devices - devices // 2}
    arn = f"arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/{CA['PcaCaId']}"
    return SandboxFleet.model_validate({
        "backend": {"stackName": OURS},
        "authorities": [{"name": "private", "arn": arn}],
        "groups": [{"name": name} for name in halves],
        "devices": [
            {"prefix": f"{name}-", "count": count, "groups": [name], "age": "120d", "processes": count}
            for name, count in halves.items()
        ],
    })  # fmt: skip


def stock_component(checkout: Path, folder: Path) -> Component:
    """Return the stock component as its own build makes it, and the packages that its install step asks for."""
    artifacts, packages = folder / "artifacts", folder / "packages"
    folder.mkdir()
    checked("cp", "-r", str(checkout / "artifacts"), str(checkout / "gdk-config.json"), str(folder))
    requirements = str(artifacts / "requirements.txt")
    checked(sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), "-r", requirements, "pip")
    version = json.loads((folder / "gdk-config.json").read_text())["component"][COMPONENT_NAME]["version"]
    text = (checkout / "recipe.yaml").read_text()
    recipe = folder / "recipe.yaml"
    recipe.write_text(text.replace("COMPONENT_NAME", COMPONENT_NAME).replace("COMPONENT_VERSION", version))
    environment = {"PYTHONPATH": str(packages), "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return Component(recipe, artifacts, environment, run_install=True)


def stock_backend(checkout: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Invoke]]:
    """Return the stock stack's template, and its handlers by name."""
    context = [word for name, value in CA.items() for word in ("-c", f"{name}={value}")]
    checked(
        "npx", "cdk", "synth", "--quiet", "--no-version-reporting", "--output", str(folder), *context,
        folder=checkout / "backend",
    )  # fmt: skip
    template = load(folder / f"{STOCK}.template.json")
    lock, client = threading.Lock(), boto3.client

    def one_at_a_time(*arguments: Any, **options: Any) -> Any:  # as in a function's own process
        with lock:
            return client(*arguments, **options)

    boto3.client = one_at_a_time
    return template, dict(handlers(template, folder))


def handlers(template: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Invoke]]:
    """Yield each Python function of a template, from its asset."""
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Lambda::Function" and properties["Runtime"].startswith("python"):
            sys.path.insert(0, str(folder / f"asset.{properties['Code']['S3Key'].removesuffix('.zip')}"))
            module, _, function = properties["Handler"].rpartition(".")
            yield properties["Handler"], invoked(getattr(importlib.import_module(module), function))


def invoked(handler: Callable[[Mapping[str, Any], object], Any]) -> Invoke:
    """Return a handler that reads its environment from this process'."""

    def invoke(event: Mapping[str, Any], variables: Mapping[str, str]) -> Any:
        os.environ.update(variables)  # those of one stack agree
        return handler(event, None)

    return invoke


def wait(is_so: Callable[[], bool], seconds: float) -> bool:
    """Return whether something has become so within this time."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(1)
    return True


def counted(counter: Mapping[str, int]) -> str:
    """Return the counts in words, the highest first."""
    return ", ".join(f"{number} {name}" for name, number in sorted(counter.items(), key=lambda item: -item[1]))


def checked(*command: str, folder: Path | None = None) -> None:
    """Run a program that must succeed."""
    subprocess.run(command, cwd=folder, check=True)  # noqa: S603  # own words


def tell(line: str) -> None:
    """Print a line; what the stock functions print goes elsewhere."""
    print(line, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = nowhere
        sys.exit(main())
