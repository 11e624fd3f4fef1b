"""AWS as function calls: the sandbox's services behind what a controller takes for botocore.

No wire, no sockets and no threads of its own, so that a run of a command costs milliseconds. What a
request may hold is still checked against AWS's own model. A test hears of every call before and after
it is carried out, may lose its answer, and may stop a run at it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, Self

from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from sandbox.aws import Cloud
from sandbox.aws.api import service_model
from sandbox.aws.errors import AwsError

VALIDATOR = ParamValidator()
READING = ("Describe", "Get", "List")


class Killed(BaseException):
    """The process of a run ends here, without a word."""


class Endless(BaseException):
    """A run is stopped because it does not end by itself."""


@dataclass(frozen=True)
class Call:
    """One call of an API."""

    service: str
    operation: str
    parameters: dict[str, Any]

    @property
    def changes(self) -> bool:
        return not self.operation.startswith(READING)


@dataclass
class Aws:
    """One account. ``before`` and ``after`` hear of each call that a controller makes."""

    cloud: Cloud
    parameter: Callable[[str], str | None] = lambda name: None  # of Systems Manager
    before: Callable[[Call], None] = lambda call: None
    after: Callable[[Call, Any], None] = lambda call, answer: None
    endpoint: str = "https://iot.eu-west-1.amazonaws.com"
    last: str = ""
    lose_next: Callable[[Call], bool] = lambda call: False  # whether this answer is lost, so that botocore asks again

    def call(self, service: str, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        call = Call(service, operation, parameters)
        turn = getattr(_THREAD, "turn", None)
        if turn is not None:
            turn.waits_at = operation
            turn.wait()
        self.last = call.operation
        self.before(call)
        answer = self._answer(call)
        self.after(call, answer)
        return self._answer(call) if self.lose_next(call) else answer

    def _answer(self, call: Call) -> dict[str, Any]:
        if call.service == "sts":
            return {"Account": self.cloud.site.account, "Arn": "arn:aws:iam::1:user/x", "UserId": "x"}
        if call.service == "ssm":
            return self._parameter(call)
        problems = VALIDATOR.validate(call.parameters, _input_of(call.service, call.operation))
        assert not problems.has_errors(), f"{call.operation}: {problems.generate_report()}"
        try:
            return _plain(self.cloud.services[call.service].call(call.operation, call.parameters))
        except AwsError as error:
            raise _refusal(call.operation, error.code, error.message) from None

    def _parameter(self, call: Call) -> dict[str, Any]:
        name = call.parameters["Name"]
        value = self.parameter(name)
        if value is None:
            raise _refusal(call.operation, "ParameterNotFound", name)
        return {"Parameter": {"Name": name, "Type": "String", "Value": value, "Version": 1}}

    def session(self) -> Session:
        """What stands in for a session of botocore."""
        return Session(self)


class Session:
    """As much of botocore's session as is used to make clients."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def register(self, *_: Any) -> None:
        """Nothing is signed here."""

    def register_component(self, *_: Any) -> None:
        """Nothing is parsed here."""

    def create_client(self, service: str, *, region_name: str, **_: Any) -> Client:
        return Client(self._aws, service, region_name)


class Client:
    """Methods by the names of boto3."""

    def __init__(self, aws: Aws, service: str, region: str) -> None:
        self._aws, self._service = aws, service
        self.meta = SimpleNamespace(
            partition="aws",
            region_name=region,
            endpoint_url=aws.endpoint,
            events=SimpleNamespace(register=lambda *_a, **_k: None),
        )

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        operation = _operations(self._service)[name]
        return lambda **parameters: self._aws.call(self._service, operation, parameters)


class Inline:
    """An executor that does each piece of work at once, on the caller's thread: the order is always the same."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - handed to whoever asks for the result
            done.set_exception(error)
        return done

    def map(self, work: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        return map(work, items)

    def shutdown(self, **_: Any) -> None:
        pass


_THREAD = threading.local()


class Turns:
    """A run on a thread of its own that goes on call by call, as whoever holds it says."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.calls = 0  # that were let through
        self.waits_at = ""
        self.result: Any = None
        self.is_over = False
        self._error: BaseException | None = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._stopped.acquire()

    def step(self) -> bool:
        """Let the call that the run waits at happen, and run up to the next; False where it has ended."""
        if self.is_over:
            return False
        self.calls += 1
        self._resume()
        return not self.is_over

    def finish(self) -> Any:
        """Run to the end; what it raised is raised here."""
        while self.step():
            pass
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.result

    def wait(self) -> None:
        """On the run's own thread: stop until it is its turn."""
        self._stopped.release()
        self._go.acquire()

    def _resume(self) -> None:
        self._go.release()
        self._stopped.acquire()

    def _run(self, work: Callable[[], Any]) -> None:
        _THREAD.turn = self
        self.wait()
        try:
            self.result = work()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for the end
            self._error = error
        self.is_over = True
        self._stopped.release()


@contextmanager
def nobody_elses_turn() -> Iterator[None]:
    """What a test does on the thread of a stepped run is not stepped."""
    turn = getattr(_THREAD, "turn", None)
    _THREAD.turn = None
    try:
        yield
    finally:
        _THREAD.turn = turn


def _refusal(operation: str, code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


@cache
def _operations(service: str) -> dict[str, str]:
    return {xform_name(name): name for name in service_model(service).operation_names}


@cache
def _input_of(service: str, operation: str) -> Any:
    return service_model(service).operation_model(operation).input_shape


def _plain(value: Any) -> Any:
    """As a client would get it: members that are None are not there, and nothing is shared with the cloud."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
