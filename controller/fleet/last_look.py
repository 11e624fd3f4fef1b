"""The last look at a whole fleet, as its inventory keeps it: for questions that need not be asked of AWS again.

Devices and jobs stand in the tables; what else a look has found stands in one row, with what it was asked about.
A look at other groups or authorities, or at another backend, answers another question, and one that was cut off
none at all: the tables are then of two times.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.errors import InventoryError
from controller.fleet.inventory import Inventory
from controller.fleet.jobs_reader import stored_jobs
from controller.reconcile.values import Baseline, DesiredState, FleetState, Halt, Mode, PrivateCa, StockBackend
from protocol.deployment import parse_deployment


class NoLookError(InventoryError):
    """The inventory keeps no look that answers what is asked."""


def last_look(inventory: Inventory, desired: DesiredState, endpoint: str) -> FleetState:
    """Return what the last whole look found, as of then; devices are of then too, whoever refreshes from now on.

    NoLookError if nobody has looked at the same groups through the same endpoint.
    """
    inventory.database.freeze()
    with inventory.database.snapshot() as connection:
        row = connection.execute("SELECT account, region, endpoint, run, look_run, look FROM binding").fetchone()
        if row is None or row[5] is None or row[:3] != (desired.fleet.account, desired.fleet.region, endpoint):
            raise _none(inventory, "nobody has looked at the whole fleet yet")
        if row[3] != row[4]:
            raise _none(inventory, "a look is under way, or was cut off")
        look = json.loads(row[5])
        if look["asked"] != _asked(desired):
            raise _none(inventory, "the last look was at other thing groups or authorities, or at another backend")
        return with_tables(connection, _decoded(look))


def keep_look(connection: sqlite3.Connection, desired: DesiredState, state: FleetState) -> None:
    """Keep what stands in no table, in the transaction that ends the look."""
    look = json.dumps({"asked": _asked(desired), **_encoded(state)})
    connection.execute("UPDATE binding SET look = ?, look_run = run", (look,))


def with_tables(connection: sqlite3.Connection, state: FleetState) -> FleetState:
    """Return the state, with what the tables hold of it: group sizes, jobs, things that nobody governs."""
    sizes = dict(connection.execute("SELECT group_name, count(*) FROM members GROUP BY group_name"))
    rotations, checks = stored_jobs(connection)
    return replace(
        state,
        group_sizes={group: sizes.get(group, 0) for group in state.group_arns},
        jobs=rotations,
        checks=checks,
        unmanaged=tuple(name for (name,) in connection.execute("SELECT name FROM unmanaged ORDER BY name")),
        unmanaged_count=connection.execute("SELECT unmanaged FROM binding").fetchone()[0],
    )


def _none(inventory: Inventory, why: str) -> NoLookError:
    return NoLookError(
        f"the inventory {inventory.database.path} cannot answer this without a look at AWS: {why}",
        "let this run look at AWS: leave out --no-refresh",
    )


def _asked(desired: DesiredState) -> dict[str, Any]:
    return {
        "groups": sorted({policy.thing_group for policy in desired.policies}),
        "authorities": sorted({authority.arn for authority in desired.authorities.values() if authority.arn}),
        "stack": desired.fleet.stack_name,
        "enforces": any(policy.mode is Mode.ENFORCE for policy in desired.policies),
    }


def _encoded(state: FleetState) -> dict[str, Any]:
    return {
        "observed_at": state.observed_at.timestamp(),
        "group_arns": state.group_arns,
        "backend_is_stock": state.backend_is_stock,
        "stock": asdict(state.stock) | {"validity": _seconds(state.stock.validity)},
        "deployment": state.deployment and state.deployment.to_json(),
        "deployment_unknown": state.deployment_unknown,
        "private_cas": {
            arn: asdict(ca) | {"not_after": _timestamp(ca.not_after)} for arn, ca in state.private_cas.items()
        },
        "cas_unknown": state.cas_unknown,
        "shared": dict(state.shared),
        "shared_unknown": state.shared_unknown,
        "baseline": state.baseline
        and asdict(state.baseline)
        | {
            "committed_at": _timestamp(state.baseline.committed_at),
            "applied_at": _timestamp(state.baseline.applied_at),
            "resumed": {policy: at.timestamp() for policy, at in state.baseline.resumed.items()},
            "halted": {
                policy: (one.family, one.known_until.timestamp()) for policy, one in state.baseline.halted.items()
            },
        },
    }


def _decoded(look: dict[str, Any]) -> FleetState:
    stock, baseline = look["stock"], look["baseline"]
    if baseline is not None:
        resumed = {policy: datetime.fromtimestamp(at, UTC) for policy, at in baseline["resumed"].items()}
        halted = {
            policy: Halt(family, datetime.fromtimestamp(at, UTC))
            for policy, (family, at) in baseline.get("halted", {}).items()
        }
        instants = {name: _instant(baseline.get(name)) for name in ("committed_at", "applied_at")}
        baseline |= instants | {"resumed": resumed, "halted": halted}
    return FleetState(
        observed_at=datetime.fromtimestamp(look["observed_at"], UTC),
        group_arns=look["group_arns"],
        backend_is_stock=look["backend_is_stock"],
        stock=StockBackend(**stock | {"validity": _span(stock["validity"])}),
        deployment=None if look["deployment"] is None else parse_deployment(look["deployment"]),
        deployment_unknown=look["deployment_unknown"],
        private_cas={
            arn: PrivateCa(**ca | {"not_after": _instant(ca["not_after"])}) for arn, ca in look["private_cas"].items()
        },
        cas_unknown=tuple(look["cas_unknown"]),
        baseline=None if baseline is None else Baseline(**baseline),
        shared={one: tuple(things) for one, things in look.get("shared", {}).items()},
        shared_unknown=look.get("shared_unknown"),
    )


def _timestamp(when: datetime | None) -> float | None:
    return None if when is None else when.timestamp()


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _span(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
