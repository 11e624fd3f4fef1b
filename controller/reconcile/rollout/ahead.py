"""How a rollout goes on from where it stands, if all goes well: its waves, soaks, in-flight limit and windows.

There is one such reckoning. Plan and preview, incidents and deadlines, the forecast and the explanation of one
device all ask it, so that they cannot show different things of the same days. A simulation plays the planner
itself; without mishaps it comes to the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.reconcile.values import Stage, WaveStatus

from .evidence import shortened_soak
from .waves import cumulative_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.reconcile.schedule import OpenTime
    from controller.reconcile.values import Policy, Rollout

    from .waves import Opening


def rate_per_minute(rollout: Rollout) -> float:
    """Return devices that can be started in a minute when each takes as long as its time limit."""
    in_flight = rollout.max_in_flight / max(1.0, rollout.timeout / timedelta(minutes=1))
    return min(float(rollout.maximum_per_minute), in_flight)


@dataclass(frozen=True, slots=True)
class Ahead:
    """A rollout, from where it stands (``opening``); one that has stopped is taken to be resumed."""

    policy: Policy
    open_time: OpenTime
    opening: Opening
    population: int  # what wave percentages are taken of

    def stages(
        self, devices: int, now: datetime, *, urgent: int = 0, deadline: datetime | None = None
    ) -> Iterator[Stage]:
        """Yield the waves in which so many devices rotate from now on; fewer of them if windows leave no time.

        The ``urgent`` among the devices come first and do not wait for windows; a ``deadline`` may shorten the soaks.
        """
        rollout, opening = self.policy.rollout, self.opening
        sizes, of = cumulative_sizes(rollout.waves, self.population), len(rollout.waves)
        wave, room, done = opening.wave, opening.capacity, 0
        moment = now if room else max(now, opening.until or now)  # a wave with room goes on while it soaks
        ended = opening.ended
        if opening.status is WaveStatus.RUNNING:
            ended = moment + rollout.timeout  # those who are asked answer in time
        if ended is not None and not room:
            soaked = ended + shortened_soak(rollout.soak, ended, deadline, of - wave)
            moment = max(now, min(soaked, opening.until or soaked))
        while done < devices:
            number = devices - done if wave >= of else min(room, devices - done)
            if number > 0:
                stage = self._stage(wave, number, moment, is_urgent=done + number <= urgent)
                if stage is None:
                    return
                yield stage
                done += number
                moment = stage.end + shortened_soak(rollout.soak, stage.end, deadline, of - wave)
            wave += 1
            room = sizes[wave - 1] - sizes[wave - 2] if wave <= of else 0

    def finish(
        self, devices: int, now: datetime, *, is_urgent: bool, deadline: datetime | None = None
    ) -> datetime | None:
        """Return when the last of so many devices has rotated, if each wave goes well.

        Urgent devices wait for no window; a deadline shortens soaks. None if windows leave no time.
        """
        stages = list(self.stages(devices, now, urgent=devices if is_urgent else 0, deadline=deadline))
        if sum(stage.devices for stage in stages) < devices:
            return None
        return stages[-1].end if stages else now

    def _stage(self, wave: int, devices: int, moment: datetime, *, is_urgent: bool) -> Stage | None:
        """Return the wave from that moment on; None if its windows leave no time for it."""
        rollout, open_time = self.policy.rollout, self.open_time
        seconds = int(devices / rate_per_minute(rollout) * 60) + 1
        if is_urgent or open_time.is_always:
            return Stage(wave, devices, moment, moment + timedelta(seconds=seconds) + rollout.timeout)
        window, worked = open_time.next_open(moment), open_time.after(moment, seconds)
        if window is None or worked is None:
            return None
        return Stage(wave, devices, max(moment, window.start), worked + rollout.timeout)
