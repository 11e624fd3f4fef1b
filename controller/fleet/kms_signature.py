"""Bundle signatures by a key in AWS KMS: an asymmetric one, for ECC_NIST_P256 signing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controller.fleet.aws import ActAs, AwsSession
from controller.fleet.aws_errors import FAILURES, explain
from controller.reconcile.values import Fleet

ALGORITHM = "ECDSA_SHA_256"


def region_of(key_id: str) -> str | None:
    """Return the region that a key's ARN names; None for an id or alias alone."""
    parts = key_id.split(":")
    return parts[3] if parts[0] == "arn" and len(parts) > 3 else None  # noqa: PLR2004 (arn:aws:kms:REGION:…)


def callers_key(key_id: str, fleet: Fleet) -> KmsKey:
    """Return a key, to use with the caller's own credentials; one without a region is looked for in the fleet's."""
    session = AwsSession(replace(fleet, region=region_of(key_id) or fleet.region), ActAs.CALLER)
    return KmsKey(session.client("kms"), key_id)


class KmsKey:
    """Signs and verifies with one KMS key; ``client`` is a boto3 ``kms`` client of the key's region.

    CI needs only ``kms:Sign`` on the key, and the reconcile run only ``kms:Verify``.
    Raises AwsCallError if KMS gives no answer.
    """

    def __init__(self, client: Any, key_id: str) -> None:
        self._client = client
        self._key_id = key_id

    @property
    def key_id(self) -> str:
        """The key's id, ARN or alias."""
        return self._key_id

    def sign(self, digest: bytes) -> bytes:
        """Return the signature over a SHA-256 digest, in DER."""
        return bytes(self._call("Sign", digest)["Signature"])

    def verify(self, digest: bytes, signature: bytes) -> bool:
        """Return whether this key made the signature over the digest."""
        if not signature:  # KMS takes no empty one
            return False
        try:
            return bool(self._call("Verify", digest, Signature=signature)["SignatureValid"])
        except self._client.exceptions.KMSInvalidSignatureException:
            return False

    def _call(self, operation: str, digest: bytes, **more: Any) -> dict[str, Any]:
        call = getattr(self._client, operation.lower())
        try:
            answer: dict[str, Any] = call(
                KeyId=self._key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm=ALGORITHM, **more
            )
        except self._client.exceptions.KMSInvalidSignatureException:
            raise
        except FAILURES as error:
            raise explain(error, "kms", operation, f"region {self._client.meta.region_name}") from error
        return answer
