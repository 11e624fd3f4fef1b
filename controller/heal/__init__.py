"""Healing: a registry that has grown wild is put in order by a reviewed plan.

The rules are pure (``rules`` over ``facts``); ``registry`` and ``survey`` ask AWS, ``carry_out`` changes it.
"""

from .carry_out import Done, Healer
from .facts import Held, Thing, Waits
from .plan_file import FORMAT_VERSION, VALID_FOR, HealPlan, check, read, to_value
from .registry import Registry, table_of
from .rules import Action, Kind, Untidy, of_loose, of_thing
from .survey import survey

__all__ = [
    "FORMAT_VERSION",
    "VALID_FOR",
    "Action",
    "Done",
    "HealPlan",
    "Healer",
    "Held",
    "Kind",
    "Registry",
    "Thing",
    "Untidy",
    "Waits",
    "check",
    "of_loose",
    "of_thing",
    "read",
    "survey",
    "table_of",
    "to_value",
]
