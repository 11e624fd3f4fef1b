"""The pipelines of a repository of documents on GitLab, step by step, over devices that really rotate."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from shared_documents import QUARANTINE
from workflows_factory import FLEET, FLEET_FILE, HEAL, READ, WRITE, certificates, documents
from workflows_gitlab import OWN_ID, PROJECT_ID, ROOT, GitLabStandIn, Pipelines, template
from workflows_origin import Origin

from controller.adoption import ci_files
from controller.evidence import Approval
from controller.gitlab.__main__ import main
from controller.gitlab.api import GitLab, GitLabError
from controller.gitlab.approvals import approvals_of
from sandbox.world import World

CALLER = ci_files("gitlab", "acme/tools/certfleet@" + "c" * 40)[".gitlab-ci.yml"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(FLEET, tmp_path_factory.mktemp("world"))
    made.start()
    assert made.wait_until_online() == []
    yield made
    made.stop()


@pytest.fixture
def gitlab():
    server = GitLabStandIn()
    yield server
    server.close()


@pytest.fixture
def pipelines(tmp_path, world, gitlab):
    variables = {
        "CERTFLEET_READ_ROLE_ARN": READ,
        "CERTFLEET_RECONCILE_ROLE_ARN": WRITE,
        "CERTFLEET_GITLAB_TOKEN": "glpat-secret",
        "AWS_REGION": "eu-west-1",
    }
    return Pipelines(tmp_path, Origin(tmp_path / "origin", documents()), gitlab, world.environment(), variables)


PUSHED = {"reconcile-plan": "success", "apply": "success", "override": "manual"}


def results(jobs):
    return {name: job.result for name, job in jobs.items()}


def test_a_repository_of_documents_needs_ten_lines_and_names_the_pin_once():
    assert len(CALLER.splitlines()) <= 10
    [included] = yaml.safe_load(CALLER)["include"]
    assert included["ref"] == included["inputs"]["commit"] == "c" * 40
    assert included["project"] == included["inputs"]["project"] == "acme/tools/certfleet"
    assert (ROOT / included["file"].lstrip("/")).exists()
    assert CALLER.count("c" * 40) == 1


def test_a_merge_request_has_one_note_that_a_second_push_replaces(pipelines, gitlab):
    tighter = {FLEET_FILE: documents(line_a={"max_age": "90d"})[FLEET_FILE]}

    jobs = pipelines.merge_request(tighter)

    assert results(jobs) == {"validate": "success", "plan": "success", "comment": "success"}, "".join(
        job.log for job in jobs.values()
    )
    assert {name: job.role for name, job in jobs.items()} == {"validate": "", "plan": READ, "comment": ""}
    [note] = gitlab.notes
    assert note["of"] == ("merge_requests", 1)
    assert note["body"].startswith("<!-- certfleet:plan -->\n## 🔄 factory: 3 devices newly to rotate")
    assert main(["comment", "--body", __file__], environment(gitlab) | {"CI_MERGE_REQUEST_IID": "1"}) == 0
    assert [note["id"] for note in gitlab.notes] == [1]
    assert "The pipelines of a repository" in gitlab.notes[0]["body"]


def test_mistakes_are_cases_of_the_merge_request_and_fail_it_before_anybody_looks_at_the_fleet(pipelines, gitlab):
    jobs = pipelines.merge_request({FLEET_FILE: documents(line_a={"max_age": "90"})[FLEET_FILE]})
    assert results(jobs) == {"validate": "failed", "plan": "skipped", "comment": "success"}, jobs["comment"].log
    assert '<failure message="' in (jobs["validate"].artifacts / "validate.junit.xml").read_text()
    assert "1 mistake in the desired state" in gitlab.notes[0]["body"]


def test_a_fork_is_validated_and_gets_neither_a_role_nor_a_note(pipelines, gitlab):
    jobs = pipelines.merge_request({FLEET_FILE: documents(line_a={"max_age": "90d"})[FLEET_FILE]}, fork=True)
    assert results(jobs) == {"validate": "success"}
    assert (jobs["validate"].role, gitlab.requests) == ("", [])


def test_a_merge_request_to_something_else_starts_no_job(pipelines):
    assert pipelines.merge_request({"README.md": "hello"}) == {}


def test_a_merge_is_planned_by_who_reads_and_applied_by_who_may(pipelines, gitlab, world):
    before, pushed = certificates(world, "line-a"), documents(line_a={"max_age": "90d"})
    pipelines.origin.push(pushed)

    jobs = pipelines.branch("push", pushed)

    assert results(jobs) == PUSHED, log(jobs)
    assert (jobs["reconcile-plan"].role, jobs["apply"].role) == (READ, WRITE)
    assert [jobs[name].spec["environment"] for name in ("apply", "override")] == ["certfleet", "certfleet-override"]
    assert jobs["apply"].spec["resource_group"] == "certfleet"
    assert (
        "## ✅ factory: 1 job made · 3 devices rotated" in (jobs["apply"].artifacts / "outcome/factory.md").read_text()
    )
    after = certificates(world, "line-a")
    assert [thing for thing in before if before[thing] == after[thing]] == []
    assert gitlab.issues == []


def test_what_a_guardrail_refuses_waits_for_a_person_who_starts_exactly_that_plan(pipelines, gitlab, world):
    before, pushed = certificates(world, "presses"), documents(presses={"max_age": "30d"})
    pipelines.origin.push(pushed)

    jobs = pipelines.branch("push", pushed)

    assert results(jobs) == PUSHED, log(jobs)
    assert certificates(world, "presses") == before, "nothing without a person"
    [issue] = gitlab.issues
    assert "maxChangePercent" in issue["description"]
    assert "`CERTFLEET_RESUME`" in issue["description"]
    plan = json.loads((jobs["reconcile-plan"].artifacts / "plan/plan.json").read_text())
    asked = {device["name"] for job in plan["jobs"] for device in job["devices"]}

    done = pipelines.play("override")

    assert (done.result, done.role) == ("success", WRITE), done.log
    after = certificates(world, "presses")
    assert {thing for thing in before if before[thing] != after[thing]} == asked != set()
    pipelines.branch("schedule")
    assert gitlab.issues[0]["state"] == "closed"


def test_in_a_scheduled_pipeline_nobody_is_asked_and_the_report_is_kept_where_it_is_wanted(pipelines):
    assert "override" not in pipelines.branch("schedule")
    jobs = pipelines.branch("schedule", CERTFLEET_REPORT="true")
    assert results(jobs)["drift-report"] == "success", jobs["drift-report"].log
    kept = {path.name for path in (jobs["drift-report"].artifacts / "report").iterdir()}
    assert kept == {"drift.html", "drift.json", "drift.md", "drift.sarif", "drift.junit.xml"}
    assert jobs["drift-report"].role == READ


def test_a_merge_cuts_a_device_off_once_a_person_has_started_the_plan_and_a_revert_brings_it_back(
    pipelines, gitlab, world
):
    pipelines.variables["CERTFLEET_HEAL_ROLE_ARN"] = HEAL
    pushed = documents(QUARANTINE % "bench-001")
    pipelines.origin.push(pushed)

    jobs = pipelines.branch("push", pushed)

    assert (jobs["heal-plan"].result, jobs["heal"].result) == ("success", "manual"), log(jobs)
    assert (jobs["heal-plan"].role, jobs["heal"].spec["environment"]) == (READ, "certfleet-heal")
    assert status(world, "bench-001") == "ACTIVE", "nothing without a person"
    [issue] = [issue for issue in gitlab.issues if issue["description"].startswith("<!-- certfleet:healing -->")]
    assert "bench-001" in issue["description"]

    done = pipelines.play("heal")

    assert (done.result, done.role) == ("success", HEAL), done.log
    assert status(world, "bench-001") == "INACTIVE"
    assert "bench-001" in gitlab.notes[-1]["body"]
    again = pipelines.play("heal")
    assert again.result == "failed"
    assert "is not called for any more" in (again.artifacts / "outcome/factory.md").read_text(), "started twice"

    pipelines.origin.push(documents())  # the pipeline of this push was lost
    pipelines.branch("schedule", CERTFLEET_HEAL="true", CERTFLEET_HEAL_ONLY="quarantine")
    assert pipelines.play("heal").result == "success"
    assert status(world, "bench-001") == "ACTIVE"


def test_the_registry_is_healed_in_a_pipeline_that_asks_for_it_and_by_nobody_elses_plan(pipelines, gitlab):
    assert "heal-plan" not in pipelines.branch("schedule", CERTFLEET_HEAL="true"), "no role is set for it"
    pipelines.variables["CERTFLEET_HEAL_ROLE_ARN"] = HEAL
    jobs = pipelines.branch("schedule", CERTFLEET_HEAL="true")
    assert (jobs["heal-plan"].result, jobs["heal"].result) == ("success", "manual"), jobs["heal-plan"].log
    assert [issue["title"] for issue in gitlab.issues if "healed" in issue["title"]] == [], "there is nothing to heal"
    assert pipelines.play("heal").result == "success"


def test_the_bundle_is_published_where_the_project_says(pipelines, world):
    s3 = world.client("s3")
    s3.create_bucket(Bucket="gitlab-bundles", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    jobs = pipelines.branch("schedule", CERTFLEET_BUNDLE_URL="s3://gitlab-bundles/desired-state.bundle")
    assert (jobs["bundle"].result, jobs["bundle"].role) == ("success", WRITE), jobs["bundle"].log
    bundle = s3.get_object(Bucket="gitlab-bundles", Key="desired-state.bundle")["Body"].read()
    assert b"gitlab.example/acme/plants/fleet" in bundle


def test_whoever_merged_a_merge_request_and_whoever_approved_it_answer_for_its_commits(gitlab):
    ada, grace, commit = {"username": "ada"}, {"username": "grace"}, "c" * 40
    gitlab.merge_requests[commit] = [
        {"iid": 6, "state": "closed", "merge_user": None},
        {"iid": 7, "state": "merged", "merge_user": ada},
        {"iid": 8, "state": "merged", "merged_by": None},
    ]
    gitlab.approvals = {7: [grace], 8: []}
    asked = GitLab(gitlab.url, PROJECT_ID, "t")
    assert approvals_of(asked, commit) == (Approval("ada", "merged", 7), Approval("grace", "approved", 7))
    assert approvals_of(asked, "d" * 40) == ()


def test_without_the_token_for_notes_everything_else_goes_on_and_says_what_is_left_out(pipelines, gitlab):
    del pipelines.variables["CERTFLEET_GITLAB_TOKEN"]
    jobs = pipelines.merge_request({FLEET_FILE: documents(line_a={"max_age": "80d"})[FLEET_FILE]})
    assert results(jobs)["comment"] == "success"
    assert "no note is written: CERTFLEET_GITLAB_TOKEN is not set" in jobs["comment"].log
    planned = pipelines.branch("web")["reconcile-plan"]
    assert (planned.result, gitlab.requests) == ("success", []), planned.log
    assert "no tracking issue is kept" in planned.log


def test_a_person_who_quotes_the_marker_keeps_their_note_and_notes_of_the_system_are_passed_over(pipelines, gitlab):
    quoted = {"id": 1, "of": ("merge_requests", 7), "author": {"id": 5}, "body": "<!-- certfleet:plan -->\nlook"}
    gitlab.notes += [quoted, {**quoted, "id": 2, "author": {"id": OWN_ID}, "system": True}]
    comment(gitlab)
    assert [note["body"].splitlines()[1] for note in gitlab.notes[:2]] == ["look", "look"]
    assert len(gitlab.notes) == 3
    before = len(gitlab.requests)
    comment(gitlab)
    assert [request[0] for request in gitlab.requests[before:]] == ["GET", "GET"], "an unchanged text is not sent again"


FAULTS = {
    "a token that may not": (403, "project access token with the scope api"),
    "a project that the token does not see": (404, "project access token with the scope api"),
    "a request that is wrong": (422, "Run the job again"),
}


@pytest.mark.parametrize(("status", "remedy"), FAULTS.values(), ids=FAULTS.keys())
def test_every_refusal_says_what_to_do_and_keeps_the_token_to_itself(gitlab, capsys, status, remedy):
    gitlab.fail_with = [status]
    assert comment(gitlab) == 1
    said = capsys.readouterr().err
    assert f"GitLab answered {status} to GET" in said
    assert remedy in said
    assert "glpat-secret" not in said


def test_a_gitlab_that_cannot_be_reached_or_does_not_speak_json_is_named(gitlab, capsys, monkeypatch):
    monkeypatch.setattr("controller.forge.transport.ATTEMPTS", 1)
    monkeypatch.setattr("workflows_gitlab.json.dumps", lambda _value: "<html>a proxy</html>")
    assert comment(gitlab) == 1
    assert "is not JSON: <html>a proxy</html>" in capsys.readouterr().err
    assert main(["comment", "--body", __file__], {**environment(gitlab), "CI_API_V4_URL": "http://127.0.0.1:9"}) == 1
    assert "GitLab cannot be reached" in capsys.readouterr().err


def test_outside_of_a_pipeline_and_without_an_earlier_jobs_file_the_remedy_is_said(gitlab, capsys, tmp_path):
    assert main(["comment", "--body", __file__], {}) == 1
    assert "CI_MERGE_REQUEST_IID is not set" in capsys.readouterr().err
    assert main(["comment", "--body", str(tmp_path / "none")], environment(gitlab)) == 1
    assert "An earlier step must write it" in capsys.readouterr().err
    with pytest.raises(GitLabError, match="GitLab takes 1000000"):
        GitLab(gitlab.url, PROJECT_ID, "t").create_comment(1, "x" * 1_000_001)


def test_every_pipeline_passes_gitlabs_schema(tmp_path):
    merged = tmp_path / "whole.yml"
    merged.write_text(yaml.safe_dump({name: plain(spec) for name, spec in jobs_of_template().items()}))
    caller = tmp_path / ".gitlab-ci.yml"
    caller.write_text(CALLER)
    done = subprocess.run(
        ["check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", merged, caller],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_script_is_clean_and_no_job_hangs_for_ever(tmp_path):
    scripts = []
    for name, spec in jobs_of_template().items():
        assert re.fullmatch(r"\d+ minutes", spec["timeout"]), name
        scripts.append(tmp_path / f"{name}.sh")
        lines = [*spec["before_script"], *spec["script"], *spec.get("after_script", [])]
        scripts[-1].write_text("#!/bin/bash\n" + "\n".join(lines))
    done = subprocess.run(["shellcheck", "--severity=style", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_only_jobs_with_a_role_ask_for_a_token_and_only_the_default_branch_may_write():
    for name, spec in jobs_of_template().items():
        role = spec["variables"].get("CERTFLEET_ROLE_ARN")
        assert bool(role) == ("id_tokens" in spec), name
        if role not in {None, "$CERTFLEET_READ_ROLE_ARN"}:
            assert all("$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH" in rule["if"] for rule in spec["rules"]), name


def test_each_step_says_what_it_did_and_what_the_next_one_needs(gitlab, tmp_path, capsys, monkeypatch):
    plan = str(ROOT / "tests" / "cli" / "kept" / "9d10705" / "plan.json")
    assert main(["within", "--plan", plan], {}) == main(["reviews", "--plan", plan, "--resume", "line-a"], {}) == 0
    assert capsys.readouterr().out == "factory\nfactory --override resume=line-a\n"

    person = {"fleet": "factory", "needs_person": ["gw-1: no certificate"], "failing": []}
    attention = tmp_path / "needs-person.json"
    attention.write_text(json.dumps({"fleets": [person]}))
    issues = ["issues", "--attention", str(attention), "--failure", str(tmp_path / "none")]
    assert main(issues, environment(gitlab) | {"CI_JOB_URL": "https://gitlab.example/jobs/1"}) == 0
    [issue] = gitlab.issues
    assert (issue["labels"], issue["state"]) == ("certfleet", "opened")
    assert "gw-1: no certificate" in issue["description"]
    assert "[a job](https://gitlab.example/jobs/1)" in issue["description"]
    assert "issue of fleet factory: created" in capsys.readouterr().out
    attention.write_text(json.dumps({"fleets": []}))
    assert main(issues, environment(gitlab)) == 0
    assert gitlab.issues[0]["state"] == "closed", "no document names the fleet any more"
    assert main(issues, {}) == 0
    assert "no tracking issue is kept" in capsys.readouterr().out

    (tmp_path / "certfleet").write_text("#!/bin/sh\nexit 2\n")
    (tmp_path / "certfleet").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    report = tmp_path / "report.md"
    assert main(["run", "--report", str(report), "--title", "No plan", "--passes", "2", "--", "plan"], {}) == 0
    assert report.read_text().startswith("## ❌ No plan")
    assert main(["comment", "--body", __file__], {"CI_MERGE_REQUEST_IID": "7"}) == 0


def test_each_cell_of_the_table_of_features_is_a_test_or_not_available():
    page = (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \|$", page.partition("### Features and CI")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert len(rows) > 15
    folders = [ROOT / "tests" / name for name in ("workflows", "backend")]
    known = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("test_*.py"))
    for feature, *cells in rows[1:]:
        for cell in cells:
            named = re.match(r"`(test_\w+)`", cell)
            assert cell == "not available" or (named and f"def {named[1]}(" in known), f"{feature}: {cell}"


def jobs_of_template():
    return template({"project": "acme/certfleet", "commit": "c" * 40})


def status(world, thing):
    iot = world.client("iot")
    [principal] = iot.list_thing_principals(thingName=thing)["principals"]
    return iot.describe_certificate(certificateId=principal[-64:])["certificateDescription"]["status"]


def plain(value):
    return json.loads(json.dumps(value))


def log(jobs):
    return "".join(job.log for job in jobs.values())


def environment(gitlab):
    return {
        "CI_MERGE_REQUEST_IID": "7", "CI_API_V4_URL": gitlab.url, "CI_PROJECT_ID": PROJECT_ID,
        "CERTFLEET_GITLAB_TOKEN": "glpat-secret",
    }  # fmt: skip


def comment(gitlab):
    return main(["comment", "--body", __file__], environment(gitlab))
