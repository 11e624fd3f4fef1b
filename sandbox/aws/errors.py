"""The one exception with which a handler answers like AWS."""

from __future__ import annotations

from typing import Any


class AwsError(Exception):
    """An error answer: ``code`` is AWS's name of it; the service's model knows its HTTP status.

    Further members of the error shape (``resourceId`` …) go into ``members``.
    """

    def __init__(self, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.members = members


class UnsupportedError(Exception):
    """An AWS call, or a parameter of one, that the sandbox does not have: HTTP 501, never silent success."""


def not_found(what: str, name: str) -> AwsError:
    """Return ResourceNotFoundException of AWS IoT."""
    return AwsError("ResourceNotFoundException", f"{what} {name} does not exist")


def invalid(message: str) -> AwsError:
    """Return InvalidRequestException of AWS IoT."""
    return AwsError("InvalidRequestException", message)
