"""``certfleet doctor``: what must be true, line by line, with the remedy; it looks, and changes nothing.

``--migrate`` asks besides about the way from the stock solution's backend to ours, or back.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from controller.commands import condition
from controller.commands.condition import Looked
from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.migration import Migration, lines_of, next_steps
from controller.commands.options import add_desired, add_fleet, add_output
from controller.commands.pipeline import default_inventory, each_fleet_watched, observe
from controller.errors import CertfleetError, ExitCode, FleetError
from controller.fleet import ActAs, AwsSession, Inventory, examination
from controller.fleet.authorities import describe_cas
from controller.fleet.backend import is_stock_backend, read_deployment, read_rules
from controller.fleet.permissions import try_reading
from controller.fleet.quotas import seconds_for
from controller.reconcile.values import DesiredState, Device, DeviceExecution, FleetState, may_be_at_work
from controller.report.checkup import RENDERERS, CheckLine, CheckStatus, Checkup, FleetCheckup
from protocol.names import DEFAULT_STACK_NAME, BackendNames

Question = Callable[[AwsSession, DesiredState, datetime], Iterator[CheckLine]]

PATIENCE = timedelta(minutes=2)  # with the look at the devices


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of what to look at, and of how to report it."""
    parser.add_argument(
        "--migrate", action="store_true", help="also: is the moment good to change to our backend, or back?"
    )
    parser.add_argument(
        "--from", dest="stock", default=DEFAULT_STACK_NAME, metavar="STACK", help="the stock stack (%(default)s)"
    )
    parser.add_argument("--to", dest="ours", default="Certfleet", metavar="STACK", help="our stack (%(default)s)")
    add_desired(parser, is_question=False)
    add_fleet(parser, is_question=False)
    parser.set_defaults(time_limit=PATIENCE)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Look at every fleet; 2 if something is not ok."""
    found, failures = each_fleet_watched(context, load_desired(context), lambda desired: _examined(context, desired))
    context.emit(Checkup(found, failures), RENDERERS)
    if failures:
        return ExitCode.ERROR
    return ExitCode.IN_SYNC if all(fleet.is_well for fleet in found) else ExitCode.CHANGES


def _examined(context: Context, desired: DesiredState) -> FleetCheckup:
    session = AwsSession(desired.fleet, ActAs.READER)
    try:
        session.verify()
    except FleetError as error:
        return FleetCheckup(desired.fleet.name, (condition.line_of("credentials", CheckStatus.NOT_OK, error),))
    looked = _look(context, desired, session)
    lines = tuple(_lines(session, desired, looked, context.present()))
    if not context.arguments.migrate:
        return FleetCheckup(desired.fleet.name, lines)
    if looked.ended_by is not None:
        raise looked.ended_by  # nothing changes hands while devices are not known
    migration = _migration(context, session, looked)
    lines = (*(line for line in lines if line.what != condition.RULES), *lines_of(migration))  # "who answers" asks more
    return FleetCheckup(desired.fleet.name, lines, next_steps(migration, lines))


def _lines(session: AwsSession, desired: DesiredState, looked: Looked, now: datetime) -> Iterator[CheckLine]:
    yield CheckLine("credentials", CheckStatus.OK, f"of {session.where}")
    yield from condition.permissions(try_reading(session, desired), desired.fleet)
    questions: dict[str, Question] = {"backend": _backend, "job events": _job_events, "samples of devices": _devices}
    for what, ask in questions.items():
        try:
            yield from tuple(ask(session, desired, now))
        except FleetError as error:
            yield condition.line_of(what, CheckStatus.CANNOT_TELL, error)
    yield condition.quotas(examination.quotas(session), session.quota_factor, looked.devices)
    yield condition.first_look(looked)
    yield condition.in_flight(looked, now)


def _backend(session: AwsSession, desired: DesiredState, now: datetime) -> Iterator[CheckLine]:
    names = desired.fleet.backend
    has_template = session.find("iot", "DescribeJobTemplate", jobTemplateId=names.job_template) is not None
    is_stock = is_stock_backend(session, is_needed=False)
    deployment, why = (None, None) if is_stock else read_deployment(session)
    cas, unknown = describe_cas(session, desired)
    state = FleetState(now, backend_is_stock=is_stock, deployment=deployment, deployment_unknown=why, private_cas=cas)
    yield condition.backend(state, desired.fleet, has_template=has_template)
    yield from condition.authorities(desired, replace(state, cas_unknown=unknown), now)
    states = read_rules(session)
    yield condition.rules(states, desired.fleet, is_stock=is_stock)
    if not is_stock:  # which keeps what it gave up nowhere
        yield condition.dead_letters(
            examination.dead_letters(session) if names.create_function in (states or ()) else None
        )


def _job_events(session: AwsSession, _desired: DesiredState, _now: datetime) -> Iterator[CheckLine]:
    yield condition.job_events(are_on=examination.job_events_are_on(session))


def _devices(session: AwsSession, desired: DesiredState, _now: datetime) -> Iterator[CheckLine]:
    asked = tuple(examination.samples(session, desired))
    yield from condition.components(asked, desired)
    yield from condition.device_policies(asked)


def _look(context: Context, desired: DesiredState, session: AwsSession) -> Looked:
    """Return every governed device; or what ended the look, and how much is left of it."""
    try:
        with observe(context, desired) as observed:
            return _counted(observed.devices())
    except CertfleetError as error:
        given: Path | None = context.arguments.inventory
        with Inventory(
            given or default_inventory(desired.fleet), tell=context.say, is_cache=given is None
        ) as inventory:
            unread, listed = inventory.unread()
        calls = {"ListThingPrincipalsV2": unread, "DescribeCertificate": unread}
        takes = timedelta(seconds=seconds_for(calls, session.quota_factor))
        return Looked(listed, ended_by=error, unread=unread, takes=takes)


def _counted(devices: Iterable[Device]) -> Looked:
    executions: list[tuple[str, DeviceExecution]] = []
    odd, versions, number = [], Counter[str | None](), 0
    for device in devices:
        number += 1
        versions[device.component_version] += 1
        executions += [(device.name, execution) for execution in device.executions]
        is_rotating = any(may_be_at_work(execution.status) for execution in device.executions)
        if not is_rotating and len(device.attachments) != 1:
            odd.append(device.name)
    return Looked(number, tuple(executions), tuple(odd), versions)


def _migration(context: Context, session: AwsSession, looked: Looked) -> Migration:
    stock, ours = BackendNames(context.arguments.stock), BackendNames(context.arguments.ours)
    deployed, _why = read_deployment(session, ours)
    rotating = dict.fromkeys(thing for thing, execution in looked.executions if may_be_at_work(execution.status))
    return Migration(
        stock,
        ours,
        read_rules(session),
        deployed.version if deployed else None,
        tuple(rotating),
        looked.not_one_certificate,
        looked.component_versions,
    )
