"""What a version leaves behind: an inventory, a plan, a bundle, what its backend publishes, and the world they are of.

``python tests/cli/cli_kept.py FOLDER`` writes them with the version that runs, or with that of another checkout which
PYTHONPATH names. A release keeps its own below tests/cli/kept, so that the next one is held to reading them.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import shared_plant
from cryptography.hazmat.primitives.asymmetric import ec
from shared_plant import DAY, Plant
from shared_repository import Repository

from protocol.deployment import DeployedAuthority, Deployment
from sandbox.clock import SandboxClock

AT = datetime(2026, 11, 30, 6, 43, 51, tzinfo=UTC)
KEPT = Path(__file__).with_name("kept")
CA_ARN = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
DOCUMENTS = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec: {account: "123456789012", region: eu-west-1, guardrails: {maxChangePercent: 90, minExisting: 4}}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec:
  thingGroup: line-a
  certificate: {maxAge: 90d, keyType: ECDSA-P256, csrSigningAlgorithm: ECDSA-WITH-SHA256, authority: aws-iot}
  schedule: {jitterPercent: 0}
  rollout: {waves: ["1", "100%"], soak: 0s, maximumPerMinute: 1000}
"""
TO = ("--repository", "github.com/acme/fleet", "--output")
AGES = {"old-1": 120, "old-2": 110, "young-1": 10, "young-2": 20}


class Kept:
    """A plant and a repository as they were at AT, with the devices' certificates of then."""

    def __init__(self, folder: Path, certificates: dict[str, str]) -> None:
        os.environ |= {"AWS_ACCESS_KEY_ID": "sandbox", "AWS_SECRET_ACCESS_KEY": "sandbox"}
        clock = SandboxClock(offset=AT - datetime.now(UTC))
        before, shared_plant.SandboxClock = shared_plant.SandboxClock, lambda: clock
        try:
            self.plant = Plant()
        finally:
            shared_plant.SandboxClock = before
        self.repository = Repository(folder / "repository")
        self.repository.write(DOCUMENTS)
        self.repository.commit(date=AT - timedelta(hours=1))
        self.certificates = {}
        seed = self.plant.cloud.seed
        for name, age in AGES.items():
            seed.thing(name, ["line-a"])
            if name in certificates:
                made = seed.registered(certificates[name], created_at=AT - age * DAY)
            else:
                key = ec.generate_private_key(ec.SECP256R1())
                made = seed.certificate(key.public_key(), not_before=AT - age * DAY)
            self.certificates[name] = made.pem
            self.plant.iot.attach_thing_principal(
                thingName=name, principal=made.arn, thingPrincipalType="EXCLUSIVE_THING"
            )
        os.environ |= self.plant.cloud.environment() | {
            "CERTFLEET_CLOCK_AHEAD": str((AT - datetime.now(UTC)).total_seconds()),
            "CERTFLEET_QUOTA_FACTOR": "1000",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self.inventory = folder / "cache" / "certfleet" / "123456789012-eu-west-1.sqlite"


def keep(folder: Path) -> None:
    """Write what the version that runs leaves behind."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place:
        kept = Kept(Path(place), {})
        told = kept.repository.run("plan", "--plan", str(folder / "plan.json"))
        assert told.code == 2, told.err
        bundled = kept.repository.run("bundle", "--ref", "HEAD", *TO, str(folder / "desired-state.bundle"))
        assert bundled.code == 0, bundled.err
        with (
            kept.inventory.open("rb") as source,
            gzip.GzipFile(folder / "inventory.gz", "wb", mtime=0) as target,
        ):
            shutil.copyfileobj(source, target)
        authority = DeployedAuthority(CA_ARN, "SHA256WITHECDSA", timedelta(days=365))
        published = Deployment("0.1.0", {"plant-ca": authority}, frozenset({"authority", "keyAlgorithm"}))
        (folder / "published.json").write_text(published.to_json() + "\n", encoding="utf-8")
        world = {"certificates": kept.certificates, "commit": json.loads((folder / "plan.json").read_text())["commit"]}
        (folder / "world.json").write_text(json.dumps(world, indent=1) + "\n", encoding="utf-8")
        kept.plant.close()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
