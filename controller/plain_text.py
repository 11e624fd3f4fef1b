"""Text of others, made fit for a line, a terminal and a CI's log."""

from __future__ import annotations

import re

# What steers a terminal, ends a line or turns the direction of writing; but for the line feed and the escape.
_STEERING = r"\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_NO_TEXT = re.compile(rf"[\x1b{_STEERING}]")
_NO_COLOR = re.compile(rf"\x1b(?!\[[0-9;]*m)|[{_STEERING}]")
_COMMAND = re.compile(r"^(\s*)(:|##)(:|\[)", re.MULTILINE)  # of GitHub's runner, which looks at the start of lines


def one_line(text: str) -> str:
    """Return foreign text (of a device, certificate, job or server) as one line without control characters."""
    return _NO_TEXT.sub("\ufffd", " ".join(text.split()))


def inert(text: str, *, may_color: bool = False) -> str:
    """Return a text that neither steers a terminal nor gives a CI's runner a command; colours stay if ``may_color``."""
    tame = (_NO_COLOR if may_color else _NO_TEXT).sub("\ufffd", text)
    return _COMMAND.sub(r"\1\2 \3", tame)
