"""Step Functions: moto's interpreter of Amazon States Language, whose tasks call the cloud that runs them.

The page docs/sandbox.md lists what it does not enforce. It takes two seconds to load, so nothing here does it in vain.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from moto.core.config import default_user_config

SERVICE = "states"
_MODELS = "moto.stepfunctions.parser.models"
_urls: dict[str, str] = {}  # by region, of the cloud that was asked last: a task knows no more of where it runs


def backends() -> Any:
    """Return the state of all accounts; None before anybody has asked for it."""
    return sys.modules[_MODELS].stepfunctions_parser_backends if _MODELS in sys.modules else None


def prepare(region: str, url: str) -> None:
    """Let state machines run, and let their tasks find this cloud in this region at this URL."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils  # noqa: PLC0415

    default_user_config["stepfunctions"]["execute_state_machine"] = True
    _urls[region] = url

    def client(region: str, service: str, state_credentials: Any = None) -> Any:  # noqa: ARG001 (moto passes it)
        return _client(service, region, _urls[region])

    lambda_eval_utils.boto_client_for = client


@cache
def _client(service: str, region: str, url: str) -> Any:
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=url,
        aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox",  # noqa: S106  # the sandbox takes any
        config=Config(read_timeout=900, retries={"total_max_attempts": 1}),  # a function's longest life
    )
