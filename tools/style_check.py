"""Check the English of pages, messages, docstrings and the last commit's subject against docs/style.md.

``python tools/style_check.py`` prints each find as ``path:line: rule: text`` and exits with 1 if there is one. It reads
files only, and takes about a second.
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
    log = subprocess.run(  # noqa: S603 (git itself, which may not be there)
        ["git", "-C", str(root), "log", "-1", "--no-merges", "--format=%s"],  # noqa: S607
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if log.returncode == 0 and log.stdout.strip():
        yield from in_subject(log.stdout.strip())


def main() -> int:
    """Print every find; return 1 if there is one."""
    finds = list(everything(REPOSITORY))
    sys.stdout.write("".join(f"{find}\n" for find in finds))
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
