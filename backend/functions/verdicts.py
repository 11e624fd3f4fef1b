"""The end of the two certificates of a rotation: one table of evidence and verdicts. Pure.

``RotationEvidence`` holds what is known, each fact with the instant at which it happened or was sent, so that a fact
that is heard of late counts as if it had been heard of then. ``weigh`` reduces the evidence to three words (commit, end
and use) and finds their row in ``ROWS``.

The rules that the table keeps (the tests try every combination):

- The old certificate goes only if a commit came over the new one's connection and the job has ended, or a person has
  deactivated it.
- The new one goes only if no device can hold it yet (then at once), or a person has deactivated it, or if no commit
  came over it, the device itself has reported FAILED, and the new one was never seen in use or the device is back on
  its old one. It is back if it was seen with the old one after the new one and before the FAILED, or if since the
  FAILED it was seen with the old one alone, and last at least 15 minutes ago.
- After a commit no sighting of the old one removes anything: whoever holds a copy of its key can cause one.
- While the thing is in quarantine, no certificate goes that a device may hold.
- A person is notified of a rotation that stays undecided for a day, and decides it by deactivating one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import NamedTuple

QUIET = timedelta(minutes=15)
"""How long a certificate that was in use must be out of use before it goes: late evidence has come by then."""
LASTING = timedelta(days=1)
"""How long a rotation may stay undecided, or its job run, before a person is notified."""
ROUNDED = timedelta(seconds=1)  # AWS IoT times the end of an execution in whole seconds


class Ending(StrEnum):
    """How an execution ended: the terminal statuses, and DELETED for one that was deleted with its job."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    REMOVED = "REMOVED"
    CANCELED = "CANCELED"
    DELETED = "DELETED"


class CertificateRole(StrEnum):
    """One of the two certificates of a rotation."""

    OLD = "old"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class RotationEvidence:
    """All known of one rotation at ``now``; each other instant is when the fact happened or its message was sent."""

    now: datetime
    started: datetime
    leased: bool = False  # a create is at work on it
    handed_out: bool = True  # the device may hold the new certificate
    committed: datetime | None = None  # a commit over a connection with the new one
    ended: datetime | None = None  # the job's latest execution on this device
    ending: Ending | None = None
    old_seen: datetime | None = None  # the latest connection with the old one, or request over such a connection
    new_seen: datetime | None = None  # likewise
    contested: bool = False  # under the same job a second key was asked for, over the old one's connection
    deactivated: CertificateRole | None = None  # by a person who was asked; None also if both are
    quarantined: bool = False  # people have cut the thing off


class Commit(Enum):
    """Whether the new certificate was proven."""

    NONE = "no commit"
    PROVEN = "commit over the new one"


class ExecutionOutcome(Enum):
    """How the device's execution stands."""

    RUNNING = "the job runs"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED, as the device reports"
    STOPPED = "ended by the cloud"  # TIMED_OUT, CANCELED, REMOVED, REJECTED, deleted


class Use(Enum):
    """The knowledge of which certificate is in use."""

    BEING_MADE = "the new one is being made"
    UNDELIVERED = "no device can hold the new one"
    QUARANTINED = "the thing is in quarantine"
    OLD_DEACTIVATED = "a person has deactivated the old one"
    NEW_DEACTIVATED = "a person has deactivated the new one"
    CONTESTED = "the old one is used since the commit, or a second key was asked for"
    NEVER_NEW = "the new one was never seen"
    BACK_ON_OLD = "the old one is seen after the new one: before the end, or alone since then for 15 minutes"
    NEW_SINCE_END = "the new one is seen since the end"
    UNCLEAR = "nothing that decides"


class Notification(Enum):
    """The receiver of a notice sent at once. If a rotation stays undecided for a day, a person is notified besides."""

    NOBODY = "nobody"
    NOTE = "noted"
    PERSON = "a person must decide"


class Ruling(NamedTuple):
    """One row of the table: what one situation calls for. None in one of the first three columns fits any value."""

    commit: Commit | None
    end: ExecutionOutcome | None
    use: Use | None
    goes: CertificateRole | None  # None: both stay
    told: Notification
    because: str  # for the notice, the log and the docs


C, E, U, T = CertificateRole, ExecutionOutcome, Use, Notification
NO, YES = Commit.NONE, Commit.PROVEN

# The first row that fits counts.
# fmt: off
ROWS = (
    Ruling(None, None,        U.BEING_MADE,      None,  T.NOBODY, "a create is at work"),
    Ruling(None, E.RUNNING,   U.UNDELIVERED,     C.NEW, T.NOBODY, "it was never handed out"),
    Ruling(None, None,        U.UNDELIVERED,     C.NEW, T.NOTE,   "it was never handed out"),
    Ruling(None, None,        U.QUARANTINED,     None,  T.NOBODY, "what is in use may be a thief's"),
    Ruling(None, None,        U.OLD_DEACTIVATED, C.OLD, T.NOTE,   "a person has deactivated it"),
    Ruling(None, None,        U.NEW_DEACTIVATED, C.NEW, T.NOTE,   "a person has deactivated it"),
    Ruling(None, E.RUNNING,   None,              None,  T.NOBODY, "the rotation is under way"),

    Ruling(NO,   E.FAILED,    U.NEVER_NEW,       C.NEW, T.NOTE,   "the device has failed and never used the new one"),
    Ruling(NO,   E.FAILED,    U.BACK_ON_OLD,     C.NEW, T.NOTE,   "the device has failed and is back on its old one"),
    Ruling(NO,   E.FAILED,    None,              None,  T.NOTE,   "the device has failed after it used the new one"),
    Ruling(NO,   E.STOPPED,   None,              None,  T.NOTE,   "which one the device will use is not known"),
    Ruling(NO,   E.SUCCEEDED, None,              None,  T.NOBODY, "nothing was committed so far"),

    Ruling(YES,  None,        U.CONTESTED,       None,  T.PERSON, "two holders may be at work"),
    Ruling(YES,  E.FAILED,    None,              None,  T.PERSON, "the device has failed after the commit"),
    Ruling(YES,  E.SUCCEEDED, None,              C.OLD, T.NOBODY, "the device has committed the new one"),
    Ruling(YES,  E.STOPPED,   U.NEW_SINCE_END,   C.OLD, T.NOTE,   "the device has committed the new one and uses it"),
    Ruling(YES,  E.STOPPED,   None,              None,  T.NOTE,   "which one the device will use is not known"),
)
# fmt: on


class Verdict(NamedTuple):
    """The certificate that goes, who is notified, and why."""

    goes: CertificateRole | None
    told: Notification
    because: str


def weigh(evidence: RotationEvidence) -> Verdict:
    """Return the verdict over a rotation; if it stays undecided for too long, a person must decide."""
    commit = Commit.NONE if evidence.committed is None else Commit.PROVEN
    end = end_of(evidence.ending)
    row = find(commit, end, use_of(evidence))
    since = evidence.started if evidence.ended is None else evidence.ended
    lasts = row.goes is None and not evidence.leased and evidence.now - since >= LASTING
    return Verdict(row.goes, Notification.PERSON if lasts else row.told, row.because)


def find(commit: Commit, end: ExecutionOutcome, use: Use) -> Ruling:
    """Return the first row that fits how the commit, the ``end`` and the use stand."""
    asked = (commit, end, use)
    return next(row for row in ROWS if all(want in {None, word} for want, word in zip(row[:3], asked, strict=True)))


def end_of(ending: Ending | None) -> ExecutionOutcome:
    """Return the table's word for how an execution ended; None: it has not ended."""
    if ending is None:
        return ExecutionOutcome.RUNNING
    return {Ending.SUCCEEDED: ExecutionOutcome.SUCCEEDED, Ending.FAILED: ExecutionOutcome.FAILED}.get(
        ending, ExecutionOutcome.STOPPED
    )


def use_of(known: RotationEvidence) -> Use:
    """Return what is known about the use of the two certificates, in the table's word."""
    if not known.handed_out:
        return Use.BEING_MADE if known.leased else Use.UNDELIVERED
    if known.quarantined:
        return Use.QUARANTINED
    if known.deactivated is not None:
        return Use.OLD_DEACTIVATED if known.deactivated is CertificateRole.OLD else Use.NEW_DEACTIVATED
    if known.committed is not None and (known.contested or _is_after(known.old_seen, known.committed)):
        return Use.CONTESTED
    return _use_by_sightings(known)


def _use_by_sightings(known: RotationEvidence) -> Use:
    new_seen = max((at for at in (known.new_seen, known.committed) if at is not None), default=None)
    if new_seen is None:
        return Use.NEVER_NEW
    if known.ended is None:
        return Use.UNCLEAR
    end_is_over = known.ended + ROUNDED
    if new_seen >= end_is_over:
        return Use.NEW_SINCE_END
    is_back = new_seen < known.ended and _is_after(known.old_seen, new_seen)
    came_before = not _is_after(known.old_seen, end_is_over)
    is_quiet = not _is_after(known.old_seen, known.now - QUIET)
    return Use.BACK_ON_OLD if is_back and (came_before or is_quiet) else Use.UNCLEAR


def _is_after(at: datetime | None, reference: datetime) -> bool:
    return at is not None and at > reference
