"""After a wave of our own rotations: the devices' certificates from the backend's records instead of the registry.

A record names the certificate that a thing was left with, and holds it: its id is its SHA-256, so its content needs no
belief. Its status and creation date come from the registry's listing. Only this is left to believe of a record: the
thing holds that certificate and no other. A sample of the things is compared with the registry, and if one differs, the
registry is asked for all. If a record leaves any doubt, the registry is asked for its thing.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime

from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.fleet.database import Database
from controller.fleet.inventory import Inventory
from controller.fleet.jobs_list import OVERLAP
from controller.fleet.listing import Listed
from controller.fleet.pem import read_pem
from controller.fleet.reading import BY_A_CA, WITHOUT_CA, Described, RegistryReader
from controller.fleet.rotation_table import read_current, rotation_table
from controller.reconcile.values import AttachmentType, CertificateStatus
from protocol.names import AWS_IOT_AUTHORITY
from protocol.rotation_record import RotationRecord

FEWEST = 40  # rotated things; of fewer the registry is asked, at two calls each: a sample costs not much less
SAMPLE, SAMPLE_SHARE, MOST_SAMPLED = 10, 0.05, 300  # things that the registry is asked for nevertheless

_ROTATED = """
SELECT r.thing, r.job_id FROM rotations r JOIN things t ON t.name = r.thing
WHERE t.must_read = 1 AND t.read_in_run BETWEEN 1 AND :run - 1
AND r.status = 'SUCCEEDED' AND r.last_updated_at >= (SELECT refreshed_at FROM binding) - :overlap
AND (:group IS NULL OR t.name IN (SELECT thing FROM members WHERE group_name = :group))
"""


def read_own_rotations(
    session: AwsSession, inventory: Inventory, reader: RegistryReader, listed: Listed, group: str | None
) -> None:
    """Keep what the records of rotations that have ended since the last look show; with ``group``, of its things alone.

    Makes no call unless at least ``FEWEST`` things have rotated. Things of which no record can be believed stay marked
    as to be read. Those taken from records do not count as read: the slice comes to them as if nothing had happened.
    """
    database = inventory.database
    jobs = _rotated(database, reader.run, group)
    if len(jobs) < FEWEST:
        return
    where = f"fleet {session.fleet.name}: "
    try:
        table = rotation_table(session)
        records = [] if table is None else read_current(session, table, sorted(jobs))
    except AwsCallError as error:
        inventory.tell(f"{where}the registry is asked for {len(jobs)} rotated devices: {error}; {error.remedy}")
        return
    known = _known(database, listed, jobs)
    held: dict[str, Described] = {}
    for record in records:
        is_known = known.get(record.thing_name) == [(record.old_certificate_id, AttachmentType.EXCLUSIVE.value)]
        if is_known and record.is_rotated and record.job_id in jobs[record.thing_name]:
            described = _described(record, listed)
            if described is not None:
                held[record.thing_name] = described
    if len(held) < FEWEST:
        return
    sample = _sample(held, reader.run)
    reader.read_things(sample)
    otherwise = [thing for thing in sample if not reader.shows(thing, held[thing])]
    if otherwise:
        inventory.tell(
            f"{where}the registry shows {otherwise[0]} otherwise than the rotation table ({len(otherwise)} of "
            f"{len(sample)} compared): it is asked for all {len(held)} rotated devices"
        )
        return
    for thing in sorted(held.keys() - set(sample)):
        reader.keep_recorded(thing, held[thing])


def _rotated(database: Database, run: int, group: str | None) -> dict[str, set[str]]:
    """Return, by thing to be read again, the rotation jobs under which it has succeeded since the last look."""
    found: dict[str, set[str]] = defaultdict(set)
    with database.errors():
        values = {"run": run, "overlap": OVERLAP.total_seconds(), "group": group}
        for thing, job_id in database.connection.execute(_ROTATED, values):
            found[thing].add(job_id)
    return found


def _known(database: Database, listed: Listed, things: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """Return what the things held before this look, as (certificate id, attachment type)."""
    found = {thing: list(listed.lost.get(thing, ())) for thing in things}
    with database.errors():
        for thing, *held in database.connection.execute("SELECT thing, certificate_id, type FROM attachments"):
            if thing in found:
                found[thing].append((held[0], held[1]))
    return found


def _described(record: RotationRecord, listed: Listed) -> Described | None:
    """Return the certificate that a rotation left its thing with, as DescribeCertificate would; None if in doubt."""
    certificate_id, pem = record.new_certificate_id, record.certificate_pem
    if certificate_id is None or pem is None or certificate_id not in listed.new:
        return None
    facts = read_pem(pem)
    is_of_aws_iot = record.authority == AWS_IOT_AUTHORITY
    if hashlib.sha256(facts.der).hexdigest() != certificate_id or facts.names_aws_iot is not is_of_aws_iot:
        return None
    description = {
        "certificateId": certificate_id,
        "status": CertificateStatus.ACTIVE.value,
        "creationDate": datetime.fromtimestamp(listed.new[certificate_id], UTC),
        "certificateMode": BY_A_CA if is_of_aws_iot else WITHOUT_CA,
    }
    return description, facts


def _sample(things: Collection[str], run: int) -> list[str]:
    """Return the things to ask the registry for; they follow from their names and the run, so each run has others."""
    size = min(max(SAMPLE, math.ceil(len(things) * SAMPLE_SHARE)), MOST_SAMPLED)
    return sorted(things, key=lambda thing: hashlib.sha256(f"{run} {thing}".encode()).digest())[:size]
