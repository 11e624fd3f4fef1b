"""The nucleus stand-in with a small real component over real IPC and a real MQTT connection."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import yaml
from sandbox_edge_device import wait_until

from sandbox.bus import Message
from sandbox.edge import Component, ConfigurationUpdate, Nucleus, Profile, Provisioning, provision
from sandbox.edge.faults import Direction, Fault, drop
from sandbox.edge.loop_thread import LoopThread
from sandbox.edge.nucleus.effective_config import EffectiveConfig

FOLDER = Path(__file__).parent / "echo_component"
NAME = "com.example.Echo"


@pytest.fixture
def device(core):
    return core


def test_a_component_runs_by_its_recipe_and_talks_through_the_nucleus(device):
    nucleus = device.start(component=Component(FOLDER / "recipe.yaml", FOLDER, run_install=True))
    ready = device.heard("ready")
    assert ready["arguments"] == ["--validate", "two"]
    assert ready["folder"] == str(device.root / "work" / NAME)
    assert (device.root / "work" / NAME / "installed").exists()
    message = device.recorder.on("echo/core1/ready")[0]
    assert (message.principal, message.client_id) == (device.credential.certificate_id, "core1")
    assert "hello from core1" in nucleus.log_file.read_text()
    assert nucleus.is_connected


def test_configuration_is_read_whole_and_by_path_with_variables_as_they_stand(device):
    device.start()
    whole = device.tell("configuration", "configuration")["value"]
    assert (whole["name"], whole["nested"]) == ("{iot:thingName}", {"a": 1, "b": {"c": "two"}})
    assert device.tell("configuration", "configuration", path=["nested", "b"])["value"] == {"c": "two"}
    assert device.tell("configuration", "configuration", path=["greeting"])["value"] == {"greeting": "hello"}
    nucleus = device.tell("configuration", "configuration", component="aws.greengrass.Nucleus")["value"]
    assert nucleus["interpolateComponentConfiguration"] is True
    assert device.tell("configuration", "error", path=["absent"])["name"] == "ResourceNotFoundError"
    assert device.tell("configuration", "error", component="absent")["name"] == "ResourceNotFoundError"


ACCESS = {
    "own topic": ("publish", "mine/core1/x", "done"),
    "one level": ("publish", "open/a/x", "done"),
    "any depth": ("subscribe", "deep/a/+/c", "done"),
    "filter as listed": ("subscribe", "open/+/x", "done"),
    "other thing": ("publish", "mine/core2/x", "error"),
    "deeper than one level": ("subscribe", "open/a/b/x", "error"),
    "everything": ("subscribe", "#", "error"),
}


def test_access_control_of_the_recipe_is_honoured(device):
    device.start()
    for operation, topic, outcome in ACCESS.values():
        answer = device.tell(operation, outcome, topic=topic)
        if outcome == "error":
            assert answer["name"] == "UnauthorizedError"
            assert f"{topic}" in answer["message"]


@pytest.mark.parametrize(
    ("profile", "interpolate", "outcome"),
    [
        (Profile.CLASSIC, True, "done"),
        (Profile.CLASSIC, False, "error"),
        (Profile.LITE_2_6, True, "error"),
        (Profile.LITE_MAIN, False, "done"),
    ],
)
def test_where_variables_count_in_access_control_depends_on_the_nucleus(device, profile, interpolate, outcome):
    device.start(profile=profile, interpolate=interpolate)
    assert device.tell("publish", outcome, topic="mine/core1/x").get("name") in (None, "UnauthorizedError")


def test_what_the_nucleus_lacks_is_an_error_and_a_state_is_taken(device):
    device.start()
    assert device.tell("unsupported", "error")["name"] == "ServiceError"
    device.tell("state", state="RUNNING")


def test_restarting_through_systemctl_ends_the_component_and_connects_with_what_lies_in_place(device, registry):
    device.start()
    first = device.heard("ready")["pid"]
    successor = device.issuer.issue("core1")
    registry.register(successor)
    device.place(successor)
    device.tell("systemctl", None, arguments=["restart", "greengrass.service"])
    assert device.heard("ready", 2)["pid"] != first
    assert not alive(first)
    registry.wait_for("connected", "core1", certificate_id=successor.certificate_id)
    # The nucleus ends the command before the component, which may hear of that in its last moment.
    told = [json.loads(message.payload)["code"] for message in device.recorder.on("echo/core1/systemctl")]
    assert 0 not in told
    assert len(told) <= 1
    assert device.endpoint.connected_clients() == {"core1": successor.certificate_id}


def test_systemctl_refuses_what_it_does_not_know(device):
    device.start()
    assert device.tell("systemctl", "systemctl", arguments=["stop", "sshd"])["code"] == 1
    assert device.nucleus.component_starts == 1


@pytest.mark.parametrize(
    ("profile", "unit"),
    [(Profile.CLASSIC, "greengrass.service"), (Profile.LITE_MAIN, "ggl.core.iotcored.service")],
)
def test_systemctl_tells_the_runs_of_what_connects_to_aws_iot_apart(device, profile, unit):
    def invocation(of):
        systemctl, sudo = (device.root / "bin" / name for name in ("systemctl", "sudo"))
        command = [sudo, systemctl, "show", "--property=InvocationID", "--value", of]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    nucleus = device.start(profile=profile)
    first = invocation(unit)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert (invocation(unit), invocation("sshd.service")) == (first, "")
    nucleus.restart()
    second = invocation(unit)
    nucleus._loop.run(nucleus._restart_unit(unit))
    assert len({first, second, invocation(unit)}) == 3


def test_the_defaults_of_the_nucleus_hold_where_provisioning_left_the_paths_empty(device):
    device.start(explicit=False)


def test_a_component_that_crashes_is_started_again_and_one_that_finishes_is_not(device):
    device.start()
    device.tell("crash", None)
    assert device.heard("ready", 2)["pid"] != device.heard("ready", 1)
    device.tell("finish", None)
    wait_until(lambda: device.nucleus.component_pid is None)
    assert device.nucleus.component_starts == 2


def test_a_message_is_refused_while_offline_never_kept_and_subscriptions_return_with_the_connection(device):
    nucleus = device.start()
    nucleus.disconnect()
    assert not nucleus.is_connected
    device.tell_in_file("publish", topic="echo/core1/offline")
    wait_until(device.outcome)
    assert device.outcome()["message"] == "the device is offline: the message to echo/core1/offline is dropped"
    nucleus.connect()
    assert nucleus.wait_connected(connections=2)
    retry_until_heard(device)
    assert device.recorder.on("echo/core1/offline") == []


def test_a_lost_connection_comes_back_by_itself(device):
    nucleus = device.start()
    device.endpoint.interrupt("core1")
    assert nucleus.wait_connected(connections=2)
    retry_until_heard(device)


def test_with_a_deactivated_certificate_the_device_stays_offline_until_a_valid_one_is_in_place(device, registry):
    nucleus = device.start()
    registry.deactivate(device.credential.certificate_id)
    registry.wait_for("disconnected", "core1")
    wait_until(lambda: not nucleus.is_connected)
    successor = device.issuer.issue("core1")
    registry.register(successor)
    device.place(successor)
    time.sleep(0.3)  # several attempts with the credential from before
    assert not nucleus.is_connected
    nucleus.restart()
    registry.wait_for("connected", "core1", certificate_id=successor.certificate_id)


@pytest.mark.parametrize("damage", ["certificate", "key", "both gone"])
def test_a_damaged_credential_keeps_the_device_offline_and_is_said(device, caplog, damage):
    nucleus = device.start()
    if damage == "both gone":
        device.certificate.unlink()
        device.key.unlink()
    else:
        (device.certificate if damage == "certificate" else device.key).write_text("-----BEGIN NOTHING-----\n")
    with caplog.at_level("ERROR"):
        nucleus.restart()
    assert not nucleus.is_connected
    assert "core1 stays offline until it is restarted: the credential cannot be used" in caplog.text
    device.place(device.credential)
    nucleus.restart()
    assert nucleus.wait_connected(connections=2)


def test_nucleus_lite_reads_its_files_for_each_new_connection_and_keeps_the_component(device, registry):
    nucleus = device.start(profile=Profile.LITE_2_6)
    assert device.heard("ready")["arguments"] == ["lite"]
    successor = device.issuer.issue("core1")
    registry.register(successor)
    device.place(successor)
    registry.deactivate(device.credential.certificate_id)
    registry.wait_for("connected", "core1", certificate_id=successor.certificate_id)
    third = device.issuer.issue("core1")
    registry.register(third)
    device.place(third)
    retry_until_heard(device)
    device.tell("systemctl", None, arguments=["restart", "ggl.core.iotcored.service", "ggl.core.tesd.service"])
    registry.wait_for("connected", "core1", certificate_id=third.certificate_id)
    assert nucleus.component_starts == 1


DEPLOYMENTS = {
    "accepted": (ConfigurationUpdate("d", {"greeting": "hi"}), "SUCCEEDED", "", "hi"),
    "rejected": (ConfigurationUpdate("d", {"greeting": "rude"}), "FAILED", "be polite", "hello"),
    "no report": (
        ConfigurationUpdate("d", {"greeting": "silent"}, validation_timeout=0.2),
        "FAILED",
        "did not report within 0.2 s",
        "hello",
    ),
    "nothing to change": (ConfigurationUpdate("d"), "SUCCEEDED", "", "hello"),
}


@pytest.mark.parametrize("case", DEPLOYMENTS)
def test_a_deployment_ends_as_the_component_decides_and_outlives_a_restart(device, case):
    deployment, status, reason, greeting = DEPLOYMENTS[case]
    nucleus = device.start()
    outcome = nucleus.deploy(deployment)
    assert (outcome.status, outcome.deployment_id) == (status, "d")
    assert reason in outcome.reason
    nucleus.restart()
    device.heard("ready", 2)
    assert device.tell("configuration", "configuration", path=["greeting"])["value"] == {"greeting": greeting}
    assert device.tell("configuration", "configuration", path=["nested"])["value"] == {"a": 1, "b": {"c": "two"}}


def test_a_deployment_resets_before_it_merges_and_watchers_hear_of_what_changed(device):
    nucleus = device.start()
    device.tell("watch")
    assert (
        nucleus.deploy(ConfigurationUpdate("d1", {"greeting": "hi", "nested": {"b": {"c": "three"}}})).status
        == "SUCCEEDED"
    )
    device.heard("changed", 2)
    assert nucleus.deploy(ConfigurationUpdate("d2", {"greeting": "hej"}, reset=("/nested/b",))).status == "SUCCEEDED"
    configuration = EffectiveConfig(device.root).configuration(NAME)
    assert (configuration["greeting"], configuration["nested"]) == ("hej", {"a": 1, "b": {"c": "two"}})
    heard = [json.loads(m.payload)["keyPath"] for m in device.recorder.on("echo/core1/changed")]
    assert heard[:2] == [["greeting"], ["nested"]]


def test_on_nucleus_lite_nothing_validates_and_a_deployment_is_stored_at_once(device):
    nucleus = device.start(profile=Profile.LITE_2_6)
    assert nucleus.deploy(ConfigurationUpdate("d", {"greeting": "rude"})).status == "SUCCEEDED"


def test_faults_between_cloud_and_device_reach_the_component(device):
    device.start()
    fault = device.endpoint.faults.add(Fault("echo/core1/do", drop(), Direction.TO_DEVICE, "core1", times=1))
    device.tell("crash", None)
    wait_until(lambda: fault.struck == 1)
    device.tell("state", state="RUNNING")
    assert device.nucleus.component_starts == 1


def test_several_nuclei_share_one_loop(endpoint, issuer, registry, recorder, tmp_path_factory):
    loop = LoopThread("nuclei")
    loop.start()
    nuclei = []
    for number in (1, 2):
        credential = issuer.issue(f"core{number}")
        registry.register(credential)
        root = tmp_path_factory.mktemp(f"gg{number}")
        provision(
            root,
            Provisioning(
                f"core{number}",
                "localhost",
                endpoint.port,
                issuer.ca_file,
                certificate=str(credential.certificate_file),
                private_key=str(credential.key_file),
            ),
        )
        nuclei.append(Nucleus(root, Component(FOLDER / "recipe.yaml", FOLDER), loop=loop))
        nuclei[-1].start()
    recorder.wait_for("echo/core1/ready")
    recorder.wait_for("echo/core2/ready")
    for nucleus in nuclei:
        nucleus.stop()
    loop.stop()


def test_no_process_outlives_the_sandbox_even_if_that_is_killed(tmp_path_factory, issuer):
    root = tmp_path_factory.mktemp("gg")
    recipe = root / "recipe.yaml"
    script = f"sleep 300 & echo $! > {root}/pids; echo $$ >> {root}/pids; exec sleep 300"
    recipe.write_text(
        yaml.safe_dump(
            {
                "ComponentName": "com.example.Sleep",
                "ComponentVersion": "1.0.0",
                "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": {"run": script}}],
            }
        )
    )
    provision(root, Provisioning("sleeper", "localhost", 1, issuer.ca_file))
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from sandbox.edge import Component, Nucleus
        Nucleus(Path({str(root)!r}), Component(Path({str(recipe)!r}), Path({str(root)!r}))).start()
        time.sleep(300)
    """)
    with subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2]) as sandbox:
        wait_until(lambda: (root / "pids").exists() and len((root / "pids").read_text().split()) == 2)
        pids = [int(line) for line in (root / "pids").read_text().split()]
        assert all(map(alive, pids))
        sandbox.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)))


def test_a_root_folder_too_deep_for_a_socket_gets_its_socket_elsewhere_and_nothing_stays(device, tmp_path):
    device.root = tmp_path / ("x" * 100)
    device.root.mkdir()
    device.certificate, device.key = device.root / "thingCert.crt", device.root / "privKey.key"
    nucleus = device.start()
    socket = nucleus.socket_path
    assert len(str(socket)) <= 107
    assert socket.exists()
    nucleus.stop()
    assert not socket.parent.exists()


def retry_until_heard(device):
    """Messages published before the resubscription are lost, as on AWS: say it until it is heard."""
    before = len(device.recorder.on("echo/core1/systemctl"))
    for _ in range(100):
        device.bus.publish(Message("echo/core1/do", b'{"do": "systemctl", "arguments": ["nonsense"]}', 1))
        deadline = threading.Event()
        deadline.wait(0.1)
        if len(device.recorder.on("echo/core1/systemctl")) > before:
            return
    pytest.fail("the component was not heard again")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[-1].split()[0]
    return state != "Z"
