"""The chain of checks: every reason a device departs from its policy.

A check is a pure function of a Case that gives one Finding or None; each stands in one of
``check_structure``, ``check_demands`` and ``check_gates``. The lists here say which are asked, and in
which order: what is wrong with the device as it stands (STRUCTURE), what its policy demands of the
certificate (DEMANDS), and, only where something is demanded, what keeps the rotation from starting
(GATES).
"""

from __future__ import annotations

from collections.abc import Callable

from controller.reconcile.values import Finding

from .case import Case
from .demands import (
    age_exceeded,
    authority_mismatch,
    authority_tainted,
    expiring,
    issued_before_cutoff,
    key_type_mismatch,
)
from .gates import (
    backing_off,
    outside_window,
    repeatedly_failed,
    result_unknown,
    rotated_recently,
    rotation_ineffective,
    suspended,
    unsupported_by_backend,
    unsupported_by_component,
    waived,
)
from .structure import (
    certificate_inactive,
    due_from_birth,
    expired,
    extra_certificate,
    no_certificate,
    not_exclusive,
    shared_certificate,
    successor_tainted,
    unparseable,
)

Check = Callable[[Case], Finding | None]

STRUCTURE: tuple[Check, ...] = (
    no_certificate,  # nothing to rotate
    extra_certificate,  # which one is it?
    shared_certificate,  # deleting it would cut others off
    not_exclusive,  # the backend refuses
    certificate_inactive,  # cannot connect
    unparseable,  # cannot be judged
    expired,  # cannot connect
    successor_tainted,  # rotating would not help
    due_from_birth,  # rotating would never end
)

DEMANDS: tuple[Check, ...] = (
    authority_tainted,  # an incident
    issued_before_cutoff,  # an emergency
    expiring,  # before notAfter
    age_exceeded,  # from notBefore
    key_type_mismatch,  # the key
    authority_mismatch,  # the CA
)

GATES: tuple[Check, ...] = (
    unsupported_by_backend,  # nobody can say what it would become
    result_unknown,  # likewise
    unsupported_by_component,  # it does as it is set to
    rotation_ineffective,  # rotating has not helped
    repeatedly_failed,  # no accident any more
    waived,  # someone answers for it
    suspended,  # the policy rests
    rotated_recently,  # not long ago
    backing_off,  # a failure not long ago
    outside_window,  # not now
)
