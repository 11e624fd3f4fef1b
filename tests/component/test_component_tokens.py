"""Credentials in real tokens: SoftHSM, and a TPM 2.0 (swtpm behind tpm2-pkcs11). Judged by pkcs11-tool and openssl.

The token's library reads its settings when it is loaded, so each kind is set up once, SoftHSM from a copy
that no other test loads; each test works under a label of its own.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import uuid

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from component.certificate_rotator.errors import StoreError
from component.certificate_rotator.pkcs11_token import Token
from component.certificate_rotator.store import Generation
from component.certificate_rotator.store_pkcs11 import Pkcs11Store
from protocol.algorithms import CsrSigningAlgorithm, KeyType, matching_csr_algorithms

PIN = "7391"
SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
TPM = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so"


def run(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True)


class Machine:
    """A token with its library, and tools that are not ours to look into it."""

    def __init__(self, library, slot, token_label):
        self.library, self.slot, self.token_label = library, slot, token_label

    def token(self, kind=Token):
        return kind(self.library, self.slot, PIN)

    def objects(self, label):
        """(kind, id) of every object under a label, says pkcs11-tool."""
        text = run(
            "pkcs11-tool", "--module", self.library, "--token-label", self.token_label, "--login", "--pin", PIN, "-O"
        ).stdout
        found, kind, name = [], None, None
        for line in text.splitlines():
            if " Object" in line:
                kind, name = line.split(" Object")[0], None
            elif line.strip().startswith("label:"):
                name = line.split(":", 1)[1].strip()
            elif line.strip().startswith("ID:") and name == label:
                found.append((kind, line.split(":", 1)[1].strip()))
        return sorted(found)


@pytest.fixture(scope="module")
def softhsm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    run("softhsm2-util", "--init-token", "--free", "--label", "device", "--pin", PIN, "--so-pin", PIN)
    own = str(shutil.copy(SOFTHSM, folder))
    library = pkcs11.lib(own)
    slot = next(slot for slot in library.get_slots(token_present=True) if slot.get_token().label == "device")
    yield Machine(own, slot.slot_id, "device")
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture(scope="module")
def tpm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tpm")
    (folder / "state").mkdir()
    (folder / "store").mkdir()
    socket = folder / "s"
    server = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}/state", "--server", f"type=unixio,path={socket}",
         "--ctrl", f"type=unixio,path={socket}.ctrl", "--flags", "not-need-init,startup-clear"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    settings = {
        "TPM2_PKCS11_STORE": str(folder / "store"),
        "TPM2_PKCS11_TCTI": f"swtpm:path={socket}",
        "TPM2TOOLS_TCTI": f"swtpm:path={socket}",
        "TPM2_PKCS11_LOG_LEVEL": "0",
    }
    os.environ.update(settings)
    try:
        while not socket.exists():
            assert server.poll() is None
        run("pkcs11-tool", "--module", TPM, "--slot-index", "0", "--init-token", "--label", "device", "--so-pin", PIN)
        run("tpm2_flushcontext", "-t")
        run("pkcs11-tool", "--module", TPM, "--token-label", "device", "--init-pin", "--so-pin", PIN, "--pin", PIN)
        run("tpm2_flushcontext", "-t")
        slots = pkcs11.lib(TPM).get_slots(token_present=True)
        slot = next(slot for slot in slots if slot.get_token().label == "device")
        yield Machine(TPM, slot.slot_id, "device")
    finally:
        server.terminate()
        server.wait()
        for name in settings:
            del os.environ[name]


@pytest.fixture
def machine(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def enrol(ca):
    """Put a first credential into a token under a fresh label."""

    def enrol(machine, kind=Token):
        label = f"device-{uuid.uuid4().hex[:8]}"
        token = machine.token()
        with token.session():
            token.generate(KeyType.ECDSA_P256, label, b"\x01" + uuid.uuid4().bytes)
            public = next(item for item in token.find(label) if item.kind is pkcs11.ObjectClass.PUBLIC_KEY)
            key = serialization.load_der_public_key(token.public_key(public))
            name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway-7")])
            certificate = ca.issue(key, name)
            der = certificate.public_bytes(serialization.Encoding.DER)
            token.store_certificate(der, name.public_bytes(), label, public.id)
        return (
            label,
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            Pkcs11Store(machine.token(kind), label),
        )

    return enrol


CASES = [
    *(("softhsm", key_type) for key_type in KeyType),
    *(("tpm", key_type) for key_type in KeyType if key_type is not KeyType.ECDSA_P521),
]


@pytest.mark.parametrize(("machine", "key_type"), CASES, indirect=["machine"], ids=[f"{m} {k.value}" for m, k in CASES])
def test_a_credential_is_replaced_and_put_back_and_settled(machine, key_type, enrol, ca, tmp_path):
    label, first, store = enrol(machine)
    before = machine.objects(label)
    store.begin()
    store.prepare(key_type)
    for algorithm in matching_csr_algorithms(key_type):
        request = store.request(algorithm)
        (tmp_path / "csr.pem").write_text(request)
        verified = run("openssl", "req", "-in", str(tmp_path / "csr.pem"), "-noout", "-verify", "-text")
        assert "verify OK" in verified.stdout + verified.stderr
        assert "gateway-7" in verified.stdout
    new = ca.issue_pem(request)
    store.install(new)
    after = machine.objects(label)
    assert {kind.split()[0] for kind, _ in after} == {"Certificate", "Private", "Public"}
    assert len({identity for _, identity in after}) == 1
    assert {identity for _, identity in after}.isdisjoint(identity for _, identity in before)
    assert store.current_certificate().decode() == new

    store.switch(Generation.OLD)
    store.switch(Generation.OLD)
    assert machine.objects(label) == before
    assert store.current_certificate().decode() == first
    store.switch(Generation.NEW)
    store.settle()
    assert machine.objects(label) == after
    assert machine.objects(f"{label}.old") == machine.objects(f"{label}.new") == []


def test_a_tpm_that_cannot_do_p521_says_so_before_anything_in_place_is_touched(tpm, enrol):
    label, first, store = enrol(tpm)
    before = tpm.objects(label)
    store.begin()
    store.prepare(KeyType.ECDSA_P521)
    with pytest.raises(StoreError, match="let the job demand another key type"):
        store.request(CsrSigningAlgorithm.SHA256_ECDSA)
    assert tpm.objects(label) == before
    assert store.current_certificate().decode() == first


def test_a_key_that_is_not_the_certificates_stops_the_rotation(softhsm, enrol):
    label, _, store = enrol(softhsm)
    token = softhsm.token()
    with token.session():
        key, public = (item for item in token.find(label) if item.kind is not pkcs11.ObjectClass.CERTIFICATE)
        token.destroy(key)
        token.destroy(public)
        token.generate(KeyType.ECDSA_P256, label, key.id)
    with pytest.raises(StoreError, match="does not belong to the certificate"):
        store.begin()


@pytest.mark.parametrize(
    ("slot", "pin", "expected"),
    [(999_999, PIN, "there is no token in slot 999999"), (None, "wrong", "does not accept the PIN")],
    ids=["a token that was pulled", "a wrong PIN"],
)
def test_a_token_that_cannot_be_used_is_named_and_the_pin_is_not(softhsm, slot, pin, expected):
    store = Pkcs11Store(Token(softhsm.library, slot or softhsm.slot, pin), "any")
    with pytest.raises(StoreError, match=expected) as caught:
        store.begin()
    assert pin not in str(caught.value)
    assert PIN not in repr(store.__dict__["_token"])


class Killed(BaseException):
    """Nothing catches it."""


class CountingToken(Token):
    """A token with a point before and after every call that changes it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.points = []
        self.act = lambda index, name: None

    def point(self, name):
        self.points.append(name)
        self.act(len(self.points) - 1, name)


def _counted(name):
    original = getattr(Token, name)

    def method(self, *arguments):
        self.point(f"before {name}")
        result = original(self, *arguments)
        self.point(f"after {name}")
        return result

    return method


for _name in ("find", "generate", "store_certificate", "certificate", "public_key", "sign", "relabel", "destroy"):
    setattr(CountingToken, _name, _counted(_name))


class TokenDevice:
    """Makes the virtual device of conftest keep its credential in a token."""

    def __init__(self, device, store, label, machine):
        self.device, self.store, self.label, self.machine = device, store, label, machine
        device.certificate_in_place = self.certificate
        device.pair_matches = self.pair_matches
        device.leftovers = self.leftovers
        device.make_store = lambda _system: self.store

        device.empty = self.empty

    def empty(self):
        token = self.machine.token()
        with token.session():
            for item in token.find(self.label):
                token.destroy(item)

    def certificate(self):
        """The nucleus finds key and certificate by label; anything but one of each is no credential."""
        token = self.machine.token()
        with token.session():
            found = [item for item in token.find(self.label) if item.kind is pkcs11.ObjectClass.CERTIFICATE]
            if len(found) != 1:
                return ""
            der = token.certificate(found[0])
        return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()

    def pair_matches(self):
        token = self.machine.token()
        with token.session():
            kinds = [(item.kind, item.id) for item in token.find(self.label)]
        keys = [identity for kind, identity in kinds if kind is pkcs11.ObjectClass.PRIVATE_KEY]
        certificates = [identity for kind, identity in kinds if kind is pkcs11.ObjectClass.CERTIFICATE]
        return len(keys) == 1 and keys == certificates

    def leftovers(self):
        token = self.machine.token()
        with token.session():
            labels = [item.label for suffix in (".old", ".new") for item in token.find(self.label + suffix)]
        files = {path.name for path in self.device.folder.iterdir()} - {"thingCert.crt", "privKey.key"}
        return labels + sorted(files)


def token_world(make_world, folder, enrol, machine, document, *, refuse=False):
    label, first, store = enrol(machine, CountingToken)
    world = make_world(folder)
    world.cloud.registry = {first}
    world.first_certificate = first
    if refuse:
        world.cloud.refuse_connection = lambda certificate: certificate != first
    TokenDevice(world.device, store, label, machine)
    world.cloud.create_job(document=document, notify=False)
    world.device.switch_on()
    return world, store._token


def run_until_calm(world):
    end = world.loop.time + 3600
    while world.loop.time < end:
        try:
            world.run(end - world.loop.time)
        except Killed:
            world.device.switch_off()
            world.loop.call_later(3.0, world.device.switch_on)


@pytest.mark.parametrize("refuse", [False, True], ids=["rotation", "rollback"])
def test_a_device_stopped_at_any_call_of_its_token_ends_with_a_working_credential(
    tmp_path, make_world, softhsm, enrol, rotation_document, refuse, capsys, caplog
):
    caplog.set_level(logging.ERROR)
    world, counter = token_world(make_world, tmp_path / "n", enrol, softhsm, rotation_document(), refuse=refuse)
    run_until_calm(world)
    assert world.cloud.status() == ("FAILED" if refuse else "SUCCEEDED")
    outcomes = {}
    # Reads change nothing: before a change and after it are all the states there are.
    points = [i for i, name in enumerate(counter.points) if name.split()[1] in CHANGES]
    for index in points:
        world, token = token_world(
            make_world, tmp_path / str(index), enrol, softhsm, rotation_document(), refuse=refuse
        )

        def kill(at, _name, index=index):
            if at == index:
                raise Killed

        token.act = kill
        run_until_calm(world)
        for _ in range(2):
            if world.device.leftovers():
                world.device.switch_on()
                world.run(600)
        world.assert_sound()
        assert world.cloud.status() in ("SUCCEEDED", "FAILED")
        outcomes[world.cloud.status()] = outcomes.get(world.cloud.status(), 0) + 1
        world.device.empty()  # SoftHSM reads every object there is, each time
    with capsys.disabled():
        print(f"\n{len(points)} crash points in the token, then {outcomes}", end=" ")  # noqa: T201  # how exhaustive
    assert len(points) >= 20


CHANGES = ("generate", "store_certificate", "relabel", "destroy")


def test_a_token_that_is_pulled_during_a_rotation_and_put_back_loses_nothing(
    tmp_path, make_world, softhsm, enrol, rotation_document
):
    world, token = token_world(make_world, tmp_path / "pulled", enrol, softhsm, rotation_document())

    def pull(_at, name):
        if name == "before relabel":
            raise StoreError("there is no token in the slot; plug it in or correct the slot")

    token.act = pull
    world.run(3600)
    assert world.device.pair_matches()
    token.act = lambda at, name: None
    for _ in range(2):
        world.device.switch_on()
        world.run(3600)
    world.assert_sound()
