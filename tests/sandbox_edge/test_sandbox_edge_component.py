"""The real component, built as for a release, under the nucleus stand-in: whole rotations."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from component.build import ARCHIVE, write_archive, write_recipe
from protocol.names import COMPONENT_NAME
from sandbox.edge import Component, ConfigurationUpdate, Nucleus, Pkcs11Settings, Profile, Provisioning, provision

SOFTHSM_LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234"


@pytest.fixture(scope="module")
def component(tmp_path_factory):
    folder = tmp_path_factory.mktemp("component")
    write_archive(folder / ARCHIVE)
    recipe = write_recipe(folder, name=COMPONENT_NAME, version="1.0.0", bucket="sandbox")
    return Component(recipe, folder, archive=folder / ARCHIVE)


@pytest.fixture
def run(tmp_path, endpoint, issuer, registry, component):
    running = []

    def start(profile=Profile.CLASSIC, environment=None, **credential):
        root = tmp_path / "gg"
        device = Provisioning("core1", "localhost", endpoint.port, issuer.ca_file, profile=profile, **credential)
        provision(root, device)
        if not credential:
            issued = issuer.issue("core1")
            registry.register(issued)
            shutil.copy(issued.certificate_file, root / "thingCert.crt")
            shutil.copy(issued.key_file, root / "privKey.key")
        chosen = Component(component.recipe, component.artifacts, environment or {}, archive=component.archive)
        running.append(Nucleus(root, chosen, profile=profile))
        running[-1].start()
        assert running[-1].wait_connected()
        return running[-1]

    yield start
    for nucleus in running:
        nucleus.stop()


def asked_for_work(recorder, count=1):
    recorder.wait_for("$aws/things/core1/jobs/$next/get", count)


@pytest.mark.parametrize("profile", Profile)
def test_the_component_rotates_its_credential_and_the_device_connects_with_it(
    run, backend, registry, recorder, profile
):
    nucleus = run(profile)
    asked_for_work(recorder)
    backend.start_job("core1", keyAlgorithm="ECDSA-P384", signingAlgorithm="ECDSA-WITH-SHA384")
    assert backend.outcome("core1")["status"] == "SUCCEEDED", nucleus.log_file.read_text()
    certificate = x509.load_pem_x509_certificate((nucleus.root / "thingCert.crt").read_bytes())
    assert certificate.public_bytes(Encoding.DER) == backend.issued["core1"]
    registry.wait_for("connected", "core1", 2)
    assert nucleus.component_starts == (2 if profile is Profile.CLASSIC else 1)


def test_a_deployment_that_the_component_rejects_changes_nothing(run, recorder):
    nucleus = run()
    asked_for_work(recorder)
    wrong = {"keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "SHA256WITHRSA"}
    outcome = nucleus.deploy(ConfigurationUpdate("d1", wrong))
    assert outcome.status == "FAILED"
    assert "a ECDSA-P256 key cannot sign with SHA256WITHRSA" in outcome.reason
    assert nucleus.config.configuration(COMPONENT_NAME)["keyAlgorithm"] == "RSA-2048"
    right = {"keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}
    assert nucleus.deploy(ConfigurationUpdate("d2", right)).status == "SUCCEEDED"
    assert nucleus.config.configuration(COMPONENT_NAME)["keyAlgorithm"] == "ECDSA-P256"


def test_a_credential_in_a_token_rotates_too(run, backend, registry, recorder, issuer, softhsm):
    credential = issuer.issue("core1")
    registry.register(credential)
    slot = softhsm.new_token("core1")
    softhsm.store("core1", "rotating", credential)
    nucleus = run(
        environment={"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]},
        certificate="pkcs11:object=rotating;type=cert",
        private_key="pkcs11:object=rotating;type=private",
        pkcs11=Pkcs11Settings("softhsm", str(SOFTHSM_LIBRARY), slot, PIN),
    )
    registry.wait_for("connected", "core1", certificate_id=credential.certificate_id)
    asked_for_work(recorder)
    backend.start_job("core1", keyAlgorithm="ECDSA-P256", signingAlgorithm="ECDSA-WITH-SHA256")
    assert backend.outcome("core1")["status"] == "SUCCEEDED", nucleus.log_file.read_text()
    registry.wait_for("connected", "core1", 2)
    assert registry.authenticate(backend.issued["core1"]) == registry.presence[-1][1]
    assert PIN not in nucleus.log_file.read_text().split()


BROKEN_TOKENS = {
    "no library": ({"library": "/nowhere.so"}, "the PKCS#11 library /nowhere.so cannot be loaded"),
    "no such slot": ({"slot": 999_999}, "no token in slot 999999"),
    "wrong PIN": ({"user_pin": "9999"}, "the token in slot"),
    "no such label": ({}, "expected one certificate labelled 'absent', found 0"),
}


@pytest.mark.parametrize("case", BROKEN_TOKENS)
def test_a_token_that_cannot_be_used_keeps_the_device_offline_and_is_said(
    tmp_path, endpoint, issuer, component, softhsm, caplog, case
):
    changes, complaint = BROKEN_TOKENS[case]
    slot = softhsm.new_token(f"broken-{len(case)}")
    settings = {"name": "softhsm", "library": str(SOFTHSM_LIBRARY), "slot": slot, "user_pin": PIN} | changes
    device = Provisioning(
        "core1",
        "localhost",
        endpoint.port,
        issuer.ca_file,
        certificate="pkcs11:object=absent;type=cert",
        private_key="pkcs11:object=absent;type=private",
        pkcs11=Pkcs11Settings(**settings),
    )
    provision(tmp_path, device)
    nucleus = Nucleus(tmp_path, component)
    nucleus.start()
    nucleus.stop()
    assert "core1 stays offline until it is restarted: the credential cannot be used" in caplog.text
    assert complaint in caplog.text
    assert settings["user_pin"] not in caplog.text.replace(str(slot), "")


class SoftHsm:
    """Tokens in a folder of the test, made and filled with the tools that Debian ships."""

    def new_token(self, label):
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", PIN]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return int(re.search(r"slot (\d+)", done.stdout)[1])

    def store(self, token, label, credential):
        named = ["--label", label, "--id", "01", "--pin", PIN]
        key = ["softhsm2-util", "--import", credential.key_file, "--token", token, *named]
        subprocess.run(key, check=True, capture_output=True)
        certificate = credential.certificate_file.with_suffix(".der")
        certificate.write_bytes(credential.der)
        module = ["pkcs11-tool", "--module", SOFTHSM_LIBRARY, "--token-label", token, "--login"]
        write = [*module, "--write-object", certificate, "--type", "cert", *named]
        subprocess.run(write, check=True, capture_output=True)


@pytest.fixture(scope="module")
def softhsm(tmp_path_factory):
    """One configuration for the whole module: SoftHSM reads it when its library is loaded, once a process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        yield SoftHsm()


def test_everything_on_the_bus_is_what_the_protocol_says(run, backend, recorder):
    run()
    asked_for_work(recorder)
    backend.start_job("core1", keyAlgorithm="ECDSA-P256")
    backend.outcome("core1")
    sent = [m for m in recorder.messages if m.client_id == "core1"]
    assert {m.qos for m in sent} == {0}
    names = [m.topic.removeprefix("$aws/things/core1/").removeprefix("awslabs/things/core1/") for m in sent]
    order = ["jobs/job-1/update", "certificate/create", "jobs/$next/get", "certificate/commit", "jobs/job-1/update"]
    position = iter(names)
    assert all(name in position for name in order), names
    last = json.loads(sent[names.index("certificate/commit")].payload)
    assert last == {"jobId": "job-1"}
