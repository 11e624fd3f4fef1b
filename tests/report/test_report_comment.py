"""The pull request's comment, where several fleets, or several things at once, are told."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.errors import ExitCode
from controller.reconcile.outlook import Comparison, DocumentChange, FieldChange, Moved, PolicyComparison, RotationSpan
from controller.reconcile.values import (
    Bearing,
    CertificateRule,
    DesiredState,
    Fleet,
    Holding,
    HoldingChange,
    Policy,
    Refusal,
    Schedule,
    Source,
    Stage,
    Window,
)
from controller.report.change import Comparisons, FleetChange
from controller.report.comparison import RENDERERS
from controller.report.formats import Format, TextStyle
from controller.report.model import FleetFailure

NOW = datetime(2026, 12, 1, 14, 0, tzinfo=UTC)
SOURCE = Source("desired_state/x.yaml", 1)
FIELD = FieldChange("spec.certificate.maxAge", "180 days", "90 days", Bearing.ROTATION)


def policy(**changes):
    values = {
        "policy": "line-a", "changes": (FIELD,), "governed_base": 40, "governed_head": 40, "left_alone": 0,
        "newly_due": 0, "no_longer_due": 0, "authority_changes": 0, "key_type_changes": 0, "due": 0, "jobs": 0,
        "largest_job": 0, "peak_per_day": 0, "span": RotationSpan(NOW, NOW), "reasons": {}, "examples": (),
    }  # fmt: skip
    return PolicyComparison(**values | changes)


def due(number, *, start=NOW, finish=NOW + timedelta(hours=2), **changes):
    return policy(newly_due=number, due=number, jobs=1, span=RotationSpan(start, finish), examples=("gw-1",), **changes)


def fleet(name, *policies, refusals=(), authority="aws-iot"):
    rule = CertificateRule(authority=authority)
    documents = tuple(Policy(one.policy, one.policy, SOURCE, certificate=rule) for one in policies)
    desired = DesiredState(Fleet(name, "123456789012", "eu-west-1", SOURCE), {}, documents, commit="b" * 40)
    return FleetChange(desired, Comparison("a" * 40, "b" * 40, policies), NOW, refusals)


def told(*fleets, failures=(), as_=Format.MARKDOWN):
    return RENDERERS[as_](Comparisons("main", fleets, failures), TextStyle())


FAILURE = FleetFailure("overseas", "access is denied", "let the role in", ExitCode.ERROR, SOURCE)
UNCHANGED = fleet("quiet", policy(changes=()))


def test_several_fleets_begin_with_the_sum_of_all_and_unchanged_ones_are_counted():
    text = told(fleet("north", due(8)), fleet("south", due(1200), authority="plant-ca"), UNCHANGED)
    lines = text.splitlines()
    assert lines[0] == (
        "## 🔄 All fleets: 1,208 devices newly to rotate · from 2026-12-01 14:00Z, takes 2h · "
        "costs 1,208 restarts, about 75.62 to 903.62 USD"
    )
    assert [line for line in lines if line.startswith("### ")] == [
        "### 🔄 north: 8 devices newly to rotate · from 2026-12-01 14:00Z, takes 2h · costs 8 restarts, about 0.02 USD",
        (
            "### 🔄 south: 1,200 devices newly to rotate · from 2026-12-01 14:00Z, takes 2h · "
            "costs 1,200 restarts, about 75.60 to 903.60 USD"
        ),
        "### Next",
    ]
    assert "1 fleet is unchanged." in lines
    assert "gw-1` and 7 more" in text


def test_a_fleet_that_could_not_be_read_comes_first_and_decides_what_is_next():
    text = told(fleet("north", due(8)), failures=(FAILURE,))
    assert text.startswith("## ❌ All fleets: ")
    assert "### ❌ `overseas` could not be read\n\naccess is denied\n\nlet the role in\n" in text
    assert "1. Mend what the fleet's message names." in text
    assert "fleet overseas  access is denied" in told(UNCHANGED, failures=(FAILURE,), as_=Format.TEXT)
    assert told(UNCHANGED, failures=(FAILURE,), as_=Format.GITHUB).endswith("fleet overseas: access is denied\n")


def test_a_change_without_effect_says_so_in_one_line_and_asks_for_nothing():
    text = told(UNCHANGED)
    assert text.startswith("## ✅ quiet: no device rotates earlier or later at once\n")
    assert "1 policy is unchanged." in text
    assert "1. Merge when you like: no device rotates because of this change." in text
    assert "Prices" not in text


SENTENCES = {
    "no window is ever open": (due(3, start=None), "3 devices newly to rotate · they cannot: no window is open"),
    "some rest": (policy(no_longer_due=5), "5 devices no longer to rotate"),
    "a policy is gone": (policy(left_alone=4, governed_head=0), "4 devices left to themselves"),
    "a rollout starts again": (policy(first_wave=1, due=9), "line-a starts again with its first wave"),
    "only fields change": (policy(), "no device rotates earlier or later at once"),
}


@pytest.mark.parametrize(("one", "sentence"), SENTENCES.values(), ids=SENTENCES.keys())
def test_the_summary_line_says_when(one, sentence):
    text = told(fleet("north", one))
    assert text.splitlines()[0].partition("north: ")[2].startswith(sentence)


def test_facts_that_a_policy_has_are_folded_under_it():
    text = told(fleet("north", policy(no_longer_due=5, left_alone=4, governed_head=36, changes=())))
    assert "<summary><code>line-a</code>: 5 devices no longer to rotate, 4 devices left to themselves</summary>" in text
    assert "- **Governs:** 36 devices, 40 before" in text
    assert "> - line-a: 4 devices are left to themselves: no policy governs them any more" in text


def test_devices_that_are_due_already_are_not_said_to_be_untouched_where_they_come_to_another_time():
    january, later = NOW + timedelta(days=40), NOW + timedelta(hours=2)
    opened = fleet("north", policy(due=36, moved=Moved(36, RotationSpan(january, None), RotationSpan(NOW, later))))
    text = told(opened)
    assert text.startswith("## 🔄 north: 36 devices due already, at another time\n")
    assert "<code>line-a</code>: 36 devices due already, at another time</summary>" in text
    start = "start 2026-12-01 14:00Z instead of 2027-01-10 14:00Z"
    fact = f"36 devices: {start}, are done by 2026-12-01 16:00Z instead of never"
    assert f"- **Due already:** {fact}\n" in text
    assert "1. Look at the numbers, then merge. Nothing rotates before that." in text
    assert f"due already, {fact}" in " ".join(told(opened, as_=Format.TEXT).split())
    assert f"::due already, {fact}" in told(opened, as_=Format.GITHUB)
    slower = fleet("north", policy(moved=Moved(36, RotationSpan(NOW, later), RotationSpan(NOW, january))))
    assert "36 devices: are done by 2027-01-10 14:00Z instead of 2026-12-01 16:00Z" in told(slower)
    at_once = fleet(
        "north", policy(moved=Moved(36, RotationSpan(NOW, later), RotationSpan(NOW, later), sooner=34, later=1))
    )
    assert "36 devices: 34 more start with the first, 1 no longer starts with the first" in told(at_once)


def test_a_refusal_of_the_whole_fleet_stands_on_the_fleets_line():
    refusal = Refusal("maxChangePercent", None, "45 % of 80 at once", "--override maxChangePercent=45")
    change = fleet("north", due(36), refusals=(refusal,))
    assert "**Refused by `maxChangePercent`** (the whole fleet): 45 % of 80 at once" in told(change)
    assert told(change, as_=Format.GITHUB).startswith("::error file=desired_state/x.yaml,line=1,")
    assert "REFUSED  maxChangePercent  fleet" in told(change, as_=Format.TEXT)


def test_of_a_fleet_that_is_gone_nobody_will_be_asked_so_the_comment_says_how_to_retire_it():
    refusal = Refusal("orphans", None, "the desired state has no policy", "--override orphans=6")
    change = replace(fleet("north", policy(left_alone=6, governed_head=0), refusals=(refusal,)), is_gone=True)
    text = told(change)
    assert "nobody is asked.\n" in text
    assert "1. To retire the fleet, keep its Fleet document and remove its policies first" in text
    assert "--override" not in text
    assert "→ keep the Fleet document until no policy governs the fleet" in told(change, as_=Format.TEXT)


ASKED = Refusal("maxChangePercent", "line-a", "104 devices at once, 30 % are allowed", "--override maxChangePercent=95")
LATER = Stage(3, 104, NOW + timedelta(days=2), NOW + timedelta(days=2, hours=1), ASKED)

DECISIONS = {
    "a guardrail that will ask later": (
        due(110, largest_job=104, stages=(LATER,)),
        "asks a person from 2026-12-03 14:00Z on (maxChangePercent: line-a starts 104 devices at once) · 110 devices",
    ),
    "a rollout that has stopped": (
        due(3, finish=None, obstacle="wave 1 of 2 stopped"),
        "line-a does not go on: wave 1 of 2 stopped · 3 devices",
    ),
    "devices that are only reported": (
        due(3, reported=7),
        "7 devices of line-a only reported, never rotated · 3 devices",
    ),
}


@pytest.mark.parametrize(("one", "sentence"), DECISIONS.values(), ids=DECISIONS.keys())
@pytest.mark.parametrize("as_", [Format.MARKDOWN, Format.TEXT], ids=lambda found: found.value)
def test_the_headline_first_says_what_a_person_must_decide(one, sentence, as_):
    text = " ".join(told(fleet("north", one), as_=as_).replace("north:", "north ").split())
    assert f"north {sentence}" in text


def test_a_later_wave_that_asks_is_a_warning_and_stands_in_the_text_unless_it_is_refused_now():
    one = due(110, largest_job=104, stages=(LATER,))
    text = told(fleet("n", one))
    warning = "> - line-a: asks a reviewer later, from 2026-12-03 14:00Z on, by maxChangePercent: 104 devices at once"
    assert text.index(warning) < text.index("<details>"), "a warning is not folded away"
    assert "| 2026-12-03 14:00Z | 2026-12-03 15:00Z | `line-a` | 3 | 104 | `maxChangePercent` |" in text
    assert "asks a person from 2026-12-03 14:00Z on, by maxChangePercent: 104" in " ".join(
        told(fleet("n", one), as_=Format.TEXT).split()
    )
    refused = told(fleet("n", one, refusals=(ASKED,)))
    assert "asks a reviewer later" not in refused
    assert "asks a person" not in refused.splitlines()[0]
    assert json.loads(told(fleet("n", one), as_=Format.JSON))["fleets"][0]["policies"][0]["asks"] == [
        {
            "start": "2026-12-03T14:00:00Z",
            "wave": 3,
            "devices": 104,
            "guardrail": "maxChangePercent",
            "policy": "line-a",
            "message": ASKED.message,
            "override": ASKED.override,
        }
    ]


def test_what_starts_again_and_who_goes_elsewhere_is_told():
    text = told(fleet("north", policy(first_wave=1, due=19, jobs=2, gives={"line-b": 40})))
    assert "<code>line-a</code>: starts again with its first wave, 40 devices go to" in text
    assert text.splitlines()[0].endswith("40 devices from line-a to line-b")
    assert "40 devices go to <code>line-b</code>" in text
    assert "> - line-a: the rollout starts again with its first wave, 1 device" in text
    assert "The `reconcile` run plans anew and starts the first wave" in text
    plain = told(fleet("north", policy(first_wave=1, due=19, jobs=2, gives={"line-b": 40})), as_=Format.TEXT)
    assert "the rollout starts again with its first wave, 1 device" in plain
    assert "40 devices go to line-b" in plain


def test_verdict_numbers_warnings_and_waves_are_read_without_a_click_and_only_details_are_folded():
    first = Stage(1, 1, NOW, NOW + timedelta(minutes=5))
    moved_fleet = DocumentChange(
        "Fleet north", "changed", (FieldChange("spec.guardrails.maxChangePercent", "30", "80", Bearing.NEITHER),)
    )
    change = fleet("north", due(110, largest_job=104, stages=(LATER, first)))
    change = replace(change, comparison=replace(change.comparison, documents=(moved_fleet,)))
    shown = told(change).partition("<details>")[0]
    assert shown.startswith("## 🔄 north: ")
    assert "| `line-a` | 110 | – | 2026-12-01 14:00Z | 2026-12-01 16:00Z | 110 restarts, about" in shown
    assert "> - Fleet north is changed: guardrails.maxChangePercent 30 → 80" in shown
    rows = [line for line in shown.splitlines() if line.startswith("| 2026")]
    assert [row.split(" | ")[0] for row in rows] == ["| 2026-12-01 14:00Z", "| 2026-12-03 14:00Z"], "as they follow"


def test_a_new_policy_is_told_by_what_it_says_and_not_by_empty_cells():
    fields = (FieldChange("spec.thingGroup", None, "line-a", Bearing.NEITHER), FIELD)
    text = told(fleet("north", due(8, is_new=True, changes=fields, governed_base=0)))
    assert "<summary><code>line-a</code>: new, 8 devices newly to rotate</summary>" in text
    assert "| Field | Value |\n| --- | --- |\n| `spec.thingGroup` | `line-a` |" in text
    assert "| – |" not in text.partition("<summary>")[2]
    assert "- **Governs:** 40 devices\n" in text
    plain = told(fleet("north", due(8, is_new=True, changes=fields, governed_base=0)), as_=Format.TEXT)
    assert "spec.thingGroup  line-a\n" in plain
    gone = told(
        replace(
            fleet("north"), comparison=Comparison("a", "b", (policy(governed_head=0, left_alone=4, changes=fields),))
        )
    )
    assert "| Field | Was |" in gone


def test_the_start_of_a_wave_is_told_by_the_clock_of_its_windows_too():
    window = Window("0 3 * * *", "Europe/Berlin", timedelta(hours=2))
    change = fleet("north", due(8, start=NOW.replace(hour=2), stages=(Stage(1, 8, NOW.replace(hour=23), NOW),)))
    named = replace(change.desired.policies[0], schedule=Schedule(windows=(window,)))
    text = told(replace(change, desired=replace(change.desired, policies=(named,))))
    assert "| 2026-12-01 02:00Z, 03:00 in Europe/Berlin |" in text
    assert "| 2026-12-01 23:00Z, 2026-12-02 00:00 in Europe/Berlin |" in text


def test_what_the_due_hold_and_will_hold_is_told():
    before, after = Holding("RSA-2048", "aws-iot"), Holding("ECDSA-P256", "plant-ca", 365)
    one = due(3, transitions=(HoldingChange(3, before, after), HoldingChange(1, before, None)))
    sentence = "3 × RSA-2048 / aws-iot → ECDSA-P256 / plant-ca / 365 d"
    assert f"- **Becomes:** {sentence}, 1 × RSA-2048 / aws-iot → " in told(fleet("north", one))
    assert sentence in " ".join(told(fleet("north", one), as_=Format.TEXT).split())
    [first, last] = json.loads(told(fleet("north", one), as_=Format.JSON))["fleets"][0]["policies"][0]["transitions"]
    assert first["after"] == {"key_type": "ECDSA-P256", "authority": "plant-ca", "days": 365}
    assert last == {
        "devices": 1,
        "before": {"key_type": "RSA-2048", "authority": "aws-iot", "days": None},
        "after": None,
    }
