"""Calls run on threads; their results are handled here, in order, and none is lost to another's failure."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.fleet.work import Work


@given(count=st.integers(0, 60), workers=st.integers(1, 4), window=st.integers(1, 9))
@settings(deadline=None, max_examples=30)
def test_results_are_handled_once_each_in_the_order_of_the_calls(count, workers, window):
    work, handled = Work(workers, window), []
    for number in range(count):
        work.add(lambda number=number: number, handled.append)
    work.run()
    assert handled == list(range(count))


def test_results_are_handled_on_the_callers_thread():
    work, threads = Work(), []
    work.add(threading.get_ident, lambda ident: threads.append((ident, threading.get_ident())))
    work.run()
    assert threads[0][1] == threading.get_ident() != threads[0][0]


def test_handlers_and_refill_may_add_calls():
    work, handled, batches = Work(2, 2), [], [["b", "c"], ["a"]]

    def handle(text: str) -> None:
        handled.append(text)
        if len(text) == 1:
            work.add(lambda: text * 2, handle)

    def refill() -> None:
        for text in batches.pop() if batches else ():
            work.add(lambda text=text: text, handle)

    work.run(refill)
    assert sorted(handled) == ["a", "aa", "b", "bb", "c", "cc"]


def test_what_follows_from_an_answer_comes_before_what_was_added():
    work, begun = Work(1, 4), []
    for number in range(6):

        def handle(_: None, number: int = number) -> None:
            work.follow(lambda: begun.append(f"{number} again"), lambda _: None)

        work.add(lambda number=number: begun.append(str(number)), handle)
    work.run()
    assert begun[:6] == ["0", "1", "0 again", "2", "1 again", "3"]
    assert len(begun) == 12


def test_failure_keeps_results_of_calls_under_way_and_drops_the_rest():
    work, handled, begun = Work(workers=2, window=2), [], threading.Event()

    def fail() -> None:
        assert begun.wait(10)
        raise RuntimeError("first")

    def succeed() -> str:
        begun.set()
        return "under way"

    work.add(fail, handled.append)
    work.add(succeed, handled.append)
    work.add(lambda: "not begun", handled.append)
    with pytest.raises(RuntimeError, match="first"):
        work.run()
    assert handled == ["under way"]


def test_of_several_failures_the_first_is_raised():
    work = Work(workers=2, window=4)
    for text in ("first", "second"):

        def fail(text: str = text) -> None:
            raise RuntimeError(text)

        work.add(fail, lambda _: None)
    with pytest.raises(RuntimeError, match="first"):
        work.run()


@pytest.mark.parametrize("where", ["call", "handler"])
def test_interrupt_stops_at_once(where):
    work = Work(workers=1, window=1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    work.add(interrupt if where == "call" else lambda: None, interrupt)
    work.add(lambda: pytest.fail("must not run"), lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        work.run()
