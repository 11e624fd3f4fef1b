"""Keys, certificates and signing requests with names: made once, so that worlds can be compared.

A certificate is called by its key's name and a number: ``d1.1`` is the first one over the device's first new key.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache, lru_cache

from backend_aws import certificate_id, certify, make_csr, subject
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

BEGIN = datetime(2026, 11, 23, 12, tzinfo=UTC)
FIRST = "a.1"  # what the device has when the world begins, and the thief a copy of
DEVICES = ("d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8")  # the keys that it makes

_keys_by_spki, _names_by_pem = {}, {}


@cache
def key_pem(name):
    key = ec.generate_private_key(ec.SECP256R1())
    _keys_by_spki[spki(key.public_key())] = name
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@lru_cache(None)
def private_key(pem):
    return load_pem_private_key(pem, None)


def spki(key):
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_of_request(csr):
    return _keys_by_spki[spki(csr.public_key())]


@cache
def certificate_pem(name):
    key = private_key(key_pem(name.partition(".")[0]))
    pem = certify(key.public_key(), subject("gateway-7"), BEGIN)
    _names_by_pem[pem.strip()] = name
    return pem


def name_of(pem):
    """Of a certificate, PEM; None for what is none of these."""
    return _names_by_pem.get(pem.decode().strip() if isinstance(pem, bytes) else pem.strip())


@cache
def identifier(name):
    return certificate_id(certificate_pem(name))


@cache
def is_pair(certificate, key):
    """Whether a private key belongs to a certificate, both PEM."""
    certified = x509.load_pem_x509_certificate(certificate).public_key()
    return spki(certified) == spki(private_key(key).public_key())


@cache
def csr(key):
    return make_csr(private_key(key_pem(key)), subject("gateway-7"))


class Interned:
    """The values of one kind: equal ones are one object, so that they are told apart fast."""

    def __init__(self, kind):
        self._kind, self._known = kind, {}

    def __call__(self, *content):
        found = self._known.get(content)
        if found is None:
            found = self._known[content] = self._kind(*content)
        return found
