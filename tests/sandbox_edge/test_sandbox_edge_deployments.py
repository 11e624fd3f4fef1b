"""Deployments from the sandbox's own cloud to a device and back, over its public API."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
import yaml

from sandbox.aws import Cloud
from sandbox.clock import SandboxClock
from sandbox.edge import Component, DeploymentAgent, MqttEndpoint, Nucleus, Provisioning, provision

FOLDER = Path(__file__).parent / "echo_component"
NAME = "com.example.Echo"
TERMINAL = {"SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED"}


@pytest.fixture
def cloud(bus, clock, tmp_path):
    cloud = Cloud("123456789012", "eu-west-1", clock, bus, tmp_path / "cloud")
    cloud.start()
    yield cloud
    cloud.stop()


@pytest.fixture
def agent(cloud):
    agent = DeploymentAgent(cloud.deployments)
    yield agent
    agent.stop()


@pytest.fixture
def device(cloud, agent, bus, clock, recorder, tmp_path):
    endpoint = MqttEndpoint(
        registry=cloud.registry,
        jobs=cloud.jobs,
        bus=bus,
        clock=clock,
        certificate_file=cloud.server_certificate,
        key_file=cloud.server_key,
    )
    endpoint.start()
    iot = client(cloud, "iot")
    iot.create_thing(thingName="core1")
    made = iot.create_keys_and_certificate(setAsActive=True)
    everything = {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}
    iot.create_policy(policyName="p", policyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}))
    iot.attach_policy(policyName="p", target=made["certificateArn"])
    iot.attach_thing_principal(thingName="core1", principal=made["certificateArn"])
    root = tmp_path / "gg"
    provision(root, Provisioning("core1", endpoint.host, endpoint.port, Path(cloud.ca_bundle)))
    (root / "thingCert.crt").write_text(made["certificatePem"])
    (root / "privKey.key").write_text(made["keyPair"]["PrivateKey"])
    nucleus = Nucleus(root, Component(FOLDER / "recipe.yaml", FOLDER), clock=SandboxClock(skips_waits=True))
    agent.attach(nucleus)
    nucleus.start()
    recorder.wait_for("echo/core1/ready")
    yield nucleus
    nucleus.stop()
    endpoint.stop()
    shutil.rmtree(root)


def client(cloud, service):
    return boto3.client(
        service,
        endpoint_url=cloud.endpoint_url,
        verify=str(cloud.ca_bundle),
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def deploy(cloud, components):
    greengrass = client(cloud, "greengrassv2")
    recipe = yaml.safe_load((FOLDER / "recipe.yaml").read_text())
    known = {c["componentName"] for c in greengrass.list_components()["components"]}
    if NAME not in known:
        greengrass.create_component_version(inlineRecipe=json.dumps(recipe).encode())
    arn = client(cloud, "iot").describe_thing(thingName="core1")["thingArn"]
    return greengrass.create_deployment(targetArn=arn, components=components)["deploymentId"]


def ended(cloud, deployment_id):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for found in client(cloud, "greengrassv2").list_effective_deployments(coreDeviceThingName="core1")[
            "effectiveDeployments"
        ]:
            if found["deploymentId"] == deployment_id and found["coreDeviceExecutionStatus"] in TERMINAL:
                return found
        time.sleep(0.05)
    pytest.fail("the deployment did not end")


def echo(update=None, version="1.2.3"):
    configuration = {} if update is None else {"configurationUpdate": {"merge": json.dumps(update)}}
    return {NAME: {"componentVersion": version, **configuration}}


def test_the_cloud_lists_the_device_and_what_runs_on_it(cloud, device):
    deployment = ended(cloud, deploy(cloud, echo()))
    assert deployment["coreDeviceExecutionStatus"] == "SUCCEEDED"
    greengrass = client(cloud, "greengrassv2")
    (core,) = greengrass.list_core_devices()["coreDevices"]
    assert (core["coreDeviceThingName"], core["status"]) == ("core1", "HEALTHY")
    installed = greengrass.list_installed_components(coreDeviceThingName="core1")["installedComponents"]
    assert (NAME, "1.2.3", "RUNNING") in {
        (c["componentName"], c["componentVersion"], c["lifecycleState"]) for c in installed
    }


def test_a_deployment_ends_as_the_component_decides(cloud, device):
    accepted = ended(cloud, deploy(cloud, echo({"greeting": "hi"})))
    assert accepted["coreDeviceExecutionStatus"] == "SUCCEEDED"
    assert device.config.configuration(NAME)["greeting"] == "hi"
    rejected = ended(cloud, deploy(cloud, echo({"greeting": "rude"})))
    assert rejected["coreDeviceExecutionStatus"] == "FAILED"
    assert "be polite" in rejected["reason"]
    assert device.config.configuration(NAME)["greeting"] == "hi"


def test_what_cannot_be_installed_here_fails_with_the_reason(cloud, device):
    failed = ended(cloud, deploy(cloud, echo() | {"aws.greengrass.Cli": {"componentVersion": "2.14.0"}}))
    assert failed["coreDeviceExecutionStatus"] == "FAILED"
    assert "aws.greengrass.Cli cannot be installed here" in failed["reason"]


def test_a_version_that_was_offered_is_deployed_and_the_one_before_again(cloud, agent, device, tmp_path):
    next_recipe = tmp_path / "next.yaml"
    next_recipe.write_text((FOLDER / "recipe.yaml").read_text().replace("1.2.3", "2.0.0"))
    before = device.component_pid
    assert "this nucleus runs 1.2.3" in ended(cloud, deploy(cloud, echo(version="2.0.0")))["reason"]
    for recipe in (next_recipe, FOLDER / "recipe.yaml"):
        agent.offer(Component(recipe, FOLDER))
    for version in ("2.0.0", "1.2.3"):
        assert ended(cloud, deploy(cloud, echo(version=version)))["coreDeviceExecutionStatus"] == "SUCCEEDED"
        assert (device.recipe.version, device.config.version(NAME)) == (version, version)
        assert device.component_pid != before
        before = device.component_pid


def test_an_offline_device_gets_its_deployment_when_it_returns(cloud, device):
    device.disconnect()
    deployment = deploy(cloud, echo({"greeting": "later"}))
    assert device.config.configuration(NAME)["greeting"] == "hello"
    device.connect()
    assert ended(cloud, deployment)["coreDeviceExecutionStatus"] == "SUCCEEDED"
    assert device.config.configuration(NAME)["greeting"] == "later"


def test_the_calls_that_the_component_guide_gives_revise_a_deployment(cloud, device, tmp_path):
    """Run as they stand there, by the AWS command line; only the target is filled in, and the editor is a script."""
    guide = (Path(__file__).parents[2] / "docs" / "component.md").read_text()
    calls = re.search(r"^    TARGET=.*?create-deployment.*?$", guide, re.DOTALL | re.MULTILINE)[0]
    arn = client(cloud, "iot").describe_thing(thingName="core1")["thingArn"]
    script = calls.replace("arn:aws:iot:REGION:ACCOUNT:thinggroup/GROUP", arn)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/first/second/' \"$1\"\n")
    editor.chmod(0o755)
    ended(cloud, deploy(cloud, echo({"greeting": "first"})))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "EDITOR": str(editor),
        "AWS_ENDPOINT_URL": cloud.endpoint_url,
        "AWS_CA_BUNDLE": str(cloud.ca_bundle),
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "HOME": str(tmp_path),
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ended(cloud, json.loads(done.stdout)["deploymentId"])["coreDeviceExecutionStatus"] == "SUCCEEDED"
    assert device.config.configuration(NAME)["greeting"] == "second"
