"""What lies in place is taken as the field has it; with what no nucleus connects nothing is begun."""

from __future__ import annotations

import subprocess

import pytest
from awscrt import io
from component_token_device import TokenDevice, enrol
from cryptography import x509
from shared_credentials import BROKEN, ODD, credentials

from component.certificate_rotator import certificates
from component.certificate_rotator.errors import StoreError
from component.certificate_rotator.store_files import FileStore
from component.certificate_rotator.system import System
from protocol.algorithms import KeyType

pytestmark = pytest.mark.posix  # made by openssl

NOT_OUR_JUDGE = {"the key in the certificate's file", "the certificate in the key's file"}
"""The nucleus does not connect with it, which nobody has to find out here."""


def connects(found):
    """Whether the nucleus' TLS library takes it."""
    try:
        io.ClientTlsContext(io.TlsContextOptions.create_client_with_mtls(found.certificate, found.key))
    except Exception:  # noqa: BLE001  # it has one kind for everything
        return False
    return True


def openssl_reads(path, *command):
    done = subprocess.run(["openssl", *command, "-in", str(path), "-noout"], capture_output=True, check=False)
    return done.returncode == 0


def test_the_corpus_says_what_its_judges_say(tmp_path):
    assert set(credentials()) == {"sound", *ODD, *BROKEN}
    for name, found in credentials().items():
        assert connects(found) == found.works == (name not in BROKEN), name
        (tmp_path / "certificate").write_bytes(found.certificate)
        (tmp_path / "key").write_bytes(found.key)
        if found.works:
            assert openssl_reads(tmp_path / "certificate", "x509"), name
            assert openssl_reads(tmp_path / "key", "pkey"), name


@pytest.mark.parametrize("name", ["sound", *ODD])
def test_a_device_rotates_from_whatever_its_nucleus_connects_with(make_world, memory_folder, rotation_document, name):
    found = credentials()[name]
    world = make_world(memory_folder, pair=(found.certificate.decode("latin-1"), found.key.decode("latin-1")))
    before = certificates.load(found.certificate).subject
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED", world.cloud.details()
    assert x509.load_pem_x509_certificate(world.device.certificate.read_bytes()).subject == before
    world.assert_sound()


def test_a_device_comes_back_to_the_odd_credential_that_it_had(make_world, memory_folder, rotation_document):
    found = credentials()["an underscore in a PrintableString"]
    world = make_world(memory_folder, pair=(found.certificate.decode(), found.key.decode()))
    world.cloud.refuse_connection = lambda certificate: certificate != world.first_certificate
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(1200)
    assert world.cloud.status() == "FAILED"
    assert world.device.certificate.read_bytes() == found.certificate
    assert world.device.leftovers() == []


class OddTokenDevice(TokenDevice):
    """Its certificate holds its name as a PrintableString, with what that may not hold."""

    def enrol(self, _pair):
        self.first = enrol(self.cloud.ca, self.machine.token(), self.label, _with_an_underscore)
        self.cloud.registry = {self.first}


def _with_an_underscore(der):
    found = der.replace(b"\x0c\x09gateway-7", b"\x13\x09gateway_7")
    assert found != der
    return found


def test_a_device_rotates_from_an_odd_certificate_in_its_token(make_world, memory_folder, rotation_document, softhsm):
    world = make_world(memory_folder, kind=OddTokenDevice, machine=softhsm)
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED", world.cloud.details()
    assert "gateway_7" in str(x509.load_pem_x509_certificate(world.device.certificate_in_place().encode()).subject)
    world.device.discard()


@pytest.mark.parametrize("name", sorted({*BROKEN} - NOT_OUR_JUDGE))
def test_what_no_nucleus_connects_with_is_refused_with_a_sentence(tmp_path, name):
    found = credentials()[name]
    certificate, key = tmp_path / "thing.crt", tmp_path / "thing.key"
    certificate.write_bytes(found.certificate)
    key.write_bytes(found.key)
    store = FileStore(certificate, key, System())
    with pytest.raises(StoreError) as error:
        store.preflight(KeyType.ECDSA_P256)
    assert "BEGIN" not in str(error.value)
