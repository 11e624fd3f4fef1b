"""A disk in memory, so that what lies on a device is a value, and power can fail at any call that changes it."""

from __future__ import annotations

from pathlib import Path

from component.certificate_rotator.system import Attributes, System

ROOT = Path("/device")
_OWNERS = Attributes(0o600, 0, 0)


class Killed(BaseException):
    """The power has failed; nothing catches it."""


class Disk(System):
    """Files by name. ``points`` counts the changes; at the one that ``kill_at`` names the power fails."""

    def __init__(self, files, kill_at=None, *, full=False):
        self.files, self.points = dict(files), 0
        self._kill_at, self._full = kill_at, full
        self._open = {}

    def _point(self):
        if self.points == self._kill_at:
            raise Killed
        self.points += 1

    def read(self, path):
        try:
            return self.files[path.name]
        except KeyError:
            raise FileNotFoundError(path) from None

    def exists(self, path):
        return path.name in self.files

    def create(self, path):
        self._point()
        if self._full:
            raise OSError(28, "No space left on device")
        if path.name in self.files:
            raise FileExistsError(path)
        self.files[path.name] = b""
        self._open[len(self._open) + 3] = path.name
        return len(self._open) + 2

    def write(self, descriptor, data):
        self._point()
        self.files[self._open[descriptor]] = bytes(data)

    def sync(self, descriptor):
        """Nothing is held back here."""

    def close(self, descriptor):
        """Nothing is to be freed."""

    def replace(self, source, target):
        self._point()
        self.files[target.name] = self.files.pop(source.name)

    def remove(self, path):
        if path.name in self.files:
            self._point()
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
