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
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from botocore.config import Config

from controller.desired import load
from controller.desired.bundle_reader import BundleSource
from controller.errors import CertfleetError, as_error
from controller.fleet.aws import new_session
from controller.fleet.aws_answers import hold_to_shape
from controller.fleet.kms_signature import KmsKey
from controller.lambda_reconcile.bucket import Bucket
from controller.lambda_reconcile.budget import TimeBudget
from controller.lambda_reconcile.bundles import BundleVersion, take_bundle
from controller.lambda_reconcile.metrics import embedded_metrics
from controller.lambda_reconcile.notices import Notices
from controller.lambda_reconcile.outcome import failed_values, properties, values
from controller.lambda_reconcile.reconcile import FleetRun, Reconciler
from controller.lambda_reconcile.settings import ReconcileSettings, read_settings
from controller.reconcile.values import NO_OVERRIDES, DesiredState, Overrides, Plan
from controller.report.attention import Attention, attention_of, failure_attention

T = TypeVar("T")

BUNDLE = "bundle"  # stands in a fleet's place where no fleet was reached


class LambdaContext(Protocol):
    """The part of Lambda's context object that is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the run."""
        ...


class ReconcileFailedError(CertfleetError):
    """Raised at the end of a run in which something failed: Lambda counts an error, and the alarm goes off."""


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 (Lambda passes it)
    """Reconcile every fleet of the bundle once; raises ReconcileFailedError if any of them failed."""
    return Run(context).reconcile()


def _present() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Run:
    """One invocation: its event, what it may use, and how long."""

    def __init__(self, context: LambdaContext) -> None:
        self.settings: ReconcileSettings = read_settings(os.environ)
        self.now = _present()
        self.client = own_clients()
        self.budget = TimeBudget(lambda: context.get_remaining_time_in_millis() / 1000, self.settings.reserve_seconds)
        self.bucket = Bucket(self.client("s3"), self.settings.bucket)
        topic_client = self.client("sns") if self.settings.topic_arn else None
        self.notices = Notices(self.bucket, self.settings.state_prefix, topic_client, self.settings.topic_arn, self.say)
        self._failures: list[str] = []

    def reconcile(self) -> dict[str, Any]:
        """Reconcile every fleet in turn and return each one's numbers; a fleet that fails stops no other.

        Raises ReconcileFailedError if any fleet failed.
        """
        fleets = in_turn(self._guarded(BUNDLE, self.desired) or (), self.now)
        if fleets:
            self._guarded(BUNDLE, lambda: self.notices.tell(Attention(BUNDLE)))
        runs: list[FleetRun] = []
        for desired in fleets:
            self._guarded(desired.fleet.name, lambda: runs.append(self._one(desired)))  # noqa: B023 (called at once)
        if self._failures:
            raise ReconcileFailedError("; ".join(self._failures), "The log has each failure and what to do.")
        return {"fleets": {run.fleet: values(run) for run in runs}}

    def desired(self, fleet: str = "", only: BundleVersion | None = None) -> tuple[DesiredState, ...]:
        """Return the fleets of the bundle, or the one that is named; ``only`` is as in ``take_bundle``."""
        return self.versioned(fleet, only)[0]

    def versioned(
        self, fleet: str = "", only: BundleVersion | None = None
    ) -> tuple[tuple[DesiredState, ...], BundleVersion]:
        """Return the fleets as ``desired`` does, and the version of their bundle: ``only``, or else the newest."""
        settings = self.settings
        verifier = KmsKey(self.client("kms"), settings.kms_key_arn) if settings.kms_key_arn else None
        bundle = take_bundle(self.bucket, settings, self.now, verifier, only)
        found = load(BundleSource(bundle), now=self.now, fleet=fleet or settings.fleet or None)
        return found, BundleVersion.of(bundle)

    def one(self, desired: DesiredState, given: Plan | None = None, overrides: Overrides = NO_OVERRIDES) -> FleetRun:
        """Reconcile one fleet and print its metrics; ``given`` and ``overrides`` are as in Reconciler."""
        with tempfile.TemporaryDirectory(prefix="certfleet-") as folder:
            run = Reconciler(
                self.bucket,
                self.settings.state_prefix,
                Path(folder),
                budget=self.budget,
                present=_present,
                say=self.say,
                given=given,
                overrides=overrides,
            ).run(desired)
        if run.stopped:
            self.say(f"fleet {run.fleet}: {run.stopped}; the next run goes on")
        self.count(run.fleet, values(run), properties(desired, run))
        return run

    def _one(self, desired: DesiredState) -> FleetRun:
        run = self.one(desired)
        if run.report is not None:
            self.notices.tell(attention_of(run.report))
        return run

    def _guarded(self, fleet: str, work: Callable[[], T]) -> T | None:
        """Do the work and return its result.

        If it fails, the failure is logged, counted, reported and remembered, and None is returned.
        """
        try:
            return work()
        except Exception as raised:  # noqa: BLE001 (one fleet's failure, of whatever kind, is no other's)
            error = self.failed(fleet, raised)
            self._failures.append(f"{fleet}: {error}")
            self._tell_failure(fleet, error)
            return None

    def failed(self, fleet: str, raised: Exception) -> CertfleetError:
        """Log and count what was raised; returns its message for people."""
        error = as_error(raised)
        if error is not raised:
            traceback.print_exception(raised, file=sys.stdout)
        self.say(f"fleet {fleet} failed: {error}" + (f" → {error.remedy}" if error.remedy else ""))
        self.count(fleet, failed_values())
        return error

    def count(
        self, fleet: str, numbers: Mapping[str, float], said: Mapping[str, str | None] = MappingProxyType({})
    ) -> None:
        """Print a line of metrics: the numbers, and beside them what is ``said`` in words."""
        print(embedded_metrics(fleet, self.now, numbers, said), flush=True)  # noqa: T201 (stdout is a Lambda's log)

    @staticmethod
    def say(text: str) -> None:
        """Write a line for people to the function's log."""
        print(text, flush=True)  # noqa: T201 (stdout is a Lambda's log)

    def _tell_failure(self, fleet: str, error: CertfleetError) -> None:
        try:
            self.notices.tell(failure_attention(fleet, str(error), error.remedy))
        except Exception as second:  # noqa: BLE001 (nor is a failure to tell)
            self.say(f"fleet {fleet}: and nobody could be notified: {as_error(second)}")


def own_clients(attempts: int = 4, read_timeout: float = 20) -> Callable[[str], Any]:
    """Return a function that makes the client of a service, by the service's name.

    Each call is attempted at most ``attempts`` times; ``read_timeout`` is in seconds.
    """
    session = new_session()
    hold_to_shape(session)
    retries = {"mode": "standard", "total_max_attempts": attempts}
    config = Config(retries=retries, connect_timeout=5, read_timeout=read_timeout)
    return lambda service: session.create_client(service, config=config)


def in_turn(fleets: tuple[DesiredState, ...], now: datetime) -> tuple[DesiredState, ...]:
    """Return the fleets, starting with another one in each run, so that a lack of time hits each of them in turn.

    A digest of the instant chooses the first fleet: the minutes of an hourly schedule would choose the same one again
    and again.
    """
    first = int.from_bytes(hashlib.sha256(now.isoformat().encode()).digest()) % max(1, len(fleets))
    return fleets[first:] + fleets[:first]
