"""The power is cut at every point of a rotation, and the disk keeps as little of it as POSIX allows.

Each life is lived once to count its points and what a cut at each may leave (component_power.py); then once for every
disk that is left and differs from the others. How many there are is printed, and so is what finds each sync if it is
left out.
"""

from __future__ import annotations

import itertools

import pytest
from component_before import OfEitherVersion
from component_cloud import spki
from component_faults import Killed, run_until_calm, with_messages
from component_power import PowerDevice, PowerDisk, key_of
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from component.certificate_rotator import keys
from component.certificate_rotator.actions import Actions

PLAIN, STOCK, ROLLBACK, SECOND = "rotation", "rotation of a stock backend", "rollback", "second rotation"
CANCELED, UNANSWERED = "rotation that is canceled at the cut", "rotation whose commit nobody answers"
OFFLINE, AWAY = "rotation, then off line for ten minutes", "rotation, then off line for six hours"
COPIED = "rotation on a file system without second names"
LIVES = (
    PLAIN,
    STOCK,
    ROLLBACK,
    SECOND,
    CANCELED,
    UNANSWERED,
    OFFLINE,
    COPIED,
    pytest.param(AWAY, marks=pytest.mark.soak),
)
OFF_LINE = {OFFLINE: 600.0, AWAY: 6 * 3600.0}  # seconds: longer than the job may last
SYNCS, LATER = 13, 4
MORE = {STOCK: 2, COPIED: 2}  # which backend it is, before it is told; both copies
UNFOUND = {  # syncs that may be left out as far as these lives go, and what they are for
    16: "the journal is removed: one question more",
}


class Ca:
    """Issues one certificate for each key, so that lives can be compared."""

    def __init__(self, ca):
        self._ca, self._known = ca, {}

    def issue_pem(self, csr):
        key = spki(x509.load_pem_x509_csr(csr.encode()).public_key())
        if key not in self._known:
            self._known[key] = self._ca.issue_pem(csr)
        return self._known[key]


class EitherDevice(OfEitherVersion, PowerDevice):
    """A device that another version may be started on."""


class Points:
    """What with_messages tells of messages; the disk tells the same of its changes."""

    def __init__(self, point):
        self.point = point


class Life:
    """One run of a life; ``point`` is told each of its points, and ``skipped`` is the sync that is left out."""

    def __init__(self, lives, point, skipped):
        self.kind, self.lives = lives.kind, lives
        self.sent, self.other_key, self.is_installing, self.disks = [], False, False, []
        self.disk = PowerDisk(point, skipped, second_names=self.kind != COPIED)
        self.world = lives.make_world(lives.folder, kind=EitherDevice, system=self.disk)
        self.device, self.cloud = self.world.device, self.world.cloud
        self.cloud.ca, self.cloud.correlates = lives.ca, self.kind != STOCK
        self.points = Points(point)
        with_messages(self.device, self.points)
        self._watch()

    def _watch(self):
        create, publish = self.cloud.create, self.device.publish

        def created(message, principal):
            answer = create(message, principal)
            self.other_key = self.other_key or answer.get("errorCode") == "KEY"
            return answer

        def published(topic, payload):
            self.sent.append((topic, payload.decode()))
            publish(topic, payload)

        self.cloud.create, self.device.publish = created, published

    @property
    def job(self):
        return "job-2" if self.kind == SECOND else "job-1"

    def live(self):
        """From its first start to the one that lets go of the old credential."""
        if self.kind == ROLLBACK:
            self.cloud.refuse_connection = lambda certificate: certificate != self.world.first_certificate
        if self.kind == UNANSWERED:
            self.cloud.intercept = lambda _way, topic, payload: [] if "/commit/" in topic else [(0.0, payload)]
        self.cloud.create_job(document=self.lives.document(), notify=False)
        self.device.switch_on()
        run_until_calm(self.world, power_cut=True)
        if self.kind == SECOND:
            self.cloud.create_job("job-2", self.lives.document())
            run_until_calm(self.world, power_cut=True)
        self.first_syncs = len(self.disk.syncs)
        self.device.switch_on()
        run_until_calm(self.world, power_cut=True)

    def has_sent(self, end, what=""):
        return any(topic.endswith(end) and what in text for topic, text in self.sent)

    @property
    def has_succeeded(self):
        return self.has_sent(f"/{self.job}/update", "SUCCEEDED")

    @property
    def may_fail(self):
        """Whether a cut now may cost the rotation: two renames cannot be one, and a stock backend commits once."""
        is_lost = self.kind in OFF_LINE or (self.kind == STOCK and self.has_sent("/commit"))
        return self.is_installing or (is_lost and not self.has_succeeded)

    @property
    def kept(self):
        """The certificates that must be there with their keys: from the first commit until success is told."""
        record = self.cloud.record
        is_open = record is not None and record["job"] == self.job and self.cloud.status(self.job) == "IN_PROGRESS"
        is_kept = is_open and self.has_sent("/commit", self.job)
        return {record["old"], record["new"]} if is_kept else set()

    def cloud_knows(self):
        return len(self.sent), len(self.cloud.log), self.cloud.status(), len(self.cloud.registry)

    def cut(self, left):
        """The power goes, and this is left; the world goes on with it."""
        self.disk.left = left
        self.disk.died()
        self.at_cut = self.may_fail or self.kind == CANCELED, self.kept, self.has_succeeded
        self.held, self.lived = self.device.pairs(), self.device.holds_a_working_credential()
        self.went_back = False
        if self.kind == CANCELED and self.cloud.status() in ("QUEUED", "IN_PROGRESS"):
            self.cloud.end_job("job-1", "CANCELED")
        if self.kind in OFF_LINE:
            self.cloud.refuse_connection = lambda _certificate: True
            back = self.world.loop.call_later
            back(OFF_LINE[self.kind], lambda: setattr(self.cloud, "refuse_connection", lambda _: False))
        self.disk.left, self.disk.point, self.points.point = left, self._look, self._look
        raise Killed

    def _look(self, _name):
        self.went_back = self.went_back or self.device.certificate_in_place() == self.world.first_certificate

    def broken(self):
        """What does not hold after a cut; None if all does."""
        if self.kind == AWAY:
            self.world.run(24 * 3600)
        may_fail, kept, has_succeeded = self.at_cut
        status, device = self.cloud.status(self.job), self.device
        wanted = "FAILED" if self.kind in (ROLLBACK, UNANSWERED) else "SUCCEEDED"
        works = device.pair_matches() and device.certificate_in_place() in self.cloud.registry
        as_well = device.is_new  # what the version of before need not hold: its rotation may fail
        rules = {
            "the disk holds no working credential": self.lived,
            "one of the two that are kept is not on the disk": kept <= self.held,
            "what lies in place does not work": works,
            "one of the two that are kept was let go": status == "SUCCEEDED" or kept <= device.pairs(),
            "another key was sent for the same job": not (as_well and self.other_key),
            "it went back although it had succeeded": self.kind == AWAY
            or not (as_well and has_succeeded and self.went_back),
            f"the job ends as {status}": not as_well or may_fail or status == wanted,
        }
        return next((rule for rule, holds in rules.items() if not holds), None) or self._left_over()

    def _left_over(self):
        for _ in range(2):
            if self.device.leftovers():
                self.device.switch_on()
                self.world.run(600)
        record = self.device.record()
        return f"left over: {self.device.leftovers()}" if record is None and self.device.leftovers() else None


class Lives:
    """Lives of one kind, which are alike: the same keys and the same certificates."""

    def __init__(self, kind, make_world, folder, ca, document, monkeypatch):
        self.kind, self.make_world, self.folder, self.document = kind, make_world, folder, document
        self.ca, self._keys, self._made, self._life = Ca(ca), [], itertools.count(), None
        monkeypatch.setattr(keys, "generate", lambda _key_type: self._key(next(self._made)))
        install = Actions.install

        def installing(actions, cause):
            self._life.is_installing = True
            event = install(actions, cause)
            self._life.is_installing = False
            return event

        monkeypatch.setattr(Actions, "install", installing)

    def _key(self, number):
        while len(self._keys) <= number:
            form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            self._keys.append(ec.generate_private_key(ec.SECP256R1()).private_bytes(*form))
        return self._keys[number]

    def begun(self, point, skipped=None):
        self._made = itertools.count()
        self._life = Life(self, point, skipped)
        return self._life

    def cuts(self, skipped=None, at=None):
        """(number of the point, its name, what is left), each that differs from all others once; and the life.

        ``at``: of a life whose power is cut there already, the points that follow.
        """
        found, numbers = {}, itertools.count()

        def point(name):
            number = next(numbers)
            if at is not None and number == at[0]:
                life.cut(at[2])
            if at is None or number > at[0]:
                for left in life.disk.outcomes():
                    found[life.cloud_knows(), life.may_fail, key_of(left)] = number, name, left

        life = self.begun(point, skipped)
        life._look = point if at is not None else life._look
        life.live()
        return list(found.values()), life

    def after(self, *cuts, skipped=None, is_new=True):
        """The life with its power cut there, at its end; whichever version starts then."""
        numbers, wanted = itertools.count(), {number: left for number, _, left in cuts}

        def point(_name):
            number = next(numbers)
            if number in wanted:
                life.device.is_new = is_new
                life.cut(wanted[number])

        life = self.begun(point, skipped)
        if len(cuts) > 1:
            life._look = point
        life.live()
        assert numbers.__reduce__()[1][0] > cuts[-1][0]
        return life


@pytest.fixture
def lives(make_world, tmp_path, ca, rotation_document, monkeypatch):
    return lambda kind: Lives(kind, make_world, tmp_path, ca, rotation_document, monkeypatch)


def told(broken):
    return "; ".join(f"{what} ({len(at)}, first at {at[0]})" for what, at in broken.items())


def all_broken(those, cuts, **how):
    broken = {}
    for cut in cuts:
        if what := those.after(cut, **how).broken():
            broken.setdefault(what, []).append(cut[:2])
    return told(broken)


@pytest.mark.parametrize("kind", LIVES)
def test_a_power_cut_at_any_point_leaves_what_every_promise_holds_with(lives, kind, say):
    those = lives(kind)
    cuts, life = those.cuts()
    say(f"{kind}: {cuts[-1][0]} points, {len(cuts)} disks that differ, {life.first_syncs} syncs")
    assert not all_broken(those, cuts)
    if kind in (PLAIN, STOCK, CANCELED, COPIED):
        assert life.first_syncs == SYNCS + MORE.get(kind, 0)
        assert len(life.disk.syncs) - life.first_syncs == LATER


@pytest.mark.parametrize("kind", [PLAIN, UNANSWERED])
def test_the_version_of_before_that_starts_on_what_a_power_cut_has_left_keeps_a_working_credential(lives, kind, say):
    those = lives(kind)
    cuts, _ = those.cuts()
    say(f"{kind}: {len(cuts)} disks")
    assert not all_broken(those, cuts, is_new=False)


@pytest.mark.parametrize("last", [SYNCS, pytest.param(SYNCS + LATER, marks=pytest.mark.soak)])
def test_each_sync_that_is_left_out_is_found(lives, last, say):
    """In the order in which a rotation and the start that lets go of the old credential wait for the disk."""
    unfound = set()
    for number in range(last):
        for kind in (PLAIN, OFFLINE, AWAY)[: 2 + (number >= SYNCS)]:
            those = lives(kind)
            cuts, life = those.cuts(number)
            found = next(filter(None, (those.after(cut, skipped=number).broken() for cut in cuts)), None)
            if found:
                break
        sync = life.disk.syncs[number]
        say(f"{number:2} {sync.what:6} {sync.name:22} {f'{kind}: {found}' if found else 'not found'}"[:150])
        unfound |= set() if found else {number}
    assert unfound == {number for number in UNFOUND if number < last}


def test_a_trial_ends_though_the_component_dies_right_after_each_start(lives, say):
    """A first start is marked and not written down; each that finds no mark is."""
    life = lives(PLAIN).begun(lambda _name: None)
    life.cloud.refuse_connection = lambda certificate: certificate != life.world.first_certificate
    life.cloud.create_job(document=life.lives.document(), notify=False)
    life.device.switch_on()
    life.world.run(45)
    new, starts = life.device.certificate_in_place(), 0
    assert new != life.world.first_certificate
    while life.device.certificate_in_place() == new:
        life.device.rotator.stop()
        life.device.starts = []  # as many as it takes
        life.device.start_component()
        life.world.run(1)
        starts += 1
    say(f"given up at start {starts}")
    assert starts <= life.device.configuration().reconnect_limit + 1


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", [PLAIN, UNANSWERED, SECOND])
def test_the_power_is_cut_twice(lives, kind, say):
    """At any point, and at any that follows."""
    those, pairs, broken = lives(kind), 0, {}
    for first in those.cuts()[0]:
        for second in those.cuts(at=first)[0]:
            if what := those.after(first, second).broken():
                broken.setdefault(what, []).append((first[:2], second[:2]))
            pairs += 1
    say(f"{kind}: {pairs} pairs of cuts")
    assert not told(broken)
