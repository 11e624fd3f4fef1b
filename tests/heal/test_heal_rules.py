"""What healing decides, for every small registry: what is in use is never deactivated, and nobody is left bare."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from controller.heal import OF_QUARANTINE, CertificateHolders, HealingWaits, Kind, ThingFacts, of_loose, of_thing
from controller.reconcile.values import AttachmentType, CertificateStatus
from protocol.watch import Watch

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WAITS = HealingWaits(watch=14 * DAY, grace=30 * DAY)
ACTIVE, INACTIVE = CertificateStatus.ACTIVE, CertificateStatus.INACTIVE


def ago(days):
    return NOW - days * DAY


# (deactivated by healing, since then changed by somebody else)
STATES = {
    "active": (ACTIVE, None, False),
    "inactive": (INACTIVE, None, False),
    "deactivated here lately": (INACTIVE, 3, False),
    "deactivated here long ago": (INACTIVE, 40, False),
    "deactivated here, touched since": (INACTIVE, 40, True),
    "revoked": (CertificateStatus.REVOKED, None, False),
}
# (watched since, first seen as the thing itself, last seen by anybody), days ago
SIGHTINGS = {
    "not watched": None,
    "just watched": (1, None, None),
    "watched for long": (60, None, None),
    "seen as itself": (60, 50, 1),
    "seen as itself lately": (60, 2, 1),
    "seen once, before others were deactivated": (60, 50, 45),
    "seen under another name": (60, None, 5),
}


def held(number, state, sighting, things, kind=AttachmentType.EXCLUSIVE, thing="gateway-1"):
    status, deactivated, is_touched = STATES[state]
    watch = None
    if SIGHTINGS[sighting] is not None:
        since, own, last = (None if days is None else ago(days) for days in SIGHTINGS[sighting])
        watch = Watch(str(number) * 64, thing, since, own, last, deactivated=None if deactivated is None else ago(deactivated), version=1)  # fmt: skip  # noqa: E501
    changed = ago(2) if is_touched or deactivated is None else ago(deactivated)
    return CertificateHolders(str(number) * 64, status, ago(300), changed, things, (), kind, watch)


def registries():
    kinds = [(state, sighting) for state in STATES for sighting in SIGHTINGS]
    for number in range(4):
        for chosen in itertools.combinations_with_replacement(kinds, number) if number < 3 else triples(kinds):
            yield tuple(chosen)


def triples(kinds):
    """Of three, one is in use or not watched: the others are whatever there is."""
    for first in [("active", "seen as itself"), ("active", "not watched"), ("active", "watched for long")]:
        for second, third in itertools.combinations_with_replacement(kinds, 2):
            yield first, second, third


def after(thing, actions):
    """Which certificates are attached and ACTIVE once all is done."""
    changes = {action.certificate_id: action.kind for action in actions}
    return [
        one for one in thing.held
        if (one.status is ACTIVE and changes.get(one.certificate_id) not in {Kind.DEACTIVATE, Kind.REMOVE})
        or changes.get(one.certificate_id) is Kind.ACTIVATE
    ]  # fmt: skip


def wrong(thing, actions):
    """Why these actions are wrong, as sentences; none where they are right."""
    by_id = {one.certificate_id: one for one in thing.held}
    found = []
    for action in actions:
        one = by_id[action.certificate_id]
        in_use = [other for other in thing.held if other is not one and other.status is ACTIVE and other.is_seen]
        gone = one.deactivated_here
        if action.kind is Kind.DEACTIVATE and (one.is_seen or one.watch is None or NOW - one.watch.since < WAITS.watch):
            found.append("deactivates what is in use, or was not watched for long")
        if action.kind is Kind.REMOVE and (gone is None or NOW - gone < WAITS.grace):
            found.append("removes what healing has not deactivated long ago")
        if action.kind is Kind.REMOVE and not (gone and in_use and in_use[0].watch.last_seen > gone):
            found.append("removes one though the device was not seen to live without it")
        if action.kind in {Kind.DEACTIVATE, Kind.REMOVE} and len(in_use) != 1:
            found.append("takes one away though it is not known that the device lives with exactly one other")
        if action.kind in {Kind.DEACTIVATE, Kind.REMOVE} and not (in_use and in_use[0].watch.first_own):
            found.append("takes the word of a client of another name")
        if action.kind is Kind.ACTIVATE and not (gone and one.is_seen):
            found.append("activates what healing has not deactivated, or nobody used")
    if any(one.status is ACTIVE for one in thing.held) and not after(thing, actions):
        found.append("leaves the thing without an active certificate")
    return found


def test_nothing_in_use_is_ever_deactivated_and_no_thing_is_left_without_a_certificate(capsys):
    counted = Counter()
    for chosen in registries():
        for kind in AttachmentType:
            thing = ThingFacts("gateway-1", tuple(held(n, *one, ("gateway-1",), kind) for n, one in enumerate(chosen)))
            actions, left = of_thing(thing, NOW, WAITS)
            assert wrong(thing, actions) == [], chosen
            counted["registries"] += 1
            counted.update(action.kind.value for action in actions)
            counted["left to a person"] += len(left)
            quiet = ThingFacts(thing.name, thing.held, is_rotating=True)
            assert of_thing(quiet, NOW, WAITS) == ((), ())
    with capsys.disabled():
        sys.stdout.write(f"\nhealing: {dict(counted)}\n")
    assert counted["registries"] > 7000
    assert min(counted[kind.value] for kind in Kind if kind not in OF_QUARANTINE) > 0


def test_a_certificate_that_another_thing_holds_is_left_to_a_person(capsys):
    for chosen in itertools.product(STATES, SIGHTINGS):
        thing = ThingFacts("gateway-1", (
            held(0, "active", "seen as itself", ("gateway-1",)), held(1, *chosen, ("gateway-1", "gateway-2")),
        ))  # fmt: skip
        actions, left = of_thing(thing, NOW, WAITS)
        assert (actions, [one.what for one in left]) == ((), ["shared certificate"])


@pytest.mark.parametrize(
    ("state", "sighting", "policies", "things", "expected"),
    [
        ("active", "not watched", (), (), Kind.DEACTIVATE),
        ("active", "not watched", ("p",), (), "certificate of no thing"),
        ("active", "not watched", (), ("gateway-9",), None),
        ("inactive", "not watched", (), (), "inactive leftover"),
        ("revoked", "not watched", (), (), "certificate of no thing"),
        ("deactivated here lately", "watched for long", (), (), None),
        ("deactivated here long ago", "watched for long", (), (), Kind.REMOVE),
        ("deactivated here long ago", "seen under another name", (), (), Kind.ACTIVATE),
        ("deactivated here, touched since", "watched for long", (), (), "inactive leftover"),
    ],
)
def test_a_certificate_of_no_thing(state, sighting, policies, things, expected):
    one = held(0, state, sighting, things, thing="")
    one = CertificateHolders(
        one.certificate_id, one.status, one.created_at, one.changed_at, things, policies, one.type, one.watch
    )
    actions, left = of_loose(one, NOW, WAITS)
    assert [action.kind for action in actions] + [each.what for each in left] == ([expected] if expected else [])


def test_a_certificate_that_was_made_of_late_may_be_about_to_be_attached():
    one = CertificateHolders("0" * 64, ACTIVE, ago(3), ago(3))
    assert of_loose(one, NOW, WAITS) == ((), ())


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_sightings_say_the_same_in_every_order_and_twice(order):
    events = [("gateway-1", ago(5)), ("gateway-1", ago(3)), ("sensor/77", ago(1)), ("gateway-1", ago(20))]
    watch = Watch("0" * 64, "gateway-1", ago(10))
    for number in (*order, *order):
        watch = watch.seen(*events[number])
    assert (watch.first_own, watch.last_seen) == (ago(5), ago(1))
    assert Watch.from_record(watch.to_record()) == watch


# (deactivated by the backend, days ago; since then changed by a person; told to a person), what is left to a person
FORMERLY_SHARED = {
    "used by nobody, as far as is known": ((None, False, None), None),
    "used by a stranger, which the backend has told": ((None, False, "sensor/77"), "certificate of no thing"),
    "deactivated by the backend": ((40, False, None), None),
    "deactivated by the backend, after it was told once": ((40, False, "sensor/77"), None),
    "deactivated by the backend, touched since": ((40, True, None), "certificate of no thing"),
}


@pytest.mark.parametrize("case", FORMERLY_SHARED)
def test_what_several_things_have_let_go_of_is_the_backends_affair_unless_it_stays(case):
    (deactivated, is_touched, told), expected = FORMERLY_SHARED[case]
    gone = None if deactivated is None else ago(deactivated)
    watch = Watch("5" * 64, "", ago(90), None, ago(60), gone, 1, ("a", "b"), told=told)
    changed = ago(2) if is_touched else gone or ago(300)
    one = CertificateHolders(
        "5" * 64, ACTIVE if gone is None else INACTIVE, ago(300), changed, (), ("device",), watch=watch
    )
    actions, left = of_loose(one, NOW, WAITS)
    assert (actions, [each.what for each in left]) == ((), [expected] if expected else [])


def test_what_a_thing_still_holds_is_no_left_over():
    watch = Watch("5" * 64, "", ago(90), None, ago(60), None, 1, ("a", "b"))
    assert of_loose(CertificateHolders("5" * 64, ACTIVE, ago(300), ago(300), ("a",), (), watch=watch), NOW, WAITS) == (
        (),
        (),
    )
