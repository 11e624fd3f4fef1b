"""Notes of ``validate`` on what is allowed, and yet may not mean what its author thinks; nothing fails for them."""

from __future__ import annotations

from collections.abc import Iterator

from controller.errors import Problem
from controller.reconcile.values import DesiredState, Policy

_DAY_OF_MONTH, _DAY_OF_WEEK = 2, 4  # of the five fields of a cron expression


def notes_of(desired: DesiredState) -> Iterator[Problem]:
    """Yield one note for each place."""
    for policy in desired.policies:
        for index, window in enumerate(policy.schedule.windows):
            fields = window.cron.split()
            days, weekdays = fields[_DAY_OF_MONTH], fields[_DAY_OF_WEEK]
            if not days.startswith("*") and not weekdays.startswith("*"):
                yield _note(
                    policy,
                    f"spec.schedule.windows.{index}.cron",
                    f"{window.cron!r} fires on the days {days} of the month and on every weekday {weekdays} besides, "
                    "as cron has it, not on the days that are both; the first Monday of a month is '0 2 * * 1#1'",
                )


def _note(policy: Policy, field: str, message: str) -> Problem:
    path, _, line = policy.source.at(field).rpartition(":")
    return Problem(path, int(line), f"{field}: {message}")
