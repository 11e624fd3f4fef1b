"""Git against what is deployed: ``validate --live``, ``plan`` and ``plan --base`` say the same of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from protocol.deployment import DeployedAuthority, DeployedBackend
from protocol.job_document import DOCUMENT_FIELDS

CA = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/00000000-0000-0000-0000-00000000c001"
PLANT_CA = f"""\
---
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {{name: plant-ca}}
spec: {{type: PrivateCA, arn: {CA}, signingAlgorithm: SHA256WITHECDSA, validity: 365d}}
---
apiVersion: certfleet/v1
kind: Waiver
metadata: {{name: spare}}
spec: {{devices: [h-002], owner: ops@example.com, reason: waits for a part, expires: 2099-01-01}}
"""
NOBODY = """\
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: nobody}
spec: {thingGroup: line-z, certificate: {maxAge: 90d}}
"""
YEAR = timedelta(days=365)


@pytest.fixture
def plant(factory):
    """One device of AWS IoT under a policy that demands the plant's CA, and a backend that is deployed so."""
    factory.device("h-02", age=200)
    factory.cloud.seed.private_ca(CA, key_algorithm="EC_prime256v1", signing_algorithm="SHA256WITHECDSA")
    factory.write((factory.desired / "factory.yaml").read_text().replace("aws-iot", "plant-ca") + PLANT_CA)
    factory.commit()
    publish(factory)
    return factory


def publish(factory, **changes):
    authority = DeployedAuthority(**({"arn": CA, "signing_algorithm": "SHA256WITHECDSA", "validity": YEAR} | changes))
    text = DeployedBackend("0.1.0", {"plant-ca": authority}, DOCUMENT_FIELDS).to_json()
    name = "/certfleet/AWSLabsCertificateRotator"
    factory.client("ssm").put_parameter(Name=name, Value=text, Type="String", Overwrite=True)


def disable(factory):
    factory.client("acm-pca").update_certificate_authority(CertificateAuthorityArn=CA, Status="DISABLED")


def unpublish(factory):
    factory.client("ssm").delete_parameter(Name="/certfleet/AWSLabsCertificateRotator")


def test_what_is_deployed_as_git_says_is_valid_and_a_name_that_is_none_is_told(plant):
    found = plant.run("validate", "--live", "--format", "json")
    assert (found.code, found.json["valid"]) == (0, True), found.out
    [note] = [note for note in found.json["notes"] if "waiver" in note["message"]]
    assert "names h-002, which no policy governs; is h-02 meant? It is not waived" in note["message"]
    assert plant.run("plan").code == 2
    assert not plant.run("validate", "--format", "json").json["notes"], "without --live AWS is not asked"


EVERY_FORMAT = ("text", "json", "markdown", "github", "html")


@pytest.mark.parametrize(
    ("command", "formats"),
    [
        (("drift",), EVERY_FORMAT),
        (("status",), ("text",)),
        (("plan",), ("text", "markdown", "html")),
        (("plan", "--base", "HEAD~1"), ("text", "json", "markdown", "github")),
    ],
    ids=" ".join,
)
def test_a_waiver_and_a_policy_that_find_nothing_are_told_by_every_report(plant, command, formats):
    """A waiver names h-002, and the thing is h-02; a policy's group is empty."""
    plant.client("iot").create_thing_group(thingGroupName="line-z")
    documents = plant.desired / "factory.yaml"
    waived = documents.read_text()
    documents.write_text(waived.partition("---\napiVersion: certfleet/v1\nkind: Waiver")[0])
    plant.commit()
    documents.write_text(waived + NOBODY)
    plant.commit()
    for number, name in enumerate(formats):
        told = plant.run(*command, "--format", name, *(["--no-refresh"] if number else []))
        words = " ".join(told.out.replace("&#39;", "'").split())
        assert "names h-002, which no policy governs; is h-02 meant? It is not waived" in words, name
        assert "policy nobody governs no device" in words.replace("`", ""), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: publish(p, arn=f"{CA[:-1]}2"), "the backend issues from"),
        (lambda p: publish(p, validity=timedelta(days=7)), "the backend issues for 7 days"),
        (unpublish, "the backend does not show what it is"),
        (disable, "the CA is DISABLED and issues nothing"),
    ],
)
def test_what_is_deployed_otherwise_is_refused_by_each_command_that_looks(plant, change, said):
    change(plant)

    found = plant.run("validate", "--live", "--format", "json")

    assert found.code == 1
    [problem] = found.json["problems"]
    assert said in problem["message"]
    line = (plant.repository / problem["path"]).read_text().splitlines()[problem["line"] - 1]
    assert "type: PrivateCA" in line, "it stands at the document"
    for command in (("plan",), ("plan", "--base", "HEAD~1"), ("apply",)):
        refused = plant.run(*command)
        assert refused.code == 3, (command, refused.out + refused.err)
        assert said in " ".join((refused.out + refused.err).split())
    assert plant.jobs() == []
