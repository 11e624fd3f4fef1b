"""The proof of the demo after its rotations, by means of its own: files, registry and TLS are asked anew.

A device is rotated if the certificate that it holds is another than the one it was built with.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from sandbox.builder import Credential
from sandbox.knock import connects
from sandbox.world import World


@dataclass(frozen=True, slots=True)
class DemoCheck:
    """One sentence about the rotated devices, and those of which it is not true."""

    sentence: str
    count: int
    broken: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether it is true of every rotated device, and there are any."""
        return self.count > 0 and not self.broken


def prove(world: World) -> Iterator[DemoCheck]:
    """Yield each claim about every rotated device."""
    rotated = {
        name: (built, now)
        for name, built in sorted(world.built_with.items())
        if (now := world.credential_of(name)) is not None and now.certificate_pem != built.certificate_pem
    }

    def claim(sentence: str, broken: Iterator[str]) -> DemoCheck:
        return DemoCheck(sentence, len(rotated), tuple(broken))

    yield claim(
        "hold a private key and a certificate that match",
        (name for name, (_, now) in rotated.items() if not _match(now)),
    )
    yield claim(
        "hold a certificate that the authority of their policy signed",
        (name for name, (_, now) in rotated.items() if not _is_signed(now, world.authority_certificates())),
    )
    yield claim(
        "have lost their old certificate: the registry does not know it any more",
        (name for name, (built, _) in rotated.items() if _is_registered(world, built)),
    )
    yield claim(
        "are refused when they connect with the old credential",
        (name for name, (built, _) in rotated.items() if _connects(world, name, built)),
    )


def certificate_id(credential: Credential) -> str:
    """Return the id under which AWS IoT registers it: SHA-256 of the DER."""
    return x509.load_pem_x509_certificate(credential.certificate_pem).fingerprint(hashes.SHA256()).hex()


def _match(credential: Credential) -> bool:
    key = load_pem_private_key(credential.key_pem, None).public_key()
    certified = x509.load_pem_x509_certificate(credential.certificate_pem).public_key()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_bytes(*form) == certified.public_bytes(*form)


def _is_signed(credential: Credential, authorities: tuple[x509.Certificate, ...]) -> bool:
    certificate = x509.load_pem_x509_certificate(credential.certificate_pem)
    for authority in authorities:
        if authority.subject == certificate.issuer:
            certificate.verify_directly_issued_by(authority)
            return True
    return False


def _is_registered(world: World, credential: Credential) -> bool:
    try:
        world.client("iot").describe_certificate(certificateId=certificate_id(credential))
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return False
        raise
    return True


def _connects(world: World, name: str, credential: Credential) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate.write_bytes(credential.certificate_pem)
        key.touch(mode=0o600)
        key.write_bytes(credential.key_pem)
        context = ssl.create_default_context(cafile=world.ca_bundle)
        context.load_cert_chain(certificate, key)
        return connects(world.mqtt_host, world.mqtt_port, context, name)
