"""The component as a function: what lies on the disk and in memory, and what happens → what lies there then.

Rotator, table, actions, journal and store are the component's own; each step rebuilds them from the value, lets one
thing happen, and takes the value down again. Steps are remembered: a world of a million states has a few hundred.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import smallworld_pool as pool
from smallworld_backend import THING
from smallworld_disk import ROOT, Disk
from smallworld_pool import Interned

from component.certificate_rotator import keys
from component.certificate_rotator.configuration import Configuration
from component.certificate_rotator.journal import Journal, decode
from component.certificate_rotator.machine import Event, State
from component.certificate_rotator.ports import MessagesError, RestartError
from component.certificate_rotator.rotator import Rotator
from component.certificate_rotator.store_files import FileStore

CERTIFICATE, KEY, JOURNAL = "thingCert.crt", "privKey.key", "journal.json"
PLACES = ("", ".old", ".new")
MAX_SWAPS = 2  # more of them only double the patience


class Device:
    """Files by name; what the running process knows, None while there is none; what the nucleus has connected with.

    ``keys``: how many it has made so far.
    """

    def __init__(self, files, memory, loaded, keys):
        self.files, self.memory, self.loaded, self.keys = files, memory, loaded, keys


device = Interned(Device)


class Memory(NamedTuple):
    """What a rotator knows that is not on the disk."""

    state: object
    record: object
    kept: object
    client_token: str
    timers: frozenset
    run_of_commit: str


class Ears(NamedTuple):
    """Certificates are heeded for these private keys; answers to this run of the nucleus are heard if it runs."""

    keys: frozenset
    in_session: bool


class Step(NamedTuple):
    """What came of it, at which price."""

    device: Device
    published: tuple = ()
    prices: tuple = ()
    how: str = ""


def first():
    files = {CERTIFICATE: pool.certificate_pem(pool.FIRST).encode(), KEY: pool.key_pem("a")}
    return device(tuple(sorted(files.items())), None, None, 0)


@lru_cache(None)
def in_place(before):
    """The certificate with which the nucleus connects when it starts; None if its key is another's."""
    return _pair(dict(before.files), "")


@lru_cache(None)
def held(before):
    """Every certificate of which the device has both halves."""
    files = dict(before.files)
    return frozenset(name for name in (_pair(files, place) for place in PLACES) if name is not None)


@lru_cache(None)
def ears(before):
    """What it can hear and heed."""
    keys = frozenset(_name(data) for _, data in before.files if data.startswith(b"-----BEGIN PRIVATE"))
    return Ears(keys, before.memory is not None)


def _pair(files, place):
    certificate, key = files.get(CERTIFICATE + place), files.get(KEY + place)
    if not certificate or not key or not pool.is_pair(certificate, key):
        return None
    return pool.name_of(certificate)


@lru_cache(None)
def die(before):
    return _alike(device(before.files, None, None, before.keys))


def _alike(dead):
    """One for all devices without power from which a start comes to the same: drafts that it clears away differ."""
    coming = tuple(_begun(dead, online)[0] for online in (True, False))
    return DEAD.setdefault((in_place(dead), held(dead), coming), dead)


DEAD: dict = {}


def _loaded(dead):
    return device(dead.files, None, in_place(dead), dead.keys)


def _begin(rotator):
    rotator._start()


@lru_cache(None)
def _begun(before, online):
    return _run(_loaded(before), online, _begin)


@lru_cache(None)
def start(before, online):
    """The nucleus reads the credential and the component begins; online: the registry lets it in."""
    return _steps(_loaded(before), online, _begin, _begun(before, online))


@lru_cache(None)
def hear(before, online, topic, payload):
    def act(rotator):
        for topic_filter, decoder in rotator._incoming.subscriptions():
            wanted, found = topic_filter.split("/"), topic.split("/")
            if len(wanted) == len(found) and all(w in ("+", f) for w, f in zip(wanted, found, strict=True)):
                rotator._read(decoder, topic, payload)

    return _steps(before, online, act)


@lru_cache(None)
def heeded(before, messages):
    """Of messages (name, topic, payload) those of which something comes: one for each thing that can come of them."""
    found = {hear(before, True, *message[1:]): message for message in reversed(messages)}
    return tuple(message for steps, message in found.items() if steps != (Step(before),))


@lru_cache(None)
def timer(before, online, event):
    def act(rotator):
        rotator._timers.pop(event)
        rotator._dispatch(event)

    return _steps(before, online, act)


def _steps(before, online, act, once=None):
    """As it goes well; then with a power cut at a change of the disk; with a full disk, or a restart that fails."""
    whole, killed = once or _run(before, online, act)
    dead = dict.fromkeys(step._replace(device=_alike(step.device)) for step in killed)
    troubled = [_run(before, online, act, full=True)[0]] if killed else []
    if whole.device.memory is None:
        troubled += [_run(before, online, act, restart=how)[0] for how in ("refused", "nothing")]
    return (
        whole,
        *(step._replace(prices=("deaths",), how=", the power fails in the middle") for step in dead),
        *(step._replace(prices=("troubles",), how=", disk or restart in trouble")
          for step in dict.fromkeys(troubled) if step != whole),
    )  # fmt: skip


class _Ports:
    """Everything that the rotator asks of the world."""

    outlived = False

    def __init__(self, online, restart):
        self.online, self._restart = online, restart
        self.published, self.ended, self.soon = [], False, []
        self.state = lambda: None  # of the rotator that asks

    def subscribe(self, _topic_filter, _handler):
        if not self.online:
            raise MessagesError("offline")

    def publish(self, topic, payload):
        if not self.online:
            raise MessagesError("offline")
        self.published.append((topic, payload))

    def nucleus_run(self):
        """Every start is one of the nucleus too: what commits is never what connects again later."""
        return "committing" if self.state() is State.COMMITTING else "later"

    def restart(self):
        if self._restart == "refused":
            raise RestartError("as the world has it")
        self.ended = self._restart == "works"

    def now(self):
        return pool.BEGIN

    def call_soon(self, action):
        self.soon.append(action)

    def call_later(self, _seconds, _action):
        return self

    def cancel(self):
        """A timer that is not wanted any more."""


def _run(before, online, act, *, full=False, restart="works"):
    """What comes of it, and what would if the power failed just before each change of the disk."""
    ports, made, killed = _Ports(online, restart), [before.keys], []
    disk = Disk(before.files, lambda files: killed.append(_step(files, None, None, made, ports)), full=full)
    rotator = _rotator(ports, disk)
    if before.memory is not None:
        _remember(rotator, before.memory, ports)
    original, request = keys.generate, keys.signing_request
    keys.generate = lambda _key_type: _next_key(made)
    keys.signing_request = lambda pem, _subject, _algorithm: pool.csr(_name(pem))
    try:
        act(rotator)
        while ports.soon and not ports.ended:
            ports.soon.pop(0)()
    finally:
        keys.generate, keys.signing_request = original, request
    memory = None if ports.ended else _memory(rotator)
    return _step(disk.files, memory, before.loaded if memory else None, made, ports), tuple(killed)


def _step(files, memory, loaded, made, ports):
    plain = {name: _plain(data) if name == JOURNAL else data for name, data in files.items()}
    return Step(device(tuple(sorted(plain.items())), memory, loaded, made[0]), tuple(ports.published))


def _rotator(ports, disk):
    configuration = Configuration()
    rotator = Rotator(
        thing_name=THING,
        configuration=lambda: configuration,
        store=FileStore(ROOT / CERTIFICATE, ROOT / KEY, disk),
        journal=Journal(ROOT / JOURNAL, disk),
        messages=ports,
        restarter=ports,
        loop=ports,
        clock=ports,
    )
    ports.state = lambda: rotator.state
    return rotator


def _remember(rotator, memory, ports):
    actions = rotator._actions
    rotator._state, rotator._timers = memory.state, dict.fromkeys(memory.timers, ports)
    actions.record, actions.kept, actions.client_token = memory.record, memory.kept, memory.client_token
    actions.run_of_commit = memory.run_of_commit
    journal = dict(actions._journal._system.files).get(JOURNAL)
    actions._journal.record = decode(journal) if journal is not None else None
    record = memory.record or memory.kept
    if record is not None:
        actions._store.resume(record.notes)


def _memory(rotator):
    actions = rotator._actions
    return Memory(
        rotator._state,
        _capped(actions.record),
        _capped(getattr(actions, "kept", None)),
        actions.client_token,
        frozenset(rotator._timers) & {Event.RESEND, Event.TIME_LIMIT},
        actions.run_of_commit,
    )


def _capped(record):
    if record is None:
        return None
    return _hashable(replace(record, swaps=min(record.swaps, MAX_SWAPS), reason=record.reason and "a reason"))


def _hashable(record):
    return replace(record, notes=_Notes(record.notes))


class _Notes(dict):
    def __hash__(self):
        return hash(frozenset(self.items()))


def _plain(journal):
    """The journal without what makes no difference to how a device acts: sentences, and many swaps."""
    try:
        content = json.loads(journal)
    except ValueError:
        return journal
    content["reason"] = content["reason"] and "a reason"
    content["swaps"] = min(content["swaps"], MAX_SWAPS)
    return json.dumps(content, sort_keys=True).encode()


def _next_key(made):
    made[0] += 1
    return pool.key_pem(pool.DEVICES[made[0] - 1])


def _name(pem):
    return pool._keys_by_spki[pool.spki(pool.private_key(pem).public_key())]
