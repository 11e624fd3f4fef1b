"""Runs our GitLab pipelines here: what GitLab makes of the files is made of them, and the scripts run with bash.

Include, inputs, ``extends`` and ``!reference`` are put together, ``rules`` decide which jobs there are, ``needs`` bring
artifacts. Stand-ins: a clone for the checkout, nothing for what installs, a folder for the cache, a server for the REST
API, and the sandbox's credentials where GitLab's token would bring a role.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import yaml
from workflows_runner import Runner

ROOT = Path(__file__).parents[2]
PROJECT_ID = "4711"
OWN_ID = 99  # the account of the project's access token


class GitLabStandIn(ThreadingHTTPServer):
    """Keeps notes and issues of one project; ``fail_with`` answers that many requests with a status."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.notes, self.issues, self.requests, self.fail_with = [], [], [], []
        self.merge_requests, self.approvals = {}, {}  # by commit; by number
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/api/v4"

    def close(self):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: GitLabStandIn

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        url = urlparse(self.path)
        self.server.requests.append((self.command, url.path, body, self.headers["PRIVATE-TOKEN"]))
        if self.server.fail_with:
            return self._send(self.server.fail_with.pop(0), {"message": "no"})
        if url.path == "/api/v4/user":
            return self._send(200, {"id": OWN_ID, "username": "project_4711_bot"})
        parts = url.path.removeprefix(f"/api/v4/projects/{PROJECT_ID}/").split("/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if parts[:2] == ["repository", "commits"]:
            return self._send(200, _page(self.server.merge_requests.get(parts[2], []), query))
        if parts[-1] == "approvals":
            return self._send(200, {"approved_by": [{"user": who} for who in self.server.approvals[int(parts[1])]]})
        return self._send(
            200, self._of_notes(parts, query, body) if "notes" in parts else self._of_issues(parts, query, body)
        )

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 (names of http.server)

    def _of_notes(self, parts, query, body):
        noteable, number = parts[0], int(parts[1])
        found = [note for note in self.server.notes if note["of"] == (noteable, number)]
        if self.command == "GET":
            return _page(found, query)
        if self.command == "POST":
            note = {"id": len(self.server.notes) + 1, "of": (noteable, number), "author": {"id": OWN_ID}, **body}
            self.server.notes.append(note)
        else:
            note = next(note for note in found if note["id"] == int(parts[3]))
            note.update(body)
        return note

    def _of_issues(self, parts, query, body):
        if self.command == "GET":
            return _page([issue for issue in self.server.issues if issue["state"] == "opened"], query)
        if self.command == "POST":
            issue = {"iid": len(self.server.issues) + 1, "state": "opened", "author": {"id": OWN_ID}, **body}
            self.server.issues.append(issue)
        else:
            issue = next(issue for issue in self.server.issues if issue["iid"] == int(parts[1]))
            issue.update({name: text for name, text in body.items() if name != "state_event"})
            issue["state"] = "closed" if body.get("state_event") == "close" else issue["state"]
        return issue

    def _send(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


def _page(found, query):
    start = (int(query["page"]) - 1) * int(query["per_page"])
    return found[start : start + int(query["per_page"])]


@dataclass
class Job:
    """What became of a job of the pipeline."""

    name: str
    result: str
    log: str = ""
    role: str = ""
    artifacts: Path | None = None
    spec: dict = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    pass


class _Reference(list):
    pass


_Loader.add_constructor("!reference", lambda loader, node: _Reference(loader.construct_sequence(node)))


def template(inputs=None):
    """The jobs of the included file, with their inputs, as GitLab puts them together."""
    text = (ROOT / ".gitlab" / "certfleet.yml").read_text(encoding="utf-8")
    header, body = text.split("\n---\n")
    declared = yaml.safe_load(header)["spec"]["inputs"]
    given = {name: of["default"] for name, of in declared.items() if "default" in of} | (inputs or {})
    assert set(given) == set(declared), "GitLab refuses inputs that are missing, or that nobody declares"
    body = re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda found: str(given[found[1]]), body)
    jobs = yaml.load(body, _Loader)
    return {name: _whole(jobs, name) for name in jobs if not name.startswith(".")}


def _whole(jobs, name):
    spec = {}
    own = jobs[name]
    bases = own.get("extends", [])
    for base in [bases] if isinstance(bases, str) else bases:
        spec = _merged(spec, _whole(jobs, base))
    spec = _merged(spec, {key: value for key, value in own.items() if key != "extends"})
    return {key: list(_resolved(jobs, value)) if key.endswith("script") else value for key, value in spec.items()}


def _merged(under, over):
    """As ``extends`` merges: mappings, and nothing else, key by key."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], dict) and isinstance(over[key], dict):
            both[key] = _merged(under[key], over[key])
    return both


def _resolved(jobs, lines):
    for line in lines:
        if isinstance(line, _Reference):
            yield from _resolved(jobs, jobs[line[0]][line[1]])
        else:
            yield line


class Pipelines:
    """One project on GitLab: its origin, its variables, its cache."""

    def __init__(self, folder, origin, gitlab, aws, variables):
        self.folder, self.origin, self.gitlab, self.aws, self.variables = Path(folder), origin, gitlab, aws, variables
        self._number = self._started = 0

    def merge_request(self, documents, *, fork=False):
        """Run the pipeline of a new merge request."""
        base = self.origin.head()
        _merge, event = self.origin.pull_request(documents, fork=fork)
        number = event["pull_request"]["number"]
        head = event["pull_request"]["head"]["sha"]
        given = {
            "CI_PIPELINE_SOURCE": "merge_request_event",
            "CI_MERGE_REQUEST_IID": str(number),
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": base,
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "815" if fork else PROJECT_ID,
        }
        # GitLab runs a fork's pipeline in the fork: it has none of the project's variables.
        return self._run(given, head, documents, {} if fork else self.variables, refs=(f"refs/pull/{number}/head",))

    def branch(self, source, documents=(), **variables):
        """Run a pipeline of the default branch; ``source`` is push, schedule or web."""
        given = {"CI_PIPELINE_SOURCE": source, "CI_COMMIT_BRANCH": "main"}
        return self._run(given, self.origin.head(), documents, self.variables | variables)

    def _run(self, given, commit, changed, variables, refs=()):
        self._number += 1
        self._at = self.folder / f"pipeline-{self._number}"
        self._at.mkdir(parents=True)
        self.given = {
            **variables,
            **given,
            "CI_DEFAULT_BRANCH": "main",
            "CI_PROJECT_ID": PROJECT_ID,
            "CI_COMMIT_SHA": commit,
        }
        found = {}
        for name, spec in template({"project": "acme/certfleet", "commit": "c" * 40}).items():
            rule = next((rule for rule in spec["rules"] if self._holds(rule, changed)), {"when": "never"})
            if rule.get("when") != "never":
                found[name] = Job(
                    name, "manual" if rule.get("when") == "manual" else "created", spec={**spec, "rule": rule}
                )
        for job in found.values():
            if job.result == "created":
                self._job(job, found, refs)
        self._found, self._refs = found, refs
        return found

    def play(self, name):
        """Start a manual job of the last pipeline."""
        self._job(self._found[name], self._found, self._refs)
        return self._found[name]

    def _holds(self, rule, changed):
        if "changes" in rule and not any(
            fnmatch.fnmatch(path, glob.replace("/**/*", "/*")) for path in changed for glob in rule["changes"]
        ):
            return False
        return "if" not in rule or holds(rule["if"], self.given)

    def _job(self, job, found, refs):
        needs = [need if isinstance(need, str) else need["job"] for need in job.spec.get("needs", [])]
        assert set(needs) <= set(found), "GitLab refuses a pipeline that needs a job which is not there"
        if job.spec["rule"].get("when") != "always" and any(found[need].result != "success" for need in needs):
            job.result = "skipped"
            return
        self._started += 1
        work = self._at / f"{job.name}-{self._started}"
        _git("clone", "--quiet", "--no-checkout", self.origin.folder, work)
        for ref in refs:
            _git("fetch", "--quiet", "origin", ref, folder=work)
        _git("checkout", "--quiet", self.given["CI_COMMIT_SHA"], folder=work)
        for need in needs:
            if found[need].artifacts is not None:
                shutil.copytree(found[need].artifacts, work, dirs_exist_ok=True)
        cache = self.folder / "cache"
        if "cache" in job.spec and cache.exists():
            shutil.copytree(cache, work / ".cache" / "certfleet")
        environment = self._environment(job, work)
        lines = [line for line in job.spec["before_script"] if not line.startswith("# Install")]
        done = _bash(work, environment, "set -eo pipefail\n" + "\n".join([*lines, *job.spec["script"]]))
        if "after_script" in job.spec:
            after = _bash(work, environment, "\n".join(job.spec["after_script"]))
            done.stdout += after.stdout + after.stderr
        job.log, job.result = done.stdout + done.stderr, "success" if done.returncode == 0 else "failed"
        if "cache" in job.spec:
            shutil.rmtree(cache, ignore_errors=True)
            if (work / ".cache" / "certfleet").exists():
                shutil.copytree(work / ".cache" / "certfleet", cache)
        job.artifacts = self._artifacts(job, work)

    def _artifacts(self, job, work):
        """What the job keeps, in a folder of its own: always, unless ``when`` says otherwise."""
        kept = self._at / f"artifacts-{job.name}-{self._started}"
        kept.mkdir()
        spec = job.spec.get("artifacts", {})
        for path in [*spec.get("paths", []), *spec.get("reports", {}).values()]:
            source = work / path
            if source.is_dir():
                shutil.copytree(source, kept / path, dirs_exist_ok=True)
            elif source.exists():
                shutil.copy(source, kept / path)
        return kept

    def _environment(self, job, work):
        path = [Runner.commands, Path(sys.executable).parent, os.environ["PATH"]]
        own = {
            "PATH": os.pathsep.join(map(str, path)),
            "HOME": str(self._at),
            "LANG": "C.UTF-8",
            "CI_PROJECT_DIR": str(work),
        }
        own |= {
            "CI_API_V4_URL": self.gitlab.url,
            "CI_JOB_NAME": job.name,
            "CI_JOB_ID": "1",
            "CI_JOB_URL": f"https://gitlab.example/{job.name}",
            "CI_SERVER_HOST": "gitlab.example",
            "CI_PROJECT_PATH": "acme/plants/fleet",
        }
        known = {**own, **self.given, **job.spec["rule"].get("variables", {})}
        known |= {name: _expanded(text, known) for name, text in job.spec.get("variables", {}).items()}
        job.role = known.get("CERTFLEET_ROLE_ARN", "")
        if job.role:
            assert "CERTFLEET_ID_TOKEN" in job.spec["id_tokens"], "GitLab gives no token that is not asked for"
            known |= {"CERTFLEET_ID_TOKEN": "e30.e30.", **self.aws}
        return known


def _bash(work, environment, script):
    return subprocess.run(
        ["bash"], input=script, cwd=work, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def _expanded(text, known):
    return re.sub(r"\$(\w+)", lambda found: known.get(found[1], ""), text)


def holds(condition, known):
    """Whether an ``if`` of ``rules`` holds: terms (``$A == "b"``, !=, =~, ``$A`` for one that is set), && before ||."""
    return any(all(_term(term, known) for term in each.split("&&")) for each in condition.split("||"))


def _term(term, known):
    if is_set := re.fullmatch(r"\s*\$(\w+)\s*", term):
        return bool(known.get(is_set[1]))
    left, operator, right = re.fullmatch(r"\s*\$(\w+)\s*(==|!=|=~)\s*(.+?)\s*", term).groups()
    value = known.get(left, "")
    if operator == "=~":
        return re.search(right.strip("/"), value) is not None
    wanted = known.get(right[1:], "") if right.startswith("$") else right.strip('"')
    return (value == wanted) is (operator == "==")


def _git(*arguments, folder=None):
    done = subprocess.run(["git", *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
