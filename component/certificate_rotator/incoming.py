"""Messages from the cloud, as events: each message is read, and narrowed down to the job and the step at hand.

A message for another job or another step becomes no event. A malformed one becomes none either, and is remembered: if
the step ends in vain, its reason names it.
"""

from __future__ import annotations

import functools
import logging
from typing import Callable, List, Optional, Tuple

from protocol import topics
from protocol.errors import ProtocolError
from protocol.job_document import is_check, is_rotation
from protocol.messages import (
    CommitAccepted,
    CreateAccepted,
    Execution,
    ExecutionStatus,
    Rejected,
    decode_execution,
    decode_jobs_answer,
)

from . import certificates
from .actions import Actions, Cause, token_of
from .machine import Event, State

log = logging.getLogger(__name__)

Decoder = Callable[[bytes], Optional[Tuple[Event, Cause]]]

# jobs API codes that say nothing about the execution: the message is simply sent again
_TRANSIENT = frozenset({"RequestThrottled", "InternalError", "InvalidRequest"})


class Incoming:
    """Reads the messages of one device; ``actions`` know the rotation at hand, ``state`` shows where it stands."""

    def __init__(self, thing_name: str, actions: Actions, state: Callable[[], State]) -> None:
        self._thing_name = thing_name
        self._actions = actions
        self._state = state
        self.refused = ""  # what came in this state and was not acted on

    def subscriptions(self) -> List[Tuple[str, Decoder]]:
        """Return every filter to subscribe to, each with the decoder of its messages."""
        thing = self._thing_name
        create, commit = topics.create(thing), topics.commit(thing)
        return [
            (topics.jobs_notify_next(thing), self._notified),
            (topics.jobs_get_outcome(thing, topics.ACCEPTED), self._got),
            (topics.jobs_get_outcome(thing, topics.REJECTED), self._get_refused),
            (topics.jobs_update_outcome(thing, "+", topics.ACCEPTED), self._updated),
            (topics.jobs_update_outcome(thing, "+", topics.REJECTED), self._updated),
            (topics.outcome(create, topics.ACCEPTED), self._created),
            (
                topics.outcome(create, topics.REJECTED),
                functools.partial(self._refused_by_backend, Event.CREATE_REJECTED),
            ),
            (topics.outcome(commit, topics.ACCEPTED), self._committed),
            (
                topics.outcome(commit, topics.REJECTED),
                functools.partial(self._refused_by_backend, Event.COMMIT_REJECTED),
            ),
        ]

    def read(self, decoder: Decoder, topic: str, payload: bytes) -> Optional[Tuple[Event, Cause]]:
        """Return the event that a message stands for, with its cause; None if it stands for none."""
        try:
            if decoder == self._updated and not self._is_about_us(topic):
                return None
            return decoder(payload)
        except ProtocolError as error:
            log.warning("ignored a malformed message on %s: %s", topic, error)
            self.refused = f" (a malformed message came on {topic}: {error})"
            return None
        except Exception as error:  # of any library: one message must not end the process
            log.exception("ignored a message on %s that could not be read", topic)
            self.refused = f" (a message on {topic} could not be read: {type(error).__name__})"
            return None

    def _is_about_us(self, topic: str) -> bool:
        record = self._actions.record
        if record is None or record.job_id is None:
            return False
        update = topics.jobs_update(self._thing_name, record.job_id)
        return topic in (f"{update}/{topics.ACCEPTED}", f"{update}/{topics.REJECTED}")

    def _notified(self, payload: bytes) -> Optional[Tuple[Event, Cause]]:
        execution = decode_execution(payload)
        if execution is None or not self._is_rotation(execution) or execution.status is not ExecutionStatus.QUEUED:
            return None
        return Event.NOTIFIED, Cause(execution=execution)

    def _got(self, payload: bytes) -> Optional[Tuple[Event, Cause]]:
        execution = decode_execution(payload)
        if execution is None or not self._is_rotation(execution):
            return Event.NOT_OURS, Cause()
        self._actions.attribute(execution)
        record = self._actions.record
        if record is not None and execution.job_id != record.job_id:
            return Event.NOT_OURS, Cause()
        event = Event.QUEUED if execution.status is ExecutionStatus.QUEUED else Event.IN_PROGRESS
        return event, Cause(execution=execution)

    def _get_refused(self, payload: bytes) -> Tuple[Event, Cause]:
        code = decode_jobs_answer(payload).code
        self.refused = f"; AWS IoT Jobs refused to answer ({code}): rotate fewer devices at once"
        return Event.GET_REJECTED, Cause()

    def _is_rotation(self, execution: Execution) -> bool:
        """Return whether the job asks for a rotation; answer a check.

        A check is answered at once if no rotation is at hand, and else when its job is announced again.
        """
        if is_rotation(execution.job_document):
            return True
        if not is_check(execution.job_document):
            log.info("job %s is not a rotation: this component leaves it alone", execution.job_id)
        elif self._state() in (State.ASKING, State.IDLE):
            self._actions.check(execution)
        return False

    def _updated(self, payload: bytes) -> Optional[Tuple[Event, Cause]]:
        answer = decode_jobs_answer(payload)
        if answer.client_token not in (None, self._actions.client_token) or answer.code in _TRANSIENT:
            return None
        is_so = answer.code is None or (answer.status and token_of(answer.status) == self._actions.client_token)
        return (Event.UPDATE_ACCEPTED if is_so else Event.UPDATE_REJECTED), Cause()

    def _created(self, payload: bytes) -> Optional[Tuple[Event, Cause]]:
        accepted = CreateAccepted.decode(payload)
        pem = accepted.certificate_pem
        if self._state() is not State.CREATING or self._is_of_another_job(accepted.job_id):
            return None
        try:
            foreign = certificates.public_key_der(certificates.load(pem.encode())) != self._actions.new_public_key()
        except Exception:  # noqa: BLE001  # of any library: installing meets the same, and says what is wrong
            foreign = False
        if foreign:
            log.warning("refused a certificate for another key than the new one")
            self.refused = " (one for another key came and was refused)"
            return None
        return Event.CREATE_ACCEPTED, Cause(certificate_pem=pem, names_job=accepted.job_id is not None)

    def _committed(self, payload: bytes) -> Optional[Tuple[Event, Cause]]:
        if self._is_of_another_job(CommitAccepted.decode(payload).job_id, is_commit=True):
            return None
        return Event.COMMIT_ACCEPTED, Cause()

    def _refused_by_backend(self, event: Event, payload: bytes) -> Optional[Tuple[Event, Cause]]:
        rejected = Rejected.decode(payload)
        is_commit = event is Event.COMMIT_REJECTED
        if self._is_of_another_job(rejected.job_id, is_commit=is_commit):
            return None
        record = self._actions.record
        if is_commit and self._state() is State.KEEPING and record is not None and not record.repeats:
            return Event.COMMIT_ACCEPTED, Cause()  # stock backends take a commit once; that one answers has to do
        code = f" ({rejected.code})" if rejected.code else ""
        return event, Cause(reason=rejected.error_message + code)

    def _is_of_another_job(self, job_id: Optional[str], *, is_commit: bool = False) -> bool:
        """Return whether an answer is a late one to an earlier rotation; False if it names no job (stock backends)."""
        record = self._actions.record
        if job_id is None or record is None:
            return False
        return job_id != (record.job_to_commit if is_commit else record.job_id)
