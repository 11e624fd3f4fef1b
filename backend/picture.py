"""Draw the table of verdicts into docs/backend.md: ``python -m backend.picture``. A test compares the two."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from backend.functions.verdicts import ROWS, CertificateRole, Notification, Ruling

DOC = Path(__file__).resolve().parent.parent / "docs" / "backend.md"
BEGIN, END = "<!-- drawn by python -m backend.picture -->", "<!-- end -->"

_GOES = {CertificateRole.OLD: "the old one goes", CertificateRole.NEW: "the new one goes", None: "both stay"}
_TOLD = {
    Notification.NOBODY: "",
    Notification.NOTE: ", and it is noted",
    Notification.PERSON: ", **a person must decide**",
}


def drawn() -> str:
    """Return the table as a Mermaid flowchart: from what is known to what goes, read from top to bottom."""
    lines = ["```mermaid", "flowchart LR"]
    for number, row in enumerate(ROWS):
        lines.append(f'  k{number}["{number + 1}. {_known(row)}"] --> v{number}{_verdict(row)}')
    return "\n".join([*lines, "```"])


def _known(row: Ruling) -> str:
    words: tuple[Enum | None, ...] = (row.commit, row.end, row.use)
    return "; ".join(str(word.value) for word in words if word is not None) or "whatever else is known"


def _verdict(row: Ruling) -> str:
    text = f"{_GOES[row.goes]}{_TOLD[row.told]}: {row.because}"
    return f'("`{text}`")' if row.goes is None else f'(["`{text}`"])'


def with_picture(text: str) -> str:
    """Return the page with the picture in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{drawn()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    DOC.write_text(with_picture(DOC.read_text(encoding="utf-8")), encoding="utf-8")
