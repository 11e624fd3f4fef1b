"""Before a first wave: devices are asked whether they would fail, and who would is left out until that is put right."""

from __future__ import annotations

import json

import pytest

from protocol.names import COMPONENT_NAME
from sandbox.aws.greengrass.deployments import InstalledComponent

WHY = "the key file is a mount of its own; mount the folder"
RECIPE = {"RecipeFormatVersion": "2020-01-25", "ComponentName": COMPONENT_NAME}
OURS, OLDER = ("2.0.0", "rotates; answers CHECK_ROTATION."), ("1.0.0", "Rotates device certificates.")


@pytest.fixture
def plant(factory):
    """Three devices that must rotate, of which two run a component that answers, and one says that it would fail."""
    client = factory.client("greengrassv2")
    for version, description in (OURS, OLDER):
        recipe = {**RECIPE, "ComponentVersion": version, "ComponentDescription": description}
        client.create_component_version(inlineRecipe=json.dumps(recipe))
    for name, (version, _) in {"fit": OURS, "unfit": OURS, "older": OLDER}.items():
        factory.device(name, age=200)
        factory.cloud.deployments.report_device(name, [InstalledComponent(COMPONENT_NAME, version)])
    factory.unfit["unfit"] = WHY
    return factory


def ask(plant, *arguments):
    told = plant.run("preflight", "--format", "json", *arguments)
    return told.code, told.json["fleets"][0]


def test_who_would_fail_is_told_and_left_out_until_it_is_put_right(plant):
    code, fleet = ask(plant, "--wait")
    assert (code, fleet["would_begin"], fleet["would_fail"]) == (1, ["fit"], {"unfit": WHY})
    assert fleet["asked"].keys() == {"fit", "unfit"}
    assert "version 1.0.0" in fleet["not_asked"]["older"]
    assert not plant.rotations, "it rotates nobody"

    assert "PreflightFailed  unfit" in plant.run("plan").out
    assert WHY in plant.run("explain", "unfit").out
    assert plant.run("apply", "--wait", "--timeout", "60s").code == 0
    assert plant.rotations.keys() == {"fit", "older"}

    plant.unfit.clear()
    assert ask(plant, "--policy", "line-a", "--wait")[1]["would_begin"] == ["unfit"]
    assert plant.run("apply", "--wait", "--timeout", "60s").code == 0
    assert plant.rotations.keys() == {"fit", "older", "unfit"}


def test_who_does_not_answer_is_told_and_has_its_question_once_however_often_it_is_asked(plant):
    plant.offline |= {"fit", "unfit"}
    code, fleet = ask(plant, "--wait", "--timeout", "1s")
    assert (code, fleet["not_answered"]) == (2, ["fit", "unfit"])
    jobs = plant.jobs()
    code, fleet = ask(plant, "--wait")
    assert (code, fleet["asked"], plant.jobs()) == (0, {}, jobs)
    told = plant.run("preflight")
    assert "0 devices asked · 1 not asked" in told.out


def test_a_question_ends_by_itself_and_says_whose_it_is(plant):
    plant.run("preflight")
    [job] = plant.jobs()
    assert job.startswith("cf-line-a-check-")
    described = plant.iot.describe_job(jobId=job)["job"]
    assert described["schedulingConfig"]["endBehavior"] == "FORCE_CANCEL"
    assert json.loads(plant.iot.get_job_document(jobId=job)["document"])["operation"] == "CHECK_ROTATION"


def test_of_a_component_that_nobody_knows_nothing_is_asked(factory):
    factory.device("gateway", age=200)
    factory.device("unheard-of", age=200)
    factory.cloud.deployments.report_device("gateway", [InstalledComponent(COMPONENT_NAME, "9.9.9")])
    told = factory.run("preflight")
    assert (told.code, factory.jobs()) == (0, [])
    assert f"version 9.9.9 of {COMPONENT_NAME} does not show" in " ".join(told.out.split())
    assert "Greengrass does not know" in told.out


def test_a_policy_that_is_none_is_named(plant):
    told = plant.run("preflight", "--policy", "line-z")
    assert told.code == 1
    assert "no fleet has a policy 'line-z'" in told.err
    assert not plant.jobs()
