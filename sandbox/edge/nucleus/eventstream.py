"""The framing of Greengrass IPC: ``application/vnd.amazon.eventstream`` messages. No I/O.

A message is: total length and headers length (big-endian u32 each), CRC-32 of those eight bytes,
headers, payload, CRC-32 of everything before. A header is: name length (u8), name, type (u8), value.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from zlib import crc32

PRELUDE_BYTES = 12
TRAILER_BYTES = 4
MAX_MESSAGE_BYTES = 16 * 1024 * 1024 + 128 * 1024  # payload and headers, as the C implementation limits them
MAX_HEADERS_BYTES = 128 * 1024

HeaderValue = bool | int | bytes | str | uuid.UUID

_TRUE, _FALSE, _INT32, _BYTES, _STRING, _UUID = 0, 1, 4, 6, 7, 9
_FIXED = {2: ("!b", 1), 3: ("!h", 2), _INT32: ("!i", 4), 5: ("!q", 8), 8: ("!q", 8)}  # byte … int64, timestamp
_UUID_BYTES = 16


class FramingError(ValueError):
    """The bytes are not an event-stream message; the connection ends."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    headers: Mapping[str, HeaderValue] = field(default_factory=dict)
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    """Return the bytes of a message. Integers travel as int32."""
    headers = b"".join(_encode_header(name, value) for name, value in frame.headers.items())
    total = PRELUDE_BYTES + len(headers) + len(frame.payload) + TRAILER_BYTES
    if total > MAX_MESSAGE_BYTES:
        message = f"a message of {total} bytes; at most {MAX_MESSAGE_BYTES} travel"
        raise FramingError(message)
    prelude = struct.pack("!II", total, len(headers))
    prelude += struct.pack("!I", crc32(prelude))
    body = prelude + headers + frame.payload
    return body + struct.pack("!I", crc32(body))


def remaining_bytes(prelude: bytes) -> int:
    """Return how many bytes follow the first twelve; FramingError if those are damaged."""
    total, headers_length, checksum = struct.unpack("!III", prelude)
    if crc32(prelude[:8]) != checksum:
        raise FramingError("the checksum of the prelude is wrong")
    if headers_length > MAX_HEADERS_BYTES or not _least(headers_length) <= total <= MAX_MESSAGE_BYTES:
        message = f"lengths cannot be: {total} bytes in all, {headers_length} of headers"
        raise FramingError(message)
    return int(total) - PRELUDE_BYTES


def decode(prelude: bytes, rest: bytes) -> Frame:
    """Read a message from its first twelve bytes and the others; the prelude has been checked."""
    _, headers_length, _ = struct.unpack("!III", prelude)
    body, trailer = rest[:-TRAILER_BYTES], rest[-TRAILER_BYTES:]
    if crc32(body, crc32(prelude)) != struct.unpack("!I", trailer)[0]:
        raise FramingError("the checksum of the message is wrong")
    return Frame(_decode_headers(body[:headers_length]), body[headers_length:])


def _least(headers_length: int) -> int:
    return PRELUDE_BYTES + headers_length + TRAILER_BYTES


def _encode_header(name: str, value: HeaderValue) -> bytes:
    raw_name = name.encode()
    return struct.pack("!B", len(raw_name)) + raw_name + _encode_value(value)


def _encode_value(value: HeaderValue) -> bytes:
    if isinstance(value, bool):
        return bytes([_TRUE if value else _FALSE])
    if isinstance(value, int):
        return struct.pack("!Bi", _INT32, value)
    if isinstance(value, uuid.UUID):
        return bytes([_UUID]) + value.bytes
    kind, raw = (_STRING, value.encode()) if isinstance(value, str) else (_BYTES, value)
    return struct.pack("!BH", kind, len(raw)) + raw


def _decode_headers(raw: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    position = 0
    try:
        while position < len(raw):
            size = raw[position]
            name = _take(raw, position + 1, size).decode()
            kind = raw[position + 1 + size]
            headers[name], position = _decode_value(kind, raw, position + 2 + size)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        message = f"headers end early or are not UTF-8: {error}"
        raise FramingError(message) from None
    return headers


def _decode_value(kind: int, raw: bytes, position: int) -> tuple[HeaderValue, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, position
    if kind in _FIXED:
        form, width = _FIXED[kind]
        return int(struct.unpack_from(form, raw, position)[0]), position + width
    if kind in (_BYTES, _STRING):
        (width,) = struct.unpack_from("!H", raw, position)
        value = _take(raw, position + 2, width)
        return (value.decode() if kind == _STRING else value), position + 2 + width
    if kind == _UUID:
        return uuid.UUID(bytes=_take(raw, position, _UUID_BYTES)), position + _UUID_BYTES
    message = f"header type {kind} does not exist"
    raise FramingError(message)


def _take(raw: bytes, position: int, width: int) -> bytes:
    part = raw[position : position + width]
    if len(part) != width:
        message = f"a header needs {width} bytes, found {len(part)}"
        raise FramingError(message)
    return part
