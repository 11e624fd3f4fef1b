"""Small values that others build on: job ids, sources, sentences."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.reconcile.values import (
    CertificateAuthority,
    Source,
    count_text,
    names_text,
    parse_job_id,
    percent_text,
    span_text,
)
from controller.reconcile.values.job_ids import make_job_id


@pytest.mark.parametrize(
    ("policy", "wave", "expected"),
    [("line-a", 3, "cf-line-a-w3-0123456789abcdef"), ("a-w1", None, "cf-a-w1-standing-0123456789abcdef")],
)
def test_a_job_id_is_read_as_it_was_made(policy, wave, expected):
    job_id = make_job_id(policy, wave, "0123456789abcdef" * 4)
    assert job_id == expected
    assert parse_job_id(job_id) == (policy, wave, "0123456789abcdef")


def test_the_longest_job_id_fits_aws():
    assert len(make_job_id("p" * 32, 9999, "f" * 16)) <= 64


@pytest.mark.parametrize(
    ("policy", "wave", "digest"),
    [("Line A", 1, "0" * 16), ("p" * 33, 1, "0" * 16), ("a", 0, "0" * 16), ("a", 1, "xyz")],
)
def test_what_makes_no_job_id_is_a_bug_of_the_caller(policy, wave, digest):
    with pytest.raises(ValueError, match="make no valid job id"):
        make_job_id(policy, wave, digest)


def test_a_field_without_a_line_has_that_of_its_section_or_document():
    source = Source("a.yaml", 3, {"spec.rollout": 7})
    assert [source.at(field) for field in ("spec.rollout.soak", "spec.mode", "")] == [
        "a.yaml:7",
        "a.yaml:3",
        "a.yaml:3",
    ]


def test_aws_iot_is_known_by_its_name(make):
    assert CertificateAuthority("aws-iot").is_aws_iot
    assert not make.desired().authorities["plant-ca"].is_aws_iot
    assert make.desired().fleet.backend.stack_name == "AWSLabsCertificateRotator"


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (timedelta(days=214, hours=5), "214 days"), (timedelta(days=2, hours=5), "53 hours"),
        (timedelta(days=1), "1 day"),
        (timedelta(minutes=90), "90 minutes"), (timedelta(seconds=1), "1 second"), (timedelta(0), "0 seconds"),
        (timedelta(hours=-5), "-5 hours"),
    ],
)  # fmt: skip
def test_spans_are_told_in_the_unit_that_says_enough(span, expected):
    assert span_text(span) == expected


def test_counts_shares_and_lists():
    assert (count_text(1, "device"), count_text(1234, "device")) == ("1 device", "1,234 devices")
    assert (percent_text(40.0), percent_text(12.34)) == ("40", "12.3")
    assert names_text(["a", "b"]) == "a, b"
