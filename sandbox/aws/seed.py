"""Filling a cloud fast and with any past: things, groups, certificates of any age and defect.

Nothing here is an AWS call; it is how a sandbox world begins.
"""

from __future__ import annotations

import base64
import os
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from .iot.certificates import Certificates
from .iot.groups import Groups
from .iot.policies import Policies
from .iot.principals import EXCLUSIVE, SHARED, Principals
from .iot.things import Things
from .issuer import AWS_IOT_NOT_AFTER, BACKDATED, Issuer
from .site import Site

AWS_IOT = "aws-iot"


@dataclass(frozen=True, slots=True)
class SeededCertificate:
    """A certificate as registered."""

    certificate_id: str
    arn: str
    pem: str


class Seed:
    """Direct writes into the registry of a cloud."""

    def __init__(
        self,
        site: Site,
        *,
        things: Things,
        groups: Groups,
        certificates: Certificates,
        principals: Principals,
        policies: Policies,
        private_issuer: Callable[[str], Issuer],
        create_private_ca: Callable[..., str],
    ) -> None:
        self._site = site
        self._things = things
        self._groups = groups
        self._certificates = certificates
        self._principals = principals
        self._policies = policies
        self._private_issuer = private_issuer
        self._create_private_ca = create_private_ca

    def thing(self, name: str, groups: Iterable[str] = (), attributes: dict[str, str] | None = None) -> str:
        """Make a thing in these groups; returns its ARN."""
        with self._site.transaction():
            self._things.add(name, attributes)
            for group in groups:
                self._groups.join(name, group)
            return self._things.arn(name)

    def group(self, name: str, parent: str | None = None) -> str:
        """Make a static group; returns its ARN."""
        with self._site.transaction():
            self._groups.add(name, parent)
            return self._groups.arn(name)

    def policy(self, name: str, document: str) -> str:
        """Make an AWS IoT policy; ``document`` is JSON. Returns the name."""
        with self._site.transaction():
            return self._policies.add(name, document).name

    def private_ca(self, arn: str, key_algorithm: str = "EC_prime256v1", signing_algorithm: str = "SHA256WITHECDSA",
                   common_name: str = "Sandbox private CA") -> str:  # fmt: skip
        """Make an active, self-signed ACM-PCA root under this ARN (names as in CreateCertificateAuthority)."""
        with self._site.transaction():
            return self._create_private_ca(arn, key_algorithm, signing_algorithm, common_name)

    def certificate(
        self,
        public_key: Any,
        *,
        authority: str = AWS_IOT,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        status: str = "ACTIVE",
        created_at: datetime | None = None,
        subject: x509.Name | str = "AWS IoT Certificate",
    ) -> SeededCertificate:
        """Issue and register a certificate over ``public_key`` (of the ``cryptography`` package).

        ``authority`` is ``aws-iot`` or the ARN of a private CA; a text as ``subject`` becomes the common
        name. The validity begins at ``not_before`` (now) and ends at ``not_after`` (2049-12-31T23:59:59Z);
        the creation date is ``created_at``, by default when the validity began.
        """
        begin = not_before or self._site.now() - BACKDATED
        issuer = self._certificates.issuer if authority == AWS_IOT else self._private_issuer(authority)
        name = subject
        if isinstance(name, str):
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issued = issuer.issue(public_key, name, begin, not_after or AWS_IOT_NOT_AFTER)
        pem = issued.public_bytes(serialization.Encoding.PEM).decode()
        return self.registered(pem, status=status, created_at=created_at or begin,
                               mode="DEFAULT" if authority == AWS_IOT else "SNI_ONLY")  # fmt: skip

    def unparseable_certificate(self, status: str = "ACTIVE", created_at: datetime | None = None) -> SeededCertificate:
        """Register a text that looks like a PEM and holds no certificate."""
        lines = textwrap.fill(base64.b64encode(os.urandom(600)).decode(), 64)
        pem = f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
        return self.registered(pem, status=status, created_at=created_at, mode="SNI_ONLY")

    def registered(
        self, pem: str, *, status: str = "ACTIVE", created_at: datetime | None = None, mode: str = "DEFAULT"
    ) -> SeededCertificate:
        """Register a PEM as it is."""
        with self._site.transaction():
            found = self._certificates.add(pem, status, mode=mode, created_at=created_at)
        return SeededCertificate(found.certificate_id, self._certificates.arn(found.certificate_id), pem)

    def attach(self, thing: str, certificate_id: str, *, exclusive: bool = True, policies: Iterable[str] = ()) -> None:
        """Attach a certificate to a thing, and policies to the certificate."""
        with self._site.transaction():
            self._principals.attach(thing, certificate_id, EXCLUSIVE if exclusive else SHARED)
            for policy in policies:
                self._policies.attach(policy, self._certificates.arn(certificate_id))
