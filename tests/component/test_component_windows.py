"""What differs on Windows. The first half runs anywhere; the second on Windows' own Python, which
``make component-windows`` brings to Linux."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from component.certificate_rotator import windows_files
from component.certificate_rotator.restart import CommandRestarter, Runtime, default_command
from component.certificate_rotator.store_files import FileStore
from component.certificate_rotator.system import System
from component.certificate_rotator.windows_service import PATIENCE, RUNNING, STOPPED, Service, Status, restart
from protocol.algorithms import CsrSigningAlgorithm, KeyType

STARTING, STOPPING = 2, 3


class FakeService:
    """A service on virtual time; each request takes some seconds, or is refused as often as ``refusals`` says."""

    def __init__(self, state=RUNNING, *, takes=3.0, refusals=0):
        self.time, self.takes, self.refusals = 0.0, takes, refusals
        self.process, self.starts, self.stops = 100, 0, 0
        self.settled, self.pending, self.ready = state, None, 0.0

    def status(self):
        if self.pending is not None and self.time >= self.ready:
            self.settled, self.pending = self.pending, None
            if self.settled == RUNNING:
                self.process += 1
        if self.pending is not None:
            return Status(STARTING if self.pending == RUNNING else STOPPING, self.process)
        return Status(self.settled, self.process if self.settled == RUNNING else 0)

    def stop(self):
        self._request(STOPPED)
        self.stops += 1

    def start(self):
        self._request(RUNNING)
        self.starts += 1

    def _request(self, state):
        if self.refusals:
            self.refusals -= 1
            raise OSError(1061, "the service cannot accept control messages at this time")
        self.pending, self.ready = state, self.time + self.takes

    def restarted(self):
        def wait(seconds):
            self.time += seconds

        return restart(self, lambda: self.time, wait)


@pytest.mark.parametrize(
    ("service", "stops"),
    [
        pytest.param(FakeService(), 1, id="a service that runs is stopped once and started once"),
        pytest.param(FakeService(STOPPED), 0, id="one that is stopped already is started"),
        pytest.param(FakeService(takes=120.0), 1, id="one that takes two minutes to stop is waited for"),
        pytest.param(FakeService(refusals=7), 1, id="a refused request is made again"),
    ],
)
def test_the_service_runs_again_as_another_process(service, stops):
    assert service.restarted()
    assert (service.status().state, service.stops, service.starts) == (RUNNING, stops, 1)


def test_a_service_that_windows_refuses_to_stop_goes_on_running():
    service = FakeService(refusals=10_000)
    assert not service.restarted()
    assert service.status() == Status(RUNNING, 100)
    assert PATIENCE <= service.time < PATIENCE + 2


def test_the_helper_is_no_part_of_the_components_process_tree_and_runs_the_components_own_python():
    command = default_command(Runtime.CLASSIC, "win32")
    line = subprocess.list2cmdline(command)  # what Windows makes of the words
    assert line.startswith('cmd.exe /c start "" /min ')  # a title first, or the next word is taken for the program
    assert command[5:7] == (sys.executable, "-I")
    assert Path(command[7]).is_file()
    assert command[8:] == ("greengrass",)


if sys.platform == "win32":

    def sddl(descriptor):
        text = ctypes.c_wchar_p()
        convert = ctypes.WinDLL("advapi32").ConvertSecurityDescriptorToStringSecurityDescriptorW
        assert convert(descriptor, 1, 7, ctypes.byref(text), None)
        return text.value

    def rotate(store, ca, key_type=KeyType.RSA_2048):
        store.begin()
        store.prepare(key_type)
        store.install(ca.issue_pem(store.request(CsrSigningAlgorithm.SHA256_RSA)))

    @pytest.fixture
    def pair(tmp_path, first_pair):
        certificate, key = tmp_path / "thing.crt", tmp_path / "thing.key"
        certificate.write_text(first_pair[0])
        key.write_text(first_pair[1])
        return certificate, key

    @pytest.fixture
    def service(tmp_path):
        log = tmp_path / "starts.txt"
        log.write_text("")
        program = os.environ["CERTFLEET_WINDOWS_SERVICE"]
        for words in (["create", "greengrass", f"binPath={program} {log}"], ["start", "greengrass"]):
            subprocess.run(["sc.exe", *words], check=True, stdin=subprocess.DEVNULL, capture_output=True)
        yield log
        subprocess.run(["net.exe", "stop", "greengrass"], check=True, stdin=subprocess.DEVNULL, capture_output=True)
        subprocess.run(["sc.exe", "delete", "greengrass"], check=True, stdin=subprocess.DEVNULL, capture_output=True)

    def until(condition):
        end = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.05)

    def test_a_real_service_is_restarted_by_a_helper_that_outlives_its_parent(service):
        until(lambda: service.read_text().count("started") == 1)
        before = Service("greengrass").status()
        CommandRestarter(Runtime.CLASSIC, list).restart()
        until(lambda: service.read_text().count("started") == 2)
        until(lambda: Service("greengrass").status().state == RUNNING)
        assert Service("greengrass").status().process != before.process

    def test_a_service_that_does_not_exist_is_reported_as_windows_does():
        with pytest.raises(OSError, match="1060"):
            Service("no-such-service")

    def test_a_new_key_is_open_to_its_owner_and_the_system_alone_whatever_its_folder_hands_down(tmp_path):
        system = System()
        (tmp_path / "wide").write_bytes(b"")
        assert ";;;WD)" in sddl(windows_files.security(tmp_path / "wide"))  # what Wine gives a file: everyone reads
        descriptor = system.create(tmp_path / "key")
        assert ";;;WD)" not in sddl(windows_files.security(tmp_path / "key"))
        system.write(descriptor, b"first\nline")
        system.close(descriptor)
        assert (tmp_path / "key").read_bytes() == b"first\nline"
        with pytest.raises(FileExistsError):
            system.create(tmp_path / "key")

    def test_the_access_control_list_of_a_credential_survives_rotation_and_is_never_wider(pair, ca):
        descriptor = System().create(pair[1].with_name("narrow"))
        os.close(descriptor)
        windows_files.set_security(pair[1], windows_files.security(pair[1].with_name("narrow")))
        before = [sddl(windows_files.security(path)) for path in pair]
        assert before[0] != before[1]
        rotate(FileStore(*pair, System()), ca)
        assert [sddl(windows_files.security(path)) for path in pair] == before

    def test_a_credential_that_a_virus_scanner_holds_open_is_replaced_when_it_lets_go(pair, ca):
        held = [path.open("rb") for path in pair]

        def let_go(_seconds):
            while held:
                held.pop().close()

        rotate(FileStore(*pair, System(let_go)), ca)
        assert not held
        FileStore(*pair, System()).begin()  # certificate and key match

    def test_a_file_that_is_never_let_go_is_given_up_after_a_bound(tmp_path):
        waited = []
        target = tmp_path / "held"
        target.write_bytes(b"old")
        (tmp_path / "new").write_bytes(b"new")
        with target.open("rb"), pytest.raises(PermissionError):
            System(waited.append).replace(tmp_path / "new", target)
        assert 5 < sum(waited) < 15
        assert target.read_bytes() == b"old"
