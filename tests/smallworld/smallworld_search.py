"""Every world that can be reached, each judged; and where each comes to if nothing more goes wrong."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import smallworld_backend as backend
import smallworld_device as component
import smallworld_model as model
import smallworld_pool as pool
from smallworld_model import Budget

from component.certificate_rotator.machine import Event as Happens
from component.certificate_rotator.machine import State

CALM_STEPS = 400  # more than any world needs that comes to rest
RESTING = (State.IDLE, State.ASKING)


class Found(NamedTuple):
    """An invariant that does not hold, and how to get there."""

    broken: str
    path: list
    world: model.World

    def __str__(self):
        return "\n  ".join([self.broken, *self.path])


class Report(NamedTuple):
    worlds: int
    steps: int
    ends: Counter
    found: Found | None


def search(budget: Budget, limit=None):
    """Explore, the least troubled worlds first; stops at the first invariant that is broken."""
    begin = model.canonical(model.first())
    seen, parents = {begin: [budget]}, {(begin, budget): None}
    todo = [[] for _ in range(budget.at_all + 1)]  # by how much is spent
    todo[0].append((begin, budget))
    steps, ends, calm = 0, Counter(), {}
    for spent in todo:
        while spent:
            world, left = spent.pop()
            known = seen[world]
            if left not in known:
                continue  # meanwhile reached with more to spare
            if len(known) == 1 and known[0] is left:
                end = where_it_ends(world, calm)
                ends[end] += 1
                broken = broken_in(world) or (end if end.startswith("!") else None)
                if broken:
                    return Report(len(seen), steps, ends, Found(broken, _path(parents, (world, left)), world))
            for _, following, rest in model.successors(world, left):
                steps += 1
                after = model.canonical(following)
                wrong = broken_between(world, after, rest, budget)
                if wrong is None and not _is_news(seen, after, rest):
                    continue
                parents.setdefault((after, rest), (world, left))
                if wrong is not None:
                    return Report(len(seen), steps, ends, Found(wrong, _path(parents, (after, rest)), after))
                todo[budget.at_all - rest.at_all].append((after, rest))
            if limit is not None and len(seen) > limit:
                raise AssertionError(f"more than {limit} worlds")
    return Report(len(seen), steps, ends, None)


def _is_news(seen, world, budget):
    """Whether a world was not yet reached with as much to spare; noted if so."""
    known = seen.setdefault(world, [])
    if any(k.covers(budget) for k in known):
        return False
    known[:] = [k for k in known if not budget.covers(k)]
    known.append(budget)
    return True


def _path(parents, node):
    path = []
    while (before := parents[node]) is not None:
        steps = model.successors(*before)
        path.append(next(label for label, world, left in steps if (model.canonical(world), left) == node))
        node = before
    return path[::-1]


# Judgements -----------------------------------------------------------------------------------------------


def is_impersonated(world):
    """The thief has committed a certificate of his own: to the cloud he was the device in all that it could see."""
    return any(name.startswith(model.THIEFS_KEY) for name in world.proven)


def broken_in(world):
    """What must hold in every world."""
    working = [name for name in component.held(world.device) if name in world.account.active]
    if not working and not is_impersonated(world):
        return "the device holds no credential that works"
    return None


def broken_between(before, after, left, begun):
    """What no step may do."""
    gone = before.account.names - after.account.names
    if pool.FIRST in gone and not set(before.proven) - {pool.FIRST}:
        return "the old certificate went without a commit over the new one's connection"
    honest = left.moves == begun.moves
    committed = before.device.loaded == pool.FIRST and before.proven
    # One that has said FAILED from its old certificate may go to the new one after all, if it had sent a commit: what
    # it says last decides, and it comes back on the old one by itself.
    is_given_up = before.device.loaded != pool.FIRST and '"FAILED"' in after.account.table
    if honest and before.online and before.device.loaded in gone and not committed and not is_given_up:
        return "a certificate went with which its device is connected, and that it has not committed away"
    return None


# Where it ends if nothing more goes wrong -----------------------------------------------------------------


def where_it_ends(world, known):
    """Follow the one calm way on; remembered for every world on it."""
    path = []
    end = None
    while end is None:
        if world in known:
            end = known[world]
            break
        path.append(world)
        if len(path) > CALM_STEPS:
            end = "! it never comes to rest"
            break
        following = calm_step(world)
        if following is None:
            end = judge_end(world)
        else:
            world = model.canonical(following)
    for one in path:
        known[one] = end
    return end


_NONE = Budget()


def calm_step(world):
    """The next thing, in the order of a good day; None when the day is over."""
    if world.pending:
        oldest = min(world.pending, key=lambda p: p.sent)
        rest = list(world.pending)
        rest.remove(oldest)
        return model.run(world._replace(pending=tuple(rest)), oldest)
    for moves in (model._device_hears, model._device_starts, _calm_timer):
        following = next(iter(moves(world, _NONE)), None)
        if following is not None:
            return following[1]
    if world.execution in model.OPEN:
        return model._ended(world, "TIMED_OUT")
    return _aftermath(world)


def _calm_timer(world, budget):
    memory = world.device.memory
    rests = memory is not None and memory.state in RESTING and Happens.TIME_LIMIT not in memory.timers
    if memory is not None and not (rests and world.execution not in model.OPEN):
        yield from reversed(list(model._timer_is_due(world, budget)))


def _aftermath(world):
    """Twenty minutes later the sweep comes round, the nucleus is started once more, a day later all is over."""
    steps = (
        lambda: model.pause(world, backend.LONG),
        lambda: world._replace(device=component.die(world.device)),
        lambda: model.pause(world, backend.LONG),
        lambda: model.pause(world, backend.DAY),
    )
    return steps[world.later]()._replace(later=world.later + 1) if world.later < len(steps) else None


def judge_end(world):
    certificates = {name for name, _, _ in world.account.certificates}
    uses = component.in_place(world.device)
    works = world.online and uses in world.account.active
    if is_impersonated(world):
        return "the thief has acted wholly as the device" + ("" if works else ", which is off line")
    if not works:
        return "! the device ends without a connection"
    if certificates == {uses}:
        thief = model.thiefs(world)
        rotated = world.execution == "SUCCEEDED" and len(world.account.issued) > 1
        if thief and rotated and not world.told:
            return "! the job has succeeded, and the thief's credential works: nobody was told"
        return "settled on the new one" if uses != pool.FIRST else "settled on the old one"
    if not world.told:
        return "! certificates are left over, and nobody was told"
    return "a person was told"
