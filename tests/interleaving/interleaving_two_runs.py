"""Two runs at once, at every call of AWS where one may stop and the other go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from interleaving_aws import Turns
from interleaving_judge import Judge
from interleaving_world import World


@dataclass(frozen=True)
class Schedule:
    """The first run makes ``first`` calls, something happens, the second makes ``second``; then both go on to the end.

    ``first_ends_first`` says which of them.
    """

    first: int
    second: int
    first_ends_first: bool


def every_schedule(
    make: Callable[[], World], meanwhile: Callable[[World], None], seconds: int | None = None, firsts: int = 1
) -> Iterator[tuple[Schedule, Judge]]:
    """Play every schedule in a world of its own; the judge has watched. ``seconds``: so many stops of the second."""
    most = calls_of(make)
    step = 1 if seconds is None else max(1, most // (seconds - 1))
    for first in range(0, most + 1, firsts):
        for second in range(0, most + step, step):
            for first_ends_first in (True, False):
                schedule = Schedule(first, second, first_ends_first)
                yield schedule, play(make(), schedule, meanwhile)


def play(world: World, schedule: Schedule, meanwhile: Callable[[World], None]) -> Judge:
    """Two runs of apply, from CI and as the function, each with a cache of its own."""
    try:
        ci, function = (Turns(lambda cache=cache: world.apply(cache=cache)) for cache in ("ci", "function"))
        for _ in range(schedule.first):
            ci.step()
        meanwhile(world)
        for _ in range(schedule.second):
            function.step()
        for run in (ci, function) if schedule.first_ends_first else (function, ci):
            run.finish()
        world.answer()
        world.apply()
        world.answer()
    finally:
        world.close()
    return world.judge


def calls_of(make: Callable[[], World]) -> int:
    """How many calls one run makes in such a world."""
    world = make()
    try:
        run = Turns(world.apply)
        run.finish()
        return run.calls
    finally:
        world.close()
