"""What every workflow must keep to: pinned actions, least permissions, nothing untrusted in a shell."""

import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))


def load(name):
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit(path):
    used = [step["uses"] for step in steps(load(path.name)) if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_expression_is_pasted_into_a_shell(path):
    assert [step["run"] for step in steps(load(path.name)) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_given_job_by_job_and_every_job_ends(path):
    workflow = load(path.name)
    assert workflow["permissions"] == {}
    assert all("permissions" in job and job["timeout-minutes"] for job in workflow["jobs"].values())


def test_a_fork_gets_no_credentials():
    jobs = load("pull-request.yml")["jobs"]
    assert jobs["validate"]["permissions"] == {"contents": "read"}
    assert jobs["plan"]["if"] == "github.event.pull_request.head.repo.full_name == github.repository"


def test_the_code_of_a_pull_request_is_never_checked_out():
    found = [s["with"]["ref"] for s in steps(load("pull-request.yml")) if "checkout@" in s.get("uses", "")]
    assert found == ["${{ github.event.pull_request.base.sha }}"] * 2
