"""Every kind of thing that happens to a fleet, in any order. A judge watches; at the end all must heal."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from interleaving_moves import ABORT, FAMILIES, MOVES, NO_WINDOW, WAVES, WINDOW, Move, made
from interleaving_recovery import REMEDIES
from interleaving_world import ARNS, DAY, policy
from interleaving_world import rule as rule_of

from protocol.algorithms import KeyType

REST = {
    "offlineFirst": [False, True],
    "stragglersAfter": ["1d", "6h"],
    "retries": [0, 0, 1],
    "timeout": ["5m", "1h"],
    "jitterPercent": [0, 0, 20],
    "leastInterval": ["1d", "0s", "5d"],
    "renewBefore": ["1d", "280d"],
    "maxChangePercent": [100, 100, 50],
}
"""Fields of a policy, and of the fleet's guardrails, that bear on who starts when: what is drawn of each."""


class _Machine(RuleBasedStateMachine):
    """One fleet of a few devices, its git, its backend, and everybody who acts on it."""

    only = ""  # the family that is played, where it is not drawn
    family = ""
    world = None
    played: list[list[str]] = []  # noqa: RUF012 - of each example the moves, for who counts them

    @initialize(
        family=st.sampled_from([*FAMILIES, ""]),
        count=st.integers(2, 6),
        waves=st.sampled_from(WAVES),
        soak=st.sampled_from(["0s", "0s", "24h"]),
        abort=st.sampled_from([[], ABORT]),
        in_flight=st.sampled_from([100, 3]),
        windows=st.sampled_from([[], [], [WINDOW], [NO_WINDOW]]),
        age=st.sampled_from([100, 100, 80, 10]),
        authority=st.sampled_from(["aws-iot", "aws-iot", "plant-ca"]),
        rest=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in REST.items()}),
        others=st.booleans(),
        remedy=st.sampled_from(list(REMEDIES)),
    )
    def begin(
        self, family, count, waves, soak, abort, in_flight, windows, age, authority, rest, others, remedy
    ) -> None:
        self.family, self.remedy = self.only or family, remedy
        self.played.append([])
        of_rollout = {name: rest[name] for name in ("offlineFirst", "stragglersAfter", "retries", "timeout")}
        of_schedule = {name: rest[name] for name in ("jitterPercent", "leastInterval")}
        self.world = made(
            count,
            rollout={"waves": waves, "soak": soak, "abort": abort, "maxInFlight": in_flight} | of_rollout,
            schedule={"windows": windows} | of_schedule,
            certificate=rule_of(authority=authority, renewBefore=rest["renewBefore"]),
            age=age * DAY,
            authority=ARNS[0] if authority == "plant-ca" else authority,
            maxChangePercent=rest["maxChangePercent"],
        )
        if others:
            documents = self.world.documents
            documents.policies["line-b"] = policy("line-b", rollout={"waves": ["100%"]})
            self.world.commit(documents)
            self.world.plant.add("line-b-1", "line-b", age=age * DAY, key=KeyType.ECDSA_P256)

    @invariant()
    def nothing_is_broken(self) -> None:
        if self.world is not None:
            self.world.judge.check()

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            if not self.world.judge.faults:
                REMEDIES[self.remedy](self.world)
                self.world.judge.check()
        finally:
            self.world.close()


def _rule(move: Move):
    def act(self, **chosen) -> None:
        self.played[-1].append(move.act.__name__)
        move.act(self.world, **chosen)

    act.__name__ = move.act.__name__
    values = {name: st.sampled_from(given) for name, given in move.choices.items()}
    return precondition(lambda self: self.world is not None and move.is_in(self.family))(rule(**values)(act))


Interleaving = type("Interleaving", (_Machine,), {name: _rule(move) for name, move in MOVES.items()})


def of_family(family: str) -> type[_Machine]:
    """The machine with the moves of one family alone."""
    return type("Interleaving", (Interleaving,), {"only": family})
