"""Every key type with every CSR algorithm, every authority: device, backend and registry together.

The authorities take turns over the pairs, so that each meets several of them. Judged by openssl.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from integration_bench import openssl

from protocol.algorithms import KeyType, matching_csr_algorithms
from protocol.names import AWS_IOT_AUTHORITY

pytestmark = pytest.mark.portable

PAIRS = [(key_type, algorithm) for key_type in KeyType for algorithm in matching_csr_algorithms(key_type)]
OPENSSL_KEY = {
    KeyType.RSA_2048: "(2048 bit)",
    KeyType.RSA_3072: "(3072 bit)",
    KeyType.ECDSA_P256: "prime256v1",
    KeyType.ECDSA_P384: "secp384r1",
    KeyType.ECDSA_P521: "secp521r1",
}


@pytest.fixture(scope="module", autouse=True)
def patient(bench):
    """Nobody waits for these limits: a machine that is ten times as slow keeps within them, too."""
    limits = {"stepTimeLimitSeconds": 300, "reconnectTimeLimitSeconds": 1800}
    assert {ending.status for ending in bench.deploy(merge=limits).values()} == {"SUCCEEDED"}


def authority_in_turn(bench, index):
    names = [AWS_IOT_AUTHORITY, *sorted(bench.authorities())]
    return names[index % len(names)]


@pytest.mark.parametrize(
    ("index", "key_type", "algorithm"),
    [(index, *pair) for index, pair in enumerate(PAIRS)],
    ids=[f"{key_type.value} {algorithm.value}" for key_type, algorithm in PAIRS],
)
def test_a_fleet_rotates_to(bench, tmp_path, index, key_type, algorithm):
    authority = authority_in_turn(bench, index)
    before = bench.registry()
    job = bench.rotate(
        keyAlgorithm=key_type.value, signingAlgorithm=algorithm.value, certificateAuthority=authority
    )  # fmt: skip
    bench.assert_rotated(job, before)
    for thing in bench.things:
        pem = bench.pem(thing)
        text = openssl("x509", "-noout", "-text", text=pem)
        assert OPENSSL_KEY[key_type] in text
        assert_issued_by(bench, authority, pem, text, tmp_path)


def assert_issued_by(bench, authority, pem, text, folder):
    root = bench.root_of(authority)
    if root is not None:
        (folder / "root.pem").write_text(root)
        (folder / "leaf.pem").write_text(pem)
        assert ": OK" in openssl("verify", "-CAfile", str(folder / "root.pem"), str(folder / "leaf.pem"))
    if authority == AWS_IOT_AUTHORITY:
        assert "Amazon" in openssl("x509", "-noout", "-issuer", text=pem)
        return
    asked = bench.authorities()[authority]
    hash_name, _, family = asked["signingAlgorithm"].partition("WITH")
    spelled = {"RSA": f"{hash_name.lower()}WithRSAEncryption", "ECDSA": f"ecdsa-with-{hash_name}"}[family]
    assert f"Signature Algorithm: {spelled}" in text
    begin, end = (
        datetime.strptime(line.partition("=")[2].strip(), "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)
        for line in openssl("x509", "-noout", "-startdate", "-enddate", text=pem).splitlines()
    )
    assert timedelta(0) <= (end - begin) - timedelta(seconds=asked["validitySeconds"]) <= timedelta(hours=2)
