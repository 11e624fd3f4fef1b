"""Posting to a local stand-in for GitHub's REST API that keeps comments and issues."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import pytest

from controller.github.__main__ import main


class GitHubStandIn(ThreadingHTTPServer):
    """Comments and issues of one repository; ``fail_with`` answers that many requests with a status."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments, self.issues, self.requests, self.fail_with = [], [], [], []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: GitHubStandIn

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        url = urlparse(self.path)
        self.server.requests.append((self.command, url.path, body, self.headers["Authorization"]))
        if self.server.fail_with:
            return self._send(self.server.fail_with.pop(0), {"message": "no"})
        return self._send(200, self._result(url, body))

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815 (names of http.server)

    def _result(self, url, body):
        parts = url.path.removeprefix("/repos/acme/fleet").strip("/").split("/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        store = self.server.comments if "comments" in parts else self.server.issues
        if self.command == "GET":
            start = (int(query["page"]) - 1) * int(query["per_page"])
            found = [entry for entry in store if entry.get("state", "open") == "open"]
            return found[start : start + int(query["per_page"])]
        if self.command == "POST":
            entry = body | {"id": len(store) + 1, "number": len(store) + 1, "state": "open", "user": {"type": "Bot"}}
            store.append(entry)
            return entry
        entry = next(e for e in store if str(e["id"]) == parts[-1])
        entry.update(body)
        return entry

    def _send(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def github():
    server = GitHubStandIn()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(github, tmp_path):
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7}}))
    return {
        "GITHUB_API_URL": github.url,
        "GITHUB_REPOSITORY": "acme/fleet",
        "GITHUB_TOKEN": "ghs_secret",
        "GITHUB_EVENT_PATH": str(event),
    }


@pytest.fixture
def post(environment, tmp_path):
    def run(text, *arguments):
        body = tmp_path / "body.md"
        body.write_text(text)
        return main([*arguments, "--body", str(body)], environment)

    return run


def test_a_second_push_replaces_the_comment_of_the_first(post, github):
    assert post("12 devices rotate", "comment") == 0
    assert post("13 devices rotate", "comment") == 0
    assert [c["body"] for c in github.comments] == ["<!-- certfleet:plan -->\n13 devices rotate"]


def test_an_unchanged_text_is_not_posted_again(post, github):
    post("same", "comment")
    before = len(github.requests)
    post("same", "comment")
    assert [request[0] for request in github.requests[before:]] == ["GET"]


def test_a_person_who_quotes_the_marker_keeps_their_comment(post, github):
    github.comments.append({"id": 1, "body": "<!-- certfleet:plan -->\nlook at this", "user": {"type": "User"}})
    post("plan", "comment")
    assert [c["body"] for c in github.comments] == [
        "<!-- certfleet:plan -->\nlook at this",
        "<!-- certfleet:plan -->\nplan",
    ]


def test_the_sticky_comment_is_found_behind_a_hundred_others(post, github):
    github.comments += [{"id": n, "body": "hi", "user": {"type": "User"}} for n in range(1, 151)]
    post("one", "comment")
    post("two", "comment")
    assert sum("certfleet" in c["body"] for c in github.comments) == 1


def test_two_keys_have_a_comment_each(post, github):
    post("plan", "comment", "--key", "plan")
    post("drift", "comment", "--key", "drift")
    assert len(github.comments) == 2


def test_failures_open_one_issue_which_is_updated_and_closed_when_solved(post, github):
    post("3 devices failed", "issue", "--fleet", "production")
    post("2 devices failed", "issue", "--fleet", "production")
    assert [(i["title"], i["state"]) for i in github.issues] == [("certfleet: fleet production needs a person", "open")]
    assert "2 devices failed" in github.issues[0]["body"]
    post("in sync", "issue", "--fleet", "production", "--solved")
    assert github.issues[0]["state"] == "closed"
    assert github.comments[0]["body"] == "in sync"


def test_an_unchanged_failure_does_not_touch_the_issue(post, github):
    post("same", "issue", "--fleet", "production")
    before = len(github.requests)
    post("same", "issue", "--fleet", "production")
    assert [request[0] for request in github.requests[before:]] == ["GET"]


def test_each_fleet_has_an_issue_of_its_own(post, github):
    post("a", "issue", "--fleet", "north")
    post("b", "issue", "--fleet", "south")
    assert len(github.issues) == 2


def test_a_solved_fleet_without_an_issue_opens_none(post, github):
    post("in sync", "issue", "--fleet", "production", "--solved")
    assert github.issues == []


def test_a_passing_fault_of_github_is_ridden_out(post, github):
    github.fail_with = [502]
    assert post("plan", "comment") == 0
    assert len(github.comments) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    {
        "GitHub refuses": ({"fail": [403]}, "GitHub answered 403"),
        "nobody listens": ({"environment": {"GITHUB_API_URL": "http://127.0.0.1:9"}}, "GitHub cannot be reached"),
        "no token": ({"environment": {"GITHUB_TOKEN": ""}}, "GITHUB_TOKEN is not set"),
        "no pull request": ({"event": {"push": 1}}, "is no pull request"),
        "text too long": ({"text": "x" * 65_600}, "65624 characters"),
    }.values(),
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_failure_says_what_to_do_and_keeps_the_token_to_itself(
    given, said, post, github, environment, capsys, tmp_path
):
    github.fail_with = given.get("fail", [])
    environment.update(given.get("environment", {}))
    if "event" in given:
        (tmp_path / "event.json").write_text(json.dumps(given["event"]))
    assert post(given.get("text", "plan"), "comment") == 1
    printed = capsys.readouterr().err
    assert said in printed
    assert "ghs_secret" not in printed
