"""The MQTT endpoint's questions and events: authentication, authorisation, presence (``EndpointRegistry``)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandbox.aws.errors import not_found
from sandbox.aws.site import Site, new_id

from .certificates import Certificates
from .groups import Groups
from .policies import Policies
from .policy_language import allows, variables_in
from .principals import EXCLUSIVE, Principals
from .things import Things


@dataclass(frozen=True, slots=True)
class ClientPresence:
    """The last thing known of a client id."""

    certificate_id: str
    connected: bool
    at: datetime
    session_id: str


class Presence:
    """Implements ``sandbox.interfaces.EndpointRegistry`` over the registry's parts."""

    def __init__(
        self,
        site: Site,
        *,
        certificates: Certificates,
        principals: Principals,
        policies: Policies,
        things: Things,
        groups: Groups,
    ) -> None:
        self._site = site
        self._certificates = certificates
        self._principals = principals
        self._policies = policies
        self._things = things
        self._groups = groups
        self._connections: dict[str, ClientPresence] = {}
        self._versions: dict[str, int] = {}
        self._on_ended: list[Callable[[str], None]] = []
        self._ended_by_api: set[str] = set()

    def authenticate(self, certificate_der: bytes) -> str | None:
        """Return the certificate's id if this very certificate is registered and ACTIVE, else None."""
        with self._site.transaction():
            found = self._certificates.get(hashlib.sha256(certificate_der).hexdigest())
            return found.certificate_id if found and found.status == "ACTIVE" else None

    def may(self, certificate_id: str, client_id: str, action: str, resource: str) -> bool:
        """Return whether the certificate's policies, and those of its things' groups, allow the action."""
        with self._site.transaction():
            found = self._certificates.get(certificate_id)
            if found is None or (action == "iot:Connect" and found.status != "ACTIVE"):
                return False  # a connection that stands goes on for minutes after its certificate has left ACTIVE
            things = self._principals.of_certificate(certificate_id)
            groups = {group for thing in things for group in self._groups.of_thing(thing)}
            policies = self._policies.effective(certificate_id, groups)
            variables = self._variables(certificate_id, client_id)
        return allows(policies, action, self._site.arn(resource), variables)

    def test_authorization(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what a certificate's policies allow of each action; facts of a connection count as missing.

        Whether AWS fills the variables of a thing here is not documented, so the sandbox does not.
        """
        certificate_id = request["principal"].rpartition("/")[2]
        with self._site.transaction():
            things = self._principals.of_certificate(certificate_id)
            groups = {group for thing in things for group in self._groups.of_thing(thing)}
            policies = self._policies.effective(certificate_id, groups)
        known = {"iot:CertificateId": certificate_id}
        if "clientId" in request:
            known["iot:ClientId"] = request["clientId"]
        missing = sorted(variables_in(policies) - known.keys())
        return {"authResults": [_weighed(policies, one, known, missing) for one in request["authInfos"]]}

    def on_certificate_registered(self, listener: Callable[[bytes], None]) -> None:
        """Hear of every certificate, those that exist and those to come."""
        with self._site.transaction():
            self._certificates.on_registered(listener)

    def on_certificate_disabled(self, listener: Callable[[str], None]) -> None:
        """Hear of each certificate that has left ACTIVE, when its connections end."""
        with self._site.transaction():
            self._certificates.on_disabled(listener)

    def on_client_ended(self, listener: Callable[[str], None]) -> None:
        """Hear when a client's connection is ended by DeleteConnection."""
        with self._site.transaction():
            self._on_ended.append(listener)

    def connected(self, certificate_id: str, client_id: str) -> None:
        """Note a connection."""
        self._note(certificate_id, client_id, connected=True)

    def disconnected(self, certificate_id: str, client_id: str) -> None:
        """Note the end of a connection."""
        self._note(certificate_id, client_id, connected=False)

    def connection(self, client_id: str) -> ClientPresence | None:
        """Return the last thing known of a client id."""
        return self._connections.get(client_id)

    def get_thing_connectivity_data(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the connectivity of the client whose id is the thing's name, as AWS does."""
        name = self._things.require(request["thingName"]).name
        found = self._connections.get(name)
        if found is None:
            return {"thingName": name, "connected": False}
        return {"thingName": name, "connected": found.connected, "timestamp": found.at, "clientId": name}

    def delete_connection(self, request: dict[str, Any]) -> None:
        """End a client's connection; whether it may come back is its certificate's affair."""
        client_id = str(request["clientId"])
        found = self._connections.get(client_id)
        if found is None or not found.connected:
            raise not_found("connection of client", client_id)
        self._ended_by_api.add(client_id)
        for listener in self._on_ended:
            self._site.outbox.post(lambda listener=listener: listener(client_id))  # type: ignore[misc]

    def _note(self, certificate_id: str, client_id: str, *, connected: bool) -> None:
        with self._site.transaction():
            before = self._connections.get(client_id)
            session = new_id() if connected or before is None else before.session_id
            now = self._site.now()
            # The end of an older connection may be noticed after the next one began.
            if connected or before is None or before.certificate_id == certificate_id:
                self._connections[client_id] = ClientPresence(certificate_id, connected, now, session)
            self._versions[client_id] = self._versions.get(client_id, -1) + int(connected)
            kind = "connected" if connected else "disconnected"
            event = {
                "clientId": client_id,
                "timestamp": int(now.timestamp() * 1000),
                "eventType": kind,
                "sessionIdentifier": session,
                "principalIdentifier": certificate_id,
                "versionNumber": max(self._versions[client_id], 0),
            }
            if connected:
                event["ipAddress"] = "127.0.0.1"
            else:
                reason = "API_INITIATED_DISCONNECT" if client_id in self._ended_by_api else "CONNECTION_LOST"
                self._ended_by_api.discard(client_id)
                event |= {"clientInitiatedDisconnect": False, "disconnectReason": reason}
            self._site.publish(f"$aws/events/presence/{kind}/{client_id}", event)

    def _variables(self, certificate_id: str, client_id: str) -> dict[str, str]:
        """Return the policy variables of this connection; those without a value are missing."""
        things = self._principals.of_certificate(certificate_id)
        exclusive = [thing for thing, kind in things.items() if kind == EXCLUSIVE]
        name = client_id if client_id in things else exclusive[0] if exclusive else None
        values = {
            "iot:ClientId": client_id,
            "iot:Connection.Thing.IsAttached": str(name is not None).lower(),
            "iot:CertificateId": certificate_id,
            "aws:SourceIp": "127.0.0.1",
        }
        if name is not None:
            thing = self._things.require(name)
            values["iot:Connection.Thing.ThingName"] = name
            if thing.type_name:
                values["iot:Connection.Thing.ThingTypeName"] = thing.type_name
            values |= {f"iot:Connection.Thing.Attributes[{k}]": v for k, v in thing.attributes.items()}
        found = self._certificates.get(certificate_id)
        if found and found.common_name is not None:
            values["iot:Certificate.Subject.CommonName"] = found.common_name
        return values


def _weighed(
    policies: list[dict[str, Any]], asked: dict[str, Any], known: dict[str, str], missing: list[str]
) -> dict[str, Any]:
    action = f"iot:{asked['actionType'].capitalize()}"
    may = all(allows(policies, action, arn, known) for arn in asked["resources"])
    decision = "ALLOWED" if may else "IMPLICIT_DENY"
    return {"authInfo": asked, "authDecision": decision, "missingContextValues": missing}
