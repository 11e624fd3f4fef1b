"""Runs our workflows here: the ``run:`` steps with bash, as GitHub's runner does, the ``uses:`` steps by stand-ins.

What stands in for what:

- checkout: a clone of the origin at the ref that the step names;
- setup-python, and steps whose name begins with "Install": nothing, the tests' environment is on PATH;
- our own actions: their steps, one by one;
- configure-aws-credentials: the environment of the sandbox, for the later steps of the job;
- cache, upload- and download-artifact: folders;
- what cannot run here is named by the test (``stand_ins``), step by step, and recorded as stood in for.

The token of a job may what the job's ``permissions`` say, and the stand-in for the REST API minds that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from workflows_expressions import evaluate, insert, is_true, shown
from workflows_github import REPOSITORY, REPOSITORY_ID

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
OWN = re.compile(r"^(?:[$.]|acme/certfleet)/(\.github/actions/[^@]+)")  # here, or as another repository names it


@dataclass
class Job:
    """What became of a job; ``log`` is what its steps printed, ``steps`` the result of each by name."""

    name: str
    result: str = "skipped"
    outputs: dict = field(default_factory=dict)
    summary: str = ""
    log: str = ""
    steps: dict = field(default_factory=dict)
    environment: str | None = None
    roles: list = field(default_factory=list)
    alerts: int = 0  # for code scanning


class Runner:
    """One repository on GitHub: its origin, its artifacts and caches, its variables."""

    commands: Path  # where steps find certfleet and python

    def __init__(self, folder, origin, github, aws, variables=None):
        """``aws`` is the environment that credentials give; ``github`` the stand-in for the REST API."""
        self.folder, self.origin, self.github, self.aws = Path(folder), origin, github, aws
        self.variables = variables or {}
        self.artifacts = {}  # of the last run: name → folder
        self.caches = self.folder / "caches"
        self.approves = {"certfleet", "certfleet-release"}  # environments without, or with willing reviewers
        self.unprotected = {"certfleet"}  # of these: such as have no reviewers, and those that nobody has set up
        self.stand_ins = {}  # name of a step that cannot run here → what happens instead, in the workspace
        self.extra_path = []  # folders before everything else on PATH
        self.environment = {}  # for every step
        self.before = {}  # id of a job → what happens just before it begins
        self.program = REPOSITORY  # the repository that the workflows are of
        self._number = 0

    def call(self, caller, event_name, **given):
        """Run the workflow that ``caller``, a workflow's text in a repository of documents, calls; as ``run``."""
        spec = yaml.safe_load(caller)
        [job] = spec["jobs"].values()
        self.program, _, name = job["uses"].partition("@")[0].partition("/.github/workflows/")
        inputs = given.pop("inputs", {})
        # As text, as Gitea's runner gives it; GitHub makes a boolean of it where the workflow declares one.
        inputs = {key: shown(insert(value, {"inputs": inputs}, {})) for key, value in job.get("with", {}).items()}
        called = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
        assert set(inputs) <= set((called[True]["workflow_call"] or {}).get("inputs", {}))
        for of in called["jobs"].values():  # or GitHub refuses the whole run
            assert of["permissions"].items() <= spec["permissions"].items()
        try:
            return self.run(name, event_name, inputs=inputs, **given)
        finally:
            self.program = REPOSITORY

    def run(self, name, event_name, *, sha, ref="refs/heads/main", event=None, inputs=None):
        """Run one workflow, ours by its name or any by its text; its jobs by name, a matrix's by ``name (value)``."""
        self._number += 1
        run = _Run(self, name, event_name, sha, ref, event or {}, inputs or {}, self._number)
        return run.whole()


class _Run:
    def __init__(self, runner, name, event_name, sha, ref, event, inputs, number):
        self.runner, self.number, self.inputs = runner, number, inputs
        text = name if "\n" in name else (WORKFLOWS / name).read_text(encoding="utf-8")
        self.workflow = yaml.safe_load(text)
        self.folder = runner.folder / f"run-{number}"
        self.folder.mkdir(parents=True)
        self.event = {"repository": {"id": REPOSITORY_ID, "full_name": REPOSITORY}, **event}
        (self.folder / "event.json").write_text(json.dumps(self.event))
        self.github = {
            "event_name": event_name, "sha": sha, "ref": ref, "repository": REPOSITORY, "event": self.event,
            "run_id": str(1000 + number), "run_attempt": "1", "server_url": "https://github.com",
            "workflow": self.workflow["name"], "ref_name": ref.removeprefix("refs/heads/").removeprefix("refs/tags/"),
        }  # fmt: skip
        self.results = {}
        self.jobs = {}
        runner.artifacts = {}

    def whole(self):
        for job_id, job in self.workflow["jobs"].items():
            self._job(job_id, job)
        return self.jobs

    def _job(self, job_id, job):
        self.runner.before.get(job_id, lambda: None)()
        needs = job.get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
        known = {need: self.results[need] for need in needs}
        contexts = {"github": self.github, "needs": known, "vars": self.runner.variables, "inputs": self.inputs}
        before = [of["result"] for of in self._ancestors(needs)]
        functions = {
            "success": lambda: all(result == "success" for result in before),
            "failure": lambda: "failure" in before,
            "always": lambda: True,
            "cancelled": lambda: False,
        }
        if not _holds(job.get("if"), contexts, functions):
            self.results[job_id] = {"result": "skipped", "outputs": {}, "needs": needs}
            self.jobs[job_id] = Job(job_id)
            return
        matrix = job.get("strategy", {}).get("matrix")
        done = []
        for value in self._matrix(matrix, contexts, functions):
            made = _JobRun(self, job_id, job, {**contexts, "matrix": value}, functions)
            done.append(made.whole())
            label = next(iter(value.values()), "")
            label = label["fleet"] if isinstance(label, dict) else label
            self.jobs[f"{job_id} ({label})" if value else job_id] = done[-1]
        result = next((r for r in ("failure", "waiting") if any(job.result == r for job in done)), "success")
        self.results[job_id] = {"result": result, "outputs": done[-1].outputs, "needs": needs}

    def _ancestors(self, needs):
        for need in needs:
            yield self.results[need]
            yield from self._ancestors(self.results[need]["needs"])

    def _matrix(self, matrix, contexts, functions):
        if matrix is None:
            return [{}]
        [(name, values)] = matrix.items()
        return [{name: value} for value in insert(values, contexts, functions)]


class _JobRun:
    def __init__(self, run, job_id, job, contexts, functions):
        self.run, self.spec, self.runner = run, job, run.runner
        self.folder = run.folder / f"{job_id}-{len(run.jobs)}"
        self.workspace, self.home = self.folder / "work", self.folder / "home"
        for folder in (self.workspace, self.home, self.folder / "temp"):
            folder.mkdir(parents=True)
        self.job = Job(shown(insert(job.get("name", job_id), contexts, functions)))
        self.token = f"ghs_{run.number}_{self.folder.name}"
        if self.runner.github.tokens is not None:
            self.runner.github.tokens[self.token] = job["permissions"]
        self.contexts = {**contexts, "github": {**contexts["github"], "token": self.token}, "steps": {}}
        self.functions = functions
        self.has_failed = False
        self.added = {}  # to the environment of later steps

    def whole(self):
        self.job.environment = self.spec.get("environment")
        if self.job.environment and self.job.environment not in self.runner.approves:
            self.job.result = "waiting"
            return self.job
        if self.job.environment and self.job.environment not in self.runner.unprotected:
            review = {"state": "approved", "environments": [{"name": self.job.environment}], "user": {"login": "ada"}}
            self.runner.github.run_reviews.setdefault(self.contexts["github"]["run_id"], []).append(review)
        for step in self.spec["steps"]:
            self._step(step)
        self.job.result = "failure" if self.has_failed else "success"
        outputs = self.spec.get("outputs", {})
        self.job.outputs = {name: shown(self._insert(text)) for name, text in outputs.items()}
        return self.job

    def _step(self, step):
        name = step.get("name", step.get("uses", "").partition("@")[0])
        job = {"status": "failure" if self.has_failed else "success", "workflow_repository": self.runner.program}
        contexts = {**self.contexts, "job": job}
        functions = {**self.functions, "success": lambda: not self.has_failed, "failure": lambda: self.has_failed}
        if not _holds(step.get("if"), contexts, functions):
            self.job.steps[name] = "skipped"
            return
        if name in self.runner.stand_ins:
            self.runner.stand_ins[name](self.workspace)
            self.job.steps[name] = "stood in for"
            return
        outputs = {}
        try:
            if OWN.match(step.get("uses", "")):
                outcome = self._own_action(step)
            elif "uses" in step:
                outcome = self._use(step["uses"], {k: self._insert(v) for k, v in step.get("with", {}).items()})
            else:
                outcome = self._shell(step, outputs)
        except StepError as error:
            self.job.log += f"{error}\n"
            outcome = "failure"
        self.job.steps[name] = outcome
        self.has_failed |= outcome == "failure"
        self.contexts["steps"][step.get("id", name)] = {"outputs": outputs, "outcome": outcome}

    def _insert(self, text):
        return insert(text, self.contexts, self.functions) if isinstance(text, str) else text

    # run: ---------------------------------------------------------------------------------------

    def _shell(self, step, outputs):
        if step.get("name", "").startswith("Install"):
            return "success"
        files = {name: self.folder / "temp" / name for name in ("output", "summary", "env")}
        for path in files.values():
            path.write_text("")
        script = self.folder / "temp" / "step.sh"
        script.write_text(step["run"])
        given = {name: shown(self._insert(text)) for name, text in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "-e", script],
            cwd=self.workspace / step.get("working-directory", "."),
            env=self._environment(files) | given,
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        self.job.log += done.stdout + done.stderr
        self.job.summary += files["summary"].read_text()
        outputs.update(line.split("=", 1) for line in files["output"].read_text().splitlines())
        self.added.update(line.split("=", 1) for line in files["env"].read_text().splitlines())
        return "success" if done.returncode == 0 else "failure"

    def _environment(self, files):
        github = self.contexts["github"]
        path = [*self.runner.extra_path, self.runner.commands, Path(sys.executable).parent, os.environ["PATH"]]
        return {
            "PATH": os.pathsep.join(map(str, path)),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_API_URL": self.runner.github.url,
            "GITHUB_ENV": str(files["env"]),
            "GITHUB_EVENT_NAME": github["event_name"],
            "GITHUB_EVENT_PATH": str(self.run.folder / "event.json"),
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_REF": github["ref"],
            "GITHUB_REF_NAME": github["ref_name"],
            "GITHUB_REPOSITORY": github["repository"],
            "GITHUB_RUN_ID": github["run_id"],
            "GITHUB_SERVER_URL": github["server_url"],
            "GITHUB_SHA": github["sha"],
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            "GITHUB_WORKFLOW": github["workflow"],
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.folder / "temp"),
            **self.runner.environment,
            **self.added,
        }

    # uses: --------------------------------------------------------------------------------------

    def _own_action(self, step):
        """The steps of an action of this repository, with its inputs."""
        path = OWN.match(step["uses"])[1]
        action = yaml.safe_load((ROOT / path / "action.yml").read_text(encoding="utf-8"))
        inputs = {name: of.get("default", "") for name, of in action["inputs"].items()}
        inputs |= {name: self._insert(text) for name, text in step.get("with", {}).items()}
        before, self.contexts["inputs"] = self.contexts["inputs"], inputs
        for one in action["runs"]["steps"]:
            self._step(one)
        self.contexts["inputs"] = before
        return "failure" if self.has_failed else "success"

    def _use(self, action, given):
        stand_in = {
            "actions/checkout": self._checkout,
            "actions/setup-python": lambda _given: None,
            "actions/setup-node": lambda _given: None,
            "actions/cache/restore": self._restore,
            "actions/cache/save": self._save,
            "actions/upload-artifact": self._upload,
            "actions/download-artifact": self._download,
            "aws-actions/configure-aws-credentials": self._credentials,
            "github/codeql-action/upload-sarif": self._sarif,
        }[action.partition("@")[0]]
        stand_in(given)
        return "success"

    def _checkout(self, given):
        assert given["persist-credentials"] is False
        if self.spec["permissions"].get("contents") not in {"read", "write"}:
            raise StepError("checkout: the job may not read contents")
        ref = given.get("ref", self.contexts["github"]["sha"])
        _git("clone", "--quiet", "--no-checkout", self.runner.origin.folder, self.workspace)
        _git("fetch", "--quiet", "origin", ref, folder=self.workspace)
        _git("checkout", "--quiet", "FETCH_HEAD", folder=self.workspace)

    def _credentials(self, given):
        if self.spec["permissions"].get("id-token") != "write":
            raise StepError("configure-aws-credentials: the job gets no OIDC token")
        self.job.roles.append(given["role-to-assume"])
        self.added |= {**self.runner.aws, "AWS_REGION": given["aws-region"], "AWS_DEFAULT_REGION": given["aws-region"]}

    def _restore(self, given):
        kept = sorted(self.runner.caches.glob(f"{given['restore-keys']}*"), key=lambda path: path.stat().st_mtime_ns)
        target = self.home / given["path"].removeprefix("~/")
        if kept:
            shutil.copytree(kept[-1], target)

    def _save(self, given):
        source = self.home / given["path"].removeprefix("~/")
        if source.exists():
            shutil.copytree(source, self.runner.caches / given["key"])

    def _upload(self, given):
        paths = [self.workspace / line for line in given["path"].split()]
        found = [path for path in paths if path.exists()]
        if not found:
            if given.get("if-no-files-found") == "error":
                raise StepError(f"upload-artifact: nothing at {given['path']}")
            return
        assert given["name"] not in self.runner.artifacts, f"artifact {given['name']} exists already"
        target = self.runner.artifacts[given["name"]] = self.run.folder / "artifacts" / given["name"]
        for path in found:
            if path.is_dir():
                shutil.copytree(path, target)  # the artifact's root is the folder itself
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)

    def _download(self, given):
        source = self.runner.artifacts.get(given["name"])
        if source is None:
            raise StepError(f"download-artifact: there is no artifact {given['name']}")
        shutil.copytree(source, self.workspace / given.get("path", "."), dirs_exist_ok=True)

    def _sarif(self, given):
        assert self.spec["permissions"] == {"security-events": "write"}
        log = json.loads((self.workspace / given["sarif_file"]).read_text())
        self.job.alerts = len(log["runs"][0]["results"])


class StepError(Exception):
    """A stand-in that fails as the action would."""


def _holds(condition, contexts, functions):
    """An ``if:``; where it asks for no status, nothing before may have failed."""
    text = "success()" if condition is None else str(condition).strip()
    if text.startswith("${{") and text.endswith("}}"):
        text = text[3:-2]
    if not any(status in text for status in ("always()", "failure()", "cancelled()", "success()")):
        text = f"success() && ({text})"
    return is_true(evaluate(text, contexts, functions))


def _git(*arguments, folder=None):
    done = subprocess.run(["git", *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError(f"git {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout.strip()
