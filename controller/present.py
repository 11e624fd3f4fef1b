"""The present, as a command goes by it: this machine's clock, or a sandbox's, which may be ahead."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from controller.errors import CertfleetError

AHEAD = "CERTFLEET_CLOCK_AHEAD"
"""Seconds by which a sandbox's clock is ahead; ``sandbox.env`` carries it. Heeded against a loopback endpoint only."""


def present(environment: Mapping[str, str]) -> datetime:
    """Return what time it is, in whole seconds; CertfleetError if another is asked for against AWS itself."""
    now = datetime.now(UTC)
    text = environment.get(AHEAD)
    if text:
        now += _ahead(text, environment)
    return now.replace(microsecond=0)


def require_sandbox(endpoint: str, environment: Mapping[str, str]) -> None:
    """Hold a sandbox's clock to the sandbox.

    Args:
        endpoint: The URL that calls go to.
        environment: The variables of the process.

    Raises:
        CertfleetError: Another clock is asked for, and this endpoint is none of this machine.
    """
    if environment.get(AHEAD) and not _is_loopback(endpoint):
        called = endpoint or "its own endpoint"
        raise CertfleetError(
            f"{AHEAD} is set, which is for a sandbox on this machine, but AWS would be called at {called}",
            f"for AWS: unset {AHEAD}; for a sandbox: source sandbox.env again",
        )


def _ahead(text: str, environment: Mapping[str, str]) -> timedelta:
    require_sandbox(environment.get("AWS_ENDPOINT_URL", ""), environment)
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError):
        raise CertfleetError(f"{AHEAD} is {text!r}, expected a number of seconds", "source sandbox.env again") from None


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
