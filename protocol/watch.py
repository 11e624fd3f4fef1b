"""A certificate under watch: the backend notes the connections made with it, so that it is known who uses it.

One item of the backend's table for each. ``certfleet heal`` makes it for certificates that may be in use, the backend
for those that several things hold; who deactivates one notes it there. The backend adds when it was seen. A sighting is
evidence in whatever order, and however often, its event comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Dict, FrozenSet, Iterable, Mapping, Optional, Tuple

KEY_PREFIX = "heal#"
"""How the partition keys of these items begin. No thing's name has a ``#`` in it, so they stand in no thing's way."""

RECORD = "watch"
SHARED_KEY = {"thingName": "shared#", "record": "certificates"}
"""Of the one item that lists, as ``certificateIds``, the certificates that several things hold or have held.

The last thing to hold one must let go of it like the others, when the registry shows no others any more.
"""
UNUSED = timedelta(days=14)
"""How long nobody may have connected with a certificate before it is taken to be in use by nobody."""
GRACE = timedelta(days=30)
"""How long a certificate that was deactivated as unused stays, lest somebody uses it after all."""
SAME_CHANGE = timedelta(minutes=15)  # between noting that a certificate is deactivated and AWS' own date of it
GAP = timedelta(days=2)
"""The longest time between two notes that connections are heard of, if it is assumed that they were in between too."""
MOST_HOLDERS = 500
"""The most things that may hold a certificate that is split: all their names must fit into one item."""
MOST_STRANGERS = 8
SAME_MOMENT = timedelta(minutes=1)
"""Connections this close count as one: clones that come back at once would else race to write that each was seen."""

_INSTANTS = {"since": "since", "first_own": "firstOwn", "last_seen": "lastSeen", "deactivated": "deactivated"}


def key_of(certificate_id: str) -> Dict[str, str]:
    """Return partition and sort key of a certificate's item."""
    return {"thingName": KEY_PREFIX + certificate_id, "record": RECORD}


@dataclass(frozen=True)
class Watch:
    """All that is known of one certificate since it is watched; instants are aware.

    ``thing`` is the one that held it then, empty for none. ``first_own`` is the first connection since then under that
    thing's own name, which takes the place of any other client of that name. ``last_seen`` is the last connection that
    was ever heard of, by whatever client. ``deactivated`` is when healing or the backend deactivated it. ``things`` are
    all that were ever found to hold a shared one. ``strangers`` are the first clients that connected with it and belong
    to none of these; if there are so many that others were left out, each of them stays a stranger. ``told`` is why a
    person was notified that it stays. ``version`` is of the stored item.
    """

    certificate_id: str
    thing: str
    since: datetime
    first_own: Optional[datetime] = None
    last_seen: Optional[datetime] = None
    deactivated: Optional[datetime] = None
    version: int = 0
    things: Tuple[str, ...] = ()
    strangers: Tuple[str, ...] = ()
    told: Optional[str] = None

    @property
    def stranger(self) -> Optional[str]:
        """The latest of the strangers; None if there is none."""
        return self.strangers[-1] if self.strangers else None

    def shared_by(self, things: Iterable[str]) -> Watch:
        """Return the watch with the ``things`` that hold it now; a client of one of these is not a stranger."""
        known = tuple(sorted({*self.things, *things}))
        left = tuple(one for one in self.strangers if _thing_of(one) not in known)
        return replace(self, things=known, strangers=left if len(self.strangers) < MOST_STRANGERS else self.strangers)

    def seen(self, client_id: str, at: datetime) -> Watch:
        """Return the watch with one more connection of this client.

        It is unchanged if a connection a moment before has shown the same. ``client_id`` is that of any client.
        """
        is_own = bool(self.thing) and client_id == self.thing and at >= self.since
        known = replace(
            self,
            first_own=min(self.first_own or at, at) if is_own else self.first_own,
            strangers=self._with_stranger(client_id),
        )
        if known == self and self.deactivated is None and self.last_seen and at - self.last_seen < SAME_MOMENT:
            return self
        return replace(known, last_seen=max(self.last_seen or at, at))

    def _with_stranger(self, client_id: str) -> Tuple[str, ...]:
        is_stranger = self.things and _thing_of(client_id) not in self.things
        is_news = is_stranger and client_id not in self.strangers and len(self.strangers) < MOST_STRANGERS
        return (*self.strangers, client_id) if is_news else self.strangers

    def to_record(self) -> Dict[str, Any]:
        """Return the item, keys included."""
        instants = {name: getattr(self, field) for field, name in _INSTANTS.items()}
        told: Dict[str, Any] = {name: at.isoformat() for name, at in instants.items() if at is not None}
        if self.things:
            told["things"] = list(self.things)
        if self.strangers:
            told["strangers"] = list(self.strangers)
        if self.told is not None:
            told["told"] = self.told
        return {**key_of(self.certificate_id), **told, "thing": self.thing, "version": self.version}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Watch:
        """Read what ``to_record`` wrote."""
        instants = {
            field: datetime.fromisoformat(record[name]) for field, name in _INSTANTS.items() if record.get(name)
        }
        return cls(
            record["thingName"][len(KEY_PREFIX) :],
            record["thing"],
            version=int(record["version"]),
            things=tuple(record.get("things", ())),
            strangers=tuple(record.get("strangers", ())),
            told=record.get("told"),
            **instants,
        )


@dataclass(frozen=True)
class SharedWatch:
    """The certificates that several things hold, or held.

    ``heard_since``: connections are heard of since then without a gap, as noted last at ``heard_at``; None: they are
    not.
    """

    certificate_ids: FrozenSet[str] = frozenset()
    heard_since: Optional[datetime] = None
    heard_at: Optional[datetime] = None
    version: int = 0

    def heard(self, now: datetime) -> SharedWatch:
        """Return the same with the note that connections are heard of now."""
        is_new = self.heard_since is None or self.heard_at is None or now - self.heard_at > GAP
        return replace(self, heard_since=now if is_new else self.heard_since, heard_at=now)

    def unheard(self) -> SharedWatch:
        """Return the same with the note that connections are not heard of."""
        return replace(self, heard_since=None, heard_at=None)

    def to_record(self) -> Dict[str, Any]:
        """Return the item, keys included."""
        heard = {"heardSince": self.heard_since, "heardAt": self.heard_at}
        told = {name: at.isoformat() for name, at in heard.items() if at is not None}
        return {**SHARED_KEY, "certificateIds": sorted(self.certificate_ids), **told, "version": self.version}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SharedWatch:
        """Read what ``to_record`` wrote, in this version or an earlier one."""
        since, at = (
            datetime.fromisoformat(record[name]) if name in record else None for name in ("heardSince", "heardAt")
        )
        return cls(frozenset(record["certificateIds"]), since, at, int(record["version"]))


def _thing_of(client_id: str) -> str:
    """Return the name of the client's thing: Greengrass appends ``#n`` to it for its further connections."""
    return client_id.split("#", 1)[0]
