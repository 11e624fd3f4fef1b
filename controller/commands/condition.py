"""The conditions of a fleet before its first wave and after each release: from what was seen to lines. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.commands.installation import DISTRIBUTION, version_of
from controller.commands.progress import TimeLimitError
from controller.errors import CertfleetError
from controller.fleet.examination import NUCLEI, Sample, has_component
from controller.fleet.permissions import Permission
from controller.fleet.quotas import OF_A_LOOK, QUOTAS, SHARE, seconds_for
from controller.reconcile.planning import departures
from controller.reconcile.values import (
    DesiredState,
    DeviceExecution,
    Fleet,
    FleetState,
    count_text,
    may_be_at_work,
    names_text,
    span_text,
)
from controller.report.checkup import CheckLine, CheckStatus
from protocol.names import AWS_IOT_AUTHORITY, COMPONENT_NAME, LEAST_NUCLEUS, LEAST_NUCLEUS_FOR_PRIVATE_CA

STUCK_AFTER = timedelta(hours=12)  # in progress; a rotation takes minutes, and the cloud's longest timeout is a week

RULES = "rules"
OK, NOT_OK, CANNOT_TELL = CheckStatus.OK, CheckStatus.NOT_OK, CheckStatus.CANNOT_TELL


@dataclass(frozen=True, slots=True)
class Looked:
    """How the look at the devices went: whole, or what it ended with and how long the rest takes."""

    devices: int
    executions: tuple[tuple[str, DeviceExecution], ...] = ()  # that have not ended, each with its thing
    not_one_certificate: tuple[str, ...] = ()  # things that have several or none, and no rotation at work
    component_versions: Mapping[str | None, int] = field(default_factory=dict)  # None: not known
    ended_by: CertfleetError | None = None
    unread: int = 0
    takes: timedelta = timedelta(0)


def line_of(what: str, verdict: CheckStatus, error: CertfleetError) -> CheckLine:
    """Return the line of an error that a look at ``what`` ended with, with this verdict."""
    return CheckLine(what, verdict, str(error), (error.remedy,) if error.remedy else ())


def permissions(found: Iterable[Permission], fleet: Fleet) -> Iterator[CheckLine]:
    """Yield lines on the permissions for reading that were ``found``; those for writing cannot be tried."""
    tried = tuple(found)
    allowed = sorted(one.action for one in tried if one.is_allowed)
    yield CheckLine("permissions", OK, f"{count_text(len(allowed), 'action')} tried and allowed: {', '.join(allowed)}")
    for one in tried:
        if one.is_allowed is False:
            remedy = f"allow {one.action} to whoever reads (docs/backend.md, Roles for GitHub)"
            yield CheckLine(f"permission {one.action}", NOT_OK, one.why, (remedy,))
        elif one.is_allowed is None:
            yield CheckLine(f"permission {one.action}", CANNOT_TELL, one.why)
    actions = " ".join(f"iot:{name}" for name in ("CreateJob", "CancelJob", "CreateThingGroup", "AddThingToThingGroup"))
    role = fleet.role_arn or "$(aws sts get-caller-identity --query Arn --output text)"
    yield CheckLine(
        "permissions to rotate",
        CANNOT_TELL,
        "making jobs and cohort groups cannot be tried without making some; IAM shows, to who may ask it",
        (f"aws iam simulate-principal-policy --policy-source-arn {role} --action-names {actions}",),
    )


def backend(state: FleetState, fleet: Fleet, *, has_template: bool) -> CheckLine:
    """Return the line on the backend: whether it exists (``has_template``: a job template), whose, and its version."""
    what, own, stack = "backend", version_of(DISTRIBUTION), fleet.stack_name
    deploy = f"npx cdk deploy -c StackName={stack}    # and your other context (docs/backend.md)"
    if not has_template:
        return CheckLine(what, NOT_OK, f"no backend is deployed as {stack}: there is no such job template", (deploy,))
    if state.backend_is_stock:
        message = f"{stack} is the stock one: key and CA of every rotation are those it was deployed with"
        return CheckLine(what, OK, message)
    if state.deployment is None:
        return CheckLine(what, NOT_OK, str(state.deployment_unknown), (deploy,))
    deployed = state.deployment.version
    if deployed != own:
        message = f"{stack} is of version {deployed}, this certfleet of {own}"
        return CheckLine(what, NOT_OK, message, (deploy, f"or run certfleet {deployed}"))
    return CheckLine(what, OK, f"{stack}, version {deployed}")


def authorities(desired: DesiredState, state: FleetState, now: datetime) -> Iterator[CheckLine]:
    """Yield a line for each authority that a policy names: git is compared with the backend and the CA."""
    named = {policy.certificate.authority for policy in desired.policies} - {None}
    wrong = {one.authority.name: one for one in departures(desired, state, now, are_all_asked=True)}
    for name in sorted(name for name in named if name):
        if name in wrong:
            validate = "certfleet validate --live    # names the line of the document"
            yield CheckLine(f"authority {name}", NOT_OK, wrong[name].message, (validate,))
        elif desired.authorities[name].arn in {None, *state.private_cas}:
            yield CheckLine(f"authority {name}", OK, "deployed as git demands, and able to issue")
    for sentence in state.cas_unknown:
        yield CheckLine("authority", CANNOT_TELL, sentence)


def job_events(*, are_on: bool) -> CheckLine:
    """Return the line on job events: without them no backend learns how an execution ended."""
    if are_on:
        return CheckLine("job events", OK, "AWS IoT reports how executions end")
    command = """aws iot update-event-configurations --event-configurations '{"JOB_EXECUTION":{"Enabled":true}}'"""
    return CheckLine(
        "job events", NOT_OK, "JOB_EXECUTION events are off: no old certificate is ever removed", (command,)
    )


def rules(states: Mapping[str, bool] | None, fleet: Fleet, *, is_stock: bool) -> CheckLine:
    """Return the line on whether the backend, ours or the stock one, hears the devices, by the states of its rules."""
    wanted = fleet.backend.stock_rules if is_stock else fleet.backend.rules
    if states is None:
        return CheckLine(RULES, CANNOT_TELL, "the topic rules may not be listed", ("allow iot:ListTopicRules",))
    off = [name for name in wanted if not states.get(name)]
    if not off:
        return CheckLine(RULES, OK, f"{count_text(len(wanted), 'rule')} on")
    missing = [name for name in off if name not in states]
    message = (
        f"off: {', '.join(name for name in off if name in states) or 'none'}; missing: {', '.join(missing) or 'none'}"
    )
    turn_on = tuple(f"aws iot enable-topic-rule --rule-name {name}" for name in off if name in states)
    deploy = (f"npx cdk deploy -c StackName={fleet.stack_name}",) if missing else ()
    return CheckLine(RULES, NOT_OK, message, turn_on + deploy)


def dead_letters(found: tuple[str, int] | None) -> CheckLine:
    """Return the line on the dead-letter queue: whether the backend has given up events."""
    what = "dead-letter queue"
    if found is None:
        return CheckLine(what, CANNOT_TELL, "the backend's rules name none")
    url, number = found
    if not number:
        return CheckLine(what, OK, "empty")
    look = f"aws sqs receive-message --queue-url {url} --visibility-timeout 0 --max-number-of-messages 10"
    return CheckLine(what, NOT_OK, f"{count_text(number, 'event')} that the backend gave up", (look,))


def first_look(looked: Looked) -> CheckLine:
    """Return the line on whether all devices are known, and how long a first look takes at the quotas in use."""
    what = "look at the devices"
    if looked.ended_by is None:
        return CheckLine(what, OK, f"{count_text(looked.devices, 'device')} known")
    if looked.unread:
        message = (
            f"{looked.unread:,} of {count_text(looked.devices, 'device')} are not known yet; at the quotas in use that "
            f"takes about {span_text(looked.takes)}"
        )
        return CheckLine(
            what,
            CANNOT_TELL,
            message,
            ("certfleet status    # goes on there", "CERTFLEET_QUOTA_FACTOR=2 …    # if quotas were doubled"),
        )
    return line_of(what, CANNOT_TELL if isinstance(looked.ended_by, TimeLimitError) else NOT_OK, looked.ended_by)


def quotas(live: Mapping[str, float], factor: float, devices: int) -> CheckLine:
    """Return the line on the live quotas, times ``factor``, and how long a first look at so many devices takes."""
    what = "quotas"

    def takes(by: float) -> str:
        seconds = seconds_for({"ListThingPrincipalsV2": devices, "DescribeCertificate": devices}, by)
        return f"a first look at {count_text(devices, 'device')} takes about {span_text(timedelta(seconds=seconds))}"

    used = f"{SHARE:.0%} of the defaults of AWS" + ("" if factor == 1 else f", times {factor:g}")
    if not live:
        ask = f"aws service-quotas get-service-quota --service-code iotcore --quota-code {QUOTAS[OF_A_LOOK[1]].code}"
        return CheckLine(what, CANNOT_TELL, f"Service Quotas does not report. We use {used}: {takes(factor)}", (ask,))
    possible = min(value / QUOTAS[api].per_second for api, value in live.items())
    told = ", ".join(f"{api} {value:g}" for api, value in live.items())
    set_it = f"export CERTFLEET_QUOTA_FACTOR={possible:g}    # {takes(possible)}"
    message = f"allowed a second: {told}. We use {used}: {takes(factor)}"
    if factor > possible:
        return CheckLine(what, NOT_OK, message, (set_it,))
    return CheckLine(what, OK, message, (set_it,) if factor < possible else ())


def in_flight(looked: Looked, now: datetime) -> CheckLine:
    """Return the line on rotations under way; a rotation that has been in progress for long is stuck."""
    what = "executions in flight"
    if looked.ended_by is not None:
        return CheckLine(what, CANNOT_TELL, "the devices are not all known")
    working = [(thing, one) for thing, one in looked.executions if may_be_at_work(one.status)]
    stuck = [thing for thing, one in working if now - (one.started_at or one.queued_at) > STUCK_AFTER]
    if stuck:
        message = f"in progress for more than {span_text(STUCK_AFTER)}: {names_text(stuck)}"
        return CheckLine(what, NOT_OK, message, (f"certfleet explain {stuck[0]}",))
    queued = len(looked.executions) - len(working)
    return CheckLine(what, OK, f"{len(working):,} in progress, {queued:,} waiting for their devices")


def components(found: Iterable[Sample], desired: DesiredState) -> Iterator[CheckLine]:
    """Yield lines on what was ``found`` of component and nucleus, group by group, against what their policies need."""
    private = {
        policy.thing_group
        for policy in desired.policies
        if policy.certificate.authority not in {None, AWS_IOT_AUTHORITY}
    }
    for group, asked in _by_group(found).items():
        needed = LEAST_NUCLEUS_FOR_PRIVATE_CA if group in private else LEAST_NUCLEUS
        what = f"component in {group}"
        known = [one for one in asked if one.installed is not None]
        without = [one.thing for one in known if not has_component(one)]
        old = [one.thing for one in known if _is_old(one, needed)]
        told = "; ".join(
            f"{name.rpartition('.')[2]} {versions}"
            for name in (COMPONENT_NAME, *NUCLEI)
            if (versions := _versions(known, name))
        )
        of = f"{len(known)} devices asked: {told or 'nothing is installed'}"
        if not known:
            yield CheckLine(
                what,
                CANNOT_TELL,
                "Greengrass could not be asked",
                ("aws greengrassv2 list-installed-components --core-device-thing-name THING",),
            )
        elif without:
            message = f"{names_text(without)} run no {COMPONENT_NAME}; of {of}"
            yield CheckLine(what, NOT_OK, message, ("deploy the component to the group (docs/component.md)",))
        elif old:
            least = ".".join(map(str, needed))
            why = ", which certificates of a private CA need" if group in private else ""
            yield CheckLine(
                what,
                NOT_OK,
                f"{names_text(old)} run a nucleus before {least}{why}; of {of}",
                (f"deploy nucleus {least} or later",),
            )
        else:
            yield CheckLine(what, OK, of)


def device_policies(found: Iterable[Sample]) -> Iterator[CheckLine]:
    """Yield lines on whether the certificates' AWS IoT policies let their devices rotate, group by group."""
    for group, asked in _by_group(found).items():
        what = f"device policies in {group}"
        denied = [(one.thing, what_for) for one in asked for what_for in one.denied]
        open_ones = [one.thing for one in asked if one.undecided or one.undecided is None]
        if denied:
            thing, what_for = denied[0]
            things = dict.fromkeys(thing for thing, _ in denied)
            message = f"{names_text(list(things))} may not rotate: {what_for} is denied to {thing}"
            yield CheckLine(
                what, NOT_OK, message, ("attach backend/device-policy.json (docs/backend.md, The devices' policy)",)
            )
        elif open_ones:
            message = f"of {names_text(open_ones)} it depends on a connection, or could not be asked"
            yield CheckLine(
                what, CANNOT_TELL, message, ("rotate one of them first, and look at it: certfleet explain THING",)
            )
        else:
            yield CheckLine(what, OK, f"{count_text(len(asked), 'device')} asked may connect, ask and commit")


def _by_group(found: Iterable[Sample]) -> dict[str, list[Sample]]:
    groups: defaultdict[str, list[Sample]] = defaultdict(list)
    for one in found:
        groups[one.group].append(one)
    return groups


def _versions(found: Iterable[Sample], name: str) -> str:
    numbers = Counter(one.installed[name] for one in found if one.installed and name in one.installed)
    return ", ".join(f"{version} on {number}" for version, number in sorted(numbers.items()))


def _is_old(sample: Sample, classic: tuple[int, int]) -> bool:
    """Return whether a device runs a nucleus older than ``classic``, or than the oldest nucleus lite that will do."""
    installed = sample.installed or {}
    least = dict(zip(NUCLEI, (classic, LEAST_NUCLEUS), strict=True))
    return any(name in installed and _numbers(installed[name]) < least[name] for name in NUCLEI)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
