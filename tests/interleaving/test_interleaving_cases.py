"""Histories that once went wrong do so no more."""

from __future__ import annotations

import pytest
from interleaving_cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_a_history_that_once_went_wrong(name):
    world = CASES[name]()
    try:
        world.judge.check()
    finally:
        world.close()
