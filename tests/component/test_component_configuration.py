"""The component's configuration, and the nucleus' around it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from component_world import SECRET, URIS

from component.certificate_rotator import __main__ as program
from component.certificate_rotator import nucleus, rotator
from component.certificate_rotator.configuration import Configuration, parse
from component.certificate_rotator.errors import ConfigurationError, DeviceError
from component.certificate_rotator.fitness import Fitness
from component.certificate_rotator.nucleus import FileCredential, TokenCredential
from component.certificate_rotator.ports import MessagesError, RestartError
from component.certificate_rotator.restart import CommandRestarter, Runtime, default_command
from component.certificate_rotator.store import opened_when_needed
from component.certificate_rotator.system import System
from protocol.algorithms import CsrSigningAlgorithm, KeyType


def test_nucleus_lite_says_numbers_as_text():
    values = {"stepTimeLimitSeconds": "45", "resendIntervalSeconds": "7.5", "restartCommand": [], "accessControl": {}}
    assert (parse(values).step_time_limit, parse(values).resend_interval) == (45.0, 7.5)


def test_nothing_said_means_the_defaults_and_numbers_may_be_floats():
    assert parse({}) == Configuration()
    assert parse({"stepTimeLimitSeconds": 60.0, "accessControl": {}, "keyAlgorithm": None}).step_time_limit == 60


@pytest.mark.posix
def test_the_documentation_tells_the_figures_that_follow_from_the_limits():
    from component.certificate_rotator.pkcs11_token import Token  # there is none on Windows

    page = (Path(__file__).parents[2] / "docs" / "component.md").read_text(encoding="utf-8")
    defaults = Configuration()
    assert f"({3 * defaults.step_time_limit + 2 * defaults.reconnect_limit:g} s by default)" in page
    between = sum(rotator.IDLE_SECONDS) / 2
    assert f"{24 * 3600 / between:.0f} questions and as many answers" in page
    assert f"10,000 devices ask {math.ceil(10_000 / between)} times a second" in page
    tries = len(Token.pauses), round(sum(Token.pauses))
    assert tries == (6, 8)  # up to six times, over about eight seconds
    assert "up to six times, over about eight seconds" in page


def test_a_reconnect_limit_that_classic_may_not_keep_is_warned_of_once_each_time_it_is_set(caplog):
    limits = iter([180, 129, 129, 600, 179.9])
    fitness = Fitness(lambda: parse({"reconnectTimeLimitSeconds": next(limits)}), None, lambda *_: None)
    for _ in range(5):
        fitness.read_configuration()
    assert [f"{record.levelname} {record.message}".partition(",")[0] for record in caplog.records] == [
        "WARNING reconnectTimeLimitSeconds is 129",
        "WARNING reconnectTimeLimitSeconds is 179.9",
    ]
    assert caplog.text.count("expected 180 or more: ") == caplog.text.count("set it to 180 or leave it out") == 2


@pytest.mark.parametrize("algorithm", CsrSigningAlgorithm)
@pytest.mark.parametrize("key_type", KeyType)
def test_every_wrong_pair_is_refused_with_the_reason_and_every_right_one_taken(key_type, algorithm):
    values = {"keyAlgorithm": key_type.value, "signingAlgorithm": algorithm.value}
    if key_type.family is algorithm.family:
        assert (parse(values).key_type, parse(values).signing_algorithm) == (key_type, algorithm)
    else:
        with pytest.raises(ConfigurationError, match=f"a {key_type.value} key cannot sign with {algorithm.value}"):
            parse(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"keyAlgorithm": "RSA-1024"}, r"keyAlgorithm: .*unknown; allowed: RSA-2048"),
        ({"signingAlgorithm": "MD5"}, r"signingAlgorithm: .*unknown"),
        ({"stepTimeLimitSeconds": 4}, r"stepTimeLimitSeconds: found 4, expected seconds from 5 to 600"),
        ({"stepTimeLimitSeconds": True}, r"found True"),
        ({"reconnectTimeLimitSeconds": "6e1"}, r"found '6e1'"),
        ({"reconnectTimeLimitSeconds": "7"}, r"found '7', expected seconds from 10 to 3600"),
        ({"reconnectTimeLimitSeconds": float("nan")}, r"found nan"),
        ({"resendIntervalSeconds": 30}, r"expected less than stepTimeLimitSeconds, which is 30"),
        ({"restartCommand": "reboot"}, r"restartCommand: found 'reboot', expected a list"),
        ({"restartCommand": [""]}, r"restartCommand: found \[''\]"),
        ({"keyalgorithm": "RSA-2048"}, r"keyalgorithm: no such setting; allowed: .*keyAlgorithm"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(values, expected):
    with pytest.raises(ConfigurationError, match=expected):
        parse(values)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigurationError) as caught:
        parse({"keyAlgorithm": "X", "stepTimeLimitSeconds": 0, "typo": 1})
    assert all(key in str(caught.value) for key in ("keyAlgorithm", "stepTimeLimitSeconds", "typo"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "config").mkdir()
    return tmp_path


def configured(root, text):
    (root / "config" / "effectiveConfig.yaml").write_text(text)
    return nucleus.of_classic(root)


PROVIDER = """
services:
  aws.greengrass.crypto.Pkcs11Provider:
    configuration: {library: /lib/p11.so, slot: 3, userPin: "0042"}
"""


@pytest.mark.parametrize(
    "system",
    ["system: {}", "system: {certificateFilePath: '', privateKeyPath: ''}", "system:", "{}"],
    ids=["absent", "empty", "no system", "empty file"],
)
def test_a_pair_at_the_usual_place_is_not_taken_for_the_nucleus_own(root, system):
    for name in ("thingCert.crt", "privKey.key"):
        (root / name).write_text("an older pair")
    with pytest.raises(DeviceError, match=r"does not show where the device's private key lies \(privateKeyPath\)"):
        configured(root, system)


def log_line(time, name, value=None, what="changed", path=("system",)):
    return (
        json.dumps({"TS": time, "TP": [*path, name], "W": what, **({"V": value} if what == "changed" else {})}) + "\n"
    )


BLANK = "system: {certificateFilePath: '', privateKeyPath: '', rootCaPath: ''}"
FROM_FLEET = (
    log_line(0, "privateKeyPath")
    + log_line(1, "privateKeyPath", "")
    + log_line(1, "certificateFilePath", "")
    + log_line(1795990129856, "privateKeyPath", "/fp/device.key")
    + log_line(1795990129856, "certificateFilePath", "/fp/first.crt")
    + log_line(1795990129856, "certificateFilePath", "/fp/device.crt")
    + log_line(1795990129999, "certificateFilePath", what="timestampUpdated")
    + log_line(1795990129999, "thingName", "x")
)


@pytest.mark.parametrize("last", ["", '{"TS": 1795', "no JSON\n"], ids=["whole", "half a line", "garbage"])
def test_what_the_nucleus_log_says_last_counts_where_the_snapshot_is_blank(root, last):
    (root / "config" / "config.tlog").write_text(FROM_FLEET + last)
    assert configured(root, BLANK) == FileCredential(Path("/fp/device.crt"), Path("/fp/device.key"))
    (root / "config" / "effectiveConfig.yaml").unlink()
    assert nucleus.of_classic(root).private_key == Path("/fp/device.key")


def test_a_snapshot_that_is_stale_gives_way_to_the_log_and_what_was_removed_is_gone(root):
    stale = "system: {certificateFilePath: /old.crt, privateKeyPath: /old.key}"
    (root / "config" / "config.tlog").write_text(FROM_FLEET)
    assert configured(root, stale).private_key == Path("/fp/device.key")
    (root / "config" / "config.tlog").write_text(FROM_FLEET + log_line(1795990130000, "privateKeyPath", what="removed"))
    with pytest.raises(DeviceError, match="privateKeyPath"):
        configured(root, stale)


def test_the_log_tells_the_token_too(root):
    uri = "pkcs11:object=gg;type=private"
    place = ("services", "aws.greengrass.crypto.Pkcs11Provider", "configuration")
    lines = [log_line(2, "privateKeyPath", uri), log_line(2, "certificateFilePath", "")]
    lines += [
        log_line(2, name, value, path=place)
        for name, value in (("library", "/lib/p11.so"), ("slot", 3), ("userPin", "0042"))
    ]
    (root / "config" / "config.tlog").write_text("".join(lines))
    assert nucleus.of_classic(root) == TokenCredential("gg", "/lib/p11.so", 3, "0042")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///etc/my%20cert.pem", "/etc/my cert.pem"),
        ("file:///etc/my%2520cert.pem", "/etc/my%20cert.pem"),
        ("file:/etc/cert.pem", "/etc/cert.pem"),
        ("file:///C:/greengrass/cert.pem", "C:/greengrass/cert.pem"),
    ],
)
def test_paths_may_be_file_uris(root, uri, path):
    text = f"system: {{certificateFilePath: '{uri}', privateKeyPath: /etc/key.pem}}"
    assert configured(root, text) == FileCredential(Path(path), Path("/etc/key.pem"))


def test_a_pkcs11_uri_leads_to_the_providers_token_and_the_pin_is_never_shown(root):
    uri = "pkcs11:object=gg%20key;type="
    text = f"system: {{certificateFilePath: '{uri}cert', privateKeyPath: '{uri}private'}}"
    credential = configured(root, text + PROVIDER)
    assert credential == TokenCredential("gg key", "/lib/p11.so", 3, "0042")
    assert "0042" not in repr(credential)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "system: {certificateFilePath: /a, privateKeyPath: 'pkcs11:object=k'}" + PROVIDER,
            "both in the token or both",
        ),
        (
            "system: {certificateFilePath: 'pkcs11:object=a', privateKeyPath: 'pkcs11:object=b'}" + PROVIDER,
            "must share one label, found a and b",
        ),
        (
            "system: {certificateFilePath: 'pkcs11:type=cert', privateKeyPath: 'pkcs11:object=b'}",
            "has no object=LABEL",
        ),
        ("system: {certificateFilePath: 'pkcs11:object=a', privateKeyPath: 'pkcs11:object=a'}", "has no library"),
        (
            "system: {certificateFilePath: 'pkcs11:object=a', privateKeyPath: 'pkcs11:object=a'}"
            + PROVIDER.replace("slot: 3", "slot: first"),
            "slot is not a number",
        ),
        ("system: [1]", "system is list, expected a mapping"),
        ("system: {certificateFilePath: [1], privateKeyPath: /k}", "certificateFilePath is list"),
        (
            "system: {certificateFilePath: /c, privateKeyPath: 'handle:0x81000001'}",
            "is a handle: URI; keys are",
        ),
        ("system: {privateKeyPath: /k}", "does not show where the device's certificate lies"),
        ("system: {secret: 'unclosed", "is not YAML"),
    ],
)
def test_a_nucleus_that_is_not_set_up_for_it_is_told_what_is_missing(root, text, expected):
    with pytest.raises(DeviceError, match=expected) as caught:
        configured(root, text)
    assert "0042" not in str(caught.value)
    assert "unclosed" not in str(caught.value)


def test_nucleus_lite_tells_by_its_configuration_service_and_its_files_are_not_believed(tmp_path):
    (tmp_path / "config.yaml").write_text("system: {certificateFilePath: /a.pem, privateKeyPath: /a.key}")
    known = {"certificateFilePath": "/fp/c.pem", "privateKeyPath": "/fp/k.pem"}
    assert nucleus.of_lite(known.get, tmp_path) == FileCredential(Path("/fp/c.pem"), Path("/fp/k.pem"))


def untold(_name):
    raise MessagesError("no such operation")


def test_a_nucleus_lite_that_does_not_tell_is_read_from_its_folder_with_fragments_on_top(tmp_path):
    (tmp_path / "config.d").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("system: {certificateFilePath: /a.pem, privateKeyPath: /a.key}")
    (tmp_path / "config.d" / "10-own.yaml").write_text("system: {privateKeyPath: /b.key}")
    assert nucleus.of_lite(untold, tmp_path) == FileCredential(Path("/a.pem"), Path("/b.key"))
    with pytest.raises(DeviceError, match="does not show where the device's private key lies"):
        nucleus.of_lite(untold, tmp_path / "nowhere")


@pytest.mark.parametrize("other", ["/a/file", "pkcs11:object=other", None], ids=["a file", "another label", "the same"])
@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("lite", [False, True], ids=["classic", "lite"])
def test_no_pin_is_told_whatever_form_of_uri_holds_it(root, uri, other, lite, caplog):
    caplog.set_level(0)
    for certificate, key in ((uri, other or uri), (other or uri, uri)):
        system = {"certificateFilePath": certificate, "privateKeyPath": key}
        told = ""
        try:
            if lite:
                told = repr(nucleus.of_lite(system.get))
            else:
                told = repr(configured(root, json.dumps({"system": system, "services": SERVICES})))
        except DeviceError as error:
            told = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        assert told
        assert SECRET not in told.replace(f"_path({SECRET}", "") + caplog.text


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("lite", [False, True], ids=["classic", "lite"])
def test_no_pin_reaches_log_journal_or_job_and_what_cannot_be_rotated_fails_before_its_claim(
    make_world, memory_folder, rotation_document, root, caplog, monkeypatch, uri, lite
):
    """Whoever holds the PIN: the URIs of certificate and key, and the provider."""
    caplog.set_level(0)
    system = {"certificateFilePath": uri, "privateKeyPath": uri}

    def open_store():
        if lite:
            found = nucleus.of_lite(system.get)
        else:
            found = configured(root, json.dumps({"system": system, "services": SERVICES}))
        return program._store(found, System())

    world = make_world(memory_folder)
    monkeypatch.setattr(world.device, "make_store", lambda: opened_when_needed(open_store))
    world.device.switch_on()
    world.cloud.create_job("check", {"operation": "CHECK_ROTATION"})
    world.run(30)
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    told = world.cloud.log
    for job in ("check", "job-1"):
        assert world.cloud.status(job) == "FAILED"
        assert len(world.cloud.details(job)["DeviceFailureReason"]) > 30
        assert {m["status"] for topic, m in told if topic.endswith(f"{job}/update")} == {"FAILED"}
    written = b"".join(path.read_bytes() for path in memory_folder.rglob("*") if path.is_file())
    assert SECRET not in f"{told}{caplog.text}"
    assert SECRET.encode() not in written


@pytest.mark.parametrize("version", ["2.6.0", "2.18.2", "2.6.1-326e992b", "2.30.0", "", "of tomorrow"])
def test_a_nucleus_that_is_supported_or_does_not_say_is_worked_with(version):
    nucleus.refuse_version({"GGC_VERSION": version} if version else {})


@pytest.mark.parametrize("version", ["2.5.6", "2.0.3", "1.11.6", "3.0.0", "10.0.0"])
def test_a_nucleus_that_is_not_supported_is_named_before_the_claim(version):
    with pytest.raises(DeviceError, match=rf"nucleus {version}; the component needs 2.6 or later"):
        nucleus.refuse_version({"GGC_VERSION": version})


SERVICES = {
    "aws.greengrass.crypto.Pkcs11Provider": {"configuration": {"library": "/l.so", "slot": SECRET, "userPin": SECRET}}
}


@pytest.mark.parametrize("value", [None, ""])
def test_a_nucleus_without_a_thing_name_is_told_what_to_configure(value):
    with pytest.raises(DeviceError, match=r"set system.thingName in the nucleus' configuration"):
        nucleus.thing_name({} if value is None else {"AWS_IOT_THING_NAME": value})


@pytest.mark.parametrize(("slot", "expected"), [("'0x1'", 1), ("'12'", 12), ("3", 3)])
def test_a_slot_may_be_written_in_any_way_that_numbers_are(root, slot, expected):
    uri = "pkcs11:object=k;type="
    text = f"system: {{certificateFilePath: '{uri}cert', privateKeyPath: '{uri}private'}}"
    assert configured(root, text + PROVIDER.replace("slot: 3", f"slot: {slot}")).slot == expected


def test_the_root_is_two_folders_above_the_components(tmp_path):
    assert nucleus.root_of(tmp_path / "work" / "c") == tmp_path.resolve()
    with pytest.raises(DeviceError, match="let the nucleus start this"):
        nucleus.root_of(tmp_path)


def test_each_platform_restarts_its_service_and_never_the_machine():
    commands = {" ".join(default_command(runtime, platform)) for runtime in Runtime for platform in ("linux", "win32")}
    assert not any(
        word in command.lower() for command in commands for word in ("reboot", "shutdown", "restart-computer")
    )
    assert default_command(Runtime.CLASSIC, "linux") == ("systemctl", "restart", "--no-block", "greengrass.service")
    assert default_command(Runtime.LITE, "linux") == ("systemctl", "restart", "ggl.core.iotcored.service")


@pytest.mark.posix  # the commands are a shell's
def test_a_restart_that_cannot_be_asked_for_says_why():
    with pytest.raises(RestartError, match="cannot be run"):
        CommandRestarter(Runtime.CLASSIC, lambda: ["/no/such/command"], ()).restart()
    with pytest.raises(RestartError, match=r"ended with 3: unit not found$"):
        CommandRestarter(
            Runtime.CLASSIC, lambda: ["sh", "-c", "echo unit not found >&2; echo see the log >&2; exit 3"], ()
        ).restart()
    CommandRestarter(Runtime.LITE, lambda: ["true"]).restart()


@pytest.mark.posix  # there is no such shell
def test_a_restart_that_fails_while_the_machine_is_going_down_is_asked_for_again_until_this_process_ends(tmp_path):
    """Seen on nucleus lite: "D-Bus connection terminated", while systemd ends before its services do."""
    tries = tmp_path / "tries"
    command = ["sh", "-c", f"echo x >> {tries}; [ $(wc -l < {tries}) -gt 2 ] || exit 1"]
    CommandRestarter(Runtime.LITE, lambda: command, (0.0, 0.0)).restart()
    assert tries.read_text() == 3 * "x\n"
    tries.unlink()
    with pytest.raises(RestartError, match="sh ended with 1"):
        CommandRestarter(Runtime.LITE, lambda: command, (0.0,)).restart()


@pytest.mark.posix  # there are no signals
def test_a_restart_command_that_the_restart_itself_ends_has_not_failed():
    """Seen on nucleus classic: systemd ends what the component has started before the component."""
    CommandRestarter(Runtime.CLASSIC, lambda: ["sh", "-c", "kill -TERM $$"]).restart()


def test_a_line_of_the_log_is_written_whatever_encoding_the_platform_prefers(tmp_path):
    folder = tmp_path / "ASKING → IDLE"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(nucleus.__file__).parents[2]), "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "component.certificate_rotator"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert "ASKING → IDLE; let the nucleus start this" in done.stdout.decode()
    assert done.stderr == b""


@pytest.mark.posix
def test_while_a_wrong_configuration_is_in_force_the_nucleus_is_restarted_as_before(tmp_path):
    """Else a device that is on its way back, off line, could not be helped from afar."""
    commands = iter([["true"], ConfigurationError("restartCommand: found 7"), ["touch", str(tmp_path / "done")]])

    def command():
        found = next(commands)
        if isinstance(found, ConfigurationError):
            raise found
        return found

    restarter = CommandRestarter(Runtime.LITE, command, ())
    for _ in range(3):
        restarter.restart()
    assert (tmp_path / "done").exists()


def test_a_restart_command_that_is_not_there_is_found_before_anything_depends_on_it():
    CommandRestarter(Runtime.CLASSIC, lambda: [sys.executable]).check()
    with pytest.raises(DeviceError, match="/no/such/command, which is to restart the nucleus, is not there"):
        CommandRestarter(Runtime.CLASSIC, lambda: ["/no/such/command"]).check()


def test_a_device_whose_secrets_hang_on_its_rsa_key_is_not_moved_to_another_family(root):
    wanted, rsa = KeyType.ECDSA_P256, "RSA-2048"
    nucleus.refuse_loss_of_secrets(root, wanted, rsa)
    place = ("services", "aws.greengrass.SecretManager")
    (root / "config" / "config.tlog").write_text(log_line(5, "version", "2.1.0", path=place))
    with pytest.raises(DeviceError, match=r"SecretManager wraps its secrets .*; let it demand RSA-2048 or RSA-3072"):
        nucleus.refuse_loss_of_secrets(root, wanted, rsa)
    nucleus.refuse_loss_of_secrets(root, KeyType.RSA_3072, rsa)
    nucleus.refuse_loss_of_secrets(root, wanted, "ECDSA-P384")


def test_a_device_with_its_credential_in_a_token_and_without_the_package_for_it_says_so(monkeypatch):

    monkeypatch.setitem(sys.modules, "pkcs11", None)
    for name in ("pkcs11_token", "store_pkcs11"):
        monkeypatch.delitem(sys.modules, f"component.certificate_rotator.{name}", raising=False)
    with pytest.raises(DeviceError, match=r"pkcs11 could not be installed here; .*--wheelhouse"):
        program._store(TokenCredential("k", "/l.so", 1, "0042"), System())
