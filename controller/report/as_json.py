"""JSON for machines: stable, versioned, described by docs/report.schema.json.

Fields are only ever added within one ``format_version``. The plan is the one document that ``apply``
takes, byte for byte, so this renderer does not touch it.
"""

from __future__ import annotations

from typing import Any

from controller.reconcile.values import Assessment, Finding, OfflineRisk, Outcome

from . import words
from .formats import FORMAT_VERSION, TextStyle, dump
from .hitches import hitches
from .model import FleetFailure, FleetReport, PolicyReport, Report


def render_report(report: Report, _look: TextStyle | None = None) -> str:
    """Return the whole report: every device that has a finding."""
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "DriftReport",
            "created_at": words.iso(report.created_at),
            "in_sync": not report.failures and all(fleet.is_in_sync for fleet in report.fleets),
            "fleets": [_fleet(fleet) for fleet in report.fleets],
            "failures": [failure_value(failure) for failure in report.failures],
        }
    )


def failure_value(failure: FleetFailure) -> dict[str, Any]:
    """Return a fleet that could not be looked at."""
    return {"fleet": failure.fleet, "message": failure.message, "remedy": failure.remedy}


def _fleet(report: FleetReport) -> dict[str, Any]:
    desired, state = report.desired, report.state
    return {
        "fleet": desired.fleet.name,
        "account": desired.fleet.account,
        "region": desired.fleet.region,
        "commit": desired.commit,
        "is_dirty": desired.is_dirty,
        "observed_at": words.iso(state.observed_at),
        "backend_is_stock": state.backend_is_stock,
        "governed": report.governed,
        "in_sync": report.in_sync,
        "left_out": report.left_out,
        "outcomes": {outcome.value: report.outcomes.get(outcome, 0) for outcome in Outcome},
        "reasons": {reason.value: number for reason, number in sorted(report.reasons.items())},
        "held_up": [{"what": h.what, "message": h.message, "remedy": h.remedy} for h in hitches(report)],
        "notices": list(report.notices),
        "offline_risks": [
            risk_value(risk, outlook.policy)
            for outlook in (report.next_plan.outlooks if report.next_plan else ())
            for risk in outlook.at_risk
        ],
        "policies": [_policy(entry) for entry in report.policies],
        "devices": [_assessment(report, assessment) for assessment in report.assessments],
        "unmanaged": {"count": state.unmanaged_count, "things": list(state.unmanaged)},
        "inventory": {
            "key_types": dict(sorted(report.inventory.key_types.items())),
            "authorities": dict(sorted(report.inventory.authorities.items())),
        },
    }


def _policy(entry: PolicyReport) -> dict[str, Any]:
    return {
        "policy": entry.policy.name,
        "thing_group": entry.policy.thing_group,
        "source": entry.policy.source.at(""),
        "mode": entry.policy.mode.value,
        "governed": entry.governed,
        "in_sync": entry.in_sync,
        "rotate": entry.rotate,
        "waiting": entry.waiting,
        "blocked": entry.blocked,
        "left_out": entry.left_out,
        "sync": entry.sync.value,
        "health": entry.health.value,
    }


def _assessment(report: FleetReport, assessment: Assessment) -> dict[str, Any]:
    timing = assessment.timing
    return {
        "device": assessment.device,
        "site": report.sites.get(assessment.device),
        "policy": assessment.policy,
        "certificate_id": assessment.certificate_id,
        "sync": assessment.sync.value,
        "health": assessment.health.value,
        "outcome": assessment.outcome.value if assessment.outcome else None,
        "source": report.where(assessment),
        "last_seen": words.iso(assessment.last_seen) if assessment.last_seen else None,
        "findings": [finding_value(finding) for finding in assessment.findings],
        "timing": None
        if timing is None
        else {
            "due": words.iso(timing.due),
            "target": words.iso(timing.target),
            "start": words.iso(timing.start),
            "is_urgent": timing.is_urgent,
            "misses_max_age": timing.misses_max_age,
        },
    }


def risk_value(risk: OfflineRisk, policy: str | None) -> dict[str, Any]:
    """Return what is known of a device, of this policy, that connects rarely."""
    return {
        "device": risk.device,
        "policy": policy,
        "expires": words.iso(risk.expires),
        "seen_at": words.iso(risk.seen_at),
        "is_away": risk.is_away,
        "absences": risk.gaps,
        "usual_absence_seconds": None if risk.absence is None else int(risk.absence.total_seconds()),
        "seen_again": words.iso(risk.seen_again) if risk.seen_again else None,
        "is_at_risk": risk.is_at_risk,
    }


def finding_value(finding: Finding) -> dict[str, Any]:
    """Return one finding."""
    return {
        "reason": finding.reason.value,
        "outcome": finding.outcome.value,
        "message": finding.message,
        "policy_field": finding.policy_field,
        "remedy": finding.remedy,
        "values": dict(finding.values),
    }
