"""How a device comes and goes, as far as that is known, and what follows for its certificate. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Absences:
    """The known absences of a device: most devices are never away, and have none."""

    seen_at: datetime  # when it was last known to be connected
    is_away: bool = False  # since then
    gaps: tuple[timedelta, ...] = ()  # how long it was away before, each from its leave to its return, oldest first


@dataclass(frozen=True, slots=True)
class OfflineRisk:
    """A device that connects rarely: when it is expected again, beside the end of its certificate."""

    device: str
    expires: datetime  # notAfter
    seen_at: datetime
    is_away: bool
    gaps: int  # absences that are known
    absence: timedelta | None = None  # nine in ten were no longer; None: not known, from too few
    seen_again: datetime | None = None  # by then, as far as that can be told

    @property
    def margin(self) -> timedelta | None:
        """Remaining life less expected absence; None if that is not known."""
        return None if self.seen_again is None else self.expires - self.seen_again

    @property
    def is_at_risk(self) -> bool:
        """Whether the certificate ends before the device is likely to be seen again."""
        return self.seen_again is not None and self.expires <= self.seen_again
