"""What of a page is read as prose, which is what its grade is taken from."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "reading_grade.py"
_spec = importlib.util.spec_from_file_location("reading_grade", TOOL)
grade = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(grade)


@pytest.mark.parametrize(
    ("page", "prose"),
    [
        ("# Keys\n\nA key is\nold.", "Keys. A key is old."),
        ("- one thing\n- another:\n\n```\nx = 1\n```\n", "one thing. another."),
        ("Set `spec.certificate` in [the page](a.md).", "Set name in the page."),
        ("Before.\n\n| a | b |\n|---|---|\n| c | d |\n\nIs it <b>so</b>?", "Before. Is it so?"),
    ],
    ids=["headings and lines", "lists and code", "names and links", "tables and tags"],
)
def test_code_and_tables_are_left_out_and_each_item_is_a_sentence(page, prose):
    assert grade.prose(page) == prose
