"""The component as its own process: built archive, recipe, Greengrass IPC, mutual TLS, nucleus restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from component_site import (
    IN_PLACE,
    KEPT,
    OPENSSL_KEY,
    THING,
    cut_ipc,
    files_of,
    openssl,
    openssl_says_of,
    openssl_says_they_match,
    python_pid,
    signed_with,
    start_later,
    wait_for,
    wait_for_log,
)
from shared_credentials import credentials

from protocol.algorithms import KeyType, matching_csr_algorithms
from sandbox.edge import ConfigurationUpdate, Profile
from sandbox.edge.nucleus import iot_core


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    "profile",
    [Profile.CLASSIC, *(pytest.param(p, marks=pytest.mark.soak) for p in (Profile.LITE_2_6, Profile.LITE_MAIN))],
)
def test_each_key_type_and_every_csr_algorithm_rotates_through_ipc_and_tls(start, site, profile):
    nucleus = start(profile=profile)
    assert nucleus.wait_connected()
    restarts = 0
    for key_type in KeyType:
        for algorithm in matching_csr_algorithms(key_type):
            job_id = f"{key_type.value}-{algorithm.value}"
            site.create_job(
                {
                    "operation": "ROTATE_CERTIFICATE",
                    "keyAlgorithm": key_type.value,
                    "signingAlgorithm": algorithm.value,
                },
                job_id,
            )
            job = site.wait_ended(job_id)
            assert job["status"] == "SUCCEEDED", (job, nucleus.log_file.read_text()[-3000:])
            restarts += 1
            assert openssl_says_they_match(nucleus.root)
            text = openssl("x509", "-in", str(nucleus.root / "thingCert.crt"), "-noout", "-text")
            assert OPENSSL_KEY[key_type] in text
            assert signed_with(algorithm) <= openssl_says_of(site.record["csr"], site.folder)
            assert files_of(nucleus) == KEPT
            assert (nucleus.root / "privKey.key").stat().st_mode & 0o777 == 0o600
    assert nucleus.component_starts == (restarts + 1 if profile is Profile.CLASSIC else 1)
    assert len(site.active) == 1
    start_later(nucleus)
    assert files_of(nucleus) == IN_PLACE


def test_a_device_connects_with_a_name_that_strict_parsers_refuse_and_rotates_from_it(start, site):
    nucleus = start()
    assert nucleus.wait_connected()
    found = credentials()["an underscore in a PrintableString"]
    (nucleus.root / "thingCert.crt").write_bytes(found.certificate)
    (nucleus.root / "privKey.key").write_bytes(found.key)
    identity = site.register(found.certificate.decode())
    site.active = {identity}
    nucleus.restart()
    assert nucleus.wait_connected(connections=2)
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    assert site.wait_ended()["status"] == "SUCCEEDED", nucleus.log_file.read_text()
    assert "CN = gw_1" in openssl("x509", "-in", str(nucleus.root / "thingCert.crt"), "-noout", "-subject")


def test_a_commit_without_answer_is_rolled_back_and_the_job_says_why(start, site):
    nucleus = start(configuration={"stepTimeLimitSeconds": 5, "resendIntervalSeconds": 1})
    site.deaf.add("commit")
    before = (nucleus.root / "privKey.key").read_bytes()
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    job = site.wait_ended()
    assert job["status"] == "FAILED"
    assert "no answer to the commit" in job["statusDetails"]["DeviceFailureReason"]
    assert (nucleus.root / "privKey.key").read_bytes() == before
    assert openssl_says_they_match(nucleus.root)


def test_a_wrong_configuration_fails_the_job_if_it_came_unasked_and_the_deployment_once_the_component_listens(
    start, site
):
    nucleus = start(configuration={"keyAlgorithm": "ECDSA-P256"})  # as from a deployment while the component starts
    wait_for_log(nucleus, "jobs will fail until a deployment puts it right")
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    site.create_job({"operation": "ROTATE_CERTIFICATE"})
    assert "cannot sign with SHA256WITHRSA" in site.wait_ended()["statusDetails"]["DeviceFailureReason"]
    assert files_of(nucleus) == IN_PLACE
    refused = nucleus.deploy(ConfigurationUpdate("d-1", {"keyAlgorithm": "ECDSA-P384"}))
    assert refused.status == "FAILED"
    assert "a ECDSA-P384 key cannot sign with SHA256WITHRSA" in refused.reason
    merge = {"keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}
    assert nucleus.deploy(ConfigurationUpdate("d-2", merge)).status == "SUCCEEDED"


def test_without_interpolation_by_the_nucleus_a_device_rotates_all_the_same(start, site):
    nucleus = start(interpolate=False)
    assert nucleus.wait_connected()
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    assert site.wait_ended()["status"] == "SUCCEEDED", nucleus.log_file.read_text()


def test_a_connection_to_the_nucleus_that_is_lost_is_made_anew_without_a_new_process(start, site, monkeypatch):
    monkeypatch.setattr(iot_core, "UNSUBACK_SECONDS", 0.9)
    nucleus = start()
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    first, held = python_pid(nucleus), site.endpoint._broker._sessions[THING].subscriptions
    subscribed, asked = set(held), nucleus.asked("SubscribeToIoTCore")
    cut_ipc(nucleus)
    wait_for_log(nucleus, "connected to the nucleus again")
    wait_for(lambda: nucleus.asked("SubscribeToIoTCore") == 2 * asked)
    wait_for(lambda: set(held) == subscribed, timeout=5)  # a nucleus forgets what is asked for too early
    wait_for(lambda: nucleus.is_validated)
    assert nucleus.deploy(ConfigurationUpdate("d-1", {"keyAlgorithm": "ECDSA-P384"})).status == "FAILED"
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    wait_for_log(nucleus, "→ PREPARING")
    assert (nucleus.component_starts, python_pid(nucleus)) == (1, first)
    assert site.wait_ended()["status"] == "SUCCEEDED", nucleus.log_file.read_text()


def test_an_idle_component_is_small_writes_nothing_and_is_not_woken_once(start):
    nucleus = start()
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    process = Path("/proc") / str(python_pid(nucleus))
    assert numbers_in(process / "status")["VmRSS"] < 60 * 1024  # KiB

    def activity():
        """Bytes written, to files or elsewhere, and how often each thread has been given a processor."""
        written = numbers_in(process / "io")
        switches = {
            thread.name: [n for name, n in numbers_in(thread / "status").items() if name.endswith("ctxt_switches")]
            for thread in (process / "task").iterdir()
        }
        return written["wchar"], written["syscw"], switches

    for _ in range(10):  # the last answer may still be on its way
        before = activity()
        time.sleep(3)  # what is observed is a span in which nothing happens
        if activity() == before:
            return
    raise AssertionError((before, activity()))


def numbers_in(file):
    lines = (line.split(":", 1) for line in file.read_text().splitlines())
    return {name: int(text.split()[0]) for name, text in lines if text.split() and text.split()[0].isdigit()}
