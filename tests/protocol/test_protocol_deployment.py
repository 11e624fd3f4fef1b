"""What a backend publishes of itself: read as it was written, and refused where it is damaged."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.deployment import DeployedAuthority, DeployedBackend, parse_deployment
from protocol.errors import ProtocolError

TEXT = st.text(min_size=1, max_size=20)
SPANS = st.integers(1, 10**9).map(lambda n: timedelta(seconds=n))
AUTHORITIES = st.builds(DeployedAuthority, TEXT, TEXT, SPANS, st.none() | st.just("") | TEXT)


@given(
    st.builds(DeployedBackend, TEXT, st.dictionaries(TEXT, AUTHORITIES, max_size=3), st.frozensets(TEXT, max_size=5))
)
def test_a_deployment_is_read_as_it_was_written(deployment):
    assert parse_deployment(deployment.to_json()) == deployment
    newer = {**json.loads(deployment.to_json()), "newerField": 1}
    assert parse_deployment(json.dumps(newer)) == deployment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not JSON"),
        ("[]", "format is 'list', this version reads 1"),
        ('{"format": 2}', "format is 2, this version reads 1"),
        ('{"format": 1, "version": "1"}', "version, authorities or jobDocumentFields is missing"),
        (
            '{"format": 1, "version": "1", "jobDocumentFields": [], "authorities": {"ca": {"arn": "a"}}}',
            "authority 'ca' is",
        ),
        (
            '{"format": 1, "version": "1", "jobDocumentFields": [], "authorities": {"ca": 7}}',
            "expected arn, signingAlgorithm, validitySeconds and at most templateArn",
        ),
        (
            DeployedBackend("1", {"ca": DeployedAuthority("arn", "algorithm", timedelta(days=1), 7)}).to_json(),
            "at most templ",
        ),
        (
            '{"format": 1, "version": "1", "jobDocumentFields": [], "authorities": {}, "attachments": "all"}',
            "attachments is 'all', expected a list of types",
        ),
    ],
)
def test_a_damaged_one_is_refused_with_the_reason(text, expected):
    with pytest.raises(ProtocolError, match=expected):
        parse_deployment(text)
