"""One component's IPC connection: event-stream RPC over a Unix socket, as the Greengrass nucleus speaks it.

The module ``ipc_operations.py`` shows what an operation does; here is only how requests, responses, events and
errors travel. The first message on a stream is always taken for its response, so events wait for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum, IntFlag
from typing import Any

from .eventstream import PRELUDE_BYTES, Frame, FramingError, HeaderValue, decode, encode, remaining_bytes
from .traits import ERROR_MEMBERS, MAX_FRAME_BYTES, TERMINATES_RESPONSES, Profile

log = logging.getLogger(__name__)

NAMESPACE = "aws.greengrass#"
GET_SYSTEM_CONFIG = "aws.greengrass.private#GetSystemConfig"  # its response names no shape
_VERSION = "0.1."


class MessageType(IntEnum):
    """Values of the ``:message-type`` header."""

    APPLICATION_MESSAGE = 0
    APPLICATION_ERROR = 1
    PING = 2
    PING_RESPONSE = 3
    CONNECT = 4
    CONNECT_ACK = 5
    PROTOCOL_ERROR = 6
    INTERNAL_ERROR = 7


class Flags(IntFlag):
    """Values of the ``:message-flags`` header."""

    NONE = 0
    CONNECTION_ACCEPTED = 1
    TERMINATE_STREAM = 2


class IpcError(Exception):
    """An error of the service model; ``shape`` is such as ServiceError or ResourceNotFoundError."""

    def __init__(self, shape: str, message: str, **extra: str) -> None:
        super().__init__(message)
        self.shape = shape
        self._members = {"message": message, "_message": message, "_errorCode": shape}
        self._extra = extra

    def payload(self, profile: Profile) -> dict[str, str]:
        """Return what the profile holds of it."""
        return {name: self._members[name] for name in ERROR_MEMBERS.on(profile)} | self._extra


class Stream:
    """One request and, if it subscribed to something, the events that follow."""

    def __init__(self, send: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._send = send
        self._held: list[tuple[str, Mapping[str, Any]]] | None = []
        self.on_close: Callable[[], None] | None = None
        self.is_closed = False

    def event(self, shape: str, payload: Mapping[str, Any]) -> None:
        """Send an event; before the response it waits, after the end it is dropped."""
        if self.is_closed:
            return
        if self._held is None:
            self._send(shape, payload)
        else:
            self._held.append((shape, payload))

    def responded(self) -> None:
        """Let the events follow, once the response is on its way."""
        held, self._held = self._held or [], None
        for shape, payload in held:
            self.event(shape, payload)

    def close(self) -> None:
        """End the events, and notify the source of the stream."""
        if not self.is_closed:
            self.is_closed = True
            if self.on_close:
                self.on_close()


Handler = Callable[[str, Mapping[str, Any], Stream], Awaitable[Mapping[str, Any]]]
"""``handler(component, request, stream)`` → response, or raises IpcError."""


class IpcConnection:
    """Serves one client; ``component_of(token)`` names who it is, None refuses it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        component_of: Callable[[object], str | None],
        handlers: Mapping[str, Handler],
        profile: Profile = Profile.CLASSIC,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._component_of, self._handlers, self._profile = component_of, handlers, profile
        self._component: str | None = None
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until either side ends the connection."""
        try:
            while await self._serve_one():
                await self._writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except FramingError as error:
            log.warning("%s: %s", self._component or "a client before CONNECT", error)
            self._send(MessageType.PROTOCOL_ERROR, Flags.NONE, 0)
        finally:
            self._close()

    def close(self) -> None:
        """End the connection from this side."""
        self._writer.close()

    def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for stream in list(self._streams.values()):
            stream.close()
        self._streams.clear()
        self._writer.close()

    async def _serve_one(self) -> bool:
        prelude = await self._reader.readexactly(PRELUDE_BYTES)
        remaining, most = remaining_bytes(prelude), MAX_FRAME_BYTES.on(self._profile)
        if most is not None and remaining > most:
            log.warning("%s: a message of %d bytes; the connection ends", self._component, remaining + PRELUDE_BYTES)
            return False
        frame = decode(prelude, await self._reader.readexactly(remaining))
        kind, flags = _integer(frame, ":message-type"), _integer(frame, ":message-flags")
        stream_id = _integer(frame, ":stream-id")
        if self._component is None:
            return self._connect(kind, stream_id, frame)
        if kind == MessageType.PING:
            self._write(_frame(MessageType.PING_RESPONSE, Flags.NONE, 0, payload=frame.payload))
        elif kind == MessageType.APPLICATION_MESSAGE and stream_id > 0:
            if flags & Flags.TERMINATE_STREAM:
                self._end_stream(stream_id)
            else:
                self._request(stream_id, frame)
        else:
            message = f"message type {kind} on stream {stream_id}"
            raise FramingError(message)
        return True

    def _connect(self, kind: int, stream_id: int, frame: Frame) -> bool:
        version = frame.headers.get(":version")
        if kind == MessageType.CONNECT and not stream_id and isinstance(version, str) and version.startswith(_VERSION):
            self._component = self._component_of(_object(frame.payload).get("authToken"))
        accepted = self._component is not None
        log.debug("%s: %s", self._component, "accepted" if accepted else "refused")
        self._send(MessageType.CONNECT_ACK, Flags.CONNECTION_ACCEPTED if accepted else Flags.NONE, 0)
        return accepted

    def _end_stream(self, stream_id: int) -> None:
        if stream := self._streams.pop(stream_id, None):
            stream.close()
            self._send(MessageType.APPLICATION_MESSAGE, Flags.TERMINATE_STREAM, stream_id)

    def _request(self, stream_id: int, frame: Frame) -> None:
        if stream_id <= self._last_stream:
            message = f"stream {stream_id} was used before"
            raise FramingError(message)
        self._last_stream = stream_id
        task = asyncio.get_running_loop().create_task(self._answer(stream_id, frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, stream_id: int, frame: Frame) -> None:
        operation = str(frame.headers.get("operation", "")).removeprefix(NAMESPACE)
        subscribes = operation.startswith("SubscribeTo")
        stream = Stream(lambda shape, payload: self._event(stream_id, shape, payload))
        if subscribes:
            self._streams[stream_id] = stream
        try:
            handler = self._handlers.get(operation, _unsupported)
            response = await handler(self._component or "", _object(frame.payload), stream)
        except IpcError as error:
            self._fail(stream_id, error)
        except Exception as error:
            log.exception("%s of %s", operation, self._component)
            self._fail(stream_id, IpcError("ServiceError", str(error)))
        else:
            ends = not subscribes and TERMINATES_RESPONSES.on(self._profile)
            flags = Flags.TERMINATE_STREAM if ends else Flags.NONE
            shape = None if operation == GET_SYSTEM_CONFIG else f"{operation}Response"
            self._send(MessageType.APPLICATION_MESSAGE, flags, stream_id, shape, response)
            stream.responded()

    def _event(self, stream_id: int, shape: str, payload: Mapping[str, Any]) -> None:
        self._send(MessageType.APPLICATION_MESSAGE, Flags.NONE, stream_id, shape, payload)

    def _fail(self, stream_id: int, error: IpcError) -> None:
        if stream := self._streams.pop(stream_id, None):
            stream.close()
        payload = error.payload(self._profile)
        self._send(MessageType.APPLICATION_ERROR, Flags.TERMINATE_STREAM, stream_id, error.shape, payload)

    def _send(
        self,
        kind: MessageType,
        flags: Flags,
        stream_id: int,
        shape: str | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> None:
        raw = b"" if payload is None else json.dumps(payload).encode()
        self._write(_frame(kind, flags, stream_id, shape=shape, payload=raw))

    def _write(self, frame: Frame) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(frame))


async def _unsupported(*_: object) -> Mapping[str, Any]:
    raise IpcError("ServiceError", "this nucleus does not implement that operation")


def _frame(kind: MessageType, flags: Flags, stream_id: int, *, shape: str | None = None, payload: bytes = b"") -> Frame:
    headers: dict[str, HeaderValue] = {
        ":message-type": int(kind),
        ":message-flags": int(flags),
        ":stream-id": stream_id,
    }
    if shape or payload:
        headers[":content-type"] = "application/json"
    if shape:
        headers["service-model-type"] = NAMESPACE + shape
    return Frame(headers, payload)


def _integer(frame: Frame, header: str) -> int:
    value = frame.headers.get(header)
    if not isinstance(value, int):
        message = f"header {header} is {value!r}, expected an integer"
        raise FramingError(message)
    return value


def _object(payload: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(payload or b"{}")
    except (ValueError, RecursionError):
        raise FramingError("a payload is not JSON") from None
    if not isinstance(value, dict):
        raise FramingError("a payload is not a JSON object")
    return value
