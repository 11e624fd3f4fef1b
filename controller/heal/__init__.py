"""Healing: a registry that has grown wild is put in order by a reviewed plan.

The rules are pure (``rules`` over ``facts``); ``registry`` and ``survey`` ask AWS, ``carry_out`` changes it.
"""

from .carry_out import Done, Healer
from .facts import CertificateHolders, HealingWaits, ThingFacts
from .plan_file import FORMAT_VERSION, VALID_FOR, HealPlan, check, read, require_few, require_permitted, to_value
from .quarantine import GUARDRAIL, Suspect, of_suspect
from .registry import HealingRegistry, table_of
from .rules import OF_QUARANTINE, HealingAction, Kind, Untidy, of_loose, of_thing
from .survey import is_rotating, of_quarantines, survey

__all__ = [
    "FORMAT_VERSION",
    "GUARDRAIL",
    "OF_QUARANTINE",
    "VALID_FOR",
    "CertificateHolders",
    "Done",
    "HealPlan",
    "Healer",
    "HealingAction",
    "HealingRegistry",
    "HealingWaits",
    "Kind",
    "Suspect",
    "ThingFacts",
    "Untidy",
    "check",
    "is_rotating",
    "of_loose",
    "of_quarantines",
    "of_suspect",
    "of_thing",
    "read",
    "require_few",
    "require_permitted",
    "survey",
    "table_of",
    "to_value",
]
