"""One client's connection: packets in, packets out. Runs on the endpoint's loop.

Whatever a client sends, the worst that happens is the end of its own connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from typing import cast

from . import packets
from .broker import Broker
from .packets import VERSION_3_1_1, VERSION_5, Connect, Publish, UnsupportedVersionError, Will
from .session import Session, expiry_of
from .wire import MAX_PACKET_BYTES, MalformedPacketError, PacketType, Property, ReasonCode

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 10.0
MAX_KEEP_ALIVE_SECONDS = 1200  # AWS IoT Core; also in force where the client asks for none
KEEP_ALIVE_GRACE = 1.5  # 3.1.2.10
RECEIVE_MAXIMUM = 100  # AWS IoT Core: unacknowledged messages each way
MAX_SUBSCRIPTIONS_PER_REQUEST = 8  # AWS IoT Core
MAX_CLIENT_ID_BYTES = 128  # AWS IoT Core
MAX_UNSENT_BYTES = 8 * 1024 * 1024  # a client that does not read is dropped
CLOSE_TIMEOUT_SECONDS = 1.0


class ConnectionEndError(Exception):
    """The server ends this connection, with the reason that an MQTT 5 client gets."""

    def __init__(self, reason: ReasonCode, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MqttConnection:
    """Implements the broker's ``Link``."""

    def __init__(self, broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._broker, self._reader, self._writer = broker, reader, writer
        self._version = VERSION_3_1_1
        self._will: Will | None = None
        self._keep_alive = MAX_KEEP_ALIVE_SECONDS
        self._receive_maximum = RECEIVE_MAXIMUM
        self._maximum_packet_size = MAX_PACKET_BYTES
        self._session: Session | None = None
        self._principal = ""

    @property
    def session(self) -> Session:
        """The session that the connection serves."""
        return cast("Session", self._session)

    @property
    def principal(self) -> str:
        """Id of the certificate with which the client connected."""
        return self._principal

    async def run(self) -> None:
        """Serve the client until either side ends it."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                _, _, body = await self._read_packet()
            if self._connect(body):
                await self._serve()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        except TimeoutError:
            self.close(ReasonCode.KEEP_ALIVE_TIMEOUT)
        except ConnectionEndError as error:
            log.info("%s: %s", self._name, error)
            self.close(error.reason)
        except MalformedPacketError as error:
            log.info("%s: %s", self._name, error)
            self.close(ReasonCode.MALFORMED_PACKET)
        finally:
            if self._session:
                self._broker.detach(self, self._will)
            await self._close_transport()

    async def _close_transport(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):  # the peer is gone, or does not say goodbye
            self._writer.transport.abort()

    # The broker's side ------------------------------------------------------------------------

    def send(self, message: Publish) -> None:
        """Write a message, unless the client reported that it takes none so large."""
        raw = packets.encode_publish(self._version, message)
        if len(raw) > self._maximum_packet_size:
            log.info("%s: a message of %d bytes is more than the client takes", self._name, len(raw))
            self.session.acknowledge(message.packet_id)
            return
        self._write(raw)

    def flush(self) -> None:
        """Write the QoS 1 messages that wait, as far as the client has acknowledged earlier ones."""
        for message in self.session.send(self._receive_maximum):
            self.send(message)

    def close(self, reason: ReasonCode) -> None:
        """Send a goodbye if the protocol can, and end the connection."""
        if self._version == VERSION_5 and self._session and not self._writer.is_closing():
            self._write(packets.encode_disconnect(reason))
        self._writer.close()

    # The client's side ------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self._session.client_id if self._session else "a client before CONNECT"

    def _write(self, raw: bytes) -> None:
        if self._writer.is_closing():
            return
        self._writer.write(raw)
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            log.info("%s: does not read what it subscribed to", self._name)
            self._writer.transport.abort()

    async def _read_packet(self) -> tuple[int, int, bytes]:
        first = (await self._reader.readexactly(1))[0]
        if self._session is None and first != PacketType.CONNECT << 4:
            raise MalformedPacketError("a connection begins with CONNECT")
        length = 0
        for shift in (0, 7, 14, 21):
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
        else:
            raise MalformedPacketError("the remaining length has more than four bytes")
        if length > MAX_PACKET_BYTES:
            message = f"a packet of {length} bytes; at most {MAX_PACKET_BYTES} are taken"
            raise ConnectionEndError(ReasonCode.PACKET_TOO_LARGE, message)
        return first >> 4, first & 0x0F, await self._reader.readexactly(length)

    def _connect(self, body: bytes) -> bool:
        try:
            connect = packets.decode_connect(body)
        except UnsupportedVersionError as error:
            log.info("%s", error)
            self._write(packets.encode_connack(VERSION_3_1_1, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION))
            return False
        self._version = connect.version
        client_id = connect.client_id
        assigned = not client_id
        if assigned and (connect.version == VERSION_5 or connect.clean_start):
            client_id = f"$GEN/{uuid.uuid4()}"
        if reason := self._refusal(connect, client_id):
            self._write(packets.encode_connack(connect.version, reason))
            return False
        self._session, present = self._broker.open_session(
            client_id, clean_start=connect.clean_start, expiry=expiry_of(connect.session_expiry)
        )
        self._accept(connect, client_id if assigned else None, session_present=present)
        return True

    def _refusal(self, connect: Connect, client_id: str) -> ReasonCode | None:
        if not client_id or len(client_id.encode()) > MAX_CLIENT_ID_BYTES:
            return ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        if connect.will and connect.will.retain:
            return ReasonCode.RETAIN_NOT_SUPPORTED
        tls = self._writer.get_extra_info("ssl_object")
        principal = self._broker.authenticate(tls.getpeercert(binary_form=True) if tls else None, client_id)
        if principal is None:
            return ReasonCode.NOT_AUTHORIZED
        if connect.will and not self._broker.may_publish(principal, client_id, connect.will.topic):
            return ReasonCode.NOT_AUTHORIZED
        self._principal = principal
        return None

    def _accept(self, connect: Connect, assigned_id: str | None, *, session_present: bool) -> None:
        self._will = connect.will
        asked = connect.keep_alive
        self._keep_alive = min(asked or MAX_KEEP_ALIVE_SECONDS, MAX_KEEP_ALIVE_SECONDS)
        self._receive_maximum = min(connect.receive_maximum, RECEIVE_MAXIMUM)
        self._maximum_packet_size = connect.maximum_packet_size or MAX_PACKET_BYTES
        self._write(
            packets.encode_connack(
                connect.version,
                ReasonCode.SUCCESS,
                session_present=session_present,
                properties=self._offers(assigned_id),
            )
        )
        self._broker.attach(self)
        for message in self.session.resend():
            self.send(message)
        self.flush()

    def _offers(self, assigned_id: str | None) -> dict[Property, int | str]:
        properties: dict[Property, int | str] = {
            Property.SESSION_EXPIRY_INTERVAL: int(self.session.expiry.total_seconds()),
            Property.RECEIVE_MAXIMUM: RECEIVE_MAXIMUM,
            Property.MAXIMUM_QOS: packets.MAX_QOS,
            Property.RETAIN_AVAILABLE: 0,
            Property.MAXIMUM_PACKET_SIZE: MAX_PACKET_BYTES,
            Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
            Property.SHARED_SUBSCRIPTION_AVAILABLE: 0,
            Property.SERVER_KEEP_ALIVE: self._keep_alive,
        }
        if assigned_id:
            properties[Property.ASSIGNED_CLIENT_IDENTIFIER] = assigned_id
        return properties

    async def _serve(self) -> None:
        while not self._writer.is_closing():
            async with asyncio.timeout(self._keep_alive * KEEP_ALIVE_GRACE):
                kind, flags, body = await self._read_packet()
            if kind == PacketType.DISCONNECT:
                self._disconnect(body)
                return
            self._handle(kind, flags, body)
            await self._writer.drain()
            await asyncio.sleep(0)  # lets the loop notice that the client has gone before the next answer

    def _disconnect(self, body: bytes) -> None:
        reason, expiry = packets.decode_disconnect(body, self._version)
        if reason == ReasonCode.SUCCESS:
            self._will = None
        if expiry is not None:
            self.session.expiry = expiry_of(expiry)

    def _handle(self, kind: int, flags: int, body: bytes) -> None:
        if kind == PacketType.PUBLISH:
            self._published(packets.decode_publish(flags, body, self._version))
        elif kind == PacketType.PUBACK:
            self.session.acknowledge(packets.decode_puback(body, self._version))
            self.flush()
        elif kind == PacketType.SUBSCRIBE:
            self._subscribe(packets.decode_subscribe(flags, body, self._version))
        elif kind == PacketType.UNSUBSCRIBE:
            request = packets.decode_unsubscribe(flags, body, self._version)
            outcomes = [self._broker.unsubscribe(self, topic_filter) for topic_filter in request.filters]
            self._write(packets.encode_unsuback(self._version, request.packet_id, outcomes))
        elif kind == PacketType.PINGREQ:
            self._write(packets.PINGRESP)
        else:
            message = f"a client does not send packets of type {kind} here"
            raise ConnectionEndError(ReasonCode.PROTOCOL_ERROR, message)

    def _published(self, message: Publish) -> None:
        if message.retain:
            raise ConnectionEndError(ReasonCode.RETAIN_NOT_SUPPORTED, "retained messages are not supported here")
        if not self._broker.may_publish(self._principal, self.session.client_id, message.topic):
            refusal = f"publishing to {message.topic!r} is refused"
            raise ConnectionEndError(ReasonCode.NOT_AUTHORIZED, refusal)
        self._broker.publish(self, message)
        if message.qos:
            self._write(packets.encode_puback(self._version, message.packet_id))

    def _subscribe(self, request: packets.Subscribe) -> None:
        if len(request.filters) > MAX_SUBSCRIPTIONS_PER_REQUEST:
            message = f"{len(request.filters)} filters in one request, at most {MAX_SUBSCRIPTIONS_PER_REQUEST}"
            raise ConnectionEndError(ReasonCode.QUOTA_EXCEEDED, message)
        outcomes = [self._broker.subscribe(self, topic_filter, qos) for topic_filter, qos in request.filters]
        self._write(packets.encode_suback(self._version, request.packet_id, outcomes))
