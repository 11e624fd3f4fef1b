"""MQTT 3.1.1 and 5 on the wire: primitive fields, checked one by one.

No I/O. Every length is checked before it is used; anything that the specification calls malformed is a
``MalformedPacketError``. Section numbers are those of the OASIS MQTT 5.0 specification.
"""

from __future__ import annotations

import struct
from enum import IntEnum

MAX_PACKET_BYTES = 146 * 1024  # AWS IoT Core: 128 KiB of payload, and the headers
MAX_VARINT = 268_435_455


class MalformedPacketError(ValueError):
    """The bytes are not an MQTT packet, or one that a client must not send; the connection ends."""


class PacketType(IntEnum):
    """Control packet types (2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


class ReasonCode(IntEnum):
    """The reason codes of MQTT 5 that this endpoint sends (2.4)."""

    SUCCESS = 0x00
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    NOT_AUTHORIZED = 0x87
    SERVER_SHUTTING_DOWN = 0x8B
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E


class Property(IntEnum):
    """Property identifiers that this endpoint reads or writes (2.2.2.2)."""

    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    RECEIVE_MAXIMUM = 0x21
    SERVER_KEEP_ALIVE = 0x13
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    MAXIMUM_PACKET_SIZE = 0x27
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29


# How each property's value is encoded: B, H, I (big-endian), v = variable byte integer,
# s = text, b = binary, p = pair of texts.
_PROPERTY_FORMATS = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), "B"),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), "H"),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), "I"),
    **dict.fromkeys((0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F), "s"),
    **dict.fromkeys((0x09, 0x16), "b"),
    0x0B: "v",
    0x26: "p",
}
_REPEATABLE = (0x0B, 0x26)


def encode_varint(number: int) -> bytes:
    """Return a variable byte integer (1.5.5); ValueError beyond four bytes."""
    if not 0 <= number <= MAX_VARINT:
        message = f"a variable byte integer holds 0 to {MAX_VARINT}, found {number}"
        raise ValueError(message)
    encoded = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        encoded.append(low | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def encode_text(text: str) -> bytes:
    """Return a UTF-8 string with its length in front (1.5.4)."""
    raw = text.encode()
    return struct.pack("!H", len(raw)) + raw


def encode_packet(kind: PacketType, flags: int, body: bytes) -> bytes:
    """Return a whole control packet: fixed header and body."""
    return bytes([kind << 4 | flags]) + encode_varint(len(body)) + body


def encode_properties(properties: dict[Property, int | str]) -> bytes:
    """Return a property block with its length in front; integers and texts only, which is all that is sent."""
    block = bytearray()
    for name, value in properties.items():
        block.append(name)
        form = _PROPERTY_FORMATS[name]
        block += encode_text(value) if isinstance(value, str) else struct.pack("!" + form, value)
    return encode_varint(len(block)) + bytes(block)


class Cursor:
    """Reads the fields of one packet's body in order; never beyond its end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._position = 0

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self._raw) - self._position

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        if count > self.remaining:
            message = f"expected {count} more bytes, found {self.remaining}"
            raise MalformedPacketError(message)
        part = self._raw[self._position : self._position + count]
        self._position += count
        return part

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(self.remaining)

    def u8(self) -> int:
        """Return one byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the number in two bytes, big-endian."""
        return int.from_bytes(self.take(2), "big")

    def packet_id(self) -> int:
        """Return a packet identifier, which is never zero (2.2.1)."""
        identifier = self.u16()
        if identifier == 0:
            raise MalformedPacketError("a packet identifier is never zero")
        return identifier

    def varint(self) -> int:
        """Return a variable byte integer of at most four bytes."""
        number = 0
        for shift in (0, 7, 14, 21):
            byte = self.u8()
            number |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return number
        raise MalformedPacketError("a variable byte integer has at most four bytes")

    def blob(self) -> bytes:
        """Return binary data that has a two-byte length in front."""
        return self.take(self.u16())

    def text(self) -> str:
        """Return a UTF-8 string without U+0000 and without surrogates (1.5.4)."""
        try:
            text = self.blob().decode()
        except UnicodeDecodeError as error:
            message = f"a string is not UTF-8: {error.reason} at byte {error.start}"
            raise MalformedPacketError(message) from None
        if "\0" in text:
            raise MalformedPacketError("a string holds U+0000")
        return text

    def properties(self) -> dict[int, int]:
        """Return a property block: the integer properties by identifier; texts and pairs are checked and dropped."""
        block = Cursor(self.take(self.varint()))
        found: dict[int, int] = {}
        while block.remaining:
            name = block.varint()
            form = _PROPERTY_FORMATS.get(name)
            if form is None:
                message = f"property 0x{name:02x} does not exist"
                raise MalformedPacketError(message)
            if name in found and name not in _REPEATABLE:
                message = f"property 0x{name:02x} stands twice"
                raise MalformedPacketError(message)
            found[name] = block._value(form)
        return found

    def _value(self, form: str) -> int:
        if form == "v":
            return self.varint()
        if form in "BHI":
            return int.from_bytes(self.take(struct.calcsize(form)), "big")
        if form == "b":
            self.blob()
        elif form == "p":
            self.text()
            self.text()
        else:
            self.text()
        return 0

    def end(self) -> None:
        """Raise unless everything was read."""
        if self.remaining:
            message = f"{self.remaining} bytes follow the packet's last field"
            raise MalformedPacketError(message)
