"""The plan: who starts in which job, what a guardrail refuses, the plan as a file."""

from .admission import HeldCertificate, Present, why_left_out
from .deployed import departures
from .fleet_plan import make_plan, part_of, settle
from .given import check_plan, compared
from .guardrails import MAX_CHANGE, ChangeCount, changed_groups, too_much_at_once
from .plan_file import MAX_PLAN_BYTES, plan_from_json, plan_to_json
from .policy_plan import PolicyPlan, plan_policy
from .preflights import PlannedCheck, is_to_ask, plan_checks
from .tally import PolicyTally, order_of
