"""docs/comparison.md: each line that says what certfleet does names the test that shows it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")


def functions(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_line_of_the_comparison_names_a_test_that_there_is():
    lines = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    named = [re.search(r"`(tests/[\w/]+\.py)::(\w+)` \|$", line) for line in lines]
    assert [line for line, found in zip(lines, named, strict=True) if found is None] == []
    assert [found[0] for found in named if found[2] not in functions(ROOT / found[1])] == []
    assert len(lines) > 15
