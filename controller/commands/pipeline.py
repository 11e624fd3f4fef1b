"""The way that most commands go from the documents on: fleet by fleet → inventory → assessments → report."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeVar

from controller.commands.context import Context
from controller.commands.history import history_at, remember
from controller.commands.options import NO_REFRESH
from controller.commands.progress import TimeLimit, progress_on
from controller.errors import CertfleetError, DefectError, ExitCode, as_error
from controller.fleet import ActAs, AwsSession, Inventory, NoLookError, last_look, rebuilt_where_damaged, refresh
from controller.fleet.lock import Patience
from controller.fleet.progress import Progress
from controller.reconcile.checks import Governance, assess_fleet
from controller.reconcile.outlook import Forecaster
from controller.reconcile.values import (
    NO_OVERRIDES,
    Assessment,
    DesiredState,
    Device,
    Fleet,
    FleetState,
    Overrides,
    Policy,
)
from controller.report.attention import attention_text
from controller.report.formats import Format
from controller.report.model import FleetFailure, FleetReport
from controller.report.planned import drifted
from controller.report.tally import Tally
from controller.report.trend import record_of
from controller.report.words import instant

T = TypeVar("T")


class RefreshFunction(Protocol):
    """A function that is called as ``controller.fleet.refresh.refresh`` is."""

    def __call__(  # noqa: D102 (the class says it)
        self,
        session: AwsSession,
        inventory: Inventory,
        desired: DesiredState,
        now: datetime,
        progress: Progress,
        *,
        only: Policy | None,
    ) -> FleetState: ...


AT_ONCE = 64  # fleets that are read side by side

_GRAVEST_FIRST = (ExitCode.ERROR, ExitCode.REFUSED, ExitCode.CHANGES, ExitCode.IN_SYNC)


@dataclass(frozen=True, slots=True)
class Observed:
    """One fleet, read: what git demands, what AWS reports, and the session and the inventory that it was read with."""

    desired: DesiredState
    state: FleetState
    session: AwsSession
    inventory: Inventory
    now: datetime
    only: Policy | None = None  # whose devices alone are asked about

    def devices(self) -> Iterator[Device]:
        """Yield the governed devices, streamed in name order."""
        if self.only is None:
            return self.inventory.devices(self.desired, self.state)
        members = self.inventory.members(self.only.thing_group)
        governance = Governance(self.desired, self.state, self.now)
        found = self.inventory.devices(self.desired, self.state, only=members)
        return (device for device in found if self.only.name in governance.claims_on(device))

    def with_sites(self, report: FleetReport) -> FleetReport:
        """Return the report with the sites of the devices that it names."""
        named = (found.device for found in report.assessments)
        return replace(report, sites=self.sites(chain(named, (device for device, _policy in report.quiet))))

    def sites(self, things: Iterable[str]) -> dict[str, str]:
        """Return the sites of these things, if the Fleet names their attribute and they are known."""
        attribute = self.desired.fleet.site_attribute
        return {} if attribute is None else self.inventory.sites(attribute, things)

    def assess(
        self, tally: Tally, overrides: Overrides = NO_OVERRIDES, forecaster: Forecaster | None = None
    ) -> Iterator[Assessment]:
        """Yield one assessment per governed device; ``tally`` and ``forecaster`` count each one on the way."""
        devices = tally.devices(self.devices())
        if forecaster is not None:
            return tally.assessments(forecaster.assess(devices))
        return tally.assessments(assess_fleet(devices, self.desired, self.state, self.now, overrides))


def each_fleet(
    fleets: tuple[DesiredState, ...], work: Callable[[DesiredState], T], *, at_once: int = AT_ONCE
) -> tuple[tuple[T, ...], tuple[FleetFailure, ...]]:
    """Do the work on every fleet; one that fails does not stop the others, but a single one simply raises.

    So many fleets (``at_once``) are worked on side by side: each has an account and region with quotas of its own, and
    mostly waits for AWS.
    """

    def attempt(desired: DesiredState) -> T:
        return rebuilt_where_damaged(lambda: work(desired))

    if len(fleets) == 1:
        return (attempt(fleets[0]),), ()
    executor = ThreadPoolExecutor(at_once, thread_name_prefix="of-fleets")
    try:
        begin = (lambda desired: executor.submit(attempt, desired).result) if at_once > 1 else partial(partial, attempt)
        return _ends(fleets, list(map(begin, fleets)))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _ends(
    fleets: tuple[DesiredState, ...], attempts: list[Callable[[], T]]
) -> tuple[tuple[T, ...], tuple[FleetFailure, ...]]:
    results: list[T] = []
    failures: list[FleetFailure] = []
    for number, (desired, attempt) in enumerate(zip(fleets, attempts, strict=True)):
        try:
            results.append(attempt())
        except Exception as raised:  # noqa: BLE001 (one fleet's failure, of whatever kind, is no other's)
            failures.append(_failure(desired, told(raised)))
        except KeyboardInterrupt as raised:  # whoever interrupts means all that would follow
            failures += [_failure(one, as_error(raised)) for one in fleets[number:]]
            break
    return tuple(results), tuple(failures)


def each_fleet_watched(
    context: Context,
    fleets: tuple[DesiredState, ...],
    work: Callable[[DesiredState], T],
    report: Callable[[FleetFailure], None] = lambda _failure: None,
    *,
    at_once: int = AT_ONCE,
) -> tuple[tuple[T, ...], tuple[FleetFailure, ...]]:
    """Do the work as ``each_fleet``, so many at_once; if a single one raises, the reports come before."""
    try:
        return each_fleet(fleets, work, at_once=at_once)
    except (Exception, KeyboardInterrupt) as raised:
        failure = _failure(fleets[0], as_error(raised))
        report(failure)
        context.emit_attention(lambda: attention_text([], [failure]))
        raise


def told(raised: Exception | KeyboardInterrupt) -> CertfleetError:
    """Return an exception as an error for a report; for a defect, print where it arose."""
    error = as_error(raised)
    if isinstance(error, DefectError) and error is not raised:
        traceback.print_exception(raised)
    return error


def _failure(desired: DesiredState, error: CertfleetError) -> FleetFailure:
    fleet = desired.fleet
    return FleetFailure(fleet.name, str(error), error.remedy, error.exit_code, fleet.source)


def gravest(codes: list[ExitCode], failures: tuple[FleetFailure, ...] = ()) -> ExitCode:
    """Return the one exit code of several fleets."""
    found = {*codes, *(failure.exit_code for failure in failures)}
    return next((code for code in _GRAVEST_FIRST if code in found), ExitCode.IN_SYNC)


def tell_on_stderr(context: Context, failures: tuple[FleetFailure, ...], silent: Format) -> None:
    """Name the fleets that failed if the one format that is ``silent`` on them is asked for."""
    if silent in context.formats:
        for failure in failures:
            context.say(f"fleet {failure.fleet} failed: {failure.message}")
            if failure.remedy:
                context.say(f"→ {failure.remedy}")


@contextmanager
def observe(
    context: Context,
    desired: DesiredState,
    act_as: ActAs = ActAs.READER,
    *,
    only: Policy | None = None,
    look: RefreshFunction = refresh,
) -> Iterator[Observed]:
    """Bring the inventory of one fleet up to date, and hold it open.

    ``act_as`` is WRITER for a command that goes on to change something. ``only`` restricts the look to one policy's
    devices; ``look`` replaces ``refresh`` to look at even less.
    """
    given: Path | None = context.arguments.inventory
    path = given or default_inventory(desired.fleet)
    patience = Patience(context.arguments.lock_timeout.total_seconds(), context.say)
    session = AwsSession(desired.fleet, act_as)
    # Who changes something looks again before each wave; the limit is then of each look.
    limit = context.time_limit if act_as is ActAs.READER else TimeLimit(context.arguments.time_limit)
    with Inventory(path, patience=patience, tell=context.say, is_cache=given is None) as inventory:
        state = None if act_as is ActAs.WRITER else _looked_before(context, desired, session, inventory)
        if state is None:
            with progress_on(context.stderr, label=desired.fleet.name) as tell:
                # Whatever time is asked about: what is read, and kept, is the present.
                state = look(session, inventory, desired, context.present(), limit.on(tell), only=only)
        yield Observed(desired, state, session, inventory, context.now(), only)  # to look may have taken an hour


def _looked_before(
    context: Context, desired: DesiredState, session: AwsSession, inventory: Inventory
) -> FleetState | None:
    """Return an earlier look if the arguments allow one that old, and report it.

    NoLookError if no other may be made.
    """
    max_age: timedelta | None = getattr(context.arguments, "max_age", None)
    if max_age is None:
        return None
    try:
        state = last_look(inventory, desired, session.endpoint("iot"))
    except NoLookError:
        if max_age == NO_REFRESH:
            raise
        return None
    age = context.present() - state.observed_at
    if max_age != NO_REFRESH and not timedelta() <= age <= max_age:
        return None
    context.say(f"fleet {desired.fleet.name}: as it was seen at {instant(state.observed_at)}; AWS was asked nothing")
    return state


def drift_of(
    context: Context, desired: DesiredState, horizon: timedelta | None = None, only: Policy | None = None
) -> FleetReport:
    """Assess one fleet, and what would hold up its plan; with a forecast and a trend if these are asked for.

    With ``only`` a policy, its devices alone. The forecast ends at the horizon.
    """
    names_all = Format.HTML in context.formats
    tally = Tally(desired if only is None else replace(desired, policies=(only,)), context.now(), names_all=names_all)
    with observe(context, desired, only=only) as observed:
        state, now = observed.state, observed.now
        forecaster = None if horizon is None else Forecaster(desired, state, now, horizon)
        assessments = observed.assess(tally, forecaster=forecaster)
        report = observed.with_sites(drifted(tally, assessments, desired, state, now, only=only))
        if forecaster is not None and report.expected is not None:
            report = replace(report, forecast=forecaster.result(report.expected))
        place: str | None = getattr(context.arguments, "history", None)
        if place is not None:
            record = record_of(report, observed.now)
            own = AwsSession(desired.fleet, ActAs.CALLER)  # the bucket is of who reports, not of the fleet's account
            report = replace(report, trend=remember(history_at(place, own), record, context.say))
        return report


def default_inventory(fleet: Fleet) -> Path:
    """Return the inventory's place in the user's cache, made private if it is missing; raises CertfleetError."""
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(cache) if cache and Path(cache).is_absolute() else Path.home() / ".cache") / "certfleet"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except RuntimeError as error:
        raise CertfleetError(
            "found no home folder, in which certfleet keeps the inventory",
            "name an inventory file with --inventory, or set HOME or XDG_CACHE_HOME",
        ) from error
    except OSError as error:
        raise CertfleetError(
            f"the cache folder {folder} cannot be made: {error.strerror}", "name an inventory file with --inventory"
        ) from error
    return folder / f"{fleet.account}-{fleet.region}.sqlite"
