"""All worlds within so many troubles, where each ends on a good day, and what another row makes of them.

One row of the table changed, only those steps are taken again that look at it, and only worlds that are new are judged.
"""

from __future__ import annotations

import json

import component_table_rules as rules
import smallworld_device as component
from component_table import (
    BIT,
    COMMIT,
    CREATE,
    FIRST,
    GET,
    LOST,
    NOTIFY,
    OPEN,
    REFUSED,
    SILENT,
    START,
    TIME_LIMIT,
    Act,
    Cloud,
    Step,
    World,
    announcement,
    around,
    bits,
    counted,
    heard,
    hears,
    inputs,
    is_owed,
    settled_offline,
    take_step,
    told,
    troubles,
)  # fmt: skip

from component.certificate_rotator.journal import UNNOTED
from component.certificate_rotator.machine import TABLE, Action, State
from component.certificate_rotator.store import Generation

AT_MOST = 300  # steps until a device must have come to rest
MANY = 60_000  # worlds: more than there are


class Machine:
    """The worlds of one table; with a row changed, what does not look at that row is taken from the original."""

    def __init__(self, table=TABLE, original=None, changed=0):
        self._table, self._original, self._changed = table, original, changed
        self._known = {}

    def outcome(self, world, doing, trouble=()):
        """What comes of an input; and the device that takes it."""
        device = component._loaded(world.device) if doing == START else world.device
        if world.stuck and not trouble:
            trouble = (("restart", "nothing"),)
        key = (device, world.cloud.lets_in(device.loaded), doing, trouble)
        if self._original is not None:
            found = self._original._known.get(key)
            if found is not None and not found.rows & self._changed:
                return found, device
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = take_step(self._table, *key)
        return found, device

    def after(self, world, doing, *, trouble=(), message=None):
        """The world after an input of the device, and what the cloud has answered to it."""
        if doing == START and world.cloud.lets_in(component.in_place(world.device)):
            world = world._replace(cloud=world.cloud.connected(component.in_place(world.device)))
        found, device = self.outcome(world, doing, trouble)
        act = Act(world, device, doing, trouble, found, world)
        owed = world.owed and doing[0] == "hear" and not (world.rests and hears(doing, NOTIFY))
        after = world._replace(
            device=found.device,
            inbox=world.inbox[doing[0] == "hear" :],
            owed=owed,
            excused=world.excused or bool(trouble) or (doing == TIME_LIMIT and world.owed),
        )
        after, untrue = heard(after, act, message)
        after = counted(after._replace(owed=after.owed or is_owed(act)), act)
        if found.device.memory is None:
            after = after.dead()
        label = ", ".join([told(doing), *map(str, trouble), *([message] if message else [])])
        broken = untrue or rules.broken_by(act._replace(after=settled_offline(after)))
        return Step(label, settled_offline(after), int(bool(trouble or message)), broken)

    def successors(self, world, left):
        """Every step: the free ones first."""
        doings, left = inputs(world), 0 if world.cloud.quirk == SILENT else left
        for doing in doings:
            yield self.after(world, doing)
        if world.rests and not world.inbox:
            yield Step("the power fails", world.dead())
        if world.cloud.clearing:
            yield Step("cleared away", settled_offline(world._replace(cloud=world.cloud.cleared())))
        if left:
            for doing in doings:
                yield from self._troubled(world, doing)
            if world.inbox:
                yield Step("lost on its way", world._replace(inbox=world.inbox[1:], owed=True), 1)
            if world.device.memory is not None and not world.rests:
                yield Step("the power fails", world.dead(), 1)
            for label, after in around(world):
                yield Step(label, after, 1)

    def _troubled(self, world, doing):
        found, device = self.outcome(world, doing)
        if found.published and world.cloud.lets_in(device.loaded):
            yield self.after(world, doing, message=LOST)
            if found.published[0][0] in (GET, CREATE, COMMIT):
                yield self.after(world, doing, message=REFUSED)
        for trouble in troubles(found, doing):
            yield self.after(world, doing, trouble=trouble)


class Search:
    """Every world within so many troubles, each judged; of a changed table what is new."""

    def __init__(self, machine, base=None, changed=0):
        self.machine, self._base, self._changed = machine, base, changed
        self.seen, self.index, self.calm_index, self.ahead, self.parents = {}, {}, {}, {}, {}

    def run(self, begins, at_all):
        """The first rule that is broken, and the world; None if none is."""
        todo = [[] for _ in range(at_all + 1)]
        for world in begins:
            self._note(todo, world, at_all, None)
        return self._explore(todo)

    def _note(self, todo, world, left, parent):
        if self._base is not None and self._base.seen.get(world, -1) >= left:
            return
        if self.seen.get(world, -1) < left:
            self.seen[world] = left
            self.parents.setdefault(world, parent)
            todo[left].append(world)

    def _explore(self, todo):
        for left in range(len(todo) - 1, -1, -1):
            while todo[left]:
                world = todo[left].pop()
                if self.seen[world] != left:
                    continue
                if len(self.seen) > MANY:
                    return "restless (worlds without end)", world
                broken = self.judge((world, 0)) or self._visit(todo, world, left)
                if broken:
                    return broken, world
        return None

    def _visit(self, todo, world, left):
        for step in self.machine.successors(world, left):
            if step.broken:
                return f"{step.broken} ({step.label})"
            self._note(todo, step.world, left - step.cost, (world, step.label))
        return None

    def path(self, world):
        steps = []
        while self.parents.get(world):
            world, label = self.parents[world]
            steps.append(label)
        return steps[::-1]

    # If nothing more goes wrong ------------------------------------------------------------------------

    def judge(self, node):
        """Whether from here, without further trouble, everything comes to its end; the rule that it breaks."""
        nodes = []
        for _ in range(AT_MOST):
            if self.ahead.get(node) is not None or self._is_fine(node):
                self._remember(nodes, node)
                return None
            following, broken, rows = self._next(node)
            if broken:
                return broken
            nodes.append((node, rows))
            if following is None:
                self._remember(nodes, None)
                return None
            node = following
        return "restless"

    def _is_fine(self, node):
        ahead = self._base.ahead.get(node) if self._base is not None else None
        return ahead is not None and not ahead & self._changed

    def _remember(self, nodes, last):
        mask = 0
        if last is not None:
            known = self.ahead.get(last)
            mask = self._base.ahead[last] if known is None else known
        for node, rows in reversed(nodes):
            mask |= rows
            self.ahead[node] = mask
            if self._base is None:
                for number in bits(rows):
                    self.calm_index.setdefault(number, []).append(node)

    def _next(self, node):
        """One step on a good day: the node after it, what is broken by it, and the rows that it looks at."""
        world, stage = node
        cloud = world.cloud
        if world.rests and world.online and not world.inbox and (cloud.job not in OPEN or cloud.clearing):
            return self._at_rest(world, stage)
        doings = inputs(world)
        if not doings:
            return None, "offline", 0
        doing = doings[-1] if world.waited else doings[0]
        rows = self.machine.outcome(world, doing)[0].rows
        step = self.machine.after(world, doing)
        return (step.world, stage), step.broken and f"{step.broken} ({step.label}, stage {stage})", rows

    @staticmethod
    def _at_rest(world, stage):
        if world.cloud.clearing:
            return (settled_offline(world._replace(cloud=world.cloud.cleared())), stage), None, 0
        if stage in (0, 3) and world.cloud.job != "SUCCEEDED" and not world.excused:
            return None, "in vain", 0
        kept = world.device.memory.kept
        if not world.excused and kept is not None and kept.kept is Generation.NEW and not world.accepted_now:
            return None, "unproven", 0
        if stage in (0, 1, 3, 4):
            return (world.dead(), stage + 1), None, 0
        if stage == 2:
            cloud = world.cloud._replace(job="QUEUED", number=world.cloud.number + 1, quirk="")
            return (world._replace(cloud=cloud, inbox=(announcement(cloud),), excused=False), 3), None, 0
        is_clean = {name for name, _ in world.device.files} == {component.CERTIFICATE, component.KEY}
        is_one = world.cloud.active == {component.in_place(world.device)}
        return None, None if is_clean and is_one else "left over", 0


def calm(world, until):
    """What a world comes to on a good day."""
    search = Search(Machine())
    for _ in range(AT_MOST):
        if until(world):
            return world
        (world, _), broken, _ = search._next((world, 0))
        assert broken is None, broken
    raise AssertionError("it never comes to that")


def state_is(*states):
    return lambda world: world.device.memory is not None and world.device.memory.state in states


def begins():
    """Worlds to begin with: a good day's, and those that many troubles lead to."""
    cloud = Cloud("QUEUED", 1, frozenset({FIRST}))
    off = World(component.first(), cloud)
    none = calm(off._replace(cloud=cloud._replace(job="SUCCEEDED")), state_is(State.IDLE))
    announced = none._replace(cloud=cloud, inbox=(announcement(cloud),))
    creating = calm(announced, state_is(State.CREATING))
    connected = calm(creating, state_is(State.CONNECTING))
    committing = calm(connected, state_is(State.COMMITTING))

    def at_rest(world):
        return world.rests and not world.inbox and world.online

    # Timed out after a commit: both certificates are there, the new one in place.
    both = calm(settled_offline(committing._replace(excused=True, cloud=committing.cloud.ended("TIMED_OUT"))), at_rest)
    # The commit was accepted, and its answer lost: both are there, the old one in place.
    unheard = connected._replace(excused=True, cloud=connected.cloud._replace(quirk="commit unanswered"))
    back = calm(unheard, at_rest)
    again = back.cloud._replace(job="QUEUED", number=2)
    back_and_creating = calm(back._replace(cloud=again, inbox=(announcement(again),)), state_is(State.CREATING))
    told = calm(unheard, state_is(State.REPORTING))

    def noted(world, **changes):
        """Without power; and its journal tells something else."""
        files = dict(world.dead().device.files)
        files[component.JOURNAL] = json.dumps({**json.loads(files[component.JOURNAL]), **changes}).encode()
        device = component.device(tuple(sorted(files.items())), None, None, world.device.keys)
        return world.dead()._replace(device=device, exchanges=1)

    # What the stock component was replaced in the middle of: its job goes on, is over, was over at a start before.
    stock = noted(connected, step="RETRYING", job_id=UNNOTED, awake=0.0)
    over = stock._replace(cloud=stock.cloud._replace(committed=True).ended("TIMED_OUT"), excused=True)
    taken_over = noted(both, job_id=UNNOTED, committed=None)

    # Left by a version of before, which wrote a record for each step.
    before = [noted(calm(announced, state_is(state)), step=state.value) for state in (State.PREPARING, State.CREATING)]

    requeued = connected.cloud._replace(job="QUEUED", rotation=None, undecided=connected.cloud.active)
    retrying = noted(connected, step="RETRYING", awake=0.0)._replace(cloud=requeued, excused=True)

    def only(world, certificate):
        return world._replace(cloud=world.cloud._replace(active=frozenset({certificate}), undecided=frozenset()))

    rotated = calm(announced, lambda world: at_rest(world) and world.cloud.job == "SUCCEEDED")
    silent = rotated._replace(cloud=rotated.cloud._replace(quirk=SILENT), excused=True)
    return [
        off, announced, creating.dead(), rotated, silent, *before,
        both, only(both.dead(), FIRST), taken_over, stock, over, retrying, only(settled_offline(told), "d1.1"),
        back, only(back, "d1.1").dead(), only(settled_offline(back), "d1.1"), only(back_and_creating.dead(), "d1.1"),
    ]  # fmt: skip


# Changes of the table --------------------------------------------------------------------------------------


def mutants(row):
    """(what is changed, the row then): it is gone, leads elsewhere, or does something else."""
    yield "removed", None
    for following in State:
        if following is not row.next:
            yield f"→ {following.value}", row._replace(next=following)
    for action in Action:
        if action is not row.action:
            yield f"/ {action.value}", row._replace(action=action)


class Trial:
    """The worlds of the table as it is, and what becomes of them if one row is another."""

    def __init__(self, at_all):
        self.at_all = at_all
        self.search = Search(Machine())
        found = self.search.run(begins(), at_all)
        self.found = found and (found[0], self.search.path(found[1]))
        self._used = {}  # bit → the (left, world) from which a step looks at the row
        for world, left in self.search.seen.items():
            for bit in bits(self._looked_at(world, left)):
                self._used.setdefault(bit, []).append((left, world))
        for uses in self._used.values():
            uses.sort(key=lambda use: -use[0])

    def _looked_at(self, world, left):
        mask = 0
        for doing in inputs(world):
            found, _ = self.search.machine.outcome(world, doing)
            mask |= found.rows
            for trouble in troubles(found, doing) if left else ():
                mask |= self.search.machine.outcome(world, doing, trouble)[0].rows
        return mask

    def kill(self, row, changed):
        """The rule that the change breaks; None if all is well."""
        bit = BIT[row.state, row.event]
        table = {key: found for key, found in TABLE.items() if key != (row.state, row.event)}
        if changed is not None:
            table[row.state, row.event] = changed
        machine = Machine(table, self.search.machine, bit)
        search = Search(machine, self.search, bit)
        for node in self.search.calm_index.get(bit, ()):
            if broken := search.judge(node):
                return broken
        for left, world in self._used.get(bit, ()):
            todo = [[] for _ in range(self.at_all + 1)]
            broken = search._visit(todo, world, left)
            if not broken and (found := search._explore(todo)):
                broken = found[0]
            if broken:
                return broken
        return None
