"""Every world that can be reached, each judged; and where each comes to if nothing more goes wrong."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import smallworld_backend as backend
import smallworld_cloud as clouds
import smallworld_model as model
from smallworld_cloud import OPEN
from smallworld_model import Budget, World

from component.certificate_rotator.machine import Event as Happens
from component.certificate_rotator.machine import State

CALM_STEPS = 400  # more than any world needs that comes to rest
RESTING = (State.IDLE, State.ASKING)
WHOLLY = "the thief has acted wholly as the device"
RESTLESS, UNHEARD = "! it never comes to rest", "! nobody takes up the job"


class Found(NamedTuple):
    """An invariant that does not hold."""

    broken: str
    budget: Budget
    begin: object

    def __str__(self):
        """Tell how it comes to that, which takes another search."""
        again = Search(self.budget, self.begin, traced=True)
        broken, node = again.run()
        return "\n  ".join([broken, *again.path(node)])


class Report(NamedTuple):
    worlds: int
    steps: int
    ends: Counter
    found: Found | None


# A world as one number, which takes less room -------------------------------------------------------------

_DEVICES, _INBOXES = 20, 16  # bits; the rest is the cloud's


class _Numbers(dict):
    """Values → their numbers, in the order in which they are met."""

    def __init__(self):
        super().__init__()
        self.all = []

    def __missing__(self, value):
        self[value] = number = len(self.all)
        self.all.append(value)
        return number


class Writing:
    """Writes worlds as numbers and reads them again."""

    def __init__(self):
        self._clouds, self._devices, self._inboxes = _Numbers(), _Numbers(), _Numbers()

    def write(self, world):
        device, cloud, inbox, waited = world
        number = self._clouds[cloud] << _DEVICES | self._devices[device]
        return (number << _INBOXES | self._inboxes[inbox]) << 1 | waited

    def read(self, number):
        waited, number = bool(number & 1), number >> 1
        inbox, number = number & (1 << _INBOXES) - 1, number >> _INBOXES
        device, cloud = number & (1 << _DEVICES) - 1, number >> _DEVICES
        return World(self._devices.all[device], self._clouds.all[cloud], self._inboxes.all[inbox], waited)


class Search:
    """One search, the least troubled worlds first. A node is a world, written, with what there is to spare."""

    def __init__(self, budget, begin, *, traced=False):
        """``traced``: note from which node each was reached, which takes much room."""
        self._writing = Writing()
        self.budget, self.steps, self.ends = budget, 0, Counter()
        self.seen = {}  # world → what there is to spare with it
        self.parents = {} if traced else None
        self._todo = [set() for _ in range(budget.at_all + 1)]  # worlds, by how much is spent
        self._level, self._anew = 0, {}  # what is noted for the level that is at work: world → what there is to spare
        self._calm = Calm(self._writing.write)
        self._note(self._writing.write(begin()), model.at_first(budget), None)

    def run(self):
        """The first invariant that is broken, as (which, node); None if none is."""
        return next((broken for broken in self.levels() if broken is not None), None)

    def levels(self):
        """What is broken in each level, one after another; in each as much has gone wrong in every world."""
        for level, worlds in enumerate(self._todo):
            self._level, broken = level, None
            while broken is None and (worlds or self._anew):
                number, spares = self._anew.popitem() if self._anew else (worlds.pop(), ())
                known = self.seen[number]  # what is not there any more was reached meanwhile with more to spare
                if not spares or number in worlds:
                    worlds.discard(number)
                    spares = (left for left in known if self._spent(left) == level)
                broken = self._visit(number, [left for left in spares if left in known])
            model.Spare.after.cache_clear()  # the next level has others
            yield broken

    def _spent(self, left):
        return self.budget.at_all - left.budget.at_all

    def _visit(self, number, spares):
        world, following = self._writing.read(number), None
        is_new = all(self._spent(left) >= self._level for left in self.seen[number])
        if is_new and not self._calm.comes_to_rest(world):
            return RESTLESS, (number, spares[0])
        for left in spares:
            broken = self._judge(world, left)
            if broken is not None:
                return broken, (number, left)
            if not goes_on(left):
                continue
            following = following or model.Crossroads(world, spares, races=self.budget.races)
            for step, rest in following.successors(left):
                after = self._writing.write(step.world)
                self._note(after, rest, (number, left))
                if step.gone:
                    is_honest = rest.budget.moves == self.budget.moves
                    if broken := model.broken_by(world, left, step, is_honest=is_honest):
                        return broken, (after, rest)
        return None

    def _judge(self, world, left):
        if model.is_impersonated(left):
            self.ends[WHOLLY] += 1
            return None
        broken = model.broken_in(world)
        if broken is None and is_over(world):
            end = self._calm.end(world, left.told)
            self.ends[end] += 1
            broken = end if end.startswith("!") else None
        return broken

    def _note(self, number, left, parent):
        """Have a world visited that was not yet reached with as much to spare."""
        self.steps += 1
        known = self.seen.get(number, ())
        for k in known:
            if k.covers(left):
                return
        self.seen[number] = (*(k for k in known if not left.covers(k)), left)
        level = self._spent(left)
        if level == self._level:
            self._anew.setdefault(number, []).append(left)
        else:
            self._todo[level].add(number)
        if self.parents is not None:
            self.parents.setdefault((number, left), parent)

    def path(self, node):
        """How a world was reached."""
        path = []
        while (before := self.parents[node]) is not None:
            number, left = before
            following = model.Crossroads(self._writing.read(number), [left], races=self.budget.races)
            steps = following.successors(left)
            label = next(step.label for step, rest in steps if (self._writing.write(step.world), rest) == node)
            path.append("".join(label))
            node = before
        return path[::-1]


def goes_on(left):
    """Whether anything can be found from here: whatever comes of a thief who was wholly the device is excused."""
    return not model.is_impersonated(left)


def search(budget: Budget, begin=model.first):
    """Explore; stops at the first invariant that is broken, and then does it again to tell how it came to that."""
    one = Search(budget, begin)
    broken = one.run()
    return Report(len(one.seen), one.steps, one.ends, broken and Found(broken[0], budget, begin))


# Where it ends if nothing more goes wrong -----------------------------------------------------------------


NOTHING: frozenset = frozenset()  # may go wrong


def calm_step(world):
    """The next thing on a good day; None when the day is over: the device rests, and nothing is to be done."""
    memory = world.device.memory
    rests = memory is not None and memory.state in RESTING and Happens.TIME_LIMIT not in memory.timers
    if rests and world.cloud.execution not in OPEN and not (world.inbox.messages or world.cloud.pending):
        return None
    return next(model.steps(world, NOTHING, races=0), None)


def is_over(world):
    return not (world.inbox.messages or world.cloud.pending) and calm_step(world) is None


def _in_the_cloud(world, move):
    return model.world_then(world.device, move.cloud, world.inbox, move.answers, waited=world.waited), move.told


def _times_out(world):
    cloud = world.cloud
    return world._replace(cloud=clouds.ended(cloud, "TIMED_OUT") if cloud.execution in OPEN else cloud), False


AFTERWARDS = (
    _times_out,
    lambda world: _in_the_cloud(world, clouds.pause(world.cloud, backend.LONG)),
    lambda world: (model.dead(world), False),
    lambda world: _in_the_cloud(world, clouds.pause(world.cloud, backend.LONG)),
    lambda world: _in_the_cloud(world, clouds.pause(world.cloud, backend.DAY)),
)
"""When the day is over: twenty minutes later the sweep comes round, the nucleus is started, a day later all is over."""


class Calm:
    """Follows the one calm way on; what it finds is remembered."""

    def __init__(self, write):
        self._write, self._fine, self._ends = write, set(), {}

    def comes_to_rest(self, world):
        """Whether the day is over at last."""
        path = []
        for _ in range(CALM_STEPS):
            number = self._write(world)
            step = None if number in self._fine else calm_step(world)
            if step is None:
                self._fine.update(path)
                return True
            if world.cloud.quiet and not world.inbox.messages:  # to remember these is enough
                path.append(number)
            world = step.world
        return False

    def end(self, world, told):
        """What there is when all is over, for a world in which the day is."""
        if world.cloud.execution == clouds.QUEUED:
            return UNHEARD
        final, was_told = self._afterwards(world, 0)
        return RESTLESS if final is None else model.judged_at_the_end(final, told or was_told)

    def _afterwards(self, world, stage):
        """The last world of all, None if there is none, and whether a person was told on the way to it."""
        if world is None or stage == len(AFTERWARDS):
            return world, False
        key = (self._write(world), stage)
        if key not in self._ends:
            after, told = AFTERWARDS[stage](world)
            rest, told_then = _walk(after)
            final, told_at_last = self._afterwards(rest, stage + 1)
            self._ends[key] = final, told or told_then or told_at_last
        return self._ends[key]


def _walk(world):
    """Where the device rests, None if nowhere, and whether a person was told on the way there."""
    told = False
    for _ in range(CALM_STEPS):
        step = calm_step(world)
        if step is None:
            return world, told
        world, told = step.world, told or step.cost.told
    return None, told
