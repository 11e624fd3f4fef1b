"""The first look at a fleet, as text: what was written, who could rotate today, and what keeps the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controller.adoption import GroupSurvey, Obstacle
from controller.reconcile.values import Reason

from . import words
from .console import Page, table
from .formats import TextStyle


def render_first_look(folder: str, files: Iterable[str], surveys: Sequence[GroupSurvey], look: TextStyle) -> str:
    """Return the page that ``certfleet init`` ends with, on the files that it wrote."""
    page = Page(look)
    devices, able = sum(found.devices for found in surveys), sum(found.able for found in surveys)
    page.line((f"{able:,} of {words.count(devices, 'device')} could rotate today", "head"))
    page.gap()
    rows = [(found.group, f"{found.devices:,}", f"{found.able:,}", _blocked(found)) for found in surveys]
    columns = (("Thing group", "keep"), ("Devices", "right"), ("Able", "right"), ("Blocked", "wrap"))
    page.add(table(*columns, rows=rows))
    for reason, number, obstacle in _obstacles(surveys):
        page.gap()
        page.line((str(reason), "bad"), f"  {words.count(number, 'device')}, such as {obstacle.example}", indent=2)
        page.line(obstacle.finding.message, indent=4)
        page.line((f"→ {obstacle.finding.remedy}", "change"), indent=4)
    page.gap()
    page.line(("Written", "head"), f"  {folder}: {', '.join(files)}")
    page.line("Every policy only reports. Read the documents, commit them, then: certfleet drift")
    return page.text()


def _blocked(found: GroupSurvey) -> str:
    return ", ".join(f"{obstacle.devices:,} {reason}" for reason, obstacle in found.obstacles.items())


def _obstacles(surveys: Sequence[GroupSurvey]) -> list[tuple[Reason, int, Obstacle]]:
    """Return each reason once, the most frequent first, with the devices of all groups."""
    together: dict[Reason, list[Obstacle]] = {}
    for group in surveys:
        for reason, obstacle in group.obstacles.items():
            together.setdefault(reason, []).append(obstacle)
    counted = [
        (reason, sum(each.devices for each in all_of_it), all_of_it[0]) for reason, all_of_it in together.items()
    ]
    return sorted(counted, key=lambda entry: -entry[1])
