"""A stock backend is told nothing: a device rotates only where it is known what component and stack are set to."""

from __future__ import annotations

import json
from importlib import import_module

import pytest

from protocol.names import COMPONENT_NAME

STACK = "AWSLabsCertificateRotator"
CA = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
GATEWAY = "arn:aws:iot:eu-west-1:123456789012:thing/gateway"


@pytest.fixture
def stock(factory):
    """One device that is due, and the public solution's backend."""
    factory.device("gateway", age=200)
    factory.iot.delete_job_template(jobTemplateId=STACK)
    document = '{"operation":"ROTATE_CERTIFICATE"}'
    factory.iot.create_job_template(jobTemplateId=STACK, document=document, description="rotates certificates")
    return factory


def blocked(factory) -> str:
    """What keeps the device, as drift says it."""
    [device] = factory.run("drift", "--format", "json").json["fleets"][0]["devices"]
    [finding] = [finding for finding in device["findings"] if finding["outcome"] == "blocked"]
    assert finding["remedy"]
    return f"{finding['reason']}: {finding['message']}"


def ours(factory) -> list[str]:
    """Jobs of the controller; Greengrass makes one for each deployment as well."""
    return [job for job in factory.jobs() if job.startswith("cf-")]


def deploy(factory, **update) -> None:
    """A deployment to the device, which carries it out."""
    component = {"componentVersion": "1.2.0", "configurationUpdate": update}
    client = factory.client("greengrassv2")
    made = client.create_deployment(targetArn=GATEWAY, deploymentName="d", components={COMPONENT_NAME: component})
    factory.cloud.deployments.report("gateway", made["deploymentId"], "SUCCEEDED")


def set_otherwise(monkeypatch, stock, what) -> None:
    """Between the look and the making of jobs."""
    module = import_module("controller.commands.apply")
    carry_out = module.apply

    def later(*arguments, **options):
        if what == "component":
            deploy(stock, merge=json.dumps({"keyAlgorithm": "RSA-2048"}))
        elif what == "deployment":
            component = {COMPONENT_NAME: {"componentVersion": "1.2.0"}}
            stock.client("greengrassv2").create_deployment(targetArn=GATEWAY, deploymentName="n", components=component)
        else:
            variables = {"PCA_CA_ARN": CA, "PCA_VALIDITY_IN_DAYS": "365"}
            stock.cloud.functions.register(f"{STACK}CreateCertificate", lambda event, _environment: event, variables)
        return carry_out(*arguments, **options)

    monkeypatch.setattr(module, "apply", later)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("component", "its component was set to ECDSA-P256, now RSA-2048"),
        ("deployment", "now that is not known (the deployment n is QUEUED on it"),
        ("stack", "the stock backend is set otherwise than when it was looked at"),
    ],
)
def test_what_is_set_otherwise_since_the_look_is_left_out_just_before_the_job(stock, monkeypatch, what, why):
    variables = {"PCA_CA_ARN": ""}
    stock.cloud.functions.register(f"{STACK}CreateCertificate", lambda event, _environment: event, variables)
    stock.cloud.deployments.report_device("gateway", ())
    deploy(stock, merge=json.dumps({"keyAlgorithm": "ECDSA-P256"}))
    set_otherwise(monkeypatch, stock, what)
    told = stock.run("apply", "--format", "json").json
    assert why in told["fleets"][0]["jobs"][0]["skipped"]["gateway"]
    assert ours(stock) == []


def test_what_is_not_known_is_named_until_it_is_and_then_the_device_rotates(stock):
    assert "what the stock backend issues is not known: lambda GetFunctionConfiguration" in blocked(stock)
    name = f"{STACK}CreateCertificate"
    stock.cloud.functions.register(name, lambda event, _environment: event, {"PCA_CA_ARN": ""})
    assert "Greengrass knows no core device gateway" in blocked(stock)
    stock.cloud.deployments.report_device("gateway", ())
    assert f"no deployment of gateway has {COMPONENT_NAME} in it" in blocked(stock)
    deploy(stock, merge=json.dumps({"other": 1}))
    assert "the deployment d leaves keyAlgorithm as it was on the device before" in blocked(stock)
    deploy(stock, reset=["/keyAlgorithm"])
    assert "UnsupportedByBackend" in blocked(stock)
    assert "a rotation would make RSA-2048 / aws-iot, as component and stack are set" in blocked(stock)
    component = {COMPONENT_NAME: {"componentVersion": "1.2.0"}}
    stock.client("greengrassv2").create_deployment(targetArn=GATEWAY, deploymentName="next", components=component)
    assert "the deployment next is QUEUED on it" in blocked(stock)
    assert stock.run("apply").code == 0
    assert ours(stock) == []
    deploy(stock, merge=json.dumps({"keyAlgorithm": "ECDSA-P256"}))

    assert stock.run("apply").code == 0

    [job] = ours(stock)
    document = stock.iot.get_job_document(jobId=job)["document"]
    assert document == '{"operation":"ROTATE_CERTIFICATE"}', "exactly its own document, byte for byte"
