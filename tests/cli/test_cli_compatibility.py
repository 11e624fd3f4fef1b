"""docs/compatibility.md says what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from controller.desired.bundle import FORMAT_VERSION as BUNDLE
from controller.fleet.schema import VERSION as INVENTORY
from controller.heal.plan_file import FORMAT_VERSION as HEALING
from controller.reconcile.values import FORMAT_VERSION as PLAN
from controller.reconcile.values.plan import VALID_FOR
from controller.report.trend import TrendRecord
from protocol.deployment import FORMAT as DEPLOYMENT
from protocol.names import LEAST_NUCLEUS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = re.search(  # as text: the CDK takes a minute to import on a busy machine
    r"^RUNTIME = \S+PYTHON_(\d+)_(\d+)", (ROOT / "backend/infrastructure/function.py").read_text(), re.MULTILINE
)
TREND = TrendRecord.model_fields["format_version"].default
COMPONENT_PYTHON = re.match(r"py(\d)(\d+)", PROJECT["tool"]["ruff"]["per-file-target-version"]["component/*"])

ROWS = {
    "plan of `plan --plan`": f"| format {PLAN} | format {PLAN}, for {VALID_FOR.days} days;",
    "bundle": f"| format {BUNDLE} | formats 1 to {BUNDLE};",
    "inventory (the cache)": f"| version {INVENTORY} | versions 1 to {INVENTORY} are brought up;",
    "plan of `heal plan`": f"| format {HEALING} | format {HEALING};",
    "what a backend publishes of itself": f"| format {DEPLOYMENT} | format {DEPLOYMENT},",
    "record of the trend": f"| format {TREND} | format {TREND};",
    "controller": f"| Python {PROJECT['project']['requires-python'].removeprefix('>=')} or later |",
    "backend": f"| AWS Lambda, Python {'.'.join(RUNTIME.groups())} |",
    "component": f"| Python {'.'.join(COMPONENT_PYTHON.groups())} or later; nucleus classic and lite "
    f"{'.'.join(map(str, LEAST_NUCLEUS))} or later |",
}


@pytest.mark.parametrize(("what", "said"), ROWS.items(), ids=ROWS)
def test_each_row_is_what_the_code_writes_and_reads(what, said):
    assert f"| {what} {said}" in PAGE
