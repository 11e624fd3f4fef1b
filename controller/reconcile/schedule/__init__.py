"""When: due dates and jitter, maintenance windows, the pause after a failure, the return of who is away."""

from .absence import LEAST_GAPS, in_order, risk_of, seen_again, usual_absence
from .backoff import MAX_FAILURES, counted_failures, next_attempt_at
from .dates import URGENT_SHARE, Dates, dates_of, dates_of_validity, life_under, share_of, timing_of
from .windows import Interval, OpenTime, never_met, open_time_of
