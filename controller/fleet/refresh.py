"""A refresh: the inventory brought up to date with the registry, at a cost that follows the governed devices.

Calls: ⌈things/250⌉ for each governed group, two for each governed thing that is new or has changed (what it
holds, what that contains), a few pages of the account's certificates and things (all of them once a day), one for
each private CA, a few for jobs, and a bounded slice of things that is read again on every run, least recently
read first, so that silent re-attachments come to light too. After a wave of our own rotations a call for every 100
of them takes the place of the two for each, besides those of a sample.
An interrupted refresh goes on where it stopped. One for a single policy reads that policy's devices and jobs; what
else it comes across is kept and read by the next one for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from controller.errors import FleetError
from controller.fleet.authorities import IssuerKey, describe_cas, fetch_issuer
from controller.fleet.aws import AwsSession
from controller.fleet.backend import is_stock_backend, read_deployment
from controller.fleet.baseline import baseline_of, jobs_count_from, read_record
from controller.fleet.database import Database
from controller.fleet.health import HealthReader
from controller.fleet.inventory import Inventory
from controller.fleet.jobs_reader import JobsReader
from controller.fleet.last_look import keep_look, with_tables
from controller.fleet.listing import WHOLE_EVERY, Lister, forget_strangers
from controller.fleet.own_rotations import read_own_rotations
from controller.fleet.progress import Progress, silent
from controller.fleet.reading import RegistryReader, prove_again, read_principals
from controller.fleet.rotation_table import read_shared
from controller.fleet.stock import SettingReader, StockSettings, read_stock_backend
from controller.reconcile.values import AttachmentType, DesiredState, FleetState, Mode, Policy, StockBackend

PASSES = 3  # what things hold leads to certificates, and these to things


@dataclass(frozen=True, slots=True)
class RefreshOptions:
    """How much a refresh reads again, and what it takes for granted."""

    slice_fraction: float = 1 / 150  # of the governed things read again on every run: in a week, if that is hourly …
    max_slice: int = 700  # … and at most so many: a minute and a half at the quota, which nothing else uses
    list_whole_every: timedelta = WHOLE_EVERY
    backend: Literal["ask", "assume"] = "ask"  # assume: it is ours, without asking for its job template


def refresh(
    session: AwsSession,
    inventory: Inventory,
    desired: DesiredState,
    now: datetime,
    progress: Progress = silent,
    *,
    options: RefreshOptions = RefreshOptions(),
    only: Policy | None = None,
) -> FleetState:
    """Bring the inventory up to date with AWS; raises FleetError or InventoryError, and can be run again.

    With ``only`` a policy, of the things in its group: of others the state may be as old as the last look at all.
    """
    policies, group = (desired.policies, None) if only is None else ((only,), only.thing_group)
    session.verify()
    database = inventory.database
    database.thaw()
    with inventory.only_writer():
        inventory.bind(desired.fleet, session.endpoint("iot"))
        record = read_record(session)
        group_arns = _group_arns(session, policies)
        is_needed = any(policy.mode is Mode.ENFORCE for policy in policies)
        is_stock = options.backend == "ask" and is_stock_backend(session, is_needed=is_needed)
        is_ours = options.backend == "ask" and not is_stock
        deployment, unknown = read_deployment(session) if is_ours else (None, None)
        stock = read_stock_backend(session) if is_stock else StockBackend()
        issuers = issuers_of(session, inventory, desired)
        cas, cas_unknown = describe_cas(session, desired)
        site = desired.fleet.site_attribute
        lister = Lister(session, database, now, progress, whole_every=options.list_whole_every, site_attribute=site)
        if lister.is_whole_due:
            database.require_sound()
        listed = lister.run({policy.thing_group for policy in desired.policies}, group)
        jobs = JobsReader(session, database, now, jobs_count_from(record and record[0], now), progress)
        jobs.run(None if only is None else {only.name})
        HealthReader(session, database, now, group).run()
        if is_stock:
            SettingReader(session, database).run()
        reader = RegistryReader(session, database, issuers, progress)
        if not is_stock:
            read_own_rotations(session, inventory, reader, listed, group)
        _read(reader, database, options, group)
        recorded = frozenset(record[0].sizes) if record and only else frozenset()
        with database.snapshot() as connection:
            baseline = baseline_of(record, session, connection, recorded.union(group_arns))
        splits = any(policy.certificate.shared_certificate for policy in policies)
        with database.snapshot() as connection:
            shared, shared_unknown = read_shared(session, deployment if splits else None, connection)
        with database.transaction() as connection:
            state = FleetState(
                observed_at=now,
                group_arns=dict(sorted(group_arns.items())),
                backend_is_stock=is_stock,
                stock=stock,
                deployment=deployment,
                deployment_unknown=unknown,
                private_cas=cas,
                cas_unknown=cas_unknown,
                baseline=baseline,
                shared=shared,
                shared_unknown=shared_unknown,
            )
            if only is None:
                forget_strangers(connection, now)
                keep_look(connection, desired, state)
                connection.execute("UPDATE binding SET refreshed_at = ?", (now.timestamp(),))
            else:  # the last look at all has become a little younger
                connection.execute("UPDATE binding SET look_run = run WHERE look_run = run - 1")
    with database.snapshot() as connection:
        return with_tables(connection, state)


def stock_settings(session: AwsSession, state: FleetState, inventory: Inventory) -> StockSettings | None:
    """Return the settings of a stock backend that the look has found, for a later comparison.

    None for a backend of ours.
    """
    return StockSettings(session, state.stock, inventory.settings()) if state.backend_is_stock else None


def current_certificates(session: AwsSession, thing: str) -> tuple[tuple[str, AttachmentType], ...] | None:
    """Return what a thing holds at this moment, by certificate id; None if the thing does not exist. One call."""
    principals = read_principals(session, thing)
    if principals is None:
        return None
    return tuple((certificate_id, AttachmentType(kind)) for certificate_id, kind in sorted(principals))


def _group_arns(session: AwsSession, policies: Iterable[Policy]) -> dict[str, str]:
    """Return ARN of every governed group; FleetError names the policies of those that do not exist."""
    arns: dict[str, str] = {}
    missing: list[str] = []
    for policy in policies:
        if policy.thing_group in arns:
            continue
        answer = session.find("iot", "DescribeThingGroup", thingGroupName=policy.thing_group)
        if answer is None:
            missing.append(
                f"{policy.source.at('spec.thingGroup')}: policy {policy.name!r} governs thing group "
                f"{policy.thing_group!r}, which does not exist in {session.where}"
            )
        else:
            arns[policy.thing_group] = answer["thingGroupArn"]
    if missing:
        raise FleetError("\n".join(missing), "create the thing group, or correct the policy's thingGroup")
    return arns


def issuers_of(session: AwsSession, inventory: Inventory, desired: DesiredState) -> list[IssuerKey]:
    """Return the private CAs that the desired state names, and those that it named before.

    One call for each CA that is named; one that cannot be asked any more is taken to have its old key. If a CA shows
    another key, the whole inventory is forgotten. An earlier CA still proves certificates, because git may name it
    again, and a certificate is read once.
    """
    database = inventory.database
    with database.errors():
        stored = dict(database.connection.execute("SELECT arn, pem FROM issuers"))
    known = {arn: IssuerKey.from_pem(arn, pem) for arn, pem in stored.items()}
    found: dict[str, tuple[IssuerKey, str]] = {}
    for _, authority in sorted(desired.authorities.items()):
        if authority.arn is not None and authority.arn not in found:
            try:
                found[authority.arn] = fetch_issuer(session, authority)
            except FleetError:
                if authority.arn not in known:
                    raise
                found[authority.arn] = known[authority.arn], stored[authority.arn]
    changed = [arn for arn, (issuer, _) in found.items() if arn in known and known[arn].key != issuer.key]
    if changed:
        inventory.begin_anew(f"knows {changed[0]} with another key than it has")
        known.clear()
    for issuer, pem in found.values():
        if issuer.arn not in known:
            with database.transaction() as connection:
                connection.execute("INSERT INTO issuers VALUES (?, ?, ?)", (issuer.arn, issuer.key, pem))
                prove_again(connection, issuer)
    return [*(issuer for issuer, _ in found.values()), *(issuer for arn, issuer in known.items() if arn not in found)]


def _read(reader: RegistryReader, database: Database, options: RefreshOptions, group: str | None) -> None:
    """Read what is not known, or not known any more; then a slice of the rest."""

    def things(query: str, most: int = -1) -> list[Any]:
        among = "1" if group is None else "name IN (SELECT thing FROM members WHERE group_name = :group)"
        values = {"run": reader.run, "most": most, "group": group}
        with database.errors():
            return [found for (found,) in database.connection.execute(query.format(among=among), values)]

    for _ in range(PASSES):
        reader.read_things(things(_UNREAD))
        reader.read_certificates()
    size = min(math.ceil(things(_KNOWN)[0] * options.slice_fraction), options.max_slice)
    reader.read_things(things(_SLICE, size), is_slice=True)
    reader.read_certificates()  # that the slice turned out to hold with others, or to hold no more


_KNOWN = "SELECT count(*) FROM things WHERE {among}"
_UNREAD = """
SELECT name FROM (
    SELECT name, read_in_run FROM things WHERE read_in_run = 0
    UNION SELECT name, read_in_run FROM things WHERE must_read = 1 AND +read_in_run < :run
) WHERE {among} ORDER BY read_in_run, name LIMIT :most
"""  # each by an index (with +, lest the second goes by the first's): to ask for either would go through all things
_SLICE = "SELECT name FROM things WHERE read_in_run < :run AND {among} ORDER BY read_in_run, name LIMIT :most"
