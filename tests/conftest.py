"""What holds for every test: its outcome does not rest on the machine's speed; it is measured where it counts."""

import gc
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# As the command line does in whatever process runs it: much of what an import costs is to look for garbage meanwhile.
gc.set_threshold(100_000, 50, 100)
# For the CDK, which is loaded for a few stacks: Node's threads of its own spend more there than they save.
os.environ.setdefault("NODE_OPTIONS", "--max-semi-space-size=64 --v8-pool-size=0")

COLLECTING = None
if (run := os.environ.get("PYTEST_XDIST_TESTRUNUID")) is not None:
    import fcntl

    # One worker imports everything first: the others find what it has compiled, which is most of the work.
    COLLECTING = (Path(tempfile.gettempdir()) / f"certfleet-collecting-{run}").open("w")
    try:
        fcntl.flock(COLLECTING, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(COLLECTING, fcntl.LOCK_SH)

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


def pytest_collection_finish():
    if COLLECTING is not None:
        COLLECTING.close()
        Path(COLLECTING.name).unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    measuring = getattr(item.config.pluginmanager.getplugin("_cov"), "cov_controller", None)
    is_unmeasured = (
        item.path.relative_to(TESTS).parts[0] in UNMEASURED
        or item.get_closest_marker("unmeasured")
        or getattr(item.obj, "is_hypothesis_test", False)  # no floor may rest on what is drawn by chance
    )
    if measuring is None or not is_unmeasured:
        return (yield)
    measuring.pause()
    try:
        return (yield)
    finally:
        measuring.resume()
