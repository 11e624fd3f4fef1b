"""A deployed backend's description of itself, so that whoever asks it for certificates knows what they will be.

It stands as JSON in one parameter of AWS Systems Manager (``BackendNames.deployment_parameter``). A backend of
before publishes nothing; fields that a newer version may add are ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Dict, FrozenSet, Mapping, Optional

from .errors import ProtocolError

FORMAT = 1
EXCLUSIVE, NON_EXCLUSIVE = "EXCLUSIVE_THING", "NON_EXCLUSIVE_THING"
EXCLUSIVELY: FrozenSet[str] = frozenset({EXCLUSIVE})
MAX_BYTES = 8 * 1024  # of a parameter of Systems Manager, in its advanced tier


@dataclass(frozen=True)
class DeployedAuthority:
    """A private CA as the backend was deployed with it.

    ``template_arn`` is the ACM-PCA template that it issues by, empty for the CA's default; None if an earlier version
    of the backend left it out.
    """

    arn: str
    signing_algorithm: str
    validity: timedelta
    template_arn: Optional[str] = None


@dataclass(frozen=True)
class DeployedBackend:
    """One deployed backend: its version, the authorities that jobs may name, and the job fields it heeds.

    ``authorities`` are the private ones; ``aws-iot`` is always there. ``attachments`` are the types (as AWS IoT
    spells them) in which a certificate may be attached to its one thing to be rotated. ``heeds_quarantine``: it makes
    and removes nothing for a thing in quarantine.
    """

    version: str
    authorities: Mapping[str, DeployedAuthority] = field(default_factory=dict)
    job_document_fields: FrozenSet[str] = frozenset()
    attachments: FrozenSet[str] = EXCLUSIVELY
    heeds_quarantine: bool = False

    @property
    def splits(self) -> bool:
        """Whether it replaces a certificate that other things hold too, if a job asks for it."""
        return "sharedCertificate" in self.job_document_fields

    def to_json(self) -> str:
        """Return canonical JSON: equal deployments are equal text."""
        body: Dict[str, Any] = {
            "format": FORMAT,
            "version": self.version,
            "authorities": {name: _to_wire(authority) for name, authority in self.authorities.items()},
            "jobDocumentFields": sorted(self.job_document_fields),
            "attachments": sorted(self.attachments),
            "heedsQuarantine": self.heeds_quarantine,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"))


def parse_deployment(text: str) -> DeployedBackend:
    """Read what a backend published; raises ProtocolError if it is damaged or of a later format."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"it is not JSON: {error}") from None
    if not isinstance(body, Mapping) or body.get("format") != FORMAT:
        found = body.get("format") if isinstance(body, Mapping) else type(body).__name__
        raise ProtocolError(f"its format is {found!r}, this version reads {FORMAT}")
    authorities = body.get("authorities")
    names = body.get("jobDocumentFields")
    attachments = body.get("attachments", sorted(EXCLUSIVELY))  # a version of before does not say
    if not isinstance(authorities, Mapping) or not isinstance(names, list) or not isinstance(body.get("version"), str):
        raise ProtocolError("version, authorities or jobDocumentFields is missing")
    if not isinstance(attachments, list):
        raise ProtocolError(f"attachments is {attachments!r}, expected a list of types")
    return DeployedBackend(
        version=body["version"],
        authorities={str(name): _authority(str(name), found) for name, found in authorities.items()},
        job_document_fields=frozenset(str(name) for name in names),
        attachments=frozenset(str(name) for name in attachments),
        heeds_quarantine=body.get("heedsQuarantine") is True,
    )


def _to_wire(authority: DeployedAuthority) -> Dict[str, Any]:
    wire: Dict[str, Any] = {
        "arn": authority.arn,
        "signingAlgorithm": authority.signing_algorithm,
        "validitySeconds": int(authority.validity.total_seconds()),
    }
    return wire if authority.template_arn is None else {**wire, "templateArn": authority.template_arn}


def _authority(name: str, found: Any) -> DeployedAuthority:
    if isinstance(found, Mapping):
        arn, algorithm, seconds = (found.get(key) for key in ("arn", "signingAlgorithm", "validitySeconds"))
        template = found.get("templateArn")
        is_told = template is None or isinstance(template, str)
        if isinstance(arn, str) and isinstance(algorithm, str) and isinstance(seconds, int) and is_told:
            return DeployedAuthority(arn, algorithm, timedelta(seconds=seconds), template)
    raise ProtocolError(
        f"authority {name!r} is {found!r}, expected arn, signingAlgorithm, validitySeconds and at most templateArn"
    )
