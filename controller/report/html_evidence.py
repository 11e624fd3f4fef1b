"""Evidence as one self-contained page."""

from __future__ import annotations

from collections import Counter

from markupsafe import Markup

from controller.evidence import FleetEvidence

from .evidence import MEANING, Found, age, approved_by, told_of_drill, told_of_exemption, verdict
from .formats import TextStyle
from .html import content_security_policy, part, template

ROWS_SHOWN = 5_000
"""Of a fleet; the CSV and JSON hold all of them."""


def render(found: Found, _look: TextStyle) -> str:
    """Return the whole page."""
    style = part("style.css")
    page: str = template("evidence.html.jinja").render(
        found=found,
        rows_shown=ROWS_SHOWN,
        gaps=_gaps,
        meaning=MEANING,
        verdict=verdict,
        age=age,
        approved_by=approved_by,
        told_of_drill=told_of_drill,
        told_of_exemption=told_of_exemption,
        is_good=not any(one.exceeding for fleet in found.fleets for one in fleet.ages),
        style=Markup(style),  # noqa: S704 - ours
        policy=content_security_policy(style),
    )
    return page


def _gaps(fleet: FleetEvidence) -> list[tuple[str, int]]:
    return sorted(Counter(gap.value for row in fleet.rows for gap in row.gaps).items())
