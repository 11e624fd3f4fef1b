"""The recipe against the published format, and against those who read it: both kinds of nucleus, and Greengrass V2."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from component import build
from sandbox.edge.nucleus.recipe import Variant, load_recipe

FORMAT = Draft202012Validator(json.loads((Path(__file__).parent / "recipe_format.json").read_text()))


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    build.write_archive(folder / build.ARCHIVE)
    return build.write_recipe(folder, name=build.DEFAULT_NAME, version="1.2.3", bucket="my-bucket")


@pytest.fixture
def recipe(recipe_file):
    return yaml.safe_load(recipe_file.read_text())


def test_the_recipe_keeps_to_the_published_format(recipe):
    assert [error.message for error in FORMAT.iter_errors(recipe)] == []
    assert recipe["ComponentName"] == build.DEFAULT_NAME
    assert {artifact["Uri"] for manifest in recipe["Manifests"] for artifact in manifest["Artifacts"]} == {
        f"s3://my-bucket/{build.DEFAULT_NAME}/1.2.3/{build.ARCHIVE}"
    }


FLAWS = {
    "a version that is none": (["ComponentVersion"], "1.2"),
    "a name with a blank": (["ComponentName"], "certificate rotator"),
    "a step that runs nothing": (["Manifests", 0, "Lifecycle", "run", "Script"], ""),
    "privilege as a word": (["Manifests", 0, "Lifecycle", "run", "RequiresPrivilege"], "yes"),
    "a step that does not exist": (["Manifests", 0, "Lifecycle", "Run"], {"Script": "true"}),
    "run and startup at once": (["Manifests", 0, "Lifecycle", "startup"], {"Script": "true"}),
    "a key in another case": (["Manifests", 0, "Artifacts", 0, "URI"], "s3://my-bucket/x.zip"),
    "an artifact from elsewhere": (["Manifests", 0, "Artifacts", 0, "Uri"], "https://example.com/x.zip"),
    "an unknown runtime": (["Manifests", 0, "Platform", "runtime"], "lite"),
    "an unknown permission": (["Manifests", 0, "Artifacts", 0, "Permission", "Read"], "EVERYONE"),
    "a policy without resources": (
        ["ComponentConfiguration", "DefaultConfiguration", "accessControl", "aws.greengrass.ipc.mqttproxy", "x"],
        {"operations": ["aws.greengrass#PublishToIoTCore"]},
    ),
}


@pytest.mark.parametrize(("path", "value"), FLAWS.values(), ids=FLAWS)
def test_the_format_refuses(recipe, path, value):
    flawed = copy.deepcopy(recipe)
    place = flawed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert list(FORMAT.iter_errors(flawed))


def test_a_placeholder_that_was_not_filled_in_is_noticed():
    raw = yaml.safe_load((build.COMPONENT / "recipe.yaml").read_text())
    assert "COMPONENT_VERSION" in str([error.message for error in FORMAT.iter_errors(raw)])


@pytest.mark.parametrize("variant", Variant)
def test_each_nucleus_finds_its_own_manifest(recipe_file, variant):
    found = load_recipe(recipe_file, variant)
    assert f"--runtime {variant.value}" in found.steps["run"].script
    assert found.archives == ()  # root unpacks its own copy
