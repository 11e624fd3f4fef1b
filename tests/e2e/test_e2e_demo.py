"""`certfleet demo` as a new user runs it, from the wheel alone; openssl checks what it leaves behind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MUST_SAY = {
    "the fleet": r"68 devices in 5 groups, 7 of them real component processes; AWS IoT's CA and 1 private CA",
    "every rotating reason": r"(?s)IssuedBeforeCutoff.*Expiring.*AgeExceeded.*KeyTypeMismatch.*AuthorityMismatch",
    "the incident": r"incident copied-keys is finished",
    "the plan": r"devices rotate in \d+ jobs",
    "the outcome": r"41 devices rotated",
    "nothing left to do": r"Nothing to do now",
    "keys match": r"✓ 41 rotated devices hold a private key and a certificate that match",
    "chains verify": r"✓ 41 rotated devices hold a certificate that the authority of their policy signed",
    "old certificates are gone": r"✓ 41 rotated devices have lost their old certificate",
    "old credentials are refused": r"✓ 41 rotated devices are refused when they connect with the old credential",
}
BLOCKED = [
    "PolicyConflict",
    "NoCertificate",
    "ExtraCertificate",
    "SharedCertificate",
    "CertificateInactive",
    "Unparseable",
    "Expired",
    "RepeatedlyFailed",
]
DECIDED = ["Waived", "Suspended"]
DEMANDED = {  # by prefix of the device's name: key as openssl prints it, and authority
    "line-a-legacy": ("ASN1 OID: prime256v1", "plant-ca"),
    "line-a-cell": ("ASN1 OID: prime256v1", "plant-ca"),
    "line-a-expiring": ("ASN1 OID: prime256v1", "plant-ca"),
    "line-b-old": ("Public-Key: (2048 bit)", "aws-iot"),
    "line-b-curve": ("Public-Key: (2048 bit)", "aws-iot"),
    "line-b-non-exclusive": ("Public-Key: (2048 bit)", "aws-iot"),
    "line-b-batch": ("Public-Key: (2048 bit)", "aws-iot"),
    "bench-leaked": ("ASN1 OID: secp384r1", "aws-iot"),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory, installed):
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-P", "-m", "controller.cli", "demo", "--folder", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("pattern", MUST_SAY.values(), ids=MUST_SAY.keys())
def test_the_demo_shows(pattern, demo):
    assert re.search(pattern, demo[1].stdout)


def test_the_demo_prints_nothing_that_is_not_part_of_its_story(demo):
    assert "Traceback" not in demo[1].stderr
    assert "exception" not in demo[1].stderr


@pytest.mark.parametrize("reason", BLOCKED)
def test_what_is_left_says_what_a_person_must_do(reason, demo):
    last_drift = demo[1].stdout.rpartition("$ certfleet drift")[2]
    assert re.search(rf"\n  {reason}  misfit-.*\n(    .*\n)+?    → \w", last_drift)


@pytest.mark.parametrize("reason", DECIDED)
def test_what_a_person_has_decided_is_told_apart(reason, demo):
    decided = demo[1].stdout.rpartition("$ certfleet drift")[2].partition("left out, as a person decided")[2]
    assert re.search(rf"\n{reason}  .*\n( .*\n)* +misfit-{reason.lower()}-", decided)


@pytest.mark.parametrize("prefix", DEMANDED)
def test_openssl_finds_matching_keys_of_the_demanded_type_and_a_chain_to_the_demanded_authority(prefix, demo):
    key_type, authority = DEMANDED[prefix]
    devices = sorted((demo[0] / "world" / "devices").glob(f"{prefix}-*"))
    assert devices
    for device in devices:
        certificate, key = device / "thingCert.crt", device / "privKey.key"
        assert openssl("x509", "-in", certificate, "-noout", "-pubkey") == openssl("pkey", "-in", key, "-pubout")
        assert key_type in openssl("pkey", "-in", key, "-noout", "-text_pub")
        ca = demo[0] / "world" / "authorities" / f"{authority}.pem"
        assert ": OK" in openssl("verify", "-CAfile", ca, certificate)
        assert oct(key.stat().st_mode)[-3:] == "600"


def test_a_rotated_device_keeps_both_credentials_whole_until_a_later_start_and_nothing_else(demo):
    devices = demo[0] / "world" / "devices"
    left = {path for path in devices.rglob("*") if re.search(r"backup|pending|\.(old|new|next|tmp)$", path.name)}
    kept = set()
    for journal in filter(Path.is_file, devices.rglob("journal.json")):  # a link is left for earlier versions
        record = json.loads(journal.read_text())
        assert (record["kept"], record["outcome"]) == ("NEW", "SUCCEEDED"), journal
        folder = devices / journal.relative_to(devices).parts[0]
        for name in ("privKey.key", "thingCert.crt"):
            assert (folder / f"{name}.new").read_bytes() == (folder / name).read_bytes()
            kept |= {folder / f"{name}.new", folder / f"{name}.old"}
    assert left == kept
    private = {path for path in kept if path.name != "thingCert.crt.old"}  # that one has the access it had in place
    assert all(oct(path.stat().st_mode)[-3:] == "600" for path in private)
