"""What a change would do and what a guardrail says of it: before the merge, at the plan, at the apply."""

from __future__ import annotations

import contextlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from controller.github.__main__ import main as github
from controller.report.markdown import MAX_CHARACTERS

ATTENTION_SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "attention.schema.json").read_text())
TWO_WAVES, ONE_WAVE = 'waves: ["1", "100%"]', 'waves: ["100%"]'
HOUR = (datetime.now(UTC) + timedelta(hours=3)).hour
CLOSED_NOW = f'  schedule: {{windows: [{{cron: "0 {HOUR} * * *", timezone: UTC, duration: 1h, kind: allow}}]}}'
SECOND_POLICY = """\
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-b}
spec:
  thingGroup: line-b
  certificate: {maxAge: 365d, authority: aws-iot}
"""


@pytest.fixture
def ten(factory):
    """Eight devices of 60 days and two of 10; a policy that asks for 90 days, in one wave; at most 50 % at once."""
    for number in range(8):
        factory.device(f"gateway-{number}", age=60)
    factory.device("young-1")
    factory.device("young-2")
    text = (factory.desired / "factory.yaml").read_text()
    change(factory, text.replace(TWO_WAVES, ONE_WAVE).replace("maxChangePercent: 90", "maxChangePercent: 50"))
    return factory


def change(factory, *texts):
    """Commit the document with replacements (old, new), or as it is given."""
    text = texts[0] if len(texts) == 1 else (factory.desired / "factory.yaml").read_text().replace(*texts)
    factory.write(text)
    factory.commit()


def test_a_change_that_rotates_most_of_a_policy_at_once_is_refused_before_the_merge(ten):
    change(ten, "maxAge: 90d", "maxAge: 30d")

    told = ten.run("plan", "--base", "HEAD~1")
    assert told.code == 3
    assert "REFUSED  maxChangePercent  line-a" in told.out
    assert "80 % of 10 at once; 50 % are allowed" in " ".join(told.out.split())
    assert "→ --override maxChangePercent=80" in told.out

    [fleet] = ten.run("plan", "--base", "HEAD~1", "--format", "json").json["fleets"]
    assert {refusal["override"] for refusal in fleet["refusals"]} == {"--override maxChangePercent=80"}
    assert fleet["usd"] == [0.024, 0.024]
    marked = ten.run("plan", "--base", "HEAD~1", "--format", "github").out
    assert marked.startswith("::error file=desired_state/factory.yaml,line=9,")
    assert ten.run("plan", "--base", "HEAD~1", "--override", "maxChangePercent=80").code == 2


def test_a_later_wave_that_will_be_refused_is_announced(ten):
    change(ten, ONE_WAVE, TWO_WAVES)
    change(ten, "maxAge: 90d", "maxAge: 30d")

    told = ten.run("plan", "--base", "HEAD~1", "--format", "markdown")

    assert told.code == 2
    headline = told.out.splitlines()[0]
    assert headline.index("asks a person from ") < headline.index("8 devices newly to rotate")
    assert "the plan rotates 7 devices of policy" in told.out
    assert "70 % of 10 at once; 50 % are allowed" in told.out


def test_a_closed_window_hides_nothing_of_what_happens_once_it_opens(ten):
    change(ten, "  rollout:", f"{CLOSED_NOW}\n  rollout:")
    change(ten, "maxAge: 90d", "maxAge: 30d")

    told = ten.run("plan", "--base", "HEAD~1")

    assert told.code == 3
    assert "8 devices newly to rotate · from " in told.out
    assert "80 % of 10 at once; 50 % are allowed" in " ".join(told.out.split())
    assert ten.run("plan").code == 0


def test_a_change_is_not_refused_for_what_its_base_does_already(ten):
    change(ten, "maxAge: 90d", "maxAge: 30d")
    change(ten, "maximumPerMinute: 1000", "maximumPerMinute: 100")

    told = ten.run("plan", "--base", "HEAD~1", "--format", "markdown")

    assert told.code == 0
    assert "> - without this change, maxChangePercent refuses the plan as well" in told.out


def test_a_policy_that_goes_leaves_its_devices_to_themselves_and_the_change_is_refused(ten):
    ten.cloud.seed.group("line-b")
    ten.cloud.seed.thing("other", ["line-b"])
    ten.certificate("other")
    whole = (ten.desired / "factory.yaml").read_text()
    change(ten, whole + SECOND_POLICY)
    change(ten, whole)

    told = ten.run("plan", "--base", "HEAD~1", "--format", "markdown")

    assert told.code == 3
    assert "## ⛔ factory: refused · 1 device left to themselves" in told.out
    assert "no policy names line-b (1 device) any more: 1 device would be left to themselves" in told.out
    assert "`--override orphans=1`" in told.out


def test_a_loosened_guardrail_is_part_of_what_the_comment_shows(ten):
    change(ten, "maxChangePercent: 50", "maxChangePercent: 100")

    told = ten.run("plan", "--base", "HEAD~1", "--format", "markdown")

    assert told.code == 0
    assert "| `spec.guardrails.maxChangePercent` | `50` | `100` |" in told.out
    assert "Fleet factory  changed" in ten.run("plan", "--base", "HEAD~1").out


def test_nothing_that_a_document_says_can_format_the_comment_or_call_anyone(ten):
    reason = "`@everyone` | [approve](https://example.org) <img src=x>"
    change(ten, "  rollout:", f'  suspend: {{reason: "{reason}", until: 2027-01-01}}\n  rollout:')

    told = ten.run("plan", "--base", "HEAD~1", "--format", "markdown").out

    [row] = [line for line in told.splitlines() if "spec.suspend.reason" in line]
    assert row == ("| `spec.suspend.reason` | – | `` `@everyone` \\| [approve](https://example.org) <img src=x> `` |")


def test_a_comment_on_300_policies_fits_into_one_and_keeps_its_next_steps(ten):
    text = (ten.desired / "factory.yaml").read_text()
    long = 9 * "group-"
    another = SECOND_POLICY.replace("name: line-b", "name: copy-{0}").replace("line-b", long + "{0}")
    for number in range(300):
        ten.cloud.seed.group(f"{long}{number}")
        text += another.replace("{0}", str(number))
    change(ten, text)

    told = ten.run("plan", "--base", "HEAD~1", "--format", "markdown").out

    assert 60_000 < len(told) <= MAX_CHARACTERS
    assert "The comment is cut here: it was too long for GitHub." in told
    assert told.index("### Next") > told.index("The comment is cut here")
    assert "1. Merge when you like" in told


def test_a_refused_plan_is_applied_by_who_gives_its_overrides(ten, tmp_path):
    change(ten, "maxAge: 90d", "maxAge: 30d")
    plan = tmp_path / "plan.json"
    assert ten.run("plan", "--plan", str(plan)).code == 3
    overrides = {
        refusal["override"].removeprefix("--override ") for refusal in json.loads(plan.read_text())["refusals"]
    }
    assert overrides == {"maxChangePercent=80"}

    assert ten.run("apply", "--plan", str(plan)).code == 3
    assert ten.run("apply", "--plan", str(plan), "--override", "maxChangePercent=79").code == 3
    assert ten.jobs() == []
    ten.device("newcomer", age=60)  # is not of that plan
    applied = ten.run("apply", "--plan", str(plan), "--override", "maxChangePercent=80", "--wait", "--format", "json")

    assert applied.code == 0, applied.err
    assert {entry["device"] for entry in applied.json["fleets"][0]["devices"]} == {f"gateway-{n}" for n in range(8)}


def outputs_of(*arguments):
    """What a workflow's later jobs go by."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert github(["outputs", *map(str, arguments)], {}) == 0
    return {name: json.loads(value) for name, value in (line.split("=", 1) for line in printed.getvalue().splitlines())}


def test_a_workflow_is_told_which_fleet_to_apply_and_which_to_ask_about(ten, tmp_path):
    plan = tmp_path / "plan.json"
    assert outputs_of("--plan", plan) == {"apply": [], "review": []}, "nothing was planned"
    ten.run("plan", "--plan", str(plan))
    assert outputs_of("--plan", plan) == {"apply": ["factory"], "review": []}
    resumed = {"fleet": "factory", "overrides": "--override resume=line-a"}
    assert outputs_of("--plan", plan, "--resume", "line-a") == {"apply": [], "review": [resumed]}

    change(ten, "maxAge: 90d", "maxAge: 30d")
    ten.run("plan", "--plan", str(plan))
    asked = {"fleet": "factory", "overrides": "--override maxChangePercent=80"}
    assert outputs_of("--plan", plan) == {"apply": [], "review": [asked]}
    one = json.loads(plan.read_text())
    plan.write_text(json.dumps([one, one]))  # as several fleets are written
    assert outputs_of("--plan", plan)["review"] == [asked, asked]

    plan.write_text("cut off")
    assert github(["outputs", "--plan", str(plan)], {}) == 1


def test_a_workflow_is_told_what_a_pull_request_rotates(ten, tmp_path):
    change(ten, "maxAge: 90d", "maxAge: 30d")
    file = tmp_path / "comparison.json"
    assert outputs_of("--comparison", file) == {"newly-due": 0, "refused": False}
    ten.run("plan", "--base", "HEAD~1", "--format", "json", "--output", str(file))
    assert outputs_of("--comparison", file) == {"newly-due": 8, "refused": True}


def test_of_an_override_that_is_given_twice_the_larger_counts(ten):
    change(ten, "maxAge: 90d", "maxAge: 30d")
    several = ("--override", "maxChangePercent=80", "--override", "maxChangePercent=45")
    assert ten.run("plan", *several).code == 2


def test_one_look_at_the_fleet_gives_every_format_and_what_needs_a_person(ten, tmp_path):
    ten.certificate("young-1")  # a second one
    names = {name: tmp_path / f"drift.{name}" for name in ("json", "html", "sarif", "junit", "github", "markdown")}
    also = [argument for name, path in names.items() for argument in ("--also", f"{name}={path}")]
    person = tmp_path / "attention.json"

    told = ten.run("drift", *also, "--needs-person", str(person))

    assert told.code == 2
    assert "young-1" in told.out
    assert all("young-1" in path.read_text() for path in names.values())
    found = json.loads(person.read_text())
    jsonschema.validate(found, ATTENTION_SCHEMA)
    [fleet] = found["fleets"]
    assert fleet["fleet"] == "factory"
    assert [line.partition(":")[0] for line in fleet["needs_person"]] == ["young-1"]
    assert ten.run("drift", "--also", "pdf=x").code == 1


def test_a_failed_rotation_is_named_by_what_the_device_said_until_it_succeeds(ten, tmp_path):
    person = tmp_path / "attention.json"
    change(ten, "maxAge: 90d", "maxAge: 30d")
    ten.failing = {"gateway-3"}
    overrides = ("--override", "maxChangePercent=90")
    assert ten.run("apply", "--wait", *overrides, "--needs-person", str(person)).code == 1
    [fleet] = json.loads(person.read_text())["fleets"]
    assert fleet["failing"] == ["gateway-3: FAILED, no space left on /greengrass"]

    assert ten.run("plan", "--needs-person", str(person)).code == 0
    [fleet] = json.loads(person.read_text())["fleets"]
    assert [line.partition(":")[0] for line in fleet["failing"]] == ["gateway-3"]
