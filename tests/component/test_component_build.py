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
from component.certificate_rotator import install
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
    assert {name.split("/")[0] for name in names} == {"certificate_rotator", "protocol", "requirements.txt"}
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


def test_only_the_run_step_is_privileged(recipe):
    for manifest in recipe["Manifests"]:
        assert manifest["Lifecycle"]["run"]["RequiresPrivilege"] is True
        assert "RequiresPrivilege" not in manifest["Lifecycle"]["install"]


def test_the_default_configuration_is_the_codes_own(recipe):
    default = recipe["ComponentConfiguration"]["DefaultConfiguration"]
    assert parse(default) == Configuration()


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
    assert set(install.DIRECT) <= set(install.pins(text))


def test_the_install_step_does_nothing_where_the_pinned_versions_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pinned = install.pins((COMPONENT / "requirements.txt").read_text())
    artifact = tmp_path / "artifact" / "certificate_rotator"
    artifact.mkdir(parents=True)
    (artifact.parent / "requirements.txt").write_text(
        "".join(f"{name}=={install._installed(name)} \\\n    --hash=sha256:00\n" for name in pinned)
    )
    monkeypatch.setattr(install, "__file__", str(artifact / "install.py"))
    assert install.main() == 0
    assert "installed already" in capsys.readouterr().out
    assert not (tmp_path / "venv").exists()


def wheel(folder, name):
    """A package with nothing in it; returns its line for requirements.txt."""
    stem = f"{name.replace('-', '_')}-0.0.1"
    files = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{stem}.dist-info/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{stem}.dist-info/RECORD"])
    target = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return f"{name}==0.0.1 \\\n    --hash=sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}\n"


def test_the_install_step_takes_everything_from_a_bundled_wheelhouse_and_checks_the_hashes(tmp_path):
    """As the recipe runs it, in the unpacked archive; there is no index that it could ask."""
    wheels, artifact, work = tmp_path / "wheels", tmp_path / "artifact", tmp_path / "work"
    wheels.mkdir()
    work.mkdir()
    requirements = "".join(wheel(wheels, name) for name in install.DIRECT)
    build.write_archive(tmp_path / build.ARCHIVE, wheels)
    with zipfile.ZipFile(tmp_path / build.ARCHIVE) as archive:
        archive.extractall(artifact)
    (artifact / "requirements.txt").write_text(requirements)
    command = [sys.executable, "-u", "-m", "certificate_rotator.install"]
    environment = {"PYTHONPATH": str(artifact), "PATH": "/usr/bin:/bin", "PIP_INDEX_URL": "http://127.0.0.1:9/"}

    def run():
        return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    ask = "import importlib.metadata as m, sys; print([m.version(name) for name in sys.argv[1:]])"
    found = subprocess.run(
        [work / "venv" / "bin" / "python3", "-c", ask, *install.DIRECT], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(["0.0.1"] * len(install.DIRECT))

    (artifact / "requirements.txt").write_text(re.sub(r"sha256:....", "sha256:0000", requirements))
    done = run()
    assert done.returncode != 0
    assert "HASHES" in done.stderr
