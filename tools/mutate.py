"""Mutation testing of one module by its own tests: which small changes of its code does nobody notice.

    python tools/mutate.py controller/reconcile/rollout/waves.py tests/reconcile/test_reconcile_waves.py …

Operators, each applied to one place at a time, never to annotations, decorators, docstrings, or texts:

- compare   < ↔ <=, > ↔ >=, == ↔ !=, is ↔ is not, in ↔ not in
- arithmetic  + ↔ -, * ↔ /, // → *, % → *
- logic     and ↔ or; not x → x
- branch    the condition of an if, while, or conditional expression (also in a comprehension) becomes its opposite
- number    n → n + 1
- extreme   min ↔ max, any ↔ all
- result    a returned value becomes None
- boolean   True ↔ False
- statement a call or yield by itself, an item or attribute that is set, a raise, continue or break: left out
- argument  each keyword argument of a call: left out

Tests are collected once, and run once unchanged, to learn what each takes and which lines it reaches. Every mutant runs
in a process of its own, forked from there: the functions that are loaded get the changed code; what stands outside of
functions has everything imported anew. It is tried by the tests that reach its line, the cheap ones first, and then by
all others: only who outlives them all survives. A mutant is killed if a test fails, or if one computes for five times
as long as it does unchanged, and 10 seconds more: processor time, so that a busy machine kills nobody. Survivors are
printed with line and change; --again FILE tries only those of such an output, --since COMMIT only lines that git shows
as changed since then. Mutants that change nothing are named, with why, in equivalent_mutants.toml beside this file, and
are not counted.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import mmap
import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import coverage
import pytest

_COMPARE = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_TOO_LONG, _GRACE = 5, 10  # times as long as without a change, and seconds more, of processor time
_EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")


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

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]
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

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        for keyword in list(node.keywords):
            if keyword.arg and self._is_it(keyword, f"{keyword.arg}=… left out"):
                node.keywords.remove(keyword)
        return node

    def _left_out(self, node: ast.stmt) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(ast.Pass(), node) if self._is_it(node, "left out") else node

    visit_Raise = visit_Continue = visit_Break = visit_AugAssign = _left_out  # noqa: N815 - names of ast's

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self._left_out(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        sets = any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets)
        return ast.copy_location(ast.Pass(), node) if sets and self._is_it(node, "left out") else node


def _is_type_checking(test: ast.AST) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def mutants(tree: ast.AST) -> Iterator[tuple[ast.AST, int, str]]:
    """Yield every changed tree, with the line and the change."""
    number = 0
    while True:
        visitor = _Opposite(number)
        changed = visitor.visit(copy.deepcopy(tree))
        if visitor.place is None:
            return
        yield ast.fix_missing_locations(changed), *visitor.place
        number += 1


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the changed tree where the module is imported."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self._name, self._path, self._code = name, path, code

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, origin=str(self._path)) if name == self._name else None

    def exec_module(self, module: object) -> None:
        exec(self._code, vars(module))  # noqa: S102 - our own code, changed


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of every function that stands in a module or in a class of it."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            is_function = bool(inner.co_flags & 0x2)  # CO_NEWLOCALS: a class has none
            yield from [inner] if is_function else _codes(inner)


def _functions(names: dict[str, Any], module: str) -> Iterator[FunctionType]:
    """Yield those functions as they are loaded."""
    for value in names.values():
        if isinstance(value, type) and value.__module__ == module:
            yield from _functions(dict(vars(value)), module)
        found = getattr(value, "__func__", None) or getattr(value, "__wrapped__", None) or value
        found = found.fget if isinstance(found, property) else found
        found = found.func if isinstance(found, cached_property) else found
        if isinstance(found, FunctionType) and found.__module__ == module:
            yield found


def _lines_of_functions(tree: ast.AST) -> set[int]:
    """Return lines of which the code can be changed while it is loaded: bodies of functions."""
    found = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {line for node in found for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)}


def _statements(tree: ast.AST) -> dict[int, frozenset[int]]:
    """Return, for each line, those of the statement it belongs to; of an if or a loop, those before its body."""
    found: dict[int, frozenset[int]] = {}
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or 0
            lines = frozenset(range(node.lineno, end + 1))
            found |= dict.fromkeys(lines, lines)
    return found


class _Trial:
    """A plugin of pytest that runs the collected tests once for each mutant."""

    def __init__(self, path: Path, known: set[str], only: str, again: set[str] | None, since: set[int] | None) -> None:
        self.path, self.known, self.only, self.again, self.since = path, known, only, again, since
        self.name = ".".join(path.with_suffix("").parts)
        self.killed, self.equivalents, self.survivors, self.endless = 0, 0, 0, 0
        self.costs: list[float] = []  # of each test, unchanged: seconds of processor time
        self.reached: list[set[int]] = []  # the lines of the module that each test runs
        self.order: list[int] = []  # tests that killed of late first, then the cheapest
        self.killer = mmap.mmap(-1, 4)  # shared with the trials: the place of the test that failed, from 1 on

    @cached_property
    def module(self) -> ModuleType:
        """The module that is changed, as it is loaded."""
        return importlib.import_module(self.name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run each mutant's trial instead of the tests."""
        source = self.path.read_text(encoding="utf-8")
        lines, tree = source.splitlines(), ast.parse(source)
        inside, statements = _lines_of_functions(tree), _statements(tree)
        self._learn(session)
        for changed, line, change in mutants(tree):
            text = f"{lines[line - 1].strip()}  |  {change}"
            if text in self.known:
                self.equivalents += 1
            elif self._is_chosen(line, lines[line - 1], text):
                code = compile(changed, str(self.path), "exec")
                is_killed = self._is_killed(session, code, statements[line] if line in inside else None)
                self._count(is_killed, text, line)
        return True

    def _is_chosen(self, line: int, source: str, text: str) -> bool:
        is_asked = self.only in source and (self.again is None or text in self.again)
        return is_asked and (self.since is None or line in self.since)

    def _count(self, is_killed: bool, text: str, line: int) -> None:  # noqa: FBT001
        self.killed += is_killed
        if not is_killed:
            self.survivors += 1
            sys.stderr.write(f"{line}: {text}\n")

    def _learn(self, session: pytest.Session) -> None:
        """Run each test unchanged, in a process of its own, so that nothing it leaves behind is seen by a mutant.

        Raises:
            pytest.UsageError: If one fails without any change.
        """
        with tempfile.TemporaryFile() as learnt:
            if (child := os.fork()) == 0:
                _be_quiet(session)
                pickle.dump(self._costs_and_lines(session), learnt)
                learnt.flush()
                os._exit(session.testsfailed)
            _, status = os.waitpid(child, 0)
            if status:
                raise pytest.UsageError("the tests fail without any change")
            learnt.seek(0)
            self.costs, self.reached = pickle.load(learnt)  # noqa: S301 - our own
        self.order = sorted(range(len(self.costs)), key=self.costs.__getitem__)

    def _costs_and_lines(self, session: pytest.Session) -> tuple[list[float], list[set[int]]]:
        measured = coverage.Coverage(data_file=None, config_file=False, include=[str(self.path)])
        measured.set_option("run:disable_warnings", ["no-data-collected"])  # then whatever is changed survives
        costs = []
        measured.start()
        for number, item in enumerate(session.items):
            measured.switch_context(str(number))
            began = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            costs.append(time.process_time() - began)
        measured.stop()
        reached: list[set[int]] = [set() for _ in costs]
        for line, contexts in measured.get_data().contexts_by_lineno(str(self.path.absolute())).items():
            for context in filter(None, contexts):
                reached[int(context)].add(line)
        return costs, reached

    def _is_killed(self, session: pytest.Session, code: CodeType, statement: frozenset[int] | None) -> bool:
        order = sorted(self.order, key=lambda number: not (statement and self.reached[number] & statement))
        self.killer[:] = bytes(4)
        child = os.fork()
        if child == 0:
            _be_quiet(session)
            os._exit(self._fails(session, code, order if statement else None))
        _, status = os.waitpid(child, 0)
        self.endless += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        if killer := int.from_bytes(self.killer[:], "big"):
            self.order.remove(killer - 1)
            self.order.insert(0, killer - 1)  # what is near this change will fail it as well
        return status != 0

    def _fails(self, session: pytest.Session, code: CodeType, order: list[int] | None) -> bool:
        try:
            if order is None:
                _allow(sum(self.costs))
                return self._fails_anew(session, code)
            self._change(code)
            for number in order:
                item = session.items[number]
                _allow(self.costs[number])
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if session.testsfailed:
                    self.killer[:] = (number + 1).to_bytes(4, "big")
                    return True
        except BaseException:  # noqa: BLE001 - whatever ends the session
            return True
        return False

    def _change(self, code: CodeType) -> None:
        loaded = {function.__code__.co_qualname: function for function in _functions(vars(self.module), self.name)}
        for changed in _codes(code):
            loaded[changed.co_qualname].__code__ = changed

    def _fails_anew(self, session: pytest.Session, code: CodeType) -> bool:
        tests = {item.module.__name__ for item in session.items if isinstance(item, pytest.Function)}
        package = self.name.partition(".")[0]
        for name in [n for n in sys.modules if n in tests or n.partition(".")[0] == package]:
            del sys.modules[name]
        sys.meta_path.insert(0, _Mutated(self.name, self.path, code))
        return pytest.main(["-x", "-q", "-p", "no:cacheprovider", *session.config.args]) != 0


def _be_quiet(session: pytest.Session) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    session.config.pluginmanager.unregister(name="terminalreporter")


def _allow(seconds: float) -> None:
    """End this process if what follows computes for much longer than it does unchanged."""
    limit = int(time.process_time() + _TOO_LONG * seconds) + _GRACE
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _changed_lines(path: Path, commit: str) -> set[int]:
    """Return the lines of the file that git shows as new or changed since the commit."""
    command = ["git", "diff", "-U0", commit, "--", str(path)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    hunks = re.findall(r"^@@ \S+ \+(\d+)(?:,(\d+))? @@", told, re.MULTILINE)
    return {line for start, count in hunks for line in range(int(start), int(start) + int(count or 1))}


def _survivors(output: Path) -> set[str]:
    """Return the changes that an earlier run printed, whatever their lines' numbers are by now."""
    return set(re.findall(r"^\d+: (.*)$", output.read_text(encoding="utf-8"), re.MULTILINE))


def main() -> int:
    """Run; returns 0 if at least 90 % are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--only", default="", help="changes at lines with this text only")
    parser.add_argument("--since", metavar="COMMIT", help="changes at lines that are new or changed since then only")
    parser.add_argument("--again", type=Path, help="only the survivors in this output of an earlier run")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    known = set(tomllib.loads(_EQUIVALENT.read_text(encoding="utf-8")).get(str(arguments.module), {}))
    again = _survivors(arguments.again) if arguments.again else None
    since = _changed_lines(arguments.module, arguments.since) if arguments.since else None
    trial = _Trial(arguments.module, known, arguments.only, again, since)
    started = time.monotonic()
    if pytest.main(["-qq", "-p", "no:cacheprovider", *arguments.tests], plugins=[trial]) != pytest.ExitCode.OK:
        return 1
    total = trial.killed + trial.survivors
    percent = 100 * trial.killed / total if total else 100.0
    told = f"{trial.killed} of {total} killed, {percent:.1f} %; {trial.equivalents} equivalent"
    told += f", {trial.endless} killed by computing too long" if trial.endless else ""
    sys.stdout.write(f"{arguments.module}: {told}; {time.monotonic() - started:.0f} s\n")
    return 0 if percent >= 90 else 1  # noqa: PLR2004 - per cent


if __name__ == "__main__":
    sys.exit(main())
