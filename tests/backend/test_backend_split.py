"""Clones that share one certificate get one each; the shared one goes with the last that held it, and not before."""

from __future__ import annotations

import itertools
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from unittest import mock

import pytest
from backend_aws import VARIABLES, FakeAws, Fault, KilledError, client_error
from backend_device import Device
from botocore.exceptions import ClientError

from backend.functions import registry, services, shared, sweep
from backend.functions.errors import ConflictError
from protocol import watch
from protocol.quarantine import Quarantined
from protocol.watch import SHARED_KEY, key_of

SPLIT = {"operation": "ROTATE_CERTIFICATE", "sharedCertificate": "split"}
NAMES = ("gw-1", "gw-2", "gw-3")
EVERY = pytest.mark.parametrize(
    "stride", [5, pytest.param(1, marks=pytest.mark.soak)], ids=["some calls", "every call"]
)


class Clones:
    """Things that were made from one image. ``uses`` is the certificate that each device is connected with."""

    def __init__(self, aws, names=NAMES):
        self.aws, self.devices = aws, {}
        for name in names:
            device = Device(aws, name)
            shared = self.devices[names[0]].old if self.devices else device.old
            if shared != device.old:
                del aws.certificates[device.old]
                device.old = shared
            aws.certificates[shared].things[name] = "NON_EXCLUSIVE_THING"
            device.start_job(document=SPLIT)
            self.devices[name] = device
        self.shared = device.old
        self.uses = dict.fromkeys(names, self.shared)

    def __getitem__(self, name):
        return self.devices[name]

    @property
    def holders(self):
        return sorted(self.aws.certificates[self.shared].things) if self.shared in self.aws.certificates else []

    def listed(self):
        item = self.aws.items.get((SHARED_KEY["thingName"], SHARED_KEY["record"]), {"certificateIds": {"L": []}})
        return [one["S"] for one in item["certificateIds"]["L"]]

    def until_commit(self, name):
        device = self[name]
        device.connected(self.shared)
        self.aws.tick()
        device.create()
        self.uses[name] = device.new
        self.aws.tick()
        device.connected(device.new)
        device.commit()
        self.aws.tick()

    def rotate(self, name):
        self.until_commit(name)
        self[name].ended("SUCCEEDED")
        self.aws.tick()

    def pass_days(self, days, step=1.0):
        """Time goes on, with a sweep now and then."""
        for _ in range(round(days / step)):
            self.aws.tick(days=step)
            self.devices[NAMES[0]].sweep()

    @property
    def status(self):
        return self.aws.certificates[self.shared].status

    def assert_all_work(self):
        for name, used in self.uses.items():
            found = self.aws.certificates.get(used)
            assert found is not None, f"{name} is off line: its certificate is gone"
            works = found.status == "ACTIVE" and name in found.things and found.policies
            assert works, f"{name} is off line"

    def assert_split(self):
        """Nobody is heard to use the shared one for two weeks; a month later it is gone."""
        self.assert_all_work()
        self.pass_days(16, step=2)
        assert self.status == "INACTIVE"
        self.aws.tick(days=30)
        self.pass_days(1)
        self.assert_all_work()
        assert self.shared not in self.aws.certificates
        assert self.listed() == []
        for name, device in self.devices.items():
            assert list(device.attached) == [self.uses[name]]
            assert device.attached[self.uses[name]].things == {name: "EXCLUSIVE_THING"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(registry.time, "sleep", lambda _seconds: None)


@pytest.fixture
def clones(aws):
    return Clones(aws)


@pytest.mark.parametrize("order", [*itertools.permutations(NAMES)])
def test_each_clone_gets_its_own_and_the_shared_one_goes_with_the_last(clones, order):
    for number, name in enumerate(order, 1):
        clones.rotate(name)
        clones.assert_all_work()
        assert name not in clones.holders
        assert len(clones.holders) == len(order) - number
        assert clones.listed() == [clones.shared]
    clones.assert_split()
    assert clones.aws.notices == []


def test_without_a_policy_that_says_so_nothing_is_split(clones):
    clones["gw-1"].start_job()
    clones["gw-1"].create()
    clones["gw-1"].assert_code("NotExclusive")
    assert (clones.holders, clones.listed()) == ([*NAMES], [])


def test_a_device_that_cannot_rotate_keeps_the_shared_one(clones):
    clones["gw-2"].create()
    clones["gw-2"].ended("FAILED")
    for name in ("gw-1", "gw-3"):
        clones.rotate(name)
    clones.assert_all_work()
    assert (clones.holders, clones.listed()) == (["gw-2"], [clones.shared])
    clones["gw-2"].start_job("again", document={"operation": "ROTATE_CERTIFICATE"})
    clones["gw-2"].csr = Device(FakeAws()).csr
    for step in (clones["gw-2"].create, clones["gw-2"].commit):
        step(jobId="again")
        clones.uses["gw-2"] = clones["gw-2"].new
        clones.aws.tick()
    clones["gw-2"].ended("SUCCEEDED", jobId="again")
    clones.assert_split()


def test_more_things_than_are_written_down_are_not_split(clones):
    shared = clones.aws.certificates[clones.shared]
    shared.things |= {f"more-{number}": "NON_EXCLUSIVE_THING" for number in range(500)}
    clones["gw-1"].create()
    clones["gw-1"].assert_code("NotExclusive")


def test_things_on_later_pages_are_seen(clones):
    clones.aws.things_page = 2
    clones.rotate("gw-3")
    assert clones.holders == ["gw-1", "gw-2"]
    clones.assert_all_work()


# who else uses it


def test_what_a_client_of_no_such_thing_uses_stays_and_is_told(clones):
    clones.rotate("gw-1")
    clones["gw-2"].connected(clones.shared, clientId="forgotten-clone")
    for name in ("gw-2", "gw-3"):
        clones.rotate(name)
    clones.pass_days(20, step=2)
    assert (clones.status, clones.holders, clones.listed()) == ("ACTIVE", [], [clones.shared])
    assert '"forgotten-clone" has connected with it' in clones.aws.notices[-1]
    assert len(clones.aws.notices) == 1, "once is enough"


def test_a_thing_that_was_attached_later_is_no_stranger(clones):
    clones.rotate("gw-1")
    attach_late(clones)
    for name in ("late", "gw-2", "gw-3"):
        clones.rotate(name)
    clones.assert_split()


def test_with_the_watch_lost_nothing_is_deactivated_and_a_person_is_told(clones):
    for name in ("gw-1", "gw-2"):
        clones.rotate(name)
    clones.until_commit("gw-3")
    del clones.aws.items[tuple(key_of(clones.shared).values())]
    clones["gw-3"].ended("SUCCEEDED")
    clones.pass_days(20, step=2)
    clones.assert_all_work()
    assert clones.status == "ACTIVE"
    assert "nobody noted who connects with it" in clones.aws.notices[-1]
    assert len(clones.aws.notices) == 1


@pytest.mark.parametrize("calls_before", [0, 1, 2])
def test_with_the_table_lost_in_between_nothing_in_use_is_deactivated(clones, calls_before):
    steps = [lambda: clones.rotate("gw-1"), lambda: clones.until_commit("gw-2"), lambda: clones.until_commit("gw-3")]
    for step in steps[: calls_before + 1]:
        step()
    clones.aws.items.clear()
    for name in NAMES:
        clones[name].ended("SUCCEEDED")
        clones.aws.tick(hours=1)
        clones[name].sweep()
    clones.assert_all_work()


def attach_late(clones, name="late"):
    """Another thing comes to hold the shared certificate, in the middle of the split."""
    late = Device(clones.aws, name)
    del clones.aws.certificates[late.old]
    late.old = clones.shared
    clones.aws.certificates[clones.shared].things[name] = "NON_EXCLUSIVE_THING"
    late.start_job(document=SPLIT)
    clones.devices[name], clones.uses[name] = late, clones.shared
    return late


def test_a_stranger_is_not_forgotten_because_another_one_becomes_a_thing(clones):
    clones.rotate("gw-1")
    for name in ("sensor/77", "late", "camera#9", "sensor/77"):
        clones["gw-2"].connected(clones.shared, clientId=name)
    attach_late(clones)
    for name in ("late", "gw-2", "gw-3"):
        clones.rotate(name)
    clones.pass_days(20, step=2)
    assert clones.status == "ACTIVE"
    assert '"camera#9" has connected with it' in clones.aws.notices[-1]


def test_so_many_strangers_that_not_all_are_noted_are_never_all_taken_for_things(clones):
    clones.rotate("gw-1")
    names = [f"late-{number}" for number in range(8)]
    for name in (*names, "sensor/77"):
        clones["gw-2"].connected(clones.shared, clientId=name)
    for name in names:
        attach_late(clones, name)
    for name in (*names, "gw-2", "gw-3"):
        clones.rotate(name)
    clones.pass_days(20, step=2)
    assert clones.status == "ACTIVE"


def test_what_a_thing_was_made_to_let_go_of_by_hand_stays_and_is_told(clones):
    """The thing was renamed or retired; its device goes on as before."""
    clones.rotate("gw-1")
    del clones.aws.certificates[clones.shared].things["gw-2"]
    clones["gw-2"].connected(clones.shared)
    clones.rotate("gw-3")
    clones.pass_days(20, step=2)
    assert clones.status == "ACTIVE"
    assert "gw-2 has held it, and may use it still" in clones.aws.notices[-1]


def test_what_a_device_went_back_to_after_its_rotation_stays_and_is_told_truly(clones):
    clones.rotate("gw-1")
    clones["gw-1"].connected(clones.shared)
    assert "which was detached from this thing" in clones.aws.notices[-1]
    for name in ("gw-2", "gw-3"):
        clones.rotate(name)
    clones.pass_days(20, step=2)
    assert clones.status == "ACTIVE"
    assert "gw-1 has held it, and may use it still" in clones.aws.notices[-1]


def test_a_thing_that_has_rotated_its_own_since_holds_nothing_up(clones):
    clones.rotate("gw-1")
    first = clones["gw-1"]
    first.old, first.csr = first.new, Device(FakeAws()).csr
    first.start_job("again")
    for step in (first.create, first.commit):
        clones.aws.tick()
        step(jobId="again")
        clones.uses["gw-1"] = first.new
    first.ended("SUCCEEDED", jobId="again")
    for name in ("gw-2", "gw-3"):
        clones.rotate(name)
    clones.assert_split()


def test_a_watch_that_says_no_more_who_shared_removes_nothing(clones):
    for name in ("gw-1", "gw-2"):
        clones.rotate(name)
    clones.until_commit("gw-3")
    key = tuple(key_of(clones.shared).values())
    item = clones.aws.items[key]
    clones.aws.items[key] = {name: value for name, value in item.items() if name != "things"}
    clones["gw-2"].connected(clones.shared, clientId="forgotten-clone")
    clones["gw-3"].ended("SUCCEEDED")
    clones.pass_days(20, step=2)
    assert clones.status == "ACTIVE"


def let_go_by_all(clones):
    """And deactivated, since nobody was heard to use it for two weeks."""
    for name in clones.devices:
        clones.rotate(name)
    clones.pass_days(16, step=2)
    assert (clones.status, clones.aws.notices) == ("INACTIVE", [])


def test_clones_that_rotate_within_a_minute_leave_a_third_machine_two_weeks_to_be_heard_of(clones):
    """It has no thing, and was connected all the while."""
    for name in NAMES:
        clones.rotate(name)
    clones.pass_days(13)
    assert clones.status == "ACTIVE"
    clones["gw-2"].connected(clones.shared, clientId="sensor/77")
    clones.pass_days(60, step=2)
    assert clones.status == "ACTIVE"
    assert '"sensor/77" has connected with it' in clones.aws.notices[-1]


@pytest.mark.parametrize(("ago_days", "is_active"), [(1, True), (9, True), (20, False)])
def test_who_is_heard_of_late_has_it_made_active_again_if_that_tells_of_its_use(clones, ago_days, is_active):
    let_go_by_all(clones)
    late = int((clones.aws.now - timedelta(days=ago_days)).timestamp() * 1000)
    clones["gw-2"].connected_event(clones.shared)
    clones["gw-2"].connected(clones.shared, clientId="gw-2#1", timestamp=late)
    clones.pass_days(0.1, step=0.1)
    assert (clones.status == "ACTIVE") is is_active


def test_a_stranger_that_is_heard_of_within_a_month_has_it_made_active_again_and_is_told(clones):
    let_go_by_all(clones)
    clones.pass_days(28)
    clones["gw-2"].connected(clones.shared, clientId="sensor/77")
    clones.pass_days(40)
    assert clones.status == "ACTIVE"
    assert '"sensor/77" has connected with it' in clones.aws.notices[-1]
    assert len(clones.aws.notices) == 1


def test_who_hears_of_no_connections_takes_nothing_to_be_unused(clones):
    for name in NAMES:
        clones.rotate(name)
    clones.pass_days(10)
    clones.aws.is_presence_off = True
    clones.pass_days(20)
    assert clones.status == "ACTIVE"
    clones.aws.is_presence_off = False
    clones.pass_days(13)
    assert clones.status == "ACTIVE", "the two weeks begin anew"
    clones.aws.tick(days=5)  # nor is it known what the rule was while no sweep came
    clones.pass_days(13)
    assert clones.status == "ACTIVE"
    clones.pass_days(2)
    assert clones.status == "INACTIVE"


def test_the_pair_that_lets_go_in_the_same_moment_leaves_nothing_behind(clones):
    clones.rotate("gw-1")
    clones.until_commit("gw-2")
    clones.until_commit("gw-3")
    clones.aws.before_call["iot:DetachThingPrincipal"] = lambda: the_other_ends(clones)
    clones["gw-2"].ended("SUCCEEDED")
    clones.assert_split()


def test_what_is_deleted_by_hand_is_no_longer_listed(clones):
    clones.rotate("gw-1")
    assert clones.listed() == [clones.shared]
    del clones.aws.certificates[clones.shared]
    clones.pass_days(1)
    assert clones.listed() == []


def test_of_very_many_shared_certificates_each_has_its_turn(clones, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_SHARED", 2)
    table = services.services().table
    for number in range(5):
        table.note_shared(f"{number:064x}", ["a", "b"], clones.aws.now)
    seen = []
    monkeypatch.setattr(shared, "visit", lambda _services, one, _since: seen.append(int(one, 16)))
    for _ in range(3):
        clones.aws.tick(minutes=15)
        clones["gw-1"].sweep()
    assert (len(seen), set(seen)) == (6, set(range(5)))


def test_one_that_cannot_be_looked_at_keeps_no_other_waiting(clones):
    for name in NAMES:
        clones.rotate(name)
    services.services().table.note_shared("0" * 64, ["a", "b"], clones.aws.now)
    clones.aws.before_call["iot:DescribeCertificate"] = fails
    clones.aws.tick(hours=1)
    assert clones["gw-1"].sweep()["failed"] == 1
    assert clones.listed() == ["0" * 64, clones.shared]


def fails():
    raise client_error("ThrottlingException", "DescribeCertificate")


def test_clones_that_all_come_back_at_once_do_not_race_to_write_that_they_were_seen(clones):
    clones.rotate("gw-1")
    clones.aws.tick(hours=1)
    clones.aws.calls.clear()
    for number in range(40):
        clones.aws.tick()
        clones["gw-2"].connected(clones.shared, clientId=f"gw-{2 + number % 2}")
    assert clones.aws.calls.count("dynamodb:PutItem") == 1


def test_a_thing_that_is_attached_at_the_moment_of_deletion_keeps_its_policies(clones):
    let_go_by_all(clones)
    clones.aws.tick(days=30)
    clones.aws.before_call["iot:DeleteCertificate"] = lambda: attach_late(clones)
    for _ in range(2):
        clones.aws.tick(minutes=15)
        clones["gw-3"].sweep()
    clones.assert_all_work()
    assert clones.aws.certificates[clones.shared].policies == ["device"]


def changed_to(clones, status):
    found = clones.aws.certificates[clones.shared]
    found.status, found.changed = status, clones.aws.now


@pytest.mark.parametrize("before", ["still held", "deactivated by us", "taken back by us"])
def test_what_a_person_deactivates_is_never_made_active_again(clones, before):
    """Not even if it was taken back once before: the key may have leaked since."""
    if before == "still held":
        clones.rotate("gw-1")
    else:
        let_go_by_all(clones)
    if before == "taken back by us":
        attach_late(clones)
        clones.pass_days(1)
        assert clones.status == "ACTIVE"
        del clones.aws.certificates[clones.shared].things["late"]
    elif before == "deactivated by us":
        clones.aws.tick(hours=1)
        changed_to(clones, "ACTIVE")
    clones.aws.tick(minutes=5)
    changed_to(clones, "INACTIVE")
    clones["gw-2"].connected(clones.shared, clientId="sensor/77")
    clones.pass_days(60, step=2)
    assert clones.status == "INACTIVE"
    assert clones.listed() == ([clones.shared] if before == "still held" else [])


def test_two_sweeps_at_once_leave_it_deactivated_by_us(clones):
    """One has noted it and deactivates it, while the other has read that it is ACTIVE, and goes on later."""
    for name in NAMES:
        clones.rotate(name)
    clones.pass_days(13)
    clones.aws.tick(days=1)
    table = services.services().table
    noted = replace(table.watch(clones.shared), deactivated=clones.aws.now)

    def the_one():
        changed_to(clones, "INACTIVE")

    table.save_watch(noted)
    clones.aws.after_call["iot:DescribeCertificate"] = the_one
    clones["gw-1"].sweep()
    assert clones.status == "INACTIVE"
    clones["gw-2"].connected(clones.shared, clientId="sensor/77")
    clones.pass_days(0.1, step=0.1)
    assert clones.status == "ACTIVE"


def test_a_stranger_that_becomes_a_thing_is_a_persons_affair_no_more(clones):
    for name in NAMES:
        clones.rotate(name)
    clones["gw-2"].connected(clones.shared, clientId="late")
    clones.pass_days(1)
    assert len(clones.aws.notices) == 1
    attach_late(clones)
    clones.pass_days(1)
    assert services.services().table.watch(clones.shared).told is None
    clones.rotate("late")
    clones.assert_split()


@pytest.mark.parametrize("who", ["the certificate", "a thing that holds it"])
def test_what_people_have_put_into_quarantine_is_neither_made_active_again_nor_deleted(clones, who):
    let_go_by_all(clones)
    if who == "the certificate":
        put_into_quarantine(clones, "", clones.shared)
    else:
        attach_late(clones)
        clones.uses.pop("late")
        put_into_quarantine(clones, "late", "")
    clones["gw-2"].connected(clones.shared, clientId="sensor/77")
    clones.pass_days(60, step=2)
    assert clones.status == "INACTIVE"


def test_what_is_put_into_quarantine_at_the_moment_of_its_deactivation_stays_inactive(clones):
    for name in NAMES:
        clones.rotate(name)
    clones.pass_days(14)

    def meanwhile():
        put_into_quarantine(clones, "", clones.shared)
        clones["gw-2"].connected(clones.shared, clientId="sensor/77")
        clones.aws.acting = "Sweep"

    clones.aws.after_call["iot:UpdateCertificate"] = meanwhile
    clones.pass_days(2)
    assert clones.status == "INACTIVE"


def put_into_quarantine(clones, thing, certificate_id):
    """As healing writes it down."""
    record = Quarantined(thing, clones.aws.now, certificate_id, version=1).to_record()
    plain = {name: value for name, value in record.items() if isinstance(value, str)}
    item = {**{name: {"S": value} for name, value in plain.items()}, "deactivated": {"M": {}}, "version": {"N": "1"}}
    clones.aws.items[plain["thingName"], plain["record"]] = item


def test_what_a_person_makes_active_again_stays_so_for_as_long_as_at_first(clones):
    let_go_by_all(clones)
    clones.aws.tick(hours=1)
    changed_to(clones, "ACTIVE")
    clones.pass_days(13)
    assert clones.status == "ACTIVE"
    clones.pass_days(2)
    assert clones.status == "INACTIVE"


# what a device can do


def test_a_device_that_does_not_hold_it_neither_splits_it_nor_has_it_removed(clones):
    thief = Device(clones.aws, "thief")
    clones.uses["thief"] = thief.old
    clones.until_commit("gw-1")
    thief.start_job(document=SPLIT)
    device = clones["gw-2"]
    for principal in (thief.old, clones.shared):
        device.create(principal=thief.old, clientId="gw-2")
        device.commit(principal=principal, clientId="gw-2")
        thief.connected(principal, clientId="gw-2")
        thief.create(principal=clones.shared)
        clones.aws.tick()
    clones.assert_all_work()
    assert clones.holders == [*NAMES]
    assert (device.name, "current") not in clones.aws.items
    clones["gw-1"].ended("SUCCEEDED")
    clones.assert_all_work()


def test_a_clone_that_connects_as_another_has_nothing_removed(clones):
    clones.until_commit("gw-1")
    clones["gw-2"].connected(clones.shared, clientId="gw-1")
    clones["gw-1"].ended("SUCCEEDED")
    assert clones.holders == [*NAMES]
    assert "detach-thing-principal --thing-name gw-1" in clones.aws.notices[-1]
    assert f"INACTIVE --certificate-id {clones.shared}" not in clones.aws.notices[-1]


@pytest.mark.parametrize("decision", ["detached", "deactivated"])
def test_a_person_decides_against_a_shared_one_by_detaching_it(clones, decision):
    clones.until_commit("gw-1")
    clones["gw-1"].connected(clones.shared)
    clones["gw-1"].ended("SUCCEEDED")
    shared = clones.aws.certificates[clones.shared]
    if decision == "detached":
        del shared.things["gw-1"]
    else:
        shared.status = "INACTIVE"
    clones.aws.tick(hours=1)
    clones["gw-1"].sweep()
    assert len(clones["gw-1"].attached) == (1 if decision == "detached" else 2)
    assert clones.holders == [name for name in NAMES if decision != "detached" or name != "gw-1"]


# events and functions in every order


@contextmanager
def another_world():
    aws = FakeAws()
    with services.running(services.build(VARIABLES, aws.client, lambda: aws.now)):
        yield Clones(aws)


@pytest.mark.unmeasured
def test_presence_that_is_late_doubled_and_out_of_order_costs_nobody_a_certificate():
    orders = list(itertools.permutations(range(5)))
    for order in orders:
        with another_world() as clones:
            clones.until_commit("gw-1")
            events = _events(clones)
            for number in order:
                for _ in range(2):
                    clones["gw-1"].handle_end(events[number])
                    clones.assert_all_work()
            clones.aws.tick(hours=1)
            clones["gw-1"].sweep()
            clones.assert_all_work()
            assert {"gw-2", "gw-3"} <= set(clones.holders)
    print(f"{len(orders)} orders of five events, each heard twice: nobody is off line")  # noqa: T201


def _events(clones):
    first, second = clones["gw-1"], clones["gw-2"]
    before = int((clones.aws.now.timestamp() - 60) * 1000)
    return [
        first.ended_event("SUCCEEDED"),
        first.connected_event(clones.shared, timestamp=before),
        first.connected_event(first.new),
        second.connected_event(clones.shared),
        second.connected_event(clones.shared, clientId="sensor/77"),
    ]


class Split:
    """The last two of three clones rotate together; every function may die, and is called again as AWS would."""

    def __init__(self, clones):
        self.clones, self.aws, self.off_line, self.calls = clones, clones.aws, [], 0
        clones.rotate("gw-1")
        self.aws.before_each = self._look

    def _look(self):
        self.calls += 1
        try:
            self.clones.assert_all_work()
        except AssertionError as error:
            self.off_line.append(f"at call {self.calls}: {error}")

    def run(self):
        two = [self.clones["gw-2"], self.clones["gw-3"]]
        for device in two:
            self._invoke(device.create)
            own = [one for one in device.attached if one != self.clones.shared]  # the table may be lost
            self.clones.uses[device.name] = own[0] if own else device.new
        for device in two:
            self._invoke(lambda device=device: device.connected(device.new))
            self._invoke(device.commit)
        for device in two:
            self._invoke(lambda device=device: device.ended("SUCCEEDED"))
        with mock.patch.object(watch, "GAP", timedelta(days=99)):  # so few sweeps
            for days in (0.1, 15, 20, 31, 31):  # a death after its deactivation is noted costs two weeks more
                self.aws.tick(days=days)
                self._invoke(two[0].sweep)
        self.aws.before_each = lambda: None

    def _invoke(self, function):
        for _ in range(3):
            self.aws.tick()
            try:
                function()
            except (KilledError, ClientError, ConflictError):
                self.aws.tick(seconds=30)
            else:
                return


def _killed(at, after):
    with another_world() as clones:
        split = Split(clones)
        clones.aws.faults = [Fault(at, after=after, kills=True)]
        split.run()
        assert split.off_line == []
        clones.assert_all_work()
        assert clones.shared not in clones.aws.certificates
        assert clones.listed() == []
        return split.calls


@pytest.mark.unmeasured
@EVERY
@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
def test_a_split_whose_functions_die_at_any_call_is_brought_to_its_end_and_nobody_is_off_line(after, stride):
    points = range(0, _killed(10_000, after), stride)
    for at in points:
        _killed(at, after)
    print(f"killed at {len(points)} calls of two splits: each clone has its own")  # noqa: T201


def _meanwhile(at, happens, dies_at=10_000):
    """The clones as they are then, and the calls that were made."""
    with another_world() as clones:
        split = Split(clones)

        def look():
            split.calls += 1
            if split.calls == at:
                happens(clones)

        clones.aws.before_each = look
        clones.aws.faults = [Fault(dies_at, kills=True)]
        clones.aws.calls.clear()
        split.run()
        clones.assert_all_work()
        return clones, clones.aws.calls


def a_thing_is_attached(clones):
    late = Device(clones.aws, "late")
    del clones.aws.certificates[late.old]
    if clones.shared in clones.aws.certificates:  # else AWS refuses
        clones.aws.certificates[clones.shared].things["late"] = "NON_EXCLUSIVE_THING"
        clones.uses["late"] = clones.shared


def a_stranger_connects(clones):
    shared = clones.aws.certificates.get(clones.shared)
    if shared is not None and shared.status == "ACTIVE":
        clones["gw-2"].connected(clones.shared, clientId="sensor/77")


def the_other_ends(clones):
    acting = clones.aws.acting
    clones["gw-3"].handle_end(clones["gw-3"].ended_event("SUCCEEDED"))
    clones.aws.acting = acting


def the_table_is_lost(clones):
    clones.aws.items.clear()


@EVERY
@pytest.mark.parametrize("happens", [a_thing_is_attached, a_stranger_connects, the_other_ends, the_table_is_lost])
def test_nothing_in_use_goes_whatever_happens_at_any_call_of_a_split(happens, stride):
    points = range(1, len(_meanwhile(0, happens)[1]) + 1, stride)
    kept = sum(clones.shared in clones.aws.certificates for clones, _ in (_meanwhile(at, happens) for at in points))
    print(f"{happens.__name__} at {len(points)} calls: the shared one was kept {kept} times")  # noqa: T201


READS = ("Get", "List", "Describe", "Query")
TELLING = {"iot-data:UpdateThingShadow", "iot-data:Publish"}  # from which nothing is decided
APART = TELLING | {"iot-jobs-data:DescribeJobExecution", "iot:GetTopicRule"}  # calls that no event here touches


def _points(happens):
    """Before which calls it may happen: two of them are one if the call in between neither sees nor changes it."""
    calls = _meanwhile(0, happens)[1]
    apart = APART if happens is the_other_ends else APART | {"dynamodb:Query"}  # which sees rotations
    return [at for at in range(1, len(calls) + 1) if at == 1 or calls[at - 2] not in apart]


@pytest.mark.soak
@pytest.mark.parametrize("happens", [a_thing_is_attached, a_stranger_connects, the_other_ends])
def test_nor_if_a_function_dies_as_well_at_any_call(happens):
    """Who dies before a read has done what is done by who dies before the next write: deaths before writes are all."""
    pairs, points = 0, _points(happens)
    for at in points:
        made = _meanwhile(at, happens)[1]
        for dies_at, call in enumerate(made):
            if call not in TELLING and not call.partition(":")[2].startswith(READS):
                _meanwhile(at, happens, dies_at)
                pairs += 1
    print(f"{happens.__name__} at {len(points)} calls, and a death before each write: {pairs} pairs")  # noqa: T201


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
@pytest.mark.parametrize("happens", [a_thing_is_attached, a_stranger_connects])
def test_what_is_used_at_the_moment_of_its_deactivation_works_again(happens, dies):
    with another_world() as clones:
        for name in NAMES:
            clones.rotate(name)
        clones.pass_days(14)

        def meanwhile():
            assert clones.status == "INACTIVE"
            clones.aws.certificates[clones.shared].status = "ACTIVE"  # to whoever has just connected
            happens(clones)
            clones.aws.certificates[clones.shared].status = "INACTIVE"
            clones.aws.acting = "Sweep"
            if dies:
                raise KilledError

        clones.aws.after_call["iot:UpdateCertificate"] = meanwhile
        with suppress(KilledError):
            clones.pass_days(1)
        if dies:
            assert clones.status == "INACTIVE"
            clones.pass_days(0.1, step=0.1)
        clones.assert_all_work()
        assert clones.status == "ACTIVE"
