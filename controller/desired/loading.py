"""Documents to desired states: one per fleet, or one error with every problem there is.

One folder a fleet: if documents lie directly in the folder that is read, all of it is one fleet's;
else each folder in it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.errors import DesiredStateError, Problem
from controller.reconcile.values import DesiredState

from .document_checks import check_document
from .fleet_checks import check_fleet, check_fleets
from .limits import DEFAULT_LIMITS, Limits
from .resolve import resolve
from .sources import DesiredStateSource, DocumentFile, Snapshot
from .validation import ReadDocument, read_document
from .yaml_documents import parse_documents

_REMEDY = (
    "Correct every place named; docs/desired-state.md describes each field, and `certfleet schema` checks in editors."
)


@dataclass
class _FleetFolder:
    """The documents of one fleet, and what is wrong with them."""

    documents: list[ReadDocument] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    is_complete: bool = True  # every file was read to its end

    @property
    def fleet(self) -> ReadDocument | None:
        """The Fleet document, if there is exactly one."""
        fleets = [each for each in self.documents if each.kind == "Fleet"]
        return fleets[0] if len(fleets) == 1 else None


def load(
    source: DesiredStateSource, *, now: datetime, fleet: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> tuple[DesiredState, ...]:
    """Read and check the desired state: one value per Fleet document, by name.

    ``fleet`` picks one fleet, and then only that folder's problems count. Raises DesiredStateError
    with every problem (a folder without documents is one), GitError if a ref cannot be read.
    """
    return load_snapshot(source.read(limits), now=now, fleet=fleet, limits=limits)


def load_snapshot(
    snapshot: Snapshot, *, now: datetime, fleet: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> tuple[DesiredState, ...]:
    """Return the fleets as ``load`` does, of files that were already gathered; raises DesiredStateError."""
    folders = _folders(snapshot, now, limits)
    if not folders and not snapshot.problems:
        message = "found no documents (*.yaml, *.yml); an empty desired state is never meant"
        raise DesiredStateError([Problem(snapshot.folder, 1, message)], "Name the folder that holds the documents.")
    chosen = folders if fleet is None else _pick(folders, fleet)
    fleets = [each.fleet for each in folders if each.fleet is not None]
    problems = [*snapshot.problems, *(problem for each in chosen for problem in each.problems), *check_fleets(fleets)]
    if problems:
        raise DesiredStateError(_listed(problems, limits), _REMEDY)
    states = (
        replace(
            resolve(each.documents, commit=snapshot.commit, is_dirty=snapshot.is_dirty),
            committed_at=snapshot.committed_at,
            ancestors=None if snapshot.ancestors is None else frozenset(snapshot.ancestors),
        )
        for each in chosen
    )
    return tuple(sorted(states, key=lambda state: state.fleet.name))


def _folders(snapshot: Snapshot, now: datetime, limits: Limits) -> list[_FleetFolder]:
    """Return every fleet's folder, read and checked."""
    is_one_fleet = any("/" not in file.inner for file in snapshot.files)
    files: dict[str, list[DocumentFile]] = defaultdict(list)
    for file in sorted(snapshot.files, key=lambda each: each.inner):
        files["" if is_one_fleet else file.inner.partition("/")[0]].append(file)
    return [_read_folder(each, now, limits) for each in files.values()]


def _read_folder(files: Sequence[DocumentFile], now: datetime, limits: Limits) -> _FleetFolder:
    folder = _FleetFolder()
    for file in files:
        parsed, problems = parse_documents(file.path, file.data, limits)
        folder.problems += problems
        folder.is_complete = folder.is_complete and not problems
        for each in parsed:
            document, problems = read_document(each)
            folder.problems += problems
            if document is None:
                folder.is_complete = False
            else:
                folder.documents.append(document)
                folder.problems += check_document(document, now)
        if not parsed and not problems:
            folder.problems.append(Problem(file.path, 1, "found no document; allowed: at least one a file"))
    folder.problems += check_fleet(folder.documents, now, is_complete=folder.is_complete)
    return folder


def _pick(folders: Sequence[_FleetFolder], name: str) -> list[_FleetFolder]:
    """Return the folder of the fleet of that name."""
    chosen = [each for each in folders if any(doc.kind == "Fleet" and doc.name == name for doc in each.documents)]
    if chosen:
        return chosen
    broken = [problem for each in folders if each.fleet is None for problem in each.problems]
    known = ", ".join(sorted(each.fleet.name for each in folders if each.fleet is not None)) or "none"
    path = min((doc.yaml.path for each in folders for doc in each.documents), default=".")
    message = f"found no fleet {name!r}; allowed: {known}"
    raise DesiredStateError([Problem(path, 1, message), *broken], "Name one of the fleets, or leave --fleet out.")


def _listed(problems: Sequence[Problem], limits: Limits) -> list[Problem]:
    """Return every problem once, by place; beyond the limit the rest is counted."""
    unique = {(each.path, each.line, each.column, str(each)): each for each in problems}
    ordered = [unique[key] for key in sorted(unique)]
    listed, rest = ordered[: limits.max_problems], ordered[limits.max_problems :]
    if rest:
        listed.append(Problem(rest[0].path, rest[0].line, f"and {len(rest)} problems more"))
    return listed
