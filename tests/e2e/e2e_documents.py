"""Desired states for the end-to-end tests, committed to repositories of their own."""

import textwrap
from pathlib import Path

from git import Actor, Repo

AUTHOR = Actor("e2e", "e2e@example.com")
FLEET_DOCUMENT = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: e2e}
spec:
  account: "123456789012"
  region: eu-west-1
  guardrails: {maxChangePercent: 100}
"""


def commit_documents(folder, documents):
    """A repository whose desired state is these documents (YAML text by file name)."""
    target = Path(folder, "desired_state", "e2e")
    target.mkdir(parents=True, exist_ok=True)
    for name, text in ({"fleet.yaml": FLEET_DOCUMENT} | documents).items():
        (target / name).write_text(textwrap.dedent(text))
    with Repo.init(folder, initial_branch="main") as repo:
        repo.index.add([str(path.relative_to(folder)) for path in sorted(target.iterdir())])
        repo.index.commit("desired state", author=AUTHOR, committer=AUTHOR)
    return Path(folder)
