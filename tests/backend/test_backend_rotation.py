"""Whole rotations over the three handlers."""

from __future__ import annotations

import hashlib
import json

import pytest
from backend_aws import START
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from backend.functions import registry
from controller.reconcile.outlook.comparison import CALLS_PER_ROTATION

SCARCE = {  # registry calls of which an account has ten a second
    "iot:ListThingPrincipalsV2",
    "iot:ListPrincipalThingsV2",
    "iot:DescribeCertificate",
    "iot:ListCertificates",
    "iot:UpdateCertificate",
    "iot:DeleteCertificate",
    "iot:RegisterCertificateWithoutCA",
}


def rotate(device):
    assert device.create()["status"] == "accepted"
    device.aws.tick()
    new = device.new
    assert device.commit()["status"] == "accepted"
    device.aws.tick()
    assert device.ended("SUCCEEDED")["status"] == "rotated"
    return new


def test_a_rotation_leaves_the_new_certificate_alone_with_the_old_ones_policies(device):
    new = rotate(device)
    device.assert_only(new)
    assert device.aws.certificates[new].policies == ["device"]
    assert device.aws.certificates[new].things == {"gw-1": "EXCLUSIVE_THING"}
    certificate = x509.load_pem_x509_certificate(device.aws.certificates[new].pem.encode())
    assert certificate.public_key() == device.new_key.public_key()
    assert device.aws.notices == []


def test_a_rotation_answers_on_the_standard_topics_and_names_the_job(device):
    new = rotate(device)
    pem = device.aws.certificates[new].pem
    assert device.aws.published == [
        ("awslabs/things/gw-1/certificate/create/accepted", {"certificatePem": pem, "jobId": "certfleet-line-a-1"}),
        ("awslabs/things/gw-1/certificate/commit/accepted", {"jobId": "certfleet-line-a-1"}),
    ]


def test_a_rejection_names_the_job_that_was_asked_for_as_far_as_it_is_text(device):
    device.create(jobId="job-0")
    device.commit(jobId="job-9")
    device.create(jobId=7)
    assert [answer.get("jobId") for _, answer in device.aws.published] == ["job-0", "job-9", None]


def test_the_public_view_follows_the_rotation(device):
    device.create()
    new = device.new
    view = {"oldCertificateId": device.old, "newCertificateId": new}
    assert device.aws.shadows["gw-1"] == {"progress": "created", **view}
    device.commit()
    device.ended("SUCCEEDED")
    assert device.aws.shadows["gw-1"] == {"progress": "rotated", **view}


def test_a_rotation_needs_sixteen_calls_as_pull_requests_are_told_and_at_most_two_of_each_scarce_one(device, iot_calls):
    rotate(device)
    counts = iot_calls()
    assert counts.total() == CALLS_PER_ROTATION == 16, counts
    assert {call: n for call, n in counts.items() if call in SCARCE and n > 2} == {}


def test_a_rotation_leaves_its_evidence(device):
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "policy": "line-a", "commit": "abc123"})
    old = device.old
    new = rotate(device)
    [evidence] = [item for (thing, record), item in device.aws.items.items() if record.startswith("rotation#")]
    plain = {name: next(iter(value.values())) for name, value in evidence.items()}
    assert (plain["oldCertificateId"], plain["newCertificateId"]) == (old, new)
    assert (plain["policy"], plain["commit"], plain["authority"]) == ("line-a", "abc123", "aws-iot")
    assert (plain["jobId"], plain["thingName"], plain["outcome"]) == ("certfleet-line-a-1", "gw-1", "rotated")
    spki = device.new_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert plain["publicKeyDigest"] == hashlib.sha256(spki).hexdigest()
    history = [{name: value["S"] for name, value in entry["M"].items()} for entry in plain["history"]]
    asked, committed, ended = (history[index] for index in (0, 3, 5))
    assert f"client gw-1, certificate {old}" in asked["who"]
    assert f"certificate {new}" in committed["who"]
    assert ended["who"] == "job_execution_terminal: job certfleet-line-a-1 SUCCEEDED"
    assert START.isoformat() == asked["at"] < committed["at"] == plain["committedAt"] < ended["at"]
    whats = [entry["what"] for entry in history]
    assert whats == [
        "issuing from aws-iot", f"issued {new}", "attached", "committed", f"removing {old}", f"removed {old}"
    ]  # fmt: skip


def test_the_record_keeps_the_certificate_once_the_thing_holds_it_alone(device):
    new = rotate(device)
    [kept] = [item for (_, record), item in device.aws.items.items() if record.startswith("rotation#")]
    current = device.aws.items["gw-1", "current"]
    for item in (kept, current):
        assert item["certificatePem"]["S"] == device.aws.certificates[new].pem
    device.aws.tick()
    device.ended("SUCCEEDED")
    assert device.aws.items["gw-1", "current"] == current, "a repeat changes nothing"


@pytest.mark.parametrize("happens", ["is rolled back", "is left with both"])
def test_the_record_of_a_rotation_that_leaves_another_certificate_keeps_none(device, happens):
    device.create()
    device.aws.tick()
    if happens == "is left with both":
        device.commit()
        device.aws.certificates[device.old].things = {"gw-1": "NON_EXCLUSIVE_THING", "gw-2": "NON_EXCLUSIVE_THING"}
        assert device.ended("SUCCEEDED")["status"] == "rotated"
        assert len(device.attached) == 2
    else:
        device.connected(device.old)
        device.ended("FAILED")
        assert list(device.attached) == [device.old]
    assert device.aws.items["gw-1", "current"]["phase"]["S"] == "finished"
    assert "certificatePem" not in device.aws.items["gw-1", "current"]


def test_a_second_rotation_follows_the_first(device, keys, csr_of):
    first = rotate(device)
    device.start_job()
    device.old, device.csr = first, csr_of(keys["ECDSA-P384"])
    second = rotate(device)
    device.assert_only(second)


def test_a_certificate_with_several_pages_of_policies_hands_on_all(aws, make_device):
    aws.page = 2
    device = make_device(aws, policies=("a", "b", "c", "d", "e"))
    device.create()
    assert aws.certificates[device.new].policies == ["a", "b", "c", "d", "e"]


def test_policies_are_detached_one_by_one_where_forced_deletion_does_not_take_them(device):
    device.aws.force_delete_works = False
    device.assert_only(rotate(device))


def test_a_detachment_that_takes_its_time_is_waited_for(device, monkeypatch):
    pauses = []
    monkeypatch.setattr(registry.time, "sleep", pauses.append)
    device.aws.detaching = len(registry.DETACHING)
    device.assert_only(rotate(device))
    assert pauses == [0, 1, 2, 4]


def test_a_deletion_that_is_never_allowed_is_raised_so_that_lambda_repeats(device, monkeypatch):
    monkeypatch.setattr(registry.time, "sleep", lambda _seconds: None)
    device.create()
    device.aws.tick()
    device.commit()
    device.aws.detaching = 99
    with pytest.raises(ClientError, match="DeleteConflict"):
        device.ended("SUCCEEDED")
    device.aws.detaching = 0
    device.ended("SUCCEEDED")
    assert list(device.attached) == [device.new]


@pytest.mark.parametrize(
    ("document", "authority"),
    [
        ({"operation": "ROTATE_CERTIFICATE"}, "aws-iot"),
        ({"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "aws-iot"}, "aws-iot"),
        ({"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "plant-ca"}, "plant-ca"),
    ],
)
def test_the_job_chooses_the_authority(device, document, authority):
    device.start_job(document=document)
    rotate(device)
    assert device.record["authority"]["S"] == authority
    assert ("acm-pca:IssueCertificate" in device.aws.calls) is (authority == "plant-ca")


def test_a_private_ca_is_asked_as_its_entry_says_and_waited_for(device):
    device.aws.pca_polls_needed = 2
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "plant-ca"})
    rotate(device)
    request = device.aws.last_issue
    assert request["SigningAlgorithm"] == "SHA256WITHECDSA"
    assert request["Validity"] == {"Type": "DAYS", "Value": 365}
    assert "TemplateArn" not in request


class TestStockVariables:
    """The authority of the stock variables is used for jobs that name none."""

    @pytest.fixture
    def variables(self, variables):
        ca = json.loads(variables["AUTHORITIES"])["plant-ca"]["arn"]
        given = {"PCA_CA_ARN": ca, "PCA_VALIDITY_IN_DAYS": "30", "PCA_SIGNING_ALGORITHM": "SHA384WITHRSA"}
        return {**variables, **given}

    def test_a_job_that_names_none_gets_it(self, device):
        rotate(device)
        assert device.aws.last_issue["SigningAlgorithm"] == "SHA384WITHRSA"
        assert device.aws.last_issue["Validity"] == {"Type": "DAYS", "Value": 30}
        assert device.record["authority"]["S"] == "default-private-ca"


class TestTemplateAndOddValidity:
    @pytest.fixture
    def variables(self, variables):
        table = json.loads(variables["AUTHORITIES"])
        table["plant-ca"] |= {
            "validitySeconds": 90_000,
            "templateArn": "arn:aws:acm-pca:::template/BlankEndEntityCertificate_CSRPassthrough/V1",
        }
        return {**variables, "AUTHORITIES": json.dumps(table)}

    def test_hours_become_an_instant_and_the_template_is_named(self, device):
        device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "plant-ca"})
        rotate(device)
        request = device.aws.last_issue
        assert request["Validity"] == {"Type": "ABSOLUTE", "Value": int(device.aws.now.timestamp()) - 2 + 90_000}
        assert request["TemplateArn"].endswith("CSRPassthrough/V1")
