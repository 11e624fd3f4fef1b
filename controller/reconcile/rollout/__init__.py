"""Where a policy's rollout stands: the history of its jobs, its waves, its standing jobs, and how long it takes."""

from .ahead import Ahead, rate_per_minute
from .evidence import progress
from .history import (
    RolloutHistory,
    asked_by,
    asked_by_others,
    broken_off_of,
    is_open,
    is_other_than,
    open_executions,
    read_rollout,
    successes_of,
)
from .standing import Standing, arrange, closings
from .waves import Opening, next_opening
