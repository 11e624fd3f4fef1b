"""Credentials in a PKCS#11 token, under the label that the nucleus is set to.

A credential is what shares one CKA_ID: private key, public key, certificate. The nucleus finds it by
label, so a generation is put in place by renaming: the one in place carries ``LABEL``, the others
``LABEL.old`` or ``LABEL.new``. Renaming is all that a TPM can do (no C_CopyObject), and repeating it
after a crash in the middle is harmless, because the ids, kept in the journal, show which is which. Every
key has an id of its own: under one id there is never more than one private key. The key of a rotation that begins
while both generations of the one before are kept is ``LABEL.next`` until those are released.
"""

from __future__ import annotations

import base64
import functools
import logging
import secrets
import textwrap
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, TypeVar, cast

from asn1crypto import algos, csr, keys, pem, x509  # type: ignore[import-untyped]  # publishes no types
from pkcs11 import ObjectClass

from protocol.algorithms import CsrSigningAlgorithm, Family, KeyType
from protocol.der import with_readable_names

from . import certificates
from .errors import CertificateError, StoreError
from .pkcs11_token import Token, TokenBusyError, TokenObject
from .store import NEXT, Extent, Generation

log = logging.getLogger(__name__)

_ID_BYTES = 16
# Seen with awscrt 0.32 to 0.36: its encoder of signatures from tokens has no room for those of P-521.
_P521_CAVEAT = (
    "the nucleus' TLS library (AWS CRT) cannot use an ECDSA-P521 key in a token; let the job demand another key type"
)
_OLD_ID, _NEW_ID = "oldId", "newId"


Method = TypeVar("Method", bound=Callable[..., Any])


def _patiently(method: Method) -> Method:
    """Repeat a method if another process kept the token busy; only what may be repeated at will is marked so."""

    @functools.wraps(method)
    def repeated(self: Pkcs11Store, *arguments: Any, **named: Any) -> Any:
        if self._token.is_open:
            return method(self, *arguments, **named)
        for pause in self._token.pauses:
            try:
                return method(self, *arguments, **named)
            except TokenBusyError as error:  # noqa: PERF203  # a few tries
                log.info("%s; trying again", error)
                time.sleep(pause)
        return method(self, *arguments, **named)

    return cast("Method", repeated)


class Pkcs11Store:
    """A CredentialStore in a token."""

    def __init__(self, token: Token, label: str) -> None:
        self._token = token
        self._label = label
        self._notes: Mapping[str, str] = {}

    @_patiently
    def preflight(self, key_type: KeyType) -> None:  # noqa: ARG002  # as the protocol says
        """See CredentialStore."""
        with self._token.session():
            certificate = self._one(self._label, ObjectClass.CERTIFICATE)
            key = self._one(self._label, ObjectClass.PRIVATE_KEY)
            if not key.id or key.id != certificate.id:
                raise StoreError(f"key and certificate {self._label!r} do not share one CKA_ID; the nucleus needs that")
            self._require_pair(certificate, key)

    @_patiently
    def begin(self, kept: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
        """See CredentialStore."""
        with self._token.session():
            key = self._one(self._label, ObjectClass.PRIVATE_KEY)
            if kept is None:
                self.settle()
            else:
                self.abandon()
        fresh = secrets.token_bytes(_ID_BYTES).hex()
        self._notes = {_OLD_ID: key.id.hex(), _NEW_ID: fresh} if kept is None else {**kept, NEXT: fresh}
        return dict(self._notes)

    def resume(self, notes: Mapping[str, str]) -> None:
        """See CredentialStore."""
        self._notes = notes

    @_patiently
    def prepare(self, key_type: KeyType) -> None:
        """See CredentialStore."""
        with self._token.session():
            label = self._next if NEXT in self._notes else self._named(Generation.NEW)
            for item in self._token.find(label):  # half a key, of a try before
                self._token.destroy(item)
            self._token.generate(key_type, label, self._new_id())

    @_patiently
    def is_back(self) -> bool:
        """See CredentialStore."""
        with self._token.session():
            found = self._token.find(self._label)
            in_place = {item.id for item in found if item.kind is not ObjectClass.PUBLIC_KEY}  # nobody asks for that
            return self._is_complete(Generation.NEW) and in_place != {self._id(Generation.NEW)}

    def is_overtaken(self) -> bool:
        """See CredentialStore; whatever carries the label, its id shows which it is."""
        return False

    def adopt(self, certificate: bytes, key: bytes) -> Optional[Generation]:  # noqa: ARG002  # as the protocol says
        """See CredentialStore; always None, because a backup in files is not a token's."""
        return None

    def caveat(self, key_type: KeyType) -> str:
        """See CredentialStore."""
        return _P521_CAVEAT if key_type is KeyType.ECDSA_P521 else ""

    @_patiently
    def request(self, algorithm: CsrSigningAlgorithm) -> str:
        """See CredentialStore."""
        with self._token.session():
            key = self._new(ObjectClass.PRIVATE_KEY)
            certificate = self._token.certificate(self._one(self._label, ObjectClass.CERTIFICATE))
            body = csr.CertificationRequestInfo({
                "version": "v1",
                "subject": x509.Certificate.load(with_readable_names(certificate)).subject,
                "subject_pk_info": keys.PublicKeyInfo.load(self.new_public_key()),
                "attributes": csr.CRIAttributes([]),
            })  # fmt: skip
            request = csr.CertificationRequest({
                "certification_request_info": body,
                "signature_algorithm": _signature_algorithm(algorithm),
                "signature": self._token.sign(key, body.dump(), algorithm),
            })  # fmt: skip
        armoured: bytes = pem.armor("CERTIFICATE REQUEST", request.dump())
        return armoured.decode()

    @_patiently
    def new_public_key(self) -> bytes:
        """See CredentialStore."""
        with self._token.session():
            return self._token.public_key(self._new(ObjectClass.PUBLIC_KEY))

    @_patiently
    def current_certificate(self) -> bytes:
        """See CredentialStore."""
        with self._token.session():
            return _to_pem(self._token.certificate(self._one(self._label, ObjectClass.CERTIFICATE)))

    @_patiently
    def release(self) -> Dict[str, str]:
        """See CredentialStore."""
        if NEXT in self._notes:
            with self._token.session():
                for generation in Generation:
                    for item in self._token.find(self._named(generation)):
                        if item.id != self._new_id():
                            self._token.destroy(item)
                for item in self._token.find(self._next):
                    self._token.relabel(item, self._named(Generation.NEW))
                in_place = self._one(self._label, ObjectClass.PRIVATE_KEY).id
            self._notes = {_OLD_ID: in_place.hex(), _NEW_ID: self._new_id().hex()}
        return dict(self._notes)

    @_patiently
    def abandon(self) -> None:
        """See CredentialStore."""
        self._notes = {name: text for name, text in self._notes.items() if name != NEXT}
        with self._token.session():
            for item in self._token.find(self._next):
                self._token.destroy(item)

    @_patiently
    def install(self, certificate_pem: str) -> None:
        """See CredentialStore; the chain, if any, has no place in a token."""
        _, _, der = pem.unarmor(certificate_pem.encode())
        subject = x509.Certificate.load(der).subject.dump()
        with self._token.session():
            if not self._is_complete(Generation.NEW):
                self._token.store_certificate(der, subject, self._named(Generation.NEW), self._id(Generation.NEW))
            if self.switch(Generation.NEW) is not Generation.NEW:
                raise StoreError(f"{self._token!r} does not keep what is stored in it; check the token")

    @_patiently
    def extent(self, *, is_durable: bool) -> Extent:  # noqa: ARG002  # a token is left to itself
        """See CredentialStore."""
        old, new = self._id(Generation.OLD), self._id(Generation.NEW)
        with self._token.session():
            in_place = {item.id for item in self._token.find(self._label) if item.kind is not ObjectClass.PUBLIC_KEY}
            if self._is_complete(Generation.NEW):
                return Extent.WHOLE if in_place == {new} else Extent.TORN
            if in_place != {old}:
                return Extent.TORN
            made = {item.kind for item in self._token.find(self._named(Generation.NEW)) if item.id == new}
            return Extent.KEY if {ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY} <= made else Extent.NO_KEY

    @_patiently
    def switch(self, generation: Generation) -> Generation:
        """See CredentialStore."""
        if generation is Generation.OLD and NEXT in self._notes:
            return generation
        with self._token.session():
            self._find_ids()
            if not self._is_complete(generation) and self._is_complete(_other(generation)):
                log.warning(
                    "the %s credential in the token is damaged; the other one is put in place", generation.value
                )
                generation = _other(generation)
            wanted, unwanted = self._id(generation), self._id(_other(generation))
            for item in self._token.find(self._label):
                if item.id == unwanted:
                    self._token.relabel(item, self._named(_other(generation)))
            for item in self._token.find(self._named(generation)):
                if item.id == wanted:
                    self._token.relabel(item, self._label)
            self._one(self._label, ObjectClass.PRIVATE_KEY)
            self._one(self._label, ObjectClass.CERTIFICATE)
        return generation

    @_patiently
    def settle(self) -> None:
        """See CredentialStore."""
        with self._token.session():
            for label in (*map(self._named, Generation), self._next):
                for item in self._token.find(label):
                    self._token.destroy(item)

    @property
    def _next(self) -> str:
        return f"{self._label}.{NEXT}"

    def _new_id(self) -> bytes:
        return bytes.fromhex(self._notes.get(NEXT, self._notes.get(_NEW_ID, "")))

    def _new(self, kind: ObjectClass) -> TokenObject:
        """Return a part of the new key, wherever it waits: a release that was interrupted has moved it already."""
        labels = (self._next, self._named(Generation.NEW)) if NEXT in self._notes else (self._named(Generation.NEW),)
        return self._only([item for label in labels for item in self._token.find(label)
                           if item.kind is kind and item.id == self._new_id()], labels[0], kind)  # fmt: skip

    def _named(self, generation: Generation) -> str:
        return f"{self._label}.{generation.value.lower()}"

    def _id(self, generation: Generation) -> bytes:
        return bytes.fromhex(self._notes.get(_OLD_ID if generation is Generation.OLD else _NEW_ID, ""))

    def _is_complete(self, generation: Generation) -> bool:
        """Return whether key and certificate of a generation are there, under whatever label."""
        labels = (self._label, self._named(Generation.OLD), self._named(Generation.NEW))
        held = [item for label in labels for item in self._token.find(label)]
        kinds = {item.kind for item in held if item.id == self._id(generation)}
        return {ObjectClass.PRIVATE_KEY, ObjectClass.CERTIFICATE} <= kinds

    def _find_ids(self) -> None:
        """Find the ids by the labels if there are no notes (a damaged journal): a backup is old, its successor new."""
        if _OLD_ID in self._notes and _NEW_ID in self._notes:
            return
        old = [item.id for item in self._token.find(self._named(Generation.OLD))]
        fresh = [item.id for item in self._token.find(self._named(Generation.NEW))]
        in_place = [item.id for item in self._token.find(self._label)]
        old_id = next(iter(old), None) or next((key for key in in_place if key not in fresh), b"")
        new_id = next((key for key in (*in_place, *fresh) if key != old_id), b"")
        self._notes = {_OLD_ID: old_id.hex(), _NEW_ID: new_id.hex()}

    def _one(self, label: str, kind: ObjectClass) -> TokenObject:
        return self._only([item for item in self._token.find(label) if item.kind is kind], label, kind)

    def _only(self, found: List[TokenObject], label: str, kind: ObjectClass) -> TokenObject:
        if len(found) != 1:
            what = kind.name.lower().replace("_", " ")
            raise StoreError(f"expected one {what} {label!r} in {self._token!r}, found {len(found)}")
        return found[0]

    def _require_pair(self, certificate: TokenObject, key: TokenObject) -> None:
        """Raise StoreError unless the key can prove that it is the certificate's."""
        loaded = certificates.load(_to_pem(self._token.certificate(certificate)))
        if not _proves(self._token, key, loaded):
            raise StoreError(f"the private key {self._label!r} does not belong to the certificate {self._label!r}")


def _other(generation: Generation) -> Generation:
    return Generation.OLD if generation is Generation.NEW else Generation.NEW


def _proves(token: Token, key: TokenObject, certificate: Any) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # lazy: an idle device does not hold it
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa  # noqa: PLC0415

    public, nonce = certificate.public_key(), secrets.token_bytes(32)
    try:
        if isinstance(public, rsa.RSAPublicKey):
            signature = token.sign(key, nonce, CsrSigningAlgorithm.SHA256_RSA)
            public.verify(signature, nonce, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(public, ec.EllipticCurvePublicKey):
            signature = token.sign(key, nonce, CsrSigningAlgorithm.SHA256_ECDSA)
            public.verify(signature, nonce, ec.ECDSA(hashes.SHA256()))
        else:
            raise CertificateError("the certificate in place holds neither an RSA nor an elliptic curve key")
    except InvalidSignature:
        return False
    return True


def _signature_algorithm(algorithm: CsrSigningAlgorithm) -> algos.SignedDigestAlgorithm:
    name = algorithm.hash_name.lower()
    if algorithm.family is Family.ECDSA:
        return algos.SignedDigestAlgorithm({"algorithm": f"{name}_ecdsa"})
    if not algorithm.is_pss:
        return algos.SignedDigestAlgorithm({"algorithm": f"{name}_rsa"})
    parameters = {
        "hash_algorithm": {"algorithm": name},
        "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": {"algorithm": name}},
        "salt_length": int(name[3:]) // 8,
    }
    return algos.SignedDigestAlgorithm({"algorithm": "rsassa_pss", "parameters": parameters})


def _to_pem(der: bytes) -> bytes:
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n".encode()
