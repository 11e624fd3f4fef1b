"""Things and thing types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.aws.errors import AwsError, invalid, not_found
from sandbox.aws.paging import SortedNames, answer, page, page_of
from sandbox.aws.site import Site, new_id


@dataclass(slots=True)
class Thing:
    """One thing."""

    name: str
    thing_id: str
    attributes: dict[str, str] = field(default_factory=dict)
    type_name: str | None = None
    version: int = 1


@dataclass(slots=True)
class ThingType:
    """One thing type."""

    name: str
    type_id: str
    properties: dict[str, Any]
    created_at: datetime
    deprecated_at: datetime | None = None


class Things:
    """All things, and the calls about them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._by_name: dict[str, Thing] = {}
        self._names = SortedNames()
        self._types: dict[str, ThingType] = {}
        self.has_principals: Callable[[str], bool] = lambda _: False
        self.on_deleted: list[Callable[[str], None]] = []

    def arn(self, name: str) -> str:
        """Return the ARN of a thing."""
        return self._site.arn(f"thing/{name}")

    def require(self, name: str) -> Thing:
        """Return the thing; ResourceNotFoundException if there is none."""
        found = self._by_name.get(name)
        if found is None:
            raise not_found("thing", name)
        return found

    def exists(self, name: str) -> bool:
        """Return whether there is such a thing."""
        return name in self._by_name

    def names(self) -> list[str]:
        """Return all names in order."""
        return list(self._names.in_order())

    def add(self, name: str, attributes: dict[str, str] | None = None, type_name: str | None = None) -> Thing:
        """Make a thing that does not exist yet."""
        thing = Thing(name, new_id(), dict(attributes or {}), type_name)
        self._by_name[name] = thing
        self._names.add(name)
        return thing

    # -- the API

    def create_thing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a thing; the same request twice is harmless, a different one is refused."""
        name, type_name = request["thingName"], request.get("thingTypeName")
        attributes = request.get("attributePayload", {}).get("attributes", {})
        if request.get("billingGroupName"):
            raise not_found("billing group", request["billingGroupName"])
        if type_name is not None:
            self._usable_type(type_name)
        found = self._by_name.get(name)
        if found and (found.attributes, found.type_name) != (attributes, type_name):
            raise AwsError("ResourceAlreadyExistsException", f"thing {name} already exists with other properties",
                           resourceId=found.thing_id, resourceArn=self.arn(name))  # fmt: skip
        thing = found or self.add(name, attributes, type_name)
        return {"thingName": name, "thingArn": self.arn(name), "thingId": thing.thing_id}

    def describe_thing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one thing."""
        thing = self.require(request["thingName"])
        return {"defaultClientId": thing.name, "thingId": thing.thing_id, **self._summary(thing)}

    def update_thing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Change attributes or type."""
        thing = self.require(request["thingName"])
        if request.get("expectedVersion") not in (None, thing.version):
            raise AwsError("VersionConflictException",
                           f"thing {thing.name} has version {thing.version}")  # fmt: skip
        if request.get("thingTypeName"):
            thing.type_name = self._usable_type(request["thingTypeName"]).name
        if request.get("removeThingType"):
            thing.type_name = None
        payload = request.get("attributePayload")
        if payload is not None:
            kept = thing.attributes if payload.get("merge") else {}
            thing.attributes = {k: v for k, v in {**kept, **payload.get("attributes", {})}.items() if v}
        thing.version += 1
        return {}

    def delete_thing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete a thing without principals; its group memberships and executions go with it."""
        name = request["thingName"]
        thing = self._by_name.get(name)
        if thing is None:
            return {}
        if request.get("expectedVersion") not in (None, thing.version):
            raise AwsError("VersionConflictException", f"thing {name} has version {thing.version}")
        if self.has_principals(name):
            raise invalid(f"thing {name} is still attached to a principal; detach it first")
        for listener in self.on_deleted:
            listener(name)
        del self._by_name[name]
        self._names.discard(name)
        return {}

    def list_things(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return things in name order, filtered by one attribute or type."""
        names = self._names.in_order()
        attribute, value = request.get("attributeName"), request.get("attributeValue", "")
        prefix = request.get("usePrefixAttributeValue")
        if attribute:
            names = [
                n for n in names
                if (v := self._by_name[n].attributes.get(attribute)) is not None
                and (v.startswith(value) if prefix else v == value)
            ]  # fmt: skip
        if request.get("thingTypeName"):
            names = [n for n in names if self._by_name[n].type_name == request["thingTypeName"]]
        found, token = page_of(names, request)
        return answer("things", [self._summary(self._by_name[n]) for n in found], token)

    def create_thing_type(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a thing type; the same request twice is harmless."""
        name, properties = request["thingTypeName"], request.get("thingTypeProperties", {})
        found = self._types.get(name)
        if found and found.properties != properties:
            raise AwsError("ResourceAlreadyExistsException", f"thing type {name} already exists")
        kind = self._types.setdefault(name, ThingType(name, new_id(), properties, self._site.now()))
        return {"thingTypeName": name, "thingTypeArn": self._type_arn(name), "thingTypeId": kind.type_id}

    def describe_thing_type(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one thing type."""
        kind = self._type(request["thingTypeName"])
        return {**self._type_summary(kind), "thingTypeId": kind.type_id}

    def list_thing_types(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return thing types in name order."""
        wanted = request.get("thingTypeName")
        kinds = [k for k in self._types.values() if wanted in (None, k.name)]
        found, token = page(kinds, lambda k: k.name, request)
        return answer("thingTypes", [self._type_summary(k) for k in found], token)

    def deprecate_thing_type(self, request: dict[str, Any]) -> dict[str, Any]:
        """Deprecate a type, so that no new thing can have it, or undo that."""
        kind = self._type(request["thingTypeName"])
        kind.deprecated_at = None if request.get("undoDeprecate") else self._site.now()
        return {}

    def delete_thing_type(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete a deprecated type that no thing has."""
        kind = self._type(request["thingTypeName"])
        if kind.deprecated_at is None:
            raise invalid(f"thing type {kind.name} must be deprecated before it is deleted")
        if any(thing.type_name == kind.name for thing in self._by_name.values()):
            raise invalid(f"things still have the type {kind.name}")
        del self._types[kind.name]
        return {}

    # -- inside

    def _summary(self, thing: Thing) -> dict[str, Any]:
        return {
            "thingName": thing.name,
            "thingArn": self.arn(thing.name),
            "thingTypeName": thing.type_name,
            "attributes": thing.attributes,
            "version": thing.version,
        }

    def _type_arn(self, name: str) -> str:
        return self._site.arn(f"thingtype/{name}")

    def _type(self, name: str) -> ThingType:
        if name not in self._types:
            raise not_found("thing type", name)
        return self._types[name]

    def _usable_type(self, name: str) -> ThingType:
        kind = self._type(name)
        if kind.deprecated_at is not None:
            raise invalid(f"thing type {name} is deprecated")
        return kind

    def _type_summary(self, kind: ThingType) -> dict[str, Any]:
        metadata: dict[str, Any] = {"deprecated": kind.deprecated_at is not None, "creationDate": kind.created_at}
        if kind.deprecated_at:
            metadata["deprecationDate"] = kind.deprecated_at
        return {
            "thingTypeName": kind.name,
            "thingTypeArn": self._type_arn(kind.name),
            "thingTypeProperties": kind.properties,
            "thingTypeMetadata": metadata,
        }
