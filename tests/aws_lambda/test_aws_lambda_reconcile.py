"""One schedule's runs: drift is found, jobs are made once, nothing is waited for, people hear what is new."""

from __future__ import annotations

import json


def test_a_run_makes_the_jobs_and_the_runs_after_it_find_nothing_to_do(site, invoke):
    site.publish()
    for number in range(3):
        site.device(f"old-{number}", age=200)
    site.device("young")
    first = invoke()
    assert first.error is None, first.log
    assert first.value["fleets"]["factory"]["JobsCreated"] == 1
    site.wait_until_rotated(3)
    second = invoke().value["fleets"]["factory"]
    assert (second["JobsCreated"], second["InSync"], second["Governed"]) == (0, 4, 4)
    assert set(site.rotations.values()) == {1}
    assert len(site.jobs()) == 1


def test_the_inventory_is_kept_so_that_a_second_run_describes_no_certificate_again(site, invoke):
    site.publish()
    for number in range(5):
        site.device(f"young-{number}")
    cold = invoke().value["fleets"]["factory"]["AwsCalls"]
    assert site.kept("inventory/123456789012-eu-west-1.sqlite").startswith(b"SQLite format 3")
    assert invoke().value["fleets"]["factory"]["AwsCalls"] < cold


def test_a_kept_inventory_that_is_damaged_is_built_anew_and_the_log_says_so(site, invoke):
    site.publish()
    site.device("young")
    site.s3.put_object(
        Bucket="certfleet-reconcile", Key="reconcile/inventory/123456789012-eu-west-1.sqlite", Body=b"x" * 500
    )
    answer = invoke()
    assert "built anew" in answer.log
    assert answer.value["fleets"]["factory"]["InSync"] == 1
    assert invoke().error is None


def test_a_kept_inventory_whose_damage_shows_only_while_it_is_read_is_built_anew_in_the_same_run(site, invoke):
    site.publish()
    site.device("young")
    invoke()
    kept = site.kept("inventory/123456789012-eu-west-1.sqlite")
    at = kept.rindex(b"young")
    page = at - at % 4096
    damaged = kept[:page] + bytes(4096) + kept[page + 4096 :]
    site.s3.put_object(
        Bucket="certfleet-reconcile", Key="reconcile/inventory/123456789012-eu-west-1.sqlite", Body=damaged
    )
    answer = invoke()
    assert answer.log.count("it is built anew from AWS") == 1
    assert (answer.error, answer.value["fleets"]["factory"]["InSync"]) == (None, 1)
    assert "built anew" not in invoke().log


def test_what_needs_a_person_is_told_once_and_told_again_when_it_changes(site, invoke):
    site.publish()
    site.device("two-certificates")
    site.cloud.seed.thing("empty", ["line-a"])
    invoke()
    [told] = site.heard()
    assert told.startswith("certfleet: factory needs a person\n")
    assert "empty: " in told
    invoke()
    assert site.heard() == []
    site.certificate("empty")
    site.cloud.seed.thing("empty-too", ["line-a"])
    invoke()
    [told] = site.heard()
    assert "empty-too: " in told
    site.certificate("empty-too")
    invoke()
    [told] = site.heard()
    assert "Nothing in fleet factory needs a person any more." in told


def test_a_guardrail_stops_the_jobs_and_tells_a_person_with_the_override(site, invoke):
    site.commit(site_documents_with("maxChangePercent: 10, minExisting: 1"))
    site.publish()
    for number in range(4):
        site.device(f"old-{number}", age=200)
    answer = invoke()
    assert site.jobs() == []
    assert answer.value["fleets"]["factory"]["Refused"] >= 1
    [told] = site.heard()
    assert "maxChangePercent=" in told


def test_a_bundle_whose_policy_moved_away_is_refused_in_every_run_and_people_hear_of_the_override(site, invoke):
    site.publish()
    for number in range(3):
        site.device(f"young-{number}")
    assert "nothing is recorded of what was governed before" in invoke().log
    site.cloud.seed.group("line-b")
    moved = site_documents_with("maxChangePercent: 90, minExisting: 1").replace("Group: line-a", "Group: line-b")
    site.commit(moved)
    site.publish()
    for _ in range(2):
        answer = invoke()
        assert answer.value["fleets"]["factory"]["Refused"] == 1
        assert "nothing is recorded" not in answer.log
    [told] = site.heard()
    assert "no policy names line-a (3 devices) any more: 3 devices would be left to themselves" in told
    assert "--override orphans=3" in told


def test_the_metrics_are_in_the_embedded_format_and_name_commit_and_plan(site, invoke):
    site.publish()
    site.device("old", age=200)
    answer = invoke()
    line = answer.metrics["factory"]
    [directive] = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("certfleet", [["Fleet"]])
    for metric in directive["Metrics"]:
        assert isinstance(line[metric["Name"]], int | float)
        assert metric["Unit"] == "Count"
    assert {"Governed", "InSync", "Blocked", "JobsCreated", "AwsCalls"} <= {m["Name"] for m in directive["Metrics"]}
    assert line["commit"] == json.loads(site.kept("last-applied.json"))["commit"]
    assert len(line["planDigest"]) == 64


def test_a_fleet_that_fails_fails_the_run_and_people_hear_of_it_once(site, invoke):
    site.commit(
        site_documents_with("maxChangePercent: 90, minExisting: 40").replace("thingGroup: line-a", "thingGroup: gone")
    )
    site.publish()
    answer = invoke()
    assert "'gone', which does not exist" in str(answer.error)
    assert answer.metrics["factory"]["Failed"] == 1
    [told] = site.heard()
    assert "create the thing group" in told
    invoke()
    assert site.heard() == []


def site_documents_with(guardrails: str) -> str:
    return f"""\
apiVersion: certfleet/v1
kind: Fleet
metadata: {{name: factory}}
spec:
  account: "123456789012"
  region: eu-west-1
  guardrails: {{{guardrails}}}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: line-a}}
spec:
  thingGroup: line-a
  certificate: {{maxAge: 90d, keyType: ECDSA-P256, csrSigningAlgorithm: ECDSA-WITH-SHA256, authority: aws-iot}}
  rollout: {{waves: ["100%"], soak: 0s, maximumPerMinute: 1000}}
"""
