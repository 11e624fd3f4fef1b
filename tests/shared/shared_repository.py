"""A git repository with a desired state in it."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from shared_command import Outcome, run_command


class Repository:
    """``folder`` is made; its documents lie in ``desired``."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder
        self.desired = folder / "desired_state"
        self.desired.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, date: datetime | None = None) -> None:
        settings = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        instant = (date or datetime.now(UTC)).isoformat()
        environment = os.environ | {"GIT_AUTHOR_DATE": instant, "GIT_COMMITTER_DATE": instant}
        subprocess.run(("git", *settings, *arguments), cwd=self.repository, env=environment, check=True)

    def write(self, text: str, name: str = "factory.yaml") -> None:
        file = self.desired / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def commit(self, message: str = "desired state", *, date: datetime | None = None) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message, date=date)

    def run(self, *arguments: str) -> Outcome:
        """Run a command in the repository, in this process."""
        return run_command(arguments, self.repository)
