"""GitHub's own parser and expression engine judge the workflows, and the stand-in that other tests run them with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from workflows_expressions import INSERTED, evaluate
from workflows_factory import CALLERS

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
JUDGE = Path(__file__).with_name("github") / "judge.mjs"
CONDITION = re.compile(r"^\s*(?:- )?if: (?:>-\n)?((?:.+\n)(?:^ {6,}(?:&&|\|\|).*\n)*)", re.MULTILINE)

PULL_REQUEST = {"number": 7, "base": {"sha": "b0"}, "head": {"sha": "a1", "repo": {"full_name": "acme/fleet"}}}
EVENTS = {
    "a pull request": ("pull_request", {"pull_request": PULL_REQUEST}),
    "a fork's": (
        "pull_request",
        {"pull_request": {**PULL_REQUEST, "head": {"sha": "a1", "repo": {"full_name": "x/y"}}}},
    ),
    "a merge queue": ("merge_group", {"merge_group": {"base_sha": "b0", "head_sha": "a1"}}),
    "a push": ("push", {}),
    "an hour": ("schedule", {"schedule": "17 * * * *"}),
    "a day": ("schedule", {"schedule": "11 4 * * *"}),
    "a person": ("workflow_dispatch", {"inputs": {}}),
}


def judged(workflows=None, expressions=()):
    assert shutil.which("node"), "run tools/install-test-tools"
    given = json.dumps({"workflows": workflows or {}, "expressions": list(expressions)})
    done = subprocess.run(["node", JUDGE], input=given, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_github_has_nothing_to_say_against_any_workflow():
    texts = {path.name: path.read_text(encoding="utf-8") for path in WORKFLOWS}
    callers = {f"documents/{name}": text for name, text in CALLERS.items()}
    found = judged(texts | callers)["workflows"]
    assert len(found) == len(WORKFLOWS) + len(CALLERS)
    assert {name: faults for name, faults in found.items() if faults} == {}


MISTAKES = {
    "a key that is none": ("    runs-on: ubuntu-24.04\n", "    runs-on: ubuntu-24.04\n    timeout: 5\n"),
    "an expression that is none": ("${{ github.token }}", "${{ github.token || }}"),
    "a context that is none": ("${{ github.token }}", "${{ gihtub.token }}"),
    "a job that needs one that is none": ("    needs: plan\n", "    needs: plna\n"),
}


@pytest.mark.parametrize(("right", "wrong"), MISTAKES.values(), ids=MISTAKES)
def test_github_sees_a_mistake(right, wrong):
    text = (ROOT / ".github" / "workflows" / "reconcile.yml").read_text(encoding="utf-8")
    assert right in text
    assert judged({"reconcile.yml": text.replace(right, wrong, 1)})["workflows"]["reconcile.yml"]


def contexts(event_name, event):
    """What a job sees in a run of this event; jobs before it succeeded, with a plan for one fleet and a question."""
    outputs = {
        "apply": '["factory"]',
        "heal": '[{"fleet": "factory", "overrides": ""}]',
        "review": "[]",
        "only": "",
        "changed": "true",
        "exit-code": "0",
        "commit": "c0ffee",
        "base": "b0",
    }
    done = {"result": "success", "outputs": outputs}
    return {
        "github": {
            "event_name": event_name, "event": event, "ref": "refs/heads/main", "repository": "acme/fleet",
            "token": "t", "run_id": "1", "run_attempt": "1", "server_url": "https://github.com", "sha": "a1",
        },
        "inputs": {"fleet": "", "dry-run": False, "resume": ""} if event_name == "workflow_dispatch" else {},
        "needs": dict.fromkeys(("plan", "validate", "report", "build"), done),
        "job": {"status": "success", "workflow_repository": "acme/certfleet"},
        "steps": {"plan": done, "fetch": done, "compare": done},
        "matrix": {
            "fleet": "factory", "heal": {"fleet": "factory", "overrides": ""},
            "review": {"fleet": "factory", "overrides": "--override a=1"}, "python": "3.11",
        },
        "vars": {"AWS_REGION": "eu-west-1", "CERTFLEET_HISTORY": "", "CERTFLEET_UPLOAD_SARIF": "true"},
    }  # fmt: skip


def expressions():
    """Every expression of our workflows, once."""
    found = set()
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        found |= {each.strip() for each in INSERTED.findall(text)}
        conditions = (" ".join(each.split()).strip('"') for each in CONDITION.findall(text))
        found |= {each for each in conditions if not each.startswith("${{")}
    return sorted(found)


def test_the_stand_in_evaluates_every_expression_of_ours_as_github_does():
    """With jobs before that succeeded, that failed, and in a run that was cancelled."""
    cases = []
    for event in EVENTS.values():
        for ended in ("success", "failure", "cancelled"):
            status = {name: name in (ended, "always") for name in ("success", "failure", "always", "cancelled")}
            cases += [(text, contexts(*event), status) for text in expressions()]
    assert len(cases) > 400
    theirs = judged(expressions=cases)["values"]
    ours = [evaluate(text, given, {n: lambda v=v: v for n, v in status.items()}) for text, given, status in cases]
    different = [(case[0], mine, his) for case, mine, his in zip(cases, ours, theirs, strict=True) if mine != his]
    assert different == []
