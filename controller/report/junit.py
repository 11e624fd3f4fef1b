"""JUnit XML: what test dashboards read. A device that is to rotate, blocked or failed is a failed case.

Names are the same from run to run, so that dashboards follow a case: a policy's name in the class of its fleet, a
thing's name in the class of its policy. Devices in sync are counted in their policy's case, not listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree as ET

from controller.reconcile.values import Assessment, Outcome, Sync

from . import words
from .formats import TextStyle
from .groups import leading
from .model import FleetReport, Report

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RESULTS = {Outcome.ROTATE: "failure", Outcome.BLOCKED: "failure", Outcome.WAITING: "skipped"}


@dataclass(frozen=True, slots=True)
class JunitCase:
    """One test case; ``result`` is failure, error or skipped, None if it passed."""

    group: str
    name: str
    result: str | None = None
    message: str = ""
    kind: str = ""


def suite(name: str, cases: Iterable[JunitCase], seen: Iterable[datetime] = ()) -> str:
    """Return a document with one test suite; it is as old as the oldest look of ``seen``."""
    listed = list(cases)
    root = ET.Element("testsuites", name=name)
    element = ET.SubElement(root, "testsuite", name=name, tests=str(len(listed)))
    for instant in sorted(seen)[:1]:
        element.set("timestamp", words.iso(instant))
    for result, plural in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        element.set(plural, str(sum(case.result == result for case in listed)))
    for case in listed:
        entry = ET.SubElement(element, "testcase", classname=_clean(case.group), name=_clean(case.name))
        if case.result:
            detail = ET.SubElement(entry, case.result, message=_clean(case.message))
            if case.kind:
                detail.set("type", case.kind)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def render_drift(report: Report, _look: TextStyle) -> str:
    """Return one case per policy, and one per device with something to report."""
    cases = [case for fleet in report.fleets for case in _fleet(fleet)]
    cases += [JunitCase(failure.fleet, "fleet", "error", failure.message) for failure in report.failures]
    return suite("certfleet drift", cases, (fleet.state.observed_at for fleet in report.fleets))


def _fleet(fleet: FleetReport) -> list[JunitCase]:
    name = fleet.desired.fleet.name
    failing = {assessment.policy for assessment in fleet.assessments if _result(assessment) == "failure"}
    policies = [
        JunitCase(
            name,
            entry.policy.name,
            "failure" if entry.policy.name in failing else None,
            f"{entry.in_sync} of {entry.governed} devices in sync",
        )
        for entry in fleet.policies
    ]
    listed = [assessment for outcome in Outcome for assessment in fleet.of(outcome)]
    return policies + [_case(name, assessment) for assessment in sorted(listed, key=lambda found: found.device)]


def _case(fleet: str, assessment: Assessment) -> JunitCase:
    finding = leading(assessment)
    message = "; ".join(found.message for found in assessment.findings)
    if finding.remedy:
        message += f". To do: {finding.remedy}"
    group = f"{fleet}.{assessment.policy or 'no policy'}"
    return JunitCase(group, assessment.device, _result(assessment), message, finding.reason.value)


def _result(assessment: Assessment) -> str | None:
    """Return a failure for a failed rotation, though it is tried again, and a skip for a device that waits."""
    if assessment.sync is Sync.IN_SYNC or assessment.outcome is None:
        return None
    if leading(assessment).is_decided:
        return "skipped"
    return "failure" if assessment.failures else _RESULTS[assessment.outcome]


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
