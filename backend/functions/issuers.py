"""Where certificates come from: AWS IoT's own CA, or a private CA of ACM-PCA."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from protocol.rejections import RejectionCode

from .csr import SigningRequest, certifies
from .environment import PrivateAuthority
from .errors import RejectionError, error_code, is_refused, is_transient
from .notices import quoted

_DAY = 86_400
_PAUSES = (0.3, 0.9)  # seconds before a throttled call is repeated
_POLLS = (0.25,) * 12 + (1.0,) * 10  # seconds between: a private CA answers within one or two; the calls take time too


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that is registered and ACTIVE."""

    certificate_id: str
    arn: str
    pem: str


class Issuers:
    """Talks to the CAs; RejectionError if one refuses for good, botocore's errors if it may not next time."""

    def __init__(self, iot: Any, acm_pca: Any) -> None:
        self._iot = iot
        self._acm_pca = acm_pca

    def issue(self, request: SigningRequest, authority: PrivateAuthority | None, now: datetime) -> Issued:
        """Return a new certificate over the request's key; raises RejectionError if the CA refuses.

        AWS IoT's own CA issues it if ``authority`` is None.
        """
        try:
            issued = self._from_aws_iot(request) if authority is None else self._from_private(request, authority, now)
        except ClientError as error:
            if is_transient(error):
                raise
            said = quoted(error.response.get("Error", {}).get("Message") or "nothing more")
            raise RejectionError(
                RejectionCode.ISSUE_FAILED,
                f"The certificate authority refused to issue ({error_code(error)}): it reports {said}.",
            ) from error
        return issued

    def _from_aws_iot(self, request: SigningRequest) -> Issued:
        answer = _not_throttled(
            lambda: self._iot.create_certificate_from_csr(certificateSigningRequest=request.pem, setAsActive=True)
        )
        return Issued(answer["certificateId"], answer["certificateArn"], answer["certificatePem"])

    def _from_private(self, request: SigningRequest, authority: PrivateAuthority, now: datetime) -> Issued:
        template = {"TemplateArn": authority.template_arn} if authority.template_arn else {}
        certificate_arn = self._acm_pca.issue_certificate(
            CertificateAuthorityArn=authority.arn,
            Csr=request.pem.encode(),
            SigningAlgorithm=authority.signing_algorithm.value,
            Validity=_validity(authority, now),
            # A repeat within five minutes answers with the same certificate instead of a second one.
            IdempotencyToken=request.public_key_digest[:32],
            **template,
        )["CertificateArn"]
        pem = self._collect(authority.arn, certificate_arn)
        if not certifies(pem, request.public_key_digest):
            raise RejectionError(RejectionCode.ISSUE_FAILED, "The certificate authority certified another key.")
        answer = _not_throttled(lambda: self._iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE"))
        return Issued(answer["certificateId"], answer["certificateArn"], pem)

    def _collect(self, authority_arn: str, certificate_arn: str) -> str:
        for pause in _POLLS:
            try:
                answer = self._acm_pca.get_certificate(
                    CertificateAuthorityArn=authority_arn, CertificateArn=certificate_arn
                )
                return str(answer["Certificate"])
            except ClientError as error:
                if error_code(error) != "RequestInProgressException":
                    raise
            time.sleep(pause)
        raise RejectionError(RejectionCode.ISSUE_FAILED, "The certificate authority did not issue within 13 seconds.")


def _not_throttled(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Repeat a call that AWS has throttled, and no other: a call without an answer may have been carried out."""
    for pause in _PAUSES:
        try:
            return call()
        except ClientError as error:
            if error_code(error) != "ThrottlingException" or not is_refused(error):
                raise
        time.sleep(pause)
    return call()


def _validity(authority: PrivateAuthority, now: datetime) -> dict[str, int | str]:
    if authority.validity_seconds % _DAY == 0:
        return {"Type": "DAYS", "Value": authority.validity_seconds // _DAY}
    return {"Type": "ABSOLUTE", "Value": int((now + authority.validity).astimezone(UTC).timestamp())}
