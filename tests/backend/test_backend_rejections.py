"""Every pre-condition of create and commit, each with its own code; what is rejected changes nothing."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from backend_aws import CA_KEY, JOB, PLANT_CA, Certificate, certify, client_error, make_csr
from botocore.exceptions import ClientError, ConnectTimeoutError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from shared_credentials import ODD, credentials

from backend.functions import csr
from backend.stack import CREATE_TIMEOUT
from protocol.rejections import RejectionCode

EVENTS = Path(__file__).parent / "events"
OTHER = "f" * 64


def _tampered(csr: str) -> str:
    lines = csr.splitlines()
    lines[-2] = ("A" if lines[-2][0] != "A" else "B") + lines[-2][1:]  # the last of the signature
    return "\n".join(lines)


def detach(device):
    device.aws.certificates[device.old].things.clear()


def attached(kind, *others):
    def arrange(device):
        device.aws.certificates[device.old].things.update(dict.fromkeys((device.name, *others), kind))

    return arrange


def extra(device):
    from_other = type(device)(device.aws, "gw-2")
    device.aws.certificates[from_other.old].things["gw-1"] = "EXCLUSIVE_THING"


def inactive(device):
    device.aws.certificates[device.old].status = "INACTIVE"


def job(**changes):
    return lambda device: device.start_job(document={"operation": "ROTATE_CERTIFICATE", **changes})


def document(value):
    return lambda device: device.start_job(document=value)


def status(value):
    return lambda device: device.start_job(status=value)


def unreadable_document(device):
    device.aws.executions["gw-1", "certfleet-line-a-1"]["jobDocument"] = "{"


def no_execution(device):
    device.aws.executions.clear()


def asked(seconds_before_the_certificate, **members):
    def arrange(device):
        job(**members)(device)
        made = device.aws.certificates[device.old].created
        asked_at = made.timestamp() - seconds_before_the_certificate
        device.aws.executions["gw-1", JOB]["queuedAt"] = int(asked_at)

    return arrange


def asked_again(seconds_before_the_certificate, **members):
    """The present attempt, which AWS IoT made by itself, is younger than the certificate."""

    def arrange(device):
        asked(-60, **members)(device)
        device.aws.executions["gw-1", JOB]["executionNumber"] = 2
        if seconds_before_the_certificate is not None:
            made = device.aws.certificates[device.old].created
            device.aws.first_asked["gw-1", JOB] = made - timedelta(seconds=seconds_before_the_certificate)

    return arrange


@pytest.mark.parametrize(
    ("members", "answered"),
    [({"policy": "line-a"}, {"status": "rejected", "code": "AlreadyRotated"}), ({}, None)],
    ids=["a controller's job", "by hand"],
)
def test_an_attempt_is_refused_if_one_of_its_own_job_has_brought_the_certificate(device, members, answered):
    """That one came to its end too late, and AWS IoT has repeated it: nobody asks AWS IoT when that was.

    A later job of the controller is none of it.
    """
    job(**members)(device)
    device.create()
    device.commit()
    device.ended("TIMED_OUT")
    device.aws.tick(seconds=30)
    device.connected(device.new)
    device.assert_only(device.new)
    made = device.aws.certificates[device.new].created
    device.aws.executions["gw-1", JOB] |= {"status": "IN_PROGRESS", "executionNumber": 2}
    device.aws.executions["gw-1", JOB]["queuedAt"] = int(made.timestamp()) + 60
    asked = {"principal": device.new, "csr": make_csr(ec.generate_private_key(ec.SECP256R1()))}
    created = device.create(**asked)
    assert created == (answered or created | {"status": "accepted"})
    if answered is not None:
        before = dict(device.aws.items)
        device.ended("FAILED")
        device.assert_only(device.new)
        assert device.aws.items["gw-1", "current"] == before["gw-1", "current"]
        device.start_job("later", document={"operation": "ROTATE_CERTIFICATE", **members})
        assert device.create(jobId="later", **asked)["status"] == "accepted"


@pytest.mark.parametrize(
    ("seconds", "members"),
    [(None, {"policy": "line-a"}), (0, {"policy": "line-a"}), (60, {})],
    ids=["nobody knows when it asked first", "it asked in the same second", "a job by hand may ask again"],
)
def test_a_repeated_attempt_is_accepted_if(device, seconds, members):
    asked_again(seconds, **members)(device)
    assert device.create()["status"] == "accepted"


@pytest.mark.parametrize(
    ("seconds", "members"),
    [(60, {}), (0, {"policy": "line-a"}), (-60, {"policy": "line-a"})],
    ids=["a job by hand may ask again", "made in the same second", "a controller's job asks for an older certificate"],
)
def test_create_is_accepted_if(device, seconds, members):
    asked(seconds, **members)(device)
    assert device.create()["status"] == "accepted"


def nothing(_device):
    pass


CREATE_CASES = {
    # case: (what is arranged, what differs in the event, the code)
    "a client id of another thing": (nothing, {"clientId": "gx-1"}, "ClientIdMismatch"),
    "a client id that begins with the thing's name": (nothing, {"clientId": "gw-10"}, "ClientIdMismatch"),
    "another certificate in place on the device": (nothing, {"certificateId": OTHER}, "CredentialMismatch"),
    "a thing name that is none": (nothing, {"thingName": "gw 1"}, "MalformedRequest"),
    "a topic of another thing": (nothing, {"topic": "awslabs/things/gw-2/certificate/create"}, "MalformedRequest"),
    "a job id that is none": (nothing, {"jobId": "../x"}, "MalformedRequest"),
    "no CSR": (nothing, {"csr": None}, "MalformedRequest"),
    "a CSR of 5 KB": (nothing, {"csr": "x" * 5120}, "CsrTooLong"),
    "a CSR that is none": (nothing, {"csr": "hello"}, "CsrUnreadable"),
    "no execution of this job for this thing": (no_execution, {}, "NoExecution"),
    "another thing's job id": (nothing, {"jobId": "job-of-gw-2"}, "NoExecution"),
    "an execution not started": (status("QUEUED"), {}, "ExecutionNotInProgress"),
    "an execution that has failed": (status("FAILED"), {}, "ExecutionNotInProgress"),
    "a job of another kind": (document({"operation": "REBOOT"}), {}, "NotARotation"),
    "a job document that is not JSON": (unreadable_document, {}, "NotARotation"),
    "a job document with a wrong key type": (job(keyAlgorithm="DSA"), {}, "NotARotation"),
    "an unknown authority": (job(certificateAuthority="evil-ca"), {}, "UnknownAuthority"),
    "another key type than demanded": (job(keyAlgorithm="RSA-2048"), {}, "CsrWrongKeyType"),
    "another signature than demanded": (job(signingAlgorithm="ECDSA-WITH-SHA512"), {}, "CsrWrongAlgorithm"),
    "no certificate attached": (detach, {}, "NoCertificate"),
    "two certificates attached": (extra, {}, "ExtraCertificate"),
    "a certificate that another thing holds too": (attached("NON_EXCLUSIVE_THING", "gw-2"), {}, "NotExclusive"),
    "a certificate attached in a way that nobody has heard of": (attached("BY_TWO_THINGS"), {}, "NotExclusive"),
    "a connection with a certificate that is not attached": (nothing, {"principal": OTHER}, "CertificateNotAttached"),
    "an inactive certificate": (inactive, {}, "CertificateInactive"),
    "a certificate made after a controller's job": (asked(60, policy="line-a"), {}, "AlreadyRotated"),
    "a certificate made between two attempts of a controller's job": (
        asked_again(60, policy="line-a"),
        {},
        "AlreadyRotated",
    ),
}


@pytest.mark.parametrize(("arrange", "changes", "code"), CREATE_CASES.values(), ids=CREATE_CASES)
def test_create_is_rejected_for(device, arrange, changes, code, caplog):
    arrange(device)
    before = dict(device.aws.certificates)
    assert device.create(**changes) == {"status": "rejected", "code": code}
    assert device.aws.certificates == before
    assert {record for _, record in device.aws.items} <= {"budget"}
    [line] = [r for r in caplog.records if getattr(r, "decision", None) == "rejected"]
    assert line.code == code
    if "topic" in changes or code != "MalformedRequest":
        device.assert_code(code)


def test_a_certificate_that_is_not_attached_exclusively_but_to_this_thing_alone_is_rotated_and_its_successor_is(device):
    attached("NON_EXCLUSIVE_THING")(device)
    assert device.create()["status"] == "accepted"
    assert device.aws.certificates[device.new].things == {"gw-1": "EXCLUSIVE_THING"}
    assert device.commit()["status"] == "accepted"
    device.ended("SUCCEEDED")
    device.assert_only(device.new)


def test_what_another_thing_got_hold_of_meanwhile_is_not_removed_and_a_person_is_told(device):
    attached("NON_EXCLUSIVE_THING")(device)
    device.create()
    device.commit()
    attached("NON_EXCLUSIVE_THING", "gw-2")(device)
    device.ended("SUCCEEDED")
    assert device.aws.certificates[device.old].status == "ACTIVE"
    assert device.aws.certificates[device.old].things == dict.fromkeys(("gw-1", "gw-2"), "NON_EXCLUSIVE_THING")
    assert "is attached to gw-1, gw-2: it was not touched" in device.aws.notices[-1]


def test_a_create_that_names_the_certificate_of_its_connection_is_accepted(device):
    assert device.create(certificateId=device.old, clientId="gw-1#3")["status"] == "accepted"


def test_a_principal_that_is_no_certificate_is_rejected(device):
    device.aws.iot_list_thing_principals_v2 = lambda _request: {
        "thingPrincipalObjects": [
            {"principal": "arn:aws:cognito-identity:eu-west-1:1:identity/x", "thingPrincipalType": "EXCLUSIVE_THING"}
        ]
    }
    device.create()
    device.assert_code("NoCertificate")


CSR_CASES = {
    "a weak key": ("RSA-1024", {}, "CsrWeakKey"),
    "a weak exponent": ("RSA-2048-exponent-3", {}, "CsrWeakKey"),
    "an unknown curve": ("secp256k1", {}, "CsrWrongKeyType"),
    "another subject": ("ECDSA-P256", {"name": "other"}, "CsrWrongSubject"),
    "a signature of another kind": ("RSA-2048", {"digest": hashes.SHA3_256()}, "CsrWrongAlgorithm"),
}


@pytest.mark.parametrize(("key", "options", "code"), CSR_CASES.values(), ids=CSR_CASES)
def test_create_is_rejected_for_a_csr_with(device, keys, csr_of, name_of, key, options, code):
    name = name_of(options["name"]) if "name" in options else None
    device.create(csr=csr_of(keys[key], name, options.get("digest")))
    device.assert_code(code)


def test_create_is_rejected_for_a_csr_over_the_current_key(device, csr_of):
    device.create(csr=csr_of(device.key))
    device.assert_code("CsrReusedKey")


def test_create_is_rejected_for_a_csr_with_a_bad_signature(device):
    device.create(csr=_tampered(device.csr))
    device.assert_code("CsrBadSignature")


def test_create_is_rejected_for_a_csr_with_an_unknown_signing_algorithm(device):
    der = x509.load_pem_x509_csr(device.csr.encode()).public_bytes(Encoding.DER)
    unknown = der.replace(bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d040309"))
    body = base64.encodebytes(unknown).decode()
    device.create(csr=f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")
    device.assert_code("CsrWrongAlgorithm")


def test_create_is_rejected_for_a_key_of_no_supported_kind(device, csr_of):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM).decode()
    device.create(csr=csr)
    device.assert_code("CsrWrongKeyType")


@pytest.mark.parametrize("key", ["RSA-2048", "RSA-3072", "ECDSA-P256", "ECDSA-P384", "ECDSA-P521"])
def test_every_key_type_of_the_protocol_is_accepted(device, keys, csr_of, key):
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": key})
    assert device.create(csr=csr_of(keys[key]))["status"] == "accepted"


def test_a_pss_signature_is_told_from_a_plain_one(device, keys, csr_of):
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "signingAlgorithm": "SHA256WITHRSAANDMGF1"})
    device.create(csr=csr_of(keys["RSA-2048"]))
    device.assert_code("CsrWrongAlgorithm")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    csr = csr_of(keys["RSA-2048"], None, hashes.SHA256(), rsa_padding=pss)
    assert device.create(csr=csr)["status"] == "accepted"


def created(device):
    device.create()


def committed(device):
    device.create()
    device.commit()


def given_up(device):
    created(device)
    device.aws.items["gw-1", "current"] |= {
        "phase": {"S": "removing"},
        "removing": {"S": device.new},
        "outcome": {"S": "rolled back"},
    }


def being_created(device):
    created(device)
    device.aws.items["gw-1", "current"]["phase"] = {"S": "issuing"}


def forged_third(device):
    created(device)
    other = type(device)(device.aws, "gw-2")
    device.aws.certificates[other.old].things["gw-1"] = "EXCLUSIVE_THING"


COMMIT_CASES = {
    "a client id of another thing": (created, {"clientId": "gx-1"}, "ClientIdMismatch"),
    "a client id that begins with the thing's name": (created, {"clientId": "gw-10"}, "ClientIdMismatch"),
    "a topic of another thing": (created, {"topic": "awslabs/things/gw-2/certificate/commit"}, "MalformedRequest"),
    "nothing created": (nothing, {"principal": OTHER}, "NoRotation"),
    "another job": (created, {"jobId": "another"}, "NoRotation"),
    "a certificate still being issued": (being_created, {}, "NotCreated"),
    "the old certificate": (created, {"principal": "old"}, "OldCertificate"),
    "the old certificate, after the commit": (committed, {"principal": "old"}, "OldCertificate"),
    "a third certificate": (created, {"principal": OTHER}, "OldCertificate"),
    "a rotation that was given up": (given_up, {}, "NoRotation"),
    "a third certificate attached": (forged_third, {}, "RegistryContradicts"),
}


@pytest.mark.parametrize(("arrange", "changes", "code"), COMMIT_CASES.values(), ids=COMMIT_CASES)
def test_commit_is_rejected_for(device, arrange, changes, code):
    arrange(device)
    before = {i: (c.status, dict(c.things)) for i, c in device.aws.certificates.items()}
    if changes.get("principal") == "old":
        changes = {"principal": device.old}
    assert device.commit(**changes) == {"status": "rejected", "code": code}
    assert {i: (c.status, dict(c.things)) for i, c in device.aws.certificates.items()} == before
    device.assert_code(code)


def test_a_forged_shadow_naming_another_devices_certificate_decides_nothing(device, make_device):
    other = make_device(device.aws, "gw-2")
    device.create()
    device.commit()
    new = device.new
    device.aws.shadows["gw-1"] = {"progress": "committed", "oldCertificateId": other.old, "newCertificateId": new}
    device.ended("SUCCEEDED")
    assert set(device.aws.certificates) == {new, other.old}


def test_every_code_is_met_by_a_case():
    met = {code for *_, code in [*CREATE_CASES.values(), *CSR_CASES.values(), *COMMIT_CASES.values()]}
    elsewhere = {
        "CsrReusedKey", "CsrBadSignature", "RotationInProgress", "SupersededKey", "IssueFailed", "Internal",
        "OverBudget", "Quarantined",
    }  # fmt: skip
    assert met | elsewhere == {code.value for code in RejectionCode}


@pytest.mark.parametrize("path", sorted(EVENTS.glob("malformed-*.json")), ids=lambda p: p.stem)
def test_a_malformed_create_of_a_real_rule_is_rejected_without_a_call_to_the_registry(device, path):
    from backend.functions import create_certificate

    event = json.loads(path.read_text())
    assert create_certificate.handler(event, None) == {"status": "rejected", "code": "MalformedRequest"}
    assert {call for call in device.aws.calls if call.startswith("iot")} <= {"iot-data:Publish"}


def test_a_permanent_failure_is_answered_and_raised(device, fault):
    device.aws.faults = [fault(1, code="AccessDeniedException")]
    with pytest.raises(ClientError):
        device.create()
    device.assert_code("Internal")


def test_a_passing_failure_is_not_answered_so_that_the_device_asks_again(device, fault):
    device.aws.faults = [fault(1)]
    with pytest.raises(ClientError):
        device.create()
    assert device.aws.published == []
    assert device.create()["status"] == "accepted"


def test_a_failed_connection_is_passing(device):
    def break_off():
        raise ConnectTimeoutError(endpoint_url="https://jobs.example")

    device.aws.before_call["iot-jobs-data:DescribeJobExecution"] = break_off
    with pytest.raises(ConnectTimeoutError):
        device.create()
    assert device.aws.published == []


SENTENCES = [
    "The certificate validity specified exceeds the certificate authority validity",
    "The signing algorithm SHA256WITHRSA is not compatible with the key of the CA",
    "CA is in short-lived mode\nand issues for at most 7 days",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_an_authority_says_when_it_refuses_stands_in_answer_evidence_and_notice(device, sentence):
    def refuse(_request):
        raise client_error("ValidationException", "IssueCertificate", message=sentence)

    device.aws.acm_pca_issue_certificate = refuse
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "plant-ca"})
    device.create()
    device.assert_code("IssueFailed")
    device.assert_only(device.old)
    said = f'(ValidationException): it reports "{" ".join(sentence.split())}".'
    assert said in device.aws.published[-1][1]["errorMsg"]
    assert said in device.record["history"]["L"][-1]["M"]["who"]["S"]
    device.aws.tick()
    device.ended("FAILED", statusDetails={})
    assert "ValidationException" in device.aws.notices[-1]
    assert " ".join(sentence.split()) in device.aws.notices[-1]
    assert [(kept.code, said in kept.sentence) for kept in device.refusals] == [("IssueFailed", True)]


@pytest.mark.parametrize("authority", ["aws-iot", "plant-ca"])
@pytest.mark.parametrize("code", ["ThrottlingException", "LimitExceededException", "MalformedCsrException"])
def test_what_was_refused_is_not_looked_for_among_the_accounts_certificates(device, authority, code, make_device):
    for number in range(250):
        pem = device.aws.certificates[device.old].pem
        device.aws.certificates[f"{number:064x}"] = Certificate(pem, "ACTIVE", device.aws.now)

    def refuse(_request):
        raise client_error(code, "x")

    device.aws.iot_create_certificate_from_csr = device.aws.acm_pca_issue_certificate = refuse
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": authority})
    with suppress(ClientError):
        device.create()
    assert device.aws.calls.count("iot:DescribeCertificate") == 1  # of the one that it replaces
    assert "iot:ListCertificates" not in device.aws.calls
    assert device.record["phase"]["S"] == "finished"


def test_an_authority_that_is_another_under_its_name_is_refused(device):
    meant = f"{PLANT_CA[:-3]}999"
    device.start_job(
        document={
            "operation": "ROTATE_CERTIFICATE",
            "certificateAuthority": "plant-ca",
            "certificateAuthorityArn": meant,
        }
    )
    device.create()
    device.assert_code("UnknownAuthority")
    assert meant in device.aws.published[-1][1]["errorMsg"]
    document = {"certificateAuthority": "plant-ca", "certificateAuthorityArn": PLANT_CA}
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", **document})
    assert device.create()["status"] == "accepted"


def test_an_authority_that_never_answers_is_given_up(device, monkeypatch):
    """Before the function's time is up: a run that is killed answers nothing, and the device waits in vain."""
    waited = []
    monkeypatch.setattr("backend.functions.issuers.time", SimpleNamespace(sleep=waited.append))
    device.aws.pca_polls_needed = 1000
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "plant-ca"})
    device.create()
    device.assert_code("IssueFailed")
    device.assert_only(device.old)
    seconds_a_call = 0.1
    assert 12 <= sum(waited) + seconds_a_call * len(device.aws.calls) <= CREATE_TIMEOUT - 2


def test_an_authority_that_certifies_another_key_is_refused(device, make_device):
    other = make_device(device.aws, "gw-2")
    device.aws.acm_pca_get_certificate = lambda _request: {"Certificate": device.aws.certificates[other.old].pem}
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "plant-ca"})
    device.create()
    device.assert_code("IssueFailed")
    assert list(device.attached) == [device.old]


def test_a_private_ca_that_fails_for_good_is_named(device, fault):
    device.aws.acm_pca_get_certificate = _access_denied
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "plant-ca"})
    device.create()
    device.assert_code("IssueFailed")


def _access_denied(_request):
    raise ClientError({"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}, "x")


def test_no_log_line_holds_a_key_or_a_request(device, caplog):
    device.create()
    device.commit()
    device.ended("SUCCEEDED")
    for record in caplog.records:
        assert "BEGIN" not in json.dumps({k: str(v) for k, v in vars(record).items()})


def test_a_device_is_sent_its_certificate_without_the_chain_above_it(device):
    """An answer of over 4,800 bytes never reaches nucleus lite."""
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": "plant-ca"})
    assert device.create()["status"] == "accepted"
    payload = json.dumps(device.aws.published[-1][1])
    assert payload.count("BEGIN CERTIFICATE") == 1
    assert len(payload) < 4800


def odd(signed, tbs, key):
    """The same with its name as a PrintableString, which may hold no underscore; signed anew."""
    body = tbs.replace(b"\x0c\x04gw_1", b"\x13\x04gw_1")
    assert body != tbs
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = bytes.fromhex("300d06092a864886f70d01010b0500")  # sha256WithRSAEncryption
        signature = b"\x00" + key.sign(body, padding.PKCS1v15(), hashes.SHA256())
        content = body + algorithm + b"\x03\x82" + len(signature).to_bytes(2, "big") + signature
    else:
        algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
        signature = b"\x00" + key.sign(body, ec.ECDSA(hashes.SHA256()))
        content = body + algorithm + bytes([0x03, len(signature)]) + signature
    length = len(content).to_bytes(2, "big").lstrip(b"\x00")
    der = bytes([0x30, 0x80 + len(length)]) + length + content
    kind = "CERTIFICATE REQUEST" if isinstance(signed, x509.CertificateSigningRequest) else "CERTIFICATE"
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n"


@pytest.mark.parametrize("kind", ["sound", *ODD])
def test_a_certificate_of_the_field_is_read_as_it_is(kind):
    found = credentials()[kind]
    certificate = csr.load_certificate(found.certificate.decode("latin-1"))
    assert csr.certifies(found.certificate.decode("latin-1"), csr.public_key_digest(certificate.public_key()))
    assert certificate.subject is not None


class TestASubjectWithTextThatAPrintableStringMayNotHold:
    """Some tools write it, and AWS takes it: it is taken as it is."""

    @pytest.fixture
    def device(self, device, name_of):
        old = x509.load_pem_x509_certificate(certify(device.key.public_key(), name_of("gw_1"), device.aws.now).encode())
        device.aws.certificates[device.old].pem = odd(old, old.tbs_certificate_bytes, CA_KEY)
        with pytest.raises(ValueError, match="PrintableString"):
            x509.load_pem_x509_certificate(device.aws.certificates[device.old].pem.encode())
        return device

    @pytest.mark.parametrize("form", ["as it is", "as UTF-8"])
    def test_is_carried_on(self, device, csr_of, name_of, form):
        csr = csr_of(device.new_key, name_of("gw_1"))
        if form == "as it is":
            request = x509.load_pem_x509_csr(csr.encode())
            csr = odd(request, request.tbs_certrequest_bytes, device.new_key)
        assert device.create(csr=csr)["status"] == "accepted"

    def test_is_carried_on_over_an_rsa_key(self, device, csr_of, name_of, keys):
        request = x509.load_pem_x509_csr(csr_of(keys["RSA-2048"], name_of("gw_1")).encode())
        csr = odd(request, request.tbs_certrequest_bytes, keys["RSA-2048"])
        assert device.create(csr=csr)["status"] == "accepted"

    def test_must_be_the_same(self, device, csr_of, name_of):
        device.create(csr=csr_of(device.new_key, name_of("gw_2")))
        device.assert_code("CsrWrongSubject")
        assert "gw_1" in device.aws.published[-1][1]["errorMsg"]

    def test_is_signed_as_it_came(self, device, csr_of, name_of, keys):
        request = x509.load_pem_x509_csr(csr_of(device.new_key, name_of("gw_1")).encode())
        device.create(csr=odd(request, request.tbs_certrequest_bytes, keys["ECDSA-P256"]))
        device.assert_code("CsrBadSignature")
