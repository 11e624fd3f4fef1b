"""boto3 clients of one sandbox cloud, made once each: they are safe to share between threads."""

from __future__ import annotations

import threading
from typing import Any

import boto3
from botocore.config import Config

from sandbox.aws import Cloud

_CONFIG = Config(
    connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 3}, max_pool_connections=32
)


class Clients:
    """Makes clients that talk to the cloud with dummy credentials, whatever the process environment says."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], Any] = {}
        self._session = boto3.session.Session(
            aws_access_key_id="sandbox",
            aws_secret_access_key="sandbox",  # noqa: S106  # the sandbox takes any
            region_name=cloud.site.region,
        )

    def get(self, service: str, endpoint_url: str | None = None) -> Any:
        """The client of a service, at the cloud's address unless another is named."""
        url = endpoint_url or self._cloud.endpoint_url
        with self._lock:
            if (service, url) not in self._made:
                self._made[service, url] = self._session.client(
                    service, endpoint_url=url, verify=str(self._cloud.ca_bundle), config=_CONFIG
                )
            return self._made[service, url]
