"""The component up to November 2026, by what it did otherwise: a record for each step, and copies for backups."""

from __future__ import annotations

from component.certificate_rotator import certificates, files, keys, rotator
from component.certificate_rotator.actions import START_SECONDS, Actions
from component.certificate_rotator.errors import StoreError
from component.certificate_rotator.journal import JournalRecord, Step
from component.certificate_rotator.machine import Event
from component.certificate_rotator.store import Extent, Generation
from component.certificate_rotator.store_files import FileStore, _of
from protocol import topics
from protocol.messages import CreateRequest


class ActionsBefore(Actions):
    """What PREPARING, CREATING, INSTALLING and CONNECTING wrote down, each for itself."""

    def prepare(self, cause):
        execution = cause.execution
        self._request = None
        kept, self.kept = self.kept, None
        committed = kept.with_(committed=kept.job_to_commit) if kept else JournalRecord(Step.REPORTING)
        self.record = committed.during(Step.PREPARING, execution.job_id).with_(attempt=execution.execution_number)
        key_type, algorithm = self._fitness.of(execution.job_document)
        notes = self._store.begin(kept.notes if kept else None)
        self._save(self.record.with_(key_type=key_type, signing_algorithm=algorithm, notes=notes))
        self.claim(cause)
        self._store.prepare(key_type)
        self._request = self._store.request(algorithm)

    def create(self, cause):
        if self._known().step is not Step.CREATING:
            self._save(self._known().with_(step=Step.CREATING))
        if self._request is None:
            self._request = self._store.request(self._known().signing_algorithm)
        in_place = certificates.identity(self._store.current_certificate())
        request = CreateRequest(self._known().job_id, self._request, in_place)
        self._publish(topics.create(self._thing_name), request.encode())

    def install(self, cause):
        if self._known().kept is not None:
            self._save(self._known().with_(kept=None, committed=None, swaps=0, succeeded=False))
        notes = self._store.release()
        self._save(self._known().with_(step=Step.INSTALLING, notes=notes, repeats=cause.names_job))
        self._store.install(cause.certificate_pem)
        self._save(self._known().with_(step=Step.CONNECTING, awake=0.0))
        return Event.DONE

    def reconnect(self, cause):
        self.count_awake(START_SECONDS)
        self.ask(cause)


class FileStoreBefore(FileStore):
    """Backups are made when a certificate has come; what a rotation has come to is not looked at."""

    def prepare(self, key_type):
        target = self._next_key if self._is_apart else _of(self._key, Generation.NEW)
        files.write(self._system, target, keys.generate(key_type))

    def release(self):
        if self._is_apart:
            if self._system.exists(self._next_key):
                files.remove(self._system, self._kept())
                self._system.replace(self._next_key, _of(self._key, Generation.NEW))
                self._system.sync_folder(self._key.parent)
            self._is_apart = False
        return {}

    def install(self, certificate_pem):
        contents = {_of(self._certificate, Generation.NEW): certificate_pem.encode()}
        for path in (self._certificate, self._key):
            if not self._system.exists(_of(path, Generation.OLD)):
                contents[_of(path, Generation.OLD)] = self._system.read(path)
        files.write_all(self._system, contents)
        if self.switch(Generation.NEW) is not Generation.NEW:
            raise StoreError("the new credential is not whole")

    def extent(self, *, is_durable):
        return Extent.TORN


class OfEitherVersion:
    """A kind of device that runs the component of before, or the one of now, from each start on."""

    is_new = True

    def make_store(self):
        kind = FileStore if self.is_new else FileStoreBefore
        return kind(self.certificate, self.key, self.system, platform="linux")

    def start_component(self):
        rotator.Actions = Actions if self.is_new else ActionsBefore
        try:
            super().start_component()
        finally:
            rotator.Actions = Actions
