"""Evidence: which credential each device held when, who asked for it, and what the policy allowed.

``tracing`` joins what the backend's table, the registry and git show; ``seal`` makes a document of it in which a change
shows. Every unknown is a gap with a name, never left out.
"""

from .seal import EvidenceError, check, seal
from .tracing import practised, trace, whole
from .values import (
    AgeRule,
    Approval,
    CertificateSpan,
    DocumentCommit,
    Excess,
    Exemption,
    Fate,
    FleetEvidence,
    Gap,
    InUse,
    PolicyAges,
    PolicyHistory,
    Practice,
)

__all__ = [
    "AgeRule",
    "Approval",
    "CertificateSpan",
    "DocumentCommit",
    "EvidenceError",
    "Excess",
    "Exemption",
    "Fate",
    "FleetEvidence",
    "Gap",
    "InUse",
    "PolicyAges",
    "PolicyHistory",
    "Practice",
    "check",
    "practised",
    "seal",
    "trace",
    "whole",
]
