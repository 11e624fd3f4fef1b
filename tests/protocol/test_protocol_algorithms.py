"""Which keys sign with which algorithms."""

from __future__ import annotations

import pytest

from protocol.algorithms import (
    CaSigningAlgorithm,
    CsrSigningAlgorithm,
    Family,
    KeyType,
    default_csr_algorithm,
    matching_csr_algorithms,
    parse_csr_algorithm,
    parse_key_type,
    require_matching,
)
from protocol.errors import ProtocolError


@pytest.mark.parametrize("algorithm", CsrSigningAlgorithm)
@pytest.mark.parametrize("key_type", KeyType)
def test_a_key_signs_with_the_algorithms_of_its_family_and_no_other(key_type, algorithm):
    if key_type.value.split("-")[0] == ("ECDSA" if "ECDSA" in algorithm.value else "RSA"):
        require_matching(key_type, algorithm)
        assert algorithm in matching_csr_algorithms(key_type)
    else:
        with pytest.raises(ProtocolError, match=f"{key_type.value} key cannot sign with {algorithm.value}.*allowed: "):
            require_matching(key_type, algorithm)
        assert algorithm not in matching_csr_algorithms(key_type)


@pytest.mark.parametrize(
    ("key_type", "bits"),
    [("RSA-2048", 2048), ("RSA-3072", 3072), ("ECDSA-P256", 256), ("ECDSA-P384", 384), ("ECDSA-P521", 521)],
)
def test_a_key_types_size_stands_in_its_name(key_type, bits):
    assert parse_key_type(key_type).bits == bits


@pytest.mark.parametrize(
    ("name", "digest", "pss"),
    [
        ("SHA256WITHRSA", "SHA256", False),
        ("SHA384WITHRSAANDMGF1", "SHA384", True),
        ("ECDSA-WITH-SHA512", "SHA512", False),
    ],
)
def test_hash_and_padding_stand_in_an_algorithms_name(name, digest, pss):
    assert (parse_csr_algorithm(name).hash_name, parse_csr_algorithm(name).is_pss) == (digest, pss)


def test_the_default_algorithm_is_sha256_in_the_keys_family():
    assert default_csr_algorithm(KeyType.RSA_3072) is CsrSigningAlgorithm.SHA256_RSA
    assert default_csr_algorithm(KeyType.ECDSA_P521) is CsrSigningAlgorithm.SHA256_ECDSA


def test_a_cas_algorithm_names_the_family_of_its_key():
    assert {a.family for a in CaSigningAlgorithm if a.value.endswith("ECDSA")} == {Family.ECDSA}
    assert {a.family for a in CaSigningAlgorithm if not a.value.endswith("ECDSA")} == {Family.RSA}


@pytest.mark.parametrize("wrong", ["", "RSA", "rsa-2048", None, 7, [], {}])
@pytest.mark.parametrize("parse", [parse_key_type, parse_csr_algorithm])
def test_an_unknown_name_is_refused_with_the_ones_allowed(parse, wrong):
    with pytest.raises(ProtocolError, match=r"is unknown; allowed: .*, "):
        parse(wrong)
