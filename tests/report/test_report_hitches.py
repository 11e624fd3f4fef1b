"""A report of drift says what holds a fleet up, as a plan does: it is what people read each morning."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from report_scene import NOW, scene, scene_fleet

from controller.reconcile.values import IncidentReport, Refusal, WaveReport, WaveStatus
from controller.report import as_json, html, markdown, text
from controller.report.console import Look

DAY = timedelta(days=1)
REFUSAL = Refusal("orphans", None, "no policy names line-z (7 devices) any more", "--override orphans=7")
HALTED = WaveReport("line-a", 2, 3, WaveStatus.HALTED, "wave 2 of 3 stopped", remedy="remove the cause; then resume")
LATE = IncidentReport("leak", NOW + DAY, 4, 1, 0, NOW, "incident leak: 4 devices to go; 1 device blocked")
SLOW = WaveReport("line-b", 1, 3, WaveStatus.SOAKING, "wave 1 of 3 soaks")
INTIME = IncidentReport("small", NOW + DAY, 4, 0, 0, NOW, "incident small: in time")


@pytest.fixture(scope="module")
def held_up():
    fleet = scene_fleet()
    plan = replace(fleet.plan, refusals=(REFUSAL,), waves=(SLOW, HALTED), incidents=(LATE, INTIME))
    return scene(replace(fleet, plan=None, expected=plan))


RENDERERS = {
    "text": text.render_drift,
    "markdown": markdown.render_drift,
    "html": html.render_drift,
    "json": as_json.render_report,
}


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS.keys())
def test_a_report_of_drift_says_what_holds_the_fleet_up_and_what_to_do(held_up, render):
    told = render(held_up, Look(160))
    for hitch in (REFUSAL, HALTED, LATE):
        assert hitch.message in told
    for remedy in (REFUSAL.override, HALTED.remedy, "unblock what is blocked"):
        assert remedy in told
    for quiet in (SLOW, INTIME):
        assert quiet.message not in told, "it mends itself"
    [fleet] = held_up.fleets
    assert REFUSAL.message not in render(scene(replace(fleet, expected=None)), Look(160))
