"""Greengrass IPC: messages through the nucleus, configuration, and its validation on deployment.

The nucleus is the only peer. Losing it ends the loop with a DeviceError, and so the process: the
nucleus starts the component anew, and the journal carries on.
"""

from __future__ import annotations

import concurrent.futures
import logging
from typing import Any, Callable, Mapping, Optional

from awsiot import greengrasscoreipc
from awsiot.eventstreamrpc import LifecycleHandler
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from . import configuration
from .configuration import Configuration
from .errors import ConfigurationError, DeviceError
from .loop import ThreadLoop
from .ports import MessageHandler, MessagesError

log = logging.getLogger(__name__)

TIMEOUT = 10.0  # seconds for the nucleus to answer a request


class GreengrassIpc:
    """One connection to the nucleus; implements ports.Messages."""

    def __init__(self, loop: ThreadLoop, *, interpolates: bool) -> None:
        self._loop = loop
        self._interpolates = interpolates
        try:
            connection = greengrasscoreipc.connect(lifecycle_handler=_Lifecycle(self._lost), timeout=TIMEOUT)
        except KeyError as error:
            raise DeviceError(f"{error} is not set: this program is a Greengrass component") from None
        except Exception as error:
            raise DeviceError(f"the nucleus does not answer over IPC: {error}") from error
        # No executor: the handlers only pass on what they get, so the network thread may run them.
        self._client = GreengrassCoreIPCClientV2(client=connection, executor=None)

    def subscribe(self, topic_filter: str, handler: MessageHandler) -> None:
        """See ports.Messages."""

        def received(event: Any) -> None:
            handler(str(event.message.topic_name), bytes(event.message.payload or b""))

        future, _ = self._client.subscribe_to_iot_core_async(
            topic_name=topic_filter,
            qos=model.QOS.AT_LEAST_ONCE,
            on_stream_event=received,
            on_stream_error=self._stream_failed,
            on_stream_closed=lambda: self._lost("a subscription was closed by the nucleus"),
        )
        self._answer(future, f"subscribe to {topic_filter}")

    def publish(self, topic: str, payload: bytes) -> None:
        """See ports.Messages; QoS 0 is never spooled by the nucleus."""
        future = self._client.publish_to_iot_core_async(topic_name=topic, qos=model.QOS.AT_MOST_ONCE, payload=payload)
        self._answer(future, f"publish to {topic}")

    def read_configuration(self) -> Configuration:
        """This component's configuration as the nucleus has merged it; ConfigurationError if it is wrong."""
        try:
            value = self._client.get_configuration_async().result(TIMEOUT).value
        except Exception as error:
            raise ConfigurationError(f"the nucleus does not tell the configuration: {_text(error)}") from error
        return configuration.parse(value or {})

    def validate_updates(self) -> None:
        """Judge every configuration that a deployment wants to bring, from now on (nucleus classic only)."""
        future, _ = self._client.subscribe_to_validate_configuration_updates_async(
            on_stream_event=lambda event: self._loop.call_soon(
                lambda: self._judge(event.validate_configuration_update_event)
            ),
            on_stream_error=self._stream_failed,
        )
        self._answer(future, "validate configuration updates")

    def _judge(self, proposal: Any) -> None:
        problem = judge(proposal.configuration or {})
        report = model.ConfigurationValidityReport(
            status=model.ConfigurationValidityStatus.REJECTED
            if problem
            else model.ConfigurationValidityStatus.ACCEPTED,
            deployment_id=proposal.deployment_id,
            message=problem,
        )
        log.info("the configuration of deployment %s is %s", proposal.deployment_id, problem or "accepted")
        future = self._client.send_configuration_validity_report_async(configuration_validity_report=report)
        try:
            self._answer(future, "report on a configuration")
        except MessagesError as error:
            log.warning("%s", error)  # the deployment has ended meanwhile

    def _answer(self, future: concurrent.futures.Future[Any], what: str) -> None:
        try:
            future.result(TIMEOUT)
        except model.UnauthorizedError as error:
            if not self._interpolates:
                hint = (
                    "set interpolateComponentConfiguration: true in the configuration of aws.greengrass.Nucleus, "
                    "so that {iot:thingName} counts in this component's access control"
                )
            else:
                hint = "compare the component's accessControl with its recipe"
            raise DeviceError(f"the nucleus does not allow this component to {what}; {hint}") from error
        except Exception as error:
            raise MessagesError(f"cannot {what}: {_text(error)}") from error

    def _stream_failed(self, error: Exception) -> bool:
        log.warning("a message from the nucleus could not be read: %s", _text(error))
        return False  # keep the subscription

    def _lost(self, why: str) -> None:
        self._loop.stop(DeviceError(f"the connection to the nucleus is lost ({why}); it will start this anew"))


def judge(proposed: Mapping[str, Any]) -> Optional[str]:
    """Why a proposed configuration cannot be accepted, or None."""
    try:
        configuration.parse(proposed)
    except ConfigurationError as error:
        return str(error)
    return None


class _Lifecycle(LifecycleHandler):  # type: ignore[misc]  # awsiotsdk publishes no types
    """Hears of the connection's end, on the network thread."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        self._lost = lost

    def on_disconnect(self, reason: Optional[Exception]) -> None:
        """The socket is closed, by the nucleus if there is a reason."""
        self._lost(_text(reason) if reason else "closed")

    def on_error(self, error: Exception) -> bool:
        """A protocol error; True closes the connection."""
        log.error("IPC error: %s", _text(error))
        return True


def _text(error: BaseException) -> str:
    message = getattr(error, "message", None) or str(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
