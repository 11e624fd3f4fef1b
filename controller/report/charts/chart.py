"""A chart as a page needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Series:
    """One row of values; ``meaning`` is a class of the page's style sheet: good, change, wait, bad, soft, hue-N."""

    name: str
    meaning: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture and what it shows; ``svg`` is empty if there is nothing to draw, and ``empty`` shows why."""

    key: str  # unique within a fleet
    title: str
    description: str  # the picture in one sentence, for those who do not see it
    svg: str
    legend: tuple[tuple[str, str], ...]  # name and meaning of each series
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()  # what the picture should make a reader notice
    empty: str = ""


def absent(key: str, title: str, why: str) -> Chart:
    """Return the chart of this ``key`` and title, for which there are no numbers, and why."""
    return Chart(key, title, "", "", (), (), (), empty=why)


def table_of(labels: Sequence[str], series: Sequence[Series]) -> tuple[tuple[str, ...], ...]:
    """Return rows of a label and one number per series."""
    return tuple((label, *(f"{row.values[i]:,}" for row in series)) for i, label in enumerate(labels))
