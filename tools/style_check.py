"""Check the English of pages, messages, docstrings and new commits' subjects against docs/style.md.

``python tools/style_check.py`` prints each find as ``path:line: rule: text`` and exits with 1 if there is one. It reads
files only, and takes about two seconds.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("backend", "component", "controller", "protocol", "sandbox", "tools")

NO_VERB = frozenset(
    [
        "a",
        "all",
        "an",
        "another",
        "any",
        "both",
        "each",
        "every",
        "everything",
        "exactly",
        "how",
        "its",
        "most",
        "nobody",
        "none",
        "nothing",
        "one",
        "only",
        "our",
        "some",
        "that",
        "the",
        "these",
        "this",
        "those",
        "what",
        "when",
        "where",
        "whether",
        "which",
        "who",
        "whom",
        "whose",
        "why",
    ]
)
"""Words with which a summary does not begin: what follows them has no verb, or is half a sentence."""

MAX_SUBJECT = 72

SENTENCES = {
    "say 'is not a'": re.compile(
        r"(?<!here )\b(?:is|are|was|were)\s+no\s+(?!longer|more\b|other|less|one\b|older|newer|later|earlier|good\b"
        r"|nearer|such\b|help\b|kinder|further|better|worse|matter|way\b|part\b|reason)[a-z]"
    ),
    "say 'because'": re.compile(r", for (?:it|they|he|she|there) "),
    "say 'if'": re.compile(
        r"(?:[;(,]|\d|\b(?:None|True|False|none|nothing|empty|absent|only|less|fewer|more|harmless|NULL|[A-Z]\w+Error))"
        r"\s+where\b(?! do\b)|\.\s+Where\b(?![^.:]*[?:])"
    ),
    "say 'reports', 'logs' or 'shows'": re.compile(
        r"(?<![`\"])\b(?:[Ss]ay(?:s|ing)?|[Ss]aid|[Tt]ell(?:s|ing)?|[Tt]old)\b"
    ),
    "name who or what is meant": re.compile(
        r"(?:\A|[.!;:]\s+|\n\s*\n\s*|\n- )(?:What|Whom?|Whose|Which|Those\s+(?:that|who|whose|which))\s"
        r"(?!to do:|[^.]*\?)"
    ),
}
"""What each kind of text must not hold, by what to do instead."""

PLACES = {
    "say 'is not a'": "pages messages docstrings",
    "say 'because'": "pages messages docstrings",
    "say 'if'": "pages messages docstrings",
    "say 'reports', 'logs' or 'shows'": "pages messages docstrings",
    "name who or what is meant": "pages messages docstrings",
}

EXEMPT: dict[str, str] = {
    "cannot tell": "the doctor's third answer, beside ok and not ok, in its JSON since the first version",
}
"""Sentences that stay although a rule finds them, each with the reason; at most ten."""


CONVENTIONAL = frozenset(
    [
        "_context", "_event", "_look", "at", "body", "client_token", "commit", "context", "data", "event", "fleet",
        "folder", "job_id", "look", "message", "monotonic", "name", "now", "operation", "path", "payload", "raw",
        "result", "scope", "service", "since", "sleep", "text", "thing_name", "title", "topic", "until",
    ]
)  # fmt: skip
"""Parameters that mean the same everywhere, by docs/style.md; each other one is explained or named after its type."""

EXPLAINED = ("backend/", "component/", "controller/", "protocol/")
"""Packages whose public functions explain parameters, errors and None."""

EXPLAINED_ONCE = ("Finding | None",)
"""What a check of a device returns: its type, ``Check``, explains None once for all."""

SHORT = 2
"""A word of a parameter's name that is no longer than this does not explain it."""


class Find(NamedTuple):
    """A text that breaks a rule."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text.strip()[:100]}"


def in_text(kind: str, path: str, line: int, text: str) -> Iterator[Find]:
    """Yield what the rules find in one text.

    Args:
        kind: ``pages``, ``messages`` or ``docstrings``.
        path: The file, as a find names it.
        line: The line on which the text begins.
        text: The text.
    """
    for rule, pattern in SENTENCES.items():
        if kind not in PLACES[rule].split():
            continue
        for match in pattern.finditer(text):
            around = text[max(0, match.start() - 20) : match.end() + 50].replace("\n", " ")
            if not any(exempt in around for exempt in EXEMPT):
                yield Find(path, line + text.count("\n", 0, match.start()), rule, around)


def in_page(path: str, text: str) -> Iterator[Find]:
    """Yield what the rules find in a page; code blocks and headings are left out."""
    prose = re.sub(r"(?ms)^```.*?^```|^#.*?$", lambda block: "\n" * block.group().count("\n"), text)
    yield from in_text("pages", path, 1, prose)


def in_module(path: str, source: str) -> Iterator[Find]:
    """Yield what the rules find in the docstrings and the strings of a module."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            value = node.body[0].value  # type: ignore[attr-defined]
            docstrings.add(value)
            yield from in_text("docstrings", path, value.lineno, value.value)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _in_summary(path, node, value)
    if path.startswith(EXPLAINED):
        yield from _unexplained(path, tree.body)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and " " in node.value
            and node not in docstrings
        ):
            yield from in_text("messages", path, node.lineno, node.value)


def _in_summary(path: str, node: ast.FunctionDef | ast.AsyncFunctionDef, value: ast.Constant) -> Iterator[Find]:
    if any("property" in ast.unparse(one) for one in node.decorator_list):
        return  # a property is read like a value, and is described as one
    summary = str(value.value).partition("\n")[0]
    if summary.partition(" ")[0].lower() in NO_VERB:
        yield Find(path, value.lineno, "begin with a verb", summary)


def _unexplained(path: str, body: list[ast.stmt]) -> Iterator[Find]:
    """Yield the public functions whose docstrings leave out a parameter, an error or the meaning of None."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _unexplained(path, node.body)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        docstring = ast.get_docstring(node) or ""
        if (
            not docstring
            or docstring.startswith("See ")
            or "property" in "".join(map(ast.unparse, node.decorator_list))
        ):
            continue  # an implementation of a port is explained there, and a property has neither parameter nor error
        lines = [f"{node.name}: {what}" for what in (*_parameters(node, docstring), *_outcomes(node, docstring))]
        yield from (Find(path, node.lineno, "explain it under Args, Returns or Raises", line) for line in lines)


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, docstring: str) -> Iterator[str]:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    parameters = [one for one in every if one.arg not in ("self", "cls")]
    for one in parameters if len(parameters) > 1 else ():
        words = [word.rstrip("s") for word in one.arg.lower().split("_") if len(word) > SHORT]
        of_type = words[-1:] if one.annotation and words and words[-1] in ast.unparse(one.annotation).lower() else ()
        if (
            one.arg not in CONVENTIONAL
            and not of_type
            and not any(word in docstring.lower() for word in (*words, f"``{one.arg}``"))
        ):
            yield f"parameter {one.arg}"


def _outcomes(node: ast.FunctionDef | ast.AsyncFunctionDef, docstring: str) -> Iterator[str]:
    raised = {ast.unparse(one.exc) for one in ast.walk(node) if isinstance(one, ast.Raise) and one.exc}
    for name in sorted({one.partition("(")[0].rpartition(".")[2] for one in raised}):
        if name.endswith(("Error", "Exception")) and name not in docstring:
            yield name
    returned = ast.unparse(node.returns) if node.returns else ""
    if returned not in EXPLAINED_ONCE and re.search(r"\| None\b|\bOptional\b", returned) and "None" not in docstring:
        yield "None"


def in_subject(subject: str) -> Iterator[Find]:
    """Yield what is wrong with a commit's subject."""
    first = subject.partition(" ")[0]
    if first.lower() in NO_VERB or first.endswith(("ing", "ed")) or not first[:1].isupper() or subject.endswith("."):
        yield Find("commit", 1, "begin with a verb, in capitals, without a full stop", subject)
    if len(subject) > MAX_SUBJECT:
        yield Find("commit", 1, f"at most {MAX_SUBJECT} characters", subject)


def everything(root: Path) -> Iterator[Find]:
    """Yield what the rules find in the repository."""
    for page in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        yield from in_page(str(page.relative_to(root)), page.read_text(encoding="utf-8"))
    for package in PACKAGES:
        for module in sorted((root / package).rglob("*.py")):
            if module.name != Path(__file__).name:
                yield from in_module(str(module.relative_to(root)), module.read_text(encoding="utf-8"))
    for subject in new_subjects(root):
        yield from in_subject(subject)


def new_subjects(root: Path) -> list[str]:
    """Return the subjects of the commits that main does not have yet; on main itself, that of the last one."""
    for since in (["origin/main..HEAD"], ["main..HEAD"], ["-1", "HEAD"]):
        log = subprocess.run(  # noqa: S603 (git itself, which may not be there)
            ["git", "-C", str(root), "log", "--no-merges", "--format=%s", *since],  # noqa: S607
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if log.returncode == 0 and log.stdout.strip():
            return log.stdout.splitlines()
    return []


def main() -> int:
    """Print every find; return 1 if there is one."""
    finds = list(everything(REPOSITORY))
    sys.stdout.write("".join(f"{find}\n" for find in finds))
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
