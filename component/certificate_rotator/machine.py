"""The rotation as one table: (state, event) → (action, next state).

Read it downwards as the life of one rotation. Every pair is either a row or listed under ``IGNORED``, so nothing is
ignored by accident. An action may raise DONE, UNNOTICED or FAILED, which the next state then takes. RESTARTING and
RETURNING end with the process; the journal decides in which state the next process begins (and a rotator that outlives
the restart, on nucleus lite).

The rule behind it: both credentials are kept until one of two things is proven. Either AWS IoT Jobs has taken
SUCCEEDED, and a commit is answered over the new credential's connection in a later run of the nucleus than the one that
committed first. Or an old credential that was never committed away has connected again. Until then, a credential that
does not connect is replaced by the other one, with doubled patience each time, and one that comes back so must be
committed in two runs anew. No message and no single connection lets go of either: the cloud's decision may still be on
its way, and an answer may be forged. Nobody can forge that the device sends its commit again; and an execution that has
SUCCEEDED is never reported as FAILED, without which no new certificate is removed.
"""

from __future__ import annotations

from enum import Enum
from typing import Dict, FrozenSet, NamedTuple, Optional, Tuple

from .journal import JournalRecord, Step
from .store import Generation


class State(str, Enum):
    """Where the device stands."""

    ASKING = "ASKING"  # no rotation; waiting to hear which job is next
    IDLE = "IDLE"  # no rotation, nothing pending, asleep
    PREPARING = "PREPARING"  # making a key, waiting for IN_PROGRESS to be confirmed
    RESUMING = "RESUMING"  # stopped while CREATING; waiting to hear whether the job still stands
    CREATING = "CREATING"  # waiting for the certificate
    INSTALLING = "INSTALLING"  # putting the new credential in place
    RESTARTING = "RESTARTING"  # waiting to be ended; then CONNECTING
    CONNECTING = "CONNECTING"  # new credential in place, waiting for the connection to work
    COMMITTING = "COMMITTING"  # it works; waiting for the backend to confirm
    SWITCHING = "SWITCHING"  # putting the other credential in place
    RETURNING = "RETURNING"  # waiting to be ended; then RECONNECTING or RETRYING
    RECONNECTING = "RECONNECTING"  # old credential in place, waiting for the connection to work
    RETRYING = "RETRYING"  # the old one did not connect: the new one is in place again
    KEEPING = "KEEPING"  # a later start: committing once more, waiting for the backend to confirm
    REPORTING = "REPORTING"  # nothing is exchanged, waiting for the outcome to be confirmed; both stay after a commit


class Event(str, Enum):
    """An event, already narrowed down to the job and the step at hand."""

    START = "START"  # the component starts, in the state that its journal names
    NOTIFIED = "NOTIFIED"  # notify-next: a rotation is queued
    QUEUED = "QUEUED"  # get: the job at hand (or, with none at hand, any rotation) is queued
    IN_PROGRESS = "IN_PROGRESS"  # get: likewise, in progress
    NOT_OURS = "NOT_OURS"  # get: another job is next, or none
    GET_REJECTED = "GET_REJECTED"  # get was refused (throttled)
    UPDATE_ACCEPTED = "UPDATE_ACCEPTED"  # the execution has the status reported last
    UPDATE_REJECTED = "UPDATE_REJECTED"  # the execution has ended otherwise
    CREATE_ACCEPTED = "CREATE_ACCEPTED"  # a certificate for the new key
    CREATE_REJECTED = "CREATE_REJECTED"
    COMMIT_ACCEPTED = "COMMIT_ACCEPTED"
    COMMIT_REJECTED = "COMMIT_REJECTED"
    RESEND = "RESEND"  # an answer is overdue
    TIME_LIMIT = "TIME_LIMIT"  # the state has lasted too long
    DONE = "DONE"  # the action succeeded; of a report, there is no job to tell
    UNNOTICED = "UNNOTICED"  # the old credential lies in place, and the nucleus never let go of it
    FAILED = "FAILED"  # the action did not succeed


class Action(str, Enum):
    """The actions of the rotator; each is the method of this name in ``actions.py``."""

    REST = "rest"  # nothing
    ASK = "ask"  # publish $next/get
    PREPARE = "prepare"  # journal the job, report IN_PROGRESS, make the new key
    CLAIM = "claim"  # report IN_PROGRESS again
    CREATE = "create"  # publish the signing request
    INSTALL = "install"  # check the certificate, back up, put in place
    RESTART = "restart"  # have the nucleus connect anew
    RECONNECT = "reconnect"  # note the start, publish $next/get
    COMMIT = "commit"  # publish the commit
    CONCLUDE = "conclude"  # note that the new credential is committed, report SUCCEEDED
    KEEP = "keep"  # end the rotation, keep both credentials, publish $next/get
    CONFIRM = "confirm"  # settle on the new credential if SUCCEEDED was taken, report the outcome again
    FAIL = "fail"  # settle on what is in place, report FAILED
    REPORT = "report"  # report the outcome again
    UNDO = "undo"  # put the old credential in place; the nucleus must let go of the new one
    UNDO_LIVE = "undo_live"  # the same, while the nucleus still holds the old one
    SWAP = "swap"  # put the other credential in place
    SWITCH = "switch"  # finish the switch that the journal asks for
    NOTE = "note"  # note that the outcome was taken, then FORGET
    FORGET = "forget"  # end the rotation, settle on what is in place (both stay after a commit), publish $next/get
    DROP = "drop"  # the same without asking
    REPLACE = "replace"  # the same, then prepare for the job that is queued


class Transition(NamedTuple):
    """One row of the table."""

    state: State
    event: Event
    action: Action
    next: State


S, E, A = State, Event, Action

# fmt: off
ROWS = (
    Transition(S.ASKING,       E.START,           A.ASK,       S.ASKING),
    Transition(S.ASKING,       E.RESEND,          A.ASK,       S.ASKING),
    Transition(S.ASKING,       E.NOT_OURS,        A.REST,      S.IDLE),
    Transition(S.ASKING,       E.NOTIFIED,        A.PREPARE,   S.PREPARING),
    Transition(S.ASKING,       E.QUEUED,          A.PREPARE,   S.PREPARING),
    Transition(S.ASKING,       E.IN_PROGRESS,     A.PREPARE,   S.PREPARING),
    Transition(S.ASKING,       E.TIME_LIMIT,      A.SWAP,      S.SWITCHING),  # set only after a commit
                                                                              # that nobody has accepted: it may go

    Transition(S.IDLE,         E.NOTIFIED,        A.PREPARE,   S.PREPARING),
    Transition(S.IDLE,         E.RESEND,          A.ASK,       S.ASKING),  # after a day: an announcement may be lost

    Transition(S.PREPARING,    E.START,           A.FORGET,    S.ASKING),
    Transition(S.PREPARING,    E.UPDATE_ACCEPTED, A.CREATE,    S.CREATING),
    Transition(S.PREPARING,    E.RESEND,          A.CLAIM,     S.PREPARING),
    Transition(S.PREPARING,    E.UPDATE_REJECTED, A.DROP,      S.ASKING),  # not at once: the answer may be the same
    Transition(S.PREPARING,    E.TIME_LIMIT,      A.FAIL,      S.REPORTING),
    Transition(S.PREPARING,    E.FAILED,          A.FAIL,      S.REPORTING),

    Transition(S.CREATING,     E.START,           A.ASK,       S.RESUMING),
    Transition(S.CREATING,     E.CREATE_ACCEPTED, A.INSTALL,   S.INSTALLING),
    Transition(S.CREATING,     E.RESEND,          A.CREATE,    S.CREATING),
    Transition(S.CREATING,     E.CREATE_REJECTED, A.FAIL,      S.REPORTING),
    Transition(S.CREATING,     E.TIME_LIMIT,      A.FAIL,      S.REPORTING),
    Transition(S.CREATING,     E.FAILED,          A.FAIL,      S.REPORTING),

    Transition(S.RESUMING,     E.IN_PROGRESS,     A.CREATE,    S.CREATING),
    Transition(S.RESUMING,     E.QUEUED,          A.REPLACE,   S.PREPARING),
    Transition(S.RESUMING,     E.NOT_OURS,        A.FORGET,    S.ASKING),
    Transition(S.RESUMING,     E.RESEND,          A.ASK,       S.RESUMING),
    Transition(S.RESUMING,     E.TIME_LIMIT,      A.SWAP,      S.SWITCHING),  # set only after a commit

    Transition(S.INSTALLING,   E.START,           A.UNDO,      S.SWITCHING),
    Transition(S.INSTALLING,   E.DONE,            A.RESTART,   S.RESTARTING),
    Transition(S.INSTALLING,   E.FAILED,          A.UNDO_LIVE, S.SWITCHING),

    Transition(S.RESTARTING,   E.FAILED,          A.UNDO_LIVE, S.SWITCHING),
    Transition(S.RESTARTING,   E.TIME_LIMIT,      A.UNDO_LIVE, S.SWITCHING),

    Transition(S.CONNECTING,   E.START,           A.RECONNECT, S.CONNECTING),
    Transition(S.CONNECTING,   E.IN_PROGRESS,     A.COMMIT,    S.COMMITTING),
    Transition(S.CONNECTING,   E.NOT_OURS,        A.COMMIT,    S.COMMITTING),
    Transition(S.CONNECTING,   E.RESEND,          A.ASK,       S.CONNECTING),
    Transition(S.CONNECTING,   E.QUEUED,          A.UNDO,      S.SWITCHING),
    Transition(S.CONNECTING,   E.TIME_LIMIT,      A.UNDO,      S.SWITCHING),

    Transition(S.COMMITTING,   E.COMMIT_ACCEPTED, A.CONCLUDE,  S.REPORTING),
    Transition(S.COMMITTING,   E.RESEND,          A.COMMIT,    S.COMMITTING),
    Transition(S.COMMITTING,   E.COMMIT_REJECTED, A.UNDO,      S.SWITCHING),
    Transition(S.COMMITTING,   E.TIME_LIMIT,      A.UNDO,      S.SWITCHING),

    Transition(S.KEEPING,      E.START,           A.COMMIT,    S.KEEPING),
    Transition(S.KEEPING,      E.COMMIT_ACCEPTED, A.CONFIRM,   S.REPORTING),
    Transition(S.KEEPING,      E.COMMIT_REJECTED, A.FORGET,    S.ASKING),
    Transition(S.KEEPING,      E.RESEND,          A.COMMIT,    S.KEEPING),
    Transition(S.KEEPING,      E.TIME_LIMIT,      A.ASK,       S.RETRYING),  # perhaps only the backend is silent
    Transition(S.KEEPING,      E.FAILED,          A.ASK,       S.RETRYING),  # nobody knows which job to commit

    Transition(S.SWITCHING,    E.START,           A.SWITCH,    S.SWITCHING),
    Transition(S.SWITCHING,    E.DONE,            A.RESTART,   S.RETURNING),
    Transition(S.SWITCHING,    E.UNNOTICED,       A.FAIL,      S.REPORTING),
    Transition(S.SWITCHING,    E.RESEND,          A.SWITCH,    S.SWITCHING),

    Transition(S.RETURNING,    E.TIME_LIMIT,      A.RESTART,   S.RETURNING),

    Transition(S.RECONNECTING, E.START,           A.ASK,       S.RECONNECTING),
    Transition(S.RECONNECTING, E.IN_PROGRESS,     A.FAIL,      S.REPORTING),
    Transition(S.RECONNECTING, E.NOT_OURS,        A.FAIL,      S.REPORTING),
    Transition(S.RECONNECTING, E.GET_REJECTED,    A.FAIL,      S.REPORTING),
    Transition(S.RECONNECTING, E.QUEUED,          A.REPLACE,   S.PREPARING),
    Transition(S.RECONNECTING, E.RESEND,          A.ASK,       S.RECONNECTING),
    Transition(S.RECONNECTING, E.TIME_LIMIT,      A.SWAP,      S.SWITCHING),

    Transition(S.RETRYING,     E.START,           A.ASK,       S.RETRYING),
    Transition(S.RETRYING,     E.IN_PROGRESS,     A.COMMIT,    S.COMMITTING),
    Transition(S.RETRYING,     E.NOT_OURS,        A.KEEP,      S.ASKING),
    Transition(S.RETRYING,     E.QUEUED,          A.KEEP,      S.ASKING),
    Transition(S.RETRYING,     E.RESEND,          A.ASK,       S.RETRYING),
    Transition(S.RETRYING,     E.TIME_LIMIT,      A.SWAP,      S.SWITCHING),

    Transition(S.REPORTING,    E.START,           A.ASK,       S.REPORTING),
    Transition(S.REPORTING,    E.DONE,            A.FORGET,    S.ASKING),
    Transition(S.REPORTING,    E.UPDATE_ACCEPTED, A.NOTE,      S.ASKING),
    Transition(S.REPORTING,    E.UPDATE_REJECTED, A.FORGET,    S.ASKING),
    Transition(S.REPORTING,    E.NOT_OURS,        A.FORGET,    S.ASKING),
    Transition(S.REPORTING,    E.IN_PROGRESS,     A.REPORT,    S.REPORTING),
    Transition(S.REPORTING,    E.QUEUED,          A.REPLACE,   S.PREPARING),
    Transition(S.REPORTING,    E.RESEND,          A.ASK,       S.REPORTING),
    Transition(S.REPORTING,    E.TIME_LIMIT,      A.SWAP,      S.SWITCHING),  # as in ASKING
)

_GET      = {E.QUEUED, E.IN_PROGRESS, E.NOT_OURS, E.GET_REJECTED}
_UPDATE   = {E.UPDATE_ACCEPTED, E.UPDATE_REJECTED}
_CREATE   = {E.CREATE_ACCEPTED, E.CREATE_REJECTED}
_COMMIT   = {E.COMMIT_ACCEPTED, E.COMMIT_REJECTED}
_MESSAGES = _GET | _UPDATE | _CREATE | _COMMIT | {E.NOTIFIED}
_TIMERS   = {E.RESEND, E.TIME_LIMIT}
_OWN      = {E.DONE, E.UNNOTICED, E.FAILED}

# Answers come late, twice, or for a step that is over; timers are only those set; START comes once. What FAILED where
# it is ignored is told in the log, and done with the next repeat or at the next start. While CONNECTING only an answer
# to our own get is proof; one that was refused (throttled) is asked for again.
IGNORED: Dict[State, FrozenSet[Event]] = {state: frozenset(events) for state, events in {
    S.ASKING:       {E.GET_REJECTED} | _UPDATE | _CREATE | _COMMIT | _OWN,
    S.IDLE:         {E.START, E.TIME_LIMIT} | _GET | _UPDATE | _CREATE | _COMMIT | _OWN,
    S.PREPARING:    {E.NOTIFIED, E.DONE, E.UNNOTICED} | _GET | _CREATE | _COMMIT,
    S.RESUMING:     {E.START, E.NOTIFIED, E.GET_REJECTED} | _UPDATE | _CREATE | _COMMIT | _OWN,
    S.CREATING:     {E.NOTIFIED, E.DONE, E.UNNOTICED} | _GET | _UPDATE | _COMMIT,
    S.INSTALLING:   {E.UNNOTICED} | _MESSAGES | _TIMERS,
    S.RESTARTING:   {E.START, E.RESEND, E.DONE, E.UNNOTICED} | _MESSAGES,  # of the connection that is about to end
    S.CONNECTING:   {E.NOTIFIED, E.GET_REJECTED} | _UPDATE | _CREATE | _COMMIT | _OWN,  # see below
    S.COMMITTING:   {E.START, E.NOTIFIED} | _GET | _UPDATE | _CREATE | _OWN,
    S.KEEPING:      {E.NOTIFIED, E.DONE, E.UNNOTICED} | _GET | _UPDATE | _CREATE,
    S.SWITCHING:    {E.TIME_LIMIT, E.FAILED} | _MESSAGES,
    S.RETURNING:    {E.START, E.RESEND} | _MESSAGES | _OWN,
    S.RECONNECTING: {E.NOTIFIED} | _UPDATE | _CREATE | _COMMIT | _OWN,
    S.RETRYING:     {E.NOTIFIED, E.GET_REJECTED} | _UPDATE | _CREATE | _COMMIT | _OWN,
    S.REPORTING:    {E.NOTIFIED, E.GET_REJECTED, E.UNNOTICED, E.FAILED} | _CREATE | _COMMIT,
}.items()}
# fmt: on

TABLE: Dict[Tuple[State, Event], Transition] = {(row.state, row.event): row for row in ROWS}

AWAITS_ANSWER = frozenset(row.state for row in ROWS if row.event is Event.RESEND)
"""States in which RESEND comes after the resend interval."""

PATIENT = frozenset({
    S.ASKING, S.RESUMING, S.KEEPING, S.SWITCHING, S.RECONNECTING, S.RETRYING, S.REPORTING
})  # fmt: skip
"""States in which the resend interval doubles each time: they may last as long as a device is offline."""

LIMITED = frozenset(row.state for row in ROWS if row.event is Event.TIME_LIMIT)
"""States that end with TIME_LIMIT, see ``is_watched``."""


UNDER_WAY = frozenset(State) - {S.ASKING, S.IDLE, S.RESUMING, S.KEEPING}
"""States in which a rotation is at work; in the others it is over, or nothing of it is in place yet."""

ON_TRIAL = frozenset({S.RESUMING, S.CONNECTING, S.KEEPING, S.RECONNECTING, S.RETRYING})
"""States whose time limit is for the credential in place: it goes on over restarts."""


def is_watched(state: State, record: Optional[JournalRecord]) -> bool:
    """Return whether a state has its time limit now: some have it only while two credentials are kept."""
    if state is State.RESUMING:
        return record is not None and record.kept is not None
    is_in_doubt = record is not None and record.is_in_doubt
    return state in LIMITED and (is_in_doubt or state not in (State.ASKING, State.REPORTING))


def resume_state(record: Optional[JournalRecord]) -> State:
    """Return the state in which a device begins that finds this record in its journal (None: no journal).

    If two credentials are kept after a commit, a rotation that had not asked the backend yet, or is over, gives way:
    the device first finds out whether the credential in place still connects. A rotation that had asked goes on.
    """
    if record is None:
        return State.ASKING
    if record.kept is not None and record.step in (Step.PREPARING, Step.REPORTING):
        return State.KEEPING if record.kept is Generation.NEW else State.RECONNECTING
    return State(record.step.value)
