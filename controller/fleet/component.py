"""The version of the component that a device runs, and whether that one answers a pre-flight.

A version that answers names the operation in its recipe's description. Any other version would leave the question at
the head of its device's queue, in the way of the next rotation. So a device is not asked if its version is another
one or is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from controller.fleet.aws import AwsSession
from controller.fleet.work import Work
from protocol.job_document import CHECK_OPERATION
from protocol.names import COMPONENT_NAME

ALL = {"topologyFilter": "ALL", "maxResults": 100}


def component_version(session: AwsSession, thing: str) -> str | None:
    """Return the version that Greengrass has last heard of from a thing; None if that is not known. One call."""
    return version_in(session.ask("greengrassv2", "ListInstalledComponents", coreDeviceThingName=thing, **ALL) or {})


def version_in(answer: Mapping[str, Any]) -> str | None:
    """Return the component's version among the installed ones; None if it is not there."""
    return installed_in(answer).get(COMPONENT_NAME)


def installed_in(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the version of each installed component, by its name."""
    return {one["componentName"]: one["componentVersion"] for one in answer.get("installedComponents", ())}


def component_arn(session: AwsSession, version: str) -> str:
    """Return the ARN of a component version that this account has published."""
    return session.arn(f"components:{COMPONENT_NAME}:versions:{version}", "greengrass")


def unable_to_answer(session: AwsSession, things: Iterable[str], tell: Callable[[int], None]) -> dict[str, str]:
    """Return why each device that is not known to answer is not asked.

    A call for each of the things, and one for each version; ``tell`` gets the count of those looked at.
    """
    versions: dict[str, str | None] = {}
    work = Work()
    for thing in things:

        def keep(version: str | None, thing: str = thing) -> None:
            versions[thing] = version
            tell(len(versions))

        work.add(partial(component_version, session, thing), keep)
    work.run()
    able = {version for version in {*versions.values()} - {None} if _answers(session, str(version))}
    return {thing: _why(version) for thing, version in versions.items() if version not in able}


def _answers(session: AwsSession, version: str) -> bool:
    answer = session.ask("greengrassv2", "DescribeComponent", arn=component_arn(session, version)) or {}
    return CHECK_OPERATION in answer.get("description", "")


def _why(version: str | None) -> str:
    if version is None:
        return f"Greengrass does not know which version of {COMPONENT_NAME} it runs"
    return f"version {version} of {COMPONENT_NAME} does not show in its description that it answers {CHECK_OPERATION}"
