"""Credentials in two PEM files, wherever the nucleus expects them.

Beside each file F a rotation keeps ``F.old`` (backup: a second name of the file that is replaced) and ``F.new``; both
are whole or absent, and stay until the rotation is settled. The key of one that begins meanwhile is ``F.next`` until
they are released.
Putting a generation in place copies its two files over the two in place, each by an atomic rename;
permissions, owner, group and extended attributes remain those of the file replaced. Only if that
fails on the way back (a full disk), the backup itself moves into its place. Two renames cannot be one:
should the power fail between them, the pair in place does not match until the component, at its start,
repeats the switch that the journal asks for.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

from protocol.algorithms import CsrSigningAlgorithm, Family, KeyType

from . import certificates, files, keys
from .errors import CertificateError, RotationError, StoreError
from .store import NEXT, Extent, Generation
from .system import System


class FileStore:
    """A CredentialStore over the nucleus' ``certificateFilePath`` and ``privateKeyPath``."""

    def __init__(self, certificate_path: Path, key_path: Path, system: System, platform: str = sys.platform) -> None:
        # A symbolic link stays one: it is its target that is replaced.
        self._certificate = Path(os.path.realpath(str(certificate_path)))
        self._key = Path(os.path.realpath(str(key_path)))
        self._system = system
        self._platform = platform
        self._next_key = self._key.with_name(f"{self._key.name}.{NEXT}")
        self._is_apart = False  # whether the new key is kept apart

    def preflight(self, key_type: KeyType) -> None:
        """See CredentialStore."""
        if self._platform == "win32" and key_type.family is Family.ECDSA:
            raise StoreError(
                f"the nucleus' TLS library (AWS CRT) reads no elliptic curve keys from files on Windows, and the job "
                f"demands {key_type.value}; let it demand RSA-2048 or RSA-3072"
            )
        self._require_pair(self._certificate, self._key)
        for path in (self._certificate, self._key):
            obstacle = self._system.obstacle(path)
            if obstacle:
                raise StoreError(f"{path} could not be replaced: {obstacle}")

    def begin(self, kept: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
        """See CredentialStore."""
        if kept is None:
            self.settle()
        else:
            self.abandon()
        self._is_apart = kept is not None
        return {NEXT: self._next_key.name} if self._is_apart else {}

    def resume(self, notes: Mapping[str, str]) -> None:
        """See CredentialStore."""
        self._is_apart = NEXT in notes

    def prepare(self, key_type: KeyType) -> None:
        """See CredentialStore."""
        try:
            target = self._next_key if self._is_apart else _of(self._key, Generation.NEW)
            backups = {} if self._is_apart else self._missing_backups()
            files.write_all(self._system, {target: keys.generate(key_type)}, backups=backups)
        except OSError as error:
            raise StoreError(f"cannot store a new private key: {error}; free or repair the disk") from error

    def caveat(self, key_type: KeyType) -> str:  # noqa: ARG002  # as the protocol says
        """See CredentialStore; every nucleus reads every key type from a file."""
        return ""

    def request(self, algorithm: CsrSigningAlgorithm) -> str:
        """See CredentialStore."""
        subject = certificates.load(self.current_certificate()).subject
        return keys.signing_request(self._read(self._new_key()), subject, algorithm)

    def new_public_key(self) -> bytes:
        """See CredentialStore."""
        return keys.public_key_der(self._read(self._new_key()))

    def current_certificate(self) -> bytes:
        """See CredentialStore."""
        return self._read(self._certificate)

    def release(self) -> Dict[str, str]:
        """See CredentialStore."""
        try:
            if self._is_apart and self._system.exists(self._next_key):
                files.remove(self._system, self._kept())
                self._system.replace(self._next_key, _of(self._key, Generation.NEW))
                self._system.sync_folder(self._key.parent)
            self._is_apart = False
            backups = self._missing_backups()
            if backups:
                self._require_pair(self._certificate, self._key)
                files.write_all(self._system, {}, backups=backups)
        except OSError as error:
            raise StoreError(f"cannot make room for the new credential: {error}; free or repair the disk") from error
        return {}

    def abandon(self) -> None:
        """See CredentialStore."""
        self._is_apart = False
        self._remove(self._next_key)

    def install(self, certificate_pem: str) -> None:
        """See CredentialStore."""
        certificate, key = certificate_pem.encode(), self._read(_of(self._key, Generation.NEW))
        if not _is_pair(certificate, key):
            raise StoreError(f"the new credential beside {self._key} is not whole; the old one stays in place")
        try:
            files.write_all(
                self._system,
                {_of(self._certificate, Generation.NEW): certificate, self._key: key, self._certificate: certificate},
                {path: self._system.attributes(path) for path in (self._key, self._certificate)},
            )
        except OSError as error:
            raise StoreError(
                f"cannot put the new credential in place: {error}; check the disk and the permissions of the component"
            ) from error

    def extent(self, *, is_durable: bool) -> Extent:
        """See CredentialStore."""
        certificate, key = (_of(path, Generation.NEW) for path in (self._certificate, self._key))
        if not self._holds_pair():
            return Extent.TORN
        if not self._exists(key) or self._read(key) != self._read(self._key):
            if self._exists(certificate):
                return Extent.TORN
            return Extent.KEY if self._exists(key) else Extent.NO_KEY
        try:
            if not self._system.exists(certificate):  # what was renamed after it has come to the disk, and it has not
                files.write(self._system, certificate, self.current_certificate())
            for folder in set() if is_durable else {self._certificate.parent, self._key.parent}:
                self._system.sync_folder(folder)
        except OSError as error:
            raise StoreError(f"cannot keep both credentials: {error}; free or repair the disk") from error
        return Extent.WHOLE

    def switch(self, generation: Generation) -> Generation:
        """See CredentialStore."""
        if generation is Generation.OLD and self._is_apart:
            return generation
        if generation is Generation.NEW:
            self._complete()
        sources = {path: self._source(path, generation) for path in (self._key, self._certificate)}
        is_there = all(self._exists(source) for source in sources.values())
        if not (is_there and self._is_pair(sources[self._certificate], sources[self._key], validate=True)):
            self._require_pair(self._certificate, self._key)  # half a generation left over: what is in place stays
            return Generation.OLD  # the new one was whole before it was ever put in place
        wanted = {path: self._read(source) for path, source in sources.items()}
        changes = {path: data for path, data in wanted.items() if data != self._read(path)}
        try:
            files.write_all(self._system, changes, {path: self._system.attributes(path) for path in changes})
        except OSError as error:
            if generation is Generation.NEW or not self._moved(sources, changes):
                raise StoreError(
                    f"cannot put the {generation.value.lower()} credential in place: {error}; "
                    "check the disk and the permissions of the component"
                ) from error
        return generation

    def settle(self) -> None:
        """See CredentialStore. The backup goes first: half a backup is none."""
        self._remove(*self._kept(), self._next_key, files.temporary(self._certificate), files.temporary(self._key))

    def is_back(self) -> bool:
        """See CredentialStore."""
        places = self._certificate, self._key
        kept = [_of(path, Generation.NEW) for path in places]
        if not all(map(self._exists, kept)):
            return False
        certificate, key = map(self._read, kept)
        if [certificate, key] == list(map(self._read, places)) or not _is_pair(certificate, key):
            return False
        return self.current_certificate() != certificate or not self._holds_pair()

    def is_overtaken(self) -> bool:
        """See CredentialStore."""
        kept = [_of(self._certificate, generation) for generation in Generation]
        if not all(map(self._exists, kept)) or self.current_certificate() in map(self._read, kept):
            return False
        return self._holds_pair()

    def adopt(self, certificate: bytes, key: bytes) -> Optional[Generation]:
        """See CredentialStore."""
        is_whole = self._holds_pair()
        if not _is_pair(certificate, key) or (is_whole and self.current_certificate() == certificate):
            return None
        contents = {_of(self._certificate, Generation.OLD): certificate, _of(self._key, Generation.OLD): key}
        if is_whole:
            for path in (self._certificate, self._key):
                contents[_of(path, Generation.NEW)] = self._read(path)
        try:
            files.write_all(self._system, contents)
        except OSError as error:
            raise StoreError(f"cannot keep both credentials: {error}; free or repair the disk") from error
        return Generation.NEW if is_whole else Generation.OLD

    def _holds_pair(self) -> bool:
        """Return whether what lies in place is a whole credential, whoever has put it there."""
        return _is_pair(self.current_certificate(), self._read(self._key))

    def _remove(self, *paths: Path) -> None:
        try:
            files.remove(self._system, paths)
        except OSError as error:
            raise StoreError(f"cannot remove what the rotation left over: {error}; repair the disk") from error

    def _kept(self) -> Tuple[Path, ...]:
        return tuple(_of(path, generation) for generation in Generation for path in (self._certificate, self._key))

    def _new_key(self) -> Path:
        """Return where the key of the rotation at hand lies, before it is in place.

        A ``release`` that was interrupted has moved the key already, and removed the certificate that was kept before.
        If that certificate is still there, so is its key: then the new key was cleared away, and the journal has not
        noted it.
        """
        if self._is_apart and self._exists(self._next_key):
            return self._next_key
        if self._is_apart and self._exists(_of(self._certificate, Generation.NEW)):
            raise StoreError(f"the new key {self._next_key} is gone: a rotation that has ended had removed it")
        return _of(self._key, Generation.NEW)

    def _source(self, path: Path, generation: Generation) -> Path:
        """Return where a generation's file lies; without a backup the one in place is the old one."""
        source = _of(path, generation)
        return source if generation is Generation.NEW or self._exists(source) else path

    def _missing_backups(self) -> Dict[Path, Path]:
        """Return the backups, each with its file in place, that are not there or do not hold what that file holds."""
        backups = {_of(path, Generation.OLD): path for path in (self._certificate, self._key)}
        return {
            backup: path
            for backup, path in backups.items()
            if not self._system.exists(backup) or self._system.read(backup) != self._system.read(path)
        }

    def _complete(self) -> None:
        """Write the backup; a file that has none yet is still the old one."""
        try:
            contents = {}
            for path in (self._certificate, self._key):
                backup = _of(path, Generation.OLD)
                if not self._system.exists(backup):
                    contents[backup] = self._system.read(path)
            files.write_all(self._system, contents)
        except OSError as error:
            raise StoreError(f"cannot keep both credentials: {error}; free or repair the disk") from error

    def _moved(self, sources: Mapping[Path, Path], changes: Mapping[Path, bytes]) -> bool:
        """Go back in the way that needs no space: move the backup itself into place; return whether that worked."""
        try:
            for path in changes:
                self._system.set_attributes(sources[path], self._system.attributes(path))
                self._system.replace(sources[path], path)
                self._system.sync_folder(path.parent)
        except OSError:
            return False
        return True

    def _is_pair(self, certificate: Path, key: Path, *, validate: bool = False) -> bool:
        try:
            certified = certificates.public_key_der(certificates.load(self._read(certificate)))
        except CertificateError:
            raise StoreError(f"{certificate} does not hold a certificate in PEM") from None
        return certified == keys.public_key_der(self._read(key), validate=validate)

    def _require_pair(self, certificate: Path, key: Path) -> None:
        if not self._is_pair(certificate, key):
            raise StoreError(f"the key in {key} does not belong to the certificate in {certificate}; restore the pair")

    def _read(self, path: Path) -> bytes:
        try:
            return self._system.read(path)
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error}; check that it exists and may be read") from error

    def _exists(self, path: Path) -> bool:
        try:
            return self._system.exists(path)
        except OSError as error:
            raise StoreError(f"cannot look for {path}: {error}; repair the disk") from error


def _is_pair(certificate: bytes, key: bytes) -> bool:
    """Return whether these belong to each other, and can be read at all."""
    try:
        return certificates.public_key_der(certificates.load(certificate)) == keys.public_key_der(key, validate=True)
    except RotationError:
        return False


def _of(path: Path, generation: Generation) -> Path:
    return path.with_name(f"{path.name}.{generation.value.lower()}")
