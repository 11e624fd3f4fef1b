"""The service that a request is for: by its signature, or by its path if it is not signed."""

from __future__ import annotations

from collections.abc import Mapping

from .api import ServiceApi
from .exchange import HttpRequest, HttpResponse, json_error, xml_error
from .moto_services import SERVICES as MOTO_SERVICES
from .moto_services import MotoServices

_SIGNING_NAMES = {
    "iot": "iot",
    "execute-api": "iot",  # what old SDKs sign calls to AWS IoT with
    "iotdata": "iot-data",
    "iot-jobs-data": "iot-jobs-data",
    "greengrass": "greengrassv2",
    "acm-pca": "acm-pca",
    "lambda": "lambda",
}


class Gateway:
    """Hands each request to the service it is signed for."""

    def __init__(self, services: Mapping[str, ServiceApi], moto: MotoServices) -> None:
        self._services = services
        self._moto = moto

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request."""
        name = request.signing_name
        if name in _SIGNING_NAMES:
            return self._services[_SIGNING_NAMES[name]].handle(request)
        if name in MOTO_SERVICES:
            return self._moto.handle(request)
        if name:
            answer = xml_error if "form-urlencoded" in request.headers.get("content-type", "") else json_error
            call = request.headers.get("x-amz-target") or f"{request.method} {request.path}"
            return answer(501, "NotImplemented", f"the sandbox does not have the service {name} ({call})")
        if b"Action=AssumeRoleWith" in request.body:
            return self._moto.handle(request)
        return json_error(403, "MissingAuthenticationTokenException", "expected a request signed for an AWS service")
