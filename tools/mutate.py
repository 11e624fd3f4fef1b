"""Mutation testing of one module by its own tests: which small changes of its code does nobody notice.

    python tools/mutate.py controller/reconcile/rollout/waves.py tests/reconcile/test_reconcile_waves.py …

Operators, each applied to one place at a time, never to annotations, docstrings, or texts:

- compare   < ↔ <=, > ↔ >=, == ↔ !=, is ↔ is not, in ↔ not in
- arithmetic  + ↔ -, * ↔ /, // → *, % → *
- logic     and ↔ or; not x → x
- branch    the condition of an if, while, or conditional expression (also in a comprehension) becomes its opposite
- number    n → n + 1
- extreme   min ↔ max, any ↔ all
- result    a returned value becomes None
- boolean   True ↔ False

Every mutant runs in a process of its own, forked once everything but the module is imported. A mutant
is killed where a test fails, or where it runs for too long. Survivors are printed with line and change;
lines named in the file given by --equivalent (``LINE-TEXT`` as printed, one a line) are counted as equivalent.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

Change = Callable[[ast.AST], ast.AST]

_COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LIMIT_SECONDS = 120


class _Opposite(ast.NodeTransformer):
    """Applies change number ``chosen`` of all that are possible, and counts them."""

    def __init__(self, chosen: int) -> None:
        self.chosen, self.seen = chosen, -1
        self.place: tuple[int, str] | None = None

    def _is_it(self, node: ast.AST, what: str) -> bool:
        self.seen += 1
        if self.seen == self.chosen:
            self.place = (node.lineno, what)  # type: ignore[attr-defined]
        return self.seen == self.chosen

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]
        node.args.defaults = [self.visit(each) for each in node.args.defaults]
        node.args.kw_defaults = [each and self.visit(each) for each in node.args.kw_defaults]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for index, operator in enumerate(node.ops):
            other = _COMPARE[type(operator)]
            if self._is_it(node, f"{type(operator).__name__} → {other.__name__}"):
                node.ops[index] = other()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        other = _ARITHMETIC.get(type(node.op))
        is_text = any(isinstance(side, (ast.JoinedStr,)) for side in (node.left, node.right))
        if other and not is_text and self._is_it(node, f"{type(node.op).__name__} → {other.__name__}"):
            node.op = other()
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        if self._is_it(node, f"{type(node.op).__name__} → {other.__name__}"):
            node.op = other()
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and self._is_it(node, "not x → x"):
            return node.operand
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        if _is_type_checking(node.test):
            return node
        return self._branch(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        return self._branch(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._branch(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        for index, test in enumerate(node.ifs):
            if self._is_it(test, "condition → its opposite"):
                node.ifs[index] = ast.UnaryOp(ast.Not(), test)
        return node

    def _branch(self, node: ast.If | ast.While | ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        if self._is_it(node, "condition → its opposite"):
            node.test = ast.UnaryOp(ast.Not(), node.test)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            if self._is_it(node, f"{node.value} → {not node.value}"):
                return ast.copy_location(ast.Constant(not node.value), node)
        elif isinstance(node.value, (int, float)) and self._is_it(node, f"{node.value} → {node.value + 1}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        other = _NAMES.get(node.id)
        if other and self._is_it(node, f"{node.id} → {other}"):
            return ast.copy_location(ast.Name(other, node.ctx), node)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        is_none = node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
        if not is_none and self._is_it(node, "result → None"):
            node.value = ast.Constant(None)
        return node


def _is_type_checking(test: ast.AST) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the changed tree where the module is imported."""

    def __init__(self, name: str, path: Path, tree: ast.AST) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, origin=str(self._path)) if name == self._name else None

    def exec_module(self, module: object) -> None:
        exec(compile(self._tree, str(self._path), "exec"), vars(module))  # noqa: S102 - our own code, changed


def mutants(tree: ast.AST) -> Iterator[tuple[ast.AST, int, str]]:
    """Every changed tree, with the line and the change."""
    number = 0
    while True:
        visitor = _Opposite(number)
        changed = visitor.visit(copy.deepcopy(tree))
        if visitor.place is None:
            return
        yield ast.fix_missing_locations(changed), *visitor.place
        number += 1


def _is_killed(name: str, path: Path, tree: ast.AST, tests: list[str]) -> bool:
    child = os.fork()
    if child == 0:
        signal.alarm(_LIMIT_SECONDS)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.meta_path.insert(0, _Mutated(name, path, tree))
        import pytest  # noqa: PLC0415 - warm already

        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
        os._exit(0 if code == 0 else 1)
    _, status = os.waitpid(child, 0)
    return status != 0


def main() -> int:
    """Run; returns 0 where at least 90 % are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--equivalent", type=Path, help="survivors that change nothing, as printed, one a line")
    parser.add_argument("--only", default="", help="changes at lines with this text only")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    import botocore.session  # noqa: F401, PLC0415 - all that tests import beside the module
    import cronsim  # noqa: F401, PLC0415
    import hypothesis.stateful  # noqa: F401, PLC0415
    import pydantic  # noqa: F401, PLC0415
    import pytest  # noqa: F401, PLC0415

    source = arguments.module.read_text(encoding="utf-8")
    lines = source.splitlines()
    name = ".".join(arguments.module.with_suffix("").parts)
    known = set(arguments.equivalent.read_text(encoding="utf-8").splitlines()) if arguments.equivalent else set()
    killed, survivors, equivalents = 0, [], 0
    started = time.monotonic()
    for tree, line, change in mutants(ast.parse(source)):
        if arguments.only not in lines[line - 1]:
            continue
        if _is_killed(name, arguments.module, tree, arguments.tests):
            killed += 1
            continue
        text = f"{lines[line - 1].strip()}  |  {change}"
        if text in known:
            equivalents += 1
        else:
            survivors.append(f"{line}: {text}")
            sys.stdout.write(f"{survivors[-1]}\n")
            sys.stdout.flush()
    total = killed + len(survivors)
    percent = 100 * killed / total if total else 100.0
    spent = time.monotonic() - started
    summary = f"{killed} of {total} killed, {percent:.1f} %; {equivalents} equivalent; {spent:.0f} s"
    sys.stdout.write(f"{arguments.module}: {summary}\n")
    return 0 if percent >= 90 else 1  # noqa: PLR2004 - per cent


if __name__ == "__main__":
    sys.exit(main())
