"""The packets that clients send, as values; and the bytes of those that the endpoint answers.

No I/O. One decoder per packet type, for both versions of the protocol.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from .wire import (
    Cursor,
    MalformedPacketError,
    PacketType,
    Property,
    ReasonCode,
    encode_packet,
    encode_properties,
    encode_text,
)

VERSION_3_1_1 = 4
VERSION_5 = 5
MAX_QOS = 1  # AWS IoT Core has no QoS 2
_CONNECT_CODES_3 = {  # what MQTT 3.1.1 can say in a CONNACK
    ReasonCode.SUCCESS: 0,
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION: 1,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
}
_NOT_AUTHORIZED_3 = 5
_SUBSCRIPTION_FAILURE_3 = 0x80
_PUBLISH_FLAGS = 0x0F
_RESERVED_FLAGS = 0x02  # what SUBSCRIBE and UNSUBSCRIBE carry
_QOS_MASK = 0x03


class UnsupportedVersionError(MalformedPacketError):
    """A CONNECT for a protocol that is neither MQTT 3.1.1 nor 5."""


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the endpoint publishes for a client that is lost."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT. ``session_expiry`` in seconds: 0 ends the session with the connection; None = the server's default."""

    version: int
    client_id: str
    clean_start: bool
    keep_alive: int
    session_expiry: int | None
    receive_maximum: int = 65_535
    maximum_packet_size: int | None = None
    will: Will | None = None
    username: str | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """A PUBLISH; ``packet_id`` is 0 with QoS 0."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int = 0
    retain: bool = False
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A SUBSCRIBE: filters with the maximum QoS each."""

    packet_id: int
    filters: tuple[tuple[str, int], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """An UNSUBSCRIBE."""

    packet_id: int
    filters: tuple[str, ...] = ()


def decode_connect(body: bytes) -> Connect:
    """Read a CONNECT (3.1); UnsupportedVersionError for other protocols."""
    cursor = Cursor(body)
    name, version = cursor.text(), cursor.u8()
    if name != "MQTT" or version not in (VERSION_3_1_1, VERSION_5):
        message = f"expected MQTT version 4 or 5, found {name!r} version {version}"
        raise UnsupportedVersionError(message)
    flags, keep_alive = cursor.u8(), cursor.u16()
    if flags & 0x01:
        raise MalformedPacketError("the reserved flag of CONNECT is set")
    properties = cursor.properties() if version == VERSION_5 else {}
    client_id = cursor.text()
    will = _decode_will(cursor, flags, version)
    username = cursor.text() if flags & 0x80 else None
    if flags & 0x40:
        if version == VERSION_3_1_1 and username is None:
            raise MalformedPacketError("a password without a user name")
        cursor.blob()
    cursor.end()
    if properties.get(Property.RECEIVE_MAXIMUM, 1) == 0 or properties.get(Property.MAXIMUM_PACKET_SIZE, 1) == 0:
        raise MalformedPacketError("receive maximum and maximum packet size are never zero")
    clean_start = bool(flags & 0x02)
    lasting = None if not clean_start else 0
    return Connect(
        version=version,
        client_id=client_id,
        clean_start=clean_start,
        keep_alive=keep_alive,
        session_expiry=properties.get(Property.SESSION_EXPIRY_INTERVAL, 0) if version == VERSION_5 else lasting,
        receive_maximum=properties.get(Property.RECEIVE_MAXIMUM, 65_535),
        maximum_packet_size=properties.get(Property.MAXIMUM_PACKET_SIZE),
        will=will,
        username=username,
    )


def _decode_will(cursor: Cursor, flags: int, version: int) -> Will | None:
    qos, retain = flags >> 3 & 3, bool(flags & 0x20)
    if not flags & 0x04:
        if qos or retain:
            raise MalformedPacketError("will flags are set without a will")
        return None
    if qos > MAX_QOS:
        message = f"the will's QoS is {qos}, at most {MAX_QOS} is supported"
        raise MalformedPacketError(message)
    if version == VERSION_5:
        cursor.properties()
    return Will(topic=cursor.text(), payload=cursor.blob(), qos=qos, retain=retain)


def decode_publish(flags: int, body: bytes, version: int) -> Publish:
    """Read a PUBLISH (3.3); the topic is not judged here. Topic aliases were not offered and are refused."""
    qos = flags >> 1 & 3
    if qos > MAX_QOS:
        message = f"QoS {qos} is not supported, at most {MAX_QOS}"
        raise MalformedPacketError(message)
    if flags & 0x08 and not qos:
        raise MalformedPacketError("a QoS 0 message is never a duplicate")
    cursor = Cursor(body)
    topic = cursor.text()
    packet_id = cursor.packet_id() if qos else 0
    if version == VERSION_5 and Property.TOPIC_ALIAS in cursor.properties():
        raise MalformedPacketError("a topic alias was used, none was offered")
    return Publish(
        topic=topic,
        payload=cursor.rest(),
        qos=qos,
        packet_id=packet_id,
        retain=bool(flags & 0x01),
        duplicate=bool(flags & 0x08),
    )


def decode_puback(body: bytes, version: int) -> int:
    """Read a PUBACK (3.4): the packet identifier."""
    cursor = Cursor(body)
    packet_id = cursor.packet_id()
    if version == VERSION_5 and cursor.remaining:
        cursor.u8()
        if cursor.remaining:
            cursor.properties()
    cursor.end()
    return packet_id


def decode_subscribe(flags: int, body: bytes, version: int) -> Subscribe:
    """Read a SUBSCRIBE (3.8); QoS 2 is granted as QoS 1."""
    cursor = _cursor_with_reserved_flags("SUBSCRIBE", flags, body)
    packet_id = cursor.packet_id()
    if version == VERSION_5:
        cursor.properties()
    filters: list[tuple[str, int]] = []
    while cursor.remaining:
        topic_filter, options = cursor.text(), cursor.u8()
        if options & _QOS_MASK == _QOS_MASK or options & (0xC0 if version == VERSION_5 else 0xFC):
            message = f"subscription options 0x{options:02x} are reserved"
            raise MalformedPacketError(message)
        filters.append((topic_filter, min(options & _QOS_MASK, MAX_QOS)))
    if not filters:
        raise MalformedPacketError("a SUBSCRIBE without a filter")
    return Subscribe(packet_id, tuple(filters))


def decode_unsubscribe(flags: int, body: bytes, version: int) -> Unsubscribe:
    """Read an UNSUBSCRIBE (3.10)."""
    cursor = _cursor_with_reserved_flags("UNSUBSCRIBE", flags, body)
    packet_id = cursor.packet_id()
    if version == VERSION_5:
        cursor.properties()
    filters: list[str] = []
    while cursor.remaining:
        filters.append(cursor.text())
    if not filters:
        raise MalformedPacketError("an UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id, tuple(filters))


def decode_disconnect(body: bytes, version: int) -> tuple[int, int | None]:
    """Read a DISCONNECT (3.14): reason code, and a new session expiry in seconds or None."""
    cursor = Cursor(body)
    if version == VERSION_3_1_1 or not cursor.remaining:
        cursor.end()
        return ReasonCode.SUCCESS, None
    reason = cursor.u8()
    properties = cursor.properties() if cursor.remaining else {}
    cursor.end()
    return reason, properties.get(Property.SESSION_EXPIRY_INTERVAL)


def encode_connack(
    version: int,
    reason: ReasonCode,
    *,
    session_present: bool = False,
    properties: dict[Property, int | str] | None = None,
) -> bytes:
    """Return a CONNACK (3.2)."""
    if version == VERSION_5:
        body = bytes([session_present, reason]) + encode_properties(properties or {})
    else:
        body = bytes([session_present, _CONNECT_CODES_3.get(reason, _NOT_AUTHORIZED_3)])
    return encode_packet(PacketType.CONNACK, 0, body)


def encode_publish(version: int, message: Publish) -> bytes:
    """Return a PUBLISH to a client."""
    body = encode_text(message.topic)
    if message.qos:
        body += struct.pack("!H", message.packet_id)
    if version == VERSION_5:
        body += b"\0"
    flags = (message.duplicate << 3 | message.qos << 1 | message.retain) & _PUBLISH_FLAGS
    return encode_packet(PacketType.PUBLISH, flags, body + message.payload)


def encode_puback(version: int, packet_id: int, reason: ReasonCode = ReasonCode.SUCCESS) -> bytes:
    """Return a PUBACK; the reason travels in MQTT 5 only."""
    tail = bytes([reason]) if version == VERSION_5 and reason else b""
    return encode_packet(PacketType.PUBACK, 0, struct.pack("!H", packet_id) + tail)


def encode_suback(version: int, packet_id: int, outcomes: list[int | ReasonCode]) -> bytes:
    """Return a SUBACK; each outcome is the granted QoS, or the reason of the refusal."""
    v3 = [_SUBSCRIPTION_FAILURE_3 if outcome > MAX_QOS else outcome for outcome in outcomes]
    body = struct.pack("!H", packet_id)
    body += b"\0" + bytes(outcomes) if version == VERSION_5 else bytes(v3)
    return encode_packet(PacketType.SUBACK, 0, body)


def encode_unsuback(version: int, packet_id: int, outcomes: list[ReasonCode]) -> bytes:
    """Return an UNSUBACK; outcomes travel in MQTT 5 only."""
    body = struct.pack("!H", packet_id)
    if version == VERSION_5:
        body += b"\0" + bytes(outcomes)
    return encode_packet(PacketType.UNSUBACK, 0, body)


def encode_disconnect(reason: ReasonCode) -> bytes:
    """Return a DISCONNECT from the server, which exists in MQTT 5 only."""
    return encode_packet(PacketType.DISCONNECT, 0, bytes([reason, 0]))


PINGRESP = encode_packet(PacketType.PINGRESP, 0, b"")


def _cursor_with_reserved_flags(name: str, flags: int, body: bytes) -> Cursor:
    if flags != _RESERVED_FLAGS:
        message = f"the flags of {name} are 0010, found {flags:04b}"
        raise MalformedPacketError(message)
    return Cursor(body)
