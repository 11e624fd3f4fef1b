"""reconcile.yml and drift-report.yml, step by step, over devices that really rotate."""

import json
import sys
import time
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from shared_documents import QUARANTINE
from workflows_factory import (
    CALLERS,
    FLEET,
    FLEET_FILE,
    HEAL,
    READ,
    WRITE,
    certificates,
    documents,
    repository,
)
from workflows_github import REPOSITORY, GitHubStandIn

from backend.synth import TEMPLATE
from sandbox.aws.acmpca import PrivateCas
from sandbox.aws.errors import AwsError
from sandbox.world import World

SOUTH = """\
---
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: south}
spec: {account: "999999999999", region: eu-west-1}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(FLEET, tmp_path_factory.mktemp("world"))
    made.start()
    assert made.wait_until_online() == []
    yield made
    made.stop()


@pytest.fixture(scope="module")
def module_github():
    server = GitHubStandIn()
    server.tokens = {}
    yield server
    server.close()


@pytest.fixture
def github(module_github):
    module_github.issues.clear()
    module_github.comments.clear()
    module_github.requests.clear()
    return module_github


@pytest.fixture(scope="module")
def factory(world, module_github, tmp_path_factory):
    return repository(tmp_path_factory.mktemp("factory"), world, module_github)


@pytest.fixture
def reconcile(factory, github):
    """Pushes documents to main and runs the workflow."""

    def run(event_name="push", push=None, **inputs):
        sha = factory.origin.push(push if push is not None else documents())
        given = {"fleet": "", "dry-run": False, "resume": "", **inputs} if event_name == "workflow_dispatch" else {}
        return factory.run("reconcile.yml", event_name, sha=sha, inputs=given)

    yield run
    factory.before, factory.approves = {}, {"certfleet", "certfleet-release"}


def results(jobs):
    return {name: job.result for name, job in jobs.items()}


def test_a_push_to_main_is_planned_by_who_reads_and_applied_by_who_may(reconcile, factory, github, world):
    before = certificates(world, "line-a")

    jobs = reconcile(push=documents(line_a={"max_age": "90d"}))

    assert results(jobs) == {
        "plan": "success",
        "apply (factory)": "success",
        "override": "skipped",
        "bundle": "skipped",
    }, jobs["plan"].log + jobs["apply (factory)"].log
    assert (jobs["plan"].roles, jobs["plan"].environment) == ([READ], None)
    assert (jobs["apply (factory)"].roles, jobs["apply (factory)"].environment) == ([WRITE], "certfleet")
    assert "3 devices rotate" in jobs["plan"].summary
    assert "## ✅ factory: 1 job made · 3 devices rotated" in jobs["apply (factory)"].summary
    after = certificates(world, "line-a")
    assert [thing for thing in before if before[thing] == after[thing]] == []
    plan = json.loads((factory.artifacts["plan"] / "plan.json").read_text())
    assert {device["name"] for job in plan["jobs"] for device in job["devices"]} == set(before)
    assert github.issues == []


def test_a_repository_of_documents_calls_the_workflow_with_what_a_person_chose(factory, github, world):
    before, sha = certificates(world, "line-a"), factory.origin.push(documents(line_a={"max_age": "1h"}))
    chosen = {"fleet": "factory", "resume": "", "dry-run": True}

    tried = factory.call(CALLERS["reconcile.yml"], "workflow_dispatch", sha=sha, inputs=chosen)
    assert results(tried) == {"plan": "success", "apply": "skipped", "override": "skipped", "bundle": "skipped"}
    assert certificates(world, "line-a") == before

    by_the_hour = factory.call(CALLERS["reconcile.yml"], "schedule", sha=sha)
    assert results(by_the_hour)["plan"] == "success", by_the_hour["plan"].log
    assert results(by_the_hour)["apply (factory)"] == "success", "a dry-run that is the text false is none"
    assert factory.call(CALLERS["drift-report.yml"], "schedule", sha=sha)["report"].result == "success"


@pytest.mark.parametrize("name", ["pull-request.yml", "reconcile.yml", "drift-report.yml", "heal.yml"])
def test_a_repository_of_documents_needs_ten_lines(name):
    assert len(CALLERS[name].splitlines()) <= 10


OWN_WORKFLOW = """\
name: mine
jobs:
  mine:
    runs-on: ubuntu-24.04
    permissions: {contents: read, id-token: write}
    steps:
      - uses: actions/checkout@v5
        with: {persist-credentials: false}
      - uses: acme/certfleet/.github/actions/install@v1.2.3
        with: {role: "${{ vars.CERTFLEET_READ_ROLE_ARN }}", region: eu-west-1, command: COMMAND, PASSES arguments: ARGS}
"""
COMMANDS = {
    "validate": ("--format github", "", "The desired state is valid"),
    "plan": ("--plan plan.json", "passes: 2,", "devices in sync"),
    "drift": ("--format json --output drift.json", "passes: 2,", "devices in sync"),
    "heal": ("--format json --output heal.json", "passes: 2,", "factory"),
    "bundle": ("--ref HEAD --repository github.com/acme/fleet --output fleet.bundle", "", ""),
}


@pytest.mark.parametrize(("command", "given", "passes", "summary"), [(c, *of) for c, of in COMMANDS.items()])
def test_the_action_runs_a_command_in_a_workflow_of_ones_own(factory, world, command, given, passes, summary):
    text = OWN_WORKFLOW.replace("COMMAND", command).replace("PASSES", passes).replace("ARGS", json.dumps(given))
    job = factory.run(text, "push", sha=factory.origin.push(documents()))["mine"]
    assert (job.result, job.roles) == ("success", [READ]), job.log
    assert summary in job.summary


def test_the_action_names_the_commands_that_there_are(factory):
    text = OWN_WORKFLOW.replace("COMMAND", "destroy").replace("PASSES", "").replace("ARGS", "none")
    job = factory.run(text, "push", sha=factory.origin.push(documents()))["mine"]
    assert job.result == "failure"
    assert "the command is 'destroy'; there are validate, plan, apply, drift, heal, bundle" in job.log


def test_a_fleet_in_sync_stays_as_it_is_and_what_is_governed_is_recorded(reconcile, world):
    jobs = reconcile("schedule")
    assert results(jobs)["apply (factory)"] == "success"
    assert "nothing to do" in jobs["apply (factory)"].summary
    attributes = world.client("iot").describe_thing_group(thingGroupName="cf-governed")
    assert "presses" in json.dumps(attributes["thingGroupProperties"], default=str)


def test_a_refused_plan_waits_for_a_reviewer_who_sees_the_overrides_and_gets_exactly_that_plan(
    reconcile, factory, github, world
):
    before, tight = certificates(world, "presses"), documents(presses={"max_age": "15d"})

    asked = reconcile(push=tight)

    assert results(asked) == {
        "plan": "success",
        "apply": "skipped",
        "override (factory)": "waiting",
        "bundle": "skipped",
    }, asked["plan"].log
    override = asked["override (factory)"]
    assert override.environment == "certfleet-override"
    assert override.name == "override factory: --override maxChangePercent=80 --override maxChangePercent=58"
    assert "80 % of 10 at once; 30 % are allowed" in asked["plan"].summary
    assert "`certfleet apply --wait --override maxChangePercent=80`" in asked["plan"].summary, "it lifts both"
    assert "The job override waits for a reviewer of certfleet-override" in asked["plan"].summary
    assert "::error file=desired_state/factory/all.yaml" in asked["plan"].log
    assert certificates(world, "presses") == before
    [issue] = github.issues
    assert "80 % of 10 at once" in issue["body"]
    assert "It plans anew and asks a reviewer of `certfleet-override`." in issue["body"]

    silent = reconcile("schedule", push=tight)
    assert results(silent)["override"] == "skipped", "an hourly run asks nobody"
    assert "Nobody is asked in this run.** Start it by hand" in silent["plan"].summary
    assert issue["state"] == "open"

    factory.approves.add("certfleet-override")
    factory.unprotected.add("certfleet-override")
    unasked = reconcile("workflow_dispatch", push=tight)
    factory.unprotected.discard("certfleet-override")
    assert results(unasked)["override (factory)"] == "failure", "no environment asks anybody until somebody sets it up"
    assert "the environment certfleet-override has no required reviewers" in unasked["override (factory)"].log
    assert certificates(world, "presses") == before
    assert any("must approve" in issue["body"] for issue in github.issues)

    allowed = reconcile("workflow_dispatch", push=tight)

    assert results(allowed)["override (factory)"] == "success", allowed["override (factory)"].log
    assert allowed["override (factory)"].roles == [WRITE]
    assert "8 devices rotated" in allowed["override (factory)"].summary
    after = certificates(world, "presses")
    assert sum(before[thing] != after[thing] for thing in before) == 8
    assert issue["state"] == "closed"


def test_a_plan_is_not_applied_once_main_has_moved_on(reconcile, factory, github, world):
    before = certificates(world, "presses")
    factory.approves.add("certfleet-override")
    factory.before["override"] = lambda: factory.origin.push({"README.md": "moved"})

    jobs = reconcile(push=documents(presses={"key_type": "RSA-2048"}))

    assert results(jobs)["override (factory)"] == "failure"
    assert "plan again" in jobs["override (factory)"].summary
    assert certificates(world, "presses") == before
    assert "the plan was made from commit" in github.issues[0]["body"]


def test_a_run_that_is_started_again_applies_main_and_never_its_own_old_commit(reconcile, factory, world):
    old = factory.origin.push(documents(line_a={"key_type": "RSA-2048"}))
    new = factory.origin.push(documents())
    before = certificates(world, "line-a")

    jobs = factory.run("reconcile.yml", "push", sha=old)

    assert results(jobs)["apply (factory)"] == "success", jobs["apply (factory)"].log
    assert json.loads((factory.artifacts["plan"] / "plan.json").read_text())["commit"] == new
    assert certificates(world, "line-a") == before


def test_what_main_says_by_then_is_applied_where_it_moved_on_after_the_plan(reconcile, factory, world):
    before = certificates(world, "line-a")
    factory.before["apply"] = lambda: factory.origin.push(documents())

    jobs = reconcile(push=documents(line_a={"key_type": "RSA-2048"}))

    assert results(jobs)["apply (factory)"] == "success", jobs["apply (factory)"].log
    assert "3 devices rotate" in jobs["plan"].summary
    assert "nothing to do" in jobs["apply (factory)"].summary
    assert certificates(world, "line-a") == before


def test_what_was_read_before_a_failure_is_kept_for_the_next_run(reconcile, factory):
    before = len(list(factory.caches.iterdir()))
    wrong = {FLEET_FILE: documents()[FLEET_FILE].replace('"123456789012"', '"210987654321"')}
    jobs = reconcile("schedule", push=documents() | wrong)
    assert results(jobs)["plan"] == "failure"
    assert jobs["plan"].steps["Keep what is known, however far this run came"] == "success"
    assert len(list(factory.caches.iterdir())) > before


def test_the_alarm_of_the_backend_hears_each_run_that_looked_at_all_fleets(reconcile, factory):
    [bin_folder] = factory.extra_path
    told, deaf = bin_folder / "aws.told", bin_folder / "aws.deaf"
    told.unlink(missing_ok=True)
    for inputs in ({"dry-run": True}, {"fleet": "factory"}):
        assert results(reconcile("workflow_dispatch", **inputs))["plan"] == "success"
    assert not told.exists(), "others do not stand in for the loop"

    reconcile("schedule")
    words = told.read_text().split()
    [alarm] = [
        resource["Properties"]
        for resource in json.loads(TEMPLATE.read_text())["Resources"].values()
        if resource["Properties"].get("AlarmName", "").endswith("LoopSilent")
    ]
    assert words[words.index("--namespace") + 1] == alarm["Namespace"]
    assert words[words.index("--metric-name") + 1] == alarm["MetricName"]
    assert [dimension["Name"] for dimension in alarm["Dimensions"]] == ["Repository"]
    assert words[words.index("--dimensions") + 1] == f"Repository={REPOSITORY}"
    assert (alarm["TreatMissingData"], alarm["Period"]) == ("breaching", 6 * 3600)

    deaf.touch()
    try:
        jobs = reconcile("schedule")
    finally:
        deaf.unlink()
    assert results(jobs)["plan"] == "success", "a backend of before is no reason to stop"
    assert "::warning title=certfleet::Nobody hears it when this loop ends" in jobs["plan"].log


def test_a_dry_run_plans_and_touches_nothing(reconcile, github, world):
    before = certificates(world, "line-a")
    jobs = reconcile(
        "workflow_dispatch", documents(line_a={"key_type": "RSA-2048"}), **{"dry-run": True, "fleet": "factory"}
    )
    assert results(jobs) == {"plan": "success", "apply": "skipped", "override": "skipped", "bundle": "skipped"}
    assert "3 devices rotate" in jobs["plan"].summary
    assert certificates(world, "line-a") == before
    assert github.requests == []


def test_failed_rotations_open_the_issue_and_it_closes_when_they_are_solved(reconcile, github, monkeypatch):
    def refuse(_cas, _request):
        raise AwsError("LimitExceededException", "the CA has issued a million certificates")

    monkeypatch.setattr(PrivateCas, "issue_certificate", refuse)
    failing = reconcile(push=documents(bench={"authority": "plant-ca"}))

    assert results(failing)["apply (factory)"] == "failure", failing["plan"].log
    [issue] = github.issues
    assert issue["title"] == "certfleet: fleet factory needs a person"
    assert "### Failed, and tried again\n\n- bench-001: FAILED" in issue["body"]
    assert "bench-001" in failing["apply (factory)"].summary

    again = reconcile("schedule", push=documents(bench={"authority": "plant-ca"}))
    assert results(again)["apply (factory)"] == "success", "it waits before it tries again"
    assert issue["state"] == "open"

    solved = reconcile()
    assert results(solved)["apply (factory)"] == "success"
    assert issue["state"] == "closed"
    assert "Nothing in fleet **factory** needs a person any more." in github.comments[-1]["body"]


def test_one_fleet_that_fails_does_not_stop_the_other_and_has_an_issue_of_its_own(reconcile, github):
    jobs = reconcile(push=documents() | {"desired_state/south/all.yaml": SOUTH.removeprefix("---\n")})

    assert results(jobs)["plan"] == "failure"
    assert results(jobs)["apply (factory)"] == "success", jobs["plan"].log
    assert [issue["title"] for issue in github.issues] == ["certfleet: fleet south needs a person"]
    assert "999999999999" in github.issues[0]["body"]
    assert results(reconcile(push=documents() | {"desired_state/south/all.yaml": None}))["plan"] == "success"


def test_documents_that_do_not_hold_any_more_have_an_issue_until_they_do(reconcile, github):
    wrong = {FLEET_FILE: documents()[FLEET_FILE].replace("authority: aws-iot", "authority: gone")}
    jobs = reconcile("schedule", push=wrong)
    assert results(jobs) == {"plan": "failure", "apply": "skipped", "override": "skipped", "bundle": "skipped"}
    [issue] = github.issues
    assert issue["title"] == "certfleet: the desired state cannot be reconciled"
    assert "found 'gone'; allowed: aws-iot, plant-ca" in issue["body"]
    reconcile("schedule")
    assert issue["state"] == "closed"


def test_the_bundle_is_published_where_the_repository_says(reconcile, factory, world):
    s3 = world.client("s3")
    s3.create_bucket(Bucket="bundles", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    factory.variables["CERTFLEET_BUNDLE_URL"] = "s3://bundles/desired-state.bundle"
    try:
        jobs = reconcile()
    finally:
        del factory.variables["CERTFLEET_BUNDLE_URL"]

    assert results(jobs)["bundle"] == "success", jobs["bundle"].log
    bundle = s3.get_object(Bucket="bundles", Key="desired-state.bundle")["Body"].read()
    assert b"github.com/acme/fleet" in bundle
    assert (jobs["bundle"].environment, jobs["bundle"].roles) == ("certfleet", [WRITE])


@pytest.fixture
def report(factory, github):
    def run():
        sha = factory.origin.push(documents(line_a={"key_type": "RSA-2048"}))
        jobs = factory.run("drift-report.yml", "schedule", sha=sha)
        assert results(jobs)["report"] == "success", jobs["report"].log
        return jobs

    return run


def test_the_drift_report_is_kept_in_every_format_with_the_trend(report, factory, github):
    jobs = report()

    assert (jobs["report"].roles, jobs["code-scanning"].result) == ([READ], "skipped")
    kept = {path.name: path for path in factory.artifacts["drift-report"].iterdir()}
    assert set(kept) == {
        "drift.html", "drift.json", "drift.md", "drift.sarif", "drift.junit.xml", "needs-person.json",
    }  # fmt: skip
    assert all("line-a-001" in path.read_text() for name, path in kept.items() if name.startswith("drift."))
    assert jobs["report"].summary == kept["drift.md"].read_text()
    assert github.issues == [], "drift that the next run mends needs nobody"
    records = {f"factory/{path.name}": path.read_text() for path in factory.artifacts["drift-history"].rglob("*.json")}
    assert len(records) == 1

    older = {"factory/20200101T000000Z.json": next(iter(records.values()))}
    github.add_artifact("drift-history", older | records)
    factory.variables["CERTFLEET_UPLOAD_SARIF"] = "true"
    jobs = report()
    del factory.variables["CERTFLEET_UPLOAD_SARIF"]
    assert jobs["code-scanning"].alerts > 0
    remembered = {f"factory/{path.name}" for path in factory.artifacts["drift-history"].rglob("*.json")}
    assert remembered >= older.keys() | records.keys()  # this run's has the name of its second, which may be the same


def test_the_trend_may_be_kept_in_s3_instead(report, factory, world):
    s3 = world.client("s3")
    s3.create_bucket(Bucket="trend", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    factory.variables["CERTFLEET_HISTORY"] = "s3://trend/fleets"
    try:
        jobs = report()
    finally:
        del factory.variables["CERTFLEET_HISTORY"]
    assert jobs["report"].steps["The trend so far"] == "skipped"
    assert "drift-history" not in factory.artifacts
    [kept] = s3.list_objects_v2(Bucket="trend")["Contents"]
    assert kept["Key"].startswith("fleets/factory/20")


def test_the_drift_report_opens_the_issue_where_a_person_is_needed(report, github, world):
    world.cloud.seed.thing("nobody", ["bench"])
    try:
        report()
    finally:
        world.client("iot").delete_thing(thingName="nobody")
    [issue] = github.issues
    assert "- nobody: " in issue["body"]


DAILY = {"schedule": "11 4 * * *"}


def test_the_registry_is_healed_by_the_plan_that_a_reviewer_has_approved_and_no_other(factory, github, world):
    sha = factory.origin.push(documents())
    spare = world.cloud.seed.certificate(
        ec.generate_private_key(ec.SECP256R1()).public_key(), not_before=world.cloud.now()
    )
    world.cloud.seed.attach("bench-001", spare.certificate_id, exclusive=False)

    asked = factory.call(CALLERS["heal.yml"], "schedule", sha=sha)

    assert results(asked) == {"plan": "success", "apply (factory)": "waiting"}, asked["plan"].log
    assert (asked["plan"].roles, asked["apply (factory)"].environment) == ([READ], "certfleet-heal")
    assert "factory: 2 actions to heal the registry" in asked["plan"].summary
    [issue] = github.issues
    assert issue["body"].startswith("<!-- certfleet:healing -->\n## factory: 2 actions")
    assert spare.certificate_id[:12] in issue["body"]

    daily = factory.call(CALLERS["heal.yml"], "schedule", sha=sha, event=DAILY)
    assert results(daily) == {"plan": "success", "apply": "skipped"}, "each day only quarantines are looked at"
    assert issue["state"] == "open", "and the week's plan stands"

    factory.approves.add("certfleet-heal")
    healed = factory.run("heal.yml", "workflow_dispatch", sha=sha)
    assert results(healed) == {"plan": "success", "apply (factory)": "success"}, healed["apply (factory)"].log
    assert healed["apply (factory)"].roles == [HEAL]
    assert "factory: 2 of 2 actions done" in healed["apply (factory)"].summary
    [comment] = github.comments
    assert f"watch {spare.certificate_id[:12]} bench-001" in comment["body"]

    quiet = factory.run("heal.yml", "schedule", sha=sha)
    assert results(quiet) == {"plan": "success", "apply": "skipped"}
    assert issue["state"] == "closed"


def test_a_merge_cuts_a_device_off_once_a_reviewer_has_approved_it_and_a_revert_brings_it_back(factory, world, capsys):
    iot = world.client("iot")

    def status():
        held = iot.list_thing_principals_v2(thingName="bench-001")["thingPrincipalObjects"]
        told = (iot.describe_certificate(certificateId=one["principal"].rpartition("/")[2]) for one in held)
        return "".join({one["certificateDescription"]["status"] for one in told})

    def is_connected():
        return iot.get_thing_connectivity_data(thingName="bench-001")["connected"]

    factory.approves.discard("certfleet-heal")
    assert is_connected()
    merged, sha = time.monotonic(), factory.origin.push(documents(QUARANTINE % "bench-001"))
    asked = factory.call(CALLERS["heal.yml"], "push", sha=sha)
    assert results(asked) == {"plan": "success", "apply (factory)": "waiting"}, asked["plan"].log
    assert "quarantine" in asked["plan"].summary
    assert (status(), is_connected()) == ("ACTIVE", True)

    factory.approves.add("certfleet-heal")
    cut_off = factory.run("heal.yml", "schedule", sha=sha, event=DAILY)  # the run of the push was lost
    assert results(cut_off) == {"plan": "success", "apply (factory)": "success"}, cut_off["apply (factory)"].log
    assert cut_off["apply (factory)"].roles == [HEAL]
    assert (status(), is_connected()) == ("INACTIVE", False)
    with capsys.disabled():
        sys.stdout.write(f"\nfrom merge to refused connection, planned twice: {time.monotonic() - merged:.1f} s\n")

    quiet = factory.run("heal.yml", "push", sha=sha)
    assert results(quiet) == {"plan": "success", "apply": "skipped"}

    back = factory.run("heal.yml", "push", sha=factory.origin.push(documents()))
    assert results(back)["apply (factory)"] == "success", back["apply (factory)"].log
    assert status() == "ACTIVE"
    until = time.monotonic() + 120
    while not is_connected() and time.monotonic() < until:
        world.cloud.site.clock.advance(timedelta(seconds=30))
        time.sleep(0.1)
    assert is_connected()
