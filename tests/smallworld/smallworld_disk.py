"""A disk in memory, so that what lies on a device is a value, and power can fail at any call that changes it."""

from __future__ import annotations

from pathlib import Path

from component.certificate_rotator.system import Attributes, System

ROOT = Path("/device")
_OWNERS = Attributes(0o600, 0, 0)


class Disk(System):
    """Files by name; ``note`` is told what lies there before each change: this stays if the power fails now."""

    def __init__(self, files, note=lambda _files: None, *, full=False):
        self.files, self._note, self._full = dict(files), note, full
        self._open = {}

    def read(self, path):
        try:
            return self.files[path.name]
        except KeyError:
            raise FileNotFoundError(path) from None

    def exists(self, path):
        return path.name in self.files

    def create(self, path):
        self._note(self.files)
        if self._full:
            raise OSError(28, "No space left on device")
        if path.name in self.files:
            raise FileExistsError(path)
        self.files[path.name] = b""
        self._open[len(self._open) + 3] = path.name
        return len(self._open) + 2

    def write(self, descriptor, data):
        self._note(self.files)
        self.files[self._open[descriptor]] = bytes(data)

    def sync(self, descriptor):
        """Nothing is held back here."""

    def close(self, descriptor):
        """Nothing is to be freed."""

    def replace(self, source, target):
        self._note(self.files)
        self.files[target.name] = self.files.pop(source.name)

    def add_name(self, path, name):
        self._note(self.files)
        self.files[name.name] = self.read(path)

    def remove(self, path):
        if path.name in self.files:
            self._note(self.files)
            del self.files[path.name]

    def sync_folder(self, folder):
        """Nothing is held back here."""

    def obstacle(self, path):
        """Nothing keeps a file here from being replaced."""
        return ""

    def attributes(self, path):
        return _OWNERS

    def set_attributes(self, path, wanted):
        """All files are alike."""
