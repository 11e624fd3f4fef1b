"""Evidence: which credential each device held when, who asked for it, and what the policy allowed.

``tracing`` joins what the backend's table, the registry and git show; ``seal`` makes a document of it in which a change
shows. What is not known is a gap with a name, never left out.
"""

from .seal import EvidenceError, check, seal
from .tracing import trace, whole
from .values import (
    Approval,
    Change,
    Evidence,
    Excess,
    Exemption,
    Fate,
    Gap,
    InUse,
    PolicyAges,
    PolicyHistory,
    Row,
    Rule,
)

__all__ = [
    "Approval",
    "Change",
    "Evidence",
    "EvidenceError",
    "Excess",
    "Exemption",
    "Fate",
    "Gap",
    "InUse",
    "PolicyAges",
    "PolicyHistory",
    "Row",
    "Rule",
    "check",
    "seal",
    "trace",
    "whole",
]
