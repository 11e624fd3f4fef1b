"""The questions of a checkup beside the registry: the backend's surroundings, and a few devices of each group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.errors import FleetError
from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.fleet.component import ALL, installed_in
from controller.fleet.permissions import queue_of
from controller.fleet.quotas import OF_A_LOOK, QUOTAS
from controller.fleet.reading import read_principals
from controller.reconcile.values import DesiredState
from protocol import topics
from protocol.names import COMPONENT_NAME

SAMPLE = 10  # devices of each group that are asked; three calls each
NUCLEI = ("aws.greengrass.Nucleus", "aws.greengrass.NucleusLite")
_EVENTS = "JOB_EXECUTION"


@dataclass(frozen=True, slots=True)
class Sample:
    """One device that was asked. A field is None if its answer is not known."""

    group: str
    thing: str
    installed: dict[str, str] | None  # version by component
    denied: tuple[str, ...] = ()  # MQTT actions that its certificate's policies deny
    undecided: tuple[str, ...] | None = None  # … of which nobody knows without a connection; None: could not be asked


def job_events_are_on(session: AwsSession) -> bool:
    """Return whether AWS IoT reports how executions end."""
    answer = session.call("iot", "DescribeEventConfigurations")
    return bool(answer.get("eventConfigurations", {}).get(_EVENTS, {}).get("Enabled", False))


def dead_letters(session: AwsSession) -> tuple[str, int] | None:
    """Return the backend's dead-letter queue and the events in it; None if its rules, which exist, name none."""
    rule = session.call("iot", "GetTopicRule", ruleName=session.fleet.backend.create_function)["rule"]
    url = queue_of(rule)
    if url is None:
        return None
    wanted = "ApproximateNumberOfMessages"
    answer = session.call("sqs", "GetQueueAttributes", QueueUrl=url, AttributeNames=[wanted])
    return url, int(answer.get("Attributes", {}).get(wanted, 0))


def quotas(session: AwsSession) -> dict[str, float]:
    """Return, by API of a look, the calls per second that the account is allowed, as far as Service Quotas reports."""
    found = {}
    for api in OF_A_LOOK:
        answer = session.ask("service-quotas", "GetServiceQuota", ServiceCode="iotcore", QuotaCode=QUOTAS[api].code)
        if answer is not None:
            found[api] = float(answer["Quota"]["Value"])
    return found


def samples(session: AwsSession, desired: DesiredState) -> Iterator[Sample]:
    """Yield a few devices of each governed group, spread over its first page."""
    for group in dict.fromkeys(policy.thing_group for policy in desired.policies):
        page, _ = session.page("ListThingsInThingGroup", None, set(), thingGroupName=group, recursive=True)
        things = sorted(page["things"])
        for thing in things[:: max(1, len(things) // SAMPLE)][:SAMPLE]:
            yield Sample(group, thing, _installed(session, thing), *_judged(session, thing))


def _installed(session: AwsSession, thing: str) -> dict[str, str] | None:
    try:
        pages = list(session.pages("ListInstalledComponents", service="greengrassv2", coreDeviceThingName=thing, **ALL))
    except FleetError as error:
        return {} if isinstance(error, AwsCallError) and error.is_not_found else None
    return {name: version for page in pages for name, version in installed_in(page).items()}


def has_component(sample: Sample) -> bool:
    """Return whether a device that could be asked runs a component that rotates."""
    return sample.installed is not None and COMPONENT_NAME in sample.installed


def _judged(session: AwsSession, thing: str) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return what the policies of the thing's certificate deny of a rotation, and what they leave to a connection."""
    try:
        held = read_principals(session, thing)
        if not held:
            return (), None
        answer = session.call(
            "iot",
            "TestAuthorization",
            principal=session.arn(f"cert/{held[0][0]}"),
            clientId=thing,
            authInfos=[{"actionType": kind, "resources": [session.arn(what)]} for kind, what in _needed(thing)],
        )
    except FleetError:
        return (), None
    denied: list[str] = []
    undecided: list[str] = []
    for result in answer["authResults"]:
        said = f"{result['authInfo']['actionType']} {result['authInfo']['resources'][0].split(':', 5)[5]}"
        if result["authDecision"] == "ALLOWED":
            continue
        is_implicit = result["authDecision"] == "IMPLICIT_DENY"
        (undecided if is_implicit and result.get("missingContextValues") else denied).append(said)
    return tuple(denied), tuple(undecided)


def _needed(thing: str) -> Iterator[tuple[str, str]]:
    """Yield what a rotation does over MQTT: the action, and the resource without its ARN's beginning."""
    yield "CONNECT", f"client/{thing}"
    yield "SUBSCRIBE", f"topicfilter/{topics.jobs_notify_next(thing)}"
    for topic in (topics.create(thing), topics.commit(thing)):
        yield "PUBLISH", f"topic/{topic}"
        yield "SUBSCRIBE", f"topicfilter/{topics.outcome(topic, topics.ACCEPTED)}"
        yield "RECEIVE", f"topic/{topics.outcome(topic, topics.ACCEPTED)}"
