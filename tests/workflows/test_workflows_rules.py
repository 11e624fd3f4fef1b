"""What every workflow must keep to: valid, pinned, least permissions, clean shells, nothing untrusted in a shell."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from workflows_gitlab import template

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
SCRIPTS = [ROOT / "tools" / "install-test-tools", ROOT / ".ci" / "run"]
INSTALL = ("$/.github/actions/install", "./.github/actions/install")
ROLES = {f"CERTFLEET_{name}_ROLE_ARN" for name in ("READ", "RECONCILE", "HEAL", "RELEASE")}

# Every job, with all that its token may. Nobody but these writes anywhere.
PERMISSIONS = {
    ("pull-request.yml", "validate"): {"contents: read"},
    ("pull-request.yml", "plan"): {"contents: read", "id-token: write"},
    ("pull-request.yml", "comment"): {"contents: read", "pull-requests: write"},
    ("reconcile.yml", "plan"): {"contents: read", "id-token: write", "issues: write"},
    ("reconcile.yml", "apply"): {"contents: read", "id-token: write", "issues: write"},
    ("reconcile.yml", "override"): {"contents: read", "id-token: write", "issues: write", "actions: read"},
    ("reconcile.yml", "bundle"): {"contents: read", "id-token: write"},
    ("drift-report.yml", "report"): {"contents: read", "id-token: write", "issues: write", "actions: read"},
    ("drift-report.yml", "code-scanning"): {"security-events: write"},
    ("release.yml", "release"): {"contents: read", "id-token: write"},
    ("heal.yml", "plan"): {"contents: read", "id-token: write", "issues: write"},
    ("heal.yml", "apply"): {"contents: read", "id-token: write", "issues: write", "actions: read"},
}


def load(name):
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def steps_of(path):
    """Of a workflow or an action of ours."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found["runs"]["steps"] if "runs" in found else steps(found)


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.parametrize(("kind", "files"), [("workflows", WORKFLOWS), ("actions", ACTIONS)])
def test_every_workflow_and_action_passes_the_schema_check(kind, files):
    schema = f"vendor.github-{kind}"  # as check-jsonschema ships it: no network
    done = run(Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", schema, *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_has_no_finding():
    done = run(Path(sys.executable).parent / "zizmor", "--offline", "--no-progress", FOLDER.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No findings to report" in done.stdout + done.stderr


def test_every_shell_step_and_script_is_clean(tmp_path):
    assert shutil.which("shellcheck"), "run tools/install-test-tools"
    scripts = list(SCRIPTS)
    for path in WORKFLOWS + ACTIONS:
        for number, step in enumerate(steps_of(path)):
            if "run" in step:
                scripts.append(tmp_path / f"{path.parent.name}-{path.stem}-{number}.sh")
                scripts[-1].write_text(f"#!/usr/bin/env bash\nset -e\n{step['run']}")
    done = run("shellcheck", "--shell=bash", "--enable=quote-safe-variables", *scripts)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: path.parent.name + "/" + path.name)
def test_every_action_is_pinned_by_commit_and_says_its_version(path):
    used = re.findall(r"uses: (?![$.]/)(.*)", path.read_text(encoding="utf-8"))
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name)] == []


def test_one_action_has_one_version_everywhere():
    texts = [path.read_text(encoding="utf-8") for path in WORKFLOWS + ACTIONS]
    pins = {pin for text in texts for pin in re.findall(r"uses: (?![$.]/)(\S+)", text)}
    repositories = [re.match(r"[\w.-]+/[\w.-]+", pin)[0] + pin[pin.index("@") :] for pin in pins]
    assert len({name.partition("@")[0] for name in repositories}) == len(set(repositories))


@pytest.mark.parametrize("path", WORKFLOWS + ACTIONS, ids=lambda path: path.parent.name + "/" + path.name)
def test_no_expression_is_pasted_into_a_shell(path):
    assert [step["run"] for step in steps_of(path) if "${{" in step.get("run", "")] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_given_job_by_job_and_every_job_ends(path):
    workflow = load(path.name)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"]
        given = {f"{scope}: {access}" for scope, access in job["permissions"].items()}
        assert given == PERMISSIONS.get((path.name, name), {"contents: read"})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_checkout_keeps_no_credentials_and_no_secret_is_stored(path):
    checkouts = [step["with"] for step in steps(load(path.name)) if "checkout@" in step.get("uses", "")]
    assert all(given["persist-credentials"] is False for given in checkouts)
    assert "secrets." not in path.read_text(encoding="utf-8")


def assumes_role(step):
    used = step.get("uses", "")
    return "configure-aws-credentials@" in used or (used in INSTALL and "role" in step.get("with", {}))


def test_every_role_is_assumed_by_oidc_and_only_where_it_is_needed():
    found = {}
    for path in WORKFLOWS:
        for name, job in load(path.name)["jobs"].items():
            given = [step.get("with", {}) for step in job["steps"] if assumes_role(step)]
            for values in given:
                [role] = [role for role in ROLES if f"${{{{ vars.{role} }}}}" in values.values()]
                found[path.name, name] = (role, job.get("environment"))
                assert set(values) - {"role", "region"} <= {"role-to-assume", "aws-region", "role-duration-seconds"}
            assert bool(given) == ("id-token" in job["permissions"])
    read, write = "CERTFLEET_READ_ROLE_ARN", "CERTFLEET_RECONCILE_ROLE_ARN"
    assert found == {
        ("pull-request.yml", "plan"): (read, None),
        ("reconcile.yml", "plan"): (read, None),
        ("reconcile.yml", "apply"): (write, "certfleet"),
        ("reconcile.yml", "override"): (write, "certfleet-override"),
        ("reconcile.yml", "bundle"): (write, "certfleet"),
        ("drift-report.yml", "report"): (read, None),
        ("release.yml", "release"): ("CERTFLEET_RELEASE_ROLE_ARN", "certfleet-release"),
        ("heal.yml", "plan"): (read, None),
        ("heal.yml", "apply"): ("CERTFLEET_HEAL_ROLE_ARN", "certfleet-heal"),
    }


def test_a_fork_gets_no_credentials_and_no_token_that_writes():
    jobs = load("pull-request.yml")["jobs"]
    own = "github.event.pull_request.head.repo.full_name == github.repository"
    for name, job in jobs.items():
        only_reads = job["permissions"] == {"contents": "read"}
        assert only_reads == (name == "validate")
        or_queued = f"&& (github.event_name == 'merge_group' || {own})"  # what is queued was merged by who may
        assert only_reads or job["if"].removesuffix(" }}").endswith((f"&& {own}", or_queued))


def test_the_code_of_a_pull_request_is_never_checked_out():
    found = [s["with"]["ref"] for s in steps(load("pull-request.yml")) if "checkout@" in s.get("uses", "")]
    assert found == ["${{ github.event.pull_request.base.sha || github.event.merge_group.base_sha }}"] * 3


def test_nor_its_program_installed_whoever_holds_the_workflow():
    """In this repository ./ is the checkout of the base; $/ would be the pull request's own version."""
    for job in load("pull-request.yml")["jobs"].values():
        used = {step["uses"]: step["if"] for step in job["steps"] if step.get("uses") in INSTALL}
        assert used == dict(
            zip(INSTALL, (f"job.workflow_repository {is_} github.repository" for is_ in ("!=", "==")), strict=True)
        )


def test_what_writes_takes_main_as_it_is_so_that_a_run_started_again_applies_nothing_old():
    for name in ("reconcile.yml", "drift-report.yml", "heal.yml"):
        checkouts = [s["with"] for s in steps(load(name)) if "checkout@" in s.get("uses", "")]
        assert checkouts
        assert {given["ref"] for given in checkouts} == {"refs/heads/main"}


def test_what_is_known_of_a_fleet_is_kept_after_a_failure_and_a_cancellation_too():
    """The action that restores and saves in one saves after success only."""
    for path in WORKFLOWS + ACTIONS:
        used = [step for step in steps_of(path) if step.get("uses", "").startswith("actions/cache")]
        assert [step for step in used if not re.match(r"actions/cache/(restore|save)@", step["uses"])] == []
        saves = [step for step in used if "/save@" in step["uses"]]
        assert all(step["if"].partition(" && ")[0] == "always()" for step in saves)
        assert bool(saves) == (path.name in {"reconcile.yml", "drift-report.yml", "heal.yml"})


def test_every_look_ends_by_itself_before_its_job_is_cut_off():
    """All but those of apply, which looks at what its plan has just looked at."""
    jobs = [job for path in WORKFLOWS for job in load(path.name)["jobs"].values()]
    found = []
    for job in (*jobs, *template({"project": "acme/certfleet", "commit": "c" * 40}).values()):
        minutes = int(str(job.get("timeout-minutes", job.get("timeout", 0))).split()[0])
        script = "".join([*(step.get("run", "") for step in job.get("steps", ())), *map(str, job.get("script", ()))])
        for look in re.findall(r"--\s+(?:plan|drift|heal plan)\s.*?--format", script.replace("\\\n", " "), re.DOTALL):
            limits = re.findall(r"--time-limit (\d+)m", look)
            assert [int(limit) + 10 <= minutes for limit in limits] == [True], look
            found += limits
    assert sorted(found) == ["20", "20"] + 6 * ["75"]


def test_required_checks_report_to_a_merge_queue():
    workflow = load("pull-request.yml")
    assert "merge_group" in workflow[True], "on, which YAML 1.1 reads as true"
    assert "pull_request" not in workflow["jobs"]["validate"].get("if", "")


def test_one_reconcile_at_a_time_per_fleet_and_none_is_cut_off():
    jobs = load("reconcile.yml")["jobs"]
    assert jobs["apply"]["concurrency"] == {"group": "reconcile-${{ matrix.fleet }}", "cancel-in-progress": False}
    assert [name for name, job in jobs.items() if job.get("concurrency", {}).get("cancel-in-progress")] == []
    reads = "plan-${{ inputs.fleet }}-${{ inputs.resume }}-${{ inputs.dry-run }}"
    assert jobs["plan"]["concurrency"] == {"group": reads, "cancel-in-progress": False}, "a first look outlasts an hour"
    assert "concurrency" not in jobs["override"], "one that waits for a reviewer holds nobody up"
    assert "concurrency" not in load("reconcile.yml")


def test_the_component_is_tested_on_every_python_that_it_promises():
    tool = (FOLDER.parents[1] / "tools" / "component_matrix.py").read_text(encoding="utf-8")
    promised = re.search(r"^VERSIONS = \((.*)\)$", tool, re.MULTILINE)[1]
    job = load("ci.yml")["jobs"]["component"]
    assert job["strategy"]["matrix"]["python"] == re.findall(r"[\d.]+", promised)
    assert job["steps"][-1]["run"].startswith("make component-matrix")
    in_sandbox = FOLDER.parents[1] / "tests" / "component" / "in_sandbox"
    named = re.findall(r"/(test_\w+\.py)::(test_\w+)", tool)
    assert len(named) == 3
    for file, test in named:
        assert f"def {test}(" in (in_sandbox / file).read_text(encoding="utf-8"), (
            "make component-matrix would not find it"
        )
