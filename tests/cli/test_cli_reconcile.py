"""From drift to sync by the commands, against a cloud over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest


@pytest.fixture
def drifted(factory, rsa_key):
    """Seven devices: three too old, one with another key type, two right, one blocked."""
    for name in ("old-1", "old-2", "old-3"):
        factory.device(name, age=200)
    factory.device("wrong-key", key=rsa_key)
    factory.device("right-1")
    factory.device("right-2")
    factory.device("twice")
    factory.certificate("twice")
    return factory


def test_a_drifted_fleet_comes_into_sync_and_a_second_apply_makes_nothing(drifted):
    assert drifted.run("plan").code == 2
    assert drifted.run("drift").code == 2

    applied = drifted.run("apply", "--wait", "--timeout", "60s")

    assert applied.code == 0, applied.err + applied.out
    assert "4 devices rotated" in applied.out
    planned = drifted.run("plan")
    assert planned.code == 0, planned.out
    assert "ExtraCertificate  twice" in planned.out
    assert drifted.run("drift").code == 2, "the blocked one is still out of sync"
    jobs = drifted.jobs()
    again = drifted.run("apply", "--wait", "--timeout", "60s")
    assert again.code == 0
    assert "nothing to do" in again.out
    assert drifted.jobs() == jobs


def test_drift_says_why_in_every_format(drifted):
    report = drifted.run("drift", "--format", "json")
    assert report.code == 2
    [fleet] = report.json["fleets"]
    outcomes = {"rotate": 1, "waiting": 3, "blocked": 1}
    assert (fleet["governed"], fleet["in_sync"], fleet["outcomes"]) == (7, 2, outcomes), "as the plan has it"
    reasons = {entry["device"]: entry["findings"][0]["reason"] for entry in fleet["devices"]}
    assert reasons["wrong-key"] == "KeyTypeMismatch"
    assert reasons["old-1"] == "AgeExceeded"
    for name in ("markdown", "html", "sarif", "junit", "github", "text"):
        told = drifted.run("drift", "--format", name)
        assert told.code == 2
        assert "old-1" in told.out
        assert told.err == ""


def test_status_reports_and_does_not_judge(drifted):
    told = drifted.run("status")
    assert told.code == 0
    assert told.out.startswith("OUT OF SYNC  1 device needs a person · 2 of 7 devices in sync")


def test_a_reviewed_plan_is_applied_and_nothing_beyond_it(drifted):
    assert drifted.run("plan", "--plan", "plan.json", "--format", "markdown").code == 2
    plan_file = drifted.repository / "plan.json"
    planned = json.loads(plan_file.read_text())

    applied = drifted.run("apply", "--plan", "plan.json", "--wait", "--format", "json")

    assert applied.code == 0, applied.err + applied.out
    assert drifted.jobs() == sorted(job["job_id"] for job in planned["jobs"])
    [fleet] = applied.json["fleets"]
    assert {entry["status"] for entry in fleet["devices"]} == {"SUCCEEDED"}
    assert fleet["in_sync"] == 3, "the first wave only"


def test_a_device_that_changed_since_the_plan_is_skipped_and_said(drifted):
    drifted.run("plan", "--plan", "plan.json")
    planned = json.loads((drifted.repository / "plan.json").read_text())
    first = planned["jobs"][0]["devices"][0]["name"]
    drifted.certificate(first)

    applied = drifted.run("apply", "--plan", "plan.json")

    assert applied.code == 0
    assert f"{first}  ExtraCertificate: 2 certificates are attached" in applied.out
    assert drifted.jobs() == []


def test_a_tampered_plan_is_refused_and_nothing_happens(drifted):
    drifted.run("plan", "--plan", "plan.json")
    file = drifted.repository / "plan.json"
    file.write_text(file.read_text().replace("old-", "new-").replace("wrong-key", "right-key"))

    applied = drifted.run("apply", "--plan", "plan.json")

    assert applied.code == 1
    assert "was changed after it was made" in applied.err
    assert drifted.jobs() == []


def test_a_plan_of_another_commit_is_refused(drifted):
    drifted.run("plan", "--plan", "plan.json")
    drifted.commit()
    applied = drifted.run("apply", "--plan", "plan.json")
    assert applied.code == 1
    assert "was made from commit" in applied.err


def test_failures_end_with_what_the_devices_said(drifted):
    drifted.failing = {"old-1", "old-2", "old-3", "wrong-key"}

    applied = drifted.run("apply", "--wait", "--timeout", "60s")

    assert applied.code == 1
    assert "no space left on /greengrass" in applied.out


def test_an_offline_device_does_not_hold_the_wait_for_ever(drifted):
    drifted.offline = {"old-1", "old-2", "old-3", "wrong-key"}

    applied = drifted.run("apply", "--wait", "--timeout", "60s", "--offline-after", "1s")

    assert applied.code == 0, applied.err + applied.out
    assert "1 not finished" in applied.out
    assert len(drifted.jobs()) == 1


def test_a_guardrail_refuses_with_numbers_and_the_exact_override(drifted):
    drifted.write((drifted.desired / "factory.yaml").read_text().replace("90, minEx", "10, minEx"))
    drifted.commit()

    refused = drifted.run("apply")

    assert refused.code == 3
    assert "nothing was changed" in refused.err
    assert drifted.jobs() == []
    override = refused.err.strip().splitlines()[-1].removeprefix("→ ").split()
    assert drifted.run("plan").code == 3
    daily = drifted.run("drift")
    assert (daily.code, " ".join(override) in daily.out) == (2, True), "the daily report says it as well"
    assert drifted.run("apply", *override).code == 0
    assert len(drifted.jobs()) == 1


def test_documents_that_are_not_committed_are_not_applied(drifted):
    drifted.write((drifted.desired / "factory.yaml").read_text() + "# edited\n")
    refused = drifted.run("apply")
    assert refused.code == 3
    assert "differ from the last commit" in refused.err
    assert "--allow-dirty" in refused.err
    assert drifted.jobs() == []
    assert drifted.run("apply", "--allow-dirty").code == 0


def test_a_ref_is_planned_without_touching_the_working_tree(drifted):
    drifted.write("not: [a document")
    assert drifted.run("plan", "--ref", "HEAD").code == 2
    assert drifted.run("plan").code == 1


def test_credentials_of_another_account_stop_every_command(drifted):
    drifted.write((drifted.desired / "factory.yaml").read_text().replace("123456789012", "999999999999"))
    drifted.commit()
    for command in ("plan", "drift", "apply", "status"):
        told = drifted.run(command)
        assert told.code == 1
        assert "999999999999" in told.err
        assert told.out == ""
    assert drifted.jobs() == []


def test_one_failing_fleet_does_not_stop_the_other(drifted):
    (drifted.desired / "overseas").mkdir()
    (drifted.desired / "factory").mkdir()
    (drifted.desired / "factory.yaml").rename(drifted.desired / "factory" / "all.yaml")
    text = (drifted.desired / "factory" / "all.yaml").read_text()
    overseas = text.replace("name: factory", "name: overseas").replace("123456789012", "999999999999")
    (drifted.desired / "overseas" / "all.yaml").write_text(overseas)
    drifted.commit()

    told = drifted.run("drift", "--format", "json")

    assert told.code == 1
    assert [fleet["fleet"] for fleet in told.json["fleets"]] == ["factory"]
    assert [failure["fleet"] for failure in told.json["failures"]] == ["overseas"]
    assert drifted.run("drift", "--fleet", "factory").code == 2


def test_a_bundle_says_the_same_as_its_commit(drifted):
    packed = drifted.run("bundle", "--repository", "github.com/acme/fleet", "--output", "bundle.json")
    assert packed.code == 0, packed.err
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()  # a bundle from the future is refused
    by_ref = drifted.run("plan", "--ref", "HEAD", "--format", "json", "--now", later).json
    by_bundle = drifted.run("plan", "--bundle", "bundle.json", "--format", "json", "--now", later).json
    assert [job["job_id"] for job in by_bundle["jobs"]] == [job["job_id"] for job in by_ref["jobs"]]


def test_a_place_that_is_none_is_refused_with_what_would_be_one(drifted):
    for place in ("s3://", "s3://plant", "https://plant.example/bundle"):
        told = drifted.run("bundle", "--repository", "github.com/acme/fleet", "--output", place)
        assert (told.code, "correct it, such as: --output bundle.json" in told.err) == (1, True), place


def test_the_wait_sleeps_through_a_soak_and_goes_on(drifted):
    drifted.write((drifted.desired / "factory.yaml").read_text().replace("soak: 0s", "soak: 3s"))
    drifted.commit()

    applied = drifted.run("apply", "--wait", "--timeout", "90s", "--format", "markdown")

    assert applied.code == 0, applied.err + applied.out
    assert "## ✅ factory: 2 jobs made · 4 devices rotated" in applied.out
    assert "Now: 1 device needs a person · 6 of 7 devices in sync" in applied.out


def test_a_soak_longer_than_the_wait_is_said_and_ends_it(drifted):
    drifted.write((drifted.desired / "factory.yaml").read_text().replace("soak: 0s", "soak: 24h"))
    drifted.commit()

    applied = drifted.run("apply", "--wait", "--timeout", "60s", "--format", "markdown")

    assert applied.code == 0
    assert "a wave soaks until" in applied.err
    assert len(drifted.jobs()) == 1


def test_what_failed_stands_in_the_step_summary(drifted):
    drifted.failing = {"old-1", "old-2", "old-3", "wrong-key"}
    applied = drifted.run("apply", "--wait", "--timeout", "60s", "--format", "markdown")
    assert applied.code == 1
    assert applied.out.startswith("## ❌ factory: ")
    assert "no space left on /greengrass |" in applied.out
