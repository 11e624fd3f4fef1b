"""Files keep what they had; the journal comes back from anything."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pytest
from component_cloud import pem_of, subject_of
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from component.certificate_rotator import certificates, journal, system
from component.certificate_rotator.errors import CertificateError, StoreError
from component.certificate_rotator.journal import Journal, JournalRecord, Step
from component.certificate_rotator.store import Generation
from component.certificate_rotator.store_files import FileStore
from component.certificate_rotator.system import System, is_mounted
from protocol.algorithms import CsrSigningAlgorithm, KeyType
from protocol.messages import ExecutionStatus

TEXT = st.text(max_size=20)
RECORDS = st.builds(
    JournalRecord,
    step=st.sampled_from(Step),
    job_id=st.none() | st.text(min_size=1, max_size=64),
    key_type=st.none() | st.sampled_from(KeyType),
    signing_algorithm=st.none() | st.sampled_from(CsrSigningAlgorithm),
    outcome=st.none() | st.sampled_from(ExecutionStatus),
    reason=st.none() | TEXT,
    target=st.sampled_from(Generation),
    awake=st.floats(0, 1e6),
    swaps=st.integers(0, 99),
    notes=st.dictionaries(TEXT, TEXT, max_size=3),
)


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record):
    assert journal.decode(journal.encode(record)) == record


@given(RECORDS, st.data())
def test_a_damaged_record_is_rolled_back_or_says_what_it_said(record, data):
    raw = bytearray(journal.encode(record))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] = data.draw(st.integers(0, 255))
    read = journal.decode(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    assert read.step in Step
    if read.step is Step.SWITCHING and read.reason and read.reason.startswith("the journal of this rotation"):
        assert read.target is Generation.OLD


@given(st.binary(max_size=64))
def test_any_bytes_at_all_roll_back(raw):
    assert journal.decode(raw).step is Step.SWITCHING
    assert journal.decode(raw).target is Generation.OLD


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"step": "FLYING"}, {"key_type": "DSA"}, {"notes": []}, {"awake": "x"}, {"reason": 7}]
)
def test_a_journal_of_another_version_rolls_back_and_still_knows_its_job(change):
    content = {**json.loads(journal.encode(JournalRecord(Step.CONNECTING, "job-1", notes={"oldId": "0a"}))), **change}
    read = journal.decode(json.dumps(content).encode())
    assert (read.step, read.job_id) == (Step.SWITCHING, "job-1")
    assert read.notes == ({} if change == {"notes": []} else {"oldId": "0a"})


def test_a_journal_that_was_destroyed_in_mid_rotation_brings_the_old_credential_back(world, rotation_document):
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(0.5)
    world.device.switch_off()
    assert world.device.certificate_in_place() != world.first_certificate
    (world.device.folder / "journal.json").write_bytes(b"\0" * 100)
    world.device.switch_on()
    world.run(3600)
    assert world.device.certificate_in_place() == world.first_certificate
    world.assert_sound()


def test_the_old_credential_can_be_put_back_by_hand_as_the_guide_says(world, rotation_document):
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(0.5)
    world.device.switch_off()
    for path in (world.device.certificate, world.device.key):
        path.write_bytes(path.with_name(path.name + ".old").read_bytes())
    (world.device.folder / "journal.json").unlink()
    world.device.switch_on()
    world.run(600)
    assert world.cloud.status() == "FAILED"
    assert world.device.certificate_in_place() == world.first_certificate
    world.cloud.create_job("job-2", rotation_document())
    world.run(600)
    assert world.cloud.status("job-2") == "SUCCEEDED"
    world.assert_sound()


@pytest.mark.posix
def test_the_journal_holds_no_key_and_only_its_owner_reads_it(tmp_path):
    book = Journal(tmp_path / "journal.json", System())
    book.save(JournalRecord(Step.CREATING, "job-1"))
    assert (tmp_path / "journal.json").stat().st_mode & 0o777 == 0o600
    assert Journal(tmp_path / "journal.json", System()).load() == JournalRecord(Step.CREATING, "job-1")
    book.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pair(tmp_path, first_pair):
    certificate, key = tmp_path / "thing.crt", tmp_path / "thing.key"
    certificate.write_text(first_pair[0])
    key.write_text(first_pair[1])
    return certificate, key


ACL = struct.pack("<I", 2) + b"".join(  # one more user may read: the kernel's own form, linux/posix_acl_xattr.h
    struct.pack("<HHi", tag, permissions, identity)
    for tag, permissions, identity in [(1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 4, -1), (32, 0, -1)]
)


def status_of(path):
    status = path.stat()
    return status.st_mode & 0o7777, status.st_uid, status.st_gid, {n: os.getxattr(path, n) for n in os.listxattr(path)}


@pytest.mark.posix
def test_mode_owner_group_acl_and_security_label_survive_rotation_and_rollback(pair, ca):
    certificate, key = pair
    certificate.chmod(0o644)
    key.chmod(0o440)
    os.setxattr(key, "user.label", b"plant 7")
    os.setxattr(key, "system.posix_acl_access", ACL)
    if os.geteuid() == 0:
        os.chown(key, 1234, 4321)
        os.setxattr(key, "security.selinux", b"system_u:object_r:cert_t:s0\0")
    else:  # only root may give a file away; a group of one's own is as good a witness
        os.chown(key, -1, os.getgroups()[-1])
    before = status_of(certificate), status_of(key)
    store = FileStore(certificate, key, System())
    store.begin()
    store.prepare(KeyType.ECDSA_P384)
    store.install(ca.issue_pem(store.request(CsrSigningAlgorithm.SHA384_ECDSA)))
    assert (status_of(certificate), status_of(key)) == before
    for generation in (Generation.OLD, Generation.NEW):
        store.switch(generation)
        assert (status_of(certificate), status_of(key)) == before


@pytest.mark.posix
@pytest.mark.parametrize("how", ["renamed", "written"])
def test_the_backup_is_what_lies_in_place_when_the_new_credential_comes(pair, ca, how):
    """Somebody puts another credential in place between the making of the key and the installation."""
    store = FileStore(*pair, System())
    store.begin()
    store.prepare(KeyType.ECDSA_P256)
    assert [path.stat().st_nlink for path in pair] == [2, 2]
    fresh = ec.generate_private_key(ec.SECP256R1())
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    others = pem_of(ca.issue(fresh.public_key(), subject_of())).encode(), fresh.private_bytes(*form)
    for path, data in zip(pair, others):
        if how == "renamed":
            path.with_name("draft").write_bytes(data)
            path.with_name("draft").replace(path)
        else:
            path.write_bytes(data)
    certificate = ca.issue_pem(store.request(CsrSigningAlgorithm.SHA256_ECDSA))
    store.release()
    store.install(certificate)
    assert [path.stat().st_nlink for path in pair] == [1, 1]
    assert store.switch(Generation.OLD) is Generation.OLD
    assert tuple(path.read_bytes() for path in pair) == others


@pytest.mark.posix
def test_a_symbolic_link_stays_one(pair, ca, tmp_path):
    certificate, key = pair
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "privKey.key"
    link.symlink_to(key)
    store = FileStore(certificate, link, System())
    store.begin()
    store.prepare(KeyType.ECDSA_P256)
    before = key.read_bytes()
    store.install(ca.issue_pem(store.request(CsrSigningAlgorithm.SHA256_ECDSA)))
    assert link.is_symlink()
    assert key.read_bytes() != before


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda c, k: k.unlink(), "cannot read .*thing.key"),
        (lambda c, k: c.write_text("nothing"), "does not hold a certificate"),
        (lambda c, k: k.write_text("SECRET"), "not an unencrypted PEM key"),
    ],
    ids=["no key", "no certificate", "no PEM key"],
)
def test_a_credential_that_is_not_complete_is_not_rotated(pair, spoil, expected):
    spoil(*pair)
    with pytest.raises(StoreError, match=expected) as caught:
        FileStore(*pair, System()).preflight(KeyType.RSA_2048)
    assert "SECRET" not in str(caught.value)


def test_rsa_keys_are_written_as_every_reader_takes_them_and_read_in_either_form(pair, ca):
    """The AWS CRT reads PKCS#1 only on Windows."""
    from cryptography.hazmat.primitives import serialization

    from component.certificate_rotator import keys

    written = keys.generate(KeyType.RSA_2048)
    assert written.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    assert keys.generate(KeyType.ECDSA_P256).startswith(b"-----BEGIN PRIVATE KEY-----\n")
    key = serialization.load_pem_private_key(written, None)
    form = serialization.PrivateFormat.PKCS8
    pkcs8 = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    certificate = ca.issue(key.public_key(), NAME).public_bytes(serialization.Encoding.PEM)
    for form in (written, pkcs8):
        pair[0].write_bytes(certificate)
        pair[1].write_bytes(form)
        FileStore(*pair, System()).preflight(KeyType.RSA_2048)


@pytest.mark.parametrize("key_type", KeyType)
def test_on_windows_a_key_that_the_nucleus_could_not_load_is_refused_before_anybody_is_asked(pair, key_type):
    store = FileStore(*pair, System(), platform="win32")
    if key_type.value.startswith("RSA"):
        store.preflight(key_type)
    else:
        with pytest.raises(StoreError, match=r"on Windows, .* let it demand RSA-2048 or RSA-3072"):
            store.preflight(key_type)


def test_a_key_of_another_pair_is_not_rotated(pair):
    from component.certificate_rotator import keys

    pair[1].write_bytes(keys.generate(KeyType.ECDSA_P256))
    with pytest.raises(StoreError, match="does not belong to the certificate"):
        FileStore(*pair, System()).preflight(KeyType.RSA_2048)


NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway-7")])
OTHER = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway-8")])


@pytest.fixture
def check(ca):
    """Check a certificate made with some flaw; ``flaw`` maps (key, default arguments) to PEM."""
    from datetime import datetime, timedelta, timezone

    from cryptography.hazmat.primitives import serialization

    now = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
    key = ec.generate_private_key(ec.SECP256R1())

    def pem(public=None, subject=NAME, **kwargs):
        return ca.issue(public or key.public_key(), subject, **kwargs).public_bytes(serialization.Encoding.PEM).decode()

    flaws = {
        "none": (pem(), ""),
        "another key": (pem(ec.generate_private_key(ec.SECP256R1()).public_key()), "for another key"),
        "another subject": (pem(subject=OTHER), "expected 'CN=gateway-7'"),
        "not yet valid": (pem(not_before=now + timedelta(minutes=20)), "check the clock"),
        "a little ahead of the clock": (pem(not_before=now + timedelta(minutes=10)), ""),
        "expired": (pem(not_before=now - timedelta(days=9), days=1), "expired at"),
        "no certificate": ("nothing", "does not parse"),
        "a chain of strangers": (pem() + pem(subject=OTHER), "chain received is broken"),
        "too many": (pem() * 9, "9 certificates received"),
    }
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def run(flaw, key_type=KeyType.ECDSA_P256):
        text, expected = flaws[flaw]
        arguments = {"public_key": spki, "current_pem": pem().encode(), "key_type": key_type, "now": now}
        return expected, lambda: certificates.check(text, **arguments)

    return run


@pytest.mark.parametrize(
    "flaw",
    ["none", "another key", "another subject", "not yet valid", "a little ahead of the clock", "expired",
     "no certificate", "a chain of strangers", "too many"],
)  # fmt: skip
def test_a_certificate_is_refused_for_each_flaw_and_taken_without(check, flaw):
    expected, run = check(flaw)
    if expected:
        with pytest.raises(CertificateError, match=expected):
            run()
    else:
        run()


def test_a_certificate_of_another_key_type_than_the_job_demands_is_refused(check):
    _, run = check("none", KeyType.RSA_3072)
    with pytest.raises(CertificateError, match="holds a ECDSA-P256 key, the job demands RSA-3072"):
        run()


MOUNTS = """21 1 8:1 / / rw - ext4 /dev/root rw
55 21 8:1 /keys/privKey.key /gg/my\\040keys/privKey.key rw - ext4 /dev/root rw
"""


@pytest.mark.posix  # it reads what Linux says of its mounts
def test_a_file_that_is_a_mount_of_its_own_is_known(tmp_path):
    """As containers mount single files: a rename over one fails."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert is_mounted(Path("/gg/my keys/privKey.key"), mounts)
    assert not is_mounted(Path("/gg/my keys/thingCert.crt"), mounts)
    assert not is_mounted(Path("/gg"), tmp_path / "none")


OBSTACLES = {
    "mounted": ("is_mounted", r"mount the folder instead of its files"),
    "immutable": ("is_immutable", r"chattr -i it"),
}


@pytest.mark.parametrize(("check", "remedy"), OBSTACLES.values(), ids=OBSTACLES)
def test_a_job_fails_before_its_claim_where_the_files_could_not_be_replaced(
    world, rotation_document, monkeypatch, check, remedy
):
    monkeypatch.setattr(system, check, lambda path: path.name == "privKey.key")
    world.device.switch_on()
    world.run(5)
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    assert world.cloud.status() == "FAILED"
    assert re.search(remedy, world.cloud.details()["DeviceFailureReason"])
    assert not any(topic.endswith("/create") for topic, _ in world.cloud.log)
    assert not any(message.get("status") == "IN_PROGRESS" for _, message in world.cloud.log)
    world.assert_sound()


def test_an_ordinary_file_is_neither_mounted_nor_immutable(pair):
    assert System().obstacle(pair[1]) == ""
