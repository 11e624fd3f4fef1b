"""Ask an MQTT endpoint whether it takes a credential: one CONNECT, and whatever comes back."""

from __future__ import annotations

import socket
import ssl
import struct

TIMEOUT_SECONDS = 10.0
_ACCEPTED = b"\x20\x02\x00\x00"  # CONNACK, MQTT 3.1.1, return code 0


def connects(host: str, port: int, context: ssl.SSLContext, client_id: str) -> bool:
    """Return whether an MQTT 3.1.1 CONNECT over this TLS context is accepted; raises OSError if nobody listens."""
    raw = client_id.encode()
    body = struct.pack("!H4sBBH", 4, b"MQTT", 4, 2, 30) + struct.pack("!H", len(raw)) + raw
    with socket.create_connection((host, port), TIMEOUT_SECONDS) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as tls:
                tls.sendall(bytes((0x10, len(body))) + body)
                return tls.recv(len(_ACCEPTED)) == _ACCEPTED
        except (ssl.SSLError, ConnectionError):
            return False
