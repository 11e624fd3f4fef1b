"""The component as its own process: ``python3 -u -m certificate_rotator``, started by the nucleus."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, List, Optional

from protocol.algorithms import KeyType

from . import nucleus
from .errors import ConfigurationError, DeviceError, RotationError
from .journal import Journal
from .loop import ThreadLoop
from .nucleus import Credential, FileCredential
from .ports import MessagesError
from .restart import CommandRestarter, Runtime
from .rotator import Rotator
from .stock import StockBackup
from .store import CredentialStore, opened_when_needed
from .store_files import FileStore
from .system import System

log = logging.getLogger("certificate_rotator")


class SystemClock:
    """The device's wall clock."""

    def now(self) -> datetime:
        """See ports.WallClock."""
        return datetime.now(timezone.utc)


def main(arguments: Optional[List[str]] = None) -> int:
    """Run until the nucleus ends this process; 1 if it cannot be run at all."""
    parser = argparse.ArgumentParser(prog="certificate_rotator", description="Rotates this core device's credential.")
    parser.add_argument("--runtime", type=Runtime, choices=list(Runtime), default=Runtime.CLASSIC)
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # Windows' own encodings know no arrow, and the line would be lost
        sys.stdout.reconfigure(encoding="utf-8")
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        _run(options.runtime)
    except (RotationError, MessagesError) as error:
        log.error("%s", error)  # noqa: TRY400  # a sentence for a person; the traceback says nothing more
        return 1
    except Exception:
        log.exception(
            "this is a fault of the component: report it with the lines below; the nucleus starts it again, and the "
            "journal carries on"
        )
        return 1
    return 0


def _run(runtime: Runtime) -> None:
    work_folder = Path.cwd()
    root = nucleus.root_of(work_folder)
    thing_name = nucleus.thing_name(os.environ)
    from .greengrass import GreengrassIpc  # noqa: PLC0415  # where this process stands is checked before it is needed

    system, loop = System(), ThreadLoop()
    ipc = GreengrassIpc(loop)
    try:
        log.info("configuration: %s", ipc.read_configuration())
    except ConfigurationError as error:
        log.warning("%s; jobs will fail until a deployment puts it right", error)
    restarter = CommandRestarter(runtime, lambda: ipc.read_configuration().restart_command)

    def preflight(wanted: KeyType, in_place: str) -> None:
        nucleus.refuse_version(os.environ)
        restarter.check()
        if runtime is Runtime.CLASSIC:
            nucleus.refuse_loss_of_secrets(root, wanted, in_place)

    rotator = Rotator(
        thing_name=thing_name,
        configuration=ipc.read_configuration,
        store=opened_when_needed(lambda: _store(_credential(runtime, root, ipc.system_setting), system)),
        journal=_journal(root, work_folder, system),
        messages=ipc,
        restarter=restarter,
        preflight=preflight,
        stock=StockBackup(work_folder, system)
        if os.name == "posix"
        else None,  # whose files they are is not asked there
        loop=loop,
        clock=SystemClock(),
    )
    ipc.when_lost = rotator.resubscribe
    if runtime is Runtime.CLASSIC:  # first of all: a nucleus asks those only that listen already
        ipc.listen_for_deployments(rotator.deferral)
    rotator.start()
    loop.run()


def _journal(root: Path, work_folder: Path, system: System) -> Journal:
    before = work_folder / "journal.json"
    if os.name != "posix":  # what runs lies there too
        return Journal(before, system)
    return Journal(root / "certificate-rotator" / "state" / before.name, system, before)


def _credential(runtime: Runtime, root: Path, ask: Callable[[str], object]) -> Credential:
    return nucleus.of_lite(ask) if runtime is Runtime.LITE else nucleus.of_classic(root)


def _store(credential: Credential, system: System) -> CredentialStore:
    log.info("credential: %s", credential)
    if isinstance(credential, FileCredential):
        return FileStore(credential.certificate, credential.private_key, system)
    try:
        from .pkcs11_token import Token  # noqa: PLC0415
        from .store_pkcs11 import Pkcs11Store  # noqa: PLC0415  # loads the token's library
    except ImportError as error:
        raise DeviceError(
            f"the credential is in a token, and {error.name} could not be installed here; see the install step's log, "
            "or build the component with --wheelhouse"
        ) from error
    return Pkcs11Store(Token(credential.library, credential.slot, credential.user_pin), credential.label)


if __name__ == "__main__":
    sys.exit(main())
