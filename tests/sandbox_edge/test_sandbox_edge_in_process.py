"""Devices inside this process: the component's own code, the cloud's own rules."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sandbox.bus import Message
from sandbox.edge import InProcessDevice, InProcessHost
from sandbox.edge.faults import Direction, Fault, delay, drop, duplicate
from sandbox.edge.turns import MOST_AT_ONCE, Turns


class Fleet:
    """Devices in folders of their own."""

    def __init__(self, host, issuer, registry, root):
        self.host, self.issuer, self.registry, self.root = host, issuer, registry, root
        self.devices = []

    def device(self, name="device1", *, start=True, **options):
        folder = self.root / name
        folder.mkdir()
        credential = self.issuer.issue(name)
        self.registry.register(credential)
        shutil.copy(credential.certificate_file, folder / "thingCert.crt")
        shutil.copy(credential.key_file, folder / "privKey.key")
        device = InProcessDevice(name, folder, self.host, **options)
        self.devices.append(device)
        if start:
            device.start()
            assert device.wait_connected()
        return device


@pytest.fixture
def host(registry, jobs, bus, clock):
    host = InProcessHost(registry, jobs, bus, clock)
    yield host
    host.stop()


@pytest.fixture
def fleet(host, issuer, registry, tmp_path):
    fleet = Fleet(host, issuer, registry, tmp_path)
    yield fleet
    for device in fleet.devices:
        device.stop()


def certificate_of(device):
    return x509.load_pem_x509_certificate(device.certificate_file.read_bytes())


def assert_pair(device):
    """openssl says so, not our own code."""
    keys = [
        subprocess.run(command, check=True, capture_output=True).stdout
        for command in (
            ["openssl", "x509", "-in", device.certificate_file, "-noout", "-pubkey"],
            ["openssl", "pkey", "-in", device.key_file, "-pubout"],
        )
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("outlives_restart", [False, True], ids=["classic", "lite"])
def test_a_device_rotates_and_connects_with_its_new_certificate(fleet, backend, registry, outlives_restart):
    device = fleet.device(outlives_restart=outlives_restart)
    backend.start_job("device1", keyAlgorithm="ECDSA-P256", signingAlgorithm="ECDSA-WITH-SHA256")
    assert backend.outcome("device1")["status"] == "SUCCEEDED"
    assert certificate_of(device).public_bytes(Encoding.DER) == backend.issued["device1"]
    assert_pair(device)
    registry.wait_for("connected", "device1", 2)
    assert registry.authenticate(backend.issued["device1"]) in [e[1] for e in registry.presence]
    assert device.component_starts == (1 if outlives_restart else 2)


@pytest.mark.parametrize("effect", [drop(), duplicate(), delay(0.3)], ids=["lost", "doubled", "late"])
def test_a_fault_in_one_message_costs_time_not_the_rotation(fleet, backend, host, effect):
    fleet.device(configuration=_impatient)
    fault = host.faults.add(Fault("awslabs/things/+/certificate/create", effect, Direction.FROM_DEVICE, times=1))
    backend.start_job("device1", keyAlgorithm="ECDSA-P256")
    assert backend.outcome("device1")["status"] == "SUCCEEDED"
    assert fault.struck == 1


def _impatient():
    from component.certificate_rotator.configuration import Configuration

    return Configuration(resend_interval=0.2)


def test_the_job_of_a_device_is_announced_when_another_ends_and_one_that_never_does_holds_up_nobody_for_long():
    turns, heard = Turns(most=2), []
    for name in "abcd":
        turns.announce(name, lambda name=name: heard.append(name))
    assert heard == ["a", "b"]
    turns.end("stranger")
    assert heard == ["a", "b"]
    turns.end("b")
    turns.end("b")  # once by itself, once by its time limit
    turns.announce("a", lambda: heard.append("a again"))
    assert heard == ["a", "b", "c", "a again"]


def test_dozens_of_devices_share_two_threads_and_a_few_rotate_at_once(fleet, backend, recorder):
    names = [f"device{number}" for number in range(40)]
    for name in names:
        fleet.device(name)
    for name in names:
        backend.start_job(name, keyAlgorithm="ECDSA-P256")
    assert {backend.outcome(name)["status"] for name in names} == {"SUCCEEDED"}
    updates = [json.loads(m.payload)["status"] for m in recorder.messages if m.topic.endswith("/update")]
    at_once = itertools.accumulate(1 if status == "IN_PROGRESS" else -1 for status in updates)
    assert max(at_once) <= MOST_AT_ONCE


def test_a_deactivated_certificate_ends_the_connection_and_no_other_follows(fleet, registry):
    device, other = fleet.device("device1"), fleet.device("device2")
    registry.deactivate(registry.presence[0][1])
    registry.wait_for("disconnected", "device1")
    time.sleep(0.5)  # two further attempts
    assert not device.is_connected
    assert other.is_connected
    assert device.connections == 1


@pytest.mark.parametrize("damage", ["another key", "no key", "no certificate", "nonsense"])
def test_without_a_matching_credential_a_device_stays_offline_and_says_so(fleet, issuer, caplog, damage):
    device = fleet.device(start=False)
    if damage == "another key":
        shutil.copy(issuer.issue("stranger").key_file, device.key_file)
    elif damage == "nonsense":
        device.certificate_file.write_text("nonsense")
    else:
        (device.key_file if damage == "no key" else device.certificate_file).unlink()
    device.start()
    assert not device.wait_connected(0.3)
    assert "device1 stays offline" in caplog.text


def test_a_device_taken_off_the_network_hears_nothing_and_returns_when_told(fleet, backend, registry):
    device = fleet.device()
    device.disconnect()
    registry.wait_for("disconnected", "device1")
    backend.start_job("device1", keyAlgorithm="ECDSA-P256")
    assert not device.wait_connected(0.3)
    assert backend.jobs.updates == []
    device.connect()
    assert device.wait_connected(connections=2)
    device.restart()
    assert backend.outcome("device1")["status"] == "SUCCEEDED"


def test_what_no_policy_allows_costs_the_connection_and_reaches_nobody(fleet, registry, recorder):
    registry.denied.add(("iot:Publish", "topic/$aws/things/device1/jobs/$next/get"))
    fleet.device(start=False).start()
    registry.wait_for("disconnected", "device1")
    assert recorder.on("$aws/things/device1/jobs/$next/get") == []


def test_a_connection_refused_by_policy_is_tried_again_and_comes_when_it_is_allowed(fleet, registry):
    registry.denied.add(("iot:Connect", "client/device1"))
    device = fleet.device(start=False)
    device.start()
    assert not device.wait_connected(0.3)
    registry.denied.clear()
    assert device.wait_connected()


def test_of_two_devices_with_one_name_the_newest_is_connected_and_the_older_keeps_trying(fleet, host, registry):
    device = fleet.device()
    intruder = InProcessDevice("device1", device.root, host)
    fleet.devices.append(intruder)
    intruder.start()
    registry.wait_for("disconnected", "device1")


def test_a_component_that_fails_is_started_again_and_its_neighbours_live_on(fleet, bus, backend, registry, jobs):
    device, neighbour = fleet.device("device1"), fleet.device("device2")

    class BrokenError(Exception):
        pass

    def broken():
        device._configuration = _impatient
        raise BrokenError

    device._configuration = broken
    device.restart()
    backend.start_job("device1", keyAlgorithm="ECDSA-P256")
    backend.start_job("device2", keyAlgorithm="ECDSA-P256")
    assert backend.outcome("device2")["status"] == "SUCCEEDED"
    assert backend.outcome("device1")["status"] == "SUCCEEDED"
    assert neighbour.is_connected


def test_a_message_that_cannot_be_handled_harms_nobody(fleet, bus, backend):
    fleet.device()
    bus.publish(Message("$aws/things/device1/jobs/notify-next", b"\xff", 1))
    backend.start_job("device1", keyAlgorithm="ECDSA-P256")
    assert backend.outcome("device1")["status"] == "SUCCEEDED"
