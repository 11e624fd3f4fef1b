"""The reconcile loop as a Lambda: ``controller.aws_lambda.handler``, invoked by a schedule.

Each run takes the bundle that CI published, brings the inventory up to date, plans, makes the jobs that
are missing, and ends. It waits for nothing and remembers nothing that the next run could not do without;
a run that is cut off at any point is carried on by the next. ``docs/lambda-reconcile.md`` describes it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # Lambda has no git, and a bundle needs none

import botocore.session
from botocore.config import Config

from controller.desired import BundleSource, load
from controller.errors import CertfleetError, as_error
from controller.fleet.aws_answers import hold_to_shape
from controller.fleet.kms_signature import KmsKey
from controller.lambda_reconcile.bucket import Bucket
from controller.lambda_reconcile.budget import Budget
from controller.lambda_reconcile.bundles import take_bundle
from controller.lambda_reconcile.metrics import embedded_metrics
from controller.lambda_reconcile.notices import Notices
from controller.lambda_reconcile.outcome import failed_values, properties, values
from controller.lambda_reconcile.reconcile import FleetRun, Reconciler
from controller.lambda_reconcile.settings import Settings, read_settings
from controller.reconcile.values import DesiredState
from controller.report.attention import Attention, attention_of, failure_attention

BUNDLE = "bundle"  # stands in a fleet's place where no fleet was reached


class LambdaContext(Protocol):
    """What of Lambda's context object is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the run."""
        ...


class ReconcileFailedError(CertfleetError):
    """Something failed; raised at the end, so that Lambda counts an error and the alarm hears of it."""


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 (Lambda passes it)
    """Reconcile every fleet of the bundle once; raises ReconcileFailedError where any of them failed."""
    run = _Run(read_settings(os.environ), lambda: context.get_remaining_time_in_millis() / 1000)
    return run.reconcile()


class _Run:
    """One invocation."""

    def __init__(self, settings: Settings, seconds_left: Callable[[], float]) -> None:
        self._settings = settings
        self._now = datetime.now(UTC).replace(microsecond=0)
        self._client = own_clients()
        self._budget = Budget(seconds_left, settings.reserve_seconds)
        self._bucket = Bucket(self._client("s3"), settings.bucket)
        topic_client = self._client("sns") if settings.topic_arn else None
        self._notices = Notices(self._bucket, settings.state_prefix, topic_client, settings.topic_arn, _say)
        self._failures: list[str] = []

    def reconcile(self) -> dict[str, Any]:
        """Every fleet, one after the other; one that fails does not stop the others."""
        fleets = self._guarded(BUNDLE, self._desired) or ()
        if fleets:
            self._guarded(BUNDLE, lambda: self._notices.tell(Attention(BUNDLE)))
        runs: list[FleetRun] = []
        with tempfile.TemporaryDirectory(prefix="certfleet-") as folder:
            reconciler = Reconciler(
                self._bucket, self._settings.state_prefix, Path(folder), budget=self._budget, now=self._now, say=_say
            )
            for desired in fleets:
                self._guarded(desired.fleet.name, lambda: runs.append(self._one(reconciler, desired)))  # noqa: B023 (called at once)
        if self._failures:
            raise ReconcileFailedError("; ".join(self._failures), "The log has each failure and what to do.")
        return {"fleets": {run.fleet: values(run) for run in runs}}

    def _desired(self) -> tuple[DesiredState, ...]:
        settings = self._settings
        verifier = KmsKey(self._client("kms"), settings.kms_key_arn) if settings.kms_key_arn else None
        bundle = take_bundle(self._bucket, settings, self._now, verifier)
        fleets = load(BundleSource(bundle), now=self._now, fleet=settings.fleet or None)
        return in_turn(fleets, self._now)

    def _one(self, reconciler: Reconciler, desired: DesiredState) -> FleetRun:
        run = reconciler.run(desired)
        if run.stopped:
            _say(f"fleet {run.fleet}: {run.stopped}; the next run goes on")
        print(embedded_metrics(run.fleet, self._now, values(run), properties(desired, run)), flush=True)  # noqa: T201
        if run.report is not None:
            self._notices.tell(attention_of(run.report))
        return run

    def _guarded(self, fleet: str, work: Callable[[], Any]) -> Any:
        """Do the work; what fails is logged, counted, told and remembered. Returns None then."""
        try:
            return work()
        except Exception as raised:  # noqa: BLE001 (one fleet's failure, of whatever kind, is no other's)
            error = as_error(raised)
            if error is not raised:
                traceback.print_exception(raised, file=sys.stdout)
            self._failures.append(f"{fleet}: {error}")
            _say(f"fleet {fleet} failed: {error}" + (f" → {error.remedy}" if error.remedy else ""))
            print(embedded_metrics(fleet, self._now, failed_values(), {}), flush=True)  # noqa: T201
            self._tell_failure(fleet, error)
            return None

    def _tell_failure(self, fleet: str, error: CertfleetError) -> None:
        try:
            self._notices.tell(failure_attention(fleet, str(error), error.remedy))
        except Exception as second:  # noqa: BLE001 (nor is a failure to tell)
            _say(f"fleet {fleet}: and nobody could be told: {as_error(second)}")


def own_clients(attempts: int = 4, read_timeout: float = 20) -> Callable[[str], Any]:
    """Makes the function's own clients, by service; ``read_timeout`` in seconds."""
    session = botocore.session.Session()
    hold_to_shape(session)
    retries = {"mode": "standard", "total_max_attempts": attempts}
    config = Config(retries=retries, connect_timeout=5, read_timeout=read_timeout)
    return lambda service: session.create_client(service, config=config)


def in_turn(fleets: tuple[DesiredState, ...], now: datetime) -> tuple[DesiredState, ...]:
    """The fleets from another one on in each run, so that time does not run out for the same one always.

    By a digest of the instant: the minutes of an hourly schedule would name the same fleet again and again.
    """
    first = int.from_bytes(hashlib.sha256(now.isoformat().encode()).digest()) % len(fleets)
    return fleets[first:] + fleets[:first]


def _say(text: str) -> None:
    """A line for people, in the function's log."""
    print(text, flush=True)  # noqa: T201 (stdout is a Lambda's log)
