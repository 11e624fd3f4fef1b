"""docs/backend.md says what the backend does: codes, outputs, counts and rates."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from backend import picture, synth
from controller.fleet.quotas import QUOTAS
from protocol.rejections import RejectionCode

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "backend.md").read_text()
FUNCTIONS = ("CreateCertificate", "CommitCertificate", "JobExecutionTerminal", "Sweep")


def test_the_table_of_verdicts_is_drawn_as_it_is():
    assert picture.with_picture(TEXT) == TEXT, "run: python -m backend.picture"


def section(title):
    return TEXT.partition(f"\n## {title}")[2].partition("\n## ")[0]


def rows(text):
    """Cells of every table row."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def words(text):
    return set(re.findall(r"[A-Za-z][A-Za-z0-9-]*", text))


@pytest.mark.parametrize("code", [code.value for code in RejectionCode])
def test_troubleshooting_says_what_to_do_about(code):
    [advice] = [cells[1] for cells in rows(section("Troubleshooting")) if code in words(cells[0])]
    assert len(advice) > 20


@pytest.mark.parametrize("symptom", ["stays QUEUED", "is rejected", "left behind", "events", "not touched"])
def test_troubleshooting_knows_the_symptom(symptom):
    assert symptom in section("Troubleshooting")


def test_every_output_and_alarm_is_named():
    template, further = (json.loads(path.read_text()) for path in (synth.TEMPLATE, synth.RECONCILE))
    assert set(template["Outputs"] | further["Outputs"]) <= words(TEXT)
    alarms = [r for r in template["Resources"].values() if r["Type"] == "AWS::CloudWatch::Alarm"]
    assert (
        f"{['', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'][len(alarms)]} alarms"
        in TEXT
    )


def counted(device, calls, authority):
    device.start_job(document={"operation": "ROTATE_CERTIFICATE", "certificateAuthority": authority})
    calls.clear()
    device.create()
    create = len([call for call in calls if call.startswith("iot")])
    device.aws.tick()
    device.commit()
    commit = len([call for call in calls if call.startswith("iot")]) - create
    device.aws.tick()
    device.ended("SUCCEEDED")
    total = Counter(calls)
    return create, commit, Counter({call: n for call, n in total.items() if call.startswith(("iot", "acm-pca"))})


def test_the_calls_of_a_rotation_are_those_that_are_counted(device):
    create, commit, total = counted(device, device.aws.calls, "aws-iot")
    ended = total.total() - create - commit
    assert f"create {create}, commit {commit}, end {ended}, together {total.total()}" in section("Limits and rates")


@pytest.mark.parametrize("authority", ["aws-iot", "plant-ca"])
def test_the_rates_follow_from_the_counts_and_the_quotas(device, authority):
    _, _, total = counted(device, device.aws.calls, authority)
    said = {
        call.split()[0]: (int(count.split()[0]), int(rate.strip("*")))
        for calls, count, _, rate in rows(section("Limits and rates"))
        if rate.strip("*").isdigit()
        for call in calls.replace("acm-pca ", "").split(", ")
    }
    total = {call.partition(":")[2]: n for call, n in total.items() if call.startswith(("iot:", "acm-pca:"))}
    rates = {
        call: (count, round(QUOTAS[call].per_second * 60 / count)) for call, count in total.items() if call in QUOTAS
    }
    slow = {call: rate for call, rate in rates.items() if rate[1] <= 900}
    assert len(slow) >= 6
    assert {call: said.get(call) for call in slow} == slow
    assert min(rate for _, rate in rates.values()) == 300
    assert "about 300 devices a minute" in section("Limits and rates")


def test_a_connection_costs_what_is_said(device):
    device.connected(device.old)
    assert device.aws.calls == ["dynamodb:BatchGetItem"]
    found = re.search(
        r"Presence: one run and two reads by one call .*?about ([\d.]+) USD per million "
        r"\(rule and action ([\d.]+), run ([\d.]+), reads ([\d.]+);"
        r".*?100,000 devices that connect ten times a day cost about (\d+) USD a month",
        section("Cost per device"),
    )
    total, rule, run, read, month = map(float, found.groups())
    assert (device.aws.keys_read, round(rule + run + read, 2)) == (2, total)
    assert month == 100_000 * 10 * 30 / 1e6 * total
    resources = json.loads(synth.TEMPLATE.read_text())["Resources"].items()
    [function] = [r for name, r in resources if r["Type"] == "AWS::Lambda::Function" and name.startswith(FUNCTIONS[2])]
    assert function["Properties"]["LoggingConfig"]["SystemLogLevel"] == "WARN"
