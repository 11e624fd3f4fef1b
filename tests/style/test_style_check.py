"""The style check finds what docs/style.md asks to be said otherwise, and lets pass what the page recommends."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "style_check.py"
_spec = importlib.util.spec_from_file_location("style_check", TOOL)
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)

KINDS = {
    "a message that denies a noun": (
        'raise ValueError("pear is no number")', 'raise ValueError("pear is not a number")', "say 'is not a'",
    ),
    "for as a conjunction": ('text = "wait, for it may rain"', 'text = "wait, because it may rain"', "say 'because'"),
    "where as a condition": (
        'def f() -> None:\n    """Read it; None where it is lost."""',
        'def f() -> None:\n    """Read it; None if it is lost."""', "say 'if'",
    ),
    "where as a condition after a comma and a line break": (
        'text = "repeat it,\\n    where it is lost"', 'text = "repeat it,\\n    if it is lost"', "say 'if'",
    ),
    "where as a condition that begins a sentence": (
        'text = "Repeat it. Where it is lost, wait."', 'text = "Repeat it. If it is lost, wait where it was."',
        "say 'if'",
    ),
    "a sentence without a head": (
        'text = "It rains. Who walks gets wet."', 'text = "It rains. A man who walks gets wet."',
        "name who or what is meant",
    ),
    "a program that speaks": (
        'text = "the plan says so, and a person is told"', 'text = "the plan shows it, and a person is notified"',
        "say 'reports', 'logs' or 'shows'",
    ),
    "a docstring that names nothing": (
        'class A:\n    """What a tree holds."""', 'class A:\n    """The fruit of a tree."""',
        "name who or what is meant",
    ),
    "a sentence without a head over a line break": (
        'text = "It rains. Those\\n  that walk get wet."', 'text = "It rains.\\n  Who walks? Walkers get wet."',
        "name who or what is meant",
    ),
    "a summary that names a thing": (
        'def f() -> int:\n    """The height of the tree."""',
        'def f() -> int:\n    """Return the height of the tree."""', "begin with a verb",
    ),
    "a summary that is half a sentence": (
        'def f() -> bool:\n    """Whether it rains."""',
        'def f() -> bool:\n    """Return whether it rains."""', "begin with a verb",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "good", "rule"), KINDS.values(), ids=KINDS)
def test_each_kind_is_found_and_its_better_form_is_not(bad, good, rule):
    assert {find.rule for find in check.in_module("m.py", bad)} == {rule}
    assert list(check.in_module("m.py", good)) == []


def test_a_page_is_read_without_its_code_blocks_and_a_find_names_its_line():
    page = "## What is a roof\n\n```\na cloud is no roof\n```\n\nA cloud is no roof.\n"
    assert [(find.line, find.rule) for find in check.in_page("page.md", page)] == [(7, "say 'is not a'")]


def test_a_property_is_described_as_a_value():
    assert list(check.in_module("m.py", 'class A:\n    @property\n    def b(self):\n        """The height."""')) == []


@pytest.mark.parametrize("subject", ["Added a tree", "adds a tree", "The tree", "Add a tree.", "A" * 73])
def test_a_subject_that_does_not_ask_for_anything_is_found(subject):
    assert list(check.in_subject(subject))
    assert list(check.in_subject("Add a tree")) == []


def test_at_most_ten_sentences_are_exempt():
    assert len(check.EXEMPT) <= 10


CONTRACTS = {
    "a parameter": (
        'def cut(tree: Tree, height: int) -> int:\n    """Return the wood."""',
        'def cut(tree: Tree, height: int) -> int:\n    """Return the wood above this height."""',
        "cut: parameter height",
    ),
    "an error": (
        'def cut(tree: Tree) -> int:\n    """Return the wood."""\n    raise errors.TreeError("no tree")',
        'def cut(tree: Tree) -> int:\n    """Return the wood; raises TreeError."""\n    raise TreeError("no tree")',
        "cut: TreeError",
    ),
    "the meaning of None": (
        'def cut(tree: Tree) -> int | None:\n    """Return the wood."""',
        'def cut(tree: Tree) -> int | None:\n    """Return the wood; None if there is none."""', "cut: None",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "good", "left_out"), CONTRACTS.values(), ids=CONTRACTS)
def test_a_public_function_explains_parameters_errors_and_none(bad, good, left_out):
    assert [find.text for find in check.in_module("protocol/m.py", bad)] == [left_out]
    assert list(check.in_module("protocol/m.py", good)) == []
    assert list(check.in_module("protocol/m.py", bad.replace("def cut", "def _cut"))) == []
    assert list(check.in_module("sandbox/m.py", bad)) == [], "the sandbox and the tools are not held to it"


def test_every_new_subject_is_read_and_on_main_the_last_one(tmp_path):
    def git(*words):
        subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", *words],
            check=True,
            capture_output=True,
        )

    git("init", "--quiet", "--initial-branch", "main")
    for subject in ("Plant a tree", "Cut a tree"):
        git("commit", "--quiet", "--allow-empty", "--message", subject)
    assert check.new_subjects(tmp_path) == ["Cut a tree"]
    git("switch", "--quiet", "--create", "wood")
    for subject in ("Plant two trees", "Cut two trees"):
        git("commit", "--quiet", "--allow-empty", "--message", subject)
    assert check.new_subjects(tmp_path) == ["Cut two trees", "Plant two trees"]


WORDS = [
    "standing job", "straggler", "soak", "settle", "adopt", "cohort", "family", "tie", "tainted", "governed", "orphan",
    "home account", "wire", "held up", "coming", "person",
]  # fmt: skip
"""Words that this project uses in a meaning of its own."""


@pytest.mark.parametrize("word", WORDS)
def test_each_word_of_our_own_is_defined_on_the_style_page(word):
    page = (check.REPOSITORY / "docs" / "style.md").read_text(encoding="utf-8")
    assert f"\n| {word} | " in page
