"""Connections made with a certificate that healing watches are noted, whoever makes them and whenever that is heard."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from backend.functions.services import services
from protocol.watch import Watch


def table():
    return services().table


@pytest.fixture
def watch(device):
    """A watch over the device's certificate, begun an hour ago."""
    found = Watch(device.old, device.name, device.aws.now - timedelta(hours=1))
    table().save_watch(found)
    return lambda: table().watch(device.old)


def test_a_connection_under_the_things_own_name_is_one_of_its_own(device, watch):
    device.connected(device.old)
    assert watch().first_own == watch().last_seen
    first = watch().first_own
    device.aws.tick(seconds=60)
    device.connected(device.old)
    assert (watch().first_own, watch().last_seen > first) == (first, True)


@pytest.mark.parametrize("client", ["sensor/77", "#1", "gateway-1#2", "x" * 128])
def test_a_connection_of_whatever_client_is_heard(device, watch, client):
    device.connected(device.old, clientId=client)
    assert isinstance(watch().last_seen, datetime)
    assert watch().first_own is None


def test_a_certificate_that_nobody_watches_costs_no_call_more_and_no_write(device):
    device.connected(device.old)
    assert device.aws.calls == ["dynamodb:BatchGetItem"]
    assert table().watch(device.old) is None


@pytest.mark.parametrize("batch", [0, 1])
def test_a_throttled_table_that_answers_in_part_is_asked_for_the_rest(device, watch, batch):
    device.aws.batch = batch
    device.connected(device.old)
    assert watch().last_seen is not None


def test_an_event_that_comes_twice_is_written_once(device, watch):
    device.connected(device.old)
    version = watch().version
    device.connected(device.old)
    assert watch().version == version
