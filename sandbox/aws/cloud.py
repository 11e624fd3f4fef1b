"""One AWS account and region on this machine, over HTTP(S) and for the sandbox's other halves.

AWS IoT (registry, jobs, data planes), Private CA, Lambda's levers and Greengrass are the sandbox's
own, made for whole fleets; other services are moto's. ``docs/sandbox.md`` shows where it differs from
AWS. Use::

    cloud = Cloud("123456789012", "eu-west-1", clock, bus, folder)
    cloud.start()
    client = boto3.client("iot", endpoint_url=cloud.endpoint_url)
"""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

from cryptography import x509

from sandbox.bus import Bus
from sandbox.clock import SandboxClock

from .acmpca import PrivateCas
from .api import ServiceApi
from .functions import LambdaService
from .gateway import Gateway
from .greengrass.components import Components
from .greengrass.deployments import Deployments
from .iot.certificates import Certificates
from .iot.groups import Groups
from .iot.policies import Policies
from .iot.presence import Presence
from .iot.principals import Principals
from .iot.search import Search
from .iot.settings import Endpoints, EventConfigurations, IotTags, Tags, TopicRules
from .iot.things import Things
from .issuer import BACKDATED, aws_iot_issuer
from .jobs.control import JobsControl
from .jobs.data import JobsDataApi, JobsDataPlane
from .jobs.engine import JobEngine
from .jobs.templates import JobTemplates
from .messaging import Messaging
from .moto_services import MotoServices
from .seed import Seed
from .server import HttpServer
from .shadows import Shadows
from .site import Site
from .tls import ServerIdentity

_TICK_SECONDS = 0.2  # how late a timer of the clock's real time may be


class Cloud:
    """``registry`` and ``jobs`` implement ``sandbox.interfaces``; ``seed`` fills.

    ``functions`` and ``rules`` are for ``sandbox.stack``; ``deployments`` is for the nucleus stand-ins;
    ``services`` answer calls that do not come over the wire, ``answer`` requests that could have.
    """

    def __init__(
        self, account: str, region: str, clock: SandboxClock, bus: Bus, folder: Path, *, port: int = 0
    ) -> None:
        self.site = Site(account, region, clock, bus)
        self._identity = ServerIdentity(folder / "tls")
        self._moto = MotoServices(account, region)
        self._stopping = threading.Event()
        self._build_iot(folder)
        self._build_jobs()
        self.private_cas = PrivateCas(self.site)
        self.functions = LambdaService(self.site)
        self.deployments = Deployments(self._engine, self._things, self._groups)
        self._components = Components(self.site)
        self.seed = Seed(
            self.site,
            things=self._things,
            groups=self._groups,
            certificates=self._certificates,
            principals=self._principals,
            policies=self._policies,
            private_issuer=self.private_cas.issuer,
            create_private_ca=self.private_cas.seed,
        )
        self.services = self._build_services()
        self.answer = Gateway(self.services, self._moto).handle
        self._server = HttpServer(self._identity.context(), self.answer, port)
        self._ticker = threading.Thread(target=self._tick, name="sandbox-ticker", daemon=True)
        clock.on_advance(self.site.tick)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``: what DescribeEndpoint answers, for ``https://`` under ``ca_bundle`` and for ``http://``."""
        return f"127.0.0.1:{self._server.port}"

    @property
    def endpoint_url(self) -> str:
        """Where AWS clients find every service."""
        return f"http://{self.address}"

    @property
    def ca_bundle(self) -> Path:
        """The CA of the HTTPS side, PEM."""
        return self._identity.ca_bundle

    @property
    def server_certificate(self) -> Path:
        """Certificate that every server of this sandbox shows, PEM; for 127.0.0.1 and localhost."""
        return self._identity.certificate

    @property
    def server_key(self) -> Path:
        """The private key of that certificate, PEM."""
        return self._identity.key

    def aws_iot_ca(self) -> x509.Certificate:
        """Return the certificate of the CA that stands in for AWS IoT's."""
        return self._certificates.issuer.root(self.now() - BACKDATED)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make any AWS client use this cloud."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self.site.region,
            "AWS_DEFAULT_REGION": self.site.region,
            "AWS_CA_BUNDLE": str(self.ca_bundle),
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        """Serve."""
        self._server.start()
        self._ticker.start()

    def stop(self) -> None:
        """Stop serving and forget moto's state; a second call changes nothing."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._server.stop()
            if self._ticker.is_alive():
                self._ticker.join()
            self._moto.close()

    def now(self) -> datetime:
        """Return the sandbox's present."""
        return self.site.now()

    def _build_iot(self, folder: Path) -> None:
        site = self.site
        self._tags = Tags()
        self._events = EventConfigurations(site)
        self.rules = TopicRules(site)
        self._things = Things(site)
        self._groups = Groups(site, self._things)
        self._certificates = Certificates(site, aws_iot_issuer(folder / "ca"))
        self._principals = Principals(self._things, self._certificates)
        self._policies = Policies(site, self._certificates, self._groups)
        self.registry = Presence(
            site,
            certificates=self._certificates,
            principals=self._principals,
            policies=self._policies,
            things=self._things,
            groups=self._groups,
        )
        self._shadows = Shadows(site, self._things)

    def _build_jobs(self) -> None:
        self._engine = JobEngine(self.site, self._things, self._groups, self._events)
        self._templates = JobTemplates(self.site, self._tags, self._engine.jobs)
        self._control = JobsControl(self._engine, self._things, self._groups, self._templates, self._tags)
        self.jobs = JobsDataPlane(self._engine, self._things)

    def _build_services(self) -> dict[str, ServiceApi]:
        iot = [
            self._things, self._groups, self._certificates, self._principals, self._policies, self._control,
            self._templates, self.rules, self._events, IotTags(self._tags), Endpoints(lambda: self.address),
            self.registry, Search(self._things, self._groups, self.registry),
        ]  # fmt: skip
        handlers: dict[str, tuple[list[object], str]] = {
            "iot": (list(iot), "InvalidRequestException"),
            "iot-data": ([self._shadows, Messaging(self.site), self.registry], "InvalidRequestException"),
            "iot-jobs-data": ([JobsDataApi(self.jobs)], "InvalidRequestException"),
            "greengrassv2": ([self.deployments, self._components], "ValidationException"),
            "acm-pca": ([self.private_cas], "ValidationException"),
            "lambda": ([self.functions], "InvalidParameterValueException"),
        }
        return {name: ServiceApi(name, self.site, parts, code) for name, (parts, code) in handlers.items()}

    def _tick(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            due = self.site.timers.next_due()
            if due is not None and due <= self.site.now():
                self.site.tick()
