"""One plant, and the repository that says how its devices must be."""

from __future__ import annotations

from pathlib import Path

from shared_plant import Plant
from shared_repository import Repository

DOCUMENTS = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec:
  account: "123456789012"
  region: eu-west-1
  guardrails: {maxChangePercent: 90, minExisting: 4}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec:
  thingGroup: line-a
  certificate: {maxAge: 90d, keyType: ECDSA-P256, csrSigningAlgorithm: ECDSA-WITH-SHA256, authority: aws-iot}
  rollout: {waves: ["1", "100%"], soak: 0s, maximumPerMinute: 1000}
"""


class Factory(Plant, Repository):
    """Commands are run in its repository."""

    def __init__(self, folder: Path) -> None:
        Plant.__init__(self)
        Repository.__init__(self, folder / "repository")
        self.write(DOCUMENTS)
        self.commit()
