"""Check whether a device can rotate, before it asks anybody for anything; nothing is changed."""

from __future__ import annotations

import logging
from typing import Callable, Optional, Tuple

from protocol.algorithms import CsrSigningAlgorithm, KeyType
from protocol.errors import ProtocolError
from protocol.job_document import parse_job_document

from . import certificates
from .configuration import SAFE_RECONNECT_LIMIT, SILENT_SECONDS, Configuration
from .errors import RotationError
from .store import CredentialStore

log = logging.getLogger(__name__)


class Fitness:
    """The fitness of one device for a rotation: its configuration, its credential store, and the nucleus around it."""

    def __init__(
        self,
        configured: Callable[[], Configuration],
        store: CredentialStore,
        preflight: Callable[[KeyType, str], None],
    ) -> None:
        """``preflight`` is the nucleus' part, see Rotator."""
        self._configured, self._store, self._preflight = configured, store, preflight
        self.configuration = Configuration()

    def read_configuration(self) -> None:
        """Read the nucleus' present configuration; if that raises ConfigurationError, the former one stays.

        A reconnect limit that is too low for some nuclei is logged once.
        """
        before, self.configuration = self.configuration.reconnect_limit, self._configured()
        limit = self.configuration.reconnect_limit
        if before != limit < SAFE_RECONNECT_LIMIT:
            log.warning(
                "reconnectTimeLimitSeconds is %g, expected %g or more: nucleus classic may be silent for up to %g s "
                "after a restart, and the rotation is then rolled back; set it to %g or leave it out",
                *(limit, SAFE_RECONNECT_LIMIT, SILENT_SECONDS, SAFE_RECONNECT_LIMIT),
            )

    def of(self, document: object) -> Tuple[KeyType, CsrSigningAlgorithm]:
        """Return the key type and algorithm that a job demands; an error shows why this device cannot rotate to it."""
        self.read_configuration()
        demands = parse_job_document(document)
        key_type, algorithm = demands.resolve(self.configuration.key_type, self.configuration.signing_algorithm)
        self._store.preflight(key_type)
        self._preflight(key_type, certificates.key_type_of(certificates.load(self._store.current_certificate())))
        return key_type, algorithm

    def complaint(self, document: object) -> Optional[str]:
        """Return why a rotation would fail before its claim; None: it would begin."""
        try:
            self.of(document)
        except (RotationError, ProtocolError) as error:
            return str(error)
        except Exception as error:  # of any library, as in a rotation
            log.exception("the check failed")
            return f"the check failed: {type(error).__name__}: {error}"
        return None
