"""Fleet indexing, as far as names, exact attributes and connectivity go."""

from __future__ import annotations

import re
from typing import Any

from sandbox.aws.errors import AwsError, UnsupportedError
from sandbox.aws.paging import answer, page_of

from .groups import Groups
from .presence import Presence
from .things import Things

INDEX = "AWS_Things"
_TERM = re.compile(r"(?P<field>thingName|thingTypeName|thingGroupNames|connectivity\.connected|attributes\.[\w.:-]+)"
                   r":(?P<value>\"[^\"]*\"|\S+)")  # fmt: skip


class Search:
    """``search_index`` over terms joined by AND; a value may end in ``*``."""

    def __init__(self, things: Things, groups: Groups, presence: Presence) -> None:
        self._things = things
        self._groups = groups
        self._presence = presence

    def search_index(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return things that match every term."""
        if request.get("indexName", INDEX) != INDEX:
            raise UnsupportedError(f"the sandbox has no index {request['indexName']} (iot SearchIndex)")
        terms = self._terms(request["queryString"])
        names = [n for n in self._things.names() if all(self._matches(n, field, value) for field, value in terms)]
        found, token = page_of(names, {"maxResults": 100, **request})
        return answer("things", [self._document(name) for name in found], token)

    def _terms(self, query: str) -> list[tuple[str, str]]:
        if query.strip() == "*":
            return []
        parts = [part.strip() for part in re.split(r"\s+AND\s+", query.strip())]
        terms = []
        for part in parts:
            match = _TERM.fullmatch(part) or re.fullmatch(r"(?P<value>[\w:*-]+)", part)
            if match is None:
                raise AwsError("InvalidQueryException", f"the sandbox understands field:value, found {part!r}")
            terms.append((match.groupdict().get("field", "thingName"), match["value"].strip('"')))
        return terms

    def _matches(self, name: str, field: str, value: str) -> bool:
        thing = self._things.require(name)
        if field == "thingGroupNames":
            candidates = list(self._groups.of_thing(name))
        elif field == "connectivity.connected":
            connection = self._presence.connection(name)
            candidates = [str(connection is not None and connection.connected).lower()]
        elif field.startswith("attributes."):
            candidates = [thing.attributes.get(field.partition(".")[2], "")]
        else:
            candidates = [name if field == "thingName" else thing.type_name or ""]
        if value.endswith("*"):
            return any(c.startswith(value[:-1]) for c in candidates)
        return value in candidates

    def _document(self, name: str) -> dict[str, Any]:
        thing = self._things.require(name)
        found: dict[str, Any] = {
            "thingName": name,
            "thingId": thing.thing_id,
            "thingTypeName": thing.type_name,
            "thingGroupNames": sorted(self._groups.of_thing(name)),
            "attributes": thing.attributes,
        }
        connection = self._presence.connection(name)
        if connection is not None:
            moment = int(connection.at.timestamp() * 1000)
            found["connectivity"] = {"connected": connection.connected, "timestamp": moment}
        return found
