"""``certfleet heal``: what a registry has too much of goes in steps far apart, and never what is in use."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from datetime import timedelta

import pytest
from cli_heal_world import ARN, NAMES, TABLE

from controller.fleet import ActAs, AwsSession
from controller.heal import Healer, HealingRegistry, HealingWaits, of_loose, of_thing
from controller.reconcile.values import Fleet, Source

THING = "gateway-1"
POLICY = '{"Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}'
WAITS = HealingWaits(timedelta(days=14), timedelta(days=30))


@pytest.fixture
def two(world):
    """A thing with two certificates, of which it uses the first."""
    world.used, world.other = world.device(THING), world.certificate(THING)
    return world


def watched(world):
    assert world.heal() == ["watch", "watch"]
    world.pass_by(1)
    world.connected(world.used, THING)
    world.pass_by(20)


def deactivated(world):
    watched(world)
    assert world.heal() == ["deactivate"]


def test_of_two_certificates_the_one_that_was_never_seen_goes_in_three_steps(two):
    assert two.plan()[0] == sorted(("watch", one, THING) for one in (two.used, two.other))
    deactivated(two)
    assert two.statuses(THING) == {two.used: "ACTIVE", two.other: "INACTIVE"}
    two.pass_by(40)
    assert two.plan()[0] == [], "nobody has connected since, so nothing is known"
    two.connected(two.used, THING)
    assert two.plan()[0] == [("remove", two.other, THING)]
    assert "remove " in two.run("heal", "plan").out
    assert two.heal() == ["remove"]
    assert two.statuses(THING) == {two.used: "ACTIVE"}
    assert two.other not in two.certificates()
    assert two.item(two.other) is None


def nothing_is_seen(world):
    pass


def both_are_seen(world):
    world.connected(world.used, THING)
    world.connected(world.other, THING)


def one_is_seen_under_another_name(world):
    world.connected(world.used, "sensor/77")


def the_other_is_used_by_a_client_of_another_name(world):
    world.connected(world.used, THING)
    world.connected(world.other, "sensor/77")


def a_stranger_connects_as_the_thing(world):
    world.connected(world.device("gateway-9"), THING)


def it_was_connected_before_the_watch_and_the_event_is_late(world):
    world.connected(world.used, THING)
    world.connected(world.other, THING, world.now - timedelta(days=3))


@pytest.mark.parametrize(
    "happens",
    [
        nothing_is_seen, both_are_seen, one_is_seen_under_another_name, a_stranger_connects_as_the_thing,
        the_other_is_used_by_a_client_of_another_name, it_was_connected_before_the_watch_and_the_event_is_late,
    ],
)  # fmt: skip
def test_nothing_is_deactivated_where(two, happens):
    two.heal()
    happens(two)
    two.pass_by(60)
    assert [kind for kind, *_ in two.plan()[0]] == []
    assert set(two.statuses(THING).values()) == {"ACTIVE"}


def test_a_device_that_connects_between_review_and_apply_stops_it(two):
    watched(two)
    assert two.plan()[0] == [("deactivate", two.other, THING)]
    two.connected(two.other, THING)
    told = two.apply()
    assert told.code == 1
    assert "0 of 1 action done" in told.out
    assert "is not called for any more" in told.out
    assert set(two.statuses(THING).values()) == {"ACTIVE"}


def test_a_device_that_connects_at_the_very_moment_has_its_certificate_back_at_once(two, monkeypatch):
    watched(two)
    two.plan()
    plain = HealingRegistry.set_status

    def and_it_connects(self, certificate_id, status):
        two.connected(two.other, THING)
        plain(self, certificate_id, status)

    monkeypatch.setattr(HealingRegistry, "set_status", lambda *a: (monkeypatch.setattr(HealingRegistry, "set_status", plain), and_it_connects(*a)))  # fmt: skip  # noqa: E501
    assert two.apply().code == 1
    assert set(two.statuses(THING).values()) == {"ACTIVE"}


def test_a_connection_that_is_heard_of_late_brings_the_certificate_back(two):
    deactivated(two)
    two.connected(two.other, THING, two.now - timedelta(hours=6))
    assert two.heal() == ["activate"]
    assert set(two.statuses(THING).values()) == {"ACTIVE"}
    two.pass_by(60)
    assert two.plan()[0] == []


def test_what_a_person_does_meanwhile_is_theirs(two):
    deactivated(two)
    two.pass_by(1)
    for status in ("ACTIVE", "INACTIVE"):
        two.iot.update_certificate(certificateId=two.other, newStatus=status)
    two.pass_by(60)
    two.connected(two.used, THING)
    actions, left = two.plan()
    assert (actions, [one["what"] for one in left if one["subject"] == THING]) == ([], ["inactive leftover"])


def test_with_the_table_lost_all_begins_anew(two):
    deactivated(two)
    two.pass_by(60)
    for certificate_id in (two.used, two.other):
        two.dynamodb.delete_item(TableName=TABLE, Key={"thingName": {"S": f"heal#{certificate_id}"}, "record": {"S": "watch"}})  # fmt: skip  # noqa: E501
    actions, left = two.plan()
    assert actions == []
    assert "inactive leftover" in {one["what"] for one in left}
    two.dynamodb.delete_table(TableName=TABLE)
    assert two.run("heal", "plan").code == 1


def test_a_rotation_that_is_undecided_keeps_healing_away(two):
    two.put({"thingName": THING, "record": "current", "phase": "unresolved"})
    two.heal()
    assert two.plan()[0] == []
    two.put({"thingName": THING, "record": "current", "phase": "finished"})
    assert {kind for kind, *_ in two.plan()[0]} == {"watch"}


def test_a_certificate_of_nothing_goes_and_one_with_a_policy_stays(world):
    world.device(THING)
    loose, used = (world.certificate(THING) for _ in range(2))
    world.cloud.seed.policy("rotates", POLICY)
    world.cloud.seed.policy("unused", POLICY)
    world.iot.attach_policy(policyName="rotates", target=ARN + used)
    for one in (loose, used):
        world.iot.detach_thing_principal(thingName=THING, principal=ARN + one)
    assert world.plan()[0] == [], "a device may be about to be made of it"
    world.pass_by(31)
    assert world.heal() == ["deactivate"]
    world.pass_by(31)
    assert world.heal() == ["remove"]
    assert set(world.certificates()) == {used, *world.statuses(THING)}
    told = {(one["what"], one["subject"]) for one in world.plan()[1]}
    assert {("certificate of no thing", used), ("policy of nothing", "unused")} <= told


def test_whatever_else_is_untidy_is_named_with_what_to_do(world):
    world.cloud.seed.policy("rotates", POLICY)
    world.device("bare-1")
    held = [world.device("wide-1", kind="NON_EXCLUSIVE_THING"), world.device("off-1"), world.device(THING)]
    left_over = world.certificate(THING)
    for one in (*held, left_over):
        world.iot.attach_policy(policyName="rotates", target=ARN + one)
    for one in (held[1], left_over):
        world.iot.update_certificate(certificateId=one, newStatus="INACTIVE")
    world.device("yard-1", groups=())
    actions, left = world.plan()
    assert actions == []
    assert {(one["what"], one["subject"], one["found"].split(",")[0]) for one in left} == {
        ("certificate without a policy", "1 thing", "bare-1"),
        ("attached non-exclusively", "1 thing", "wide-1"),
        ("inactive certificate", "off-1", "1 certificate"),
        ("inactive leftover", THING, f"certificate {left_over} is INACTIVE"),
        ("governed by no policy", "1 thing", "such as yard-1"),
    }
    assert all(one["remedy"] for one in left)


def a_stock_backend(world):
    world.iot.delete_job_template(jobTemplateId="AWSLabsCertificateRotator")
    world.iot.create_job_template(
        jobTemplateId="AWSLabsCertificateRotator", document='{"operation":"ROTATE_CERTIFICATE"}', description="stock"
    )
    world.iot.delete_topic_rule(ruleName=NAMES.presence_rule)


def connections_that_nobody_hears_of(world):
    world.iot.disable_topic_rule(ruleName=NAMES.presence_rule)


@pytest.mark.parametrize("happens", [a_stock_backend, connections_that_nobody_hears_of])
def test_all_is_left_to_a_person_with(two, happens):
    watched(two)
    two.plan()
    happens(two)
    told = two.apply()
    assert (told.code, "learns from it which certificates are in use" in told.err) == (1, True)
    actions, left = two.plan()
    assert actions == []
    assert "several or inactive certificates" in {one["what"] for one in left}
    assert "deploy this project's backend" in two.run("heal", "plan").out


def test_two_at_once_do_each_action_once(two):
    watched(two)
    two.plan()
    told = []
    runs = [threading.Thread(target=lambda: told.append(healer(two).carry_out(planned(two), lambda: None))) for _ in range(2)]  # fmt: skip  # noqa: E501
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert Counter(len(one.actions) for one in told)[1] >= 1
    assert two.statuses(THING) == {two.used: "ACTIVE", two.other: "INACTIVE"}
    assert two.plan()[0] == []


REFUSED = {
    "edited": (lambda plan: plan["fleets"][0]["actions"][0].update(certificate_id="0" * 64), "its digest is another"),
    "damaged": (lambda plan: plan["fleets"][0].pop("endpoint"), "is damaged"),
    "another kind": (lambda plan: plan.update(kind="Plan"), "is not a plan for healing"),
}


@pytest.mark.parametrize(("edit", "why"), REFUSED.values(), ids=REFUSED)
def test_a_plan_file_is_refused_that_is(two, edit, why):
    two.plan()
    body = json.loads(two.file.read_text())
    edit(body)
    two.file.write_text(json.dumps(body))
    told = two.apply()
    assert (told.code, why in told.err) == (1, True), told.err
    assert two.item(two.used) is None


def test_a_plan_ends_and_so_does_the_patience_that_nobody_may_shorten(two):
    two.plan()
    two.pass_by(3)
    assert "the plan is good from" in two.apply().err
    assert "would lose its certificate" in two.run("heal", "plan", "--watch", "1h").err
    assert "apply carries out a reviewed plan" in two.run("heal", "apply").err
    two.file.write_text("{")
    assert "it is not JSON" in two.apply().err
    two.file.unlink()
    assert "cannot be read" in two.apply().err


# kill -9 at every call --------------------------------------------------------------------------------


class KilledError(BaseException):
    """The process is gone."""


class Mortal(AwsSession):
    """Dies at one of its calls: before it is sent, or when it is done and nobody has heard of it."""

    dies_at, is_done, count = sys.maxsize, False, 0

    def call(self, service, operation, **parameters):
        self.count += 1
        if self.count == self.dies_at and not self.is_done:
            raise KilledError
        answer = super().call(service, operation, **parameters)
        if self.count == self.dies_at:
            raise KilledError
        return answer


def session(world):
    fleet = Fleet("factory", world.cloud.site.account, world.cloud.site.region, Source("fleet.yaml", 1))
    made = Mortal(fleet, ActAs.HEALER)
    made.verify()
    made.count = 0
    return made


def healer(world, aws=None):
    registry = HealingRegistry(aws or session(world), TABLE, lambda _: None)
    return Healer(registry, WAITS, frozenset(), lambda: world.now)


def planned(world):
    """What is to be done now about the thing, and about its other certificate if no thing holds that any more."""
    registry = HealingRegistry(session(world), TABLE, lambda _: None)
    one = registry.certificate(world.other)
    loose = of_loose(one, world.now, WAITS)[0] if one else ()
    return [*of_thing(registry.thing(THING, is_rotating=False), world.now, WAITS)[0], *loose]


def before_watching(world):
    pass


def before_removing(world):
    deactivated(world)
    world.pass_by(40)
    world.connected(world.used, THING)


def before_activating(world):
    deactivated(world)
    world.connected(world.other, THING, world.now - timedelta(hours=6))


STAGES = {"watch": before_watching, "deactivate": watched, "remove": before_removing, "activate": before_activating}


@pytest.mark.unmeasured
@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.soak)], ids=["some calls", "every call"])
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_any_call_healing_goes_on_and_what_is_in_use_stays(two, stage, stride, capsys):
    STAGES[stage](two)
    two.iot.attach_policy(policyName=two.cloud.seed.policy("rotates", POLICY), target=ARN + two.other)
    kills = 0
    for at in range(1, 1000, stride):
        for is_done in (False, True):
            mortal = session(two)
            mortal.dies_at, mortal.is_done = at, is_done
            try:
                healer(two, mortal).carry_out(planned(two), lambda: None)
            except KilledError:
                kills += 1
            assert two.statuses(THING)[two.used] == "ACTIVE"
            if stage != "remove":
                assert two.other in two.statuses(THING)
        if not planned(two):
            break
    done = {"watch": "ACTIVE", "deactivate": "INACTIVE", "remove": None, "activate": "ACTIVE"}[stage]
    assert two.certificates().get(two.other) == done
    assert kills > 0
    with capsys.disabled():
        sys.stdout.write(f"\nhealing, {stage}: killed {kills} times\n")
