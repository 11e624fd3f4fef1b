"""Mutation tells which changes of a module its tests notice, wherever in it they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "mutate.py"
MODULE = """\
from functools import cached_property

LEAST = 3


class Pear:
    @cached_property
    def is_ripe(self):
        return self.days > LEAST


def half(number):
    return number // 2
"""
TESTS = """\
from pear import Pear, half


def test_half():
    assert half(4) == 2


def test_ripe():
    pear = Pear()
    pear.days = 4
    assert pear.is_ripe
"""


def test_each_change_is_tried_or_those_of_changed_lines_and_survivors_are_named(tmp_path):
    (tmp_path / "pear.py").write_text(MODULE.replace("//", "/"))
    (tmp_path / "test_pear.py").write_text(TESTS)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "before"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "pear.py").write_text(MODULE)

    def mutate(*options):
        command = [sys.executable, str(TOOL), "pear.py", "test_pear.py", *options]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        return done.returncode, done.stdout.strip().rpartition(";")[0], done.stderr

    survivor = "9: return self.days > LEAST  |  Gt → GtE\n"
    assert mutate() == (1, "pear.py: 5 of 6 killed, 83.3 %; 0 equivalent", survivor)
    assert mutate("--since", "HEAD") == (0, "pear.py: 3 of 3 killed, 100.0 %; 0 equivalent", "")
