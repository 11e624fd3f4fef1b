"""Greengrass IPC: messages through the nucleus, configuration, and its validation on deployment.

The nucleus is the only peer, and three ends of this process within an hour are all that it forgives. So nothing
that it does or fails to do ends the process: a connection that is lost is made anew, a subscription that it
closes is reported to whoever wants to subscribe again, and everything else is a MessagesError.
"""

from __future__ import annotations

import concurrent.futures
import json
import logging
import time
from typing import Any, Callable, Dict, Mapping, Optional

from awscrt.eventstream import Header
from awscrt.eventstream import rpc as protocol
from awsiot import greengrasscoreipc
from awsiot.eventstreamrpc import AccessDeniedError, LifecycleHandler
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from . import configuration
from .configuration import Configuration
from .errors import ConfigurationError, DeviceError
from .loop import ThreadLoop
from .ports import MessageHandler, MessagesError

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds for the nucleus to answer a request
MAX_PAUSE = 30.0  # seconds between tries to connect at most
SETTLING = 1.0  # seconds in which nucleus classic lets go of what a lost connection had subscribed to, see subscribe
TRIES = 25  # to connect anew, over ten minutes: three ends of this process then take half an hour

_HINT = (
    'compare the component\'s accessControl with its recipe, and deploy it with "reset": ["/accessControl"] if they '
    "differ"
)


class _Stream:
    """One subscription, which this side knows before the nucleus has answered the request for it."""

    operation: Any = None
    is_over = False

    def end(self) -> None:
        """End the subscription: no message of it counts any more."""
        self.is_over = True
        if self.operation is not None:
            self.operation.close()


class GreengrassIpc:
    """The connection to the nucleus; implements ports.Messages. ``when_lost`` is called on the loop."""

    def __init__(self, loop: ThreadLoop) -> None:
        self._loop = loop
        self.when_lost: Callable[[], None] = lambda: None  # subscriptions are gone; set it before the loop runs
        self._listen: Callable[[], None] = lambda: None  # for deployments
        self._streams: Dict[str, _Stream] = {}  # the one in force for each filter
        self._client: Any = None
        self._pause = 0.25
        self._tries = 0
        while self._client is None:
            try:
                self._client = self._connect()
            except MessagesError as error:  # noqa: PERF203  # seconds apart
                log.warning("%s; trying again in %g s", error, self._pause)
                time.sleep(self._next_pause())

    def subscribe(self, topic_filter: str, handler: MessageHandler) -> None:
        """See ports.Messages; replaces an earlier subscription to the same filter, which ends last.

        Until the broker has let go of a filter, nucleus classic takes the filter for subscribed: it would answer a new
        subscription and never make it. Beside a sound subscription it needs no new one, and beside a lost one it makes
        it.
        """
        before, stream = self._streams.get(topic_filter), _Stream()

        def received(event: Any) -> None:
            if not stream.is_over:
                handler(str(event.message.topic_name), bytes(event.message.payload or b""))

        def request() -> Any:
            future, stream.operation = self._client.subscribe_to_iot_core_async(
                topic_name=topic_filter,
                qos=model.QOS.AT_LEAST_ONCE,
                on_stream_event=received,
                on_stream_error=_stream_failed,
                # by the refusal that the future tells, too
                on_stream_closed=lambda: self._loop.call_soon(lambda: self._closed(topic_filter, stream)),
            )
            return future

        try:
            self._ask(f"subscribe to {topic_filter}", request)
        except MessagesError:
            stream.end()  # a nucleus that is offline may accept it long after
            raise
        self._streams[topic_filter] = stream
        if before is not None:
            before.end()

    def publish(self, topic: str, payload: bytes) -> None:
        """See ports.Messages; QoS 0 is never spooled by the nucleus."""

        def request() -> Any:
            return self._client.publish_to_iot_core_async(topic_name=topic, qos=model.QOS.AT_MOST_ONCE, payload=payload)

        self._ask(f"publish to {topic}", request)

    def read_configuration(self) -> Configuration:
        """Return this component's configuration as the nucleus has merged it; ConfigurationError if it is wrong."""
        try:
            value = self._client.get_configuration_async().result(TIMEOUT).value
        except Exception as error:
            raise ConfigurationError(f"the nucleus does not report the configuration: {_text(error)}") from error
        return configuration.parse(value or {})

    def system_setting(self, name: str) -> object:
        """Return one of the nucleus' own settings, as nucleus lite reports it; raises MessagesError."""
        answer = _Answer()

        def request() -> Any:
            headers = [Header.from_string(":content-type", "application/json")]
            stream = self._connection._new_stream(answer)  # noqa: SLF001  # the SDK has no operation for it
            stream.activate(
                operation="aws.greengrass.private#GetSystemConfig", headers=headers,
                payload=json.dumps({"key": name}).encode(), message_type=protocol.MessageType.APPLICATION_MESSAGE,
            )  # fmt: skip
            return answer.future

        self._ask(f"read the system setting {name}", request)
        return answer.future.result()

    def listen_for_deployments(self, seconds: Callable[[str], float]) -> None:
        """Judge each deployment's configuration, and let it wait for ``seconds(deployment id)`` (nucleus classic only).

        From the loop's start on, and again over each new connection.
        """

        def listen() -> None:
            self._validate_updates()
            self._defer_updates(seconds)

        self._listen = listen
        self._loop.call_soon(listen)

    def _validate_updates(self) -> None:
        def request() -> Any:
            future, _ = self._client.subscribe_to_validate_configuration_updates_async(
                on_stream_event=lambda event: self._loop.call_soon(
                    lambda: self._judge(event.validate_configuration_update_event)
                ),
                on_stream_error=_stream_failed,
            )
            return future

        try:
            self._ask("validate configuration updates", request)
        except MessagesError as error:
            log.warning("%s; a wrong configuration is the next job's failure then", error)

    def _judge(self, proposal: Any) -> None:
        problem = judge(proposal.configuration or {})
        status = model.ConfigurationValidityStatus
        report = model.ConfigurationValidityReport(
            status=status.REJECTED if problem else status.ACCEPTED,
            deployment_id=proposal.deployment_id,
            message=problem,
        )
        log.info("the configuration of deployment %s is %s", proposal.deployment_id, problem or "accepted")
        try:
            self._ask(
                "report on a configuration",
                lambda: self._client.send_configuration_validity_report_async(configuration_validity_report=report),
            )
        except MessagesError as error:
            log.warning("%s", error)  # the deployment has ended meanwhile

    def _defer_updates(self, seconds: Callable[[str], float]) -> None:
        def asked(event: Any) -> None:
            if event.pre_update_event is not None:
                deployment = str(event.pre_update_event.deployment_id)
                self._loop.call_soon(lambda: self._let_wait(deployment, seconds(deployment)))

        def request() -> Any:
            future, _ = self._client.subscribe_to_component_updates_async(
                on_stream_event=asked, on_stream_error=_stream_failed
            )
            return future

        try:
            self._ask("hear of deployments before they are carried out", request)
        except MessagesError as error:
            log.warning("%s; one may then come in the middle of a rotation", error)

    def _let_wait(self, deployment: str, seconds: float) -> None:
        """Answer for how many ``seconds`` a deployment waits, 0 too: for a silent listener a nucleus waits a minute."""
        if seconds:
            log.info("deployment %s waits for %g s: a rotation is under way", deployment, seconds)
        try:
            self._ask(
                "answer for a deployment",
                lambda: self._client.defer_component_update_async(
                    deployment_id=deployment, recheck_after_ms=int(1000 * seconds), message="a rotation is under way"
                ),
            )
        except MessagesError as error:
            log.warning("%s", error)  # it has not waited

    def _ask(self, what: str, request: Callable[[], Any]) -> None:
        try:
            request().result(TIMEOUT)
        except model.UnauthorizedError as error:
            raise MessagesError(f"the nucleus does not allow this component to {what}; {_HINT}") from error
        except Exception as error:
            raise MessagesError(f"cannot {what}: {_text(error)}") from error

    def _closed(self, topic_filter: str, stream: _Stream) -> None:
        if self._streams.get(topic_filter) is stream:
            log.warning("the nucleus has closed the subscription to %s", topic_filter)
            del self._streams[topic_filter]
            self.when_lost()

    # The connection ------------------------------------------------------------------------------

    def _connect(self) -> Any:
        lifecycle = _Lifecycle(lambda why: self._loop.call_soon(lambda: self._lost(lifecycle, why)))
        try:
            connection = greengrasscoreipc.connect(lifecycle_handler=lifecycle, timeout=TIMEOUT)
        except KeyError as error:
            raise DeviceError(f"{error} is not set: this program is a Greengrass component") from None
        except AccessDeniedError:
            raise DeviceError(
                "the nucleus does not know this process any more: it has started another one, or will; this one ends"
            ) from None
        except Exception as error:
            raise MessagesError(f"the nucleus does not answer over IPC: {_text(error)}") from error
        self._pause, self._tries, self._lifecycle = 0.25, 0, lifecycle
        self._connection = connection._connection  # noqa: SLF001
        # No executor: the handlers only pass on what they get, so the network thread may run them.
        return GreengrassCoreIPCClientV2(client=connection, executor=None)

    def _next_pause(self) -> float:
        pause, self._pause = self._pause, min(2 * self._pause, MAX_PAUSE)
        return pause

    def _lost(self, lifecycle: _Lifecycle, why: str) -> None:
        if lifecycle is self._lifecycle:
            log.warning("the connection to the nucleus is lost (%s)", why)
            self._streams.clear()
            self._reconnect()

    def _reconnect(self) -> None:
        try:
            self._client = self._connect()
        except MessagesError as error:
            self._tries += 1
            if self._tries > TRIES:
                raise DeviceError(f"{error}; this process ends, so that the nucleus starts another") from error
            pause = self._next_pause()
            log.info("%s; trying again in %g s", error, pause)
            self._loop.call_later(pause, self._reconnect)
            return
        log.info("connected to the nucleus again")
        self._listen()
        self._loop.call_later(SETTLING, self.when_lost)


def judge(proposed: Mapping[str, Any]) -> Optional[str]:
    """Return why a proposed configuration cannot be accepted, or None."""
    try:
        configuration.parse(proposed)
    except ConfigurationError as error:
        return str(error)
    return None


class _Answer(protocol.ClientContinuationHandler):  # type: ignore[misc]  # awscrt publishes no types
    """Hears the one answer to a request whose shape the SDK does not know."""

    def __init__(self) -> None:
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def on_continuation_message(self, payload: bytes, message_type: Any, **_more: Any) -> None:
        """Handle the answer, or an error."""
        text = payload.decode(errors="replace")
        try:
            value = json.loads(text)["value"]
        except (ValueError, KeyError, TypeError):
            self.future.set_exception(MessagesError(f"expected an answer, found {text[:200]}"))
            return
        if message_type == protocol.MessageType.APPLICATION_MESSAGE:
            self.future.set_result(value)
        else:
            self.future.set_exception(MessagesError(text[:200]))

    def on_continuation_closed(self, **_more: Any) -> None:
        """Fail the request if it has no answer yet."""
        if not self.future.done():
            self.future.set_exception(MessagesError("closed without an answer"))


class _Lifecycle(LifecycleHandler):  # type: ignore[misc]  # awsiotsdk publishes no types
    """Hears of the connection's end, on the network thread."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        self._lost = lost

    def on_disconnect(self, reason: Optional[Exception]) -> None:
        """Handle the end of the socket; a reason means that the nucleus closed it."""
        self._lost(_text(reason) if reason else "closed")

    def on_error(self, error: Exception) -> bool:
        """Log a protocol error; returns True, which closes the connection."""
        log.error("IPC error: %s", _text(error))
        return True


def _stream_failed(error: Exception) -> bool:
    log.warning("a message from the nucleus could not be read: %s", _text(error))
    return False  # keep the subscription


def _text(error: BaseException) -> str:
    message = getattr(error, "message", None) or str(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _read_messages_of_lite() -> None:
    """Read nucleus lite's errors: it writes ``_message`` and ``_errorCode``, but awsiotsdk looks for ``message``."""

    def reading(known: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def from_payload(payload: Any) -> Any:
            error = known(payload)
            if isinstance(payload, dict) and not error.message:
                parts = [str(payload[key]) for key in ("_errorCode", "_message") if payload.get(key)]
                error.message = ": ".join(parts)
            return error

        return from_payload

    for shape in (
        model.ServiceError,
        model.UnauthorizedError,
        model.ResourceNotFoundError,
        model.InvalidArgumentsError,
    ):
        shape._from_payload = staticmethod(reading(shape._from_payload))  # noqa: SLF001  # the SDK has no other place


_read_messages_of_lite()
