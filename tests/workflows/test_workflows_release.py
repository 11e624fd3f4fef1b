"""release.yml, step by step: what can be built, published and deployed without AWS is; the rest is named.

Not run here: the functions' zips (their wheels come from an index; tests/backend compares two builds of
what goes into them) and ``cdk deploy`` (needs CloudFormation). The integration suite is collected by the
workflow's own command; the same tests run against the sandbox in tests/integration.
"""

import hashlib
import re
import shutil
import zipfile

import pytest
import yaml
from workflows_factory import RELEASE
from workflows_github import GitHubStandIn
from workflows_origin import Origin
from workflows_runner import ROOT, Runner

from protocol.names import COMPONENT_NAME
from sandbox.fleet_file import SandboxFleet
from sandbox.world import World

FLEET = """
groups: [{name: canaries}]
devices: [{prefix: canaries-, count: 1, groups: [canaries], age: 30d, keyType: ECDSA-P256, processes: 1}]
"""
NOT_SOURCES = shutil.ignore_patterns(".*", "node_modules", "build", "cdk.out", "__pycache__", "*.egg-info")
BUCKET = "components"
PROGRAM = "Build the program twice, wheel and sdist"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One real component, deployed by an earlier release."""
    made = World(SandboxFleet.model_validate(yaml.safe_load(FLEET)), tmp_path_factory.mktemp("world"))
    made.start()
    assert made.wait_until_online() == []
    own = f"arn:aws:greengrass:eu-west-1:123456789012:components:{COMPONENT_NAME}:versions:1.0.0"
    made.client("greengrassv2").delete_component(arn=own)  # the sandbox's: it is the release that publishes it here
    made.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    group = made.client("iot").describe_thing_group(thingGroupName="canaries")["thingGroupArn"]
    components = {
        COMPONENT_NAME: {"componentVersion": "0.9.0"},
        "aws.greengrass.Nucleus": {"componentVersion": "2.14.0"},
    }
    made.client("greengrassv2").create_deployment(targetArn=group, components=components)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def runner(world, tmp_path_factory):
    """The project itself as the repository."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT, folder / "origin", ignore=NOT_SOURCES)
    github = GitHubStandIn()
    github.tokens = {}
    made = Runner(folder, Origin(folder / "origin", {}), github, world.environment())
    made.variables = {
        "AWS_REGION": "eu-west-1",
        "CERTFLEET_RELEASE_ROLE_ARN": RELEASE,
        "CERTFLEET_COMPONENT_BUCKET": BUCKET,
        "CERTFLEET_TEST_THING_GROUP": "canaries",
        "CERTFLEET_CDK_CONTEXT": "-c DesiredState=desired_state/demo",
    }
    made.environment = {"PYTEST_ADDOPTS": "--collect-only --quiet --no-cov"}
    made.deployed = []
    made.stand_ins = {
        "Build the functions twice": functions_built,
        PROGRAM: program_built,  # but in one run: it takes seconds, and is the same each time
        "Deploy the backend": lambda workspace: made.deployed.append((workspace / "build/functions.zip").read_text()),
    }
    yield made
    github.close()


def functions_built(workspace):
    (workspace / "release" / "functions").mkdir()
    (workspace / "release" / "functions" / "functions.zip").write_text("zip")


def program_built(workspace):
    (workspace / "release" / "program").mkdir()


def versioned(runner, tag):
    """The commit of main that says it is that version; its files as they are there."""
    project, changelog = (ROOT / "pyproject.toml").read_text(), (ROOT / "CHANGELOG.md").read_text()
    return runner.origin.push(
        {
            "pyproject.toml": re.sub(
                '^version = ".*"$', f'version = "{tag[1:]}"', project, count=1, flags=re.MULTILINE
            ),
            "CHANGELOG.md": re.sub("^## .*$", f"## {tag[1:]}", changelog, count=1, flags=re.MULTILINE),
            f"tests/cli/kept/{tag[1:]}/plan.json": "{}",
        }
    )


def release(runner, tag):
    return runner.run("release.yml", "push", sha=versioned(runner, tag), ref=f"refs/tags/{tag}")


def test_a_tag_is_built_twice_published_deployed_and_tried(runner, world, monkeypatch):
    monkeypatch.delitem(runner.stand_ins, PROGRAM)
    jobs = release(runner, "v1.0.0")

    assert jobs["build"].result == "success", jobs["build"].log
    assert jobs["release"].result == "success", jobs["release"].log
    assert (jobs["release"].environment, jobs["release"].roles) == ("certfleet-release", [RELEASE])
    archive = (runner.artifacts["release"] / "component" / "certificate-rotator.zip").read_bytes()
    assert f"{hashlib.sha256(archive).hexdigest()}  component/certificate-rotator.zip" in jobs["build"].summary
    built = {path.name for path in (runner.artifacts["release"] / "program").iterdir()}
    assert built == {"certfleet-1.0.0-py3-none-any.whl", "certfleet-1.0.0.tar.gz"}
    assert "  program/certfleet-1.0.0-py3-none-any.whl" in jobs["build"].summary
    with zipfile.ZipFile(runner.artifacts["release"] / "component" / "certificate-rotator.zip") as packed:
        tops = {name.partition("/")[0] for name in packed.namelist()}
    assert tops == {"bootstrap.py", "certificate_rotator", "protocol", "requirements.txt"}
    assert runner.deployed == ["zip"], "what was built is what is deployed"

    stored = world.client("s3").get_object(Bucket=BUCKET, Key=f"{COMPONENT_NAME}/1.0.0/certificate-rotator.zip")
    assert stored["Body"].read() == archive
    greengrass = world.client("greengrassv2")
    arn = f"arn:aws:greengrass:eu-west-1:123456789012:components:{COMPONENT_NAME}:versions:1.0.0"
    recipe = greengrass.get_component(arn=arn, recipeOutputFormat="JSON")["recipe"]
    assert f"s3://{BUCKET}/{COMPONENT_NAME}/1.0.0/certificate-rotator.zip" in recipe.decode()

    [latest] = greengrass.list_deployments(historyFilter="LATEST_ONLY")["deployments"]
    components = greengrass.get_deployment(deploymentId=latest["deploymentId"])["components"]
    assert {name: value["componentVersion"] for name, value in components.items()} == {
        COMPONENT_NAME: "1.0.0",
        "aws.greengrass.Nucleus": "2.14.0",
    }
    assert f"canaries-001 has {COMPONENT_NAME} 1.0.0" in jobs["release"].log
    assert re.search(r"\d+ tests? collected|\d+/\d+ tests collected", jobs["release"].log), jobs["release"].log


def test_a_release_that_is_run_again_changes_nothing_and_another_archive_is_refused(runner, world):
    assert release(runner, "v1.0.0")["release"].result == "success"
    key = f"{COMPONENT_NAME}/1.0.0/certificate-rotator.zip"
    s3 = world.client("s3")
    published = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"another")
    again = release(runner, "v1.0.0")["release"]
    s3.put_object(Bucket=BUCKET, Key=key, Body=published)
    assert again.result == "failure"
    assert "is published already, from another archive" in again.log
    assert again.steps["Deploy the backend"] == "skipped"


@pytest.mark.parametrize("tag", ["v1.4", "v01.4.0", "v1.4.0-rc1", "vnext"])
def test_a_tag_that_is_no_version_is_not_built(tag, runner):
    jobs = release(runner, tag)
    assert (jobs["build"].result, jobs["release"].result) == ("failure", "skipped")
    assert f"the tag {tag} is not a version" in jobs["build"].log


UNFIT = {
    "another version": (
        "v1.9.9",
        "CHANGELOG.md",
        lambda text: text,
        "the tag is v2.0.0, the program's version is 1.9.9",
    ),
    "no heading in the changelog": (
        "v2.0.0",
        "CHANGELOG.md",
        lambda text: text.replace("## 2.0.0", "## Unreleased"),
        "CHANGELOG.md has no heading '## 2.0.0'",
    ),
    "nothing for who upgrades": (
        "v2.0.0",
        "CHANGELOG.md",
        lambda text: text.replace("### Upgrade", "### Notes"),
        "nothing under '### Upgrade'",
    ),
    "nothing kept for the next version": (
        "v2.0.0",
        "tests/cli/kept/2.0.0/plan.json",
        lambda _text: None,
        "python tests/cli/cli_kept.py tests/cli/kept/2.0.0",
    ),
}


@pytest.mark.parametrize(("version", "path", "change", "said"), UNFIT.values(), ids=UNFIT)
def test_a_tag_that_the_version_or_the_changelog_does_not_know_is_not_built(version, path, change, said, runner):
    versioned(runner, version)
    sha = runner.origin.push({path: change((runner.origin.folder / path).read_text())})
    jobs = runner.run("release.yml", "push", sha=sha, ref="refs/tags/v2.0.0")
    assert jobs["build"].result == "failure"
    assert said in jobs["build"].log


def test_a_commit_that_is_not_on_main_is_not_released(runner):
    merge, _ = runner.origin.pull_request({"component/certificate_rotator/evil.py": "x = 1\n"})
    jobs = runner.run("release.yml", "push", sha=merge, ref="refs/tags/v6.6.6")
    assert (jobs["build"].result, jobs["release"].result) == ("failure", "skipped")
    assert "is not on main" in jobs["build"].log


def test_a_build_that_is_not_reproducible_stops_the_release(runner):
    source = runner.origin.folder / "component" / "build.py"
    before = source.read_text()
    changed = before.replace("_EPOCH = (1980, 1, 1, 0, 0, 0)", "_EPOCH = __import__('time').localtime()[:6]")
    assert changed != before
    versioned(runner, "v1.5.0")
    sha = runner.origin.push({"component/build.py": changed})
    jobs = runner.run("release.yml", "push", sha=sha, ref="refs/tags/v1.5.0")
    runner.origin.push({"component/build.py": before})
    assert (jobs["build"].result, jobs["release"].result) == ("failure", "skipped")
    assert "certificate-rotator.zip differ" in jobs["build"].log


def test_a_device_that_does_not_take_the_new_version_stops_the_release(runner):
    job = release(runner, "v1.4.0")["release"]  # the nucleus stand-in can only run the version it was made with
    assert job.result == "failure"
    assert f"the deployment of {COMPONENT_NAME} 1.4.0 to canaries-001 ended FAILED" in job.log
    assert job.steps["Try it on the test devices"] == "skipped"
