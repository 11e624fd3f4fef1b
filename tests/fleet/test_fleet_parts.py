"""A look at a part of a fleet: one policy's devices, or one thing. Nothing else is asked, or overlooked later."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from fleet_registry import full
from fleet_shapes import NOW, account

from controller.fleet import Inventory, RefreshOptions, last_look, look_at_thing, refresh
from controller.reconcile.values import CertificateStatus, Policy
from controller.reconcile.values.job_ids import make_job_id

HOUR = timedelta(hours=1)
ENDPOINT = "https://iot.eu-west-1.amazonaws.com"
NO_SLICE = RefreshOptions(max_slice=0)
DOCUMENT = '{"operation":"ROTATE_CERTIFICATE","policy":"group-1"}'


@pytest.fixture
def made():
    """Two groups of twenty; five things are in both."""
    made = account(40, foreign=500)
    things = made.registry.groups.pop("group-0")
    made.registry.groups |= {"group-0": things[:20], "group-1": [*things[20:], *things[:5]]}
    made.groups.append("group-1")
    return made


@pytest.fixture
def at(made, make_session, tmp_path):
    """Look at one policy, at a thing, or at all; gives the state, the devices and what was asked."""

    def look(then, *, only: str | None = None, thing: str | None = None, path="inventory.sqlite"):
        made.registry.seen.clear()
        session, desired = make_session(made.registry), made.desired
        with Inventory(tmp_path / path) as inventory:
            if thing is not None:
                state = look_at_thing(session, inventory, desired, NOW + then, thing)
                found = {thing} if state else ()
            else:
                policy = None if only is None else Policy(only, only, made.desired.policies[0].source)
                state = refresh(session, inventory, desired, NOW + then, options=NO_SLICE, only=policy)
                found = None if only is None else inventory.members(only)
            devices = {one.name: one for one in inventory.devices(desired, state, only=found)} if state else {}
        return state, devices, Counter(name for name, _ in made.registry.seen)

    return look


def asked(made):
    return {parameters["thingName"] for name, parameters in made.registry.seen if name == "ListThingPrincipalsV2"}


def test_a_first_look_at_one_policy_lists_who_is_in_which_group_and_reads_that_policys_devices(made, at):
    _, devices, calls = at(0 * HOUR, only="group-1")
    assert asked(made) == set(made.registry.groups["group-1"]) == set(devices)
    assert (calls["ListThingsInThingGroup"], calls["DescribeCertificate"]) == (2, 25)
    assert devices["device-0000001"].groups == ("group-0", "group-1")
    _, devices, calls = at(HOUR)
    assert len(asked(made)) == 15
    assert len(devices) == 40


def test_a_later_look_at_one_policy_lists_its_group_and_sees_what_is_new_there(made, at):
    at(0 * HOUR)
    made.registry.groups["group-1"].append("new")
    made.registry.add_certificate("abc", "new", created_at=NOW)
    _, devices, calls = at(HOUR, only="group-1")
    assert asked(made) == {"new"}
    assert calls["ListThingsInThingGroup"] == 1
    assert [one.certificate.certificate_id for one in devices["new"].attachments] == [full("abc")]
    assert calls.total() < 20


def test_what_ended_elsewhere_between_two_whole_looks_is_not_overlooked_for_a_look_at_one_policy(made, at):
    made.registry.foreign = 2_000
    job_id = make_job_id("group-0", 1, "0" * 16)
    made.registry.add_job(job_id, {"device-0000010": "QUEUED"}, document=DOCUMENT.replace("1", "0"), created_at=NOW)
    at(0 * HOUR)
    at(HOUR)  # which lists the whole account, and the next ones do not
    made.registry.jobs[job_id]["executions"] = {"device-0000010": "SUCCEEDED"}
    made.registry.remove_certificate(f"{10:07x}f")
    made.registry.add_certificate("cba", "device-0000010")
    at(5 * HOUR, only="group-1")
    _, devices, _ = at(9 * HOUR)
    assert [one.certificate.certificate_id for one in devices["device-0000010"].attachments] == [full("cba")]


def test_the_last_whole_look_still_answers_after_one_at_a_policy_unless_that_was_cut_off(made, at, tmp_path):
    whole, devices, _ = at(0 * HOUR)
    at(HOUR, only="group-1")
    with Inventory(tmp_path / "inventory.sqlite") as inventory:
        assert last_look(inventory, made.desired, ENDPOINT) == whole
        assert len(list(inventory.devices(made.desired, whole))) == len(devices)

    def stop(operation, _parameters):
        if operation == "ListJobs":
            raise KeyboardInterrupt

    made.registry.before = stop
    with pytest.raises(KeyboardInterrupt):
        at(2 * HOUR, only="group-1")
    with Inventory(tmp_path / "inventory.sqlite") as inventory, pytest.raises(Exception, match="was cut off"):
        last_look(inventory, made.desired, ENDPOINT)


def test_a_look_at_a_thing_asks_for_it_its_certificate_and_the_jobs_of_its_policies(made, at):
    at(0 * HOUR)
    made.registry.certificates[full(f"{30:07x}f")]["status"] = "INACTIVE"
    for group, status in (("group-0", "QUEUED"), ("group-1", "IN_PROGRESS")):
        job_id = make_job_id(group, 1, "0" * 16)
        made.registry.add_job(job_id, {"device-0000030": status}, document=DOCUMENT, created_at=NOW + HOUR)
    state, devices, calls = at(HOUR, thing="device-0000030")
    assert state.observed_at == NOW
    [attachment] = devices["device-0000030"].attachments
    assert attachment.certificate.status is CertificateStatus.INACTIVE
    [execution] = devices["device-0000030"].executions
    assert execution.job_id == make_job_id("group-1", 1, "0" * 16)
    assert asked(made) == {"device-0000030"}
    assert calls == {
        "GetCallerIdentity": 1,
        "ListJobs": 3,
        "GetJobDocument": 1,
        "ListJobExecutionsForJob": 1,
        "ListThingPrincipalsV2": 1,
        "DescribeCertificate": 1,
    }


def test_a_thing_that_no_look_knows_needs_a_look_at_all(made, at):
    assert at(0 * HOUR, thing="device-0000001")[0] is None
    at(0 * HOUR)
    assert at(HOUR, thing="stranger")[0] is None
