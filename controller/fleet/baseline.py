"""What was governed when the fleet was last applied, kept in AWS IoT itself: in the attributes of one thing group.

There every run finds it, in CI, in the function and on a laptop, and no file can be lost. ``apply`` writes
it last of all, once the guardrails have let a plan pass; ``refresh`` reads it. The group holds no things.
docs/decisions/0033-what-was-governed-before.md says why.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from controller.errors import FleetError
from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.reconcile.device import Baseline

RECORD_GROUP = "cf-governed"
RECORD_DESCRIPTION = (
    "certfleet: what was governed when the fleet was last applied; guards against a shrunken desired state"
)
MAX_VALUE = 800  # characters of an attribute's value (AWS IoT)
MAX_ATTRIBUTES = 50  # of a thing group (AWS IoT)
_COMMIT = "commit"
_NOTHING = "nothing"  # of a record that has neither: one without attributes is damaged
_GROUPS = "groups-"  # and a number: group/size,group/size,...
_ENTRY = re.compile(r"([a-zA-Z0-9:_-]{1,128})/([0-9]{1,9})")
_NOT_FOUND = "ResourceNotFoundException"


def read_baseline(session: AwsSession, connection: sqlite3.Connection, governed: frozenset[str]) -> Baseline | None:
    """The baseline, None where there is none; FleetError where it is damaged.

    ``governed`` are the groups that policies name now. The things of the others are listed and counted
    where no policy governs them, each once; the inventory must know the things of the governed groups.
    """
    answer = session.find("iot", "DescribeThingGroup", thingGroupName=RECORD_GROUP)
    if answer is None:
        return None
    properties = answer.get("thingGroupProperties", {})
    sizes, commit = decode(properties.get("attributePayload", {}).get("attributes", {}))
    ungoverned: dict[str, int] = {}
    seen: set[str] = set()
    for group in sorted(set(sizes) - governed):
        found = _things(session, group)
        if found is not None:  # a group that is gone as well cannot be asked: what was recorded stands
            fresh = {thing for thing in found if thing not in seen and not _is_governed(connection, thing)}
            ungoverned[group] = len(fresh)
            seen |= fresh
    return Baseline(sizes, ungoverned, commit)


def encode(sizes: Mapping[str, int], commit: str | None) -> dict[str, str]:
    """The record's attributes; FleetError where there are more groups than a thing group can name."""
    values = [""]
    for group, size in sorted(sizes.items()):
        entry = f"{group}/{size}"
        if len(values[-1]) + len(entry) >= MAX_VALUE:
            values.append("")
        values[-1] += f",{entry}" if values[-1] else entry
    if len(values) >= MAX_ATTRIBUTES:
        raise FleetError(
            f"the policies name {len(sizes):,} thing groups, more than the record of what is governed can hold",
            "let policies govern parent groups: an account runs about a hundred jobs at once",
        )
    attributes = {f"{_GROUPS}{number}": value for number, value in enumerate(values, 1) if value}
    return attributes | ({_COMMIT: commit} if commit else {}) or {_NOTHING: "governed"}


def decode(attributes: Mapping[str, str]) -> tuple[dict[str, int], str | None]:
    """Sizes by group, and the commit; FleetError where someone else wrote there."""
    if not attributes:
        raise _damaged("it has no attributes")
    sizes: dict[str, int] = {}
    for name, value in attributes.items():
        if not name.startswith(_GROUPS):
            continue
        for entry in value.split(","):
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise _damaged(f"its attribute {name} has {entry!r}, expected GROUP/SIZE")
            sizes[match[1]] = int(match[2])
    return sizes, attributes.get(_COMMIT)


def _damaged(how: str) -> FleetError:
    return FleetError(
        f"thing group {RECORD_GROUP} is damaged: {how}",
        f"find out who changed it, then aws iot delete-thing-group --thing-group-name {RECORD_GROUP}; the "
        "next apply makes it anew, but cannot tell whether the desired state has shrunk meanwhile",
    )


def _things(session: AwsSession, group: str) -> Iterator[str] | None:
    """Things of the group and its children; None where there is no such group."""
    try:
        pages: list[dict[str, Any]] = list(
            session.pages("ListThingsInThingGroup", thingGroupName=group, recursive=True)
        )
    except AwsCallError as error:
        if error.code == _NOT_FOUND:
            return None
        raise
    return (thing for page in pages for thing in page["things"])


def _is_governed(connection: sqlite3.Connection, thing: str) -> bool:
    return connection.execute("SELECT 1 FROM things WHERE name = ?", (thing,)).fetchone() is not None
