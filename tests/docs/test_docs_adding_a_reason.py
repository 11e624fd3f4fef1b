"""The guide to a new reason is followed, block by block, in a copy of the code: three files, and it works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEFORE = {  # each block of the guide, by its first words: the file, and what it is written in front of
    "max_validity: timedelta": ("reconcile/values/policy.py", "\n\nclass Reason(StrEnum)"),
    "VALIDITY_EXCEEDED": ("reconcile/values/policy.py", "    # blocked\n"),
    "max_validity: Annotated": ("desired/models.py", "\n\nclass WindowSpec(_Model)"),
    "def validity_exceeded": ("reconcile/checks/demands.py", "\n\nDEMANDS: tuple"),
}
TRIED = """
import json
from datetime import UTC, datetime, timedelta
from controller.desired import DocumentFile, Snapshot, load_snapshot
from controller.reconcile.checks import Governance, assess
from controller.reconcile.values import *
now, day = datetime(2026, 11, 23, 12, tzinfo=UTC), timedelta(days=1)
kinds = {
    "Fleet": {"account": "123456789012", "region": "eu-west-1"},
    "RotationPolicy": {"thingGroup": "line-a", "certificate": {"maxValidity": "400d"}},
}
documents = [
    {"apiVersion": "certfleet/v1", "kind": kind, "metadata": {"name": "plant"}, "spec": spec}
    for kind, spec in kinds.items()
]
file = DocumentFile("plant/fleet.yaml", "plant/fleet.yaml", "\\n---\\n".join(map(json.dumps, documents)).encode())
[desired] = load_snapshot(Snapshot("plant", (file,)), now=now)
for name, days in (("short", 300), ("long", 3000)):
    made = Certificate(
        "a" * 64, CertificateStatus.ACTIVE, now - day, "ECDSA-P256", authority="aws-iot",
        not_before=now - day, not_after=now + days * day,
    )
    device = Device(name, ("line-a",), (Attachment(made, AttachmentType.EXCLUSIVE),))
    found = assess(device, Governance(desired, FleetState(now), now)).findings
    print(name, *(f"{one.reason}: {one.reason.meaning} {one.message}" for one in found))
"""


def test_a_reason_that_is_added_by_the_guide_rotates_what_departs_from_its_field(tmp_path):
    for package in ("controller", "protocol"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    guide = (ROOT / "docs" / "adding-a-reason.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert {path for path, _ in BEFORE.values()} == {
        path.removeprefix("controller/") for path in re.findall(r"^## \d\. .*`(controller/.*)`$", guide, re.MULTILINE)
    }
    for start, (path, mark) in BEFORE.items():
        [block] = [block for block in blocks if block.lstrip().startswith(start)]
        file = tmp_path / "controller" / path
        text = file.read_text()
        assert text.count(mark) == 1
        file.write_text(text.replace(mark, f"{block}{mark}"))
    file = tmp_path / "controller" / "reconcile/checks/demands.py"
    file.write_text(re.sub(r"(DEMANDS: .* = \()", r"\1validity_exceeded, ", file.read_text()))
    ran = subprocess.run([sys.executable, "-c", TRIED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    short, long = ran.stdout.splitlines()
    assert short == "short"
    assert long == (
        "long ValidityExceeded: The certificate is valid for longer than the policy's maxValidity allows. "
        "the certificate is valid for 3,001 days, the policy allows 400 days"
    )
