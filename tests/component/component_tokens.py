"""Tokens to test with, made and looked into by tools that are not ours: SoftHSM, and a TPM 2.0 (swtpm, tpm2-pkcs11).

A token's library reads its settings when it is loaded, so each test process that wants a SoftHSM of its own
loads a copy of the library that nothing else has loaded.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess

from component.certificate_rotator.pkcs11_token import Token

PIN = "7391"
SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
TPM = f"/usr/lib/{platform.machine()}-linux-gnu/pkcs11/libtpm2_pkcs11.so"


class DeviceToken:
    """One token, ``t``; ``environment`` is what a process needs to reach it."""

    def __init__(self, library, environment):
        self.library, self.environment = str(library), environment
        self.slot = None

    def token(self):
        """For the component's own code."""
        return Token(self.library, self.slot, PIN)

    def run(self, *command):
        words = [str(part) for part in command]
        environment = {**os.environ, **self.environment}
        for _ in range(20):  # SoftHSM rewrites its token's file at each login; who reads it then finds half a token
            done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
            if done.returncode == 0 or words[0] != "pkcs11-tool":
                break
        assert done.returncode == 0, (words[0], done.stdout, done.stderr)
        return done.stdout

    def module(self, *arguments):
        return self.run("pkcs11-tool", "--module", self.library, *arguments)

    def tool(self, *arguments):
        """Whatever pkcs11-tool says, logged in."""
        return self.module("--token-label", "t", "--login", "--pin", PIN, *arguments)

    def objects(self, label):
        """(kind, id) of every object under a label."""
        return sorted((kind, identity) for kind, name, identity in self._everything() if name == label)

    def labels(self):
        return sorted(name for _, name, _ in self._everything())

    def _everything(self):
        for text in re.split(r"^(?=\S.* Object)", self.tool("-O"), flags=re.MULTILINE)[1:]:
            name, identity = (re.search(rf"^  {what}: +(\S.*)$", text, re.MULTILINE) for what in ("label", "ID"))
            yield text.split(" Object")[0], name[1].strip(), identity[1].strip()

    def enrol(self, label, folder, issue):
        """Make a first key, and store the certificate that ``issue(SubjectPublicKeyInfo)`` gives for it, in DER."""
        named = ("--label", label, "--id", "01")
        self.tool("--keypairgen", "--key-type", "EC:prime256v1", *named)
        self.tool("--read-object", "--type", "pubkey", "--label", label, "--output-file", folder / "first.pub")
        (folder / "first.der").write_bytes(issue((folder / "first.pub").read_bytes()))
        self.tool("--write-object", folder / "first.der", "--type", "cert", *named)

    def certificate_text(self, label, folder):
        self.tool("--read-object", "--type", "cert", "--label", label, "--output-file", folder / "in-place.der")
        return self.run("openssl", "x509", "-inform", "DER", "-in", folder / "in-place.der", "-noout", "-text")

    def proves(self, label, folder):
        """Whether the token's key signs what its certificate verifies, say pkcs11-tool and openssl."""
        rsa = "rsaEncryption" in self.certificate_text(label, folder)
        public = self.run("openssl", "x509", "-inform", "DER", "-in", folder / "in-place.der", "-noout", "-pubkey")
        (folder / "in-place.pub").write_text(public)
        # RSA-PKCS signs what it is given, so the algorithm stands before the digest: RFC 8017, section 9.2, note 1.
        prefix = bytes.fromhex("3031300d060960864801650304020105000420") if rsa else b""
        (folder / "digest").write_bytes(hashlib.sha256(b"x").digest())
        (folder / "to-sign").write_bytes(prefix + hashlib.sha256(b"x").digest())
        ((_, identity), *_) = self.objects(label)  # signing heeds the id only
        self.tool(
            "--sign", "--mechanism", "RSA-PKCS" if rsa else "ECDSA", "--id", identity,
            "--input-file", folder / "to-sign", "--output-file", folder / "signature",
            *(() if rsa else ("--signature-format", "openssl")),
        )  # fmt: skip
        verified = self.run(
            "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", folder / "in-place.pub", "-in", folder / "digest",
            "-sigfile", folder / "signature", "-pkeyopt", "digest:sha256",
        )  # fmt: skip
        return "Signature Verified Successfully" in verified

    def stop(self):
        """Leave nothing running."""


class SoftHsm(DeviceToken):
    """A token in a folder."""

    def __init__(self, folder):
        (folder / "tokens").mkdir()
        self.tokens = folder / "tokens"
        settings = folder / "softhsm2.conf"
        settings.write_text(f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        super().__init__(shutil.copy(SOFTHSM, str(folder)), {"SOFTHSM2_CONF": str(settings)})
        made = self.run("softhsm2-util", "--init-token", "--free", "--label", "t", "--pin", PIN, "--so-pin", PIN)
        self.slot = int(re.search(r"slot (\d+)", made)[1])


class Tpm(DeviceToken):
    """A token in a TPM that is a process; its library keeps what is not a secret in a folder."""

    def __init__(self, folder):
        self.folder, self.socket, self.server = folder, folder / "s", None
        reached = f"swtpm:path={self.socket}"
        store = {"TPM2_PKCS11_STORE": str(folder / "store"), "TPM2_PKCS11_LOG_LEVEL": "0"}
        super().__init__(TPM, {**store, "TPM2_PKCS11_TCTI": reached, "TPM2TOOLS_TCTI": reached})
        for name in ("state", "store"):
            (folder / name).mkdir()
        self.start()
        self.module("--slot-index", "0", "--init-token", "--label", "t", "--so-pin", PIN)
        self.flush()
        self.module("--token-label", "t", "--init-pin", "--so-pin", PIN, "--pin", PIN)
        self.flush()
        self.slot = int(re.search(r"\(0x([0-9a-f]+)\): [^\n]*\n  token label +: t\n", self.module("-L"))[1], 16)

    def start(self):
        self.server = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}/state",
             "--server", f"type=unixio,path={self.socket}", "--ctrl", f"type=unixio,path={self.socket}.ctrl",
             "--flags", "not-need-init,startup-clear"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while not self.socket.exists():
            assert self.server.poll() is None

    def flush(self):
        """What a resource manager does when a process ends."""
        self.run("tpm2_flushcontext", "-t")

    def tool(self, *arguments):
        try:
            return super().tool(*arguments)
        finally:
            self.flush()

    def stop(self):
        self.server.terminate()
        self.server.wait()


class ManagedTpm(Tpm):
    """A TPM behind a resource manager, as Linux' /dev/tpmrm0: several processes may use it at once.

    Its bus must outlive whoever talks to it (GLib ends a process whose session bus is gone), so it ends with this
    process, not before.
    """

    _bus = None

    def start(self):
        super().start()
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = self._address()
        name = f"certfleet.{self.folder.name.replace('-', '_')}"
        self.manager = subprocess.Popen(
            ["tpm2-abrmd", "--session", "--allow-root", f"--dbus-name={name}", f"--tcti=swtpm:path={self.socket}"],
            env={**os.environ, **self.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        reached = f"tabrmd:bus_type=session,bus_name={name}"
        self.environment.update(TPM2_PKCS11_TCTI=reached, TPM2TOOLS_TCTI=reached)
        while "TPM2_PT" not in subprocess.run(
            ["tpm2_getcap", "properties-fixed"],
            env={**os.environ, **self.environment}, capture_output=True, text=True, check=False,
        ).stdout:  # fmt: skip
            assert self.manager.poll() is None

    @classmethod
    def _address(cls):
        if cls._bus is None:
            cls._bus = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", "dbus-daemon", "--session", "--nofork", "--print-address"],
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            cls._bus.address = cls._bus.stdout.readline().strip()
        return cls._bus.address

    def flush(self):
        """The manager does."""

    def stop(self):
        self.manager.terminate()
        self.manager.wait()
        super().stop()


KINDS = {"softhsm": SoftHsm, "tpm": ManagedTpm}
