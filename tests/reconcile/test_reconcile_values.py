"""Small values that others build on: job ids, sources, sentences."""

from __future__ import annotations

from dataclasses import field, fields, make_dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.reconcile.values import (
    BEARS_ON,
    Bearing,
    CertificateAuthority,
    CertificateRule,
    Fleet,
    Incident,
    Policy,
    Source,
    Waiver,
    count_text,
    family_of,
    names_text,
    parse_job_id,
    percent_text,
    span_text,
)
from controller.reconcile.values.job_ids import make_job_id
from protocol.algorithms import CaSigningAlgorithm, CsrSigningAlgorithm, KeyType


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


RULE = CertificateRule(
    max_age=timedelta(days=180),
    renew_before=timedelta(days=30),
    key_type=KeyType.ECDSA_P256,
    csr_signing_algorithm=CsrSigningAlgorithm.SHA256_ECDSA,
    rotate_issued_before=datetime(2026, 1, 1, tzinfo=UTC),
    authority="plant-ca",
)
PLANT_CA = CertificateAuthority(
    "plant-ca", None, "arn:aws:acm-pca:plant", CaSigningAlgorithm.SHA256_ECDSA, timedelta(days=365), "arn:template"
)
POLICY = Policy("line-a", "line-a", Source("a.yaml", 1), certificate=RULE)


@pytest.mark.parametrize(
    ("rule", "family"), [(CertificateRule(), "2a5ee0"), (RULE, "030551")], ids=["demands nothing", "demands everything"]
)
def test_the_family_in_the_ids_of_jobs_of_former_versions_is_known_again(rule, family):
    assert family_of(replace(POLICY, certificate=rule), {"plant-ca": PLANT_CA}) == family


def test_a_rollout_starts_anew_with_whatever_bears_on_rotation_and_with_nothing_else():
    before = family_of(POLICY, {"plant-ca": PLANT_CA})
    other = {"max_age": timedelta(1), "renew_before": timedelta(1), "key_type": KeyType.RSA_2048}
    other |= {"csr_signing_algorithm": CsrSigningAlgorithm.SHA256_RSA, "rotate_issued_before": None, "authority": None}
    assert list(other) == [field.name for field in fields(CertificateRule)][: len(other)]
    for name, value in other.items():
        changed = replace(POLICY, certificate=replace(RULE, **{name: value}))
        assert family_of(changed, {"plant-ca": PLANT_CA}) != before, name
    for name, value in {"priority": 7, "thing_group": "line-b", "suspend": None}.items():
        assert family_of(replace(POLICY, **{name: value}), {"plant-ca": PLANT_CA}) == before, name


def test_a_field_that_is_new_leaves_the_rollouts_of_policies_that_do_not_set_it_as_they_are():
    mark = {BEARS_ON: Bearing.ROTATION}
    added = [("max_validity", timedelta | None, field(default=None, metadata=mark))]
    later = make_dataclass("LaterRule", added, bases=(CertificateRule,), frozen=True)
    values = {each.name: getattr(RULE, each.name) for each in fields(RULE)}
    unset, ten, twenty = (
        family_of(replace(POLICY, certificate=later(**values, max_validity=validity)), {"plant-ca": PLANT_CA})
        for validity in (None, timedelta(days=10), timedelta(days=20))
    )
    assert unset == family_of(POLICY, {"plant-ca": PLANT_CA})
    assert len({unset, ten, twenty}) == 3


@pytest.mark.parametrize("document", [Fleet, CertificateAuthority, CertificateRule, Policy, Waiver, Incident])
def test_every_field_of_a_document_says_what_it_bears_on(document):
    marks = {field.name: field.metadata.get(BEARS_ON) for field in fields(document)}
    assert {name for name, mark in marks.items() if not isinstance(mark, Bearing)} <= {"name", "source"}
