"""What people are told of without asking: by tracking issue, or by notification."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from report_scene import NOW, scene_fleet

from controller.reconcile.values import IncidentReport
from controller.report.attention import attention_of

DAY = timedelta(days=1)
INCIDENTS = {
    "in time": ({"finish": NOW + DAY}, False),
    "late": ({"finish": NOW + 3 * DAY}, True),
    "never": ({"finish": None}, True),
    "its deadline has passed": ({"deadline": NOW - DAY, "finish": NOW + DAY}, True),
    "a device is blocked": ({"finish": NOW + DAY, "blocked": 1}, True),
    "finished late": ({"deadline": NOW - DAY, "finish": NOW, "remaining": 0}, False),
}


@pytest.mark.parametrize(("fields", "is_told"), INCIDENTS.values(), ids=INCIDENTS)
def test_an_incident_that_will_not_be_over_in_time_by_itself_is_told(fields, is_told):
    values = {"deadline": NOW + 2 * DAY, "remaining": 4, "blocked": 0, "finish": NOW} | fields
    incident = IncidentReport("leak", **values, accepted=0, message="incident leak: 4 devices to go")
    report = scene_fleet()
    quiet = attention_of(replace(report, plan=replace(report.plan, incidents=())))
    told = attention_of(replace(report, plan=replace(report.plan, incidents=(incident,))))
    assert (told.digest != quiet.digest) is is_told
    assert any(line.startswith("incident leak: 4 devices to go → ") for line in told.lines) is is_told
    later = replace(incident, message="incident leak: 3 devices to go")
    again = attention_of(replace(report, plan=replace(report.plan, incidents=(later,))))
    assert again.digest == told.digest, "the same is not told twice because a number has changed"
