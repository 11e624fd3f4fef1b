"""One running sandbox: cloud, backend, MQTT endpoint and devices, started and stopped in order.

It runs what would be deployed: the backend from its synthesised template, the component from its
recipe and built archive. The devices that the fleet file calls processes run it as processes of their
own over Greengrass IPC; the others run the same code inside this process.
"""

from __future__ import annotations

import gc
import shlex
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from component.build import ARCHIVE, write_archive, write_recipe
from protocol.names import AWS_IOT_AUTHORITY, COMPONENT_NAME
from sandbox.aws import Cloud
from sandbox.builder import BuiltDevice, Credential, FleetBuilder
from sandbox.edge import Component, DeploymentAgent, Faults, MqttEndpoint, Nucleus, Provisioning, provision
from sandbox.edge.in_process import InProcessDevice
from sandbox.edge.in_process_host import InProcessHost
from sandbox.edge.loop_thread import LoopThread
from sandbox.stack import Stack, load, with_authorities
from sandbox.stack.clients import Clients

from .bus import Bus
from .clock import SandboxClock
from .fleet_file import Misfit, SandboxFleet

TEMPLATE = Path(__file__).parents[1] / "backend" / "template" / "AWSLabsCertificateRotator.template.json"
COMPONENT_VERSION = "1.0.0"
CERTIFICATE_FILE = "thingCert.crt"  # the nucleus' own defaults in its root folder
PRIVATE_KEY_FILE = "privKey.key"
ONLINE_TIMEOUT_SECONDS = 60.0

Device = Nucleus | InProcessDevice

# Misfits that hold a credential with which no connection is possible.
_NEVER_ONLINE = frozenset({Misfit.NO_CERTIFICATE, Misfit.CERTIFICATE_INACTIVE, Misfit.UNPARSEABLE, Misfit.EXPIRED})


class World:
    """Start once, stop once. ``folder`` holds every file of the world and outlives it."""

    def __init__(
        self,
        fleet: SandboxFleet,
        folder: Path,
        clock: SandboxClock | None = None,
        *,
        template: Path = TEMPLATE,
        component: Component | None = None,
        workers: int = 8,
    ) -> None:
        """``component``: what the processes run at first, if not ours; ``workers``: functions at a time."""
        self.fleet = fleet
        self.folder = folder = folder.absolute()  # sandbox.env is read in other folders
        self.clock = clock or SandboxClock()
        self.bus = Bus()
        self.faults = Faults()
        self.devices: dict[str, Device] = {}
        self.built_with: dict[str, Credential] = {}  # what each device held when the world began
        self._closing = ExitStack()
        self._built: dict[str, BuiltDevice] = {}
        self._template, self._component, self._workers = template, component, workers
        folder.mkdir(parents=True, exist_ok=True)
        self.cloud = Cloud(fleet.account, fleet.region, self.clock, self.bus, folder / "cloud")
        self._clients = Clients(self.cloud)

    def start(self) -> None:
        """Bring everything up; devices connect on their own, see ``wait_until_online``.

        Its objects are frozen until it stops: a search for garbage does not look through them again and again, which
        was a seventh of the cost of a large world.
        """
        self._closing.callback(gc.unfreeze)
        gc.freeze()
        self.cloud.start()
        self._closing.callback(self.cloud.stop)
        built = FleetBuilder(self.fleet, self.cloud, self.client("iot")).build()
        template = with_authorities(load(self._template), self._authorities())
        name = self.fleet.backend.stack_name
        self.stack = Stack(template, self.cloud, self.bus, self.clock, name, workers=self._workers)
        self.stack.start()
        self._closing.callback(self.stack.stop)
        self.endpoint = MqttEndpoint(
            registry=self.cloud.registry,
            jobs=self.cloud.jobs,
            bus=self.bus,
            clock=self.clock,
            certificate_file=self.cloud.server_certificate,
            key_file=self.cloud.server_key,
            faults=self.faults,
        )
        self.endpoint.start()
        self._closing.callback(self.endpoint.stop)
        gc.freeze()
        self._start_devices(built)
        gc.freeze()
        self._write_authorities()

    def stop(self) -> None:
        """End devices, backend and cloud, in this order; harmless when done before."""
        self._closing.close()

    def wait_until_online(self, timeout: float = ONLINE_TIMEOUT_SECONDS) -> list[str]:
        """Wait for every device that can connect; returns the names of those that have not (seconds)."""
        until = time.monotonic() + timeout
        return [
            name
            for name, device in self.devices.items()
            if self._should_connect(name) and not device.wait_connected(max(0.0, until - time.monotonic()))
        ]

    # Where things are ---------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Return what an AWS client needs in its environment to talk to this world, and where MQTT is."""
        return self.cloud.environment() | {
            "CERTFLEET_QUOTA_FACTOR": "1000",  # nothing here throttles
            "CERTFLEET_CLOCK_AHEAD": f"{self.clock.ahead.total_seconds():.0f}",
            "CERTFLEET_SANDBOX_MQTT_ENDPOINT": f"{self.mqtt_host}:{self.mqtt_port}",
            "CERTFLEET_SANDBOX_CA_BUNDLE": str(self.ca_bundle),
            "CERTFLEET_SANDBOX_FOLDER": str(self.folder),
        }

    def write_environment(self, path: Path) -> None:
        """Write ``sandbox.env``: lines for a shell or an env-file reader; everything in it is a dummy."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(self.environment().items())]
        path.write_text("".join(lines), encoding="utf-8")

    @property
    def mqtt_host(self) -> str:
        """Address of the MQTT endpoint."""
        return self.endpoint.host

    @property
    def mqtt_port(self) -> int:
        """Port of the MQTT endpoint."""
        return self.endpoint.port

    @property
    def ca_bundle(self) -> Path:
        """Certificates under which every server of this world answers."""
        return Path(self.cloud.ca_bundle)

    def client(self, service: str) -> Any:
        """Return a boto3 client of this world."""
        return self._clients.get(service)

    def folder_of(self, name: str) -> Path:
        """Return a device's root folder: a colon, which would part a PATH in two, is a plus sign there."""
        return self.folder / "devices" / name.replace(":", "+")

    def credential_of(self, name: str) -> Credential | None:
        """Return the credential that lies in a device's files now; None if there is none."""
        folder = self.folder_of(name)
        try:
            return Credential((folder / PRIVATE_KEY_FILE).read_bytes(), (folder / CERTIFICATE_FILE).read_bytes())
        except FileNotFoundError:
            return None

    def authority_certificates(self) -> tuple[x509.Certificate, ...]:
        """Return the certificates of AWS IoT's CA and of every private CA here."""
        pca = self.client("acm-pca")
        pems = (
            pca.get_certificate_authority_certificate(CertificateAuthorityArn=authority.arn)["Certificate"]
            for authority in self.fleet.authorities
        )
        return (self.cloud.aws_iot_ca(), *(x509.load_pem_x509_certificate(pem.encode()) for pem in pems))

    def _authorities(self) -> dict[str, dict[str, Any]]:
        """Return the fleet file's authorities as a deployment of the backend gives them to its functions."""
        return {
            authority.name: {
                "arn": authority.arn,
                "signingAlgorithm": authority.signing_algorithm.value,
                "validitySeconds": int(authority.validity.total_seconds()),
            }
            for authority in self.fleet.authorities
        }

    def _write_authorities(self) -> None:
        """Write ``authorities/<name>.pem``, for whoever checks a chain with other tools."""
        folder = self.folder / "authorities"
        folder.mkdir(exist_ok=True)
        names = [AWS_IOT_AUTHORITY, *(authority.name for authority in self.fleet.authorities)]
        for name, certificate in zip(names, self.authority_certificates(), strict=True):
            (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))

    def summary(self) -> str:
        """Return one line for people: what there is."""
        processes = sum(isinstance(device, Nucleus) for device in self.devices.values())
        groups = len({group for device in self._built.values() for group in device.entry.groups})
        private = len(self.fleet.authorities)
        return (
            f"{_count(len(self._built), 'device')} in {_count(groups, 'group')}, "
            f"{processes} of them real component processes; "
            f"AWS IoT's CA and {_count(private, 'private CA')}"
        )

    # Devices ------------------------------------------------------------------------------------

    def _start_devices(self, built: list[BuiltDevice]) -> None:
        self._built = {device.name: device for device in built}
        component = self._component or build_component(self.folder / "component")
        loop = LoopThread("nuclei")
        loop.start()
        self._closing.callback(loop.stop)
        host = InProcessHost(self.cloud.registry, self.cloud.jobs, self.bus, self.clock, self.faults)
        self._closing.callback(host.stop)
        for device in built:
            self._lay_out(device)
            if device.is_process:
                self.devices[device.name] = Nucleus(
                    self.folder_of(device.name),
                    component,
                    profile=device.entry.nucleus,
                    loop=loop,
                    clock=self.clock,
                    restart_takes=device.entry.restart_takes,
                )
            else:
                self.devices[device.name] = InProcessDevice(device.name, self.folder_of(device.name), host)
        agent = self.deployment_agent = DeploymentAgent(self.cloud.deployments)
        agent.offer(component)
        self.client("greengrassv2").create_component_version(inlineRecipe=component.recipe.read_bytes())
        self._closing.callback(agent.stop)
        for name, running in self.devices.items():
            if isinstance(running, Nucleus):
                agent.attach(running)
            if self._should_connect(name):
                running.start()
                self._closing.callback(running.stop)

    def _should_connect(self, name: str) -> bool:
        device = self._built[name]
        return device.entry.online and device.entry.misfit not in _NEVER_ONLINE

    def _lay_out(self, device: BuiltDevice) -> None:
        folder = self.folder_of(device.name)
        folder.mkdir(parents=True, exist_ok=True)
        if device.is_process:  # the others have no nucleus that would read it
            host, port, profile = self.mqtt_host, self.mqtt_port, device.entry.nucleus
            region = self.fleet.region
            provision(folder, Provisioning(device.name, host, port, self.ca_bundle, region=region, profile=profile))
        if device.credential is not None:
            self.built_with[device.name] = device.credential
            (folder / CERTIFICATE_FILE).write_bytes(device.credential.certificate_pem)
            (folder / PRIVATE_KEY_FILE).touch(mode=0o600)
            (folder / PRIVATE_KEY_FILE).write_bytes(device.credential.key_pem)


def build_component(folder: Path, version: str = COMPONENT_VERSION) -> Component:
    """Build the component as a release does; the nuclei install it, at every launch."""
    folder.mkdir(parents=True, exist_ok=True)
    write_archive(folder / ARCHIVE)
    recipe = write_recipe(folder, name=COMPONENT_NAME, version=version, bucket="sandbox")
    return Component(recipe, folder, run_install=True, archive=folder / ARCHIVE)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
