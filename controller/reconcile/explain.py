"""Why a device is, or is not, to be rotated: the arithmetic with its numbers, the findings, and where git says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .assess import assess
from .case import Case
from .governance import Governance, Governed
from .places import place_of
from .schedule import URGENT_SHARE, share_of, timing_of
from .wording import instant_text, span_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .device import Certificate, Device, FleetState
    from .finding import Assessment, Timing
    from .policy import DesiredState, Policy
    from .schedule import Dates


@dataclass(frozen=True, slots=True)
class Line:
    """One line of arithmetic: ``due = min(notAfter - renewBefore, notBefore + maxAge) = 2027-01-02T…``."""

    name: str
    formula: str
    value: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that was weighed. ``places`` are ``path:line`` of each finding's policy field, in their order."""

    device: str
    policy: str | None
    commit: str | None
    assessment: Assessment
    arithmetic: tuple[Line, ...]
    places: tuple[str, ...]
    timing: Timing | None  # also where the date is too far ahead to be a finding


def explain(device: Device, desired: DesiredState, state: FleetState, now: datetime) -> Explanation | None:
    """Explain one device; None where no policy governs it."""
    governance = Governance(desired, state, now)
    assessment = assess(device, governance)
    if assessment is None:
        return None
    governed = governance.policy_of(device)
    if not isinstance(governed, Governed):
        sources = {policy.name: policy.source for policy in desired.policies}
        tied = governed.policies if governed else ()
        places = tuple(sources[name].at("spec.priority") for name in tied)
        return Explanation(device.name, None, desired.commit, assessment, (), places, None)
    case = Case(device, governed, governance)
    timing = assessment.timing
    if timing is None and case.certificate is not None and case.dates is not None:
        timing = timing_of(case.policy, case.certificate, case.dates, governed.open_time, is_urgent=case.is_urgent)
    return Explanation(
        device=device.name,
        policy=case.policy.name,
        commit=desired.commit,
        assessment=assessment,
        arithmetic=tuple(_arithmetic(case, timing)),
        places=tuple(place_of(desired, case.policy.name, finding) or "" for finding in assessment.findings),
        timing=timing,
    )


def _arithmetic(case: Case, timing: Timing | None) -> Iterator[Line]:
    certificate, dates = case.certificate, case.dates
    if certificate is None or certificate.not_before is None or certificate.not_after is None or dates is None:
        return
    yield Line("nb", "the certificate's notBefore", instant_text(certificate.not_before))
    yield Line("na", "the certificate's notAfter", instant_text(certificate.not_after))
    yield Line("age", "now - nb", span_text(case.now - certificate.not_before))
    yield Line("L", _life_formula(case.policy), span_text(dates.life))
    if dates.due is not None:
        yield Line("due", _due_formula(case.policy), instant_text(dates.due))
        yield from _target(case, certificate, dates, dates.due)
    if timing is not None:
        yield Line("start", _start_formula(case, timing), instant_text(timing.start))
    urgent = span_text(dates.life / URGENT_SHARE)
    left = span_text(certificate.not_after - case.now)
    yield Line("urgent", f"na - now = {left} ≤ L/{URGENT_SHARE} = {urgent}", "yes" if case.is_urgent else "no")


def _target(case: Case, certificate: Certificate, dates: Dates, due: datetime) -> Iterator[Line]:
    share = share_of(case.policy.name, certificate.certificate_id)
    yield Line("u", f"SHA-256({case.policy.name} ‖ {certificate.certificate_id[:12]}…) / 2^64", f"{share:.4f}")
    formula = f"min({case.policy.schedule.jitter_percent} % of L, (due - nb) / 2)"
    yield Line("J", formula, span_text(dates.jitter))
    yield Line("target", "due - u · J", instant_text(due - dates.jitter * share))


def _life_formula(policy: Policy) -> str:
    age = policy.certificate.max_age
    return "na - nb" if age is None else f"min(na - nb, maxAge {span_text(age)})"


def _due_formula(policy: Policy) -> str:
    rule = policy.certificate
    age = f"nb + maxAge {span_text(rule.max_age)}" if rule.max_age is not None else None
    renew = f"na - renewBefore {span_text(rule.renew_before)}" if rule.renew_before is not None else None
    return f"min({renew}, {age})" if age and renew else age or renew or ""


def _start_formula(case: Case, timing: Timing) -> str:
    if timing.start == case.now:
        return "now: it is overdue" if timing.due < case.now else "now: nothing holds it back"
    if timing.is_urgent:
        return "target: urgent, windows are ignored"
    if timing.start == timing.target:
        return "target: it falls in open time"
    if case.is_triggered and timing.start > case.now:
        return "the next open time"
    if timing.misses_max_age:
        return "at share u of the first window after due: none opens in [due - J, due], maxAge is missed"
    return "at share u of the open time in [due - J, due]"
