"""What is deployed: the recipe, the archive, the pinned requirements."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from component import build
from component.certificate_rotator import launch
from component.certificate_rotator.configuration import Configuration, parse
from protocol import topics

COMPONENT = Path(build.__file__).parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    assert build.main(["--output", str(folder), "--version", "1.2.3", "--bucket", "my-bucket"]) == 0
    return folder


@pytest.fixture(scope="module")
def recipe(built):
    return yaml.safe_load((built / "recipe.yaml").read_text())


def test_two_builds_are_byte_identical(built, tmp_path):
    command = [sys.executable, "-m", "component.build", "--output", str(tmp_path), "--version", "1.2.3"]
    subprocess.run([*command, "--bucket", "my-bucket"], check=True, capture_output=True, cwd=COMPONENT.parent)
    for name in ("recipe.yaml", build.ARCHIVE):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


def test_the_archive_holds_the_two_packages_and_the_requirements_and_nothing_else(built):
    with zipfile.ZipFile(built / build.ARCHIVE) as archive:
        names = archive.namelist()
    folders = {name.split("/")[0] for name in names}
    assert folders == {"bootstrap.py", "certificate_rotator", "protocol", "requirements.txt"}
    assert {"protocol/messages.py", "certificate_rotator/__main__.py", "certificate_rotator/machine.py"} <= set(names)
    assert all(name.endswith(".py") or name == "requirements.txt" for name in names)


def test_a_wheelhouse_is_bundled_when_one_is_given(tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "a-1-py3-none-any.whl").write_bytes(b"w")
    (wheels / "notes.txt").write_bytes(b"n")
    build.write_archive(tmp_path / "x.zip", wheels)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert [name for name in archive.namelist() if name.startswith("wheelhouse")] == [
            "wheelhouse/a-1-py3-none-any.whl"
        ]


def test_gdk_finds_recipe_and_archive_where_it_expects_them(tmp_path, monkeypatch):
    settings = json.loads((COMPONENT / "gdk-config.json").read_text())
    ((name, component),) = settings["component"].items()
    (tmp_path / "gdk-config.json").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    assert build.main(["--gdk"]) == 0
    folder = tmp_path / "greengrass-build"
    assert (folder / "artifacts" / name / component["version"] / build.ARCHIVE).exists()
    assert name in (folder / "recipes" / "recipe.yaml").read_text()


def test_there_is_a_manifest_for_lite_linux_and_windows_and_lite_comes_first(recipe):
    platforms = [manifest["Platform"] for manifest in recipe["Manifests"]]
    assert platforms == [{"os": "linux", "runtime": "aws_nucleus_lite"}, {"os": "linux"}, {"os": "windows"}]


def test_root_runs_both_steps_on_linux_and_install_has_a_quarter_of_an_hour(recipe):
    for manifest in recipe["Manifests"]:
        steps = manifest["Lifecycle"]
        assert steps["run"]["RequiresPrivilege"] is True
        assert steps["install"]["Timeout"] == 900
        assert steps["install"].get("RequiresPrivilege", False) == (manifest["Name"] != "windows")
        starts_by_launcher = [step["Script"].startswith("py -3 ") for step in steps.values()]
        assert starts_by_launcher == [manifest["Name"] == "windows"] * 2


def test_the_recipe_holds_the_digest_of_the_archive(built, recipe):
    digest = hashlib.sha256((built / build.ARCHIVE).read_bytes()).hexdigest()
    for manifest in recipe["Manifests"][:2]:
        for step in ("install", "run"):
            script = manifest["Lifecycle"][step]["Script"]
            assert f'/certificate-rotator.zip" {digest} {step}' in script
            assert script.count("'") == 2, "a quote in loader.py would end the shell's word"
            compile(script.split("'")[1], "loader", "exec")


def test_the_recipe_fits_into_what_every_nucleus_takes(tmp_path):
    """Nucleus lite reads 8,195 bytes: of YAML when it is deployed locally, of JSON when the cloud does it."""
    build.write_archive(tmp_path / build.ARCHIVE)
    long = {"name": "com.example.of-some-length." + build.DEFAULT_NAME, "bucket": "b" * 63}
    recipe = build.write_recipe(tmp_path, version="10.20.30", **long)
    assert recipe.stat().st_size < 8000
    assert len(json.dumps(yaml.safe_load(recipe.read_text()), indent=1)) < 8000


def test_the_default_configuration_is_the_codes_own(recipe):
    default = recipe["ComponentConfiguration"]["DefaultConfiguration"]
    assert parse(default) == Configuration()
    assert set(default) == {"keyAlgorithm", "signingAlgorithm", "accessControl"}  # what changes must not stand here


def test_access_control_allows_what_is_used_and_nothing_more(recipe):
    policies = recipe["ComponentConfiguration"]["DefaultConfiguration"]["accessControl"]["aws.greengrass.ipc.mqttproxy"]
    allowed = {policy["operations"][0].split("#")[1]: set(policy["resources"]) for policy in policies.values()}
    thing = "+"
    assert allowed["PublishToIoTCore"] == {
        topics.jobs_get_next(thing), topics.jobs_update(thing, "+"), topics.create(thing), topics.commit(thing),
    }  # fmt: skip
    outcomes = [topics.ACCEPTED, topics.REJECTED]
    assert allowed["SubscribeToIoTCore"] == {
        topics.jobs_notify_next(thing),
        *(topics.jobs_get_outcome(thing, outcome) for outcome in outcomes),
        *(topics.jobs_update_outcome(thing, "+", outcome) for outcome in outcomes),
        *(topics.outcome(topic(thing), outcome) for topic in (topics.create, topics.commit) for outcome in outcomes),
    }


def test_every_requirement_is_pinned_with_hashes():
    text = (COMPONENT / "requirements.txt").read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("==" in block.splitlines()[0] and "--hash=sha256:" in block for block in blocks)
    assert {*launch.NEEDED, launch.FOR_TOKENS} <= set(launch.pins(text))


def test_a_wheel_that_was_made_by_hand_is_taken_by_its_hash():
    text = "awscrt==0.36.1 \\\n    --hash=sha256:aa\npyyaml==6.0.3 \\\n    --hash=sha256:bb\n"
    made = build.with_hashes(text, {"awscrt-0.36.1-cp311-cp311-linux_armv7l.whl": b"wheel"})
    digest = hashlib.sha256(b"wheel").hexdigest()
    first, second = re.split(r"\n(?=\S)", made.strip())
    assert first == f"awscrt==0.36.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:{digest}"
    assert second == "pyyaml==6.0.3 \\\n    --hash=sha256:bb"
    assert build.with_hashes(made, {"awscrt-0.36.1-cp311-cp311-linux_armv7l.whl": b"wheel"}) == made
