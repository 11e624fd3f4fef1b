"""pull-request.yml, step by step, over a fleet whose clock stands still: what a reviewer sees is kept in golden/.

To renew the golden files after a change of wording, run this file with GOLDEN=write in the environment;
then read them.
"""

import re
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from shared_golden import assert_golden
from workflows_factory import CALLERS
from workflows_github import GitHubStandIn
from workflows_origin import Origin
from workflows_runner import Runner

from sandbox.clock import SandboxClock
from sandbox.fleet_file import SandboxFleet
from sandbox.world import World

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 12, 1, 14, 0, tzinfo=UTC)
CA_ARN = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
FLEET = f"""
authorities: [{{name: plant-ca, arn: "{CA_ARN}"}}]
groups: [{{name: line-a}}, {{name: presses}}, {{name: bench}}]
devices:
  - {{prefix: line-a-old-, count: 8, groups: [line-a], age: 120d, keyType: ECDSA-P256, online: false}}
  - {{prefix: line-a-, count: 32, groups: [line-a], age: 10d, keyType: ECDSA-P256, online: false}}
  - {{prefix: press-, count: 8, groups: [presses], age: 60d, keyType: ECDSA-P256, online: false}}
  - {{prefix: press-new-, count: 6, groups: [presses], age: 5d, keyType: ECDSA-P256, online: false}}
  - {{prefix: bench-, count: 6, groups: [bench], age: 20d, keyType: ECDSA-P256, online: false}}
"""
FLEET_FILE, POLICIES = "desired_state/factory/fleet.yaml", "desired_state/factory/policies.yaml"
DOCUMENTS = {
    FLEET_FILE: f"""\
apiVersion: certfleet/v1
kind: Fleet
metadata: {{name: factory}}
spec:
  account: "123456789012"
  region: eu-west-1
  guardrails: {{maxChangePercent: 30, minExisting: 10}}
---
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {{name: plant-ca}}
spec: {{type: PrivateCA, arn: "{CA_ARN}", signingAlgorithm: SHA256WITHECDSA, validity: 365d}}
""",
    POLICIES: """\
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a-gateways}
spec:
  thingGroup: line-a
  certificate: {maxAge: 180d, keyType: ECDSA-P256, authority: aws-iot}
  schedule: {jitterPercent: 0, windows: [{cron: "0 2 * * *", timezone: Europe/London, duration: 4h, kind: allow}]}
  rollout: {waves: ["1", "10%", "100%"], soak: 24h}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: presses}
spec:
  thingGroup: presses
  certificate: {maxAge: 90d, authority: aws-iot}
  schedule: {jitterPercent: 0}
  rollout: {waves: ["100%"], soak: 1h}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: test-bench}
spec:
  thingGroup: bench
  certificate: {maxAge: 365d, authority: aws-iot}
  schedule: {jitterPercent: 0}
  rollout: {waves: ["1", "100%"], soak: 1h}
""",
}
THREE_MISTAKES = (
    ("maxAge: 180d", "maxAge: 180"),
    ("maxAge: 90d, authority: aws-iot", "maxAge: 90d, authority: plant"),
    ("maxAge: 365d, authority", "maxAge: 365d, renewbefore: 30d, authority"),
)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """A world in which it is always NOW, and nobody is connected."""
    fleet = SandboxFleet.model_validate(yaml.safe_load(FLEET))
    world = World(fleet, tmp_path_factory.mktemp("world"), SandboxClock(frozen_at=NOW))
    world.start()
    yield world
    world.stop()


@pytest.fixture
def github():
    server = GitHubStandIn()
    server.tokens = {}
    yield server
    server.close()


@pytest.fixture
def origin(tmp_path):
    return Origin(tmp_path / "origin", DOCUMENTS)


@pytest.fixture
def runner(tmp_path, origin, github, cloud):
    """Every ``certfleet`` of the workflow runs as of NOW."""
    shim = tmp_path / "bin" / "certfleet"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {Runner.commands}/certfleet "$@" --now {NOW.isoformat()}\n')
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    made = Runner(tmp_path, origin, github, cloud.environment())
    made.variables = {"CERTFLEET_READ_ROLE_ARN": "arn:aws:iam::123456789012:role/read", "AWS_REGION": "eu-west-1"}
    made.extra_path = [shim.parent]
    return made


@pytest.fixture
def propose(runner, origin):
    """Opens a pull request with replacements in the policies (old, new), and runs the workflow on it."""

    def run(*changes, path=POLICIES, fork=False):
        merge, event = origin.pull_request({path: replaced(DOCUMENTS[path], *changes)}, fork=fork)
        return runner.run("pull-request.yml", "pull_request", sha=merge, ref="refs/pull/1/merge", event=event)

    return run


def replaced(text, *changes):
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


def test_a_tighter_max_age(propose, github):
    jobs = propose(("maxAge: 180d", "maxAge: 90d"))

    assert {name: job.result for name, job in jobs.items()} == dict.fromkeys(jobs, "success"), jobs["validate"].log
    assert jobs["plan"].outputs == {"exit-code": "2", "newly-due": "8", "refused": "false"}
    assert jobs["plan"].roles == ["arn:aws:iam::123456789012:role/read"]
    [comment] = github.comments
    assert_golden(GOLDEN / "tighter-max-age.md", comment["body"])
    assert comment["body"].endswith(jobs["plan"].summary)
    assert f"::notice file={POLICIES},line=6," in jobs["plan"].log


def test_a_repository_of_documents_gets_the_same_comment_from_the_workflow_that_it_calls(runner, origin, github):
    changed = replaced(DOCUMENTS[POLICIES], ("maxAge: 180d", "maxAge: 90d"))
    merge, event = origin.pull_request({POLICIES: changed})
    jobs = runner.call(CALLERS["pull-request.yml"], "pull_request", sha=merge, ref="refs/pull/1/merge", event=event)
    assert {name: job.result for name, job in jobs.items()} == dict.fromkeys(jobs, "success"), jobs["validate"].log
    assert jobs["plan"].steps["$/.github/actions/install"] == "success"
    assert jobs["plan"].steps["./.github/actions/install"] == "skipped", "which it has not"
    assert_golden(GOLDEN / "tighter-max-age.md", github.comments[0]["body"])


def test_another_authority(propose, github):
    jobs = propose(("365d, authority: aws-iot", "365d, authority: plant-ca"))

    assert jobs["plan"].result == "success", jobs["plan"].log
    [comment] = github.comments
    assert_golden(GOLDEN / "another-authority.md", comment["body"])


def test_three_mistakes(propose, github):
    jobs = propose(*THREE_MISTAKES)

    assert jobs["validate"].result == "failure"
    assert jobs["plan"].result == "skipped"
    annotations = [line for line in jobs["validate"].log.splitlines() if line.startswith("::error")]
    assert_golden(GOLDEN / "three-mistakes.annotations.txt", "\n".join(annotations) + "\n")
    assert [line.partition(",col=")[0] for line in annotations] == [
        f"::error file={POLICIES},line={line}" for line in (6, 15, 24)
    ]
    [comment] = github.comments
    assert_golden(GOLDEN / "three-mistakes.md", comment["body"])
    assert comment["body"].endswith(jobs["validate"].summary)


def test_most_of_a_fleet_at_once(propose, github):
    jobs = propose(
        ("maxAge: 180d", "maxAge: 9d"),
        ('waves: ["1", "10%", "100%"]', 'waves: ["100%"]'),
        ("maxAge: 90d", "maxAge: 30d"),
    )

    assert jobs["plan"].result == "failure"
    assert jobs["plan"].outputs == {"exit-code": "3", "newly-due": "48", "refused": "true"}
    assert jobs["comment"].result == "success"
    [comment] = github.comments
    assert_golden(GOLDEN / "most-of-a-fleet.md", comment["body"])
    assert "80 % of 60 at once; 30 % are allowed" in comment["body"], "though the windows of most are closed now"
    for place in (f"{FLEET_FILE},line=1,", f"{POLICIES},line=1,", f"{POLICIES},line=10,"):
        assert f"::error file={place}" in jobs["plan"].log


def test_a_second_push_replaces_the_comment_of_the_first(propose, github):
    propose(("maxAge: 180d", "maxAge: 90d"))
    number = github.comments[0]["id"]
    jobs = propose()
    assert jobs["plan"].result == "skipped", "it is as it was"
    [comment] = github.comments
    assert comment["body"].endswith("no device rotates because of this pull request\n")
    jobs = propose(*THREE_MISTAKES)
    assert [comment["id"] for comment in github.comments] == [number]
    assert "3 mistakes" in github.comments[0]["body"]


def test_a_fork_is_validated_and_gets_neither_credentials_nor_a_comment(propose, github):
    jobs = propose(("maxAge: 180d", "maxAge: 90d"), fork=True)

    assert {name: job.result for name, job in jobs.items()} == {
        "validate": "success",
        "plan": "skipped",
        "comment": "skipped",
    }
    assert github.requests == []
    wrong = propose(*THREE_MISTAKES, fork=True)
    assert wrong["validate"].result == "failure"
    assert "3 mistakes" in wrong["validate"].summary
    assert github.requests == []


def test_a_merge_queue_gets_the_same_checks_of_what_it_would_make_of_main(runner, origin, github):
    merge, event = origin.pull_request({FLEET_FILE: DOCUMENTS[FLEET_FILE] + "# a comment\n"})
    queued = {"merge_group": {"base_sha": event["pull_request"]["base"]["sha"], "head_sha": merge}}
    queue = "refs/heads/gh-readonly-queue/main/pr-1"
    jobs = runner.run("pull-request.yml", "merge_group", sha=merge, ref=queue, event=queued)
    assert {name: job.result for name, job in jobs.items()} == {
        "validate": "success",
        "plan": "success",
        "comment": "skipped",
    }, jobs["validate"].log + jobs["plan"].log
    assert jobs["plan"].outputs["exit-code"] == "0"
    assert github.requests == []

    other, event = origin.pull_request({"README.md": "# Fleet\n"})
    queued = {"merge_group": {"base_sha": event["pull_request"]["base"]["sha"], "head_sha": other}}
    jobs = runner.run("pull-request.yml", "merge_group", sha=other, ref=queue, event=queued)
    assert [job.result for job in jobs.values()] == ["success", "skipped", "skipped"], "as the required checks want it"


def test_a_forge_that_runs_at_the_head_compares_every_commit_since_the_branch_began(runner, origin, github):
    """Gitea's server makes no merge to run at: a pull request's last commit alone once passed for the whole of it."""
    changed = replaced(DOCUMENTS[POLICIES], ("maxAge: 180d", "maxAge: 90d"))
    _merge, event = origin.pull_request({POLICIES: changed}, then={"README.md": "# Fleet\n"})
    head = event["pull_request"]["head"]["sha"]
    origin.push({FLEET_FILE: DOCUMENTS[FLEET_FILE] + "# main goes on\n"})
    jobs = runner.run("pull-request.yml", "pull_request", sha=head, ref="refs/pull/1/head", event=event)
    assert {name: job.result for name, job in jobs.items()} == dict.fromkeys(jobs, "success"), jobs["validate"].log
    assert jobs["plan"].outputs == {"exit-code": "2", "newly-due": "8", "refused": "false"}
    assert len(github.comments) == 1


def test_a_pull_request_to_something_else_passes_at_once(runner, origin, github):
    merge, event = origin.pull_request({"README.md": "# Fleet\n"})
    jobs = runner.run("pull-request.yml", "pull_request", sha=merge, ref="refs/pull/1/merge", event=event)
    assert [job.result for job in jobs.values()] == ["success", "skipped", "success"]
    assert jobs["validate"].steps["Validate"] == "skipped", "an expired waiver is not its fault"
    assert github.comments == []


def test_a_fleet_that_cannot_be_read_fails_the_check_and_says_why_in_the_comment(propose, github):
    jobs = propose(('account: "123456789012"', 'account: "210987654321"'), path=FLEET_FILE)

    assert jobs["plan"].result == "failure"
    body = github.comments[0]["body"]
    assert body.startswith("<!-- certfleet:plan -->\n## ❌ All fleets: 60 devices left to themselves\n")
    assert "### ❌ `factory` could not be read" in body
    assert "belong to account 123456789012" in body
    assert "### ⛔ factory: refused · 60 devices left to themselves" in body, "those of the account that it was"


def test_what_is_kept_in_golden_is_all_used():
    used = set(re.findall(r'assert_golden\(GOLDEN / "(.*?)"', Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in GOLDEN.iterdir()} == used
