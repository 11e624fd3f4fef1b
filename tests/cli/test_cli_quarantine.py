"""``certfleet heal`` and quarantines: from the document to a device that is cut off, and back."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cli_factory import DOCUMENTS
from cli_heal_world import ARN, NAMES, TABLE, World

from controller.errors import FleetError
from controller.fleet import ActAs, AwsSession
from controller.heal import Healer, HealingRegistry, HealingWaits, of_suspect
from controller.heal.registry import CLIENTS
from controller.reconcile.values import Fleet, Quarantine, Source
from protocol.quarantine import key_of

THING, OTHER = "gateway-1", "gateway-2"
ROTATION = json.dumps({"operation": "ROTATE_CERTIFICATE"})


@pytest.fixture
def world(tmp_path, surroundings):
    made = World(tmp_path, surroundings)
    for name, value in made.cloud.environment().items():
        surroundings.setenv(name, value)
    made.cloud.registry.on_client_ended(lambda client: made.cloud.registry.disconnected(made.certificates_of[client], client))  # fmt: skip  # noqa: E501
    made.certificates_of = {}
    yield made
    made.close()


def connect(world, thing, client=None, certificate=None):
    [held] = world.statuses(thing) if certificate is None else [certificate]
    world.certificates_of[client or thing] = held
    world.cloud.registry.connected(held, client or thing)


def is_connected(world, client=THING):
    return world.cloud.registry.connection(client).connected


def write(world, guardrails="", **spec):
    """The documents with one quarantine, or with none."""
    text = DOCUMENTS.replace("minExisting: 4}", f"minExisting: 4{guardrails}}}")
    if spec:
        fields = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in spec.items())
        text += (
            "---\napiVersion: certfleet/v1\nkind: Quarantine\nmetadata: {name: theft}\nspec:\n"
            f"  owner: security\n  reason: a laptop was stolen\n  since: 2026-11-01\n{fields}"
        )
    world.write(text)
    world.commit()


def plan(world):
    """(kind, certificate, thing) of each action, and what is left to a person."""
    told = world.run("heal", "plan", "--only", "quarantine", "--format", "json", "--output", str(world.file))
    [found] = json.loads(world.file.read_text())["fleets"]
    assert told.code == (3 if found["refusals"] else 2 if found["actions"] else 0), told.err
    return [(one["kind"], one["certificate_id"], one["thing"]) for one in found["actions"]], found["left"]


def seen(world):
    """The plan as text, on one line."""
    return " ".join(world.run("heal", "plan", "--only", "quarantine").out.split())


def carry_out(world, *overrides):
    plan(world)
    told = world.apply() if not overrides else world.run("heal", "apply", str(world.file), "--pause", "0s", *overrides)
    assert told.code == 0, told.out + told.err
    return told


def test_a_device_is_cut_off_by_a_document_and_comes_back_when_it_is_reverted(world):
    mine, others = world.device(THING), world.device(OTHER)
    for thing in (THING, OTHER):
        connect(world, thing)
    connect(world, THING, f"{THING}#2")
    write(world, devices=[THING])
    assert plan(world)[0] == [("quarantine", "", THING)]
    told = seen(world)
    assert "connected now" in told
    assert "quarantine theft of security since 2026-11-01T00:00:00Z: a laptop was stolen" in told
    assert f"quarantine all certificates {THING}" in carry_out(world).out
    assert world.statuses(THING) == {mine: "INACTIVE"}
    assert [is_connected(world, one) for one in (THING, f"{THING}#2", OTHER)] == [False, False, True]
    assert world.statuses(OTHER) == {others: "ACTIVE"}
    assert plan(world)[0] == []
    assert "Quarantined" in world.run("drift", "--format", "json").out

    write(world)
    assert plan(world)[0] == [("lift", "", THING)]
    carry_out(world)
    assert world.statuses(THING) == {mine: "ACTIVE"}
    assert (plan(world), quarantined(world, THING)) == (([], []), None)


def quarantined(world, thing):
    key = {name: {"S": value} for name, value in key_of(thing).items()}
    return world.dynamodb.get_item(TableName=TABLE, Key=key).get("Item")


def test_what_somebody_else_has_deactivated_stays_so(world):
    mine, early = world.device(THING), world.certificate(THING)
    world.iot.update_certificate(certificateId=early, newStatus="INACTIVE")
    late = world.certificate(THING)
    write(world, devices=[THING])
    carry_out(world)
    assert set(world.statuses(THING).values()) == {"INACTIVE"}
    world.pass_by(1)
    for status in ("ACTIVE", "INACTIVE"):
        world.iot.update_certificate(certificateId=late, newStatus=status)
    write(world)
    _, left = plan(world)
    assert [(one["what"], late in one["found"]) for one in left] == [("certificate deactivated since", True)]
    carry_out(world)
    assert world.statuses(THING) == {mine: "ACTIVE", early: "INACTIVE", late: "INACTIVE"}


def test_what_somebody_activates_meanwhile_is_cut_off_again(world):
    mine = world.device(THING)
    write(world, devices=[THING])
    carry_out(world)
    world.pass_by(1)
    world.iot.update_certificate(certificateId=mine, newStatus="ACTIVE")
    carry_out(world)
    assert world.statuses(THING) == {mine: "INACTIVE"}
    write(world)
    carry_out(world)
    assert world.statuses(THING) == {mine: "ACTIVE"}


def test_its_rotations_are_cancelled_and_nobody_elses_and_no_other_job(world):
    world.offline |= {THING, OTHER}  # nobody answers by himself
    for thing in (THING, OTHER):
        world.device(thing)
    targets = [f"arn:aws:iot:eu-west-1:123456789012:thing/{thing}" for thing in (THING, OTHER)]
    world.iot.create_job(jobId="cf-line-a-w1-0123456789abcdef", targets=targets, document=ROTATION)
    world.iot.create_job(jobId="firmware", targets=targets, document='{"operation": "update"}')
    world.cloud.jobs.start_next(THING, {})
    write(world, devices=[THING])
    assert "asked by" in seen(world)
    carry_out(world)
    stand = {
        (job, thing): world.iot.describe_job_execution(jobId=job, thingName=thing)["execution"]["status"]
        for job in ("cf-line-a-w1-0123456789abcdef", "firmware")
        for thing in (THING, OTHER)
    }
    assert list(stand.values()) == ["CANCELED", "QUEUED", "QUEUED", "QUEUED"]


def test_a_certificate_that_comes_in_the_middle_is_cut_off_as_well(world, surroundings):
    world.device(THING)
    write(world, devices=[THING])
    plan(world)
    plain = HealingRegistry.set_status

    def and_a_rotation_brings_another(self, certificate_id, status):
        surroundings.setattr(HealingRegistry, "set_status", plain)
        world.certificate(THING)
        plain(self, certificate_id, status)

    surroundings.setattr(HealingRegistry, "set_status", and_a_rotation_brings_another)
    assert world.apply().code == 0
    assert list(world.statuses(THING).values()) == ["INACTIVE"] * 2


def test_a_certificate_is_named_alone_and_whoever_has_rotated_goes_on(world):
    named, other = world.device(THING), world.certificate(THING)
    world.device(OTHER)
    write(world, certificates=[named])
    assert plan(world)[0] == [("quarantine", named, THING)]
    carry_out(world)
    assert world.statuses(THING) == {named: "INACTIVE", other: "ACTIVE"}
    world.iot.detach_thing_principal(thingName=THING, principal=ARN + named)
    world.iot.delete_certificate(certificateId=named)
    actions, left = plan(world)
    assert actions == [("lift", "", THING)], "the thing holds another one by now"
    assert [(one["what"], one["subject"]) for one in left] == [("quarantine of nobody", named)]
    carry_out(world)
    assert world.statuses(THING) == {other: "ACTIVE"}


def test_a_certificate_that_no_thing_holds_is_cut_off_and_comes_back(world):
    world.device(THING)
    loose = world.certificate(THING)
    world.iot.detach_thing_principal(thingName=THING, principal=ARN + loose)
    for spec, action, status in (
        ({"certificates": [loose]}, "quarantine", "INACTIVE"), ({}, "lift", "ACTIVE"),
    ):  # fmt: skip
        write(world, **spec)
        assert plan(world)[0] == [(action, loose, "")]
        carry_out(world)
        assert world.certificates()[loose] == status
        assert plan(world)[0] == []


@pytest.mark.parametrize("named", ["a device", "the certificate"])
def test_a_certificate_that_others_hold_is_not_touched_until_they_are_named(world, named):
    shared = share(world)
    spec = {"devices": [THING]} if named == "a device" else {"certificates": [shared]}
    write(world, **spec)
    actions, left = plan(world)
    assert actions == []
    assert {(one["what"], OTHER in one["found"]) for one in left} >= {("quarantine of a shared certificate", True)}
    write(world, devices=[THING, OTHER])
    carry_out(world)
    assert world.certificates()[shared] == "INACTIVE"


def test_more_at_the_same_time_than_the_fleet_allows_needs_a_persons_word_for_exactly_that(world):
    things = [f"gateway-{n}" for n in range(1, 4)]
    for thing in things:
        world.device(thing)
    write(world, guardrails=", maxQuarantined: 2", devices=things[:2])
    carry_out(world)
    write(world, guardrails=", maxQuarantined: 2", devices=things)
    assert plan(world)[0] == [("quarantine", "", things[2])]
    for wrong in ((), ("--override", "quarantined=30")):
        told = world.run("heal", "apply", str(world.file), *wrong)
        assert told.code == 3
        assert "--override quarantined=3" in told.err
    assert list(world.statuses(things[2]).values()) == ["ACTIVE"]
    carry_out(world, "--override", "quarantined=3")
    assert list(world.statuses(things[2]).values()) == ["INACTIVE"]
    assert "REFUSED" not in seen(world)


def test_a_pull_request_is_told_who_will_be_cut_off_who_is_connected_and_who_comes_back(world):
    things = [f"gateway-{n}" for n in range(1, 4)]
    for thing in things:
        world.device(thing)
    connect(world, things[1])

    def told(format_="markdown"):
        found = world.run("plan", "--base", "HEAD~1", "--ref", "HEAD", "--format", format_)
        return found.code, " ".join(found.out.split())

    write(world, guardrails=", maxQuarantined: 1", devices=things[:1])
    code, comment = told()
    assert code == 0
    assert "1 device cut off" in comment
    assert "| quarantine | `gateway-1` |" in comment
    assert "not known to be connected" in comment
    assert "waits for a reviewer of `certfleet-heal`" in comment
    assert "quarantine gateway-1" in told("text")[1]
    carry_out(world)
    write(world, guardrails=", maxQuarantined: 1", devices=things[:2])
    code, comment = told()
    assert (code, "`--override quarantined=2`" in comment) == (3, True)
    assert "| quarantine | `gateway-2` |" in comment
    assert "connected now" in comment
    assert "| quarantine | `gateway-1` |" not in comment, "it is cut off already"
    assert "Name fewer devices." in comment
    write(world, guardrails=", maxQuarantined: 1")
    assert "| lift | `gateway-1` |" in told()[1]
    write(world, guardrails=", maxQuarantined: 1", devices=["nobody"])
    assert "quarantine of nobody" in told()[1]


ONE = ", maxQuarantined: 1"


def test_who_has_not_been_brought_back_yet_counts_against_the_guardrail(world):
    for thing in (THING, OTHER):
        world.device(thing)
    write(world, ONE, devices=[THING])
    carry_out(world)
    write(world, ONE, devices=[OTHER])
    assert set(plan(world)[0]) == {("quarantine", "", OTHER), ("lift", "", THING)}
    assert "--override quarantined=2" in seen(world)


def test_a_plan_that_was_within_the_guardrail_is_refused_when_others_have_been_cut_off_since(world):
    mine = world.device(THING)
    world.device(OTHER)
    write(world, ONE, devices=[THING])
    plan(world)
    reviewed = world.file.read_bytes()
    write(world, ONE, devices=[OTHER])
    carry_out(world)
    write(world, ONE, devices=[THING])
    world.file.write_bytes(reviewed)
    told = world.apply()
    assert (told.code, "2 would be in quarantine" in told.err) == (3, True)
    assert world.statuses(THING) == {mine: "ACTIVE"}


def test_a_plan_of_yesterday_does_nothing_that_the_documents_do_not_say_today(world):
    mine = world.device(THING)
    write(world, devices=[THING])
    plan(world)
    write(world)
    told = world.apply()
    assert (told.code, "is not called for any more" in told.out) == (1, True)
    assert world.statuses(THING) == {mine: "ACTIVE"}


def test_the_others_of_a_plan_are_cut_off_though_one_is_not_called_for_any_more(world):
    mine, others = world.device(THING), world.device(OTHER)
    write(world, devices=[THING, OTHER])
    plan(world)
    write(world, devices=[OTHER])
    told = world.apply()
    assert (told.code, "is not called for any more" in told.out) == (1, True)
    assert {**world.statuses(THING), **world.statuses(OTHER)} == {mine: "ACTIVE", others: "INACTIVE"}


def test_what_two_share_stays_cut_off_until_both_are_taken_out_of_the_documents(world):
    shared = share(world)
    write(world, devices=[THING, OTHER])
    carry_out(world)
    for left in (THING, OTHER):
        write(world, devices=[left])
        told = world.run("heal", "plan", "--only", "quarantine", "--format", "json", "--output", str(world.file))
        assert (told.code, world.apply().code) == (0, 0), left
        assert world.certificates()[shared] == "INACTIVE"
    write(world)
    carry_out(world)
    assert world.certificates()[shared] == "ACTIVE"


def share(world):
    """A certificate that two things hold."""
    shared = world.device(THING)
    world.iot.create_thing(thingName=OTHER)
    for thing in (THING, OTHER):
        world.iot.detach_thing_principal(thingName=thing, principal=ARN + shared)
        world.iot.attach_thing_principal(thingName=thing, principal=ARN + shared)
    return shared


def test_what_is_detached_for_a_while_is_not_forgotten_as_long_as_its_device_is_named(world):
    mine = world.device(THING)
    write(world, devices=[THING])
    carry_out(world)
    world.iot.detach_thing_principal(thingName=THING, principal=ARN + mine)
    assert plan(world) == ([], [])
    world.iot.attach_thing_principal(thingName=THING, principal=ARN + mine)
    write(world)
    carry_out(world)
    assert world.statuses(THING) == {mine: "ACTIVE"}


def test_what_another_thing_holds_by_now_comes_back_and_what_none_holds_is_left_to_a_person(world):
    mine, bare = world.device(THING), world.certificate(THING)
    write(world, devices=[THING])
    carry_out(world)
    for certificate in (mine, bare):
        world.iot.detach_thing_principal(thingName=THING, principal=ARN + certificate)
    world.iot.create_thing(thingName="renamed")
    world.iot.attach_thing_principal(thingName="renamed", principal=ARN + mine)
    world.iot.delete_thing(thingName=THING)
    write(world)
    actions, left = plan(world)
    assert actions == [("lift", "", THING)]
    assert [(one["what"], bare in one["found"]) for one in left] == [("certificate that no thing holds", True)]
    carry_out(world)
    assert {one: world.certificates()[one] for one in (mine, bare)} == {mine: "ACTIVE", bare: "INACTIVE"}


def test_nobody_is_cut_off_by_a_name_that_no_thing_has(world):
    world.device(THING)
    write(world, devices=["gatewax-1"])
    actions, left = plan(world)
    assert (actions, [one["what"] for one in left]) == ([], ["quarantine of nobody"])


def test_other_healing_leaves_a_device_in_quarantine_alone(world):
    world.device(THING)
    world.certificate(THING)
    write(world, devices=[THING])
    actions, _ = world.plan()
    assert actions == [("quarantine", "", THING)]
    assert world.apply().code == 0
    assert world.plan()[0] == []


def test_without_a_backend_that_would_know_whom_to_bring_back_nobody_is_cut_off(world):
    world.device(THING)
    world.cloud.functions.register(NAMES.create_function, lambda event, _: event, {})
    write(world, devices=[THING])
    actions, left = plan(world)
    assert (actions, [one["what"] for one in left]) == ([], ["quarantine"])


class Hands:
    """What a healer works with, without a command around it."""

    def __init__(self, world):
        fleet = Fleet("factory", "123456789012", "eu-west-1", Source("fleet.yaml", 1))
        self.slept, self.world = [], world
        self.document = Quarantine("theft", frozenset({THING}), frozenset(), "security", "stolen", world.now, fleet.source)  # fmt: skip  # noqa: E501
        self.registry = HealingRegistry(AwsSession(fleet, ActAs.HEALER), TABLE, self.slept.append)

    def do(self, *documents):
        actions, _ = of_suspect(self.registry.suspect(THING), documents)
        healer = Healer(self.registry, HealingWaits(None, None), (), lambda: self.world.now, documents)
        return healer.carry_out(actions, lambda: None)


def test_a_device_that_does_not_go_away_is_named_and_ended_again_by_the_next_plan(world):
    mine = world.device(THING)
    world.cloud.registry.connected(mine, THING)
    world.certificates_of[THING] = "another"  # it hears nothing of its end
    hands = Hands(world)
    done = hands.do(hands.document)
    assert (done.stopped_by, len(done.notes)) == (None, 1)
    assert "still connected" in done.notes[0]
    assert world.statuses(THING) == {mine: "INACTIVE"}
    assert len(of_suspect(hands.registry.suspect(THING), (hands.document,))[0]) == 1
    world.certificates_of[THING] = mine
    assert hands.do(hands.document).notes == []
    assert of_suspect(hands.registry.suspect(THING), (hands.document,))[0] == ()


def test_whoever_goes_on_with_another_certificate_is_disconnected_once_and_may_come_back(world):
    named, other = world.device(THING), world.certificate(THING)
    connect(world, THING, certificate=named)
    comes_back = lambda client: client == THING and world.cloud.registry.connected(other, THING)  # noqa: E731
    world.cloud.registry.on_client_ended(comes_back)
    hands = Hands(world)
    hands.document = replace(hands.document, devices=frozenset(), certificates=frozenset({named}))
    done = hands.do(hands.document)
    assert (done.stopped_by, done.notes, hands.slept) == (None, [], [])
    assert world.statuses(THING) == {named: "INACTIVE", other: "ACTIVE"}


def test_a_device_that_rotates_before_the_approval_does_not_escape_by_an_older_document_of_its_certificate(world):
    mine = world.device(THING)
    hands = Hands(world)
    older = replace(hands.document, name="older", devices=frozenset(), certificates=frozenset({mine}), since=world.now - timedelta(days=9))  # fmt: skip  # noqa: E501
    both = (hands.document, older)
    reviewed, _ = of_suspect(hands.registry.suspect(THING), both)
    successor = world.certificate(THING)
    world.iot.detach_thing_principal(thingName=THING, principal=ARN + mine)
    done = Healer(hands.registry, HealingWaits(None, None), (), lambda: world.now, both).carry_out(
        reviewed, lambda: None
    )
    assert (done.stopped_by, world.statuses(THING)) == (None, {successor: "INACTIVE"})


@pytest.mark.parametrize("is_named", [True, False], ids=["by the document", "by another since"])
def test_if_the_first_certificate_that_a_document_names_is_gone_the_other_is_cut_off_all_the_same(world, is_named):
    mine = [world.device(THING), world.certificate(THING)]
    first, second = sorted(mine)
    hands = Hands(world)
    both = replace(hands.document, devices=frozenset(), certificates=frozenset(mine))
    reviewed, _ = of_suspect(hands.registry.suspect(THING), (both,))
    assert [action.certificate_id for action in reviewed] == [first]
    world.iot.detach_thing_principal(thingName=THING, principal=ARN + first)
    now = both if is_named else replace(both, certificates=frozenset({second}))
    done = Healer(hands.registry, HealingWaits(None, None), (), lambda: world.now, (now,)).carry_out(
        reviewed, lambda: None
    )
    assert world.statuses(THING) == {second: "INACTIVE" if is_named else "ACTIVE"}
    assert (done.stopped_by is None) is is_named, "what nobody has reviewed is not done"


def test_its_rotation_is_cancelled_though_its_connection_cannot_be_ended(world, surroundings):
    world.offline.add(THING)  # nobody answers by himself
    mine, job = world.device(THING), "cf-line-a-w1-0123456789abcdef"
    world.iot.create_job(jobId=job, targets=[f"arn:aws:iot:eu-west-1:123456789012:thing/{THING}"], document=ROTATION)

    def denied(*_, **__):
        raise FleetError("DeleteConnection is denied", "allow it")

    surroundings.setattr(HealingRegistry, "end_connections", denied)
    hands = Hands(world)
    assert "denied" in str(hands.do(hands.document).stopped_by)
    assert world.statuses(THING) == {mine: "INACTIVE"}
    assert world.iot.describe_job_execution(jobId=job, thingName=THING)["execution"]["status"] == "CANCELED"


def test_two_who_cut_off_at_once_leave_one_record_and_what_comes_back_is_all_of_it(world, surroundings):
    mine = world.device(THING)
    hands, plain = Hands(world), HealingRegistry.save_quarantined

    def and_another_is_faster(self, record):
        surroundings.setattr(HealingRegistry, "save_quarantined", plain)
        assert Hands(world).do(hands.document).stopped_by is None
        return plain(self, record)

    surroundings.setattr(HealingRegistry, "save_quarantined", and_another_is_faster)
    assert hands.do(hands.document).stopped_by is not None
    assert hands.do(hands.document).actions == []
    hands.do()
    assert (world.statuses(THING), quarantined(world, THING)) == ({mine: "ACTIVE"}, None)


def test_a_lift_whose_last_answer_was_lost_is_a_lift(world, surroundings):
    mine, hands, plain = world.device(THING), Hands(world), AwsSession.call
    hands.do(hands.document)

    def again(self, service, operation, **parameters):
        if operation == "DeleteItem":
            plain(self, service, operation, **parameters)
        return plain(self, service, operation, **parameters)

    surroundings.setattr(AwsSession, "call", again)
    assert hands.do().stopped_by is None
    assert (world.statuses(THING), quarantined(world, THING)) == ({mine: "ACTIVE"}, None)


@pytest.mark.parametrize("calls", [pytest.param(range(3, 60, 9), id="some calls"), pytest.param(range(60), id="every call", marks=pytest.mark.soak)])  # fmt: skip  # noqa: E501
def test_whoever_is_killed_at_a_call_leaves_what_the_next_run_brings_to_its_end(world, surroundings, calls):
    mine, hands, plain, left = world.device(THING), Hands(world), AwsSession.call, []
    connect(world, THING)

    def dies(self, *arguments, **parameters):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        answer = plain(self, *arguments, **parameters)
        if left[0] == 1:
            left[0] = 0
            raise KeyboardInterrupt
        return answer

    for number in calls:
        for documents, status in (((hands.document,), "INACTIVE"), ((), "ACTIVE")):
            left[:] = [number]
            surroundings.setattr(AwsSession, "call", dies)
            with contextlib.suppress(KeyboardInterrupt):
                hands.do(*documents)
            surroundings.setattr(AwsSession, "call", plain)
            assert hands.do(*documents).stopped_by is None
            assert world.statuses(THING) == {mine: status}, number
            assert hands.do(*documents).actions == []
    assert len(CLIENTS) > 1
    assert quarantined(world, THING) is None
