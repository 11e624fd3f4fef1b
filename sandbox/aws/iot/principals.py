"""The attachments of certificates to things, and how exclusive they are.

AWS's rule: a principal attached as EXCLUSIVE_THING belongs to that one thing. A thing may hold
several principals, exclusive ones too, which is what makes a rotation possible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.aws.errors import invalid
from sandbox.aws.paging import answer, page

from .certificates import Certificates
from .things import Things

EXCLUSIVE = "EXCLUSIVE_THING"
SHARED = "NON_EXCLUSIVE_THING"


class Principals:
    """All attachments, and the calls about them. Keys are thing names and certificate ids."""

    def __init__(self, things: Things, certificates: Certificates) -> None:
        self._things = things
        self._certificates = certificates
        self._of_thing: dict[str, dict[str, str]] = {}
        self._of_certificate: dict[str, dict[str, str]] = {}
        self.on_changed: list[Callable[[str, str], None]] = []  # (thing, certificate id)
        things.has_principals = lambda thing: bool(self.of_thing(thing))
        certificates.attached_things = lambda certificate_id: len(self.of_certificate(certificate_id))

    def of_thing(self, thing: str) -> dict[str, str]:
        """Return the association type of each of a thing's certificates, by certificate id."""
        return self._of_thing.get(thing, {})

    def of_certificate(self, certificate_id: str) -> dict[str, str]:
        """Return the association type of each thing that holds a certificate, by thing name."""
        return self._of_certificate.get(certificate_id, {})

    def attach(self, thing: str, certificate_id: str, kind: str) -> None:
        """Attach, or raise InvalidRequestException where that breaks an exclusive association."""
        held = self.of_certificate(certificate_id)
        others = [t for t in held if t != thing]
        if kind == EXCLUSIVE and others:
            raise invalid(f"certificate {certificate_id} is attached to {others[0]}, so not exclusively to {thing}")
        if any(held[t] == EXCLUSIVE for t in others):
            raise invalid(f"certificate {certificate_id} is exclusively attached to {others[0]}")
        if held.get(thing, kind) != kind:
            raise invalid(f"certificate {certificate_id} is attached to {thing} as {held[thing]}; detach it first")
        self._of_thing.setdefault(thing, {})[certificate_id] = kind
        self._of_certificate.setdefault(certificate_id, {})[thing] = kind
        self._changed(thing, certificate_id)

    def detach(self, thing: str, certificate_id: str) -> None:
        """Detach; what is not attached stays so."""
        self._of_thing.get(thing, {}).pop(certificate_id, None)
        self._of_certificate.get(certificate_id, {}).pop(thing, None)
        self._changed(thing, certificate_id)

    # -- the API

    def attach_thing_principal(self, request: dict[str, Any]) -> dict[str, Any]:
        """Attach a certificate to a thing."""
        thing = self._things.require(request["thingName"])
        certificate = self._certificates.require_arn(request["principal"])
        self.attach(thing.name, certificate.certificate_id, request.get("thingPrincipalType", SHARED))
        return {}

    def detach_thing_principal(self, request: dict[str, Any]) -> dict[str, Any]:
        """Detach a certificate from a thing."""
        thing = self._things.require(request["thingName"])
        self.detach(thing.name, self._certificates.require_arn(request["principal"]).certificate_id)
        return {}

    def list_thing_principals(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the ARNs of a thing's principals."""
        found, token = page(self._held_by(request), lambda item: item[0], request)
        return answer("principals", [arn for arn, _ in found], token)

    def list_thing_principals_v2(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the same with association types, or of one type only."""
        wanted = request.get("thingPrincipalType")
        held = [item for item in self._held_by(request) if wanted in (None, item[1])]
        found, token = page(held, lambda item: item[0], request)
        objects = [{"principal": arn, "thingPrincipalType": kind} for arn, kind in found]
        return answer("thingPrincipalObjects", objects, token)

    def list_principal_things(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the things of a principal."""
        found, token = page(self._holders_of(request), lambda item: item[0], request)
        return answer("things", [thing for thing, _ in found], token)

    def list_principal_things_v2(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the same with association types, or of one type only."""
        wanted = request.get("thingPrincipalType")
        holders = [item for item in self._holders_of(request) if wanted in (None, item[1])]
        found, token = page(holders, lambda item: item[0], request)
        objects = [{"thingName": thing, "thingPrincipalType": kind} for thing, kind in found]
        return answer("principalThingObjects", objects, token)

    # -- inside

    def _held_by(self, request: dict[str, Any]) -> list[tuple[str, str]]:
        thing = self._things.require(request["thingName"])
        return [(self._certificates.arn(c), kind) for c, kind in self.of_thing(thing.name).items()]

    def _holders_of(self, request: dict[str, Any]) -> list[tuple[str, str]]:
        certificate = self._certificates.require_arn(request["principal"])
        return list(self.of_certificate(certificate.certificate_id).items())

    def _changed(self, thing: str, certificate_id: str) -> None:
        for listener in self.on_changed:
            listener(thing, certificate_id)
