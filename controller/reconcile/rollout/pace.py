"""How long a rollout takes at the rates its policy gives: waves, soaks, in-flight limit, windows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .waves import cumulative_sizes, shortened_soak

if TYPE_CHECKING:
    from controller.reconcile.schedule import OpenTime
    from controller.reconcile.values import Policy, Rollout


def rate_per_minute(rollout: Rollout) -> float:
    """Devices that can be started in a minute when each takes as long as its time limit."""
    in_flight = rollout.max_in_flight / max(1.0, rollout.timeout / timedelta(minutes=1))
    return min(float(rollout.maximum_per_minute), in_flight)


def finish_at(
    policy: Policy,
    open_time: OpenTime,
    devices: int,
    population: int,
    now: datetime,
    *,
    is_urgent: bool,
    waves_done: int = 0,
    deadline: datetime | None = None,
) -> datetime | None:
    """When the last of so many devices has rotated, if each wave goes well; None where windows end before.

    ``population`` is what wave percentages are taken of, ``waves_done`` the waves that have been
    verified. Urgent devices do not wait for windows, and their ``deadline`` may shorten the soaks.
    """
    rollout = policy.rollout
    rate = rate_per_minute(rollout)
    sizes = cumulative_sizes(rollout.waves, population)[waves_done:]
    moment, done = now, 0
    for number, size in enumerate(sizes):
        reach = devices if number == len(sizes) - 1 else min(size, devices)
        if reach <= done:
            continue
        worked = _worked(open_time, moment, (reach - done) / rate, is_urgent=is_urgent)
        if worked is None:
            return None
        moment = worked + rollout.timeout
        done = reach
        if done < devices:
            moment += shortened_soak(rollout.soak, moment, deadline, len(sizes) - number - 1)
    return moment


def _worked(open_time: OpenTime, moment: datetime, minutes: float, *, is_urgent: bool) -> datetime | None:
    seconds = int(minutes * 60) + 1
    if is_urgent:
        return moment + timedelta(seconds=seconds)
    return open_time.after(moment, seconds)
