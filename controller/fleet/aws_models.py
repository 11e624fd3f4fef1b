"""AWS's models of its services, read once a process, and of some only what certfleet calls.

To make a client costs as much as the model of its service is large, and that of AWS IoT has 272 operations. Others stay
whole, because botocore calls operations of its own accord: it assumes roles, and asks where a bucket is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from botocore.loaders import Loader

from controller.fleet.aws_answers import MEMBERS

CUT = frozenset({"acm-pca", "greengrassv2", "iot", "lambda", "ssm"})


class Models(Loader):  # type: ignore[misc]  # botocore has no types
    """botocore's loader, for many sessions."""

    def list_available_services(self, type_name: str) -> Any:  # noqa: ARG002 (as botocore has it)
        """Take any service for one there is: to look through all folders takes longer than to find that it is not."""
        return _Any()

    @lru_cache  # noqa: B019 (one loader a process)
    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        """Return the model of ``service_name``; if it is cut, what certfleet uses of it.

        ``type_name`` and ``api_version`` are as botocore's loader has them, and so are the errors.
        """
        model = super().load_service_model(service_name, type_name, api_version)
        return only(model, MEMBERS) if type_name == "service-2" and service_name in CUT else model


class _Any:
    def __contains__(self, name: object) -> bool:
        return True


def only(model: dict[str, Any], names: Any) -> dict[str, Any]:
    """Return a service's model with the operations of these names alone, and the shapes that they lead to."""
    operations = {name: model["operations"][name] for name in model["operations"] if name in names}
    shapes: dict[str, Any] = {}
    waiting = list(_shapes_in(list(operations.values())))
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            waiting += _shapes_in(shapes[name])
    return {**model, "operations": operations, "shapes": shapes}


def _shapes_in(part: Any) -> list[str]:
    """Return the names of shapes that a part of a model refers to."""
    if isinstance(part, list):
        return [name for one in part for name in _shapes_in(one)]
    if not isinstance(part, dict):
        return []
    found = [part["shape"]] if isinstance(part.get("shape"), str) else []
    return found + [name for one in part.values() for name in _shapes_in(one)]
