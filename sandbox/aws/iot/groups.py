"""Static thing groups: a forest of groups, and which things are in them.

A thing belongs to the groups it was added to; calls with ``recursive`` and job targets mean the
child groups too. Listeners hear of every join and leave, which is what continuous jobs live on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.aws.errors import AwsError, UnsupportedError, invalid, not_found
from sandbox.aws.paging import SortedNames, answer, page, page_of
from sandbox.aws.site import Site, new_id

from .things import Things

MAX_DEPTH = 7  # levels of a group hierarchy


@dataclass(slots=True)
class ThingGroup:
    """One static thing group."""

    name: str
    group_id: str
    parent: str | None
    created_at: datetime
    description: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    version: int = 1
    things: SortedNames = field(default_factory=SortedNames)
    children: set[str] = field(default_factory=set)


class Groups:
    """All groups, and the calls about them."""

    def __init__(self, site: Site, things: Things) -> None:
        self._site = site
        self._things = things
        self._by_name: dict[str, ThingGroup] = {}
        self._of_thing: dict[str, set[str]] = {}
        self._members: dict[str, list[str]] = {}  # of groups with their child groups, until something changes
        self.on_joined: list[Callable[[str, str], None]] = []  # (thing, group)
        self.on_left: list[Callable[[str, str], None]] = []
        things.on_deleted.append(self._forget_thing)

    # -- for the other parts of the cloud

    def arn(self, name: str) -> str:
        """Return the ARN of a group."""
        return self._site.arn(f"thinggroup/{name}")

    def require(self, name: str) -> ThingGroup:
        """Return the group; ResourceNotFoundException if there is none."""
        found = self._by_name.get(name)
        if found is None:
            raise not_found("thing group", name)
        return found

    def of_thing(self, thing: str) -> set[str]:
        """Return the names of the groups that a thing was added to."""
        return self._of_thing.get(thing, set())

    def with_ancestors(self, group: str) -> Iterable[str]:
        """Yield the group and those above it, nearest first."""
        name: str | None = group
        while name is not None and name in self._by_name:
            yield name
            name = self._by_name[name].parent

    def descendants(self, group: str) -> Iterable[str]:
        """Yield the groups below, depth first."""
        for child in sorted(self.require(group).children):
            yield child
            yield from self.descendants(child)

    def members(self, group: str) -> Sequence[str]:
        """Return the things of the group and of its child groups, in name order, each once."""
        if group not in self._members:
            names = set(self.require(group).things.in_order())
            for child in self.descendants(group):
                names.update(self._by_name[child].things.in_order())
            self._members[group] = sorted(names)
        return self._members[group]

    def add(self, name: str, parent: str | None = None, description: str | None = None) -> ThingGroup:
        """Make a group that does not exist yet."""
        group = ThingGroup(name, new_id(), parent, self._site.now(), description)
        if parent is not None:
            above = self.require(parent)
            if sum(1 for _ in self.with_ancestors(parent)) >= MAX_DEPTH:
                raise invalid(f"a hierarchy has at most {MAX_DEPTH} levels")
            above.children.add(name)
        self._by_name[name] = group
        self._members.clear()
        return group

    def join(self, thing: str, group: str) -> None:
        """Add a thing to a group."""
        things = self.require(group).things
        if thing not in things:
            things.add(thing)
            self._members.clear()
            self._of_thing.setdefault(thing, set()).add(group)
            for listener in self.on_joined:
                listener(thing, group)

    def leave(self, thing: str, group: str) -> None:
        """Take a thing out of a group."""
        found = self.require(group)
        if thing in found.things:
            found.things.discard(thing)
            self._members.clear()
            self._of_thing[thing].discard(group)
            for listener in self.on_left:
                listener(thing, group)

    # -- the API

    def create_thing_group(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a static group; the same request twice is harmless."""
        name, parent = request["thingGroupName"], request.get("parentGroupName")
        properties = request.get("thingGroupProperties", {})
        description = properties.get("thingGroupDescription")
        attributes = properties.get("attributePayload", {}).get("attributes", {})
        found = self._by_name.get(name)
        if found and (found.parent, found.description, found.attributes) != (parent, description, attributes):
            raise AwsError("ResourceAlreadyExistsException", f"thing group {name} already exists with other properties",
                           resourceId=found.group_id, resourceArn=self.arn(name))  # fmt: skip
        group = found or self.add(name, parent, description)
        group.attributes = dict(attributes)
        return {"thingGroupName": name, "thingGroupArn": self.arn(name), "thingGroupId": group.group_id}

    def describe_thing_group(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one group."""
        group = self.require(request["thingGroupName"])
        above = list(self.with_ancestors(group.name))[:0:-1]
        metadata: dict[str, Any] = {"creationDate": group.created_at}
        if group.parent:
            metadata |= {"parentGroupName": group.parent, "rootToParentThingGroups": [self._summary(n) for n in above]}
        properties: dict[str, Any] = {"thingGroupDescription": group.description}
        if group.attributes:
            properties["attributePayload"] = {"attributes": group.attributes}
        return {
            "thingGroupName": group.name,
            "thingGroupId": group.group_id,
            "thingGroupArn": self.arn(group.name),
            "version": group.version,
            "thingGroupProperties": properties,
            "thingGroupMetadata": metadata,
        }

    def update_thing_group(self, request: dict[str, Any]) -> dict[str, Any]:
        """Change description or attributes."""
        group = self.require(request["thingGroupName"])
        self._check_version(group, request)
        properties = request["thingGroupProperties"]
        group.description = properties.get("thingGroupDescription", group.description)
        payload = properties.get("attributePayload")
        if payload is not None:
            kept = group.attributes if payload.get("merge") else {}
            group.attributes = {k: v for k, v in {**kept, **payload.get("attributes", {})}.items() if v}
        group.version += 1
        return {"version": group.version}

    def delete_thing_group(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete a group without child groups; its things leave it."""
        group = self._by_name.get(request["thingGroupName"])
        if group is None:
            return {}
        self._check_version(group, request)
        if group.children:
            raise invalid(f"thing group {group.name} has child groups; delete them first")
        for thing in list(group.things.in_order()):
            self.leave(thing, group.name)
        if group.parent:
            self._by_name[group.parent].children.discard(group.name)
        del self._by_name[group.name]
        self._members.clear()
        return {}

    def list_thing_groups(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return groups in name order: all or the top ones, below a parent, by prefix."""
        parent, recursive = request.get("parentGroup"), request.get("recursive", True)
        if parent is not None:
            children = self.require(parent).children
            names = list(self.descendants(parent)) if recursive else list(children)
        else:
            names = [n for n, group in self._by_name.items() if recursive or group.parent is None]
        prefix = request.get("namePrefixFilter") or ""
        found, token = page_of(sorted(n for n in names if n.startswith(prefix)), request)
        return answer("thingGroups", [self._summary(n) for n in found], token)

    def list_things_in_thing_group(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return things of the group; with ``recursive`` those of its child groups too."""
        name = request["thingGroupName"]
        names = self.members(name) if request.get("recursive") else self.require(name).things.in_order()
        found, token = page_of(names, request)
        return answer("things", found, token)

    def list_thing_groups_for_thing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the groups that a thing was added to."""
        thing = self._things.require(request["thingName"])
        found, token = page(self.of_thing(thing.name), str, request)
        return answer("thingGroups", [self._summary(n) for n in found], token)

    def add_thing_to_thing_group(self, request: dict[str, Any]) -> dict[str, Any]:
        """Add by names or by ARNs."""
        self.join(self._named_thing(request), self._named_group(request))
        return {}

    def remove_thing_from_thing_group(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take out by names or by ARNs."""
        self.leave(self._named_thing(request), self._named_group(request))
        return {}

    def update_thing_groups_for_thing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Add one thing to several groups and take it out of others."""
        thing = self._named_thing(request)
        for name in (*request.get("thingGroupsToAdd", ()), *request.get("thingGroupsToRemove", ())):
            self.require(name)
        for name in request.get("thingGroupsToAdd", ()):
            self.join(thing, name)
        for name in request.get("thingGroupsToRemove", ()):
            self.leave(thing, name)
        return {}

    def create_dynamic_thing_group(self, request: dict[str, Any]) -> dict[str, Any]:
        """Refuse: a dynamic group needs fleet indexing as a query engine, which the sandbox does not have."""
        raise UnsupportedError(f"the sandbox has no dynamic thing groups (iot CreateDynamicThingGroup {request})")

    # -- inside

    def _summary(self, name: str) -> dict[str, str]:
        return {"groupName": name, "groupArn": self.arn(name)}

    def _named_thing(self, request: dict[str, Any]) -> str:
        name = request.get("thingName") or request.get("thingArn", "").rpartition("/")[2]
        if not name:
            raise invalid("thingName or thingArn must be given")
        return self._things.require(name).name

    def _named_group(self, request: dict[str, Any]) -> str:
        name = request.get("thingGroupName") or request.get("thingGroupArn", "").rpartition("/")[2]
        if not name:
            raise invalid("thingGroupName or thingGroupArn must be given")
        return self.require(name).name

    def _check_version(self, group: ThingGroup, request: dict[str, Any]) -> None:
        if request.get("expectedVersion") not in (None, group.version):
            raise AwsError("VersionConflictException", f"thing group {group.name} has version {group.version}")

    def _forget_thing(self, thing: str) -> None:
        for group in list(self.of_thing(thing)):
            self.leave(thing, group)
        self._of_thing.pop(thing, None)
