"""Nothing that a device, a certificate, a foreign job or a server says steers what reads our output."""

from __future__ import annotations

import json
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fleet_registry import Fault, Issuer, full

from controller.errors import FleetError
from controller.fleet import RefreshOptions, refresh
from controller.report.formats import TextStyle
from controller.report.github import render_drift as as_annotations
from controller.report.markdown import render_drift as as_markdown
from controller.report.model import Report
from controller.report.tally import Tally
from controller.report.text import render_drift as as_text

BAD = "no space\n::error::forged\r\n## forged\x1b[2J\x1b]0;forged\x07\u2028\u202eforged\x85forged"
COMMAND = re.compile(r"^\s*(::|##\[)", re.MULTILINE)
STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def report(registry, make_session, make_desired, inventory, now):
    """A drift report over devices that say what they should not."""
    document = json.dumps({"operation": "ROTATE_CERTIFICATE", "policy": BAD, "commit": BAD})
    executions = {"a-1": "FAILED"}
    registry.add_job("by-hand", executions, document=document, reasons={"a-1": BAD}, details={"ComponentVersion": BAD})
    registry.remove_certificate("c2")
    issuer = Issuer(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, BAD[-50:])]))
    pem = issuer.certify(issuer.name, ec.generate_private_key(ec.SECP256R1()).public_key())
    registry.add_certificate("c2", "a-2", pem=pem)
    registry.certificates[full("c3")]["status"] = "QUARANTINED"
    registry.versions["a-1"] = BAD
    desired = make_desired("line-a")
    state = refresh(make_session(registry), inventory, desired, now, options=RefreshOptions(max_slice=0))
    devices = list(inventory.devices(desired, state))
    return desired, state, devices


def texts_of(value):
    """Every text in a value, however deep."""
    if isinstance(value, str):
        yield str(value)
    elif isinstance(value, dict):
        yield from (text for one in value.values() for text in texts_of(one))
    elif isinstance(value, (tuple, list)):
        yield from (text for one in value for text in texts_of(one))
    elif hasattr(value, "__slots__") and not isinstance(value, type):
        yield from (text for name in value.__slots__ for text in texts_of(getattr(value, name)))


def test_what_strangers_say_is_one_line_wherever_it_comes_in(report):
    _, state, devices = report
    found = [text for text in texts_of((devices, state.jobs)) if "forged" in text]
    assert len(found) >= 5, found
    for text in found:
        assert not STEERING.search(text), text
        assert "\n" not in text


@pytest.mark.parametrize("render", [as_text, as_markdown, as_annotations], ids=["text", "markdown", "annotations"])
def test_no_report_begins_a_line_with_what_a_stranger_says(report, now, render):
    from controller.reconcile.checks import assess_fleet

    desired, state, devices = report
    tally = Tally(desired, now)
    assessments = tally.assessments(assess_fleet(tally.devices(iter(devices)), desired, state, now))
    list(assessments)
    text = render(Report((tally.finish(state),), ()), TextStyle(60))
    assert not STEERING.search(text.replace("\n", ""))
    begun = [line for line in text.splitlines() if COMMAND.match(line)]
    if render is not as_annotations:
        assert begun == []
    assert not [line for line in text.splitlines() if line.lstrip().startswith(("::error::forged", "## forged"))]


def test_what_a_server_says_is_one_line_of_an_error(registry, make_session):
    registry.faults["DescribeCertificate"] = Fault("Odd", 400, times=9, message=BAD)
    with pytest.raises(FleetError) as raised:
        make_session(registry).call("iot", "DescribeCertificate", certificateId=full("c1"))
    assert "\n" not in str(raised.value)
    assert not STEERING.search(str(raised.value))
