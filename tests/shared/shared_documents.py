"""Documents of the desired state, as text; several may stand one after another in one file."""

from __future__ import annotations

import json
from typing import Any

P256 = {"keyType": "ECDSA-P256", "csrSigningAlgorithm": "ECDSA-WITH-SHA256", "authority": "aws-iot"}


def document(kind: str, name: str, **spec: Any) -> str:
    """One document."""
    return f"---\napiVersion: certfleet/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {json.dumps(spec)}\n"


def fleet(name: str = "factory", **spec: Any) -> str:
    """A Fleet of the account that every sandbox here is."""
    return document("Fleet", name, account="123456789012", region="eu-west-1", **spec)


def policy(group: str, max_age: str = "90d", *, demands: dict[str, str] | None = None, **spec: Any) -> str:
    """A RotationPolicy of the group's name; of P-256 by AWS IoT, unless it demands otherwise."""
    certificate = {"maxAge": max_age, **(P256 if demands is None else demands)}
    return document("RotationPolicy", group, thingGroup=group, certificate=certificate, **spec)


# For the name of a thing.
QUARANTINE = """\
---
apiVersion: certfleet/v1
kind: Quarantine
metadata: {name: theft}
spec: {devices: [%s], owner: security, reason: a laptop was stolen, since: 2026-01-01}
"""
