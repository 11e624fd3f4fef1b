"""A local stand-in for GitHub's REST API that keeps comments, issues and artifacts, and minds permissions."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

REPOSITORY = "acme/fleet"
REPOSITORY_ID = 4711


class GitHubStandIn(ThreadingHTTPServer):
    """``fail_with`` answers that many requests with a status, or status, headers and text.

    ``tokens`` holds what each token may do; None: all.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments, self.issues, self.requests, self.fail_with = [], [], [], []
        self.artifacts, self.tokens = [], None
        self.pulls, self.reviews = {}, {}  # by commit; by number
        self.run_reviews = {}  # by run
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def add_artifact(self, name, files, *, branch="main", head_repository_id=REPOSITORY_ID):
        """An artifact that a run has left; ``files`` maps names to text."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for member, text in files.items():
                archive.writestr(member, text)
        run = {"repository_id": REPOSITORY_ID, "head_repository_id": head_repository_id, "head_branch": branch}
        artifact = {"id": len(self.artifacts) + 1, "name": name, "expired": False, "workflow_run": run}
        self.artifacts.insert(0, (artifact, packed.getvalue()))

    def close(self):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: GitHubStandIn

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        url = urlparse(self.path)
        authorization = self.headers["Authorization"]
        if url.path.startswith("/store/"):
            assert authorization is None, "the store of artifacts must not see the token"
            return self._send(200, self.server.artifacts[-int(url.path.rpartition("/")[2])][1])
        self.server.requests.append((self.command, url.path, body, authorization))
        if self.server.fail_with:
            fault = self.server.fail_with.pop(0)
            status, headers, message = fault if isinstance(fault, tuple) else (fault, {}, "no")
            return self._send(status, {"message": message}, headers)
        parts = url.path.removeprefix(f"/repos/{REPOSITORY}").strip("/").split("/")
        if not self._may(parts, authorization):
            return self._send(403, {"message": "Resource not accessible by integration"})
        if parts[-1] == "zip":
            return self._send(302, b"", {"Location": f"{self.server.url}/store/{parts[-2]}"})
        return self._send(200, self._result(parts, url, body))

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815 (names of http.server)

    def _may(self, parts, authorization):
        if self.server.tokens is None:
            return True
        granted = self.server.tokens[authorization.removeprefix("Bearer ")]
        if "actions" in parts:
            return "actions" in granted
        needed = {"issues", "pull-requests"} if "comments" in parts else {"issues"}
        return any(granted.get(name) == "write" for name in needed)

    def _result(self, parts, url, body):
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if parts[-1] == "approvals":
            return self.server.run_reviews.get(parts[2], [])
        if "artifacts" in parts:
            return {"artifacts": [about for about, _ in self.server.artifacts if about["name"] == query["name"]]}
        if "pulls" in parts:
            return self._of_pulls(parts, query)
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

    def _of_pulls(self, parts, query):
        if parts[0] == "commits":
            found = self.server.pulls.get(parts[1], []) if query["page"] == "1" else []
            return [{name: value for name, value in pull.items() if name != "merged_by"} for pull in found]
        if parts[-1] == "reviews":
            return self.server.reviews.get(int(parts[1]), []) if query["page"] == "1" else []
        return next(pull for pulls in self.server.pulls.values() for pull in pulls if str(pull["number"]) == parts[1])

    def _send(self, status, value, headers=None):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass
