"""The loop on its real thread: whatever comes from wherever becomes one sequence of actions."""

from __future__ import annotations

import threading

import pytest

from component.certificate_rotator.errors import DeviceError
from component.certificate_rotator.loop import ThreadLoop


def test_messages_of_many_threads_and_timers_run_on_one_thread_one_at_a_time_in_order():
    loop, seen, busy = ThreadLoop(), [], threading.Lock()

    def action(source, number):
        assert busy.acquire(blocking=False), "two actions at once"
        seen.append((source, number, threading.get_ident()))
        busy.release()
        if len(seen) == 4 * 100 * 2:
            loop.stop()

    def network_thread(source):
        for number in range(100):
            loop.call_soon(lambda number=number: action(source, number))
            loop.call_later(0.001, lambda number=number: action(-1 - source, number))

    threads = [threading.Thread(target=network_thread, args=(source,)) for source in range(4)]
    for thread in threads:
        thread.start()
    loop.run()
    for thread in threads:
        thread.join()
    assert {thread for _, _, thread in seen} == {threading.get_ident()}
    for source in range(4):
        assert [number for found, number, _ in seen if found == source] == list(range(100))


def test_timers_run_in_the_order_in_which_they_are_due():
    loop, seen = ThreadLoop(), []
    loop.call_later(0.03, loop.stop)
    loop.call_later(0.02, lambda: seen.append("second"))
    loop.call_later(0.01, lambda: seen.append("first"))
    loop.run()
    assert seen == ["first", "second"]


def test_a_timer_that_is_cancelled_by_an_action_before_it_does_not_run_though_it_is_due():
    loop, seen = ThreadLoop(), []
    timer = loop.call_later(0.0, lambda: seen.append("timer"))
    loop.call_soon(timer.cancel)
    loop.call_later(0.01, loop.stop)
    loop.run()
    assert seen == []


def test_losing_the_nucleus_ends_the_loop_after_the_action_in_progress_and_before_the_next():
    loop, seen = ThreadLoop(), []

    def action():
        lost = threading.Thread(target=loop.stop, args=(DeviceError("the connection to the nucleus is lost"),))
        lost.start()
        lost.join()
        seen.append("finished")

    loop.call_soon(action)
    loop.call_soon(lambda: seen.append("next"))
    with pytest.raises(DeviceError, match="the connection to the nucleus is lost"):
        loop.run()
    assert seen == ["finished"]


def test_an_action_that_fails_ends_the_loop_with_its_error():
    loop = ThreadLoop()
    loop.call_soon(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        loop.run()
