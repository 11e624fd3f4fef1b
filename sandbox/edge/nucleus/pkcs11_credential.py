"""A credential in a PKCS#11 token: the URIs that name it, and what the TLS library needs to use it.

Both ``python-pkcs11`` (which reads the certificate) and the TLS library load the token's library into
this process: the former initialises it, once; the latter is told to leave that alone.
"""

from __future__ import annotations

import base64
import logging
import textwrap
import threading
from typing import Any
from urllib.parse import unquote

import pkcs11
from awscrt.io import Pkcs11Lib

from .effective_config import ConnectionSettings, Pkcs11Settings

log = logging.getLogger(__name__)

_lock = threading.Lock()
_libraries: dict[str, tuple[Any, Pkcs11Lib]] = {}


class TokenError(Exception):
    """The token, its PIN, or an object in it is not as the configuration says."""


def label_of(uri: str) -> str:
    """The object's label in ``pkcs11:object=LABEL;type=…``; raises TokenError."""
    attributes = dict(part.partition("=")[::2] for part in uri.removeprefix("pkcs11:").split(";"))
    if not uri.startswith("pkcs11:") or not attributes.get("object"):
        message = f"expected pkcs11:object=LABEL;type=…, found {uri!r}"
        raise TokenError(message)
    return unquote(attributes["object"])


def options(settings: ConnectionSettings) -> dict[str, Any]:
    """Arguments of ``mtls_with_pkcs11``; raises TokenError."""
    provider = settings.pkcs11
    if provider is None:
        raise TokenError("the key is a pkcs11: URI, but aws.greengrass.crypto.Pkcs11Provider is not configured")
    reader, library = _load(provider.library)
    if settings.certificate.startswith("pkcs11:"):
        certificate: dict[str, Any] = {
            "cert_bytes": _read_certificate(reader, provider, label_of(settings.certificate))
        }
    else:
        certificate = {"cert_filepath": settings.certificate}
    return {
        "pkcs11_lib": library,
        "user_pin": provider.user_pin,
        "slot_id": provider.slot,
        "private_key_label": label_of(settings.private_key),
        **certificate,
    }


def _load(path: str) -> tuple[Any, Pkcs11Lib]:
    with _lock:
        if path not in _libraries:
            try:
                reader = pkcs11.lib(path)
            except (pkcs11.PKCS11Error, RuntimeError) as error:
                message = f"the PKCS#11 library {path} cannot be loaded: {error!r}"
                raise TokenError(message) from error
            _libraries[path] = reader, Pkcs11Lib(file=path, behavior=Pkcs11Lib.InitializeFinalizeBehavior.OMIT)
        return _libraries[path]


def _token(reader: Any, slot_id: int) -> Any:
    """The token in a slot; StopIteration if there is none.

    SoftHSM sees tokens that are made after its initialisation only when it is initialised again, which
    ends the sessions of other devices in this process: they need a restart to connect anew.
    """
    slots = reader.get_slots(token_present=True)
    if all(slot.slot_id != slot_id for slot in slots):
        log.warning("slot %d is new: the PKCS#11 library is initialised again", slot_id)
        reader.reinitialize()
        slots = reader.get_slots(token_present=True)
    return next(slot.get_token() for slot in slots if slot.slot_id == slot_id)


def _read_certificate(reader: Any, provider: Pkcs11Settings, label: str) -> bytes:
    try:
        token = _token(reader, provider.slot)
        with token.open(user_pin=provider.user_pin) as session:
            wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.CERTIFICATE, pkcs11.Attribute.LABEL: label}
            found = [bytes(item[pkcs11.Attribute.VALUE]) for item in session.get_objects(wanted)]
    except StopIteration:
        message = f"no token in slot {provider.slot} of {provider.library}"
        raise TokenError(message) from None
    except pkcs11.PKCS11Error as error:
        message = f"the token in slot {provider.slot} refuses: {error!r}"
        raise TokenError(message) from error
    if len(found) != 1:
        message = f"expected one certificate labelled {label!r}, found {len(found)}"
        raise TokenError(message)
    body = "\n".join(textwrap.wrap(base64.b64encode(found[0]).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n".encode()
