"""A core device with the echo component, and ways to talk to it, online or not."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from sandbox.bus import Message
from sandbox.clock import SandboxClock
from sandbox.edge import Component, Nucleus, Profile, Provisioning, provision

ECHO_FOLDER = Path(__file__).parent / "echo_component"
ECHO = "com.example.Echo"


def wait_until(condition, timeout=15):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class CoreDevice:
    """A core device in a short folder (a socket path has 107 bytes), and a way to talk to its component."""

    def __init__(self, root, endpoint, issuer, registry, bus, recorder):
        self.root, self.endpoint, self.issuer, self.registry = root, endpoint, issuer, registry
        self.bus, self.recorder = bus, recorder
        self.credential = issuer.issue("core1")
        registry.register(self.credential)
        self.certificate, self.key = root / "thingCert.crt", root / "privKey.key"
        self.nucleus = None
        self.clock = SandboxClock(skips_waits=True)

    def place(self, credential):
        shutil.copy(credential.certificate_file, self.certificate)
        shutil.copy(credential.key_file, self.key)

    def build(self, *, profile=Profile.CLASSIC, explicit=True, component=None, nucleus=None, **options):
        self.place(self.credential)
        device = Provisioning(
            "core1",
            "localhost",
            self.endpoint.port,
            self.issuer.ca_file,
            certificate=str(self.certificate) if explicit else "",
            private_key=f"file://{self.key}" if explicit else "",
            profile=profile,
            **options,
        )
        provision(self.root, device)
        component = component or Component(ECHO_FOLDER / "recipe.yaml", ECHO_FOLDER)
        self.nucleus = Nucleus(self.root, component, profile=profile, clock=self.clock, **(nucleus or {}))
        return self.nucleus

    def start(self, **options):
        self.build(**options).start()
        self.heard("ready")
        return self.nucleus

    def heard(self, kind, count=1):
        return json.loads(self.recorder.wait_for(f"echo/core1/{kind}", count).payload)

    def tell(self, do, answer="done", **details):
        before = len(self.recorder.on(f"echo/core1/{answer}"))
        self.bus.publish(Message("echo/core1/do", json.dumps({"do": do, **details}).encode(), 1))
        return self.heard(answer, before + 1) if answer else None

    def tell_in_file(self, do, **details):
        """For a component that hears nothing by MQTT; it answers by a file too, see ``outcome``."""
        self._outcome.unlink(missing_ok=True)
        order = self.nucleus.root / "work" / ECHO / "order"
        order.with_suffix(".new").write_text(json.dumps({"do": do, **details}))
        order.with_suffix(".new").rename(order)

    def outcome(self):
        return json.loads(self._outcome.read_text()) if self._outcome.exists() else None

    @property
    def _outcome(self):
        return self.nucleus.root / "work" / ECHO / "outcome"

    def subscriptions(self):
        """What the endpoint holds for this device now."""
        session = self.endpoint._broker._sessions.get("core1")
        return set(session.subscriptions) if session else set()
