"""A device on virtual time: the component's own code over real files or a real token, and a cloud in memory."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from pathlib import Path
from typing import NamedTuple

from component_cloud import NOW, THING, Cloud, spki
from cryptography.hazmat.primitives import serialization

from component.certificate_rotator import certificates
from component.certificate_rotator.configuration import Configuration
from component.certificate_rotator.journal import Journal
from component.certificate_rotator.rotator import Rotator
from component.certificate_rotator.store import Generation
from component.certificate_rotator.store_files import FileStore
from component.certificate_rotator.system import System

SECRET = "s3cr3t-7391"
URIS = [  # of keys, in every form that may hold a PIN
    f"pkcs11:object=k;type=private?pin-value={SECRET}",
    f"pkcs11:type=private?pin-value={SECRET}",
    f"pkcs11:token=t;pin-value={SECRET}",
    f"pkcs11:object=k&pin-value={SECRET}",
    f"pkcs11:pin-value={SECRET};object=k",
    f"pkcs11:?module-path=/lib/x.so&pin-value={SECRET}&pin-source=file:/{SECRET}",
    f"pkcs11:object=;{SECRET}",
    f"handle:0x81000001?auth={SECRET}",
    f"engine:{SECRET}",
    f"pkcs11:object=k;pin-value={SECRET}%20",
]


class VirtualTimer:
    def __init__(self, action):
        self.action = action

    def cancel(self):
        self.action = None


class VirtualLoop:
    """Actions in order; time jumps to the next timer when nothing else is left."""

    def __init__(self):
        self.time = 0.0
        self.begun = 0  # actions
        self._ready = deque()
        self._timers = []
        self._order = itertools.count()

    def call_soon(self, action):
        self._ready.append(action)

    def call_later(self, seconds, action):
        timer = VirtualTimer(action)
        heapq.heappush(self._timers, (self.time + seconds, next(self._order), timer))
        return timer

    def settle(self):
        """Run what is ready, and let no time pass."""
        while self._ready:
            self.begun += 1
            self._ready.popleft()()

    def run(self, seconds=0.0):
        """Let this much time pass."""
        until = self.time + seconds
        self.settle()
        while self._timers and self._timers[0][0] <= until:
            due, _, timer = heapq.heappop(self._timers)
            self.time = max(self.time, due)
            if timer.action is not None:
                self.begun += 1
                timer.action()
            self.settle()
        self.time = until

    def position(self):
        """How far everything has come: it is the same until an action ends, or asks for another."""
        return self.begun, len(self._ready), len(self._timers)

    def discard(self):
        """The process is gone, and with it everything that it had in mind."""
        self._ready.clear()
        self._timers.clear()


class FrozenClock:
    def now(self):
        return NOW


class Nucleus(NamedTuple):
    """What counts here of a nucleus; in_sandbox/test_component_on_nuclei.py holds it to the sandbox's table."""

    outlived: bool  # the component lives through a restart, and its subscriptions do not
    reconnect: float  # seconds from a try to connect to the next one


CLASSIC, LITE = Nucleus(outlived=False, reconnect=120.0), Nucleus(outlived=True, reconnect=20.0)
RESTART_SECONDS = 30.0
STARTS = 3  # of the component within an hour; then it is not started any more


class Device:
    """Hardware that is switched on and off: what survives is the folder."""

    clock = FrozenClock()
    stock = None  # what a stock component has left

    def __init__(self, folder: Path, pair, cloud, loop, *, system=None, configuration=Configuration, nucleus=CLASSIC):
        self.folder, self.cloud, self.loop, self.nucleus = folder, cloud, loop, nucleus
        self.pending = VirtualTimer(None)  # what the nucleus does next
        self.starts = []
        self.system = system or System()
        self.configuration = configuration
        self.rotator = None
        self.principal = None
        self.handlers = {}
        self.restarts = self.runs = 0
        self.restart_works = True
        self.enrol(pair)

    # What lies where: of files here, of a token in component_token_device.py
    def enrol(self, pair):
        self.certificate, self.key = self.folder / "thingCert.crt", self.folder / "privKey.key"
        self.certificate.write_bytes(pair[0].encode("latin-1"))
        self.key.write_bytes(pair[1].encode("latin-1"))
        self.key.chmod(0o600)

    def make_store(self):
        return FileStore(self.certificate, self.key, self.system, platform="linux")  # of any other, its own tests tell

    def make_journal(self):
        return Journal(self.folder / "journal.json", self.system)

    def certificate_in_place(self):
        return self.certificate.read_bytes().decode("latin-1")  # whatever somebody has written beside it

    def holds_a_working_credential(self):
        """In place or kept beside it."""
        for suffix in ("", ".old", ".new"):
            certificate, key = (path.with_name(path.name + suffix) for path in (self.certificate, self.key))
            complete = certificate.exists() and key.exists() and self.pair_matches(certificate, key)
            if complete and certificate.read_text() in self.cloud.registry:
                return True
        return False

    def pair_matches(self, certificate=None, key=None):
        certificate = certificates.load((certificate or self.certificate).read_bytes())
        key = serialization.load_pem_private_key((key or self.key).read_bytes(), None)
        return spki(certificate.public_key()) == spki(key.public_key())

    def remains(self):
        """What lies there, as a value: what a device that stops leaves behind."""
        return tuple((path.name, held_in(path), path.stat().st_mode) for path in sorted(self.folder.iterdir()))

    def leftovers(self):
        expected = {self.certificate.name, self.key.name}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in expected)

    def unaccounted(self):
        """What is left over or missing.

        Both credentials may stay after a way back from a commit, and if the job has not succeeded; nothing else may.
        """
        found, record = set(self.leftovers()), Journal(self.folder / "journal.json", System()).load()
        if record is not None and record.kept is Generation.NEW and not record.succeeded:
            return sorted(found ^ self.kept_without_success())
        if record is None or record.kept is not Generation.OLD:
            return sorted(found)
        whole, old = self.kept_on_the_way_back()
        if found == {"journal.json"}:  # a disk that took no word meanwhile: the new one was removed before
            return []
        return sorted((found - whole - old) | (whole - found))

    def kept_on_the_way_back(self):
        """What must lie beside the credential in place then, and what may besides."""
        names = (self.certificate.name, self.key.name)
        return {"journal.json", *(f"{name}.new" for name in names)}, {f"{name}.old" for name in names}

    def kept_without_success(self):
        """What must lie beside the credential in place if it was committed, and the job has ended otherwise."""
        names = (self.certificate.name, self.key.name)
        return {"journal.json", *(f"{name}{suffix}" for name in names for suffix in (".old", ".new"))}

    def discard(self):
        """The world is over: leave nothing in a store that is shared."""

    def process_died(self):
        """What the operating system does when the component's process is gone."""

    @property
    def outlived(self):
        return self.nucleus.outlived

    def switch_on(self):
        """The nucleus reads the credential and starts the component; off it was before, if it was on."""
        self.switch_off()
        self.launch()
        self.starts = []
        self.start_component()

    def launch(self):
        """What connects starts anew."""
        self.runs += 1
        self.read_credential()
        self.connect()

    def read_credential(self):
        self.principal = self.certificate_in_place() if self.pair_matches() else None

    def connect(self):
        """Try until it works; lite reads the credential anew each time."""
        if self.nucleus.outlived:
            self.read_credential()
        if not self.cloud.connect(self):
            self.next_is(self.nucleus.reconnect, self.connect)

    def next_is(self, seconds, action):
        self.pending.cancel()
        self.pending = self.loop.call_later(seconds, action)

    def start_component(self):
        self.starts = [time for time in self.starts if time > self.loop.time - 3600] + [self.loop.time]
        assert len(self.starts) <= STARTS, "BROKEN: somebody must come"
        self.handlers = {}
        self.rotator = Rotator(
            thing_name=THING,
            configuration=self.configuration,
            store=self.make_store(),
            journal=self.make_journal(),
            messages=self,
            restarter=self,
            loop=self.loop,
            clock=self.clock,
            stock=self.stock,
        )
        self.rotator.start()

    def component_ended(self):
        """The nucleus starts it again, unless it is away itself."""
        if self.rotator is not None:
            self.start_component()

    def switch_off(self):
        self.pending.cancel()
        if self.rotator is not None:
            self.rotator.stop()
        self.rotator = None
        self.principal = None
        self.go_offline()

    def go_offline(self):
        if self.cloud.device is self:
            self.cloud.device = None

    # ports
    def subscribe(self, topic_filter, handler):
        self.handlers[topic_filter] = handler

    def publish(self, topic, payload):
        self.cloud.receive(self, topic, payload)

    def nucleus_run(self):
        return str(self.runs)

    def restart(self):
        self.restarts += 1
        if not self.restart_works:
            return
        if self.nucleus.outlived:
            self.handlers = {}  # seen on nucleus lite: subscriptions are gone, and their streams stay open
            self.go_offline()
            self.next_is(RESTART_SECONDS, self.launch)
        else:
            self.next_is(1.0, self.restart_all)

    def restart_all(self):
        self.switch_off()
        self.next_is(RESTART_SECONDS - 1.0, self.switch_on)

    def deliver(self, topic, payload):
        for topic_filter, handler in list(self.handlers.items()):
            wanted, found = topic_filter.split("/"), topic.split("/")
            if len(wanted) == len(found) and all(w in ("+", f) for w, f in zip(wanted, found)):
                handler(topic, payload)


def held_in(path):
    """What a file holds; on Windows nobody else can read one that is being written: that is like no other."""
    try:
        return path.read_bytes()
    except PermissionError:
        return object()


class World:
    """One device and its cloud on one virtual loop."""

    def __init__(self, folder, ca, pair, *, kind=Device, **device):
        self.loop = VirtualLoop()
        self.cloud = Cloud(ca, pair[0], self.loop)
        self.device = kind(folder, pair, self.cloud, self.loop, **device)
        self.first_certificate = self.device.certificate_in_place()

    def run(self, seconds=600.0):
        self.loop.run(seconds)

    def remains(self):
        """All that outlives a stop of the device at this instant, as a value."""
        return self.loop.position(), self.device.remains()

    def start_later(self):
        """The device is switched on anew one day, and connects."""
        self.device.switch_on()
        self.run(60)

    def assert_sound(self):
        """What must hold whenever everything has calmed down, and the device was started once more."""
        if self.device.leftovers():
            self.start_later()
        assert self.device.pair_matches()
        assert self.device.certificate_in_place() in self.cloud.registry
        assert self.device.unaccounted() == []
        record = Journal(self.device.folder / "journal.json", System()).load()
        is_its = record is not None and record.job_id == record.job_to_commit  # of an earlier one nothing is reported
        if is_its and record.kept is Generation.NEW and not record.succeeded:
            assert self.cloud.jobs[record.job_to_commit][0] != "SUCCEEDED"
