"""A plan file is data: what has become of the fleet since decides, and what stands in the file is not authority."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from controller.reconcile.planning import MAX_PLAN_BYTES, plan_from_json
from controller.reconcile.planning.plan_file import digest_of
from controller.reconcile.values import FORMAT_VERSION

SUSPENDED = '  mode: enforce\n  suspend: {reason: "line rebuild", until: 2099-01-01T00:00:00Z}\n'
ONE_WAVE = ('waves: ["1", "100%"]', 'waves: ["100%"]')


@pytest.fixture
def six(factory):
    """Six devices that are due, in one wave."""
    for number in range(6):
        factory.device(f"old-{number}", age=200)
    change(factory, *ONE_WAVE)
    change(factory, "maxChangePercent: 90", "maxChangePercent: 100")
    return factory


def change(factory, old, new):
    path = factory.desired / "factory.yaml"
    factory.write(path.read_text().replace(old, new))
    factory.commit()


def edited(factory, name, **fields):
    """The plan file with other members, and a digest that goes with them."""
    path = factory.repository / name
    body = json.loads(path.read_text()) | fields | {"digest": ""}
    raw = {key: value for key, value in body.items() if key != "format_version"}
    import controller.reconcile.planning.plan_file as codec

    plan = codec._validate(raw)
    path.write_text(json.dumps(body | {"digest": digest_of(plan)}))
    assert plan_from_json(path.read_text()).digest


def test_the_second_of_two_plan_files_leaves_out_who_rotates_already(six):
    six.offline = {f"old-{number}" for number in range(7)}  # they are asked, and have not answered yet
    six.run("plan", "--plan", "one.json")
    six.device("old-6", age=200)
    six.run("plan", "--plan", "two.json")
    assert six.run("apply", "--plan", "one.json").code == 0

    second = six.run("apply", "--plan", "two.json")

    assert second.code == 0, second.err
    assert "old-0  Rotating: job cf-line-a-w1-" in second.out
    found = [six.iot.list_job_executions_for_job(jobId=job)["executionSummaries"] for job in six.jobs()]
    asked = [entry["thingArn"] for summaries in found for entry in summaries]
    assert len(set(asked)) == len(asked) >= 6, "nobody is asked twice"


def test_a_plan_file_rotates_nobody_who_is_no_candidate_any_more(six):
    six.run("plan", "--plan", "plan.json")
    change(six, "  rollout:", f"{SUSPENDED}  rollout:")
    commit = six.run("plan", "--format", "json").json["commit"]
    edited(six, "plan.json", commit=commit)

    applied = six.run("apply", "--plan", "plan.json")

    assert applied.code == 0
    assert "old-0  Suspended: policy line-a is suspended until 2099" in applied.out
    assert six.jobs() == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": [{"job_id": "foreign", "action": "cancel", "reason": "x"}]}, "not a job of certfleet's"),
        ({"steps": [{"job_id": "line-a", "action": "remove-cohort", "reason": "x"}]}, "not a job of certfleet's"),
        ({"valid_until": "2020-01-01T00:00:00Z"}, "the plan ended at 2020-01-01"),
    ],
)
def test_an_edited_plan_file_is_refused(six, fields, message):
    six.run("plan", "--plan", "plan.json")
    edited(six, "plan.json", **fields)
    applied = six.run("apply", "--plan", "plan.json")
    assert applied.code == 1
    assert message in applied.err
    assert six.jobs() == []


@pytest.mark.parametrize("what", ["device", "document"])
def test_a_plan_file_with_another_device_or_document_is_refused(six, what):
    six.device("of-no-policy", age=200, groups=())
    six.run("plan", "--plan", "plan.json")
    jobs = json.loads((six.repository / "plan.json").read_text())["jobs"]
    if what == "device":
        jobs[0]["devices"][0]["name"] = "of-no-policy"
    else:
        jobs[0]["document"]["key_type"] = "RSA-2048"
        jobs[0]["document"]["signing_algorithm"] = "SHA256WITHRSA"
    edited(six, "plan.json", jobs=jobs)
    applied = six.run("apply", "--plan", "plan.json")
    assert applied.code == 1
    assert ("no policy governs" if what == "device" else "another document") in applied.err
    assert six.jobs() == []


def test_refusals_that_were_taken_out_of_the_file_are_derived_anew(six):
    change(six, "maxChangePercent: 100", "maxChangePercent: 50")
    assert six.run("plan", "--plan", "plan.json").code == 3
    edited(six, "plan.json", refusals=[])
    assert six.run("apply", "--plan", "plan.json").code == 3
    assert six.jobs() == []


def test_a_plan_file_of_the_version_before_is_refused_with_what_to_do(six):
    six.run("plan", "--plan", "plan.json")
    path = six.repository / "plan.json"
    path.write_text(path.read_text().replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 1'))
    applied = six.run("apply", "--plan", "plan.json")
    assert applied.code == 1
    assert "format_version 1" in applied.err
    assert "make the plan again" in applied.err


def test_a_commit_behind_the_one_applied_last_is_refused_until_it_is_allowed(six):
    change(six, "maxAge: 90d", "maxAge: 400d")
    first = six.run("plan", "--format", "json").json["commit"]
    assert six.run("apply").code == 0
    change(six, "maxAge: 400d", "maxAge: 390d")
    assert six.run("apply").code == 0

    refused = six.run("apply", "--ref", first)

    assert refused.code == 3
    assert f"commit {first[:12]} does not follow" in refused.err
    assert f"--override older={first[:12]}" in refused.err
    assert six.run("apply", "--ref", first, "--override", f"older={first[:12]}").code == 0
    assert six.run("apply").code == 0, "forward again"


def test_of_two_commits_of_one_second_the_first_is_not_applied_after_the_second(six):
    second = datetime(2026, 11, 1, 12, tzinfo=UTC)
    for age in ("400d", "390d"):
        path = six.desired / "factory.yaml"
        six.write(re.sub("maxAge: [0-9]+d", f"maxAge: {age}", path.read_text()))
        six.commit(date=second)
        packed = six.run("bundle", "--repository", "github.com/acme/fleet", "--output", f"{age}.bundle")
        assert packed.code == 0, packed.err
    assert six.run("apply", "--bundle", "390d.bundle").code == 0

    refused = six.run("apply", "--bundle", "400d.bundle")

    assert refused.code == 3
    assert "does not follow" in refused.err
    assert six.run("apply", "--bundle", "390d.bundle").code == 0


@pytest.mark.parametrize(("room", "code"), [(0, 2), (-1, 1)])
def test_a_plan_is_written_only_where_apply_reads_it_again(six, monkeypatch, room, code):
    size = len(six.run("plan", "--now", "2030-01-01T00:00:00Z", "--format", "json").out.encode())
    for module in ("controller.commands.plan", "controller.commands.apply"):
        monkeypatch.setattr(f"{module}.MAX_PLAN_BYTES", size + room)

    planned = six.run("plan", "--plan", "plan.json")

    assert planned.code == code, planned.err
    if code == 1:
        assert "plan fleet by fleet" in planned.err
        assert not (six.repository / "plan.json").exists()
    else:
        assert six.run("apply", "--plan", "plan.json").code == 0


def test_a_plan_of_a_million_devices_is_within_what_is_read(six):
    devices = [device for job in six.run("plan", "--format", "json").json["jobs"] for device in job["devices"]]
    each = len(json.dumps(devices, indent=8)) / len(devices)  # more than a plan's own indentation
    assert 1_000_000 * each < MAX_PLAN_BYTES / 1.5
