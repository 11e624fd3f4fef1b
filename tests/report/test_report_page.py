"""The HTML report in a real browser: quiet, self-contained, accessible, and quick with a hundred thousand rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_scene import DAY, FAILURE, HOSTILE, NOW, crowd, scene, scene_fleet

from controller.reconcile.values import IncidentReport, Mode, Refusal, WaveReport, WaveStatus
from controller.report.formats import TextStyle
from controller.report.html import render_drift
from controller.report.model import Report

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
SCHEMES = {"light": {"prefers-color-scheme": "light"}, "dark": {"prefers-color-scheme": "dark"}}
COUNT = "document.getElementById('count').textContent"
DRAWN = "[...document.querySelectorAll('#devices tbody tr')].map(row => row.cells[0].textContent)"


@pytest.fixture
def opened(browser, tmp_path):
    """Open a report; afterwards every page must have been quiet and asked a network for nothing."""
    tabs = []

    def open_report(report: Report, **changes):
        page = tmp_path / f"{len(tabs)}.html"
        page.write_text(render_drift(report, TextStyle()), encoding="utf-8")
        tabs.append((page, browser.open(page, **changes)))
        return tabs[-1][1]

    yield open_report
    for page, tab in tabs:
        assert tab.requests == [page.as_uri()], "nothing but the page itself"
        assert tab.complaints == []
        tab.close()


def _violations(tab) -> list[str]:
    """What axe-core finds serious or critical, with the first element at fault."""
    tab.run(AXE.read_text(encoding="utf-8") + "\n;0")
    found = tab.run(
        "axe.run(document, {resultTypes: ['violations']}).then(result => JSON.stringify(result.violations))"
    )
    return [
        f"{entry['id']} ({entry['impact']}): {entry['nodes'][0]['html']}"
        for entry in json.loads(found)
        if entry["impact"] in {"serious", "critical"}
    ]


@pytest.mark.unmeasured
@pytest.mark.parametrize("features", SCHEMES.values(), ids=SCHEMES.keys())
def test_everything_a_report_can_show_is_accessible(opened, features):
    report = scene(_with_sites(scene_fleet()), scene_fleet("hospital"), failures=(FAILURE,))
    tab = opened(report, features=features)
    tab.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert _violations(tab) == []


@pytest.mark.unmeasured
def test_axe_would_say_so_if_it_were_not(opened):
    tab = opened(scene())
    tab.run("document.getElementById('words').closest('label').replaceWith(document.getElementById('words'))")
    assert any("label" in violation for violation in _violations(tab))


def test_a_fleet_in_sync_without_past_or_future_is_told_as_that(opened, make):
    tab = opened(make.report(make.fleet([make.device("a", "line-a-gateways")])))
    text = tab.run("document.body.innerText")
    assert "factory is in sync" in text
    assert "Nothing: whatever is left, certfleet does by itself." in text
    assert "No device departs from its policy, and none is about to." in text
    assert "no past reports are kept: certfleet drift --history PLACE keeps them" in text
    assert tab.run("document.getElementById('filter')") is None
    assert _violations(tab) == []


def test_what_is_only_reported_is_not_said_to_be_done_by_itself(make):
    fleet = make.fleet([make.device("a", "line-a-gateways", 300)])
    [policy, *others] = fleet.policies
    reporting = replace(policy, policy=replace(policy.policy, mode=Mode.REPORT))
    page = render_drift(make.report(replace(fleet, policies=(reporting, *others))), TextStyle())
    assert "1 device stands under a policy that only reports: remove its mode: report to rotate them." in page
    assert "by itself" not in page


def test_the_first_screen_says_whether_what_when_and_who(opened):
    tab = opened(scene())
    shown = tab.run("document.body.innerText.slice(0, 950)")
    assert shown.index("factory is out of sync") < shown.index("need a person") < shown.index("Needs a person")
    for words in ("to rotate", "rotate within 7 days", "provision the device", "policies.yaml:10"):
        assert words in shown


def test_a_plan_shows_its_jobs_and_where_the_rollouts_stand(opened):
    text = opened(scene()).run("document.body.innerText")
    assert "Plan, 2026-11-23 12:00Z" in text
    assert "2 devices rotate in 2 jobs" in text
    assert "× ECDSA-P256 / plant-ca / 365 d → ECDSA-P256 / plant-ca / 365 d" in text
    stands = "line-a-gateways\t1 of 3\topen\t0\t0\t17\t2026-11-24 12:10Z\twave 1 of 3 reaches 1 device; 16 devices wait"
    assert stands in text
    assert "nothing is recorded of what was governed before" in text


def test_refusals_and_halted_rollouts_stand_first_among_what_needs_a_person(opened):
    fleet = scene_fleet()
    refusal = Refusal("maxChangePercent", None, "41 % of 305 devices, 30 % allowed", "--override maxChangePercent=41")
    halted = WaveReport("line-a-gateways", 2, 3, WaveStatus.HALTED, "12 % failed, 5 % may", remedy="find the cause")
    incident = IncidentReport("leak", NOW, 4, 1, 0, None, "4 devices still match")
    plan = replace(fleet.plan, refusals=(refusal,), waves=(halted,), incidents=(incident,))
    tab = opened(scene(replace(fleet, plan=plan)))
    first, second = tab.run("[...document.querySelectorAll('.cards li')].slice(0, 2).map(card => card.innerText)")
    assert first.startswith("certfleet apply --wait --override maxChangePercent=41\n")
    assert "guardrail maxChangePercent, whole fleet: 41 % of 305 devices, 30 % allowed" in first
    assert second.startswith("find the cause\n")
    assert "rollout of line-a-gateways: 12 % failed, 5 % may" in second
    assert "incident leak, deadline 2026-11-23 12:00Z\n4 devices still match" in tab.run("document.body.innerText")


def test_more_things_to_do_than_fit_are_counted(opened):
    fleet = scene_fleet()
    waves = tuple(WaveReport(f"p-{n}", 1, 3, WaveStatus.HALTED, "halted", remedy="look") for n in range(70))
    tab = opened(scene(replace(fleet, plan=replace(fleet.plan, waves=waves))))
    assert tab.run("document.querySelectorAll('.cards li').length") == 60
    text = tab.run("document.getElementById('person-heading').parentElement.innerText")
    assert "75 to decide or to do" in text
    assert text.endswith("and 15 more: their devices stand in the table, with the reason")


def test_what_a_person_has_decided_is_told_but_needs_nobody(opened):
    tab = opened(scene())
    cards = tab.run("[...document.querySelectorAll('.cards li')].map(card => card.innerText).join()")
    assert "Suspended" not in cards
    tiles = tab.run("[...document.querySelectorAll('.tiles div')].map(tile => tile.textContent.trim())")
    assert {"need a person5", "waived, suspended or quarantined4"} <= set(tiles)
    assert "Waived, suspended or quarantined 4 devices left out, as a person decided" in tab.run(
        "document.body.innerText"
    )
    _choose(tab, "state", "Waived, suspended or quarantined")
    assert tab.run(DRAWN) == ["paint-0", "paint-1", "paint-2", "paint-3"]


@pytest.mark.unmeasured
def test_colours_follow_the_scheme(opened):
    backgrounds = {
        name: opened(scene(), features=features).run("getComputedStyle(document.body).backgroundColor")
        for name, features in SCHEMES.items()
    }
    assert backgrounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 23, 30)"}


@pytest.mark.unmeasured
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_never_scrolls_sideways(opened, width):
    tab = opened(scene(scene_fleet(), scene_fleet("hospital"), failures=(FAILURE,)), width=width)
    assert tab.run("document.documentElement.scrollWidth") == width


@pytest.mark.unmeasured
def test_paper_shows_what_can_be_read_and_nothing_to_click_on(opened):
    tab = opened(scene())
    tab.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for name in ("#filter", "#pages", ".skip", "summary"):
        assert tab.run(f"getComputedStyle(document.querySelector('{name}')).display") == "none"
    assert tab.paper().startswith(b"%PDF-")


@pytest.mark.unmeasured
class TestFilter:
    def test_words_are_sought_in_every_column_and_all_must_be_found(self, opened):
        tab = opened(scene())
        everything = tab.run(DRAWN)
        for words, names in {
            "GATEWAY-B-10": ["gateway-b-100", "gateway-b-101", "gateway-b-102", "gateway-b-103"],
            "gateway-b needs extra": ["gateway-b-102"],
            "straggler not known": ["gateway-a-202"],
            "no such device": [],
        }.items():
            _fill(tab, words)
            assert tab.run(DRAWN) == names
        assert tab.run(COUNT) == "no row matches"
        _fill(tab, "")
        assert tab.run(DRAWN) == everything

    def test_choices_and_words_narrow_together(self, opened):
        tab = opened(scene(scene_fleet(), scene_fleet("hospital")))
        _choose(tab, "reason", "NoCertificate")
        assert tab.run(DRAWN) == [HOSTILE, "gateway-b-100"] * 2
        _choose(tab, "fleet", "hospital")
        assert tab.run(DRAWN) == [HOSTILE, "gateway-b-100"]
        _choose(tab, "state", "Waiting")
        assert tab.run(COUNT) == "no row matches"
        _choose(tab, "reason", "all")
        assert tab.run(COUNT) == "1 to 27 of 27 that match"

    def test_the_keyboard_is_enough(self, opened):
        tab = opened(crowd(250))
        tab.press("Tab")
        assert tab.run("document.activeElement.className") == "skip"
        tab.press("Enter")
        assert tab.run("document.activeElement.id") == "devices-heading"
        tab.press("Tab")
        tab.type("gateway-00")
        tab.press("Enter")
        assert tab.run(COUNT) == "1 to 100 of 250 that match"
        focus = _tab_to(tab, "next")
        assert focus[:4] == ["state", "reason", "policy", "link"]
        tab.press("Enter")
        tab.press("Enter")
        assert tab.run(COUNT) == "201 to 250 of 250 that match"
        assert tab.run("document.getElementById('next').disabled") is True
        assert tab.run("document.activeElement.id") == "previous", "the focus does not fall off a button that is off"

    def test_a_hundred_thousand_rows_are_filtered_and_only_a_hundred_drawn(self, opened):
        tab = opened(crowd(100_001))
        assert "This page carries 100,000 of them: the JSON report has all." in tab.run("document.body.innerText")
        assert len(tab.run(DRAWN)) == 100
        _fill(tab, "gateway-0500")
        assert tab.run(COUNT) == "1 to 100 of 100 that match"
        _fill(tab, "gateway-050000")
        assert tab.run(DRAWN) == ["gateway-050000"]
        _fill(tab, "gateway")
        assert tab.run(COUNT) == "1 to 100 of 100,000 that match"
        assert len(tab.run(DRAWN)) == 100


def test_every_device_can_be_sought_also_one_that_is_in_sync(opened):
    fleet = replace(scene_fleet(), quiet=(("gateway-a-001", "line-a-gateways"), ("gateway-a-002", "line-a-gateways")))
    tab = opened(scene(fleet))
    assert "devices have something to say; those that need a person come first. 2 in sync come last." in tab.run(
        "document.body.innerText"
    )
    _fill(tab, "gateway-a-002")
    assert tab.run(DRAWN) == ["gateway-a-002"]
    _choose(tab, "state", "In sync")
    _fill(tab, "")
    assert tab.run(DRAWN) == ["gateway-a-001", "gateway-a-002"]


def _with_sites(fleet):
    """The scene's fleet over three sites; of every fourth device none is known."""
    named = {found.device: f"plant-{number % 4 * 5}" for number, found in enumerate(fleet.assessments) if number % 4}
    desired = replace(fleet.desired, fleet=replace(fleet.desired.fleet, site_attribute="plant"))
    return replace(fleet, desired=desired, sites=named)


class TestSites:
    def test_devices_are_narrowed_by_site_and_reason_and_the_choice_is_a_link(self, opened):
        fleet = _with_sites(scene_fleet())
        tab = opened(scene(fleet))
        heads = tab.run("[...document.querySelectorAll('#devices thead th')].map(head => head.textContent)")
        assert heads == ["Device", "Site", "Policy", "State", "Reason", "Due", "Why"]
        options = tab.run("[...document.getElementById('site').options].map(option => option.text)")
        assert options == ["all", "–", "plant-5", "plant-10", "plant-15"], "10 stands after 5"
        _choose(tab, "site", "plant-10")
        _choose(tab, "reason", "AgeExceeded")
        drawn = tab.run(DRAWN)
        assert drawn
        assert {fleet.sites[device] for device in drawn} == {"plant-10"}
        assert tab.run("document.getElementById('link').hash") == "#reason=AgeExceeded&site=plant-10"
        again = opened(scene(fleet))
        again.run("location.hash = '#reason=AgeExceeded&site=plant-10'")
        again.run("new Promise(done => setTimeout(done))")
        assert again.run(DRAWN) == drawn
        _choose(tab, "site", "all")
        _choose(tab, "reason", "all")
        _fill(tab, "plant-15")
        assert {fleet.sites[device] for device in tab.run(DRAWN)} == {"plant-15"}, "it is searched like any word"

    def test_under_600_pixels_the_site_stands_in_each_card(self, opened):
        tab = opened(scene(_with_sites(scene_fleet()), scene_fleet("hospital")), width=390)
        labels = tab.run("[...document.querySelector('#devices tbody tr').cells].map(each => each.dataset.label ?? '')")
        assert labels == ["", "Fleet", "Site", "Policy", "State", "Reason", "Due", "Why"]
        assert tab.run("document.documentElement.scrollWidth") == 390

    def test_without_sites_there_is_no_such_column_and_the_rows_are_no_longer(self):
        page = render_drift(scene(), TextStyle())
        assert 'id="site"' not in page
        [first, *_] = json.loads(page.partition('id="rows">')[2].partition("</script>")[0])["rows"]
        assert len(first) == 8


@pytest.mark.unmeasured
class TestLinks:
    def test_a_choice_is_a_link_that_opens_as_the_same_choice_elsewhere(self, opened):
        tab = opened(scene(scene_fleet(), scene_fleet("hospital")))
        _choose(tab, "policy", "line-b-gateways")
        _choose(tab, "fleet", "hospital")
        _fill(tab, "gateway-b-10")
        shared, drawn = tab.run("document.getElementById('link').hash"), tab.run(DRAWN)
        assert shared == "#words=gateway-b-10&policy=line-b-gateways&fleet=hospital"
        assert len(drawn) == 4
        _choose(tab, "fleet", "all")
        assert tab.run(DRAWN) != drawn
        tab.run(f"location.hash = {json.dumps(shared)}")
        tab.run("new Promise(done => setTimeout(done))")  # the page has been told
        assert tab.run(DRAWN) == drawn

    def test_a_card_leads_to_its_devices(self, opened):
        tab = opened(scene())
        tab.run("[...document.querySelectorAll('.cards a')].find(each => each.textContent === 'gateway-b-100').click()")
        tab.run("new Promise(done => setTimeout(done))")
        assert tab.run(DRAWN) == ["gateway-b-100"]

    def test_what_a_link_names_and_this_report_has_not_matches_nothing(self, opened):
        tab = opened(scene())
        tab.run("location.hash = '#policy=long-gone'")
        tab.run("new Promise(done => setTimeout(done))")
        assert tab.run(COUNT) == "no row matches"


@pytest.mark.unmeasured
@pytest.mark.parametrize("features", SCHEMES.values(), ids=SCHEMES.keys())
def test_on_a_telephone_each_row_is_a_card_with_its_labels_and_accessible(opened, features):
    tab = opened(scene(scene_fleet(), scene_fleet("hospital"), failures=(FAILURE,)), width=390, features=features)
    _fill(tab, "gateway-b-100")
    row = tab.run("document.querySelector('#devices tbody tr').getBoundingClientRect().width")
    assert row <= 390, "nothing stands beside the screen"
    labels = tab.run(
        "[...document.querySelectorAll('#devices tbody tr:first-child td')]"
        ".map(cell => getComputedStyle(cell, '::before').content)"
    )
    assert labels == [f'"{name}"' for name in ("Fleet", "Policy", "State", "Reason", "Due", "Why")]
    assert tab.run("document.documentElement.scrollWidth") == 390
    assert _violations(tab) == []


def test_of_many_fleets_the_one_that_needs_people_most_stands_first(opened, make):
    calm = replace(make.fleet([make.device("a", "line-a-gateways")]), desired=scene_fleet("aachen").desired)
    tab = opened(scene(calm, scene_fleet("zwickau"), failures=(FAILURE,)))
    heads = "[...document.querySelectorAll('[aria-labelledby=fleets-heading] tbody th')].map(cell => cell.innerText)"
    assert tab.run(heads) == ["zwickau", "aachen", "overseas"]


def test_what_a_device_says_stays_text_wherever_it_stands(opened):
    tab = opened(scene(scene_fleet(HOSTILE[:40])))
    assert tab.run("document.scripts.length") == 2, "the packed rows and the filter"
    assert tab.run("document.images.length + document.querySelectorAll('b, iframe, object, link').length") == 0
    _fill(tab, "onerror")
    assert HOSTILE in tab.run(DRAWN)
    text = tab.run("document.body.innerText")
    assert f"the certificate cannot be read: {HOSTILE}" in text
    assert "{{7*7}}" in text
    assert "printer-2, " + HOSTILE in text


def test_without_its_script_the_first_rows_are_there(make):
    page = render_drift(crowd(250), TextStyle())
    static = page[: page.index('<script type="application/json"')]
    assert '<form id="filter" hidden>' in static
    assert static.count('<tr><th scope="row">gateway-0') == 100
    assert "100 of 250 shown" in static


def test_equal_reports_are_equal_pages(make):
    assert render_drift(scene(), TextStyle()) == render_drift(scene(), TextStyle())


@pytest.mark.unmeasured
def test_pictures_say_in_words_what_they_show(opened):
    text = opened(scene()).run("document.body.innerText")
    for sentence in (
        "162 rotations in 91 days, by week and authority: mean 1.8 a day, peak 25 on 2026-11-24",
        "Devices out of sync in 30 reports: 46 on 2026-10-25, 38 now; 87.5 % are in sync.",
        "139 rotations succeeded and 7 failed in 14 days.",
        "302 certificates by age in days; 18 above the maximum age",
        "303 active certificates: ECDSA-P256 85.5 %; RSA-2048 12.2 %; RSA-4096 2.0 %; unparseable 0.3 %.",
        "303 active certificates: plant-ca 55.1 %; aws-iot 44.9 %.",
    ):
        assert sentence in text
    assert scene().fleets[0].trend[0].created_at == NOW - 29 * DAY


def _fill(tab, words: str) -> None:
    tab.run(f"document.getElementById('words').value = {json.dumps(words)}")
    tab.run("document.getElementById('filter').requestSubmit()")


def _choose(tab, field: str, text: str) -> None:
    tab.run(f"""(() => {{
        const field = document.getElementById({json.dumps(field)});
        field.value = [...field.options].find(option => option.text === {json.dumps(text)}).value;
        field.dispatchEvent(new Event('change'));
    }})()""")


def _tab_to(tab, wanted: str) -> list[str]:
    """Press Tab until that element has the focus; the elements passed."""
    passed = []
    for _ in range(10):
        tab.press("Tab")
        focus = tab.run("document.activeElement.id")
        if focus == wanted:
            return passed
        passed.append(focus)
    raise AssertionError(f"{wanted} is not reached by Tab: {passed}")
