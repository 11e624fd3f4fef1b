"""The steps of a release with the built component: publish its version, put that version on the test devices.

    python tools/release.py publish FOLDER --bucket BUCKET     FOLDER: what component.build wrote
    python tools/release.py deploy FOLDER --thing-group GROUP

Both may be run again: what is there already is compared, never replaced.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import ClientError

ARCHIVE = "certificate-rotator.zip"
PAUSE_SECONDS = 2
TIMEOUT_SECONDS = 15 * 60
ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "CANCELED"}


class ReleaseError(Exception):
    """The release cannot go on; the message holds what was expected, what was found, what to do."""


def main() -> int:
    """Publish or deploy; return 0 when that is done."""
    parser = ArgumentParser(prog="tools/release.py", description="Publish the component, or deploy it to test devices.")
    parser.add_argument("what", choices=("publish", "deploy"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bucket", default="", help="where Greengrass fetches the archive from")
    parser.add_argument("--thing-group", default="", help="group of the test devices, with a deployment of its own")
    arguments = parser.parse_args()
    recipe = yaml.safe_load((arguments.folder / "recipe.yaml").read_text(encoding="utf-8"))
    name, version = recipe["ComponentName"], str(recipe["ComponentVersion"])
    try:
        if arguments.what == "publish":
            publish(arguments.folder, name, version, arguments.bucket)
        else:
            deploy(name, version, arguments.thing_group)
    except (ReleaseError, ClientError) as error:
        sys.stderr.write(f"::error title=release::{error}\n")
        return 1
    return 0


def publish(folder: Path, name: str, version: str, bucket: str) -> None:
    """Put the archive into the bucket, make the version, wait until Greengrass has taken it."""
    greengrass, s3 = boto3.client("greengrassv2"), boto3.client("s3")
    archive, key = (folder / ARCHIVE).read_bytes(), f"{name}/{version}/{ARCHIVE}"
    arn = _arn(name, version)
    if _state(greengrass, arn) is None:
        s3.put_object(Bucket=bucket, Key=key, Body=archive)
        greengrass.create_component_version(inlineRecipe=(folder / "recipe.yaml").read_bytes())
    elif s3.get_object(Bucket=bucket, Key=key)["Body"].read() != archive:
        raise ReleaseError(
            f"{name} {version} is published already, from another archive: make a tag with a new version"
        )
    _wait(lambda: _deployable(greengrass, arn), f"Greengrass takes {name} {version}")
    sys.stdout.write(f"published {name} {version}\n")


def deploy(name: str, version: str, group: str) -> None:
    """Revise the group's deployment, so that it has this version; wait for every device."""
    iot, greengrass = boto3.client("iot"), boto3.client("greengrassv2")
    target = iot.describe_thing_group(thingGroupName=group)["thingGroupArn"]
    found = greengrass.list_deployments(targetArn=target, historyFilter="LATEST_ONLY")["deployments"]
    latest = greengrass.get_deployment(deploymentId=found[0]["deploymentId"]) if found else {}
    components = latest.get("components", {})
    if name not in components:
        raise ReleaseError(f"the deployment of thing group {group} does not contain {name}: deploy it once by hand")
    kept = {field: latest[field] for field in ("deploymentPolicies", "iotJobConfiguration") if latest.get(field)}
    components[name] = {**components[name], "componentVersion": version}
    made = greengrass.create_deployment(targetArn=target, components=components, **kept)["deploymentId"]
    pages = iot.get_paginator("list_things_in_thing_group").paginate(thingGroupName=group)
    for thing in sorted(thing for page in pages for thing in page["things"]):
        ended = _wait(lambda thing=thing: _ending(greengrass, thing, made), f"{thing} has {name} {version}")
        if ended != "SUCCEEDED":
            raise ReleaseError(f"the deployment of {name} {version} to {thing} ended {ended}: see the device's log")
        sys.stdout.write(f"{thing} has {name} {version}\n")


def _arn(name: str, version: str) -> str:
    caller = boto3.client("sts").get_caller_identity()
    partition, region = caller["Arn"].split(":")[1], boto3.client("greengrassv2").meta.region_name
    return f"arn:{partition}:greengrass:{region}:{caller['Account']}:components:{name}:versions:{version}"


def _state(greengrass: Any, arn: str) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = greengrass.describe_component(arn=arn)["status"]
    except greengrass.exceptions.ResourceNotFoundException:
        return None
    return state


def _deployable(greengrass: Any, arn: str) -> bool:
    state = _state(greengrass, arn) or {"componentState": "REQUESTED"}
    if state["componentState"] not in {"REQUESTED", "INITIATED", "DEPLOYABLE"}:
        raise ReleaseError(f"Greengrass refuses the component: {state['componentState']}, {state.get('message')}")
    return bool(state["componentState"] == "DEPLOYABLE")


def _ending(greengrass: Any, thing: str, deployment: str) -> str | None:
    for one in greengrass.list_effective_deployments(coreDeviceThingName=thing)["effectiveDeployments"]:
        if one["deploymentId"] == deployment and one["coreDeviceExecutionStatus"] in ENDED:
            return str(one["coreDeviceExecutionStatus"])
    return None


def _wait(condition: Any, what: str) -> Any:
    end = time.monotonic() + TIMEOUT_SECONDS
    while not (found := condition()):
        if time.monotonic() > end:
            raise ReleaseError(f"waited {TIMEOUT_SECONDS // 60} minutes in vain: {what}")
        time.sleep(PAUSE_SECONDS)
    return found


if __name__ == "__main__":
    sys.exit(main())
