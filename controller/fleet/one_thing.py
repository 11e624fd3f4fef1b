"""One thing looked at anew, with the jobs of the policies that may govern it; the rest as the last look has left it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from controller.fleet.aws import AwsSession
from controller.fleet.baseline import jobs_count_from
from controller.fleet.inventory import Inventory
from controller.fleet.jobs_reader import JobsReader
from controller.fleet.last_look import NoLookError, last_look, with_tables
from controller.fleet.progress import silent
from controller.fleet.reading import RegistryReader
from controller.fleet.refresh import issuers_of
from controller.reconcile.values import DesiredState, FleetState


def look_at_thing(
    session: AwsSession, inventory: Inventory, desired: DesiredState, now: datetime, thing: str
) -> FleetState | None:
    """Return the last look's state with the thing and its jobs read again; None if that look lacks the thing.

    Three pages of jobs, one for each of its policies' open ones, and two calls for the thing.
    """
    session.verify()
    database = inventory.database
    with inventory.only_writer():
        try:
            state = last_look(inventory, desired, session.endpoint("iot"))
        except NoLookError:
            return None
        finally:
            database.thaw()
        groups = inventory.groups_of(thing)
        if not groups:
            return None
        policies = {policy.name for policy in desired.policies if policy.thing_group in groups}
        JobsReader(session, database, now, jobs_count_from(state.baseline, now), silent).run(policies)
        RegistryReader(session, database, issuers_of(session, inventory, desired), silent).read_again(thing)
    with database.snapshot() as connection:
        return with_tables(connection, replace(state, jobs=()))
