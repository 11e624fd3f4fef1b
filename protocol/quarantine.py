"""A thing in quarantine, as the backend's table keeps it: one item for each thing, or for a certificate of no thing.

``certfleet heal`` alone writes it, before it cuts a thing off, and removes it when all is as before. As long as it is
there the backend makes no certificate for the thing, takes no commit of it, and removes none of its certificates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Dict, Mapping

PARTITION = "quarantine#"
"""The partition key of all these items: one query finds them. No thing's name has a ``#`` in it."""


def key_of(thing: str, certificate_id: str = "") -> Dict[str, str]:
    """Return partition and sort key of the item of a ``thing``, or of a certificate (by its id) that no thing holds."""
    return {"thingName": PARTITION, "record": f"thing/{thing}" if thing else f"cert/{certificate_id}"}


@dataclass(frozen=True)
class Quarantined:
    """One thing, or one certificate of no thing, in quarantine.

    ``deactivated`` maps the id of each certificate that quarantine made INACTIVE to the instant at which it did.
    ``version`` is of the stored item.
    """

    thing: str
    since: datetime
    certificate_id: str = ""  # where no thing holds it
    deactivated: Mapping[str, datetime] = field(default_factory=dict)
    version: int = 0

    def to_record(self) -> Dict[str, Any]:
        """Return the item, keys included."""
        return {
            **key_of(self.thing, self.certificate_id),
            "thing": self.thing,
            "certificateId": self.certificate_id,
            "since": self.since.isoformat(),
            "deactivated": {name: at.isoformat() for name, at in self.deactivated.items()},
            "version": self.version,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Quarantined:
        """Read what ``to_record`` wrote."""
        return cls(
            record["thing"],
            datetime.fromisoformat(record["since"]),
            record["certificateId"],
            {name: datetime.fromisoformat(at) for name, at in record["deactivated"].items()},
            int(record["version"]),
        )
