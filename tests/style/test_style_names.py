"""One word stands for one thing: no two classes of the project share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("controller", "component", "backend", "protocol", "sandbox")

SHARED_NAMES = {
    "Guardrails": "the document's section and the value that it becomes, as the document spells it",
}


def places_by_name(root):
    """Where each public class is defined, nested ones included."""
    places = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(f"{path.relative_to(root)}:{node.lineno}")
    return places


def test_a_class_name_stands_for_one_thing():
    twice = {name: where for name, where in places_by_name(REPOSITORY).items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in SHARED_NAMES} == {}
    assert set(SHARED_NAMES) <= set(twice), "an exemption that nothing needs any more"


def test_a_second_class_of_a_name_is_found_wherever_it_stands(tmp_path):
    for package, text in (("controller", "class Wave: ...\n"), ("sandbox", "class Sea:\n    class Wave: ...\n")):
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").write_text(text)
    assert places_by_name(tmp_path)["Wave"] == ["controller/module.py:1", "sandbox/module.py:2"]
