"""Credentials in real tokens: SoftHSM, and a TPM 2.0 (swtpm behind tpm2-pkcs11). Judged by pkcs11-tool and openssl.

Each test works under a label of its own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid

import pkcs11
import pytest
from component_token_device import enrol as enrol_token
from component_tokens import KINDS, PIN, SoftHsm

from component.certificate_rotator.errors import StoreError
from component.certificate_rotator.pkcs11_token import Token
from component.certificate_rotator.store import Generation
from component.certificate_rotator.store_pkcs11 import Pkcs11Store
from protocol.algorithms import CsrSigningAlgorithm, KeyType, matching_csr_algorithms


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture
def machine(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def enrol(ca):
    """Put a first credential into a token under a fresh label: (label, certificate, store)."""
    made = []

    def run(machine):
        label = f"device-{uuid.uuid4().hex[:8]}"
        made.append((machine, label))
        first = enrol_token(ca, machine.token(), label)
        return label, first, Pkcs11Store(machine.token(), label)

    yield run
    for machine, label in made:  # SoftHSM reads every object there is, each time
        token = machine.token()
        with token.session():
            for item in [item for suffix in ("", ".old", ".new") for item in token.find(label + suffix)]:
                token.destroy(item)


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

    assert not store.is_back()
    store.switch(Generation.OLD)
    store.switch(Generation.OLD)
    assert store.is_back()
    assert machine.objects(label) == before
    assert store.current_certificate().decode() == first
    store.switch(Generation.NEW)
    store.settle()
    assert machine.objects(label) == after
    assert machine.objects(f"{label}.old") == machine.objects(f"{label}.new") == []


def test_a_public_key_with_an_id_of_its_own_under_the_label_is_no_sign_of_a_way_back(softhsm, enrol, ca):
    """As tools import one: neither the nucleus nor a rotation asks for it."""
    label, _, store = enrol(softhsm)
    store.begin()
    store.prepare(KeyType.ECDSA_P256)
    store.install(ca.issue_pem(store.request(CsrSigningAlgorithm.SHA256_ECDSA)))
    token = softhsm.token()
    with token.session():
        token.generate(KeyType.ECDSA_P256, f"{label}.old", b"\x07")
        for item in token.find(f"{label}.old"):
            if item.id == b"\x07" and item.kind is pkcs11.ObjectClass.PUBLIC_KEY:
                token.relabel(item, label)
    assert not store.is_back()


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
        store.preflight(KeyType.RSA_2048)


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


@pytest.mark.posix
def test_a_token_that_is_pulled_is_named_and_met_afresh_when_it_is_back(tmp_path, monkeypatch, enrol):
    (tmp_path / "token").mkdir()
    pulled = SoftHsm(tmp_path / "token")
    monkeypatch.setenv("SOFTHSM2_CONF", pulled.environment["SOFTHSM2_CONF"])
    label, first, store = enrol(pulled)
    store.begin()
    pulled.tokens.rename(tmp_path / "drawer")
    with pytest.raises(StoreError, match=r"check that it is present|plug it in") as caught:
        store.prepare(KeyType.ECDSA_P256)
    assert PIN not in str(caught.value)
    (tmp_path / "drawer").rename(pulled.tokens)
    store.prepare(KeyType.ECDSA_P256)
    assert store.current_certificate().decode() == first
    assert len(pulled.objects(label)) == 3


def test_a_token_that_is_not_seen_for_an_instant_is_looked_for_again(softhsm, enrol):
    """SoftHSM rewrites its token's file at each login of the nucleus."""
    label, _, _ = enrol(softhsm)
    unseen = iter([True, True, False])

    class Blinking(Token):
        pauses = (0.0, 0.0, 0.0)

        def _token(self, library):
            return None if next(unseen) else super()._token(library)

    token = Blinking(softhsm.library, softhsm.slot, PIN)
    with token.session():
        assert len(token.find(label)) == 3


class AnotherProcess:
    """Makes and removes keys of its own, several times a second, and holds the token as it does.

    It is let finish: SoftHSM empties its token's file before it writes it.
    """

    def __init__(self, machine, folder):
        self.going_on = folder / "going-on"
        self.going_on.touch()
        tool = f"pkcs11-tool --module {machine.library} --login --pin {PIN}"
        make = f"{tool} --keypairgen --key-type EC:prime256v1 --label other --id 99"
        remove = (f"{tool} --delete-object --type {kind} --label other" for kind in ("privkey", "pubkey"))
        self.process = subprocess.Popen(
            ["sh", "-c", f"while [ -e {self.going_on} ]; do {make}; {'; '.join(remove)}; sleep 0.3; done"],
            env={**os.environ, **machine.environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self):
        for line in self.process.stdout:  # it is at it
            if "Key pair generated" in line:
                return self
        raise AssertionError(self.process.wait())

    def __exit__(self, *_):
        self.going_on.unlink()
        self.process.communicate()


@pytest.mark.posix
@pytest.mark.parametrize("kind", ["softhsm", pytest.param("tpm", marks=pytest.mark.soak)])
def test_a_token_that_another_process_keeps_busy_is_waited_for(kind, tmp_path, monkeypatch, ca, request):
    """A busy tpm2-pkcs11 fails in the middle of things ("database is locked"), so they are done again."""
    (tmp_path / "token").mkdir()
    machine = KINDS[kind](tmp_path / "token")
    request.addfinalizer(machine.stop)
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    enrol_token(ca, machine.token(), "device")
    store = Pkcs11Store(machine.token(), "device")
    with AnotherProcess(machine, tmp_path):
        for _ in range(2):
            rotate(store, ca)
    assert len(machine.objects("device")) == 3


def test_what_a_busy_token_has_done_by_halves_is_done_again(softhsm, enrol, ca):
    """Whichever call fails, once, the rotation goes on as if it had not."""
    label, _, _ = enrol(softhsm)
    counted = BusyOnce(None, softhsm.library, softhsm.slot, PIN)
    rotate(Pkcs11Store(counted, label), ca)
    for call in range(counted.calls):
        token = BusyOnce(call, softhsm.library, softhsm.slot, PIN)
        rotate(Pkcs11Store(token, label), ca)
        assert token.calls > call
        assert len(softhsm.objects(label)) == 3
    assert softhsm.objects(f"{label}.old") == softhsm.objects(f"{label}.new") == []


class BusyOnce(Token):
    """One call of all fails, when it is done already: that is the harder half."""

    pauses = (0.0,)

    def __init__(self, busy, *arguments):
        super().__init__(*arguments)
        self.busy, self.calls = busy, 0

    @contextlib.contextmanager
    def _errors(self, what):
        with super()._errors(what):
            yield
            if what != "open a session":
                self.calls += 1
                if self.calls - 1 == self.busy:
                    raise pkcs11.exceptions.GeneralError


def rotate(store, ca):
    store.preflight(KeyType.ECDSA_P256)
    store.begin()
    store.prepare(KeyType.ECDSA_P256)
    new = ca.issue_pem(store.request(CsrSigningAlgorithm.SHA256_ECDSA))
    store.install(new)
    assert store.current_certificate().decode() == new
    store.settle()


def test_a_tpm_that_was_restarted_has_forgotten_its_sessions_and_is_met_afresh(tpm, enrol, ca):
    label, _, store = enrol(tpm)
    store.begin()
    tpm.stop()
    with pytest.raises(StoreError, match=r"check that it is present|plug it in"):
        store.prepare(KeyType.ECDSA_P256)
    tpm.start()
    store.settle()
    store.prepare(KeyType.ECDSA_P256)
    store.install(ca.issue_pem(store.request(CsrSigningAlgorithm.SHA256_ECDSA)))
    store.settle()
    assert len(tpm.objects(label)) == 3
