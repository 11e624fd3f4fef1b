"""A device on virtual time that keeps its credential in a real token."""

from __future__ import annotations

import ssl
import uuid

import pkcs11
from component_faults import CountingToken, Injector
from component_tokens import PIN
from component_world import Device
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pkcs11 import ObjectClass

from component.certificate_rotator.store_pkcs11 import Pkcs11Store
from protocol.algorithms import KeyType


def enrol(ca, token, label, odd=lambda der: der):
    """Put a first credential into a token, ``odd`` as it may be; returns its certificate, PEM."""
    with token.session():
        token.generate(KeyType.ECDSA_P256, label, b"\x01" + uuid.uuid4().bytes)
        public = next(item for item in token.find(label) if item.kind is ObjectClass.PUBLIC_KEY)
        key = serialization.load_der_public_key(token.public_key(public))
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway-7")])
        certificate = ca.issue(key, name)
        der = odd(certificate.public_bytes(serialization.Encoding.DER))
        token.store_certificate(der, name.public_bytes(), label, public.id)
    return pem_of(der)


def certificate_of(token, item):
    return pem_of(token.certificate(item)) if item.kind is ObjectClass.CERTIFICATE else ""


def pem_of(der):
    return ssl.DER_cert_to_PEM_cert(der)


class TokenDevice(Device):
    """The store is what is tested; what lies in the token is looked up past every fault."""

    def __init__(self, *arguments, machine, injector=None, **device):
        self.machine, self.injector = machine, injector or Injector()
        self._seen = None
        self.label = f"device-{uuid.uuid4().hex[:8]}"
        super().__init__(*arguments, **device)

    def enrol(self, _pair):
        self.first = enrol(self.cloud.ca, self.machine.token(), self.label)
        self.cloud.registry = {self.first}

    def make_store(self):
        return Pkcs11Store(CountingToken(self.injector, self.machine.library, self.machine.slot, PIN), self.label)

    def process_died(self):
        pkcs11.lib(self.machine.library).reinitialize()

    def certificate_in_place(self):
        """The nucleus finds key and certificate by label; anything but one of each is not a credential."""
        certificates = [pem for kind, _, pem in self._held()[self.label] if kind is ObjectClass.CERTIFICATE]
        return certificates[0] if len(certificates) == 1 else ""

    def pair_matches(self):
        held = self._held()[self.label]
        keys = [identity for kind, identity, _ in held if kind is ObjectClass.PRIVATE_KEY]
        return len(keys) == 1 and keys == [identity for kind, identity, _ in held if kind is ObjectClass.CERTIFICATE]

    def holds_a_working_credential(self):
        """A key and its certificate, which share one id, under whatever label: what is left is to rename them."""
        held = [item for items in self._held().values() for item in items]
        keys = {identity for kind, identity, _ in held if kind is ObjectClass.PRIVATE_KEY}
        return any(identity in keys and pem in self.cloud.registry for _, identity, pem in held)

    def remains(self):
        return super().remains(), self.injector.changes

    def leftovers(self):
        labels = [label for label, items in self._held().items() if items and label != self.label]
        return labels + sorted(path.name for path in self.folder.iterdir())

    def kept_on_the_way_back(self):
        return {"journal.json", f"{self.label}.new"}, set()

    def kept_without_success(self):
        return {"journal.json", f"{self.label}.old"}

    def discard(self):
        """SoftHSM reads every object there is, each time."""
        token = self.machine.token()
        with token.session():
            for suffix in ("", ".old", ".new"):
                for item in token.find(self.label + suffix):
                    token.destroy(item)

    def _held(self):
        """(kind, id, PEM of a certificate) by label; looked up again when the token has changed."""
        if self._seen is None or self._seen[0] != self.injector.changes:
            token = self.machine.token()
            with token.session():
                labels = [self.label + suffix for suffix in ("", ".old", ".new")]
                held = {
                    label: [(item.kind, item.id, certificate_of(token, item)) for item in token.find(label)]
                    for label in labels
                }
            self._seen = self.injector.changes, held
        return self._seen[1]
