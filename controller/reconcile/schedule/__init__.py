"""When: due dates and jitter, maintenance windows, the pause after a failure."""

from .backoff import MAX_FAILURES, counted_failures, next_attempt_at
from .dates import URGENT_SHARE, Dates, dates_of, dates_of_validity, life_under, share_of, timing_of
from .windows import Interval, OpenTime, never_met, open_time_of

__all__ = [
    "MAX_FAILURES",
    "URGENT_SHARE",
    "Dates",
    "Interval",
    "OpenTime",
    "counted_failures",
    "dates_of",
    "dates_of_validity",
    "life_under",
    "never_met",
    "next_attempt_at",
    "open_time_of",
    "share_of",
    "timing_of",
]
