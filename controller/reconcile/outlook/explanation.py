"""Why a device is, or is not, to be rotated: the arithmetic with its numbers, the findings, and their places in git."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.checks import Case, Governance, Governed, assess
from controller.reconcile.planning import settle
from controller.reconcile.schedule import LEAST_GAPS, URGENT_SHARE, share_of, timing_of
from controller.reconcile.values import (
    DECIDED,
    Mode,
    Outcome,
    RotationResult,
    Sync,
    count_text,
    held_by,
    instant_text,
    local_text,
    place_of,
    span_text,
    whole_days,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from controller.reconcile.schedule import Dates
    from controller.reconcile.values import (
        Assessment,
        Certificate,
        DesiredState,
        Device,
        FleetState,
        OfflineRisk,
        Plan,
        Policy,
        Timing,
    )


@dataclass(frozen=True, slots=True)
class ArithmeticLine:
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
    arithmetic: tuple[ArithmeticLine, ...]
    places: tuple[str, ...]
    verdict: str  # what becomes of the device
    timing: Timing | None  # also where the date is too far ahead to be a finding
    seen_at: datetime  # when the fleet was looked at
    words: tuple[str, ...] = ()  # the arithmetic as sentences


def explain(
    device: Device, desired: DesiredState, state: FleetState, now: datetime, plan: Plan | None = None
) -> Explanation | None:
    """Explain one device; None if no policy governs it. The ``plan`` of its fleet shows what its wave waits for."""
    governance = Governance(desired, state, now)
    assessment = assess(device, governance)
    if assessment is None:
        return None
    governed = governance.policy_of(device)
    if not isinstance(governed, Governed):
        sources = {policy.name: policy.source for policy in desired.policies}
        tied = governed.policies if governed else ()
        places = tuple(sources[name].at("spec.priority") for name in tied)
        return Explanation(
            device.name, None, desired.commit, assessment, (), places, "needs a person", None, state.observed_at
        )
    if plan is not None:
        [assessment] = settle([assessment], plan)
    case = Case(device, governed, governance)
    timing = assessment.timing
    if timing is None and case.certificate is not None and case.dates is not None:
        timing = timing_of(case.policy, case.certificate, case.dates, governed.open_time, is_urgent=case.is_urgent)
    return Explanation(
        device=device.name,
        policy=case.policy.name,
        commit=desired.commit,
        assessment=assessment,
        arithmetic=(
            *_arithmetic(case, timing, is_held=_is_held(assessment, case.policy)),
            *_transition(case),
            *_absence(assessment.risk),
        ),
        places=tuple(place_of(desired, case.policy.name, finding) or "" for finding in assessment.findings),
        timing=timing,
        verdict=_verdict(assessment, case.policy),
        seen_at=state.observed_at,
        words=(
            *_words(case, timing, is_held=_is_held(assessment, case.policy)),
            *(_of_absences(assessment.risk, case.policy) if assessment.risk else ()),
        ),
    )


def _words(case: Case, timing: Timing | None, *, is_held: bool) -> Iterator[str]:
    """Yield in sentences what the dates come to; the formulas behind them are in ``ArithmeticLine``."""
    certificate, dates = case.certificate, case.dates
    if certificate is None or certificate.not_before is None or certificate.not_after is None or dates is None:
        return
    age = case.now - certificate.not_before
    yield (
        f"The certificate is valid from {instant_text(certificate.not_before)}, so that it is {span_text(age)} old, "
        f"until {instant_text(certificate.not_after)}."
    )
    if dates.due is None:
        yield "The policy sets no maximum age and no time before the end: by its dates it is never due."
    else:
        yield f"It is due on {instant_text(dates.due)}: {_why_due(case, certificate, dates.due)}."
        earlier = dates.jitter * share_of(case.policy.name, certificate.certificate_id)
        if earlier and timing is not None:
            yield (
                f"Devices do not all come on one day: of the {span_text(dates.jitter)} before that, its share is "
                f"{span_text(earlier)}, so that it aims at {instant_text(dates.due - earlier)}."
            )
    if timing is not None:
        local = local_text(timing.start, case.policy.schedule.zones)
        yield f"It starts from {instant_text(timing.start)}{local} on: {_why_start(case, timing, is_held=is_held)}."
    if case.is_urgent:
        yield "It is urgent, so that windows are ignored."
    if isinstance(case.result, RotationResult):
        yield f"A rotation makes {case.result.holding} of {held_by(certificate)}."


def _why_due(case: Case, certificate: Certificate, due: datetime) -> str:
    rule = case.policy.certificate
    if rule.max_age is not None and certificate.not_before is not None and due == certificate.not_before + rule.max_age:
        return f"then it is {span_text(rule.max_age)} old, which is the policy's maxAge"
    return f"{span_text(rule.renew_before or timedelta(0))} before its end, which is the policy's renewBefore"


def _why_start(case: Case, timing: Timing, *, is_held: bool) -> str:
    if timing.start == case.now:
        return "as soon as nothing holds it back any more" if is_held else "nothing holds it back"
    if timing.is_urgent or timing.start == timing.target:
        return "that is the moment it aims at"
    if timing.misses_max_age:
        return "no maintenance window opens before it is due, so that it comes late"
    return "the maintenance window is open then"


def _of_absences(risk: OfflineRisk, policy: Policy) -> Iterator[str]:
    """Yield when a device that connects rarely is expected again, and what that means for its certificate."""
    seen = instant_text(risk.seen_at)
    here = f"It has been away since {seen}" if risk.is_away else f"It connects rarely, and was connected at {seen}"
    if risk.absence is None or risk.seen_again is None:
        known = count_text(risk.gaps, "absence")
        yield f"{here}; nobody knows when it comes back: {known} of it known, {LEAST_GAPS} are needed."
        return
    yield (
        f"{here}; nine in ten of its {risk.gaps} known absences were no longer than {span_text(risk.absence)}, so that "
        f"it is expected by {instant_text(risk.seen_again)}."
    )
    if risk.is_at_risk:
        ask = "" if policy.rollout.offline_first else ", or set rollout.offlineFirst: true in its policy"
        yield (
            f"Its certificate ends before that, at {instant_text(risk.expires)}: bring it online until then{ask}; "
            f"with a renewBefore above {whole_days(risk.absence) + 1}d it is asked in time."
        )


def _absence(risk: OfflineRisk | None) -> Iterator[ArithmeticLine]:
    if risk is None or risk.absence is None or risk.seen_again is None:
        return
    yield ArithmeticLine("p90", f"nearest rank of {risk.gaps} absences", span_text(risk.absence))
    yield ArithmeticLine(
        "seen again", "last seen + p90, or now + p90 if that has passed", instant_text(risk.seen_again)
    )
    formula = f"na {instant_text(risk.expires)} {'≤' if risk.is_at_risk else '>'} seen again"
    yield ArithmeticLine("at risk", formula, "yes" if risk.is_at_risk else "no")


def _verdict(assessment: Assessment, policy: Policy) -> str:
    """Return in one sentence what becomes of the device."""
    reasons = {finding.reason for finding in assessment.findings}
    if assessment.sync is Sync.IN_SYNC:
        return "is in sync"
    if reasons & DECIDED:
        return "is left out, as somebody has decided"
    if assessment.outcome is Outcome.BLOCKED:
        return "needs a person"
    if policy.mode is Mode.REPORT:
        return "is only reported: its policy rotates nothing"
    return "waits" if assessment.outcome is Outcome.WAITING else "is to be rotated"


def _is_held(assessment: Assessment, policy: Policy) -> bool:
    return policy.mode is Mode.REPORT or any(finding.outcome is not Outcome.ROTATE for finding in assessment.findings)


def _transition(case: Case) -> Iterator[ArithmeticLine]:
    """Yield what the device holds, and what a rotation would make of it."""
    if case.certificate is None or case.certificate.key_type is None:
        return
    result = case.result
    after = str(result.holding) if isinstance(result, RotationResult) else "not known: see the findings"
    yield ArithmeticLine("result", f"of a rotation, from {held_by(case.certificate)}", after)


def _arithmetic(case: Case, timing: Timing | None, *, is_held: bool) -> Iterator[ArithmeticLine]:
    certificate, dates = case.certificate, case.dates
    if certificate is None or certificate.not_before is None or certificate.not_after is None or dates is None:
        return
    yield ArithmeticLine("nb", "the certificate's notBefore", instant_text(certificate.not_before))
    yield ArithmeticLine("na", "the certificate's notAfter", instant_text(certificate.not_after))
    yield ArithmeticLine("age", "now - nb", span_text(case.now - certificate.not_before))
    yield ArithmeticLine("L", _life_formula(case.policy), span_text(dates.life))
    if dates.due is not None:
        yield ArithmeticLine("due", _due_formula(case.policy), instant_text(dates.due))
        yield from _target(case, certificate, dates, dates.due)
    if timing is not None:
        yield ArithmeticLine("start", _start_formula(case, timing, is_held=is_held), instant_text(timing.start))
    yield _urgent(case, certificate.not_after - case.now, dates.life / URGENT_SHARE)


def _urgent(case: Case, left: timedelta, share: timedelta) -> ArithmeticLine:
    sign = "≤" if left <= share else ">"
    formula = f"na - now = {span_text(left)} {sign} L/{URGENT_SHARE} = {span_text(share)}"
    if case.is_urgent and left > share:
        formula += "; an incident, or the policy's cutoff, does not wait for windows"
    return ArithmeticLine("urgent", formula, "yes" if case.is_urgent else "no")


def _target(case: Case, certificate: Certificate, dates: Dates, due: datetime) -> Iterator[ArithmeticLine]:
    share = share_of(case.policy.name, certificate.certificate_id)
    yield ArithmeticLine(
        "u", f"SHA-256({case.policy.name} ‖ {certificate.certificate_id[:12]}…) / 2^64", f"{share:.4f}"
    )
    formula = f"min({case.policy.schedule.jitter_percent} % of L, (due - nb) / 2)"
    yield ArithmeticLine("J", formula, span_text(dates.jitter))
    yield ArithmeticLine("target", "due - u · J", instant_text(due - dates.jitter * share))


def _life_formula(policy: Policy) -> str:
    age = policy.certificate.max_age
    return "na - nb" if age is None else f"min(na - nb, maxAge {span_text(age)})"


def _due_formula(policy: Policy) -> str:
    rule = policy.certificate
    age = f"nb + maxAge {span_text(rule.max_age)}" if rule.max_age is not None else None
    renew = f"na - renewBefore {span_text(rule.renew_before)}" if rule.renew_before is not None else None
    return f"min({renew}, {age})" if age and renew else age or renew or ""


def _start_formula(case: Case, timing: Timing, *, is_held: bool) -> str:
    if timing.start == case.now:
        held = "as soon as nothing holds it back any more: see the findings"
        free = "now: it is overdue" if timing.due < case.now else "now: nothing holds it back"
        return held if is_held else free
    if timing.is_urgent:
        return "target: urgent, windows are ignored"
    if timing.start == timing.target:
        return "target: it falls in open time"
    if case.is_triggered and timing.start > case.now:
        return "the next open time"
    if timing.misses_max_age:
        return "at share u of the first window after due: none opens in [due - J, due], maxAge is missed"
    return "at share u of the open time in [due - J, due]"
