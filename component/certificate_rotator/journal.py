"""The journal: what a restarted device needs to carry on a rotation, or to undo it.

One JSON file with a schema version, whole or absent at any instant (``files.py``). No file means that
nothing is going on. A step or schema that this version does not know, or a damaged file, reads as
``Step.SWITCHING`` to the old credential: what cannot be understood is rolled back.

It decides which credential root puts in place, so it lies in a folder of its own that nobody else can change.
Earlier versions kept it in the component's working folder, which belongs to the user that components run as. A copy
there is taken along, and a link stays behind for them, if the device goes back to one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from protocol.algorithms import CsrSigningAlgorithm, KeyType
from protocol.messages import ExecutionStatus

from . import files
from .errors import JournalError
from .store import NEXT, Generation
from .system import System

SCHEMA = 1
UNNOTED = ""
"""Stands for the id of a job that is in progress and whose id this device has not noted."""

_MARK = b"installed"

log = logging.getLogger(__name__)


class Step(str, Enum):
    """Where a rotation stands on disk; each is a resume point of ``machine.py``."""

    PREPARING = "PREPARING"  # a new key is being made apart; nothing was asked of the backend
    CREATING = "CREATING"  # the new key, which lies apart, is complete; the backend may have issued a certificate
    INSTALLING = "INSTALLING"  # from the new key to the first commit: what lies in the store shows how far it came
    CONNECTING = "CONNECTING"  # the new credential is in place, and a start has been counted or a commit sent
    SWITCHING = "SWITCHING"  # the credential named by ``target`` is being put in place
    RECONNECTING = "RECONNECTING"  # the old credential is in place, the new one is kept until it connects
    RETRYING = "RETRYING"  # the old one did not connect: the new one is in place again, the old one kept
    REPORTING = "REPORTING"  # nothing is exchanged any more; the job's outcome must still reach the cloud


@dataclass(frozen=True)
class JournalRecord:
    """One rotation. ``notes`` belong to the credential store, and never hold a secret.

    ``kept`` is set from the first commit on, whatever is answered: both credentials are kept, and ``kept`` shows which
    of them lies in place. It stays until the job has ``succeeded`` and the backend has answered a commit over a later
    start's connection. It also stays while another rotation begins, until that one installs. A component of a version
    without ``kept`` reads the rest, and settles at its next start.
    """

    step: Step
    job_id: Optional[str] = None
    key_type: Optional[KeyType] = None
    signing_algorithm: Optional[CsrSigningAlgorithm] = None
    outcome: Optional[ExecutionStatus] = None
    reason: Optional[str] = None
    target: Generation = Generation.OLD  # of SWITCHING
    awake: float = 0.0  # seconds that the credential in place was given to connect, over all starts
    swaps: int = 0  # of the two credentials; doubles the patience each time
    kept: Optional[Generation] = None
    run: str = ""  # of the nucleus, in which the new one has connected; see ports.Restarter
    committed: Optional[str] = None  # the job under which what is kept was committed; None: an earlier version's
    succeeded: bool = False  # whether AWS IoT Jobs has taken SUCCEEDED for the job that was committed
    attempt: Optional[int] = None  # at the job, as AWS IoT numbers them
    repeats: bool = True  # whether the backend takes a commit twice, as those do that name the job in their answers
    notes: Mapping[str, str] = field(default_factory=dict)

    def with_(self, **changes: Any) -> JournalRecord:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def without_rotation(self) -> JournalRecord:
        """Return what is kept after a rotation that is over, or that ended before it touched what lies in place."""
        notes = {name: text for name, text in self.notes.items() if name != NEXT}
        if self.step is Step.REPORTING:
            return self.with_(notes=notes)
        return self.during(Step.REPORTING).with_(notes=notes)

    def during(self, step: Step, job_id: Optional[str] = None) -> JournalRecord:
        """Return the record of the two credentials that are kept, without the rotation that is over."""
        kept = {
            name: getattr(self, name) for name in ("kept", "committed", "run", "swaps", "succeeded", "repeats", "notes")
        }
        return JournalRecord(step, job_id, **kept)

    def exchanged(self, reason: str) -> JournalRecord:
        """Return the record by which the other credential is put in place, with more patience.

        Two runs of the nucleus must prove that one anew. ``reason`` counts if none is noted yet.
        """
        is_at_hand = self.kept is None or self.step in (Step.CONNECTING, Step.RECONNECTING, Step.RETRYING)
        record = self if is_at_hand else self.without_rotation()
        target = Generation.OLD if self.has_new_in_place else Generation.NEW
        return record.with_(
            step=Step.SWITCHING, target=target, reason=record.reason or reason or None, swaps=record.swaps + 1, run=""
        )

    @property
    def has_new_in_place(self) -> bool:
        """Whether the record shows the new credential in place; False while a step changes that."""
        if self.step in (Step.INSTALLING, Step.SWITCHING):
            return False
        return self.step in (Step.CONNECTING, Step.RETRYING) if self.kept is None else self.kept is Generation.NEW

    @property
    def is_in_doubt(self) -> bool:
        """Whether two are kept, and the one in place may go at any time: no commit over it was ever accepted."""
        return self.kept is Generation.OLD or (self.kept is not None and (self.swaps > 0 or not self.job_to_commit))

    @property
    def job_to_commit(self) -> Optional[str]:
        """The job that a commit over the new credential's connection is for."""
        return self.job_id if self.committed is None else self.committed


class Journal:
    """The journal file; ``record`` is what it holds, or None while no rotation is going on."""

    def __init__(self, path: Path, system: System, before: Optional[Path] = None) -> None:
        """``before`` is the path at which earlier versions kept the journal."""
        self._path = path
        self._before = before
        self._system = system
        self.record: Optional[JournalRecord] = None
        self.is_marked = False  # whether ``load`` has found the mark; until the next record

    def load(self) -> Optional[JournalRecord]:
        """Read the file at start, None if there is none, and clear an interrupted write; raises JournalError."""
        draft = files.temporary(self._path)
        try:
            if self._before is not None:
                self._take_along(self._before)
            self.is_marked = False
            if self._system.exists(draft):
                self.is_marked = self._system.read(draft) == _MARK
                with contextlib.suppress(OSError):  # a disk that refuses now is cleared by the next write
                    self._system.remove(draft)
            self.record = decode(self._system.read(self._path)) if self._system.exists(self._path) else None
        except OSError as error:
            raise JournalError(f"cannot read the journal {self._path}: {error}; repair the disk") from error
        return self.record

    def _take_along(self, before: Path) -> None:
        """Take over the journal of an earlier version if it is younger than ours, and surely this user's own.

        The age of the journal's folder shows when ours was changed last; the folder exists after the first start.
        """
        folder, left = self._path.parent, self._system.read_own(before)
        if not self._system.exists(folder):
            draft = files.temporary(folder)
            self._system.make_folder(draft)
            if left is not None:
                files.write(self._system, draft / self._path.name, left.data)
            self._system.replace(draft, folder)
            self._system.sync_folder(folder.parent)
        elif left is not None and left.time > self._system.changed(folder):
            files.write(self._system, self._path, left.data)
        try:
            self._system.link(before, self._path)
        except OSError as error:
            log.warning("an earlier version of the component would not find the journal: %s", error)

    def save(self, record: JournalRecord, *, durable: bool = True) -> None:
        """Make the record durable; on JournalError the former one still stands.

        Without ``durable``, the former one may also stand after a power cut.
        """
        try:
            files.write(self._system, self._path, encode(record), durable=durable)
        except OSError as error:
            raise JournalError(f"cannot write the journal {self._path}: {error}; free or repair the disk") from error
        self.record, self.is_marked = record, False

    def mark(self) -> None:
        """Leave a mark for the next ``load``; a power cut may take it away, and the next record does.

        It lies where an interrupted write would: other versions clear it away.
        """
        with contextlib.suppress(OSError):
            files.stage(self._system, self._path, _MARK, durable=False)

    def clear(self) -> None:
        """End the rotation; raises JournalError if the file cannot be removed."""
        try:
            files.remove(self._system, [self._path])
        except OSError as error:
            raise JournalError(f"cannot remove the journal {self._path}: {error}; repair the disk") from error
        self.record = None


def encode(record: JournalRecord) -> bytes:
    """Return the file's contents."""
    # "starts" is what components of before demand: they gave up by the number of starts.
    return json.dumps({"schema": SCHEMA, "starts": 0, **dataclasses.asdict(record)}, sort_keys=True).encode()


def decode(data: bytes) -> JournalRecord:
    """Read the file's contents; never fails, because the device must come back from anything."""
    try:
        content = json.loads(data)
        if content["schema"] != SCHEMA:
            return _undo(content)
        return _record(content)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return _undo(_salvage(data))


def _record(content: Mapping[str, Any]) -> JournalRecord:
    return JournalRecord(
        step=Step(content["step"]),
        job_id=_text(content["job_id"]),
        key_type=None if content["key_type"] is None else KeyType(content["key_type"]),
        signing_algorithm=(
            None if content["signing_algorithm"] is None else CsrSigningAlgorithm(content["signing_algorithm"])
        ),
        outcome=None if content["outcome"] is None else ExecutionStatus(content["outcome"]),
        reason=_text(content["reason"]),
        target=Generation(content["target"]),
        awake=float(content.get("awake", 0.0)),
        swaps=int(content["swaps"]),
        kept=None if content.get("kept") is None else Generation(content["kept"]),
        committed=_text(content.get("committed")),
        notes=_notes(content["notes"]),
        run=_text(content.get("run")) or "",
        attempt=_number(content.get("attempt")),
        succeeded=content.get("succeeded") is True,
        repeats=content.get("repeats", True) is True,
    )


def _undo(content: Mapping[str, Any]) -> JournalRecord:
    job_id, notes = content.get("job_id"), content.get("notes")
    return JournalRecord(
        step=Step.SWITCHING,
        job_id=job_id if isinstance(job_id, str) and job_id else None,
        reason="the journal of this rotation is damaged or of another version of the component: rolled back",
        notes=_notes(notes) if isinstance(notes, dict) else {},
    )


def _salvage(data: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _text(value: object) -> Optional[str]:
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> Optional[int]:
    return value if isinstance(value, int) else None


def _notes(value: object) -> Dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    return {name: text for name, text in value.items() if isinstance(name, str) and isinstance(text, str)}
