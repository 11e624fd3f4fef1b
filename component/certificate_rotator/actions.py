"""The effect of each action of the table on journal, store and cloud.

An action returns DONE, UNNOTICED, FAILED or nothing; if it raises RotationError or ProtocolError,
the rotator takes that for FAILED with the error's text. The journal always knows about a step before
the step touches anything. A message that cannot be published is not an error: it will be sent again.
"""

# ruff: noqa: ARG002  # every action takes the cause, whether it needs it or not

from __future__ import annotations

import contextlib
import dataclasses
import logging
from typing import Callable, Optional

from protocol import topics
from protocol.algorithms import KeyType
from protocol.errors import ProtocolError
from protocol.messages import GET_NEXT, CommitRequest, CreateRequest, Execution, ExecutionStatus, encode_update
from protocol.names import CHECK_DETAILS_KEY, STATUS_DETAILS_KEY

from . import certificates
from .configuration import Configuration
from .errors import ConfigurationError, JournalError, RotationError
from .fitness import Fitness
from .journal import UNNOTED, Journal, JournalRecord, Step
from .machine import Event
from .ports import Messages, MessagesError, Restarter, RestartError, WallClock
from .stock import StockBackup, take_up
from .store import CredentialStore, Extent, Generation

log = logging.getLogger(__name__)

START_SECONDS = 1.0
"""The least time that a start counts for: a component that dies over and over again must come to an end with it."""

NO_REASON = "the rotation ended without a known reason; see the component's log"
_UNNOTED_WAY_BACK = (
    "the device stopped while it went back to its old credential, and its disk had not taken the reason: rolled back; "
    "free or repair the disk"
)


_STEPS = {
    Extent.NO_KEY: Step.PREPARING,
    Extent.KEY: Step.CREATING,
    Extent.TORN: Step.INSTALLING,
    Extent.WHOLE: Step.CONNECTING,
}


@dataclasses.dataclass(frozen=True)
class Cause:
    """The cause of an action: the execution or certificate that came with it, or the reason for giving up."""

    reason: str = ""
    execution: Optional[Execution] = None
    certificate_pem: str = ""
    names_job: bool = True  # whether the backend's answer did


class Actions:
    """One method per machine.Action, named after its value; ``record`` is the rotation at hand."""

    def __init__(
        self,
        *,
        thing_name: str,
        configuration: Callable[[], Configuration],
        store: CredentialStore,
        journal: Journal,
        messages: Messages,
        restarter: Restarter,
        clock: WallClock,
        preflight: Callable[[KeyType, str], None],
        stock: Optional[StockBackup],
    ) -> None:
        self.record: Optional[JournalRecord] = None
        self.kept: Optional[JournalRecord] = None  # with no rotation at hand: what is still kept from the last one
        self.client_token = ""
        self.sent: Optional[bool] = None  # whether the action's message got out; None: it has none
        self._thing_name = thing_name
        self._fitness = Fitness(configuration, store, preflight)
        self._store = store
        self._journal = journal
        self._stock = stock
        self._messages = messages
        self._restarter = restarter
        self._clock = clock
        self.run_of_commit = ""  # the nucleus', in which the last commit got out at a later start
        self._request: Optional[str] = None

    @property
    def configuration(self) -> Configuration:
        """The configuration as it was read last."""
        return self._fitness.configuration

    def caveat(self) -> str:
        """Return what is known against the key type of the rotation at hand, in this store."""
        key_type = self.record.key_type if self.record else None
        return self._store.caveat(key_type) if key_type else ""

    def load(self) -> Optional[JournalRecord]:
        """Take up configuration and journal (None: no rotation); a wrong configuration is the next job's failure."""
        try:
            self._fitness.read_configuration()
        except ConfigurationError as error:
            log.warning("%s", error)
        record, self.kept = take_up(self._journal, self._store, self._stock), None
        if record is not None and record.kept is not None and record.step is Step.PREPARING:
            self._settle(record)
            record = record.without_rotation()
        if record is not None and record.step is Step.INSTALLING:
            record = record.with_(step=_STEPS[self._store.extent(is_durable=self._journal.is_marked)])
        if record is not None and record.has_new_in_place and self._store.is_back():
            record = record.exchanged(_UNNOTED_WAY_BACK)
        self.record = record
        return record

    def attribute(self, execution: Execution) -> None:
        """Note the job in progress for a rotation whose job is unknown."""
        record = self.record
        if record is not None and record.job_id == UNNOTED and execution.status is ExecutionStatus.IN_PROGRESS:
            self.record = record.with_(job_id=execution.job_id)

    @property
    def remembered(self) -> Optional[JournalRecord]:
        """The rotation at hand, or what is kept from the last one."""
        return self.record or self.kept

    def new_public_key(self) -> bytes:
        """Return the SubjectPublicKeyInfo (DER) of the key that waits for a certificate."""
        return self._store.new_public_key()

    def check(self, execution: Execution) -> None:
        """Report to a job what a rotation by its document would fail on; nothing is changed."""
        reason = self._fitness.complaint(execution.job_document)
        log.info("job %s: a rotation would %s", execution.job_id, f"fail: {reason}" if reason else "begin")
        outcome = ExecutionStatus.FAILED if reason else ExecutionStatus.SUCCEEDED
        self._tell(execution.job_id, outcome, "checked", reason, mark=CHECK_DETAILS_KEY)

    # The actions ---------------------------------------------------------------------------------

    def rest(self, cause: Cause) -> None:
        """Do nothing; the reason was logged with the transition."""

    def ask(self, cause: Cause) -> None:
        """Ask for the next job; any answer also proves the connection."""
        self._publish(topics.jobs_get_next(self._thing_name), GET_NEXT)

    def prepare(self, cause: Cause) -> None:
        """Write the job to the journal, claim it, then make the new key; raises RotationError without an execution."""
        execution = cause.execution
        if execution is None:
            raise RotationError("a job was announced without its execution")
        self._request = None
        kept, self.kept = self.kept, None
        committed = kept.with_(committed=kept.job_to_commit) if kept else JournalRecord(Step.REPORTING)
        step = Step.PREPARING if kept else Step.INSTALLING
        self.record = committed.during(step, execution.job_id).with_(attempt=execution.execution_number)
        key_type, algorithm = self._fitness.of(execution.job_document)
        notes = self._store.begin(kept.notes if kept else None)
        self._save(self.record.with_(key_type=key_type, signing_algorithm=algorithm, notes=notes))
        self.claim(cause)
        self._store.prepare(key_type)
        self._request = self._store.request(algorithm)

    def claim(self, cause: Cause) -> None:
        """Report IN_PROGRESS."""
        self._update(ExecutionStatus.IN_PROGRESS, "making a new key and asking for a certificate")

    def create(self, cause: Cause) -> None:
        """Ask for a certificate, after a restart over the same key; raises RotationError if the journal has no job."""
        record = self._known()
        if record.step is Step.PREPARING:
            self._save(record.with_(step=Step.CREATING))
        if record.signing_algorithm is None or record.job_id is None:
            raise RotationError("the journal does not show which certificate to ask for")
        if self._request is None:
            self._request = self._store.request(record.signing_algorithm)
        in_place = certificates.identity(self._store.current_certificate())
        self._publish(topics.create(self._thing_name), CreateRequest(record.job_id, self._request, in_place).encode())

    def install(self, cause: Cause) -> Event:
        """Put the certificate and its key in place of the old pair; raises RotationError unless it was asked for."""
        record = self._known()
        if record.key_type is None:
            raise RotationError("the journal does not show which key type the job demands")
        certificates.check(
            cause.certificate_pem,
            public_key=self._store.new_public_key(),
            current_pem=self._store.current_certificate(),
            key_type=record.key_type,
            now=self._clock.now(),
        )
        if record.kept is not None:  # issued to the sole certificate of the device: the connection's
            self._save(record.with_(kept=None, committed=None, swaps=0, succeeded=False))
        notes = self._store.release()
        self.record = self._known().with_(step=Step.INSTALLING, notes=notes, repeats=cause.names_job)
        if self.record != self._journal.record:
            self._save(self.record)
        self._store.install(cause.certificate_pem)
        self._journal.mark()
        self.record = self.record.with_(step=Step.CONNECTING, awake=0.0)
        return Event.DONE

    def restart(self, cause: Cause) -> Event:
        """Have the nucleus connect anew; a rotator that is still there starts over. Raises RotationError."""
        try:
            self._restarter.restart()
        except RestartError as error:
            raise RotationError(f"the nucleus could not be restarted: {error}") from error
        return Event.DONE

    def reconnect(self, cause: Cause) -> None:
        """Count this start if it is not the first, and ask for the next job as a sign of life over the new connection.

        The mark, which the installation has left, shows the first one.
        """
        if not self._journal.is_marked:
            self.count_awake(START_SECONDS)
        self.ask(cause)

    def count_awake(self, seconds: float) -> None:
        """Add to the time, in seconds, that the credential in place was tried; no clock is read: it may jump."""
        record = self._known()
        self._save_if_possible(record.with_(awake=record.awake + seconds))

    def commit(self, cause: Cause) -> None:
        """Send the commit to the backend over the new connection; raises RotationError if the journal names no job.

        Whatever the backend answers, and even without an answer, this commit may count: the old certificate may go at
        any later time. So from now on a return to the old credential keeps the new one too.
        """
        record = self._known()
        job_id = record.job_to_commit
        if not job_id:
            raise RotationError("the journal does not show which job to commit")
        if record.step is not Step.REPORTING:  # at a later start it says when it was committed first
            kept = record.with_(kept=Generation.NEW, committed=job_id, run=self._restarter.nucleus_run())
            if record != kept:
                self._save(kept)
        run = self._restarter.nucleus_run() if record.step is Step.REPORTING else ""
        self._publish(topics.commit(self._thing_name), CommitRequest(job_id).encode())
        self.run_of_commit = run if self.sent else ""

    def conclude(self, cause: Cause) -> Optional[Event]:
        """Note that the backend has seen the new credential; keep both until a later start. None as in ``report``."""
        self._committed()
        return self.report(cause)

    def keep(self, cause: Cause) -> None:
        """End a rotation without an accepted commit: the cloud knows of its end, or has ended it itself."""
        swaps = self._known().swaps
        self._committed()
        self.record = self._known().with_(swaps=swaps)
        self.forget(cause)

    def confirm(self, cause: Cause) -> Optional[Event]:
        """Note that the backend has heard of the new credential at a later start too; None as in ``report``."""
        if self._known().job_id == self._known().job_to_commit:
            self._committed()
        self.record = self._proven().with_(step=Step.REPORTING)
        return self.report(cause)

    def fail(self, cause: Cause) -> Optional[Event]:
        """Keep what is in place, and give the job the first reason that was found; None as in ``report``."""
        record = self._known()
        reason = record.reason or cause.reason or NO_REASON
        self.record = record.with_(step=Step.REPORTING, outcome=ExecutionStatus.FAILED, reason=reason)
        return self.report(cause)

    def report(self, cause: Cause) -> Optional[Event]:
        """Remove what is not kept, then report the outcome to the cloud; success only once the journal holds it.

        Returns DONE if there is no job to report to; None if the answer is awaited.
        """
        record = self._known()
        if record.kept is not None:
            record = self.record = record.without_rotation()
        if record.outcome is ExecutionStatus.SUCCEEDED:
            self._save(record)
        else:
            self._save_if_possible(record)
        self._settle(record)
        outcome = record.outcome or ExecutionStatus.FAILED
        progress = "committed" if outcome is ExecutionStatus.SUCCEEDED else "rolled back"
        self._update(outcome, progress, record.reason)
        if record.job_id == UNNOTED:
            self.ask(cause)  # which one it is
        return Event.DONE if record.job_id is None else None

    def undo(self, cause: Cause) -> Event:
        """Put the old credential in place, although the nucleus may hold the new one."""
        self._undone(cause)
        return self.switch(cause)

    def undo_live(self, cause: Cause) -> Event:
        """Put the old credential in place, which the nucleus still holds."""
        self._undone(cause)
        placed = self._store.switch(Generation.OLD)
        return Event.UNNOTICED if placed is Generation.OLD else self._placed(placed)

    def swap(self, cause: Cause) -> Event:
        """Give the other credential a try, and more time than this one had."""
        record, self.kept = self.kept or self._known(), None
        self._turn(record.exchanged(cause.reason))
        return self.switch(cause)

    def switch(self, cause: Cause) -> Event:
        """Put the target in place, and note where the next start finds itself."""
        record = self._known()
        if record.target is Generation.NEW and record != self._journal.record:
            self._save(record)
        return self._placed(self._store.switch(record.target))

    def note(self, cause: Cause) -> None:
        """End the rotation; if its job is the committed one, note that it has SUCCEEDED."""
        record = self._known()
        is_its = record.job_id and record.job_id == record.job_to_commit
        if record.kept is not None and record.outcome is ExecutionStatus.SUCCEEDED and is_its:
            self.record = record.with_(succeeded=True)
            with contextlib.suppress(JournalError):  # both stay until a start whose journal can be written
                proven = self._proven()
                self._save(proven, durable=proven.kept is None)
        self.forget(cause)

    def forget(self, cause: Cause) -> None:
        """End the rotation, whatever its outcome, and ask for the next job."""
        self.drop(cause)
        self.ask(cause)

    def drop(self, cause: Cause) -> None:
        """End the rotation; what a failing disk cannot remove now is removed at the next start or rotation."""
        record = self._known()
        if record.kept is not None:
            self._settle(record)
            self.kept = record.without_rotation()
            if self._journal.record != self.kept:
                self._save_if_possible(self.kept)
        elif self._settle(record):
            try:
                self._journal.clear()
            except JournalError as error:
                log.warning("%s", error)
        self.record = None
        self._request = None

    def replace(self, cause: Cause) -> None:
        """End this attempt and begin the next one: the job is queued again."""
        self.drop(cause)
        self.prepare(cause)

    # Helpers -------------------------------------------------------------------------------------

    def _known(self) -> JournalRecord:
        if self.record is None:
            message = "no rotation is at hand"  # a bug: the table reached this action without one
            raise RuntimeError(message)
        return self.record

    def _committed(self) -> None:
        self.record = self._known().with_(
            step=Step.REPORTING, outcome=ExecutionStatus.SUCCEEDED, reason=None, kept=Generation.NEW, swaps=0, awake=0.0
        )

    def _proven(self) -> JournalRecord:
        """Return the record after the new credential has connected again: in another run of the nucleus it alone stays.

        Both are kept until the job has SUCCEEDED: until then, whoever ends the execution as FAILED may have the new
        certificate removed, if the backend has heard of neither commit. No client can change the end of an execution. A
        component that was started alone speaks over the nucleus' former connection, which proves nothing. If the run of
        the nucleus is not known, both stay until a start at which it is, or until the next rotation installs.
        """
        record, run = self._known(), self.run_of_commit
        if record.succeeded and run and record.run and run != record.run:
            return record.with_(kept=None)
        return record.with_(run=record.run or run, swaps=0)

    def _undone(self, cause: Cause) -> None:
        record = self._known()
        reason = record.reason or cause.reason or None
        self._turn(record.with_(step=Step.SWITCHING, target=Generation.OLD, reason=reason))

    def _turn(self, record: JournalRecord) -> None:
        self.record = record
        if record.target is Generation.OLD:  # every start leads back to it too: better unnoted than not done
            self._save_if_possible(record)

    def _placed(self, generation: Generation) -> Event:
        record = self._known()
        is_over = record.kept is not None and (record.job_id is None or record.outcome is not None)
        back = Step.REPORTING if is_over else Step.RETRYING
        following = Step.RECONNECTING if generation is Generation.OLD else back
        kept = generation if record.kept is not None else None
        self._save(record.with_(step=following, awake=0.0, kept=kept))
        return Event.DONE

    def _save(self, record: JournalRecord, *, durable: bool = True) -> None:
        self._journal.save(record, durable=durable)
        self.record = record

    def _save_if_possible(self, record: JournalRecord) -> None:
        self.record = record
        try:
            self._journal.save(record)
        except JournalError as error:
            log.warning("%s", error)

    def _settle(self, record: JournalRecord) -> bool:
        try:
            if record.kept is None:
                self._store.settle()
            else:
                self._store.abandon()
        except RotationError as error:
            log.warning("%s", error)
            return False
        except Exception:  # of any library: what is left over must not keep the outcome from the cloud
            log.exception("what the rotation left over could not be removed")
            return False
        return True

    def _update(self, status: ExecutionStatus, progress: str, reason: Optional[str] = None) -> None:
        record = self._known()
        if record.job_id:
            self._tell(record.job_id, status, progress, reason, attempt=record.attempt)

    def _tell(
        self,
        job_id: str,
        status: ExecutionStatus,
        progress: str,
        reason: Optional[str],
        *,
        mark: str = STATUS_DETAILS_KEY,
        attempt: Optional[int] = None,
    ) -> None:
        self.client_token = token_of(status.value)
        topic = topics.jobs_update(self._thing_name, job_id)
        self._publish(topic, encode_update(status, progress, reason, self.client_token, mark=mark, attempt=attempt))

    def _publish(self, topic: str, payload: bytes) -> None:
        try:
            self._messages.publish(topic, payload)
            self.sent = True
        except (MessagesError, ProtocolError) as error:
            self.sent = False
            log.info("not sent to %s: %s", topic, error)


def token_of(status: str) -> str:
    """Return the client token of a report of this status."""
    return f"certfleet-{status.lower()}"
