"""The devices that were governed at the last apply, kept in AWS IoT itself: in the attributes of one thing group.

There every run finds it, in CI, in the function and on a laptop, and no file can be lost. ``apply`` writes
it last of all, once the guardrails have let a plan pass; ``refresh`` reads it. The group holds no things.
docs/decisions/0033-what-was-governed-before.md shows why.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from controller.errors import FleetError
from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.reconcile.values import LOOK_BACK, Baseline, Halt

RECORD_GROUP = "cf-governed"
RECORD_DESCRIPTION = (
    "certfleet: what was governed when the fleet was last applied; guards against a shrunken desired state"
)
MAX_VALUE = 800  # characters of an attribute's value (AWS IoT)
MAX_ATTRIBUTES = 50  # of a thing group (AWS IoT)
_COMMIT, _COMMITTED, _APPLIED = "commit", "committed", "applied"  # but for the first in seconds since 1970
RUN = "run"  # which run wrote last: without it, two that write the same would both be the first
_OTHERS = 4
_GROUPS = "groups-"  # and a number: group/size,group/size,...
_RESUMED = "resumed-"  # and a number: policy/seconds,policy/seconds,...
_HALTED = "halted-"  # and a number: policy:family/seconds,policy:family/seconds,...
_ENTRY = re.compile(r"([a-zA-Z0-9:_-]{1,128})/([0-9]{1,10})")
_SECONDS = re.compile(r"[0-9]{1,10}")
_NOT_FOUND = "ResourceNotFoundException"


@dataclass(frozen=True, slots=True)
class BaselineRecord:
    """The record as its attributes hold it."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    commit: str | None = None
    committed_at: datetime | None = None
    resumed: Mapping[str, datetime] = field(default_factory=dict)
    halted: Mapping[str, Halt] = field(default_factory=dict)
    applied_at: datetime | None = None

    @classmethod
    def of(cls, baseline: Baseline) -> BaselineRecord:
        """Return the parts of a baseline that the record holds."""
        sizes, at = baseline.group_sizes, baseline.committed_at
        return cls(sizes, baseline.commit, at, baseline.resumed, baseline.halted, baseline.applied_at)

    def baseline(self, version: int, ungoverned: Mapping[str, int]) -> Baseline:
        """Return the record of that version, with the ungoverned things of its groups, by number."""
        commit, at = self.commit, self.committed_at
        return Baseline(self.sizes, ungoverned, commit, at, self.resumed, self.halted, self.applied_at, version)


def read_record(session: AwsSession) -> tuple[BaselineRecord, int] | None:
    """Return the record and its version, None if there is none; FleetError if it is damaged.

    Read before anything else of a look: whoever makes jobs on the strength of that look proves with the version
    that nobody else has made any since.
    """
    answer = session.find("iot", "DescribeThingGroup", thingGroupName=RECORD_GROUP)
    if answer is None:
        return None
    properties = answer.get("thingGroupProperties", {})
    return decode(properties.get("attributePayload", {}).get("attributes", {})), int(answer["version"])


def jobs_count_from(record: BaselineRecord | Baseline | None, now: datetime) -> datetime:
    """Return the instant from which on ended jobs count: some time before the last apply.

    The last apply has recorded the ends of earlier jobs; without one, the time counts back from now.
    """
    applied_at = record.applied_at if record else None
    return (min(applied_at, now) if applied_at else now) - LOOK_BACK


def baseline_of(
    found: tuple[BaselineRecord, int] | None,
    session: AwsSession,
    connection: sqlite3.Connection,
    governed: frozenset[str],
) -> Baseline | None:
    """Return the baseline that the record gives, None if none was found.

    ``governed`` are the groups that policies name now. The things of the others are listed and counted
    if no policy governs them, each once; the inventory must know the things of the governed groups.
    """
    if found is None:
        return None
    record, version = found
    ungoverned: dict[str, int] = {}
    seen: set[str] = set()
    for group in sorted(set(record.sizes) - governed):
        things = _things(session, group)
        if things is not None:  # a group that is gone as well cannot be asked: what was recorded stands
            fresh = {thing for thing in things if thing not in seen and not _is_governed(connection, thing)}
            ungoverned[group] = len(fresh)
            seen |= fresh
    return record.baseline(version, ungoverned)


def encode(record: BaselineRecord) -> dict[str, str]:
    """Return the record's attributes; FleetError if there are more groups than a thing group can name."""
    groups = _packed(_GROUPS, (f"{group}/{size}" for group, size in sorted(record.sizes.items())))
    resumed = _packed(_RESUMED, (f"{name}/{int(at.timestamp())}" for name, at in sorted(record.resumed.items())))
    halted = _packed(
        _HALTED,
        (f"{name}:{one.family}/{int(one.known_until.timestamp())}" for name, one in sorted(record.halted.items())),
    )
    if len(groups) + len(resumed) + len(halted) > MAX_ATTRIBUTES - _OTHERS:
        raise FleetError(
            f"the policies name {len(record.sizes):,} thing groups, more than the record of what is governed can hold",
            "let policies govern parent groups: an account runs about a hundred jobs at once",
        )
    others = {
        _COMMIT: record.commit,
        _COMMITTED: _seconds(record.committed_at),
        _APPLIED: _seconds(record.applied_at),
    }
    return groups | resumed | halted | {name: value for name, value in others.items() if value}


def decode(attributes: Mapping[str, str]) -> BaselineRecord:
    """Return the record that the attributes hold; FleetError if someone else wrote there."""
    if not attributes:
        raise _damaged("it has no attributes")
    sizes = dict(_entries(attributes, _GROUPS, "GROUP/SIZE"))
    resumed = {name: _instant(number) for name, number in _entries(attributes, _RESUMED, "POLICY/SECONDS")}
    halted = {}
    for name, number in _entries(attributes, _HALTED, "POLICY:FAMILY/SECONDS"):
        policy, _, family = name.partition(":")
        halted[policy] = Halt(family, _instant(number))
    committed_at, applied_at = (_noted(attributes.get(name, "")) for name in (_COMMITTED, _APPLIED))
    return BaselineRecord(sizes, attributes.get(_COMMIT), committed_at, resumed, halted, applied_at)


def _packed(prefix: str, entries: Iterable[str]) -> dict[str, str]:
    """Pack as many entries into each attribute as fit."""
    values = [""]
    for entry in entries:
        if len(values[-1]) + len(entry) >= MAX_VALUE:
            values.append("")
        values[-1] += f",{entry}" if values[-1] else entry
    return {f"{prefix}{number}": value for number, value in enumerate(values, 1) if value}


def _entries(attributes: Mapping[str, str], prefix: str, shape: str) -> Iterator[tuple[str, int]]:
    for name, value in attributes.items():
        if not name.startswith(prefix):
            continue
        for entry in value.split(","):
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise _damaged(f"its attribute {name} has {entry!r}, expected {shape}")
            yield match[1], int(match[2])


def _damaged(how: str) -> FleetError:
    return FleetError(
        f"thing group {RECORD_GROUP} is damaged: {how}",
        f"find out who changed it, then aws iot delete-thing-group --thing-group-name {RECORD_GROUP}; the "
        "next apply makes it anew, but cannot know whether the desired state has shrunk meanwhile",
    )


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _noted(seconds: str) -> datetime | None:
    return _instant(int(seconds)) if _SECONDS.fullmatch(seconds) else None


def _seconds(when: datetime | None) -> str | None:
    return str(int(when.timestamp())) if when else None


def _things(session: AwsSession, group: str) -> Iterator[str] | None:
    """Yield things of the group and its children; None if there is no such group."""
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
