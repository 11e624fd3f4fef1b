"""The repository on GitHub: main, and pull requests with the merges that GitHub makes. Equal texts, equal commits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from workflows_github import REPOSITORY

DATE = "2026-11-30T12:00:00+0000"


class Origin:
    """A repository whose desired state is one file per name."""

    def __init__(self, folder, documents):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pull_requests = 0
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("config", "uploadpack.allowAnySHA1InWant", "true")
        self.push(documents)

    def push(self, documents, message="desired state"):
        """Commit documents (text by path) to main; None removes one. Returns the commit."""
        self._git("checkout", "--quiet", "-B", "main")
        return self._commit(documents, message)

    def head(self):
        """The commit of main."""
        return self._git("rev-parse", "main")

    def pull_request(self, documents, *, fork=False, then=None):
        """Open a pull request over main, of one commit or two; returns the commit of its merge, and the event."""
        self._pull_requests += 1
        number, base = self._pull_requests, self._git("rev-parse", "main")
        self._git("checkout", "--quiet", "--detach", "main")
        head = self._commit(documents, "change")
        if then is not None:
            head = self._commit(then, "another")
        tree = self._git("rev-parse", f"{head}^{{tree}}")
        merge = self._git("commit-tree", tree, "-p", base, "-p", head, "-m", "merge")
        self._git("update-ref", f"refs/pull/{number}/head", head)
        self._git("update-ref", f"refs/pull/{number}/merge", merge)
        self._git("checkout", "--quiet", "main")
        owner = "someone/fleet" if fork else REPOSITORY
        head_value = {"sha": head, "ref": "change", "repo": {"full_name": owner, "fork": fork}}
        return merge, {"pull_request": {"number": number, "base": {"sha": base, "ref": "main"}, "head": head_value}}

    def _commit(self, documents, message):
        for name, text in documents.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "--message", message)
        return self._git("rev-parse", "HEAD")

    def _git(self, *arguments):
        who = {"NAME": "t", "EMAIL": "t@example.org", "DATE": DATE}
        identity = {f"GIT_{kind}_{name}": value for kind in ("AUTHOR", "COMMITTER") for name, value in who.items()}
        command = ["git", "-c", "commit.gpgsign=false", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=os.environ | identity, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
