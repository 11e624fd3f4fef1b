"""What coverage does not watch: AWS's SDK, and servers.

While a thread is traced, Python runs all of it at half of its speed. Of the calls in a test that is measured nine in
ten are botocore's or those of the AWS that the sandbox plays, which no floor rests on.
"""

import functools
import sys
import threading
from http.server import BaseHTTPRequestHandler

from botocore.client import BaseClient
from botocore.credentials import RefreshableCredentials
from botocore.hooks import EventAliaser
from botocore.session import Session

from controller.fleet.aws import _Role
from controller.fleet.aws_answers import _Factory, _Parser
from sandbox.aws.functions import LambdaService

_SUSPENDED = threading.local()


@functools.cache
def leave_aws_untraced():
    """Take a thread's tracing off while the SDK or a server works, and put it back for code of ours that they call."""
    for owner, name in (
        (Session, "__init__"),
        (Session, "create_client"),
        (BaseClient, "_make_api_call"),
        (BaseHTTPRequestHandler, "handle"),
    ):
        setattr(owner, name, _untraced(getattr(owner, name)))
    for owner, name in (
        (_Factory, "create_parser"),
        (_Parser, "parse"),
        (_Role, "load"),
        (RefreshableCredentials, "get_frozen_credentials"),  # which are renewed by a function of ours
    ):
        setattr(owner, name, _traced(getattr(owner, name)))
    hook, register = EventAliaser.register, LambdaService.register

    def register_hook(self, event_name, handler, *arguments, **named):
        is_ours = str(getattr(handler, "__module__", "")).startswith("controller")
        hook(self, event_name, _traced(handler) if is_ours else handler, *arguments, **named)

    def register_function(self, name, invoke, *arguments, **named):
        return register(self, name, _traced(invoke), *arguments, **named)

    EventAliaser.register, LambdaService.register = register_hook, register_function


def _untraced(method):
    @functools.wraps(method)
    def call(*arguments, **named):
        if (tracer := sys.gettrace()) is None:
            return method(*arguments, **named)
        _SUSPENDED.tracer = tracer
        sys.settrace(None)
        try:
            return method(*arguments, **named)
        finally:
            _SUSPENDED.tracer = None
            sys.settrace(tracer)
            _nothing()

    return call


def _traced(method):
    def call(*arguments, **named):
        if (tracer := getattr(_SUSPENDED, "tracer", None)) is None:
            return method(*arguments, **named)
        _SUSPENDED.tracer = None
        sys.settrace(tracer)
        try:
            return method(*arguments, **named)
        finally:
            sys.settrace(None)
            _SUSPENDED.tracer = tracer

    return call


def _nothing():
    """Called so that the tracer sees the return of the frame that calls it, as it has seen the call."""
