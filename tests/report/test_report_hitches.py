"""A report of drift says what holds a fleet up, as a plan does: it is what people read each morning."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from report_scene import NOW, scene, scene_fleet

from controller.reconcile.values import IncidentReport, OfflineRisk, Outlook, Refusal, Stage, WaveReport, WaveStatus
from controller.report import as_json, html, markdown, text
from controller.report.attention import attention_of
from controller.report.formats import TextStyle

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
    told = render(held_up, TextStyle(160))
    for hitch in (REFUSAL, HALTED, LATE):
        assert hitch.message in told
    for remedy in (REFUSAL.override, HALTED.remedy, "unblock what is blocked"):
        assert remedy in told
    needs_somebody = re.split("Rollouts\n|[|] Rollout |<h3>Rollouts", told)[0]
    for quiet in (SLOW, INTIME):
        assert quiet.message not in needs_somebody, "it mends itself"
    [fleet] = held_up.fleets
    assert REFUSAL.message not in render(scene(replace(fleet, expected=None)), TextStyle(160))


RISK = OfflineRisk(
    "gateway-b-005", NOW + 40 * DAY, NOW - 3 * DAY, is_away=True, gaps=6, absence=70 * DAY, seen_again=NOW + 67 * DAY
)
RISKS = Outlook("line-b-gateways", at_risk=(RISK, *[replace(RISK, device=f"gateway-b-01{n}") for n in range(5)]))


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS.keys())
def test_a_report_names_who_may_expire_while_away_with_dates_and_what_to_do(render):
    fleet = scene_fleet()
    report = scene(replace(fleet, plan=None, expected=replace(fleet.plan, outlooks=(replace(RISKS, more_at_risk=3),))))
    told = re.sub(r"\s+", " ", render(report, TextStyle(400)))
    assert "9 devices of line-b-gateways will expire before they are likely to be seen again" in told
    dates = "ends 2027-01-02 12:00Z, away since 2026-11-20 12:00Z, expected by 2027-01-29 12:00Z"
    assert f"gateway-b-005 {dates}" in told
    assert "and 4 more" in told
    assert "rollout.offlineFirst: true" in told
    assert "renewBefore above 71d" in told


def test_who_is_asked_first_already_is_not_told_to_say_so_and_people_hear_of_each_new_device_once():
    fleet = scene_fleet()
    first = [replace(p, rollout=replace(p.rollout, offline_first=True)) for p in fleet.desired.policies]
    desired = replace(fleet.desired, policies=tuple(first))

    def said(*risks):
        plan = replace(fleet.plan, outlooks=(replace(RISKS, at_risk=risks),))
        return attention_of(replace(fleet, desired=desired, plan=plan))

    one = said(RISK)
    assert "offlineFirst" not in one.text()
    assert "1 device of line-b-gateways will expire before it is likely to be seen again" in one.text()
    assert said(replace(RISK, seen_at=NOW, is_away=False)).digest == one.digest, "dates alone are no news"
    assert said(RISK, replace(RISK, device="gateway-b-006")).digest != one.digest


ASKS = Refusal("maxChangePercent", "line-a", "36 devices, 90 % of 40 at once", "--override maxChangePercent=90")
AHEAD = (
    Outlook("line-a", 40, (Stage(1, 4, NOW, NOW + DAY), Stage(2, 36, NOW + 2 * DAY, NOW + 3 * DAY, ASKS))),
    Outlook("line-b", reported=7),
)


def test_the_headline_says_first_what_a_person_must_decide_and_last_when_all_is_done(held_up):
    [fleet] = held_up.fleets
    plan = replace(fleet.expected, outlooks=AHEAD)
    assert text.sentence(replace(fleet, expected=plan)).split(" · ") == [
        "refused by orphans",
        "rollout of line-a has stopped",
        "incident leak will not be met by itself",
        "maxChangePercent asks a person from 2026-11-25 12:00Z on: wave 2 of line-a has 36 devices",
        "7 devices of line-b only reported, never rotated",
        *text.sentence(replace(fleet, expected=None)).split(" · "),
        "done by 2026-11-26 12:00Z",
    ]
    stuck = replace(plan, outlooks=(replace(AHEAD[0], obstacle="wave 1 has stopped"),))
    assert "done by" not in text.sentence(replace(fleet, expected=stuck)), "nobody can tell"
