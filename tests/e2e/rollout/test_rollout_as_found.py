"""A fleet as the field has it is put in order by the commands of docs/first-fleet.md, and looked at from outside.

Four of five certificates are attached non-exclusively, five of a hundred things share one in clones of 2 to 40, three
of a hundred hold two. Some things nobody governs, some need a person. Certificates come from three issuers.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shared_command import run_command

from controller.reconcile.values import AttachmentType
from protocol.names import COMPONENT_NAME
from sandbox.aws.greengrass.deployments import InstalledComponent
from sandbox.edge.in_process_host import InProcessHost
from sandbox.world import COMPONENT_VERSION

PAGE = Path(__file__).parents[3] / "docs" / "first-fleet.md"
ARN = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c00"
NEEDS_A_PERSON = {"NoCertificate": "nothing-", "Expired": "late-", "CertificateInactive": "shut-"}
WHO = {f"GIT_{who}_{what}": "o@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
DAYS_MOST = 12  # of daily runs until nothing is left


def clones(devices):
    """Sizes of the sets of clones: 2 to 40, five of a hundred devices altogether."""
    left, sizes = devices // 20, []
    for size in (2, 3, 40, 5, 12, 30, 8):
        if left >= size:
            sizes.append(size)
            left -= size
    return sizes or [2]


def fleet(devices):
    """The groups and devices of a fleet file."""
    two, order = max(1, devices * 3 // 100), devices * 12 // 100
    wide = devices - two - order - sum(clones(devices))
    shared = {"age": "400d", "keyType": "ECDSA-P256", "misfit": "SharedCertificate"}
    entries = [
        {"prefix": "wide-", "count": wide * 2 // 3, "age": {"from": "30d", "to": "900d"}, "misfit": "NotExclusive"},
        {"prefix": "plant-", "count": wide - wide * 2 // 3, "age": "90d", "lifetime": "365d", "authority": "plant-ca",
         "misfit": "NotExclusive"},
        {"prefix": "order-", "count": order, "age": "200d", "lifetime": "730d", "authority": "old-ca"},
        {"prefix": "two-", "count": two, "age": "300d", "misfit": "ExtraCertificate"},
        *({"prefix": f"clone{number}-", "count": size, **shared} for number, size in enumerate(clones(devices))),
        *({"prefix": prefix, "count": 1, "age": "100d", "lifetime": "90d" if misfit == "Expired" else None,
           "misfit": misfit} for misfit, prefix in NEEDS_A_PERSON.items()),
    ]  # fmt: skip
    for number, entry in enumerate(entries):
        entry |= {"groups": ["line-b" if number in {1, 4} else "line-a"], "keyType": "ECDSA-P256"}
    nobodys = {"prefix": "yard-", "count": max(1, devices // 50), "groups": [], "age": "50d", "keyType": "ECDSA-P256"}
    authorities = [{"name": f"{name}-ca", "arn": f"{ARN}{number}"} for number, name in ((1, "plant"), (2, "old"))]
    return {"groups": ["line-a", "line-b"], "devices": [*entries, nobodys], "authorities": authorities}


class Operator:
    """Follows the page at a shell, in the factory's repository."""

    def __init__(self, factory, monkeypatch):
        self.factory, self.world = factory, factory.world
        self.off_line, self.codes, self.told = Counter(), Counter(), {}
        monkeypatch.setattr(InProcessHost, "connect", self._refusals(InProcessHost.connect))
        monkeypatch.setattr(InProcessHost, "_lose", self._losses(InProcessHost._lose))

    def _refusals(self, connect):
        def connected(host, der, client_id, loop):
            found = connect(host, der, client_id, loop)
            if found is None:
                self.off_line[client_id, "refused"] += 1
            return found

        return connected

    def _losses(self, lose):
        def lost(host, connection):
            self.off_line[connection.client_id, "ended by the cloud"] += 1
            lose(host, connection)

        return lost

    def do(self, commands):
        """Run a block; 2 (there is something to do) and 3 (refused) are answers."""
        for line in commands.strip().splitlines():
            program, *arguments = shlex.split(line) if line.startswith("certfleet") else (line,)
            if arguments:
                os.environ["CERTFLEET_CLOCK_AHEAD"] = f"{self.factory.clock.ahead.total_seconds():.0f}"
                done = run_command(arguments, self.factory.repository)
                code, told = done.code, done.out + done.err
            else:
                shell = subprocess.run(["bash", "-c", program], cwd=self.factory.repository, env=os.environ | WHO,
                                       capture_output=True, text=True, check=False)  # fmt: skip
                code, told = shell.returncode, shell.stdout + shell.stderr
            self.codes[" ".join(line.split()[:2]), code] += 1
            assert code in {0, 2, 3}, f"{line}\n{told}"
            self.told[line] = told
            if line.startswith("sed"):
                self._reach_many_a_minute()
            assert self.world.stack.drain(900)

    def _reach_many_a_minute(self):
        for path in self.factory.desired.glob("*.yaml"):
            path.write_text(path.read_text().replace("  rollout:\n", "  rollout:\n    maximumPerMinute: 1000\n"))

    def pass_by(self, days):
        """Time goes on; what holds two certificates is restarted after a day, as every device is now and then."""
        if not days:
            return
        self.factory.advance(days=0.1)
        for name, device in self.world.devices.items():
            if name.startswith("two-") and days > 2:
                before = device.connections
                device.restart()
                assert device.wait_connected(60, connections=before + 1)
        assert self.world.stack.drain(900)
        self.factory.advance(days=days - 0.1)

    def follow(self):
        """The blocks of the page, in its order."""
        for when, commands in re.findall(r"(?:<!-- (.*?) -->\n)?```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
            days = re.fullmatch(r"(\d+) days later", when)
            self.pass_by(int(days[1]) if days else 1.1 if when else 0)
            self.do(commands)
            for _ in range(DAYS_MOST if when == "each day, until nothing is left to rotate" else 0):
                if not self.is_anything_left():
                    break
                self.pass_by(1.1)
                self.do(commands)

    def is_anything_left(self):
        """Whether a device is to rotate, now or later."""
        [fleet] = self.factory.run("drift", "--format", "json").json["fleets"]
        outcomes = [{one["outcome"] for one in device["findings"]} for device in fleet["devices"]]
        return any("blocked" not in found for found in outcomes)


def out_of_order(factory):
    """Every governed device that a person need not see, with what is wrong about it as seen from outside."""
    pages = factory.iot.get_paginator("list_certificates").paginate(pageSize=250)
    status = {one["certificateId"]: one["status"] for page in pages for one in page["certificates"]}
    names = [name for name in factory.world.devices if not name.startswith((*NEEDS_A_PERSON.values(), "yard-"))]
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(names, pool.map(lambda name: _wrong(factory, name, status), names), strict=True))
    return {name: wrong for name, wrong in found.items() if wrong}, len(names)


def _wrong(factory, name, status):
    held = factory.iot.list_thing_principals_v2(thingName=name)["thingPrincipalObjects"]
    if [one["thingPrincipalType"] for one in held] != [AttachmentType.EXCLUSIVE]:
        return f"holds {held}"
    certificate_id = held[0]["principal"].rpartition("/")[2]
    things = factory.iot.list_principal_things_v2(principal=held[0]["principal"])["principalThingObjects"]
    if [one["thingName"] for one in things] != [name] or status[certificate_id] != "ACTIVE":
        return f"its certificate is {status[certificate_id]}, of {things}"
    if not factory.iot.get_thing_connectivity_data(thingName=name)["connected"]:
        return "is not connected"
    return _by_openssl(factory.world.folder_of(name), certificate_id)


def _by_openssl(folder, certificate_id):
    """What is wrong with the files on the device, if they are not this certificate and its key."""

    def openssl(*arguments):
        return subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout

    found, _, public_key = openssl(
        "x509", "-in", "thingCert.crt", "-noout", "-fingerprint", "-sha256", "-pubkey"
    ).partition("\n")
    if found.partition("=")[2].replace(":", "").lower() != certificate_id:
        return f"has another certificate than the registry: {found}"
    return (
        "" if openssl("pkey", "-in", "privKey.key", "-pubout") == public_key else "has another key than its certificate"
    )


@pytest.mark.parametrize(
    "devices", [30, pytest.param(200, marks=pytest.mark.soak), pytest.param(2_000, marks=pytest.mark.soak)]
)
def test_a_fleet_as_the_field_has_it_is_put_in_order_by_the_page(build, monkeypatch, devices):
    spec = fleet(devices)
    groups, entries = spec.pop("groups"), spec.pop("devices")
    factory = build(groups, entries, **spec)
    for name in factory.world.devices:  # those of this process have no nucleus that would say so
        factory.world.cloud.deployments.report_device(name, [InstalledComponent(COMPONENT_NAME, COMPONENT_VERSION)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(factory.folder))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    operator = Operator(factory, monkeypatch)
    operator.follow()

    wrong, number = out_of_order(factory)
    assert wrong == {}
    told = factory.run("drift", "--format", "json").json["fleets"][0]
    blocked = Counter(
        finding["reason"] for one in told["devices"] for finding in one["findings"] if finding["outcome"] == "blocked"
    )
    assert blocked == dict.fromkeys(NEEDS_A_PERSON, 1)
    assert {one["device"] for one in told["devices"]} == {f"{prefix}001" for prefix in NEEDS_A_PERSON.values()}
    assert operator.off_line == {}, "no connection was refused, and none was ended but by its device's own restart"
    print(f"{number} devices in order; commands by exit code: {dict(operator.codes)}")  # noqa: T201
