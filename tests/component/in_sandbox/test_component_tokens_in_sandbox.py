"""Credentials in a token, rotated by the real process through IPC and mutual TLS: SoftHSM, and a TPM 2.0.

Who judges is pkcs11-tool and openssl: which key the certificate holds, whether the token's key is the
certificate's, and that nothing else is left in the token.
"""

from __future__ import annotations

import re

import pytest
from component_site import OPENSSL_KEY, SUBJECT, openssl_says_of, signed_with, start_later
from component_tokens import KINDS, PIN
from cryptography.hazmat.primitives.serialization import load_der_public_key

from protocol.algorithms import CsrSigningAlgorithm, KeyType
from sandbox.edge import Pkcs11Settings

LABEL = "device"
USABLE = {
    KeyType.RSA_2048: CsrSigningAlgorithm.SHA512_RSA_PSS,
    KeyType.RSA_3072: CsrSigningAlgorithm.SHA384_RSA,
    KeyType.ECDSA_P256: CsrSigningAlgorithm.SHA256_ECDSA,
    KeyType.ECDSA_P384: CsrSigningAlgorithm.SHA512_ECDSA,
}
"""Key types that both the tokens and the AWS CRT can use; the CSR algorithms together cover families and hashes."""

P521_FAILS = {
    # SoftHSM can use such a key, the TLS library cannot.
    "softhsm": "in time: rolled back; .* cannot use an ECDSA-P521 key in a token; let the job demand another key type",
    # The TPM's library tells the public key in a form that is not DER: nothing in place is touched.
    "tpm": "could not read a public key: what it answers does not parse .* let the job demand another key type",
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def token(kind, tmp_path, monkeypatch, site):
    """A token that holds a first credential; this process, which plays the nucleus, can reach it too."""
    folder = tmp_path / "token"
    folder.mkdir()
    token = KINDS[kind](folder)
    for name, value in token.environment.items():
        monkeypatch.setenv(name, value)
    token.enrol(LABEL, folder, lambda spki: site.der(site.issue(load_der_public_key(spki), SUBJECT)))
    yield token
    token.stop()


@pytest.mark.usefixtures("warm")
def test_a_token_rotates_with_each_key_type_that_the_tls_library_can_use(token, start, site, kind, tmp_path):
    (first,) = site.active
    nucleus = start(
        environment=token.environment,
        certificate=f"pkcs11:object={LABEL};type=cert" if kind == "softhsm" else "",  # both are legal
        private_key=f"pkcs11:object={LABEL};type=private",
        pkcs11=Pkcs11Settings(kind, token.library, token.slot, PIN),
        configuration={"reconnectTimeLimitSeconds": 10, "resendIntervalSeconds": 1},
    )
    assert nucleus.wait_connected()
    for key_type, algorithm in USABLE.items():
        document = {"keyAlgorithm": key_type.value, "signingAlgorithm": algorithm.value}
        site.create_job({"operation": "ROTATE_CERTIFICATE", **document}, key_type.value)
        job = site.wait_ended(key_type.value)
        assert job["status"] == "SUCCEEDED", (job, nucleus.log_file.read_text()[-3000:])
        assert OPENSSL_KEY[key_type] in token.certificate_text(LABEL, tmp_path)
        assert signed_with(algorithm) <= openssl_says_of(site.record["csr"], tmp_path)
        assert token.proves(LABEL, tmp_path)
    assert first not in site.active

    assert set(token.labels()) == {LABEL, f"{LABEL}.old"}
    start_later(nucleus)
    assert token.labels() == [LABEL] * 3
    before = token.objects(LABEL)
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P521"}, "P521")
    job = site.wait_ended("P521", timeout=120)
    assert job["status"] == "FAILED"
    assert re.search(P521_FAILS[kind], job["statusDetails"]["DeviceFailureReason"])
    assert token.objects(LABEL) == before
    assert token.labels() == [LABEL] * 3
    assert PIN not in nucleus.log_file.read_text()
