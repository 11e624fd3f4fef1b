"""How text reports are drawn: one width, one palette, one table style. Without colour nothing is lost."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from controller.plain_text import inert
from controller.reconcile.values import Health, Outcome

from .formats import TextStyle

# Of the 256, such as are read on white and on black alike; the first sixteen are whatever a terminal makes of them.
_COLORS = {"good": "color(28)", "change": "color(32)", "wait": "color(130)", "bad": "color(160)"}
# A theme's names cannot be put together with other words: "bold good" is a name of its own.
THEME = Theme(
    {
        **_COLORS,
        **{f"bold {name}": f"bold {color}" for name, color in _COLORS.items()},
        "dim": "color(243)",
        "head": "bold",
    }
)
OUTCOME_STYLES = {Outcome.ROTATE: "change", Outcome.WAITING: "wait", Outcome.BLOCKED: "bad"}
HEALTH_STYLES = {
    Health.HEALTHY: "good",
    Health.PROGRESSING: "change",
    Health.SUSPENDED: "wait",
    Health.DEGRADED: "bad",
    Health.MISSING: "bad",
}
MIN_WIDTH, MAX_WIDTH = 60, 160


class Page:
    """A text report in the making: lines and tables from top to bottom, then ``text()``."""

    def __init__(self, look: TextStyle) -> None:
        self._file = io.StringIO()
        self._console = Console(
            file=self._file,
            width=min(max(look.width, MIN_WIDTH), MAX_WIDTH),
            force_terminal=look.color,
            color_system="256" if look.color else None,
            no_color=not look.color,
            theme=THEME,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )

    def line(self, *parts: str | tuple[str, str], indent: int = 0) -> None:
        """Add a paragraph; a part is text, or text with a style. It wraps under its own indent."""
        self.add(Padding(Text.assemble(*parts), (0, 0, 0, indent)))

    def gap(self) -> None:
        """Add an empty line."""
        self._console.print()

    def heading(self, title: str, note: str = "") -> None:
        """Add a section's title, and a note beside it, after an empty line."""
        self.gap()
        self.line((title, "head"), (f"  {note}" if note else "", "dim"))

    def add(self, renderable: RenderableType) -> None:
        """Add anything that rich can draw."""
        self._console.print(renderable)

    def text(self) -> str:
        """Return the report without trailing blanks and without control sequences other than colour."""
        tame = inert(self._file.getvalue(), may_color=self._console.is_terminal)
        return "".join(f"{line.rstrip()}\n" for line in tame.split("\n")[:-1])


_LEAST = 8  # columns that even a cut name has
_LEAST_SENTENCE = 18
_BETWEEN = 3  # two columns, by SIMPLE_HEAD


class _Table(Table):
    """A table that shortens names before it would shorten a number or a word that shows how something stands.

    The last columns stand below each row, across the page, if it is too narrow for all of them.
    """

    def __init__(self, columns: Sequence[tuple[str, str]], given: Sequence[Sequence[str | Text]]) -> None:
        super().__init__(box=SIMPLE_HEAD, pad_edge=False, header_style="head", show_edge=False, padding=(0, 1))
        self._titles, self._kinds = ([column[part] for column in columns] for part in (0, 1))
        self._given = given
        cells = ([title, *(str(row[number]) for row in given)] for number, title in enumerate(self._titles))
        self._longest = [max(len(line) for cell in of_column for line in cell.split("\n")) for of_column in cells]
        for title, kind in columns:
            self.add_column(
                title,
                justify="right" if kind == "right" else "left",
                no_wrap=kind != "wrap",
                overflow="ellipsis" if kind == "cut" else "fold",
                ratio=1 if kind == "wrap" else None,
            )
        for row in given:
            self.add_row(*row)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it, as wide as there is room."""
        beside = len(self._kinds)
        while beside > 1 and self._least(beside) > options.max_width:
            beside -= 1
        if beside < len(self._kinds):
            yield from self._stacked(beside, options.max_width)
            return
        least = {"cut": 0, "wrap": _LEAST_SENTENCE}
        taken = sum(least.get(kind, longest) for kind, longest in zip(self._kinds, self._longest, strict=True))
        gaps = len(self._kinds) - 1
        if sum(self._longest) + _BETWEEN * gaps > options.max_width:
            self.padding = (0, 1, 0, 0)
        between = _BETWEEN - 1 if self.padding[3] == 0 else _BETWEEN
        room = options.max_width - taken - between * gaps
        for column, kind, longest in zip(self.columns, self._kinds, self._longest, strict=True):
            if kind == "cut":
                column.max_width = max(_LEAST, min(longest, room // self._kinds.count("cut")))
            elif kind != "wrap":
                column.min_width = longest
        yield from super().__rich_console__(console, options)

    def _least(self, columns: int) -> int:
        """Return how much room so many of the columns need, side by side."""
        least = {"cut": _LEAST, "wrap": _LEAST_SENTENCE}
        of_each = zip(self._kinds[:columns], self._longest[:columns], strict=True)
        return sum(min(longest, least.get(kind, longest)) for kind, longest in of_each) + 2 * (columns - 1)

    def _stacked(self, beside: int, width: int) -> RenderResult:
        columns = list(zip(self._titles[:beside], self._kinds[:beside], strict=True))
        longest, cut = self._longest[:beside], self._kinds[:beside].count("cut")
        fixed = sum(one for one, (_, kind) in zip(longest, columns, strict=True) if kind != "cut")
        room = max(_LEAST, (width - fixed - 2 * (beside - 1)) // max(1, cut))
        widths = [min(one, room) if kind == "cut" else one for one, (_, kind) in zip(longest, columns, strict=True)]
        yield _row(columns, widths, [Text(title, "head") for title, _ in columns])
        yield Text("─" * width)
        for row in self._given:
            yield _row(columns, widths, row[:beside])
            below = Text("; ").join(
                self._below(number, cell) for number, cell in enumerate(row[beside:], beside) if str(cell)
            )
            yield Padding(below, (0, 0, 0, 2))

    def _below(self, number: int, cell: str | Text) -> Text:
        """Return a cell below its row, after its column's title; a sentence needs no title."""
        text = Text(cell) if isinstance(cell, str) else cell
        if self._kinds[number] == "wrap":
            return text
        return Text.assemble(f"{self._titles[number]} ", Text(", ").join(text.split("\n")))


def _row(columns: Sequence[tuple[str, str]], widths: Sequence[int], cells: Sequence[str | Text]) -> Table:
    """Return one row by itself, its columns as wide as those of the others."""
    row = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for (_title, kind), width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if kind == "right" else "left"
        row.add_column(justify=justify, width=width, no_wrap=True, overflow="ellipsis", vertical="bottom")
    row.add_row(*cells)
    return row


def table(*columns: tuple[str, str], rows: Sequence[Sequence[str | Text]]) -> Table:
    """Return a table; a column is its title and how it behaves.

    ``right`` for numbers, ``keep`` for what must stay on one line, ``cut`` for what may end in an
    ellipsis, ``wrap`` for sentences.
    """
    return _Table(columns, rows)
