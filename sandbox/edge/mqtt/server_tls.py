"""Mutual TLS as AWS IoT Core does it: a client proves that it holds the key of a registered certificate.

TLS lets in a certificate that was registered at some time, whoever issued it and whatever its dates are
by this machine's clock; an OpenSSL store cannot forget. Whether the certificate counts *now* is the
registry's word, asked with every CONNECT.
"""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from pathlib import Path

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name


class ClientTrust:
    """The server's TLS context, and the certificates that may pass its handshake.

    Certificates are loaded when the next handshake begins, so that registering a hundred thousand of
    which none ever connects costs nothing.
    """

    def __init__(self, certificate_file: Path, key_file: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate_file, key_file)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
        context.num_tickets = 0  # a resumed session would show no certificate
        context.sni_callback = self._before_handshake
        self.context = context
        self._lock = threading.Lock()
        self._pending: list[bytes] = []

    def add(self, certificate_der: bytes) -> None:
        """Let this certificate pass handshakes from now on; callable from any thread."""
        with self._lock:
            self._pending.append(certificate_der)

    def _before_handshake(self, *_: object) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
            for certificate_der in pending:
                # What is registered and is not a certificate can be nobody's: no client can show it.
                with suppress(ssl.SSLError):
                    self.context.load_verify_locations(cadata=certificate_der)
