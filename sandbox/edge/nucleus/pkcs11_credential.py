"""A credential in a PKCS#11 token: the URIs that name it, and what the TLS library needs to use it.

A real nucleus is a process that loads the token's library when it starts. Here each start loads a copy of
the library instead: the copy reads the token as it is by then (tpm2-pkcs11 reads it only once), and shares
no session with another device. Copies stay in memory until this process ends. Within one copy,
``python-pkcs11`` (which reads the certificate) initialises it, and the TLS library is set to leave that alone.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pkcs11
from awscrt.io import Pkcs11Lib

from .effective_config import ConnectionSettings, Pkcs11Settings


class TokenError(Exception):
    """The token, its PIN, or an object in it is not as the configuration demands."""


def label_of(uri: str) -> str:
    """Return the object's label in ``pkcs11:object=LABEL;type=…``; raises TokenError."""
    attributes = dict(part.partition("=")[::2] for part in uri.removeprefix("pkcs11:").split(";"))
    if not uri.startswith("pkcs11:") or not attributes.get("object"):
        message = f"expected pkcs11:object=LABEL;type=…, found {uri!r}"
        raise TokenError(message)
    return unquote(attributes["object"])


@dataclass(frozen=True, slots=True)
class TokenLibrary:
    """A copy of a token's library, loaded and initialised."""

    reader: Any  # python-pkcs11's
    tls: Pkcs11Lib  # the TLS library's


def load(provider: Pkcs11Settings | None) -> TokenLibrary:
    """Load the provider's library anew; raises TokenError."""
    if provider is None:
        raise TokenError("the key is a pkcs11: URI, but aws.greengrass.crypto.Pkcs11Provider is not configured")
    try:
        with tempfile.TemporaryDirectory(prefix="nucleus-") as folder:
            copy = shutil.copy(provider.library, Path(folder))
            reader = pkcs11.lib(str(copy))
            return TokenLibrary(reader, Pkcs11Lib(file=str(copy), behavior=Pkcs11Lib.InitializeFinalizeBehavior.OMIT))
    except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
        message = f"the PKCS#11 library {provider.library} cannot be loaded: {error!r}"
        raise TokenError(message) from error


def options(settings: ConnectionSettings, library: TokenLibrary) -> dict[str, Any]:
    """Return the arguments of ``mtls_with_pkcs11``; raises TokenError."""
    provider = settings.pkcs11
    assert provider is not None  # noqa: S101  # else there was no library to load
    if settings.certificate.startswith("pkcs11:"):
        certificate: dict[str, Any] = {
            "cert_bytes": _read_certificate(library.reader, provider, label_of(settings.certificate))
        }
    else:
        certificate = {"cert_filepath": settings.certificate}
    return {
        "pkcs11_lib": library.tls,
        "user_pin": provider.user_pin,
        "slot_id": provider.slot,
        "private_key_label": label_of(settings.private_key),
        **certificate,
    }


def _read_certificate(reader: Any, provider: Pkcs11Settings, label: str) -> bytes:
    try:
        slots = reader.get_slots(token_present=True)
        token = next(slot.get_token() for slot in slots if slot.slot_id == provider.slot)
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
