"""Plan → AWS IoT Jobs, idempotently; following them to their end.

``apply`` makes the jobs of a plan, ``ask`` those of a pre-flight, ``follow`` waits for them, ``sweep_cohorts``
removes the thing groups that ended waves leave behind. All talk to AWS through ``IotJobs`` and keep nothing
between runs.
"""

from .apply import AppliedJob, ApplyResult, JobFate, apply
from .cohorts import sweep_cohorts
from .follow import DeviceOutcome, FollowResult, Pace, follow
from .iot_jobs import IotJobs
from .ledger import Ledger
from .preflight import ask

__all__ = [
    "AppliedJob",
    "ApplyResult",
    "DeviceOutcome",
    "FollowResult",
    "IotJobs",
    "JobFate",
    "Ledger",
    "Pace",
    "apply",
    "ask",
    "follow",
    "sweep_cohorts",
]
