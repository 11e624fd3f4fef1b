"""Full rotations with every signing algorithm of private CAs; openssl verifies the chains."""

from __future__ import annotations

import json
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from protocol.deployment import parse_deployment
from protocol.names import BackendNames

CREATE = "AWSLabsCertificateRotatorCreateCertificate"
ALGORITHMS = {
    "SHA256WITHRSA": "RSA_2048",
    "SHA384WITHRSA": "RSA_2048",
    "SHA512WITHRSA": "RSA_2048",
    "SHA256WITHECDSA": "EC_prime256v1",
    "SHA384WITHECDSA": "EC_secp384r1",
    "SHA512WITHECDSA": "EC_secp384r1",
}
ROOTS = {
    key: f"arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/00000000-0000-0000-0000-00000000000{n}"
    for n, key in enumerate(sorted(set(ALGORITHMS.values())))
}


@pytest.fixture(scope="module")
def authorities(world):
    """One named authority per algorithm, put where a deployment would put them."""
    for key, arn in ROOTS.items():
        world.cloud.seed.private_ca(arn, key, "SHA256WITHRSA" if key.startswith("RSA") else "SHA256WITHECDSA")
    table = {
        name: {"arn": ROOTS[key], "signingAlgorithm": name, "validitySeconds": 90 * 86_400}
        for name, key in ALGORITHMS.items()
    }
    functions = world.client("lambda")
    environment = functions.get_function_configuration(FunctionName=CREATE)["Environment"]
    changed = {**environment["Variables"], "AUTHORITIES": json.dumps(table)}
    functions.update_function_configuration(FunctionName=CREATE, Environment={"Variables": changed})
    yield table
    functions.update_function_configuration(FunctionName=CREATE, Environment=environment)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_rotation_from_a_private_ca_that_signs_with(world, device, authorities, algorithm, tmp_path):
    document = {"operation": "ROTATE_CERTIFICATE", "certificateAuthority": algorithm}
    device.start_job(f"job-{algorithm}", document)
    device.create()
    outcome, answer = device.answer()
    assert outcome == "create/accepted", answer
    [device.principal] = set(device.certificates()) - {device.old}
    device.commit()
    assert device.answer() == ("commit/accepted", {"jobId": device.job})
    device.report("SUCCEEDED")
    assert world.stack.drain(20)
    assert list(device.certificates()) == [device.principal]

    certificate = x509.load_pem_x509_certificate(answer["certificatePem"].encode())
    assert certificate.signature_hash_algorithm.name == algorithm[:6].lower()
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days in (90, 91)
    root = world.client("acm-pca").get_certificate_authority_certificate(
        CertificateAuthorityArn=authorities[algorithm]["arn"]
    )["Certificate"]
    (tmp_path / "root.pem").write_text(root)
    (tmp_path / "leaf.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    command = ["openssl", "verify", "-CAfile", str(tmp_path / "root.pem"), str(tmp_path / "leaf.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_backend_publishes_the_very_authorities_that_its_functions_were_given(world):
    function = BackendNames().commit_function  # those of the other are changed above
    environment = world.client("lambda").get_function_configuration(FunctionName=function)["Environment"]
    answer = world.client("ssm").get_parameter(Name=BackendNames().deployment_parameter)
    published = parse_deployment(answer["Parameter"]["Value"])
    given = json.loads(environment["Variables"]["AUTHORITIES"])
    told = {
        name: (one.arn, one.signing_algorithm, one.validity.total_seconds())
        for name, one in published.authorities.items()
    }
    assert told == {name: (one["arn"], one["signingAlgorithm"], one["validitySeconds"]) for name, one in given.items()}
    assert "certificateAuthorityArn" in published.job_document_fields
