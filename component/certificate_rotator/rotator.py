"""The rotator: takes messages and timers as events, and turns events into actions by the table.

Everything here happens on the loop, one event at a time.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import zlib
from typing import Callable, Dict, List, Optional, Tuple

from protocol.algorithms import KeyType
from protocol.errors import ProtocolError

from .actions import Actions, Cause
from .configuration import Configuration
from .errors import RotationError
from .incoming import Decoder, Incoming
from .journal import Journal
from .machine import AWAITS_ANSWER, ON_TRIAL, PATIENT, TABLE, UNDER_WAY, Action, Event, State, is_watched, resume_state
from .ports import Loop, Messages, MessagesError, Restarter, Timer, WallClock
from .reasons import reason
from .stock import StockBackup
from .store import CredentialStore, Generation

log = logging.getLogger(__name__)

MAX_PATIENCE = 300.0  # seconds between repeats at most, however long a device is offline
UNREADABLE_RETRY = 30.0  # seconds until a journal or store that cannot be read is tried again
OFFLINE_RETRY = 0.25  # seconds until a message that could not be sent is tried again; doubles
IDLE_SECONDS = (180.0, 270.0)  # until an idle device asks whether an announcement has passed it by
AWAKE_SECONDS = 30.0  # after which the time that a credential was given is noted in the journal, less and less often
KEEPING_PATIENCE = 30.0  # times the reconnect limit for a credential that has connected once and was committed
DEFERRAL_SECONDS = 5.0  # that a deployment waits for a rotation until it asks again
MAX_RECONNECT_LIMIT = 6 * 3600.0  # seconds that either credential is given at most


class Rotator:
    """Rotates one device's credential; see the package's docstring for how to run one."""

    def __init__(
        self,
        *,
        thing_name: str,
        configuration: Callable[[], Configuration],
        store: CredentialStore,
        journal: Journal,
        messages: Messages,
        restarter: Restarter,
        loop: Loop,
        clock: WallClock,
        preflight: Callable[[KeyType, str], None] = lambda _wanted, _in_place: None,
        stock: Optional[StockBackup] = None,
    ) -> None:
        """``preflight(key type wanted, key type in place)`` raises RotationError if this device is not fit for it.

        ``stock``: where a stock component would have left a rotation.
        """
        self._thing_name = thing_name
        self._messages = messages
        self._restarter = restarter
        self._loop = loop
        self._actions = Actions(
            thing_name=thing_name,
            configuration=configuration,
            store=store,
            journal=journal,
            messages=messages,
            restarter=restarter,
            clock=clock,
            preflight=preflight,
            stock=stock,
        )
        self._incoming = Incoming(thing_name, self._actions, lambda: self._state)
        self._state = State.ASKING
        self._timers: Dict[Event, Timer] = {}
        self._sent = 0  # times that the message of this state went out
        self._creates = 0  # times that a create got out in this state
        self._waited = 0.0  # seconds for the answer to it; infinite once it cannot be heard any more
        self._offline = 0  # times in a row that no message could be sent
        self._stopped = False
        self._tries = 0  # to subscribe, in vain
        self._is_unheard = False  # whether something got out in this state, and no answer has come yet
        self._is_routine = False  # whether it has only asked, as an idle device does, since it was idle last
        self._put_off: Dict[str, float] = {}  # seconds so far, for the latest deployment
        self._unsubscribed: List[Tuple[str, Decoder]] = []

    @property
    def state(self) -> State:
        """Where the device stands."""
        return self._state

    def start(self) -> None:
        """Begin, or carry on by the journal; returns at once."""
        self._loop.call_soon(self._start)

    def resubscribe(self) -> None:
        """Subscribe to everything anew, because subscriptions are lost, or may be; called on the loop."""
        self._is_unheard = False
        idle = not self._unsubscribed
        self._unsubscribed = self._incoming.subscriptions()
        self._tries += 1
        if idle:
            self._subscribe()

    def deferral(self, deployment: str) -> float:
        """Return for how many seconds a ``deployment`` shall wait before it asks again; 0: it may go on.

        Called on the loop. A deployment that replaces this component in the middle of a rotation may leave the rotation
        to a component that does not know it. A deployment waits no longer than one rotation's time limits together
        allow.
        """
        limits = self._actions.configuration
        most = 3 * limits.step_time_limit + 2 * limits.reconnect_limit
        before = self._put_off.get(deployment, 0.0)
        if self._state not in UNDER_WAY or before >= most:
            return 0.0
        self._put_off = {deployment: before + DEFERRAL_SECONDS}
        return DEFERRAL_SECONDS

    def stop(self) -> None:
        """React to nothing any more; what is on disk stays as it is."""
        self._stopped = True
        self._cancel(Event.RESEND, Event.TIME_LIMIT)

    # Start and subscriptions ---------------------------------------------------------------------

    def _start(self) -> None:
        if self._stopped:
            return
        self._unsubscribed = self._incoming.subscriptions()
        self._subscribe()
        self._resume()

    def _resume(self) -> None:
        if self._stopped:
            return
        try:
            record = self._actions.load()
        except RotationError as error:  # a disk or token that may come back
            log.error("cannot start yet: %s", error)  # noqa: TRY400  # a sentence for a person
            self._loop.call_later(UNREADABLE_RETRY, self._resume)
            return
        self._enter(resume_state(record))
        self._dispatch(Event.START)

    def _subscribe(self) -> None:
        """Subscribe to what is missing, until it is done; only then is anything asked."""
        while self._unsubscribed and not self._stopped:
            topic_filter, decoder = self._unsubscribed[0]
            try:
                self._messages.subscribe(topic_filter, functools.partial(self._receive, decoder))
            except MessagesError as error:
                log.info("not subscribed to %s yet: %s", topic_filter, error)
                self._loop.call_later(min(OFFLINE_RETRY * 2.0**self._tries, MAX_PATIENCE), self._subscribe)
                self._tries = min(self._tries + 1, 16)
                return
            self._unsubscribed.pop(0)
        if self._tries and not self._stopped:
            self._tries, self._waited = 0, math.inf
            self._dispatch(Event.RESEND)  # what was asked meanwhile, nobody has heard the answer to

    # Messages → events → actions -----------------------------------------------------------------

    def _receive(self, decoder: Decoder, topic: str, payload: bytes) -> None:
        self._loop.call_soon(lambda: self._read(decoder, topic, payload))

    def _read(self, decoder: Decoder, topic: str, payload: bytes) -> None:
        if self._stopped:
            return
        self._is_unheard = False
        found = self._incoming.read(decoder, topic, payload)
        if found is not None:
            self._dispatch(*found)

    def _dispatch(self, event: Event, cause: Optional[Cause] = None) -> None:
        """Take one event, and those that its action raises."""
        cause = cause or Cause()
        pending: Optional[Event] = event
        while pending is not None and not self._stopped:
            row = TABLE.get((self._state, pending))
            if row is None:
                self._log_ignored(pending, cause)
                return
            # A certificate or job that comes with the event is passed on as it is; for the rest, its reason.
            cause = dataclasses.replace(cause, reason=self._reason(pending, cause))
            self._log(row.state, pending, row.next, cause)
            self._enter(row.next)
            if pending is Event.RESEND and self._is_deaf():
                log.warning("no answer is heard, though messages get out: subscribing to everything anew")
                self.resubscribe()  # which sends again
                return
            # Instead of what must not be repeated: a question that harms nobody, and shows whether answers are heard.
            is_harmful = pending is Event.RESEND and not self._may_repeat()
            pending, cause = self._run(Action.ASK if is_harmful else row.action, cause)
            if pending is Event.DONE and self._state in (State.RESTARTING, State.RETURNING):
                if self._restarter.outlived:
                    self._loop.call_soon(self._outlive)
                return

    def _is_deaf(self) -> bool:
        """Return whether an answer is overdue: any at all, or a certificate, for which an authority may take longer."""
        half = self._actions.configuration.step_time_limit / 2
        return self._is_unheard or (self._creates == 1 and half <= self._waited < math.inf)

    def _may_repeat(self) -> bool:
        """Return whether the backend takes the message of this state once more.

        Stock backends issue another certificate for each create, and refuse a second commit. The answer to create shows
        which backend it is. Until it comes, create is repeated only once, after the device has subscribed anew.
        """
        if self._state is State.COMMITTING:
            record = self._actions.record
            return record is not None and record.repeats
        return (
            self._state is not State.CREATING or self._creates == 0 or (self._creates == 1 and self._waited == math.inf)
        )

    def _outlive(self) -> None:
        """Subscribe anew: the connection is another one, and knows nothing of the subscriptions before it."""
        if not self._stopped:
            self.resubscribe()
            self._resume()

    def _reason(self, event: Event, cause: Cause) -> str:
        refused = "; the device was off line" if self._offline else self._incoming.refused
        detail = cause.reason or (refused if event is Event.TIME_LIMIT else "")
        if self._state is State.CONNECTING and (caveat := self._actions.caveat()):
            detail += f"; {caveat}"
        return reason(self._state, event, detail)

    def _run(self, action: Action, cause: Cause) -> Tuple[Optional[Event], Cause]:
        self._actions.sent = None
        try:
            raised: Optional[Event] = getattr(self._actions, action.value)(cause)
        except (RotationError, ProtocolError) as error:
            return Event.FAILED, Cause(str(error), cause.execution)
        except Exception as error:  # of any library: the job fails, the process does not
            log.exception("%s failed", action.value)
            return Event.FAILED, Cause(f"{action.value} failed: {type(error).__name__}: {error}", cause.execution)
        self._follow_up(action, sent=self._actions.sent)
        return raised, cause

    def _follow_up(self, action: Action, *, sent: Optional[bool]) -> None:
        if not is_watched(self._state, self._actions.remembered):  # any more: the action has ended the doubt
            self._cancel(Event.TIME_LIMIT)
        if sent and action is Action.CREATE:
            self._creates += 1
        elif sent and (action is not Action.COMMIT or self._may_repeat()):  # what is sent once may be answered late
            self._is_unheard = True
        self._offline = self._offline + 1 if sent is False else 0
        if sent is False and self._state in AWAITS_ANSWER:
            self._set(Event.RESEND, min(OFFLINE_RETRY * 2.0 ** min(self._offline, 16), MAX_PATIENCE))

    def _enter(self, state: State) -> None:
        if state is not self._state:
            self._cancel(Event.TIME_LIMIT)
            self._sent, self._creates, self._waited, self._is_unheard = 0, 0, 0.0, False
            self._incoming.refused = ""
        self._state = state
        self._cancel(Event.RESEND)
        if state in AWAITS_ANSWER:
            self._set(Event.RESEND, self._resend_interval())
            self._sent += 1
        if is_watched(state, self._actions.remembered) and Event.TIME_LIMIT not in self._timers:
            self._set(Event.TIME_LIMIT, self._time_limit())
            if state in ON_TRIAL:
                self._count_awake()

    # Timers --------------------------------------------------------------------------------------

    def _resend_interval(self) -> float:
        if self._state is State.IDLE:
            least, most = IDLE_SECONDS
            return least + (most - least) * _share_of(self._thing_name)  # a fleet that starts at once does not ask so
        interval = self._actions.configuration.resend_interval
        return min(interval * 2.0 ** min(self._sent, 16), MAX_PATIENCE) if self._state in PATIENT else interval

    def _time_limit(self) -> float:
        if self._state in (State.PREPARING, State.CREATING, State.COMMITTING):
            return self._actions.configuration.step_time_limit
        record = self._actions.remembered
        patience = 2.0 ** min(record.swaps, 16) if record and self._state in PATIENT else 1.0
        is_committed = record is not None and record.kept is Generation.NEW and record.swaps == 0
        if is_committed and self._state in (State.KEEPING, State.RESUMING, State.RETRYING):
            # Not for one that is back only because the other one fell silent. RETRYING comes after KEEPING then.
            patience = KEEPING_PATIENCE + (self._state is State.RETRYING)
        limit = min(self._actions.configuration.reconnect_limit * patience, MAX_RECONNECT_LIMIT)
        return max(limit - record.awake, 0.0) if record and self._state in ON_TRIAL else limit

    def _set(self, event: Event, seconds: float) -> None:
        def due() -> None:
            self._timers.pop(event, None)
            self._waited += seconds if event is Event.RESEND and self._creates else 0.0
            if not self._stopped:
                self._dispatch(event)

        self._cancel(event)
        self._timers[event] = self._loop.call_later(seconds, due)

    def _count_awake(self) -> None:
        """Note every now and then how long the credential in place has been on trial."""
        limit, record = self._timers.get(Event.TIME_LIMIT), self._actions.record
        seconds = max(AWAKE_SECONDS, record.awake / 4 if record else 0.0)  # a disk is not worn by waiting

        def due() -> None:
            if self._timers.get(Event.TIME_LIMIT) is limit and not self._stopped:
                self._actions.count_awake(seconds)
                self._count_awake()

        self._loop.call_later(seconds, due)

    def _cancel(self, *events: Event) -> None:
        for event in events:
            timer = self._timers.pop(event, None)
            if timer is not None:
                timer.cancel()

    def _log_ignored(self, event: Event, cause: Cause) -> None:
        if event is Event.FAILED:  # it stays to be done, and is done with the next repeat or at the next start
            log.warning("while %s: %s", self._state.value, cause.reason)
        else:
            log.debug("%s ignored while %s", event.value, self._state.value)

    def _log(self, state: State, event: Event, following: State, cause: Cause) -> None:
        record = self._actions.record
        job = cause.execution.job_id if cause.execution else record.job_id if record else None
        is_idle = (state, event) == (State.IDLE, Event.RESEND)
        self._is_routine = is_idle or (self._is_routine and event in (Event.RESEND, Event.NOT_OURS))
        level = logging.INFO if state is not following and not self._is_routine else logging.DEBUG
        gives_up = event not in (Event.START, Event.RESEND) and cause.reason
        log.log(level, "job %s: %s → %s on %s%s", job or "-", state.value, following.value, event.value,
                f": {cause.reason}" if gives_up else "")  # fmt: skip


def _share_of(thing_name: str) -> float:
    """Return a number from 0 to 1 that is always the same for one device."""
    return zlib.crc32(thing_name.encode()) / 2**32
