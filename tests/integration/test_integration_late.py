"""A choice of the other modules' tests, with functions that Lambda runs late and out of order; all orders as soak."""

from __future__ import annotations

import itertools

import pytest
from integration_bench import COMMIT, CREATE, TERMINAL
from test_integration_failures import (  # noqa: F401  # collected here a second time
    before,
    brisk,
    test_a_function_that_is_throttled_for_a_moment_costs_a_moment,
    test_a_job_that_is_canceled_while_it_waits_never_reaches_the_device,
    test_a_new_certificate_that_is_deactivated_before_it_connects_is_given_up,
    test_a_private_ca_that_cannot_be_reached_fails_the_job_and_nothing_has_changed,
    test_an_authority_that_the_deployment_does_not_have_is_refused_by_name,
    test_an_end_that_is_handled_late_removes_the_old_certificate_late,
    test_an_end_that_nobody_hears_of_is_made_up_for_by_the_next_rotation,
    test_without_commit_the_device_returns_to_its_old_certificate,
    test_without_create_the_job_fails_and_nothing_has_changed,
)
from test_integration_unresolved import (  # noqa: F401  # likewise
    healed,
    operator,
    test_a_device_that_never_heard_of_its_commit_repeats_it_and_the_old_one_goes,
    test_after_all_that_the_device_rotates_as_ever,
    test_the_next_connection_shows_that_the_new_one_is_in_use_and_the_old_one_goes,
)

from sandbox.stack.invocations import InvocationFault, doubled, late

SECONDS = (0.0, 0.7, 1.4)
FUNCTIONS = (CREATE, COMMIT, TERMINAL)
ORDERS = [
    pytest.param(
        order, id=" then ".join(order), marks=[] if order == (CREATE, TERMINAL, COMMIT) else [pytest.mark.soak]
    )
    for order in itertools.permutations(FUNCTIONS)
]


@pytest.fixture(autouse=True, params=ORDERS)
def unkind(world, request):
    """The first is run at once and a second time later, the others late."""
    unkindness = world.stack.unkindness
    for function, seconds in zip(request.param, SECONDS, strict=True):
        unkindness.add(InvocationFault(function, late(seconds) if seconds else doubled(0.5)))
    yield
    unkindness.clear()
