"""The rights to connect, publish, subscribe and receive: the rules that AWS IoT Core keeps at its door.

The MQTT endpoint and the in-process devices both ask here, so that neither can do what the other cannot.
"""

from __future__ import annotations

import logging

from cryptography import x509

from protocol.der import with_readable_names
from sandbox.clock import SandboxClock
from sandbox.interfaces import EndpointRegistry

from .jobs_topics import may_be_published
from .mqtt.topics import problem_with_filter, problem_with_topic
from .mqtt.wire import ReasonCode

log = logging.getLogger(__name__)


class Admission:
    """Asks registry, policies and clock; every refusal is logged with its reason."""

    def __init__(self, registry: EndpointRegistry, clock: SandboxClock) -> None:
        self._registry, self._clock = registry, clock

    def authenticate(self, certificate_der: bytes, client_id: str) -> str | None:
        """Return the certificate id if this certificate may connect under this client id now, else None."""
        principal = self._registry.authenticate(certificate_der)
        if principal is None:
            log.info("%s: its certificate is not registered, or not ACTIVE", client_id)
            return None
        certificate = x509.load_der_x509_certificate(with_readable_names(certificate_der))
        if not certificate.not_valid_before_utc <= self._clock.now() <= certificate.not_valid_after_utc:
            log.info("%s: certificate %s is outside its validity period", client_id, principal)
            return None
        if not self._may(principal, client_id, "Connect", f"client/{client_id}"):
            return None
        return principal

    def may_publish(self, principal: str, client_id: str, topic: str) -> bool:
        """Return whether topic and policy allow a device to publish there."""
        if problem := problem_with_topic(topic):
            log.info("%s: cannot publish to %r: %s", client_id, topic, problem)
            return False
        if not may_be_published(topic):
            log.info("%s: %s is reserved for the cloud", client_id, topic)
            return False
        return self._may(principal, client_id, "Publish", f"topic/{topic}")

    def refusal_of_subscription(self, principal: str, client_id: str, topic_filter: str) -> ReasonCode | None:
        """Return why a device may not subscribe, or None."""
        if problem := problem_with_filter(topic_filter):
            log.info("%s: cannot subscribe to %r: %s", client_id, topic_filter, problem)
            return ReasonCode.TOPIC_FILTER_INVALID
        allowed = self._may(principal, client_id, "Subscribe", f"topicfilter/{topic_filter}")
        return None if allowed else ReasonCode.NOT_AUTHORIZED

    def may_receive(self, principal: str, client_id: str, topic: str) -> bool:
        """Return whether policy allows a message to reach the device."""
        return self._may(principal, client_id, "Receive", f"topic/{topic}")

    def _may(self, principal: str, client_id: str, action: str, resource: str) -> bool:
        allowed = self._registry.may(principal, client_id, f"iot:{action}", resource)
        if not allowed:
            log.info("%s: no policy of certificate %s allows iot:%s on %s", client_id, principal, action, resource)
        return allowed
