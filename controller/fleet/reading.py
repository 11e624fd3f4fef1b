"""Readings: what things hold, what each certificate holds, and which things share one.

Every answer is committed by itself, so a killed run loses the calls under way and nothing else.
A certificate is described only if a governed thing holds it, and once ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller.fleet.authorities import IssuerKey, prove_issuer
from controller.fleet.aws import AwsSession
from controller.fleet.database import Database
from controller.fleet.pem import CertificateFacts, read_pem
from controller.fleet.progress import Progress
from controller.fleet.work import Work
from controller.plain_text import one_line
from controller.reconcile.values import AttachmentType

BY_A_CA, WITHOUT_CA = "DEFAULT", "SNI_ONLY"  # modes of a certificate
CHUNK = 500  # rows taken from the inventory at a time

Described = tuple[dict[str, Any], CertificateFacts]
"""A certificate as DescribeCertificate shows it, and the content of its PEM."""

_MISSING_DESCRIPTION = (
    "c.is_described = 0 AND EXISTS "
    "(SELECT 1 FROM attachments a JOIN things t ON t.name = a.thing WHERE a.certificate_id = c.id)"
)


class RegistryReader:
    """Reads certificates and things that the inventory marks as to be read."""

    def __init__(
        self, session: AwsSession, database: Database, issuers: Sequence[IssuerKey], progress: Progress
    ) -> None:
        self._session = session
        self._database = database
        self._issuers = issuers
        self._progress = progress
        self._arn_prefix = session.arn("cert/")
        with database.errors():
            self._run: int = database.connection.execute("SELECT run FROM binding").fetchone()[0]

    @property
    def run(self) -> int:
        """The number of this refresh: what is read now carries it."""
        return self._run

    def read_certificates(self) -> None:
        """Ask for the things of every certificate marked for it; describe those that governed things hold."""
        done, total = 0, self._count("SELECT count(*) FROM certificates WHERE are_things_read = 0")
        work = Work()

        def kept(certificate_id: str, things: list[tuple[str, str]] | None) -> None:
            nonlocal done
            done += 1
            self._progress("certificates", done, total)
            if self._keep_things(certificate_id, things):
                self._describe(work, certificate_id)

        def read(certificate_id: str) -> None:
            work.add(lambda: self._things_of(certificate_id), lambda things: kept(certificate_id, things))

        unread = self._ids("SELECT id FROM certificates WHERE are_things_read = 0 AND id > ? ORDER BY id LIMIT ?")

        def refill() -> None:
            for certificate_id in unread.next_chunk():
                read(certificate_id)

        self._describe_left_over()
        work.run(refill)

    def read_things(self, names: Sequence[str], *, is_slice: bool = False) -> None:
        """Read what the things of these names hold, and describe it.

        If a thing is the only holder of its certificate, AWS is not asked who else holds it. If a certificate has left
        a thing and ``is_slice``, AWS is asked who holds that one now; else it is known why the thing has changed.
        """
        work = Work()
        for done, name in enumerate(names, 1):

            def kept(principals: list[tuple[str, str]] | None, name: str = name, done: int = done) -> None:
                for certificate_id in self._keep_principals(name, principals, is_slice=is_slice):
                    self._describe(work, certificate_id)
                self._progress("things", done, len(names))

            work.add(lambda name=name: self._principals_of(name), kept)  # type: ignore[misc]  # mypy: lambda defaults
        work.run()

    def read_again(self, thing: str) -> None:
        """Read what one thing holds, and the state of that, however well it is known."""
        self.read_things([thing])
        work = Work()
        for certificate_id in self._held_by(thing):
            self._describe(work, certificate_id)
        work.run()
        self.read_certificates()

    def keep_recorded(self, thing: str, described: Described) -> None:
        """Keep that a thing holds this certificate alone, without having asked for it: its turn in the slice stays."""
        held = [(described[0]["certificateId"], AttachmentType.EXCLUSIVE.value)]
        for certificate_id in self._keep_principals(thing, held, is_slice=False, is_asked=False):
            self._keep_description(certificate_id, described)

    def shows(self, thing: str, described: Described) -> bool:
        """Return whether the inventory shows that a thing holds this certificate exclusively, and no other one."""
        query = (
            f"SELECT c.id, a.type, {', '.join(_DESCRIPTION)} FROM attachments a "  # noqa: S608 (constants only)
            "JOIN certificates c ON c.id = a.certificate_id WHERE a.thing = ?"
        )
        with self._database.errors():
            found = self._database.connection.execute(query, (thing,)).fetchall()
        certificate_id = described[0]["certificateId"]
        return found == [(certificate_id, AttachmentType.EXCLUSIVE.value, *self._values(described))]

    def _held_by(self, thing: str) -> list[str]:
        with self._database.errors():
            rows = self._database.connection.execute("SELECT certificate_id FROM attachments WHERE thing = ?", (thing,))
            return [certificate_id for (certificate_id,) in rows]

    def _describe_left_over(self) -> None:
        """Describe what a killed run has left, and the certificates of things that are governed since."""
        missing = self._ids(
            "SELECT id FROM certificates c WHERE are_things_read = 1 AND id > ? "  # noqa: S608 (constants only)
            f"AND {_MISSING_DESCRIPTION} ORDER BY id LIMIT ?"
        )
        work = Work()

        def refill() -> None:
            for certificate_id in missing.next_chunk():
                self._describe(work, certificate_id)

        work.run(refill)

    # calls, on threads

    def _things_of(self, certificate_id: str) -> list[tuple[str, str]] | None:
        """Return (thing, attachment type) of a certificate; None if the registry no longer has it."""
        arn = self._arn_prefix + certificate_id
        entries = self._session.find_all("ListPrincipalThingsV2", "principalThingObjects", principal=arn)
        return None if entries is None else [(entry["thingName"], _type_of(entry)) for entry in entries]

    def _principals_of(self, thing: str) -> list[tuple[str, str]] | None:
        return read_principals(self._session, thing)

    # keeping, on the caller's thread

    def _keep_things(self, certificate_id: str, things: list[tuple[str, str]] | None) -> bool:
        """Store a certificate's attachments; return whether it must be described now."""
        with self._database.transaction() as connection:
            if things is None:
                connection.execute("DELETE FROM certificates WHERE id = ?", (certificate_id,))
                return False
            query = "SELECT thing FROM attachments WHERE certificate_id = ?"
            before = {thing for (thing,) in connection.execute(query, (certificate_id,))}
            connection.execute("DELETE FROM attachments WHERE certificate_id = ?", (certificate_id,))
            connection.executemany(
                "INSERT INTO attachments VALUES (?, ?, ?)", [(thing, certificate_id, kind) for thing, kind in things]
            )
            connection.execute("UPDATE certificates SET are_things_read = 1 WHERE id = ?", (certificate_id,))
            connection.executemany(
                # What else they hold now, if that was not seen in this run already.
                "UPDATE things SET must_read = 1 WHERE name = ? AND read_in_run < ?",
                [(thing, self._run) for thing, _ in things if thing not in before],
            )
            query = f"SELECT 1 FROM certificates c WHERE id = ? AND {_MISSING_DESCRIPTION}"  # noqa: S608 (constants only)
            return connection.execute(query, (certificate_id,)).fetchone() is not None

    def _keep_principals(
        self, thing: str, principals: list[tuple[str, str]] | None, *, is_slice: bool, is_asked: bool = True
    ) -> list[str]:
        """Store what a thing holds; return the certificates that must be described now."""
        after = dict(principals or ())
        with self._database.transaction() as connection:
            held = connection.execute("SELECT certificate_id, type FROM attachments WHERE thing = ?", (thing,))
            before = dict(held.fetchall())
            if before != after:
                _exchange(connection, thing, before, after, is_slice=is_slice)
            if principals is None:  # the thing is gone
                connection.execute("DELETE FROM members WHERE thing = ?", (thing,))
                connection.execute("DELETE FROM things WHERE name = ?", (thing,))
            connection.execute(
                "UPDATE things SET read_in_run = coalesce(?, read_in_run), must_read = 0 WHERE name = ?",
                (self._run if is_asked else None, thing),
            )
            query = "SELECT id FROM certificates WHERE id = ? AND is_described = 0"
            return [one for one in sorted(after) if connection.execute(query, (one,)).fetchone()]

    def _describe(self, work: Work, certificate_id: str) -> None:
        def call() -> Described | None:
            answer = self._session.find("iot", "DescribeCertificate", certificateId=certificate_id)
            if answer is None:
                return None
            description = answer["certificateDescription"]
            facts = read_pem(description.get("certificatePem") or "")
            mode = description.get("certificateMode", BY_A_CA)
            if mode not in (BY_A_CA, WITHOUT_CA):
                facts = replace(facts, parse_error=one_line(f"its mode is {mode}, which this certfleet does not know"))
            return description, facts

        work.follow(call, lambda described: self._keep_description(certificate_id, described))

    def _keep_description(self, certificate_id: str, described: Described | None) -> None:
        with self._database.transaction() as connection:
            if described is None:
                connection.execute("DELETE FROM certificates WHERE id = ?", (certificate_id,))
                return
            description, facts = described
            values = self._values(described)
            connection.execute(
                f"UPDATE certificates SET is_described = 1, created_at = coalesce(created_at, ?), "  # noqa: S608 (constants only)
                f"{', '.join(f'{column} = ?' for column in _DESCRIPTION)} WHERE id = ?",
                (description["creationDate"].timestamp(), *values, certificate_id),
            )
            if values[_DESCRIPTION.index("issuer_key")] is None and facts.certificate is not None:
                connection.execute("INSERT OR REPLACE INTO unproven VALUES (?, ?)", (certificate_id, facts.der))

    def _values(self, described: Described) -> tuple[Any, ...]:
        """Return what is kept of a certificate's description, in the order of ``_DESCRIPTION``."""
        description, facts = described
        is_registered = bool(description.get("caCertificateId")) or description.get("certificateMode") == WITHOUT_CA
        return (
            description["status"],
            is_registered,
            facts.key_type,
            facts.signature_algorithm,
            facts.issuer,
            prove_issuer(facts, is_registered=is_registered, issuers=self._issuers),
            facts.not_before and facts.not_before.timestamp(),
            facts.not_after and facts.not_after.timestamp(),
            facts.parse_error,
        )

    def _count(self, query: str) -> int:
        with self._database.errors():
            number: int = self._database.connection.execute(query).fetchone()[0]
        return number

    def _ids(self, query: str) -> _Chunks:
        return _Chunks(self._database, query)


def _exchange(
    connection: sqlite3.Connection, thing: str, before: Mapping[str, str], after: Mapping[str, str], *, is_slice: bool
) -> None:
    """Record what a thing holds; both are attachment types by certificate."""
    fresh = [one for one in sorted(after) if before.get(one) != after[one]]
    connection.executemany(
        "INSERT OR IGNORE INTO certificates (id, are_things_read) VALUES (?, 1)", [(one,) for one in fresh]
    )
    alone = {one for one in fresh if after[one] == AttachmentType.EXCLUSIVE.value}
    asked = [*(one for one in fresh if one not in alone), *(set(before) - set(after) if is_slice else ())]
    connection.executemany(
        "UPDATE certificates SET are_things_read = 0 WHERE id = ?", [(one,) for one in sorted(asked)]
    )
    for one in sorted(alone):
        _take_from_others(connection, one, thing)
    connection.execute("DELETE FROM attachments WHERE thing = ?", (thing,))
    connection.executemany(
        "INSERT INTO attachments VALUES (?, ?, ?)", [(thing, one, kind) for one, kind in sorted(after.items())]
    )


def _take_from_others(connection: sqlite3.Connection, certificate_id: str, thing: str) -> None:
    """Record an exclusive holder: every other thing has lost the certificate meanwhile."""
    others = "certificate_id = ? AND thing != ?"
    connection.execute(
        f"UPDATE things SET must_read = 1 WHERE name IN (SELECT thing FROM attachments WHERE {others})",  # noqa: S608 (constants only)
        (certificate_id, thing),
    )
    connection.execute(f"DELETE FROM attachments WHERE {others}", (certificate_id, thing))  # noqa: S608 (as above)
    connection.execute("UPDATE certificates SET are_things_read = 1 WHERE id = ?", (certificate_id,))


_DESCRIPTION = (
    "status",
    "is_registered",
    "key_type",
    "signature_algorithm",
    "issuer",
    "issuer_key",
    "not_before",
    "not_after",
    "parse_error",
)


class _Chunks:
    """Ids in order, a chunk at a time; each id once, also while what the query asks for changes."""

    def __init__(self, database: Database, query: str) -> None:
        self._database = database
        self._query = query
        self._last = ""

    def next_chunk(self) -> list[str]:
        with self._database.errors():
            rows = self._database.connection.execute(self._query, (self._last, CHUNK)).fetchall()
        if rows:
            self._last = rows[-1][0]
        return [row[0] for row in rows]


def read_principals(session: AwsSession, thing: str) -> list[tuple[str, str]] | None:
    """Return (certificate id, attachment type) of what a thing holds now; None if the registry has no such thing."""
    entries = session.find_all("ListThingPrincipalsV2", "thingPrincipalObjects", thingName=thing)
    if entries is None:
        return None
    return [
        (entry["principal"].rpartition("/")[2], _type_of(entry))
        for entry in entries
        if ":cert/" in entry["principal"]  # things hold Cognito identities too
    ]


def _type_of(entry: Mapping[str, Any]) -> str:
    """Return the attachment type; an answer may leave it out, and only one that names it is exclusive."""
    return str(entry.get("thingPrincipalType") or AttachmentType.NON_EXCLUSIVE.value)


def prove_again(connection: sqlite3.Connection, issuer: IssuerKey) -> None:
    """Look through the certificates of no known authority for those of a CA that has become known."""
    rows = connection.execute("SELECT certificate_id, der FROM unproven ORDER BY certificate_id").fetchall()
    proven = [(issuer.key, one) for one, der in rows if issuer.issued(der)]
    connection.executemany("UPDATE certificates SET issuer_key = ? WHERE id = ?", proven)
    connection.executemany("DELETE FROM unproven WHERE certificate_id = ?", [(one,) for _, one in proven])
