"""A certificate under watch: the backend notes the connections made with it, so that it is known who uses it.

One item of the backend's table for each. ``certfleet heal`` makes it for certificates that may be in use, the backend
for those that several things hold; who deactivates one notes it there. The backend adds when it was seen. A sighting is
evidence in whatever order, and however often, its event comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

KEY_PREFIX = "heal#"
"""How the partition keys of these items begin. No thing's name has a ``#`` in it, so they stand in no thing's way."""

RECORD = "watch"
SHARED_KEY = {"thingName": "shared#", "record": "certificates"}
"""Of the one item that lists, as ``certificateIds``, the certificates that several things hold or have held.

The last thing to hold one must let go of it like the others, when the registry shows no others any more.
"""
_INSTANTS = {"since": "since", "first_own": "firstOwn", "last_seen": "lastSeen", "deactivated": "deactivated"}


def key_of(certificate_id: str) -> Dict[str, str]:
    """Partition and sort key of a certificate's item."""
    return {"thingName": KEY_PREFIX + certificate_id, "record": RECORD}


@dataclass(frozen=True)
class Watch:
    """What is known of one certificate since it is watched; instants are aware.

    ``thing`` is the one that held it then, empty for none. ``first_own`` is the first connection since then under that
    thing's own name, which takes the place of any other client of that name. ``last_seen`` is the last connection that
    was ever heard of, by whatever client. ``deactivated`` is when healing, or the backend, did that. ``things`` are, of
    a shared one, all that were ever found to hold it; ``stranger`` is the last client that connected with it for none
    of these. ``version`` is of the stored item.
    """

    certificate_id: str
    thing: str
    since: datetime
    first_own: Optional[datetime] = None
    last_seen: Optional[datetime] = None
    deactivated: Optional[datetime] = None
    version: int = 0
    things: Tuple[str, ...] = ()
    stranger: Optional[str] = None

    def shared_by(self, things: Iterable[str]) -> Watch:
        """With what the registry shows to hold it now; a client of one of these is no stranger."""
        known = tuple(sorted({*self.things, *things}))
        return replace(self, things=known, stranger=None if _thing_of(self.stranger) in known else self.stranger)

    def seen(self, client_id: str, at: datetime) -> Watch:
        """With one connection more."""
        is_own = bool(self.thing) and client_id == self.thing and at >= self.since
        return replace(
            self,
            first_own=min(self.first_own or at, at) if is_own else self.first_own,
            last_seen=max(self.last_seen or at, at),
            stranger=client_id if self.things and _thing_of(client_id) not in self.things else self.stranger,
        )

    def to_record(self) -> Dict[str, Any]:
        """The item, keys included."""
        instants = {name: getattr(self, field) for field, name in _INSTANTS.items()}
        told: Dict[str, Any] = {name: at.isoformat() for name, at in instants.items() if at is not None}
        if self.things:
            told["things"] = list(self.things)
        if self.stranger is not None:
            told["stranger"] = self.stranger
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
            stranger=record.get("stranger"),
            **instants,
        )


def _thing_of(client_id: Optional[str]) -> Optional[str]:
    """Whose client it is: Greengrass appends ``#n`` to the thing name for its further connections."""
    return None if client_id is None else client_id.split("#", 1)[0]
