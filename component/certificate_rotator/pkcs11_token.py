"""One PKCS#11 token, one method per call that a power cut can fall between.

The token's counterpart of ``system.py``: nothing else in this package talks to a token. Each use opens
a session and ends it, so a token that was pulled and put back, or a daemon that was restarted, is met
afresh. Signatures are made over digests computed here, which every token can do. Errors are StoreErrors
that never hold the PIN.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Set

import pkcs11
from asn1crypto import keys  # type: ignore[import-untyped]  # publishes no types
from pkcs11 import Attribute, Mechanism, MechanismFlag, ObjectClass
from pkcs11.util.ec import encode_ec_public_key, encode_ecdsa_signature, encode_named_curve_parameters

from protocol.algorithms import CsrSigningAlgorithm, Family, KeyType

from .errors import StoreError

log = logging.getLogger(__name__)


class TokenBusyError(StoreError):
    """The token refused a call this time, perhaps because another process was using it."""


_CURVES = {256: "secp256r1", 384: "secp384r1", 521: "secp521r1"}
_KINDS = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY, ObjectClass.CERTIFICATE)
# What stands before the digest in an RSA PKCS#1 v1.5 signature: RFC 8017, section 9.2, note 1.
_DIGEST_INFO = {
    "SHA256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "SHA384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "SHA512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
# What tpm2-pkcs11 insists on for elliptic curves; other tokens take it too.
_CAPABILITIES = MechanismFlag.SIGN | MechanismFlag.VERIFY | MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT


# Libraries that are loaded afresh before their next session: something failed half-way, or objects were removed, and
# tpm2-pkcs11 1.9 gives objects made after that the handles of others.
_afresh: Set[str] = set()


@dataclass(frozen=True)
class TokenObject:
    """A private key, public key or certificate, while its session is open."""

    kind: ObjectClass
    label: str
    id: bytes
    handle: Any = field(repr=False, compare=False)


class Token:
    """The token in one slot; every method needs ``session`` to be entered."""

    # Seconds between tries to open a session, or to do what another process has kept it from: a busy tpm2-pkcs11 says
    # so in the middle of things, and SoftHSM rewrites its token's file at each login of anybody: who looks at that
    # instant sees no token.
    pauses = (0.0, 0.1, 0.4, 1.0, 2.0, 4.0)

    def __init__(self, library: str, slot: int, user_pin: str) -> None:
        self._library = library
        self._slot = slot
        self._user_pin = user_pin
        self._session: Any = None

    def __repr__(self) -> str:
        return f"slot {self._slot} of {self._library}"

    @property
    def is_open(self) -> bool:
        """Whether a session is entered."""
        return self._session is not None

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Log in for the time of the block, which may be nested; raises StoreError."""
        if self._session is not None:
            yield
            return
        try:
            with self._errors("open a session"):
                self._session = self._open()
        except TokenBusyError as error:  # it was tried often enough
            raise StoreError(str(error)) from None
        try:
            yield
        finally:
            session, self._session = self._session, None
            with contextlib.suppress(pkcs11.PKCS11Error):  # a token that is gone needs no goodbye
                session.close()

    def find(self, label: str) -> List[TokenObject]:
        """Return keys and certificates under a label, private keys first: the order of deletion. Raises StoreError."""
        with self._errors(f"look for {label!r}"):
            found = []
            for handle in list(self._session.get_objects({Attribute.LABEL: label})):  # a token reads all, each time
                kind = handle[Attribute.CLASS]
                if handle[Attribute.LABEL] != label:
                    raise StoreError(f"{self!r} mixes up its objects: asked for {label!r}, it gave another one")
                if kind in _KINDS:
                    found.append(TokenObject(kind, label, bytes(handle[Attribute.ID]), handle))
            return sorted(found, key=lambda item: _KINDS.index(item.kind))

    def generate(self, key_type: KeyType, label: str, key_id: bytes) -> None:
        """Make a key pair under a label in the token; the private key can never leave it."""
        attributes: Dict[str, Any] = {
            "store": True,
            "label": label,
            "id": key_id,
            "capabilities": _CAPABILITIES,
            "private_template": {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
        }
        with self._errors(f"make an {key_type.value} key"):
            if key_type.family is Family.RSA:
                self._session.generate_keypair(pkcs11.KeyType.RSA, key_type.bits, **attributes)
            else:
                curve = {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVES[key_type.bits])}
                parameters = self._session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
                parameters.generate_keypair(**attributes)

    def store_certificate(self, der: bytes, subject: bytes, label: str, key_id: bytes) -> None:
        """Put a certificate, with its subject in DER, under a label beside its key."""
        template = {
            Attribute.CLASS: ObjectClass.CERTIFICATE,
            Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
            Attribute.TOKEN: True,
            Attribute.LABEL: label,
            Attribute.ID: key_id,
            Attribute.SUBJECT: subject,
            Attribute.VALUE: der,
        }
        with self._errors("store a certificate"):
            self._session.create_object(template)

    def certificate(self, item: TokenObject) -> bytes:
        """Return the certificate's DER."""
        with self._errors("read a certificate"):
            return bytes(item.handle[Attribute.VALUE])

    def public_key(self, item: TokenObject) -> bytes:
        """Return the SubjectPublicKeyInfo (DER) of a public key, the ``item``."""
        with self._errors("read a public key"):
            if item.handle.key_type is pkcs11.KeyType.RSA:
                numbers = {
                    "modulus": int.from_bytes(item.handle[Attribute.MODULUS], "big"),
                    "public_exponent": int.from_bytes(item.handle[Attribute.PUBLIC_EXPONENT], "big"),
                }
                return bytes(keys.PublicKeyInfo.wrap(keys.RSAPublicKey(numbers), "rsa").dump())
            return bytes(encode_ec_public_key(item.handle))

    def sign(self, item: TokenObject, data: bytes, algorithm: CsrSigningAlgorithm) -> bytes:
        """Return the signature of a key, the ``item``, over data, as X.509 carries it."""
        name = algorithm.hash_name
        digest = hashlib.new(name.lower(), data).digest()
        with self._errors(f"sign with {algorithm.value}"):
            if algorithm.family is Family.ECDSA:
                return bytes(encode_ecdsa_signature(item.handle.sign(digest, mechanism=Mechanism.ECDSA)))
            if algorithm.is_pss:
                parameters = (getattr(Mechanism, name), getattr(pkcs11.MGF, name), len(digest))
                signature = item.handle.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters)
                return bytes(signature)
            return bytes(item.handle.sign(_DIGEST_INFO[name] + digest, mechanism=Mechanism.RSA_PKCS))

    def relabel(self, item: TokenObject, label: str) -> None:
        """Give an object (``item``) another label; the one change that every token allows."""
        with self._errors(f"rename {item.label!r} to {label!r}"):
            item.handle[Attribute.LABEL] = label

    def destroy(self, item: TokenObject) -> None:
        """Remove an object for good."""
        with self._errors(f"remove {item.label!r}"):
            _afresh.add(self._library)
            item.handle.destroy()

    def _open(self) -> Any:
        for pause in self.pauses:
            try:
                return self._login()
            except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinLocked):  # noqa: PERF203  # a few tries
                raise  # the token counts how often it is tried
            except (pkcs11.PKCS11Error, StoreError) as error:
                log.info("the token cannot be used, trying again: %s", str(error) or type(error).__name__)
                time.sleep(pause)
                _afresh.add(self._library)  # it may cling to a token or a connection that is gone: let it look again
        return self._login()

    def _login(self) -> Any:
        library = pkcs11.lib(self._library)
        if self._library in _afresh:
            library.reinitialize()
            _afresh.discard(self._library)
        token = self._token(library)
        if token is None:
            raise StoreError(f"there is no token in {self!r}; plug it in or correct the slot")
        return token.open(rw=True, user_pin=self._user_pin)

    def _token(self, library: Any) -> Optional[Any]:
        for slot in library.get_slots(token_present=True):
            if slot.slot_id == self._slot:
                return slot.get_token()
        return None

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except pkcs11.exceptions.PinIncorrect:
            raise StoreError(f"{self!r} does not accept the PIN; correct userPin of the PKCS#11 provider") from None
        except pkcs11.exceptions.PinLocked:
            raise StoreError(f"{self!r} has locked its PIN after too many wrong ones; unlock it") from None
        except pkcs11.PKCS11Error as error:
            _afresh.add(self._library)
            raise TokenBusyError(
                f"the token in {self!r} could not {what} ({type(error).__name__}); check that it is present, "
                "has room, can do this, and is not kept busy by another program"
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"the token in {self!r} could not {what}: what it answers does not parse ({type(error).__name__}); "
                "let the job demand another key type"
            ) from None
        except RuntimeError as error:
            raise StoreError(f"the PKCS#11 library {self._library} cannot be used: {error}") from None
