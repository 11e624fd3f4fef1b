"""The clients and settings of a handler, built once per process and kept while the function is warm.

On Lambda ``services()`` reads the process environment. Whoever runs the handlers elsewhere (tests,
the sandbox) puts its own services in place for the duration of a call with ``running``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from protocol.names import BackendNames

from .environment import Environment, read
from .issuers import Issuers
from .operator import Operator
from .registry import IotRegistry
from .table import RotationTable

ClientFactory = Callable[[str, str | None], Any]
"""Service name and endpoint URL (None: botocore's own choice) → boto3 client."""

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 3},
)


@dataclass(frozen=True, slots=True)
class Services:
    """One of each class that talks to AWS, the environment, and the clock."""

    environment: Environment
    registry: IotRegistry
    table: RotationTable
    issuers: Issuers
    operator: Operator
    clock: Callable[[], datetime]


def build(
    variables: Mapping[str, str],
    client: ClientFactory,
    clock: Callable[[], datetime],
    client_without_retries: ClientFactory | None = None,
) -> Services:
    """Check the environment's ``variables``, then build every client; ``clock`` returns the present.

    ``client_without_retries`` makes the client that issues certificates: a call that botocore repeats may issue two.
    """
    environment = read(variables)
    names = BackendNames(environment.stack_name)
    iot = client("iot", None)
    registry = IotRegistry(
        iot,
        client("iot-jobs-data", f"https://{environment.jobs_endpoint}"),
        client("iot-data", f"https://{environment.data_endpoint}"),
        shadow=names.shadow,
        shadow_before=BackendNames(environment.replaces or environment.stack_name).shadow,
        presence_rule=names.presence_rule,
    )
    return Services(
        environment,
        registry,
        RotationTable(client("dynamodb", None), environment.table_name),
        Issuers((client_without_retries or client)("iot", None), client("acm-pca", None)),
        Operator(client("sns", None), environment.topic_arn),
        clock,
    )


_running: ContextVar[Services | None] = ContextVar("services", default=None)


@contextmanager
def running(services: Services) -> Iterator[None]:
    """Let handlers that are called inside the block, on this thread, use these services."""
    token = _running.set(services)
    try:
        yield
    finally:
        _running.reset(token)


def services() -> Services:
    """Return the services of this call."""
    return _running.get() or _of_this_process()


@cache
def _of_this_process() -> Services:
    return build(os.environ, _client, lambda: datetime.now(UTC), _client_without_retries)


def _client(service: str, endpoint_url: str | None) -> Any:
    return boto3.client(service, endpoint_url=endpoint_url, config=_CONFIG)


def _client_without_retries(service: str, endpoint_url: str | None) -> Any:
    config = _CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
    return boto3.client(service, endpoint_url=endpoint_url, config=config)
