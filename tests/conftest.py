"""What holds for every test: its outcome does not rest on the machine's speed; it is measured where it counts."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

if find_spec("botocore"):  # the component's tests run without it, too
    from shared_models import read_models_once
    from shared_untraced import leave_aws_untraced

    read_models_once()
    leave_aws_untraced()

TESTS = Path(__file__).parent
UNMEASURED = frozenset(
    {"component", "e2e", "integration", "interleaving", "sandbox_aws", "sandbox_edge", "sandbox_stack", "smallworld"}
)
"""Folders that no floor of coverage rests on: to measure it would take two thirds more of their processor time."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    measuring = getattr(item.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    if measuring is None or item.path.relative_to(TESTS).parts[0] not in UNMEASURED:
        return (yield)
    measuring.pause()
    try:
        return (yield)
    finally:
        measuring.resume()
