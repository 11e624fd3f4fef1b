"""From job notification to SUCCEEDED: ``python benchmarks/component_rotation.py``.

The real component process under the sandbox's nucleus, over IPC and mutual TLS; registry, jobs and backend
are the small ones of the component's own test. Key generation and the nucleus restart stand apart: what is
left is the component's and the protocol's own. Beside it: from start to ready, the interpreter's own start
apart, resident memory when idle, and bytes written to disk per rotation; and what the credential store alone asks of
disk and processor.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "component"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "component" / "in_sandbox"))

from component_cloud import Ca, pem_of, subject_of
from component_site import THING, Site, enrol, python_pid, wait_for_log
from component_world import World
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from component import build
from component.certificate_rotator import keys
from component.certificate_rotator.store_files import FileStore
from component.certificate_rotator.system import System
from protocol.algorithms import KeyType, default_csr_algorithm
from sandbox.bus import Message
from sandbox.edge import Component, Nucleus, Provisioning, provision

ROUNDS = 3


class Watch:
    """When each message of a rotation, or of a start, passed."""

    def __init__(self, site: Any) -> None:
        self.times: dict[str, float] = {}
        site.bus.listen(self.hear)

    def hear(self, message: Message) -> None:
        """Note the first time."""
        for name in ("notify-next", "$next/get", "certificate/create", "create/accepted", "certificate/commit"):
            if message.topic.endswith(name):
                self.times.setdefault(name, time.monotonic())

    def wait(self, name: str) -> float:
        """When the message passed, once it has."""
        while name not in self.times:
            time.sleep(0.001)
        return self.times[name]


def start(folder: Path, site: Any) -> Nucleus:
    """A device with a first credential, running the built component."""
    build.main(["--output", str(folder / "build"), "--version", "0.0.0"])
    with zipfile.ZipFile(folder / "build" / build.ARCHIVE) as archive:
        archive.extractall(folder / "unpacked")
    root = folder / "gg"
    provision(root, Provisioning(THING, site.endpoint.host, site.endpoint.port, site.ca_file))
    enrol(site, root)
    nucleus = Nucleus(
        root, Component(folder / "build" / "recipe.yaml", folder / "unpacked", archive=folder / "build" / build.ARCHIVE)
    )
    nucleus.start()
    wait_for_log(nucleus, "ASKING → IDLE")
    return nucleus


def key_seconds(key_type: KeyType) -> float:
    """What a key of this type takes here, on average."""
    began = time.perf_counter()
    for _ in range(ROUNDS):
        keys.generate(key_type)
    return (time.perf_counter() - began) / ROUNDS


def interpreter_seconds() -> float:
    """What Python takes to start and end here, with nothing to do."""
    began = time.perf_counter()
    for _ in range(ROUNDS):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - began) / ROUNDS


def start_seconds(site: Any, nucleus: Nucleus) -> tuple[float, float]:
    """From the start of the run step, with nothing to install, to the first question, asked once it hears answers.

    The median, and what of it the process spent computing: on a busy machine the rest is waiting for a turn.
    """
    taken, computed = [], []
    for _ in range(ROUNDS):
        watch = Watch(site)
        nucleus.restart()
        asked = watch.wait("$next/get")
        fields = Path(f"/proc/{python_pid(nucleus)}/stat").read_text().rsplit(")", 1)[1].split()
        user, system, user_of_children, system_of_children = map(int, fields[11:15])
        ticks = os.sysconf("SC_CLK_TCK")
        taken.append(asked - int(fields[19]) / ticks)  # both since the machine's start
        computed.append((user + system + user_of_children + system_of_children) / ticks)
        wait_for_log(nucleus, "ASKING → IDLE")
        time.sleep(0.2)
    return statistics.median(taken), statistics.median(computed)


class CountingSystem(System):
    """The file system; how often it was told to have things on the disk, and bytes."""

    syncs = written = 0

    def write(self, descriptor: int, data: bytes) -> None:
        """See System."""
        self.written += len(data)
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """See System."""
        self.syncs += 1
        super().sync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """See System."""
        self.syncs += 1
        super().sync_folder(folder)


def measure_disk(folder: Path, key_type: KeyType) -> None:
    """One rotation by the rotator alone, in virtual time, and the later start that lets go of the old credential."""
    ca, key, system = Ca(), ec.generate_private_key(ec.SECP256R1()), CountingSystem()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    folder.mkdir()
    world = World(folder, ca, (pem_of(ca.issue(key.public_key(), subject_of())), pem), system=system)
    world.device.switch_on()
    algorithm = default_csr_algorithm(key_type)
    document = {"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": key_type.value, "signingAlgorithm": algorithm.value}
    world.cloud.create_job(document=document)
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED"
    rotation = system.syncs
    world.start_later()
    later, written = system.syncs - rotation, system.written
    store = FileStore(world.device.certificate, world.device.key, system)
    store.begin()
    store.prepare(key_type)
    began = time.process_time()
    store.preflight(key_type)
    store.install(ca.issue_pem(store.request(algorithm)))
    store.settle()
    spent = 1000 * (time.process_time() - began)
    print(f"{key_type.value:12}{rotation:5} + {later:<3}fsyncs{written:7} bytes{spent:7.0f} ms")


def main() -> None:
    """Print one line for each key type."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(os.path.realpath(name))
        site = Site(folder)
        nucleus = start(folder, site)
        try:
            status = Path(f"/proc/{python_pid(nucleus)}/status").read_text()
            print("idle:", next(line for line in status.splitlines() if line.startswith("VmRSS")))
            ready, computed = start_seconds(site, nucleus)
            print(f"start to ready: {ready:.3f} s, {computed:.2f} s of it computing")
            print(f"the interpreter alone: {interpreter_seconds():.3f} s")
            print(f"{'key type':12}{'total s':>9}{'key s':>9}{'restart s':>11}{'the rest s':>12}{'KiB written':>13}")
            for key_type in KeyType:
                measure(site, nucleus, key_type)
            print("the store alone: fsyncs of a rotation + of the later start, bytes, processor time beside the key")
            for key_type in KeyType:
                measure_disk(folder / key_type.value, key_type)
        finally:
            nucleus.stop()
            site.stop()


def measure(site: Any, nucleus: Nucleus, key_type: KeyType) -> None:
    """One rotation."""
    key = key_seconds(key_type)
    watch, job = Watch(site), f"{key_type.value}"
    algorithm = default_csr_algorithm(key_type)
    before = written(nucleus)
    began = time.monotonic()
    document = {"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": key_type.value, "signingAlgorithm": algorithm.value}
    site.create_job(document, job)
    while "create/accepted" not in watch.times:
        at_restart = written(nucleus)
        time.sleep(0.001)
    assert site.wait_ended(job)["status"] == "SUCCEEDED"
    total = time.monotonic() - began
    restart = watch.times["certificate/commit"] - watch.times["create/accepted"]
    # The process of before the restart, as far as it could be watched, and the one after it.
    kib = (max(at_restart - before, 0) + written(nucleus)) / 1024
    print(f"{key_type.value:12}{total:9.3f}{key:9.3f}{restart:11.3f}{total - key - restart:12.3f}{kib:13.1f}")
    wait_for_log(nucleus, f"job {job}: REPORTING → ASKING")
    time.sleep(0.2)  # the answer to what it asks then


def written(nucleus: Nucleus) -> int:
    """Bytes that the component's process has sent to the disk."""
    try:
        text = Path(f"/proc/{python_pid(nucleus)}/io").read_text()
    except (AssertionError, OSError):  # between two processes
        return 0
    return int(next(line for line in text.splitlines() if line.startswith("write_bytes")).split()[1])


if __name__ == "__main__":
    main()
