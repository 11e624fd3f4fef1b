"""Formats for machines: each holds to the rules of those who read it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from markdown_it import MarkdownIt
from report_scene import scene, scene_fleet

from controller.errors import ExitCode
from controller.reconcile.values import Outcome, Source
from controller.report import as_json, github, html, junit, markdown, sarif, text, words
from controller.report.formats import TextStyle
from controller.report.model import FleetFailure

LOOK = TextStyle()
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
OVERSEAS = Source("desired_state/over seas/fleet.yaml", 3)
FAILURE = FleetFailure(
    "overseas", "AWS could not be reached\nat all, 100 %", "check the network", ExitCode.ERROR, OVERSEAS
)


class TestJson:
    def test_keeps_to_the_documented_schema(self, make):
        value = json.loads(as_json.render_report(make.report(failures=(FAILURE,)), LOOK))
        jsonschema.validate(value, json.loads(SCHEMA.read_text()))

    def test_things_that_nobody_has_counted_yet_are_not_called_none(self, make):
        fleet = make.fleet()
        report = make.report(replace(fleet, state=replace(fleet.state, unmanaged=(), unmanaged_count=None)))
        value = json.loads(as_json.render_report(report, LOOK))
        jsonschema.validate(value, json.loads(SCHEMA.read_text()))
        assert value["fleets"][0]["unmanaged"] == {"count": None, "things": []}
        assert "unmanaged" not in text.render_drift(report, LOOK)
        assert ">–<" in html.render_drift(report, LOOK)

    def test_lists_every_device_with_a_finding_and_says_where_the_policy_stands(self, make):
        [fleet] = json.loads(as_json.render_report(make.report(), LOOK))["fleets"]
        assert fleet["governed"] == 39
        assert fleet["outcomes"] == {"rotate": 4, "blocked": 3, "waiting": 5}
        first = next(entry for entry in fleet["devices"] if entry["device"] == "gateway-a-00")
        assert first["source"] == "desired_state/factory/policies.yaml:14"
        assert first["findings"][0]["reason"] == "AgeExceeded"
        assert first["timing"]["due"] == "2026-07-26T12:00:00Z"

    def test_equal_reports_are_equal_text(self, make):
        assert as_json.render_report(make.report(), LOOK) == as_json.render_report(make.report(), LOOK)

    def test_a_failed_fleet_means_not_in_sync(self, make):
        in_sync = make.fleet([make.device("a", "line-a-gateways")])
        assert json.loads(as_json.render_report(make.report(in_sync), LOOK))["in_sync"] is True
        assert json.loads(as_json.render_report(make.report(in_sync, failures=(FAILURE,)), LOOK))["in_sync"] is False


class TestMarkdown:
    def test_begins_with_the_summary_and_folds_the_rest(self, make):
        text = markdown.render_drift(make.report(make.fleet(with_plan=True)), LOOK)
        assert text.startswith(
            "## 🛑 factory: 3 devices need a person · 27 of 39 devices in sync · 4 to rotate · 5 waiting"
        )
        assert text.count("<details") == text.count("</details>") == 5
        assert "test-benches" not in text, "policies in sync are counted, not shown"

    def test_is_cut_below_what_github_takes_and_says_so(self, make):
        fleets = [make.fleet(with_plan=True)] * 40
        text = markdown.render_drift(make.report(*fleets), LOOK)
        assert len(text) <= 65_536
        assert "The report is cut here" in text
        assert text.count("<details") == text.count("</details>")

    def test_a_bar_in_a_message_does_not_break_the_table(self):
        assert "a \\| b" in markdown.table(("One",), [("a | b",)])

    def test_a_bar_that_is_escaped_already_is_not_escaped_again(self):
        assert markdown.table(("One",), [(markdown.plain("a | b"),)]).endswith("| a \\| b |")

    def test_what_a_device_says_formats_nothing_links_nowhere_and_calls_nobody(self):
        said = (
            "<img src=http://evil.example/x> [click](http://evil.example) www.evil.example @acme/admins `x` **b** | c"
        )
        text = markdown.render_drift(scene(scene_fleet(hostile=said)), LOOK)
        [shown] = [line for line in text.splitlines() if "cannot be read" in line]
        assert shown.count(" | ") == 4, "five cells, as every row of that table"
        page = MarkdownIt("commonmark").enable("table").render(text)
        assert "&lt;img src=" in page
        assert not re.search(r"<(img|a|em)\b|<strong>b", page)
        assert not re.search(r"@acme|http://|www\.", page), "GitHub would make a link of it"

    def test_rows_above_the_limit_are_counted(self):
        assert "… and 3 more" in markdown.table(("One",), [("x",)] * 5, at_most=2)


class TestGithub:
    def test_each_reason_stands_on_the_line_of_its_policy_field(self, make):
        lines = github.render_drift(make.report(), LOOK).splitlines()
        assert lines[1].startswith("::notice title=certfleet::fleet factory: nothing is recorded of what was governed")
        assert next(line for line in lines if "::warning" in line).startswith(
            "::warning file=desired_state/factory/policies.yaml,line=14,col=1,title=AgeExceeded::2 devices"
        )
        assert sum(line.startswith("::error ") for line in lines) == 3

    def test_line_breaks_and_percent_signs_are_escaped(self, make):
        last = github.render_drift(make.report(failures=(FAILURE,)), LOOK).splitlines()[-1]
        assert last == "::error title=certfleet::fleet overseas: AWS could not be reached%0Aat all, 100 %25"

    def test_commas_and_colons_in_properties_are_escaped(self):
        assert "file=a%2Cb%3Ac.yaml,line=3" in github.annotation("error", "x", path="a,b:c.yaml", line=3)


class TestJunit:
    def test_counts_what_it_lists(self, make):
        root = ET.fromstring(junit.render_drift(make.report(failures=(FAILURE,)), LOOK))
        [suite] = root
        assert int(suite.get("tests")) == len(list(suite.iter("testcase")))
        assert int(suite.get("failures")) == len(list(suite.iter("failure"))) == 4 + 3 + 2
        assert int(suite.get("errors")) == 1

    def test_waiting_is_skipped_not_failed(self, make):
        root = ET.fromstring(junit.render_drift(make.report(make.fleet(with_plan=True)), LOOK))
        assert len(list(root.iter("skipped"))) == 5

    def test_names_stay_while_numbers_change_and_a_policy_fails_where_a_device_does(self, make):
        def cases(report):
            found = ET.fromstring(junit.render_drift(report, LOOK)).iter("testcase")
            return {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in found}

        before, after = cases(make.report()), cases(make.report(make.fleet(make.devices()[:-1])))
        assert set(before) - set(after) == {("factory.line-b-gateways", "gateway-b-92")}, "the one that is gone"
        assert set(after) <= set(before)
        assert before["factory", "line-b-gateways"] == ["failure"]
        assert before["factory", "test-benches"] == []

    def test_a_device_whose_rotation_failed_fails_though_it_is_tried_again_by_itself(self, make):
        fleet = make.fleet()
        waiting = next(found for found in fleet.assessments if found.outcome is Outcome.WAITING)
        failed = [found._replace(failures=2) if found is waiting else found for found in fleet.assessments]
        told = junit.render_drift(make.report(replace(fleet, assessments=tuple(failed))), LOOK)
        case = ET.fromstring(told).find(f".//testcase[@name='{waiting.device}']")
        assert [child.tag for child in case] == ["failure"]

    def test_what_xml_cannot_hold_is_replaced(self):
        ET.fromstring(junit.suite("x", [junit.JunitCase("a", "b", "failure", "bad \x00 \x1b byte")]))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (45, "45s"), (90, "1m 30s"), (3600, "1h"), (86_400 * 180, "180d"), (90_000, "1d 1h"), (-60, "-1m")],
)
def test_durations_are_told_in_their_two_largest_units(seconds, text):
    from datetime import timedelta

    assert words.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "–"), (0, 9, "0 %"), (9, 9, "100 %"), (1, 100_000, "0.1 %"), (99_999, 100_000, "99.9 %"), (1, 3, "33.3 %")],
)
def test_all_and_nothing_are_never_rounded_to(part, whole, text):
    assert words.percent(part, whole) == text


def test_each_governed_device_is_counted_once(make):
    fleet = make.fleet(with_plan=True)
    assert fleet.in_sync + sum(fleet.outcomes.values()) == fleet.governed
    for entry in fleet.policies:
        assert entry.in_sync + entry.rotate + entry.waiting + entry.blocked == entry.governed
    assert sum(len(fleet.of(outcome)) for outcome in Outcome) == fleet.governed - fleet.in_sync


def test_one_state_has_one_set_of_numbers_whether_a_report_is_of_a_plan_or_of_drift(make):
    """Drift used to say 9 to rotate where the plan said 4 to rotate and 5 waiting."""
    planned, drifted = make.fleet(with_plan=True), make.fleet()
    assert (drifted.plan, drifted.expected) == (None, planned.plan)
    assert (drifted.outcomes, drifted.policies) == (planned.outcomes, planned.policies)
    assert text.sentence(drifted) == text.sentence(planned)
    numbers = "3 devices need a person · 27 of 39 devices in sync · 4 to rotate · 5 waiting · 2 unmanaged"
    for report in (make.report(planned), make.report(drifted)):
        for render in (text.render_drift, text.render_plan, text.render_status, markdown.render_drift):
            assert numbers in " ".join(render(report, LOOK).split())
        assert numbers in html.render_drift(report, LOOK)
        assert numbers in github.render_drift(report, LOOK)


STRAGGLERS = {
    "text": text.render_drift,
    "json": as_json.render_report,
    "markdown": markdown.render_drift,
    "html": html.render_drift,
    "sarif": sarif.render_drift,
    "junit": junit.render_drift,
    "github": github.render_drift,
}


@pytest.mark.parametrize("render", STRAGGLERS.values(), ids=STRAGGLERS.keys())
def test_every_report_names_each_straggler_with_the_time_since_it_was_seen(render):
    told = " ".join(render(scene(), LOOK).split())
    for name, seen in (("gateway-a-200", "26 hours"), ("gateway-a-201", "7 days"), ("gateway-a-202", "not known")):
        hours = {"26 hours": "1d 2h", "7 days": "7d 22h", "not known": "not known"}[seen]
        assert re.search(rf"{name}\W.{{0,1500}}?(seen {seen}|seen {hours}|connection not known)", told), name


def test_the_longest_unseen_straggler_stands_first():
    told = github.render_drift(scene(), LOOK)
    names = "gateway-a-202 (last connection not known), gateway-a-201 (seen 7d 22h ago), gateway-a-200 (seen 1d 2h ago)"
    assert f"({names})" in told


def test_json_says_when_a_device_was_last_seen():
    [fleet] = json.loads(as_json.render_report(scene(), LOOK))["fleets"]
    seen = {device["device"]: device["last_seen"] for device in fleet["devices"]}
    assert seen["gateway-a-200"] == "2026-11-22T10:00:00Z"
    assert seen["gateway-a-202"] is None


def test_the_docs_show_every_picture():
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "reports.md").read_text(encoding="utf-8")
    assert set(re.findall(r"pictures/([a-z0-9-]+\.webp)", page)) == {
        each.name for each in (docs / "pictures").iterdir()
    }
