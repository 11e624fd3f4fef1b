"""The result of one fleet's run, in numbers: the metrics, and the answer of the function."""

from __future__ import annotations

from controller.jobs import JobFate
from controller.reconcile.values import DesiredState, Outcome

from .reconcile import FleetRun


def values(run: FleetRun) -> dict[str, float]:
    """Return metric name → number. A run that stopped before it knew the fleet reports nothing of its devices."""
    found: dict[str, float] = {
        "Failed": 0,
        "StoppedEarly": int(run.stopped is not None),
        "InventoryDiscarded": int(not run.is_kept),
        "AwsCalls": run.calls,
    }
    report, result = run.report, run.result
    if report is not None:
        found |= {
            "Governed": report.governed,
            "InSync": report.in_sync,
            "OutOfSync": report.governed - report.in_sync,
            "ToRotate": report.outcomes.get(Outcome.ROTATE, 0),
            "Waiting": report.outcomes.get(Outcome.WAITING, 0),
            "Blocked": report.outcomes.get(Outcome.BLOCKED, 0),
            "Refused": len(report.plan.refusals) if report.plan else 0,
        }
    if result is not None:
        found |= {
            "JobsCreated": len(result.created),
            "JobsAdopted": sum(applied.fate is JobFate.ADOPTED for applied in result.jobs),
            "DevicesStarted": sum(applied.device_count for applied in result.created),
        }
    return found


def failed_values() -> dict[str, float]:
    """Return the metrics of a fleet that could not be reconciled."""
    return {"Failed": 1}


def properties(desired: DesiredState, run: FleetRun) -> dict[str, str | None]:
    """Return what the log line holds beside the numbers; None for what is not known."""
    digest = run.report.plan.digest if run.report and run.report.plan else None
    return {"commit": desired.commit, "planDigest": digest, "stopped": run.stopped}
