"""A disk in memory that loses what was not synced, as hostile as POSIX allows.

Data that was written and not synced is gone after a power cut, or half of it is there, or all. Of the changes of a
folder that was not synced since (a file made, renamed, removed), any may have come to the disk without any other, and
without the data of the file. A process that is only killed loses nothing.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from component_world import Device

from component.certificate_rotator.journal import Journal, decode
from component.certificate_rotator.store_files import FileStore, _is_pair
from component.certificate_rotator.system import Attributes, System

MARK = b"installed"
ROOT = Path("/device")
JOURNAL = ROOT / "state" / "journal.json"  # in a folder of its own, as on a device
_OWNERS = Attributes(0o600, 0, 0)


class File:
    """What a file holds for those that read it, and what of it is surely on the disk."""

    def __init__(self, data=b"", synced=b""):
        self.data, self.synced = data, synced

    def after_a_cut(self):
        """What a power cut may leave of it."""
        if self.data == self.synced:
            return (self.data,)
        return self.synced, self.data[: len(self.data) // 2], self.data


class Synced(NamedTuple):
    """One call that waited for the disk, by what it was for."""

    what: str
    name: str


class PowerDisk(System):
    """``point`` is told each change to come; of the syncs, the one with the number ``skipped`` does nothing."""

    def __init__(self, point=lambda _name: None, skipped=None, *, second_names=True):
        super().__init__()
        self.files, self.point, self.skipped, self.second_names = {}, point, skipped, second_names
        self.durable, self.pending = {}, {}  # path → file; folder → changes in order, each {path: file or None}
        self.syncs, self._open, self.left = [], {}, None

    def put(self, path, data):
        """A file that was there long since."""
        self.files[path] = self.durable[path] = File(data, data)

    # What power cuts leave
    def outcomes(self):
        """Every content of the disk, {path: data}, that a power cut may leave now."""
        found = {}
        choices = [self._subsets(changes) for changes in self.pending.values()]
        for chosen in itertools.product(*choices):
            files = dict(self.durable)
            for change in itertools.chain(*chosen):
                files.update(change)
            there = {path: file for path, file in files.items() if file is not None}
            for data in itertools.product(*(file.after_a_cut() for file in there.values())):
                left = dict(zip(there, data))
                found.setdefault(key_of(left), left)
        return list(found.values())

    @staticmethod
    def _subsets(changes):
        for mask in range(1 << len(changes)):
            yield [change for bit, change in enumerate(changes) if mask >> bit & 1]

    def died(self):
        """The power is gone; ``left`` is what it has left."""
        if self.left is not None:
            self.files, self.durable, self.pending = {}, {}, {}
            for path, data in self.left.items():
                self.put(path, data)
            self.left = None

    def _change(self, name, changes):
        self.point(name)
        self.pending.setdefault(next(iter(changes)).parent, []).append(changes)
        self.files.update(changes)
        self.files = {path: file for path, file in self.files.items() if file is not None}

    def _synced(self, what, name):
        self.point("sync")
        self.syncs.append(Synced(what, name))
        return len(self.syncs) - 1 != self.skipped

    # The calls of System
    def read(self, path):
        try:
            return self.files[path].data
        except KeyError:
            raise FileNotFoundError(path) from None

    def exists(self, path):
        return path in self.files

    def create(self, path):
        if path in self.files:
            raise FileExistsError(path)
        self._change("create", {path: File()})
        self._open[len(self._open) + 3] = path, self.files[path]
        return len(self._open) + 2

    def write(self, descriptor, data):
        self.point("write")
        self._open[descriptor][1].data += bytes(data)

    def sync(self, descriptor):
        path, file = self._open[descriptor]
        if self._synced("data", path.name):
            file.synced = file.data

    def close(self, descriptor):
        """Nothing is to be freed."""

    def replace(self, source, target):
        if source not in self.files:
            raise FileNotFoundError(source)
        self._change("replace", {target: self.files[source], source: None})

    def add_name(self, path, name):
        if path not in self.files:
            raise FileNotFoundError(path)
        if not self.second_names:
            raise OSError("no second names here")
        if name in self.files:
            raise FileExistsError(name)
        self._change("add_name", {name: self.files[path]})

    def remove(self, path):
        if path in self.files:
            self._change("remove", {path: None})

    def sync_folder(self, folder):
        if self._synced("folder", folder.name):
            for change in self.pending.pop(folder, []):
                self.durable.update(change)
            self.durable = {path: file for path, file in self.durable.items() if file is not None}

    def obstacle(self, path):
        return ""

    def attributes(self, path):
        return _OWNERS

    def set_attributes(self, path, wanted):
        """All files are alike."""


def key_of(files):
    """A disk as a value: what is only left of a write is as good as not there."""
    return tuple(sorted((path, data) for path, data in files.items() if path.suffix != ".tmp" or data == MARK))


class PowerDevice(Device):
    """A device with its files on such a disk."""

    def enrol(self, pair):
        self.certificate, self.key = ROOT / "thingCert.crt", ROOT / "privKey.key"
        self.system.put(self.certificate, pair[0].encode())
        self.system.put(self.key, pair[1].encode())

    def make_store(self):
        return FileStore(self.certificate, self.key, self.system, platform="linux")

    def make_journal(self):
        return Journal(JOURNAL, self.system)

    def certificate_in_place(self):
        return self.system.files[self.certificate].data.decode()

    def pair_matches(self, certificate=None, key=None):
        files = self.system.files
        certificate, key = files.get(certificate or self.certificate), files.get(key or self.key)
        return bool(certificate and key) and is_whole(certificate.data, key.data)

    def pairs(self):
        """Certificates of which the disk holds both halves."""
        held = set()
        for suffix in ("", ".old", ".new"):
            places = [path.with_name(path.name + suffix) for path in (self.certificate, self.key)]
            if self.pair_matches(*places):
                held.add(self.system.files[places[0]].data.decode())
        return held

    def holds_a_working_credential(self):
        return bool(self.pairs() & self.cloud.registry)

    def remains(self):
        return key_of({path: file.data for path, file in self.system.files.items()})

    def leftovers(self):
        return sorted(path.name for path in self.system.files if path not in (self.certificate, self.key))

    def record(self):
        """What the journal tells, to nobody's harm."""
        file = self.system.files.get(JOURNAL)
        return None if file is None else decode(file.data)


@lru_cache(None)
def is_whole(certificate, key):
    return _is_pair(certificate, key)
