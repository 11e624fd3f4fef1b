"""The charts of one fleet, in the order that a reader asks for them."""

from __future__ import annotations

from controller.report.model import FleetReport

from . import inventory, work
from .chart import Chart


def charts_of(fleet: FleetReport) -> tuple[Chart, ...]:
    """Return the charts: what is to come and where, what was done, and what the fleet holds."""
    return (
        work.forecast(fleet),
        work.trend(fleet),
        work.rotations(fleet),
        inventory.ages(fleet),
        inventory.key_types(fleet),
        inventory.authorities(fleet),
    )
