"""Credentials as they are found in the field, sound and odd, made by openssl: one corpus for all that reads them.

Each says what its two judges make of it, openssl and the AWS CRT, with which the nucleus connects.
"""

from __future__ import annotations

import base64
import functools
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from protocol.der import children

NAME = "gw_1"  # what no PrintableString may hold, and many do


class Found(NamedTuple):
    """A credential in place; ``works`` for a device that connects with it."""

    certificate: bytes
    key: bytes
    works: bool
    key_type: str = "ECDSA-P256"


def openssl(folder, *arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder).stdout


def _pem(der):
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def _element(tag, content):
    length = len(content)
    octets = b"" if length < 0x80 else length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 + len(octets) if octets else length]) + octets + content


def _der(pem):
    return base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))


KEYS = {
    "p256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "explicit": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"),
    "k1": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
    "pss": ("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
    "ed25519": ("-algorithm", "ED25519"),
}


@functools.lru_cache(maxsize=1)
def credentials():
    """Every credential, by what is odd about it."""
    with tempfile.TemporaryDirectory() as temporary:
        return _make(Path(temporary))


def _make(folder):
    keys = {name: openssl(folder, "genpkey", *how) for name, how in KEYS.items()}
    for name, pem in keys.items():
        (folder / name).write_bytes(pem)

    def issue(key="p256", subject=f"/CN={NAME}", *more):
        return openssl(folder, "req", "-x509", "-utf8", "-key", key, "-subj", subject, "-days", "30", *more)

    key, sound = keys["p256"], issue()
    (folder / "sound").write_bytes(sound)

    def named(value):
        """Subject and issuer in another form, signed anew."""
        der = _der(sound)
        [(_, _, start, end)] = children(der, 0, len(der))
        (_, position, _, after), (_, how, _, then), _ = children(der, start, end)
        body = der[position:after].replace(b"\x0c\x04" + NAME.encode(), value)
        (folder / "body").write_bytes(body)
        signature = b"\x00" + openssl(folder, "dgst", "-sha256", "-sign", "p256", "body")
        return _pem(_element(0x30, body + der[how:then] + _element(0x03, signature)))

    return {
        "sound": Found(sound, key, True),
        "explicit curve parameters": Found(issue("explicit"), keys["explicit"], True),
        "another curve": Found(issue("k1"), keys["k1"], True, "ECDSA-secp256k1"),
        "a short RSA key": Found(issue("rsa"), keys["rsa"], True, "RSA-1024"),
        "an RSA key for PSS alone": Found(issue("pss"), keys["pss"], True, "RSA-2048"),
        "PKCS#1": Found(issue("rsa"), openssl(folder, "rsa", "-traditional", "-in", "rsa"), True, "RSA-1024"),
        "SEC1 behind its parameters": Found(
            sound, openssl(folder, "ecparam", "-name", "prime256v1") + openssl(folder, "ec", "-in", "p256"), True
        ),
        "line ends of DOS": Found(sound.replace(b"\n", b"\r\n"), key.replace(b"\n", b"\r\n"), True),
        "no line end at its end": Found(sound.rstrip(), key.rstrip(), True),
        "a byte order mark": Found(b"\xef\xbb\xbf" + sound, b"\xef\xbb\xbf" + key, True),
        "text before it": Found(
            openssl(folder, "x509", "-text", "-in", "sound"), b"Bag Attributes\n    localKeyID: 01\n" + key, True
        ),
        "text that is not a UTF-8": Found(b"Ger\xe4t\n" + sound, key, True),
        "one long line": Found(
            b"\n".join([sound.split(b"\n")[0], base64.b64encode(_der(sound)), sound.split(b"\n")[-2], b""]), key, True
        ),
        "a chain behind it": Found(sound + issue("rsa", "/CN=above"), key, True),
        "no name": Found(issue("p256", "/"), key, True),
        "a name of ten parts": Found(issue("p256", "/C=DE/O=X" + "".join(f"/OU={n}" for n in range(8))), key, True),
        "an underscore in a PrintableString": Found(named(b"\x13\x04gw_1"), key, True),
        "an asterisk in a PrintableString": Found(named(b"\x13\x04gw*1"), key, True),
        "a TeletexString": Found(named(b"\x14\x04gw_1"), key, True),
        "a BMPString": Found(named(b"\x1e\x04\x00g\x00w"), key, True),
        "Ed25519": Found(issue("ed25519"), keys["ed25519"], False, "Ed25519"),
        "a trusted certificate": Found(openssl(folder, "x509", "-trustout", "-in", "sound"), key, False),
        "the key in the certificate's file": Found(sound + key, key, False),
        "the certificate in the key's file": Found(sound, sound + key, False),
        "a name that is not a UTF-8": Found(named(b"\x0c\x04gw\xff1"), key, False),
        "another key": Found(sound, keys["rsa"], False),
        "cut off": Found(sound[:300], key, False),
        "empty": Found(b"", key, False),
    }


ODD_NAMES = (
    "no name", "a name of ten parts", "an underscore in a PrintableString", "an asterisk in a PrintableString",
    "a TeletexString", "a BMPString",
)  # fmt: skip

ODD = (
    *ODD_NAMES, "explicit curve parameters", "another curve", "a short RSA key", "an RSA key for PSS alone", "PKCS#1",
    "SEC1 behind its parameters", "line ends of DOS", "no line end at its end", "a byte order mark", "text before it",
    "text that is not a UTF-8", "one long line", "a chain behind it",
)  # fmt: skip
"""What works, and is not as one would make it."""

BROKEN = (
    "Ed25519", "a trusted certificate", "the key in the certificate's file", "the certificate in the key's file",
    "a name that is not a UTF-8", "another key", "cut off", "empty",
)  # fmt: skip
"""With what no nucleus connects."""
