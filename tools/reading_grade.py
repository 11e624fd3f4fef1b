"""Print the reading grade (Flesch-Kincaid) of each page, and refuse pages that are hard to read.

``python tools/reading_grade.py PAGE…`` needs textstat, which ``make docs`` installs into an environment of its own.
Code blocks and tables are left out; a name in backquotes counts as one short word. A page of fewer than 80 words has no
grade. Exits with 1 if the average is above 10 or a page is above 12, the bounds of docs/style.md.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

AVERAGE, HIGHEST = 10.0, 12.0
MIN_WORDS = 80

_LEFT_OUT = re.compile(r"\A---\n.*?\n---\n|```.*?```|^\|.*?$|<[^>]+>", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )")
_MARK = re.compile(r"^\s*(?:#+|[-*]|\d+\.)\s*")


def prose(page: str) -> str:
    """Return the sentences of a page in Markdown; a heading or an item of a list ends a sentence."""
    text = _LINK.sub(r"\1", re.sub(r"`[^`]*`", "name", _LEFT_OUT.sub("", page)))
    blocks = (" ".join(_MARK.sub("", block).split()).rstrip(":") for block in _BLOCK.split(text))
    return " ".join(block if block.endswith((".", "!", "?")) else f"{block}." for block in blocks if block)


def main(paths: list[str]) -> int:
    """Print a line a page, the hardest first, and the average."""
    from textstat import textstat  # noqa: PLC0415  # only `make docs` has it

    texts = {path: prose(Path(path).read_text("utf-8")) for path in paths}
    grades = {
        path: textstat.flesch_kincaid_grade(text) for path, text in texts.items() if len(text.split()) >= MIN_WORDS
    }
    for path, grade in sorted(grades.items(), key=lambda entry: -entry[1]):
        sys.stdout.write(f"{grade:5.1f}  {path}\n")
    average = sum(grades.values()) / len(grades)
    sys.stdout.write(f"{average:5.1f}  on average over {len(grades)} pages\n")
    if average <= AVERAGE and max(grades.values()) <= HIGHEST:
        return 0
    sys.stderr.write(f"expected at most {AVERAGE} on average and {HIGHEST} a page: shorten sentences (docs/style.md)\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
