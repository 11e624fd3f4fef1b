"""What a command has to import before it can answer, in modules and never in seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

DOCUMENT = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec: {account: "123456789012", region: eu-west-1}
"""
COUNT = """
import sys
from controller.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""
TO_AWS = {"botocore", "urllib3", "cryptography"}
PAGES = {"jinja2", "pygal"}
GIT = {"git", "gitdb"}
DOCUMENTS = {"yaml", "pydantic"}

COMMANDS = {
    "--help": (140, TO_AWS | PAGES | GIT | DOCUMENTS | {"rich"}),
    "validate": (375, TO_AWS | PAGES | GIT),
    "drift --help": (680, PAGES | GIT | {"boto3"}),
    "explain --help": (680, PAGES | GIT | {"boto3"}),
}


@pytest.mark.parametrize(("command", "most", "without"), [(name, *held) for name, held in COMMANDS.items()])
def test_a_command_imports_what_it_needs_and_no_more(tmp_path, command, most, without):
    (tmp_path / "desired_state").mkdir()
    (tmp_path / "desired_state" / "fleet.yaml").write_text(DOCUMENT)
    ran = subprocess.run(
        [sys.executable, "-c", COUNT, *command.split()], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout
    modules = ran.stderr.split()
    assert {name.partition(".")[0] for name in modules} & without == set()
    assert len(modules) <= most
