"""Names and topics are those of the public solution, letter by letter."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from protocol import topics
from protocol.names import BackendNames


def test_every_name_derives_from_the_stack():
    names = BackendNames("S")
    assert (names.job_template, names.shadow) == ("S", "S")
    assert (names.create_function, names.commit_function) == ("SCreateCertificate", "SCommitCertificate")
    assert (names.terminal_function, names.notification_topic) == ("SJobExecutionTerminal", "SNotification")
    assert BackendNames().stack_name == "AWSLabsCertificateRotator"


def test_topics_are_those_of_the_protocol():
    assert topics.jobs_notify_next("T") == "$aws/things/T/jobs/notify-next"
    assert topics.jobs_get_next("T") == "$aws/things/T/jobs/$next/get"
    assert topics.jobs_get_outcome("T", topics.ACCEPTED) == "$aws/things/T/jobs/+/get/accepted"
    assert topics.jobs_update("T", "j") == "$aws/things/T/jobs/j/update"
    assert topics.jobs_update_outcome("T", "+", topics.REJECTED) == "$aws/things/T/jobs/+/update/rejected"
    assert topics.outcome(topics.create("T"), topics.ACCEPTED) == "awslabs/things/T/certificate/create/accepted"
    assert topics.commit("T") == "awslabs/things/T/certificate/commit"


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("awslabs/things/T/certificate/create", ("T", "create", None)),
        ("awslabs/things/T:1/certificate/commit/rejected", ("T:1", "commit", "rejected")),
        ("awslabs/things/T/U/certificate/create", None),
        ("awslabs/things//certificate/create", None),
        ("awslabs/things/T/certificate/create/", None),
        ("awslabs/things/T/certificate/revoke", None),
        ("x/awslabs/things/T/certificate/create", None),
    ],
)
def test_a_rotation_topic_is_taken_apart_and_no_other(topic, expected):
    assert topics.parse_rotation_topic(topic) == expected


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
def test_protocol_and_component_parse_on_every_python_that_devices_have(version):
    """Syntax is checked by this interpreter's own grammar of that version; imports by a real one where it exists."""
    import ast

    minor = int(version.split(".")[1])
    root = Path(__file__).parents[2]
    sources = [*(root / "protocol").glob("*.py"), *(root / "component" / "certificate_rotator").glob("*.py")]
    assert len(sources) > 20
    for source in sources:
        ast.parse(source.read_text(), str(source), feature_version=(3, minor))


def test_the_protocol_imports_on_the_oldest_python_present():
    root = Path(__file__).parents[2]
    candidates = [*Path.home().glob(".pyenv/versions/3.9*/bin/python"), Path("/usr/bin/python3.9")]
    python = next((path for path in candidates if path.exists()), Path(__import__("sys").executable))
    code = "import protocol.messages, protocol.topics, protocol.job_document, protocol.names; print('ok')"
    done = subprocess.run([str(python), "-B", "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "ok\n"
