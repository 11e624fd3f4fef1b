"""Numbers, instants and durations as people read them; in every format as in the sentences of the core."""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.reconcile.values import count_text as count
from controller.reconcile.values import instant_text as iso
from controller.reconcile.values import names_text as listed

__all__ = ["commit", "count", "duration", "instant", "iso", "listed", "percent"]

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def instant(when: datetime) -> str:
    """Return the instant in UTC, to the minute: ``2026-11-23 14:05Z``."""
    return f"{when:%Y-%m-%d %H:%M}Z"


def duration(span: timedelta) -> str:
    """Return the two largest units: ``180d``, ``1d 6h``, ``45s``; negative spans keep their sign."""
    seconds = round(span.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    parts = []
    for unit, length in _UNITS:
        number, seconds = divmod(seconds, length)
        if number:
            parts.append(f"{number}{unit}")
        if len(parts) == 2 or (parts and not number):  # noqa: PLR2004 (two units are enough for people)
            break
    return sign + (" ".join(parts) or "0s")


def percent(part: int, whole: int) -> str:
    """Return a part of the whole: ``93.8 %``; 100 % only if nothing is missing, 0 % only if nothing is there."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if part in (0, whole):
        return f"{share:.0f} %"
    return f"{min(max(share, 0.1), 99.9):.1f} %"


def commit(full: str | None, *, is_dirty: bool = False) -> str:
    """Return a ``full`` commit as people write it; ``is_dirty`` adds that the documents differ from it."""
    if full is None:
        return "no commit"
    return f"{full[:12]} (with uncommitted changes)" if is_dirty else full[:12]
