"""What a certificate's PEM says, for the keys we allow, for others, and for rubbish."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, x25519
from cryptography.x509.oid import NameOID
from fleet_registry import AWS_IOT_NAME, EPOCH, Issuer, name
from hypothesis import given
from hypothesis import strategies as st
from shared_credentials import ODD, credentials

from controller.fleet.pem import is_issued_by, read_pem

CA = Issuer(name("plant-ca"))

KEYS = {
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
    "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
    "ECDSA-P256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ECDSA-P384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ECDSA-P521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ECDSA-secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
    "DSA-1024": lambda: dsa.generate_private_key(1024),
    "1.3.101.110": x25519.X25519PrivateKey.generate,
}


@pytest.mark.filterwarnings("ignore:.*RSA key:UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("expected", KEYS)
def test_key_type_is_named_whether_allowed_or_not(expected):
    key = KEYS[expected]().public_key()
    assert read_pem(CA.certify(name("d"), key)).key_type == expected


def self_signed(key, digest, **how) -> str:
    builder = x509.CertificateBuilder(name("x"), name("x"), key.public_key(), 1, EPOCH, EPOCH + timedelta(days=1))
    return builder.sign(key, digest, **how).public_bytes(serialization.Encoding.PEM).decode()


RSA = rsa.generate_private_key(65537, 2048)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


@pytest.mark.parametrize(
    ("expected", "pem"),
    [
        ("sha256WithRSAEncryption", self_signed(RSA, hashes.SHA256())),
        ("sha384WithRSAEncryption", self_signed(RSA, hashes.SHA384())),
        ("sha512WithRSAEncryption", self_signed(RSA, hashes.SHA512())),
        ("rsassaPss", self_signed(RSA, hashes.SHA256(), rsa_padding=PSS)),
        ("ecdsa-with-SHA256", CA.certify(name("d"), RSA.public_key())),
        ("ecdsa-with-SHA512", CA.certify(name("d"), RSA.public_key(), digest=hashes.SHA512())),
        ("ED25519", self_signed(ed25519.Ed25519PrivateKey.generate(), None)),
        ("2.16.840.1.101.3.4.3.14", self_signed(RSA, hashes.SHA3_256())),
    ],
    ids=lambda value: value if len(value) < 40 else "",
)
def test_signature_algorithm_is_named_as_openssl_names_it(expected, pem):
    assert read_pem(pem).signature_algorithm == expected


def test_validity_and_issuer_are_read():
    facts = read_pem(CA.certify(name("d"), RSA.public_key(), validity=timedelta(days=30)))
    assert (facts.not_before, facts.not_after) == (EPOCH, EPOCH + timedelta(days=30))
    assert facts.issuer == "CN=plant-ca"
    assert not facts.names_aws_iot
    assert facts.parse_error is None


def test_issuer_of_aws_iot_is_one_attribute():
    assert read_pem(Issuer(AWS_IOT_NAME).certify(name("d"), RSA.public_key())).names_aws_iot
    split = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Amazon Web Services"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Amazon.com Inc."),
        ]
    )
    assert not read_pem(Issuer(split).certify(name("d"), RSA.public_key())).names_aws_iot


def test_first_certificate_of_a_chain_is_the_device():
    assert read_pem(CA.certify(name("d"), RSA.public_key()) + CA.pem).key_type == "RSA-2048"


def test_certificate_with_one_unreadable_field_keeps_the_others():
    der = x509.load_pem_x509_certificate(CA.certify(name("d"), KEYS["ECDSA-P256"]().public_key()).encode())
    broken = der.public_bytes(serialization.Encoding.DER).replace(
        bytes.fromhex("06082a8648ce3d030107"),  # the curve's OID, prime256v1 …
        bytes.fromhex("06082a8648ce3d030163"),  # … becomes one that does not exist
    )
    armoured = x509.load_der_x509_certificate(broken).public_bytes(serialization.Encoding.PEM).decode()
    facts = read_pem(armoured)

    assert facts.key_type is None
    assert facts.parse_error.startswith("key: ")
    assert facts.not_after == EPOCH + timedelta(days=365)


@pytest.mark.parametrize("kind", ["sound", *ODD])
def test_a_certificate_of_the_field_is_read_and_its_issuer_known(kind):
    found = credentials()[kind]
    facts = read_pem(found.certificate.decode("latin-1"))
    assert (facts.parse_error, facts.key_type) == (None, found.key_type)
    assert is_issued_by(facts.der, facts.certificate)
    assert not is_issued_by(facts.der, x509.load_pem_x509_certificate(CA.pem.encode()))


def test_an_odd_certificate_that_was_changed_has_no_issuer():
    facts = read_pem(credentials()["an underscore in a PrintableString"].certificate.decode())
    assert not is_issued_by(facts.der.replace(b"gw_1", b"gw_2"), facts.certificate)


@given(st.one_of(st.text(), st.binary().map(lambda data: data.hex()), st.integers(0, 600)))
def test_rubbish_is_described_and_never_raises(text):
    if isinstance(text, int):  # a real certificate with one character changed
        pem = list(CA.pem)
        pem[text % len(pem)] = "A" if pem[text % len(pem)] != "A" else "B"
        facts = read_pem("".join(pem))
        assert facts.parse_error or facts.key_type
        return
    facts = read_pem(text)
    assert facts.parse_error.startswith("not a readable certificate")
    assert facts.key_type is None
