"""Whatever happens to a registry between refreshes, a warm inventory ends where a new one begins."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from fleet_registry import EPOCH, Registry
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller.fleet import Inventory, RefreshOptions, refresh

THINGS = [f"t-{number}" for number in range(5)]
WHOLE_SLICE = RefreshOptions(slice_fraction=1.0, max_slice=1000, backend="assume")
NO_SLICE = RefreshOptions(max_slice=0, backend="assume")

thing = st.sampled_from(THINGS)
loud = st.one_of(  # what a listing shows
    st.tuples(st.just("rotate"), thing),
    st.tuples(st.just("extra"), thing),
    st.tuples(st.just("status"), thing),
    st.tuples(st.just("join"), thing),
    st.tuples(st.just("leave"), thing),
    st.tuples(st.just("lose"), thing),
)
silent = st.one_of(  # what only asking a thing shows
    st.tuples(st.just("move"), thing, thing),
    st.tuples(st.just("retype"), thing),
)


class World:
    """A registry, and the events that may happen to it."""

    def __init__(self) -> None:
        self.registry = Registry(groups={"line-a": THINGS[:3], "other": []})
        self.registry.groups["line-a"] = THINGS[:3]
        self.made, self.clock = 0, EPOCH
        for name in THINGS:
            self.extra(name)

    def held(self, name: str) -> list[str]:
        return sorted(self.registry._by_thing.get(name, {}))

    def extra(self, name: str) -> None:
        self.made += 1
        self.registry.add_certificate(f"{self.made:04x}f", name, created_at=self.clock + timedelta(minutes=self.made))

    def lose(self, name: str) -> None:
        for certificate_id in self.held(name)[:1]:
            self.registry.remove_certificate(certificate_id)

    def rotate(self, name: str) -> None:
        self.lose(name)
        self.extra(name)

    def status(self, name: str) -> None:
        for certificate_id in self.held(name)[:1]:
            entry = self.registry.certificates[certificate_id]
            entry["status"] = "INACTIVE" if entry["status"] == "ACTIVE" else "ACTIVE"

    def join(self, name: str) -> None:
        if name not in self.registry.groups["line-a"]:
            self.registry.groups["line-a"].append(name)

    def leave(self, name: str) -> None:
        if name in self.registry.groups["line-a"]:
            self.registry.groups["line-a"].remove(name)

    def move(self, name: str, to: str) -> None:
        for certificate_id in self.held(name)[:1]:
            self.registry.detach(certificate_id, name)
            self.registry.attach(certificate_id, to)

    def retype(self, name: str) -> None:
        for certificate_id in self.held(name)[:1]:
            self.registry.attach(certificate_id, name, "NON_EXCLUSIVE_THING")


def ends_alike(rounds, options, make_session, make_desired, now, *, unmanaged: bool = True) -> None:
    """``unmanaged`` False leaves out the things that nobody governs: a slice asks governed things only."""
    world, desired = World(), make_desired("line-a")
    session = make_session(world.registry)
    with tempfile.TemporaryDirectory() as folder:

        def look(inventory: Inventory, how: RefreshOptions):
            state = refresh(session, inventory, desired, now, options=how)
            seen = state if unmanaged else replace(state, unmanaged=(), unmanaged_count=0)
            return list(inventory.devices(desired, state)), seen

        with Inventory(Path(folder) / "warm.sqlite") as warm:
            look(warm, options)
            world.clock = now
            for number, events in enumerate(rounds):
                for event, *names in events:
                    getattr(world, event)(*names)
                with Inventory(Path(folder) / f"cold-{number}.sqlite") as cold:
                    assert look(warm, options) == look(cold, NO_SLICE)


checked = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@checked
@given(rounds=st.lists(st.lists(loud, max_size=4), min_size=1, max_size=3))
def test_whatever_a_listing_shows_is_known_at_the_next_refresh(rounds, make_session, make_desired, now):
    ends_alike(rounds, NO_SLICE, make_session, make_desired, now)


@checked
@example(rounds=[[("leave", "t-0"), ("move", "t-0", "t-3")]])
@example(rounds=[[("extra", "t-0"), ("move", "t-0", "t-3")]])  # a new certificate hid that the old one had gone
@given(rounds=st.lists(st.lists(st.one_of(loud, silent), max_size=4), min_size=1, max_size=3))
def test_whatever_happens_is_known_once_the_slice_has_come_round(rounds, make_session, make_desired, now):
    ends_alike(rounds, WHOLE_SLICE, make_session, make_desired, now, unmanaged=False)
