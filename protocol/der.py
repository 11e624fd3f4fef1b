"""Certificates and requests as they are found in the field, made readable for a strict parser. Pure, bytes in and out.

Some tools put text into a PrintableString that it may not hold, most often ``_``. Parsers of X.509 differ: OpenSSL and
AWS take such a name, `cryptography` refuses the whole certificate. A copy in which that text stands as UTF8String has
the same lengths, the same key and the same names; only its signature does not hold any more, so verify the original.
"""

from __future__ import annotations

import base64
import re
from typing import Iterator, Tuple

PRINTABLE_STRING, UTF8_STRING = 0x13, 0x0C
_CONSTRUCTED = 0x20
_MAX_DEPTH = 16
_PRINTABLE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")
_ASCII = 0x80
_PEM = re.compile(r"-----BEGIN (CERTIFICATE|CERTIFICATE REQUEST)-----(.*?)-----END \1-----", re.DOTALL)


def der_of(pem: str) -> bytes:
    """Return the DER of the first certificate or request in a PEM text, well formed or not.

    Raises:
        ValueError: The text holds neither.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no PEM")
    return base64.b64decode(found[2])


def with_readable_names(der: bytes) -> bytes:
    """Return the DER with every PrintableString that holds other ASCII text as UTF8String.

    Raises:
        ValueError: The data is not DER.
    """
    found = bytearray(der)
    for tag, position, start, end in _walk(der):
        content = der[start:end]
        if tag == PRINTABLE_STRING and not _PRINTABLE.issuperset(content) and max(content) < _ASCII:
            found[position] = UTF8_STRING
    return bytes(found)


def children(der: bytes, start: int, end: int) -> Iterator[Tuple[int, int, int, int]]:
    """Yield tag, position, and the content's start and end of each element of ``der``; raises ValueError."""
    while start < end:
        position = start
        tag, length, start = der[start], _byte(der, start + 1, end), start + 2
        if length >= _ASCII:
            octets = length - _ASCII
            length = int.from_bytes(der[start : start + octets], "big")
            start += octets
        if start + length > end:
            raise ValueError(f"an element at {position} ends behind its parent")
        yield tag, position, start, start + length
        start += length


def _walk(der: bytes) -> Iterator[Tuple[int, int, int, int]]:
    """Yield every element, each before those in it."""
    levels = [children(der, 0, len(der))]
    while levels:
        element = next(levels[-1], None)
        if element is None:
            levels.pop()
            continue
        yield element
        if element[0] & _CONSTRUCTED:
            if len(levels) > _MAX_DEPTH:
                raise ValueError(f"nested deeper than {_MAX_DEPTH}")
            levels.append(children(der, element[2], element[3]))


def _byte(der: bytes, position: int, end: int) -> int:
    if position >= end:
        raise ValueError(f"cut off at {position}")
    return der[position]
