"""Text for people: complete at any width, without colour, and short however large the fleet."""

from __future__ import annotations

import re

import pytest
from report_scene import scene, scene_fleet

from controller.errors import ExitCode
from controller.reconcile.values import Source
from controller.report import markdown
from controller.report.console import THEME
from controller.report.formats import TextStyle
from controller.report.model import FleetFailure
from controller.report.text import render_drift, render_plan, render_status

PLAN_AT_80 = """\
OUT OF SYNC  3 devices need a person · 27 of 39 devices in sync · 4 to rotate ·
5 waiting · 2 unmanaged · done by 2026-11-24 12:10Z
fleet factory, account 123456789012, eu-west-1, 0123456789ab, seen 2026-11-23
12:00Z

                                                         Needs a
Policy            Devices   In sync   Rotate   Waiting    person   Health
──────────────────────────────────────────────────────────────────────────
line-a-gateways        20    70.0 %        2         4         –   Healthy
line-b-gateways        15    60.0 %        2         1         3   Missing
test-benches            4     100 %        –         –         –   Healthy

Needs a person  3 devices
"""


def test_the_plan_begins_with_the_summary_and_the_policies(make):
    text = render_plan(make.report(make.fleet(with_plan=True)), TextStyle(80))
    assert text.startswith(PLAN_AT_80)
    assert text.endswith("Next: certfleet apply --wait\n")


def test_no_line_is_wider_than_the_terminal_and_none_ends_in_blanks(make):
    for width in (60, 80, 120):
        for line in render_plan(make.report(make.fleet(with_plan=True)), TextStyle(width)).splitlines():
            assert len(line) <= width, f"{width}: {line}"
            assert line == line.rstrip()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_heading_and_no_word_on_how_a_policy_stands_is_cut(width):
    told = render_plan(scene(), TextStyle(width))
    columns = ("Waiting", "Needs a", "person", "Left", "Done", "Failed", "Health")
    for word in (*columns, "Suspended", "Missing", "87.2 %", "1 of 3"):
        assert re.search(rf"(?<!\w){word}(?!\w)", told), word
    assert "line-a-gateways" in told


def test_without_colour_there_is_no_escape_and_with_it_the_words_are_the_same(make):
    plain = render_drift(make.report(), TextStyle(100))
    colored = render_drift(make.report(), TextStyle(100, color=True))
    assert "\x1b" not in plain
    assert "\x1b[" in colored
    without = re.sub(r"\x1b\[[0-9;]*m", "", colored)
    assert [line.rstrip() for line in without.splitlines()] == plain.splitlines()


def test_the_verdict_has_the_colour_of_its_meaning(make):
    bad = render_drift(make.report(), TextStyle(100, color=True))
    good = render_drift(make.report(make.fleet([make.device("a", "line-a-gateways")])), TextStyle(100, color=True))
    assert bad.startswith("\x1b[1;38;5;160mOUT OF SYNC")
    assert good.startswith("\x1b[1;38;5;28mIN SYNC")


@pytest.mark.parametrize("style", ["good", "change", "wait", "bad", "dim"])
def test_every_colour_is_read_on_white_and_on_black(style):
    """WCAG 2.2's contrast, at least that of large text and of what is not text: 3 to 1 on either."""
    parts = [value / 255 for value in THEME.styles[style].color.get_truecolor()]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert (1 + 0.05) / (luminance + 0.05) >= 3
    assert (luminance + 0.05) / 0.05 >= 3


def test_what_a_device_says_does_not_steer_the_terminal():
    said = "\x1b]0;owned\x07\x1b[2J\x1b[31mred \rover \x9b5n \u202ereversed tab\there"
    report = scene(scene_fleet(hostile=said))
    for look in (TextStyle(120), TextStyle(120, color=True)):
        text = render_drift(report, look)
        for line in text.splitlines():
            assert re.sub(r"\x1b\[[0-9;]*m", "" if look.color else "\x1b", line).isprintable(), line
    assert "]0;owned" in text, "what was said is there all the same"


def test_every_blocked_device_comes_with_what_a_person_must_do(make):
    text = render_drift(make.report(), TextStyle(120))
    for words in ("NoCertificate  gateway-b-90", "→ provision the device", "ExtraCertificate  gateway-b-92"):
        assert words in text


def test_a_fleet_in_sync_says_so_and_nothing_else_is_to_do(make):
    fleet = make.fleet([make.device("a", "line-a-gateways")], with_plan=True)
    text = render_plan(make.report(fleet), TextStyle(100))
    assert text.startswith("IN SYNC  1 of 1 device in sync")
    assert "Nothing to do." in text


def test_what_is_only_waiting_or_blocked_is_not_called_in_sync(make):
    from controller.reconcile.values import Device

    fleet = make.fleet([Device("a", ("line-a-gateways",))], with_plan=True)
    assert "what is left is waiting, or needs a person" in render_plan(make.report(fleet), TextStyle(100))


@pytest.mark.unmeasured
def test_ten_thousand_devices_make_a_page_not_a_book(make):
    devices = [make.device(f"gateway-{n:05}", "line-a-gateways", 300) for n in range(10_000)]
    text = render_drift(make.report(make.fleet(devices)), TextStyle(100))
    assert len(text.splitlines()) < 45
    assert "and 9,994 more" in text


def test_status_gives_numbers_and_names_no_device(make):
    text = render_status(make.report(), TextStyle(100))
    assert "line-b-gateways" in text
    assert "gateway-b-90" not in text


def test_a_refused_plan_shows_numbers_and_override_and_does_not_say_apply(make):
    from dataclasses import replace

    from controller.reconcile.values import Refusal

    fleet = make.fleet(with_plan=True)
    refusal = Refusal("maxChangePercent", "line-a-gateways", "41 % of 20", "--override maxChangePercent=41")
    refused = replace(fleet, plan=replace(fleet.plan, refusals=(refusal,)))
    text = render_plan(make.report(refused), TextStyle(100))
    assert "REFUSED  maxChangePercent" in text
    assert "→ certfleet apply --wait --override maxChangePercent=41" in text
    assert "Next:" not in text


def test_a_fleet_that_failed_stands_below_those_that_did_not(make):
    failure = FleetFailure(
        "overseas", "AWS could not be reached", "check the network", ExitCode.ERROR, Source("f.yaml", 1)
    )
    text = render_drift(make.report(failures=(failure,)), TextStyle(100))
    assert text.index("factory") < text.index("FAILED  fleet overseas") < text.index("→ check the network")


def test_what_a_person_has_decided_stands_apart_from_what_needs_one():
    text = render_drift(scene(), TextStyle(120))
    needs, _, decided = text.partition("Waived, suspended or quarantined  4 devices left out, as a person decided")
    assert "Needs a person  5 devices" in needs
    assert needs.index("Needs a person  5 devices") < needs.index("To rotate  2 devices") < needs.index("Waiting  27")
    assert "is suspended until" not in needs
    assert "Suspended   paint-shop" in decided
    told = markdown.render_drift(scene(), TextStyle())
    assert "🛑 Needs a person: 5 devices" in told
    assert "⏸️ Waived, suspended or quarantined: 4 devices" in told


def test_several_fleets_are_told_in_one_line_first(make):
    failure = FleetFailure("overseas", "AWS could not be reached", None, ExitCode.ERROR, Source("f.yaml", 1))
    good = make.fleet([make.device("a", "line-a-gateways")])
    report = make.report(good, make.fleet(), failures=(failure,))
    line = "1 of 3 fleets in sync · 28 of 40 devices in sync · overseas could not be read"
    for render in (render_drift, render_plan, render_status):
        assert render(report, TextStyle(100)).startswith(f"{line}\n\nIN SYNC  1 of 1 device in sync")
    assert markdown.render_drift(report, TextStyle()).startswith(f"**{line}**\n\n## ✅ factory: ")


def test_a_halted_wave_an_incident_and_a_job_to_settle_are_told_with_what_to_do(make):
    from dataclasses import replace

    from controller.reconcile.values import IncidentReport, JobStep, WaveReport, WaveStatus

    fleet = make.fleet(with_plan=True)
    halted = WaveReport("line-a-gateways", 2, 3, WaveStatus.HALTED, "12 % failed, 5 % may", remedy="find the cause")
    incident = IncidentReport("leak", make.NOW, 4, 1, 0, None, "4 devices still match")
    step = JobStep("cf-line-a-w1-0000000000000000", "cancel", "silent for 24 hours")
    plan = replace(fleet.plan, jobs=(), waves=(halted,), incidents=(incident,), steps=(step,))
    text = render_plan(make.report(replace(fleet, plan=plan), make.fleet()), TextStyle(100))
    assert re.search("line-a-gateways +2 of 3 +halted", text)
    assert text.index("→ find the cause") < text.index("Rollouts"), "what needs a person stands first"
    assert "Incident leak  deadline 2026-11-23 12:00Z" in text
    assert "cancel cf-line-a-w1-0000000000000000: silent for 24 hours" in text


def test_who_waits_for_a_wave_is_told_by_why_it_must_rotate():
    waiting = render_drift(scene(), TextStyle(120)).partition("\nWaiting  27 devices")[2].partition("\nComing")[0]
    assert re.findall(r"^(\w+) +line-\w-gateways +(\d+)", waiting, re.MULTILINE) == [
        ("AgeExceeded", "16"),
        ("AgeExceeded", "2"),
        ("KeyTypeMismatch", "6"),
        ("Straggler", "3"),
    ]
