"""Questions about another time change nothing; the sandbox's clock is heeded where there is a sandbox only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controller.errors import CertfleetError
from controller.fleet import ActAs, AwsSession
from controller.present import AHEAD, present
from controller.reconcile.values import Fleet, Source


def test_a_question_about_another_time_leaves_what_is_known_as_it_is(factory):
    for number in range(4):
        factory.device(f"old-{number}", age=200)
    assert factory.run("apply", "--wait", "--override", "maxChangePercent=100").code == 0
    before = factory.run("plan", "--format", "json").json

    late = (datetime.now(UTC) + timedelta(days=60)).isoformat()
    assert factory.run("explain", "old-1", "--now", late).code == 0

    after = factory.run("plan", "--format", "json").json
    moment = {"created_at", "valid_until"}
    assert {k: v for k, v in after.items() if k not in moment} == {k: v for k, v in before.items() if k not in moment}


def test_nothing_is_done_at_another_time(factory):
    factory.device("old-1", age=200)
    told = factory.run("apply", "--now", "2026-12-01T00:00:00Z")
    assert told.code == 1
    assert "unrecognized arguments: --now" in told.err
    told = factory.run("plan", "--plan", "plan.json", "--now", "2026-12-01T00:00:00Z")
    assert told.code == 1
    assert "--plan and --now were both given" in told.err


@pytest.mark.parametrize("url", ["http://127.0.0.1:4566", "https://localhost:1", "http://[::1]:2"])
def test_the_sandboxs_clock_is_followed(url):
    ahead = present({AHEAD: "86400", "AWS_ENDPOINT_URL": url}) - datetime.now(UTC)
    assert timedelta(hours=23) < ahead < timedelta(hours=25)


@pytest.mark.parametrize(
    "url", ["", "https://iot.eu-west-1.amazonaws.com", "http://10.0.0.1", "http://localhost.evil.example"]
)
def test_against_anything_else_no_other_clock_is_followed(url):
    with pytest.raises(CertfleetError, match="is for a sandbox on this machine, but AWS would be called at"):
        present({AHEAD: "86400", "AWS_ENDPOINT_URL": url})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ("AWS_ENDPOINT_URL_IOT", "https://iot.eu-west-1.amazonaws.com"),
    ],
)
def test_a_service_that_is_not_the_sandboxs_is_never_called_by_the_sandboxs_clock(monkeypatch, name, text):
    """AWS_ENDPOINT_URL names the sandbox, and botocore would call AWS itself."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    monkeypatch.setenv(name, text)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    session = AwsSession(Fleet("demo", "123456789012", "eu-west-1", Source("x", 1)), ActAs.WRITER)
    monkeypatch.setenv(AHEAD, "86400")
    with pytest.raises(CertfleetError, match=r"called at https://iot\.eu-west-1\.amazonaws\.com"):
        session.endpoint("iot")


@pytest.mark.parametrize("text", ["soon", "nan", "1e400"])
def test_a_clock_that_is_none_is_refused(text):
    with pytest.raises(CertfleetError, match="expected a number of seconds"):
        present({AHEAD: text, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
