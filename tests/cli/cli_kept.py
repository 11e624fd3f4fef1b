"""What a version leaves behind: inventory, plan, bundle, backend's table, record of what is governed, and their world.

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
from boto3.dynamodb.types import TypeSerializer
from cryptography.hazmat.primitives.asymmetric import ec
from shared_plant import DAY, Plant
from shared_repository import Repository

from backend.functions.rotation import Phase, Rotation
from backend.functions.table import RotationTable
from backend.functions.verdicts import Ending
from protocol.deployment import DeployedAuthority
from protocol.watch import Watch
from sandbox.clock import SandboxClock

try:
    from backend.functions.budget import BudgetRefusal, CertificateBudget
    from backend.functions.rotation import RotationOutcome
    from protocol.deployment import DeployedBackend
except ImportError:  # before each class had a name of its own
    from backend.functions.budget import Budget as CertificateBudget
    from backend.functions.budget import Refusal as BudgetRefusal
    from backend.functions.rotation import Outcome as RotationOutcome
    from protocol.deployment import Deployment as DeployedBackend

try:
    from protocol.quarantine import Quarantined
    from protocol.rotation_record import RefusalRecord
except ImportError:
    IS_EARLY = True  # the first version that is kept had neither yet, nor shared certificates
else:
    IS_EARLY = False

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
TABLE, RECORD = "Rotations", "cf-governed"
JOB = "cf-line-a-w1-0123456789abcdef"
BEFORE, BEGUN, WATCHED, SHARED = (
    digit * 64 for digit in "abcd"
)  # certificates that are of no thing any more, or not yet


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
        self.dynamodb = self.plant.client("dynamodb")
        names = ("thingName", "record", "phase", "startedAt")
        keys = [
            {"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE") * 2, strict=True)
        ]
        self.dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=keys[:2],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
            GlobalSecondaryIndexes=[
                {"IndexName": "phase", "KeySchema": keys[2:], "Projection": {"ProjectionType": "ALL"}}
            ],
        )

    def certificate_id(self, name: str) -> str:
        """Of the certificate that the device holds."""
        held = self.plant.iot.list_thing_principals(thingName=name)["principals"]
        return str(held[0]).rpartition("/")[2]

    def governed(self) -> dict[str, str]:
        """The record of what is governed, as ``apply`` has written it."""
        about = self.plant.iot.describe_thing_group(thingGroupName=RECORD)
        found: dict[str, str] = about["thingGroupProperties"]["attributePayload"]["attributes"]
        return found


def fill(kept: Kept, commit: str) -> None:
    """Write to the table what the backend of this version writes, and healing: one record of each kind."""
    table = RotationTable(kept.dynamodb, TABLE)
    done = _begun("old-2", BEFORE, kept.certificate_id("old-2"), AT - 110 * DAY, commit)
    done = done.step(AT - 110 * DAY, "commit", "committed", committed_at=(AT - 110 * DAY).isoformat())
    table.finish(_ended(done, RotationOutcome.ROTATED, AT - 109 * DAY))
    back = _begun("young-1", kept.certificate_id("young-1"), "e" * 64, AT - 3 * DAY, commit)
    table.finish(_ended(back, RotationOutcome.ROLLED_BACK, AT - 2 * DAY))
    table.save(_begun("old-1", kept.certificate_id("old-1"), BEGUN, AT - timedelta(hours=1), commit))
    budget = CertificateBudget("old-1").request(JOB, AT).certificate()
    table.save_budget(budget.refused(BudgetRefusal(JOB, "IssueFailed", "it says no"), AT)[0])
    table.save_watch(Watch(WATCHED, "old-2", AT - 20 * DAY).seen("old-2", AT - 19 * DAY))
    if not IS_EARLY:
        table.note_refusal(RefusalRecord("young-1", JOB, "IssueFailed", "it says no", "FAILED", AT - 2 * DAY))
        table.note_shared(SHARED, ("young-1", "young-2"), AT - DAY)
        cut_off = Quarantined("young-2", AT - DAY, deactivated={kept.certificate_id("young-2"): AT - DAY})
        item = {name: TypeSerializer().serialize(value) for name, value in cut_off.to_record().items()}
        kept.dynamodb.put_item(TableName=TABLE, Item=item)


def _begun(thing: str, old: str, new: str, at: datetime, commit: str) -> Rotation:
    begun = Rotation(
        thing, JOB, "d" * 64, old, "arn:aws:iot:eu-west-1:123456789012:cert/", "aws-iot", at.isoformat(),
        at.isoformat(), key_type="ECDSA-P256", policy="line-a", commit=commit,
    )  # fmt: skip
    return begun.step(at, "create", f"issued {new}", new_certificate_id=new, phase=Phase.CREATED)


def _ended(rotation: Rotation, outcome: RotationOutcome, at: datetime) -> Rotation:
    return rotation.ended(Ending.SUCCEEDED, at).step(at, "terminal", "removed", phase=Phase.FINISHED, outcome=outcome)


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
        published = DeployedBackend("0.1.0", {"plant-ca": authority}, frozenset({"authority", "keyAlgorithm"}))
        (folder / "published.json").write_text(published.to_json() + "\n", encoding="utf-8")
        commit = json.loads((folder / "plan.json").read_text())["commit"]
        fill(kept, commit)
        items = sorted(kept.dynamodb.scan(TableName=TABLE)["Items"], key=json.dumps)
        (folder / "table.json").write_text(json.dumps(items, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        told = kept.repository.run("apply", "--plan", str(folder / "plan.json"), "--wait", "--timeout", "60s")
        assert told.code == 0, told.err
        world = {"certificates": kept.certificates, "commit": commit, "governed": kept.governed()}
        (folder / "world.json").write_text(json.dumps(world, indent=1) + "\n", encoding="utf-8")
        kept.plant.close()


if __name__ == "__main__":
    keep(Path(sys.argv[1]).absolute())
