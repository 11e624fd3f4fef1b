"""The job document: ours, the stock one, and what is neither."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.algorithms import CsrSigningAlgorithm, KeyType, require_matching
from protocol.errors import ProtocolError
from protocol.job_document import (
    DOCUMENT_FIELDS,
    SPLIT,
    STOCK_DOCUMENT,
    JobDocument,
    is_check,
    is_rotation,
    parse_job_document,
)

NAME = st.none() | st.text(min_size=1, max_size=20)


@given(st.sampled_from([None, *KeyType]), NAME, NAME, NAME, NAME)
def test_a_document_is_read_as_it_was_written(key_type, authority, policy, commit, arn):
    document = JobDocument(key_type, None, authority, policy, commit, arn)
    assert parse_job_document(json.loads(document.to_json())) == document
    assert parse_job_document({**document.to_wire(), "newerField": 1}) == document


@given(
    st.sampled_from([None, *KeyType]),
    st.sampled_from([None, *CsrSigningAlgorithm]),
    st.sampled_from(list(KeyType)),
    st.sampled_from(list(CsrSigningAlgorithm)),
)
def test_what_a_job_leaves_open_is_filled_so_that_key_and_algorithm_go_together(key, algorithm, own_key, own_algorithm):
    if key is not None and algorithm is not None and key.family is not algorithm.family:
        with pytest.raises(ProtocolError, match="cannot sign"):
            JobDocument(key, algorithm)
        return
    if key is None and algorithm is None and own_key.family is not own_algorithm.family:
        return  # a device's own configuration is validated to match
    resolved_key, resolved_algorithm = JobDocument(key, algorithm).resolve(own_key, own_algorithm)
    require_matching(resolved_key, resolved_algorithm)
    assert resolved_key is key or key is None
    assert resolved_algorithm is algorithm or algorithm is None


def test_every_field_that_is_written_is_among_those_that_are_told():
    full = JobDocument(KeyType.ECDSA_P256, CsrSigningAlgorithm.SHA256_ECDSA, "ca", "policy", "commit", "arn", SPLIT)
    assert full.to_wire().keys() == DOCUMENT_FIELDS


def test_a_check_asks_for_what_a_rotation_would_but_is_none():
    document = JobDocument(KeyType.ECDSA_P256).check.to_wire()
    assert (is_check(document), is_rotation(document)) == (True, False)
    assert not any(is_check(other) for other in (STOCK_DOCUMENT, {}, None, "CHECK_ROTATION"))
    assert parse_job_document(document) == JobDocument(KeyType.ECDSA_P256)


@pytest.mark.parametrize(("word", "splits"), [(SPLIT, True), (None, False), ("of a version to come", False)])
def test_only_the_word_that_is_known_allows_a_split(word, splits):
    document = JobDocument(shared_certificate=word)
    assert parse_job_document(document.to_wire()).splits is splits


def test_the_stock_document_is_the_operation_alone():
    assert JobDocument().to_wire() == STOCK_DOCUMENT
    assert JobDocument().is_stock
    assert not JobDocument(policy="p").is_stock
    assert parse_job_document(STOCK_DOCUMENT) == JobDocument()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], "JSON object, found list"),
        ({"operation": "REBOOT"}, "operation is 'REBOOT', expected 'ROTATE_CERTIFICATE'"),
        ({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "DSA"}, "'DSA' is unknown"),
        ({"operation": "ROTATE_CERTIFICATE", "signingAlgorithm": 1}, "1 is unknown"),
        ({"operation": "ROTATE_CERTIFICATE", "policy": ""}, "policy is ''"),
        ({"operation": "ROTATE_CERTIFICATE", "commit": 7}, "commit is 7"),
        ({"operation": "ROTATE_CERTIFICATE", "certificateAuthorityArn": ""}, "certificateAuthorityArn is ''"),
    ],
)
def test_a_wrong_document_is_refused_with_the_reason(document, expected):
    with pytest.raises(ProtocolError, match=expected):
        parse_job_document(document)


def test_a_rotation_is_known_by_its_operation():
    assert is_rotation({"operation": "ROTATE_CERTIFICATE", "other": 1})
    assert not is_rotation({"operation": "REBOOT"})
    assert not is_rotation("ROTATE_CERTIFICATE")
