"""Evidence as a document that shows when it was changed: a digest of each row, one of the whole, and a signature. Pure.

The digest of the whole covers everything but itself and the signature, so that nothing can be added, taken away or
moved. A forger who changes a row and its digest changes the whole; who renews that too needs the key.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from controller.errors import CertfleetError

ALGORITHM = "ECDSA_SHA_256"
SEAL, DIGEST, SIGNATURE = "seal", "digest", "signature"
KIND = "Evidence"


class EvidenceError(CertfleetError):
    """Evidence that cannot be accepted: it was changed, is not signed, or is not evidence at all."""


def seal(document: Mapping[str, Any], sign: Callable[[bytes], bytes] | None, key_id: str | None) -> dict[str, Any]:
    """Put the seal on a document.

    Args:
        document: JSON values, with ``fleets`` that have ``rows``.
        sign: Signs a SHA-256 digest (DER); None leaves the document unsigned, and it shows that.
        key_id: The key's id, ARN or alias; for information only, never for verification.

    Returns:
        The document with a digest in each row, and ``seal``.
    """
    fleets = [
        {**fleet, "rows": [{**row, DIGEST: _digest(row)} for row in fleet["rows"]]} for fleet in document["fleets"]
    ]
    whole = {**document, "fleets": fleets}
    if sign is None:
        made: dict[str, Any] = {"is_signed": False}
        return {**whole, SEAL: {**made, DIGEST: _digest({**whole, SEAL: made})}}
    made = {"is_signed": True, "algorithm": ALGORITHM, "key_id": key_id}
    digest = _digest({**whole, SEAL: made})
    signature = base64.b64encode(sign(bytes.fromhex(digest))).decode()
    return {**whole, SEAL: {**made, DIGEST: digest, SIGNATURE: signature}}


def check(text: str, verify: Callable[[bytes, bytes], bool] | None, name: str) -> Mapping[str, Any]:
    """Accept a sealed document, or report what is wrong with it.

    Args:
        text: The document, as JSON.
        verify: Whether a signature (second) over a digest (first) is of the key that the reader trusts; None if no
            key is given, and then nothing is accepted.
        name: Of the file, for messages.

    Returns:
        The document.

    Raises:
        EvidenceError: It is not evidence; a row or anything else was changed; it is not signed; or another key
            has signed it.
    """
    document = _read(text, name)
    for fleet in document["fleets"]:
        for row in fleet["rows"]:
            if row.get(DIGEST) != _digest({key: value for key, value in row.items() if key != DIGEST}):
                raise EvidenceError(
                    f"{name}: the row of certificate {str(row.get('certificate_id'))[:12]} of {row.get('thing')} was "
                    "changed after the evidence was made",
                    "take the file from where it was written, or make the evidence anew: certfleet evidence",
                )
    found = document[SEAL]
    made = {key: value for key, value in found.items() if key not in {DIGEST, SIGNATURE}}
    if found.get(DIGEST) != _digest({**document, SEAL: made}):
        raise EvidenceError(
            f"{name} was changed after it was made: rows were taken out, put in or moved, or what stands around them",
            "take the file from where it was written, or make the evidence anew: certfleet evidence",
        )
    if not found.get("is_signed"):
        raise EvidenceError(
            f"{name} is not signed: whoever changed a row could renew the digests too, so it proves nothing by itself",
            "make it anew with a KMS key: certfleet evidence --kms-key ARN --format json --output FILE",
        )
    if verify is None:
        raise EvidenceError(
            f"{name} claims that {found.get('key_id')} has signed it; which key do you trust?",
            f"certfleet evidence verify {name} --kms-key ARN, or --public-key FILE (aws kms get-public-key)",
        )
    try:
        signature = base64.b64decode(str(found.get(SIGNATURE)), validate=True)
    except ValueError:  # (of base64, or of a text that is not ASCII)
        signature = b""
    if not verify(bytes.fromhex(found[DIGEST]), signature):
        raise EvidenceError(
            f"{name}: its signature is not of the key that you named; it names {found.get('key_id')} as its signer",
            "name the key that your evidence is signed with; if it is that one, do not trust this file",
        )
    return document


def _read(text: str, name: str) -> dict[str, Any]:
    none = EvidenceError(f"{name} is not evidence of certfleet's", "make one: certfleet evidence --format json")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise none from error
    if not isinstance(document, dict) or document.get("kind") != KIND or not isinstance(document.get(SEAL), dict):
        raise none
    fleets = document.get("fleets")
    if not isinstance(fleets, list) or not all(isinstance(fleet, dict) for fleet in fleets):
        raise none
    if not all(
        isinstance(fleet.get("rows"), list) and all(isinstance(r, dict) for r in fleet["rows"]) for fleet in fleets
    ):
        raise none
    return document


def _digest(value: Any) -> str:
    """SHA-256 over JSON with sorted names and no spaces, in hexadecimal."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
