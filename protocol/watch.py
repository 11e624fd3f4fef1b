"""A certificate under watch: the backend notes the connections made with it, so that healing learns what is in use.

One item of the backend's table for each. ``certfleet heal`` makes it and notes what it did to the certificate; the
backend adds when it was seen. A sighting is evidence in whatever order, and however often, its event comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Dict, Mapping, Optional

KEY_PREFIX = "heal#"
"""How the partition keys of these items begin. No thing's name has a ``#`` in it, so they stand in no thing's way."""

RECORD = "watch"
_INSTANTS = {"since": "since", "first_own": "firstOwn", "last_seen": "lastSeen", "deactivated": "deactivated"}


def key_of(certificate_id: str) -> Dict[str, str]:
    """Partition and sort key of a certificate's item."""
    return {"thingName": KEY_PREFIX + certificate_id, "record": RECORD}


@dataclass(frozen=True)
class Watch:
    """What is known of one certificate since it is watched; instants are aware.

    ``thing`` is the one that held it then, empty for none. ``first_own`` is the first connection since then under that
    thing's own name, which takes the place of any other client of that name. ``last_seen`` is the last connection that
    was ever heard of, by whatever client. ``deactivated`` is when healing did that. ``version`` is of the stored item.
    """

    certificate_id: str
    thing: str
    since: datetime
    first_own: Optional[datetime] = None
    last_seen: Optional[datetime] = None
    deactivated: Optional[datetime] = None
    version: int = 0

    def seen(self, client_id: str, at: datetime) -> Watch:
        """With one connection more."""
        is_own = bool(self.thing) and client_id == self.thing and at >= self.since
        return replace(
            self,
            first_own=min(self.first_own or at, at) if is_own else self.first_own,
            last_seen=max(self.last_seen or at, at),
        )

    def to_record(self) -> Dict[str, Any]:
        """The item, keys included."""
        instants = {name: getattr(self, field) for field, name in _INSTANTS.items()}
        told = {name: at.isoformat() for name, at in instants.items() if at is not None}
        return {**key_of(self.certificate_id), **told, "thing": self.thing, "version": self.version}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Watch:
        """Read what ``to_record`` wrote."""
        instants = {
            field: datetime.fromisoformat(record[name]) for field, name in _INSTANTS.items() if record.get(name)
        }
        certificate_id = record["thingName"][len(KEY_PREFIX) :]
        return cls(certificate_id, record["thing"], version=int(record["version"]), **instants)
