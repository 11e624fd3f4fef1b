"""Draws with pygal, then keeps only the shapes: no script, no style sheet, no id, nothing from a network.

Colours and type come from the page, so that one drawing serves light, dark and print. Every bar keeps
its label and value as a title, which browsers show under the pointer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from xml.etree import ElementTree as ET

import pygal
from pygal.style import Style

from .chart import Series

# pygal hooks itself into every later import, for maps that are not used here, in a way that Python has
# deprecated (find_module): each import that fails would warn.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

WIDTH, HEIGHT = 400, 230  # of the view box; narrow, so that text stays legible on a phone
BAR_HEIGHT = 26  # of one horizontal bar, with its gap
TEXT_SIZE = 11
LABEL_LENGTH = 22  # characters of a label beside a bar

_STYLE = Style(label_font_size=TEXT_SIZE, major_label_font_size=TEXT_SIZE, font_family="sans-serif")


def columns(labels: Sequence[str], series: Sequence[Series], *, labels_shown: int = 6) -> str:
    """Draw upright bars, stacked; if there are many labels only some are written."""
    every = max(1, -(-len(labels) // labels_shown))
    chart = pygal.StackedBar(**_options(HEIGHT), show_minor_x_labels=False, x_labels_major_every=every, **_axis(series))
    chart.x_labels = list(labels)
    return _drawn(chart, labels, series)


def bars(labels: Sequence[str], series: Sequence[Series]) -> str:
    """Draw bars that lie down, the first on top; long labels are cut, the table has them whole."""
    # The library draws from the bottom up.
    upwards = list(reversed(labels))
    flipped = [Series(row.name, row.meaning, tuple(reversed(row.values))) for row in series]
    chart = pygal.HorizontalStackedBar(**_options(60 + BAR_HEIGHT * len(labels)), **_axis(series))
    chart.x_labels = [label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 1]}…" for label in upwards]
    return _drawn(chart, upwards, flipped)


def _options(height: int) -> dict[str, object]:
    return {
        "js": [],
        "style": _STYLE,
        "width": WIDTH,
        "height": height,
        "margin": 6,
        "show_legend": False,
        "print_values": False,
        "truncate_label": -1,  # labels come as long as they may be
        "spacing": 6,
        "formatter": lambda value: f"{value:,.0f}",
        "min_scale": 2,
        "max_scale": 6,
    }


def _axis(series: Sequence[Series]) -> dict[str, object]:
    """Return an axis of whole numbers: there is no third of a device."""
    most = max((sum(values) for values in zip(*(row.values for row in series), strict=True)), default=0)
    step = next(step for step in _steps() if step * 5 >= most)
    top = -(-max(most, 1) // step) * step
    labels = [{"value": value, "label": f"{value:,}"} for value in range(0, top + 1, step)]
    return {"y_labels": labels, "range": (0, top)}


def _steps() -> Sequence[int]:
    return [digit * 10**power for power in range(12) for digit in (1, 2, 5)]


def _drawn(chart: pygal.graph.graph.Graph, labels: Sequence[str], series: Sequence[Series]) -> str:
    for row in series:
        chart.add(row.name, list(row.values))
    root = chart.render_tree()
    _prune(root)
    for number, row in enumerate(series):
        groups = [group for group in root.iter("g") if f"serie-{number}" in group.get("class", "").split()]
        shapes = [bar for group in groups for bar in group.iter("g") if bar.get("class") == "bar"]
        for bar, label, value in zip(shapes, labels, row.values, strict=True):
            shape = bar.find("rect")
            if shape is None:  # the library draws a rectangle for every value
                raise RuntimeError(f"no bar for {label}")
            bar.clear()
            bar.append(ET.Element("rect", {**_geometry(shape), "class": row.meaning}))
            ET.SubElement(bar[0], "title").text = f"{label}: {value:,} {row.name}"
    return _inline(root)


def _geometry(shape: ET.Element) -> dict[str, str]:
    return {name: f"{float(shape.get(name, 0)):.1f}" for name in ("x", "y", "width", "height")}


def _prune(root: ET.Element) -> None:
    """Take out what is not a shape."""
    doomed = {"defs", "title", "desc", "script", "style"}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in doomed or callable(child.tag) or child.get("class") in _UNUSED:
                parent.remove(child)
        for name in ("id", "style"):
            parent.attrib.pop(name, None)


_UNUSED = {"background", "plot overlay", "plot text-overlay", "plot tooltip-overlay", "titles"}


def _inline(root: ET.Element) -> str:
    """Return the picture as HTML embeds it."""
    box = root.get("viewBox", "")
    inner = "".join(ET.tostring(child, encoding="unicode", method="xml") for child in root)
    return f'<svg class="chart" viewBox="{box}" aria-hidden="true" focusable="false">{inner}</svg>'
