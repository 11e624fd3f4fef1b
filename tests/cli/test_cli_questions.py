"""Commands that only ask: explain, forecast, compare, simulate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

CHANGED = ("maxAge: 90d, keyType: ECDSA-P256", "maxAge: 30d, keyType: ECDSA-P256")


@pytest.fixture
def asked(factory):
    for number in range(4):
        factory.device(f"gateway-{number}", age=20 * number)
    factory.device("blocked")
    factory.certificate("blocked")
    return factory


def test_explain_shows_the_arithmetic_the_line_and_the_commit(asked):
    told = asked.run("explain", "gateway-3", "--arithmetic")
    assert told.code == 0
    for words in ("gateway-3 is in sync", "policy line-a", "SHA-256(line-a ‖ ", "due", "nb + maxAge 90 days"):
        assert words in told.out
    in_words = asked.run("explain", "gateway-3").out
    assert "then it is 90 days old, which is the policy's maxAge." in " ".join(in_words.split())
    assert "SHA-256" not in in_words
    late = asked.run("explain", "gateway-3", "--now", "2027-11-23T00:00:00Z")
    assert "gateway-3 is to be rotated" in late.out
    assert "desired_state/factory.yaml:14" in late.out
    value = asked.run("explain", "blocked", "--format", "json").json
    assert value["findings"][0]["reason"] == "ExtraCertificate"
    assert value["findings"][0]["source"].startswith("desired_state/factory.yaml:")


def test_a_site_stands_in_explain_and_in_the_reports(asked):
    asked.iot.update_thing(thingName="blocked", attributePayload={"attributes": {"plant": "north@7"}})
    text = (asked.desired / "factory.yaml").read_text()
    asked.write(text.replace("region: eu-west-1", "region: eu-west-1\n  siteAttribute: plant", 1))
    assert "fleet factory, site north@7, policy line-a, " in asked.run("explain", "blocked").out
    assert "Fleet `factory`, site `north@7`, " in asked.run("explain", "blocked", "--format", "markdown").out
    assert asked.run("explain", "blocked", "--format", "json").json["site"] == "north@7"
    assert asked.run("explain", "gateway-3", "--format", "json").json["site"] is None
    [fleet] = asked.run("drift", "--format", "json").json["fleets"]
    assert {each["device"]: each["site"] for each in fleet["devices"]}["blocked"] == "north@7"
    for command in ("drift", "plan", "status"):
        assert '"north@7"' in asked.run(command, "--format", "html").out, command


def test_explain_can_be_pasted_into_an_issue(asked):
    told = asked.run("explain", "gateway-3", "--now", "2027-11-23T00:00:00Z", "--format", "markdown", "--arithmetic")
    assert told.out.startswith("## `gateway-3` is to be rotated\n\nFleet `factory`, policy `line-a`, ")
    assert "- **AgeExceeded** (`desired_state/factory.yaml:14`): certificate is " in told.out
    assert "It is due on 20" in told.out
    assert "| due | 20" in told.out


def test_explain_of_an_unknown_thing_says_where_to_look(asked):
    told = asked.run("explain", "nobody")
    assert told.code == 1
    assert "no policy of factory governs a thing named 'nobody'" in told.err
    assert "list-thing-groups-for-thing" in told.err


def test_forecast_counts_every_device_in_every_format(asked):
    value = asked.run("forecast", "--horizon", "120d", "--format", "json").json
    [fleet] = value["fleets"]
    assert fleet["total"] == sum(row["rotations"] for row in fleet["rows"]) >= 4
    assert fleet["blocked"] == 1
    calendar = asked.run("forecast", "--horizon", "120d", "--format", "ics").out
    assert calendar.count("BEGIN:VEVENT") == len(fleet["rows"])
    assert all(len(line) <= 75 for line in calendar.split("\r\n"))
    text = asked.run("forecast", "--horizon", "120d").out
    assert "1 blocked and left out" in text
    assert "█" in text
    assert asked.run("forecast", "--horizon", "120d", "--format", "markdown").out.startswith("## factory: ")


def test_a_comparison_says_what_a_change_does_to_the_fleet(asked):
    asked.write((asked.desired / "factory.yaml").read_text().replace(*CHANGED))
    asked.commit()

    told = asked.run("plan", "--base", "HEAD~1")

    assert told.code == 2
    assert "2 devices newly to rotate" in told.out
    assert "spec.certificate.maxAge  90 days → 30 days" in told.out
    value = asked.run("plan", "--base", "HEAD~1", "--format", "json").json
    assert value["fleets"][0]["policies"][0]["reasons"] == {"AgeExceeded": 2}
    text = asked.run("plan", "--base", "HEAD~1", "--format", "markdown").out
    assert "| `spec.certificate.maxAge` | `90 days` | `30 days` |" in text
    refused = asked.run("plan", "--base", "HEAD~1", "--format", "html")
    assert refused.code == 1
    assert "possible are text, json, markdown, github" in refused.err


def test_a_change_without_effect_exits_0_and_says_so(asked):
    asked.commit()
    told = asked.run("plan", "--base", "HEAD~1")
    assert told.code == 0
    assert "no device rotates earlier or later at once" in told.out
    assert asked.run("plan", "--base", "no-such-ref").code == 1


def test_a_simulation_is_the_same_every_time_under_one_seed(asked):
    arguments = ("simulate", "--span", "365d", "--failures", "10", "--offline", "10", "--seed", "7", "--format", "json")
    arguments += ("--now", (datetime.now(UTC) + timedelta(hours=1)).isoformat())
    first, second = asked.run(*arguments), asked.run(*arguments)
    assert first.code == 0
    assert first.out == second.out
    [fleet] = first.json["fleets"]
    assert fleet["rotations"] > 4
    assert fleet["most_open_jobs"] <= 3
    told = asked.run("simulate", "--span", "90d", "--every", "6h")
    assert "rotations in" in told.out
    assert "later than due" in told.out


def test_a_simulation_says_when_a_rollout_would_halt_and_when_a_person_would_be_asked(asked):
    text = (asked.desired / "factory.yaml").read_text().replace("maxChangePercent: 90", "maxChangePercent: 1")
    text = text.replace("soak: 0s", "soak: 0s, retries: 0, abort: [{failureType: ALL, thresholdPercentage: 1, "
                        "minNumberOfExecutedThings: 1}]")  # fmt: skip
    asked.write(text)
    told = asked.run("simulate", "--span", "100d", "--failures", "100")
    assert told.code == 0, told.err
    assert "line-a halts at 20" in told.out
    assert "stopped by maxChangePercent until a person allows it" in told.out
    assert "is too often" in asked.run("simulate", "--every", "10s").err


def test_a_policy_that_only_reports_rotates_nothing_in_any_outlook_and_each_says_so(asked):
    text = (asked.desired / "factory.yaml").read_text().replace(*CHANGED)
    asked.write(text.replace("  thingGroup:", "  mode: report\n  thingGroup:"))
    simulated = asked.run("simulate", "--span", "100d").out
    assert "0 rotations in 0 jobs" in simulated
    assert "line-a only reports, so nothing of it rotates here either" in simulated
    assert "devices only reported and left out" in " ".join(asked.run("forecast").out.split())
    asked.commit()
    asked.write(text)
    enforced = asked.run("plan", "--base", "HEAD")
    assert (enforced.code, "2 devices newly to rotate" in enforced.out) == (2, True), enforced.out
    assert "spec.mode  report → enforce" in enforced.out


TWO_POLICIES = """\
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-b}
spec:
  thingGroup: line-b
  certificate: {maxAge: 30d}
"""


@pytest.fixture
def two_lines(asked):
    asked.cloud.seed.group("line-b")
    asked.device("other-0", age=60, groups=("line-b",))
    asked.device("other-1", age=60, groups=("line-b",))
    asked.write((asked.desired / "factory.yaml").read_text() + TWO_POLICIES)
    asked.commit()
    return asked


@pytest.mark.parametrize("before", [(), ("drift",)])
def test_one_policy_is_looked_at_and_reported_alone(two_lines, before):
    if before:
        two_lines.run(*before)
    whole = two_lines.run("drift", "--policy", "line-b", "--format", "json")
    [fleet] = whole.json["fleets"]
    assert (whole.code, fleet["governed"], [one["policy"] for one in fleet["policies"]]) == (2, 2, ["line-b"])
    assert [device["device"] for device in fleet["devices"]] == ["other-0", "other-1"]
    assert fleet["unmanaged"] == {"count": 0, "things": []}
    told = two_lines.run("status", "--policy", "line-a")
    assert "line-b" not in told.out
    assert "4 of 5 devices in sync" in told.out
    assert two_lines.run("drift", "--policy", "line-a", "--no-refresh", "--format", "json").code == (2 if before else 1)


def test_a_policy_that_is_not_there_or_what_is_of_whole_fleets_is_an_error(two_lines):
    told = two_lines.run("drift", "--policy", "line-c")
    assert told.code == 1
    assert "no fleet has a policy 'line-c'" in told.err
    assert "there are: line-a, line-b" in told.err
    for option in ("--history", "--needs-person"):
        told = two_lines.run("drift", "--policy", "line-a", option, "place")
        assert told.code == 1
        assert f"--policy and {option} were both given" in told.err


def test_an_explanation_rests_on_a_look_at_the_thing_and_dates_the_rest(two_lines):
    question = ("explain", "other-0", "--now", "2027-01-01T00:00:00Z", "--format", "json")
    first = two_lines.run(*question).json
    assert first["observed_at"] == first["policy_observed_at"]
    again = two_lines.run(*question).json
    assert again["observed_at"] >= again["policy_observed_at"] == first["policy_observed_at"]
    assert again | {"observed_at": ""} == first | {"observed_at": ""}
    two_lines.certificate("other-0")
    assert two_lines.run(*question).json["findings"][0]["reason"] == "ExtraCertificate"
