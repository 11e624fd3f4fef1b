"""The one place that builds AWS clients.

Rules kept here, and enforced by hooks inside botocore so that no caller can go around them:

- before any call but STS's own, the credentials are proven to belong to the Fleet document's account;
- the fleet's role for reading or for writing is assumed first, and renewed before it expires;
- a session for reading makes no call that could change anything;
- every attempt, retries included, waits for its API's rate limit and is counted under its API's name;
- adaptive retries, finite timeouts; what still fails is a FleetError with its remedy.

Endpoints follow AWS_ENDPOINT_URL… and AWS_CA_BUNDLE as botocore does by itself.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import copy
from enum import Enum
from functools import cache
from typing import Any

import botocore
import botocore.session
from botocore import xform_name
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, CredentialResolver, DeferredRefreshableCredentials
from botocore.handlers import BUILTIN_HANDLERS
from botocore.hooks import HierarchicalEmitter

from controller.errors import FleetError
from controller.fleet.aws_answers import MEMBERS, hold_to_shape
from controller.fleet.aws_errors import FAILURES, AwsCallError, endless, explain
from controller.fleet.aws_models import Models
from controller.fleet.quotas import RateLimits
from controller.present import require_sandbox
from controller.reconcile.values import Fleet

QUOTA_FACTOR_VARIABLE = "CERTFLEET_QUOTA_FACTOR"
"""Multiplies every rate limit: for accounts whose quotas were raised, and for the sandbox."""

_STREAM_ATTEMPTS = 3
PAGE_SIZE = 250  # maximum of every List call of the service iot
_TOKENS = {  # that differ from the usual: page size, token in, token out
    "ListCertificates": ("pageSize", "marker", "nextMarker"),
    "ListAttachedPolicies": ("pageSize", "marker", "nextMarker"),
    "ListPolicies": ("pageSize", "marker", "nextMarker"),
    "ListTargetsForPolicy": ("pageSize", "marker", "nextMarker"),
    "ListCertificateAuthorities": ("MaxResults", "NextToken", "NextToken"),
    "ListObjectsV2": ("MaxKeys", "ContinuationToken", "NextContinuationToken"),
}
_USUAL_TOKENS = ("maxResults", "nextToken", "nextToken")
_READING = (
    "BatchGet",
    "Describe",
    "Get",
    "List",
    "Query",
    "Scan",
    "Test",
    "Search",
)  # how AWS' names of calls that change nothing begin


MODELS = Models()  # of all sessions: reading AWS's models takes longer than most calls
_USER_AGENT = f"certfleet Botocore/{botocore.__version__} Python/{platform.python_version()}"


@cache
def _hooks() -> HierarchicalEmitter:
    """Return the hooks that botocore itself sets in every session, but those that write documentation.

    To set them takes longer than to copy them.
    """
    hooks = HierarchicalEmitter()
    botocore.session.Session(event_hooks=hooks)
    for event, handler, *_ in BUILTIN_HANDLERS:
        if event.startswith("docs."):
            hooks.unregister(event, handler)
    return hooks


def new_session() -> Any:
    """Return a botocore session; all share the models of services, and nothing that one fleet could feel of another."""
    made = botocore.session.Session(event_hooks=copy(_hooks()), include_builtin_handlers=False)
    made.register_component("data_loader", MODELS)
    return made


class ActAs(Enum):
    """As whom a session acts."""

    READER = "reader"  # the Fleet document's readRoleArn, else its roleArn; only for calls that change nothing
    WRITER = "writer"  # the Fleet document's roleArn
    HEALER = "healer"  # whoever runs certfleet, in the fleet's account: healing has a role of its own
    CALLER = "caller"  # whoever runs certfleet, in whatever account: for what belongs to no fleet

    def role_of(self, fleet: Fleet) -> tuple[str, str | None]:
        """Return the field that names the role to assume, and the role; None if the caller's own identity acts."""
        if self is ActAs.READER and fleet.read_role_arn:
            return "readRoleArn", fleet.read_role_arn
        return "roleArn", None if self in {ActAs.CALLER, ActAs.HEALER} else fleet.role_arn


class AwsSession:
    """AWS as one fleet's controller sees it: one account, one region, proven. Thread-safe.

    ``act_as`` chooses the role and what it may do; only a CALLER may be of another account. ``attempts``
    counts all attempts of one call; timeouts are in seconds. ``calls`` counts attempts by API name;
    ``quota_factor`` multiplies every rate limit, which ``monotonic`` and ``sleep`` drive.
    ``new_session`` makes botocore sessions.
    """

    def __init__(
        self,
        fleet: Fleet,
        act_as: ActAs,
        *,
        quota_factor: float | None = None,
        attempts: int = 8,
        connect_timeout: float = 10,
        read_timeout: float = 60,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        new_session: Callable[[], Any] = new_session,
    ) -> None:
        self.fleet = fleet
        self._act_as = act_as
        self.calls: Counter[str] = Counter()
        self.quota_factor = _quota_factor() if quota_factor is None else quota_factor
        self._limits = RateLimits(self.quota_factor, monotonic=monotonic, sleep=sleep)
        self._lock = threading.RLock()
        self._clients: dict[tuple[str, bool], Any] = {}
        self._unanswering: set[str] = set()
        self._is_verified = act_as is ActAs.CALLER
        self._config = Config(
            retries={"mode": "adaptive", "total_max_attempts": attempts},
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            user_agent=_USER_AGENT,  # botocore's own is put together anew for each call
            max_pool_connections=32,
        )
        # STS is called first: where the network is down, that should not take a minute to say.
        quick_retries = {"mode": "standard", "total_max_attempts": min(attempts, 3)}
        self._quick = self._config.merge(
            Config(retries=quick_retries, connect_timeout=min(connect_timeout, 5), read_timeout=min(read_timeout, 15))
        )
        self._session = new_session()
        hold_to_shape(self._session)
        # Every attempt passes here; the wait comes before the signature, which has a time in it.
        self._session.register("before-sign", self._before_attempt)
        field, role_arn = act_as.role_of(fleet)
        if role_arn:
            self._assume_role(field, role_arn, new_session())

    @property
    def where(self) -> str:
        """Account and region, as errors name them."""
        if self._act_as is ActAs.CALLER:
            return f"the caller's own account, region {self.fleet.region}"
        return f"account {self.fleet.account}, region {self.fleet.region}"

    def arn(self, resource: str, service: str = "iot") -> str:
        """Return the ARN of a resource of a service in this account and region, such as ``thing/NAME`` of AWS IoT."""
        meta = self.client("iot").meta
        return f"arn:{meta.partition}:{service}:{meta.region_name}:{self.fleet.account}:{resource}"

    def client(self, service: str, *, is_optional: bool = False) -> Any:
        """Return the client of a service, an optional one with less patience; FleetError if the account is another."""
        if service != "sts":
            self.verify()
        return self._client(service, is_quick=is_optional or service == "sts")

    def endpoint(self, service: str) -> str:
        """Return the URL that the calls of a service go to; makes no call itself."""
        return str(self._client(service, is_quick=False).meta.endpoint_url)

    def _client(self, service: str, *, is_quick: bool) -> Any:
        with self._lock:
            client = self._clients.get((service, is_quick))
            if client is None:
                config = self._quick if is_quick else self._config
                try:
                    client = self._session.create_client(service, region_name=self.fleet.region, config=config)
                except FAILURES as error:
                    raise explain(error, service, "client", self.where) from error
                require_sandbox(client.meta.endpoint_url, os.environ)
                if self._act_as is ActAs.READER:
                    client.meta.events.register("before-call", _refuse_changes)
                self._clients[service, is_quick] = client
        return client

    def call(self, service: str, operation: str, *, is_optional: bool = False, **parameters: Any) -> dict[str, Any]:
        """Call an API by its AWS name, such as ``call("iot", "DescribeThing", thingName="t")``.

        ``is_optional`` asks with less patience. Raises AwsCallError, which is a FleetError and holds AWS's error
        code; RuntimeError is a mistake of ours.
        """
        if operation not in MEMBERS:
            raise RuntimeError(f"{operation} has no entry in aws_answers.MEMBERS: name what its answer must hold")
        client = self.client(service, is_optional=is_optional)
        try:
            answer: dict[str, Any] = getattr(client, xform_name(operation))(**parameters)
        except FAILURES as error:
            raise explain(error, service, operation, self.where) from error
        return answer

    def find(self, service: str, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """As ``call``, but None if AWS reports that the thing asked for does not exist."""
        try:
            return self.call(service, operation, **parameters)
        except AwsCallError as error:
            if error.is_not_found:
                return None
            raise

    def read(self, service: str, operation: str, most: int, **parameters: Any) -> bytes:
        """Return at most ``most`` bytes of an answer that is a stream; one that breaks off is asked for again."""
        for _ in range(_STREAM_ATTEMPTS):
            answer = self.call(service, operation, **parameters)
            try:
                with closing(answer["Body"]) as stream:
                    body: bytes = stream.read(most)
                missing = min(answer.get("ContentLength", 0), most) - len(body)
                if missing <= 0:
                    return body
                failure: Exception = OSError(f"the body broke off {missing} bytes before its end")
            except FAILURES as error:
                failure = error
        raise explain(failure, service, operation, self.where) from failure

    def ask(self, service: str, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """As ``call``, for what a run can do without: asked with little patience, None if there is no answer.

        A service that has not answered at all is not asked again.
        """
        if service in self._unanswering:
            return None
        try:
            return self.call(service, operation, is_optional=True, **parameters)
        except FleetError as error:
            if not (isinstance(error, AwsCallError) and error.is_answer):
                self._unanswering.add(service)
            return None

    def page(
        self, operation: str, token: str | None, seen: set[str], *, service: str = "iot", **parameters: Any
    ) -> tuple[dict[str, Any], str | None]:
        """Return one page of a List call, of full size, and the token of the next page, None after the last.

        ``seen`` holds the tokens of earlier pages; the new one is added.
        """
        size, token_in, token_out = _TOKENS.get(operation, _USUAL_TOKENS)
        parameters.setdefault(size, PAGE_SIZE)
        if token is not None:
            parameters[token_in] = token
        answer = self.call(service, operation, **parameters)
        following: str | None = answer.get(token_out) or None
        if following is not None:
            if following in seen or following == token:
                raise endless(operation, self.where)
            seen.add(following)
        return answer, following

    def find_all(self, operation: str, field: str, **parameters: Any) -> list[dict[str, Any]] | None:
        """Return the entries, under ``field``, of every page of an ``iot`` List call; None if their owner is gone."""
        try:
            return [entry for answer in self.pages(operation, **parameters) for entry in answer[field]]
        except AwsCallError as error:
            if error.is_not_found:
                return None
            raise

    def pages(self, operation: str, *, service: str = "iot", **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield every page of a List call; AwsCallError if they would never end."""
        token: str | None = None
        seen: set[str] = set()
        while True:
            answer, token = self.page(operation, token, seen, service=service, **parameters)
            yield answer
            if token is None:
                return

    def verify(self) -> None:
        """Prove, once, that the credentials belong to the Fleet document's account; else FleetError."""
        with self._lock:
            if self._is_verified:
                return
            found = str(self.call("sts", "GetCallerIdentity")["Account"])
            if found != self.fleet.account:
                raise _wrong_account(self.fleet, f"the AWS credentials in use belong to account {found}")
            self._is_verified = True

    def _before_attempt(self, operation_name: str, **_: Any) -> None:
        self._limits.take(operation_name)
        with self._lock:
            self.calls[operation_name] += 1

    def _assume_role(self, field: str, role_arn: str, source: Any) -> None:
        account = (role_arn.split(":") + [""] * 5)[4]
        if account != self.fleet.account:
            raise _wrong_account(self.fleet, f"spec.{field} names account {account or 'none'} ({role_arn})")
        self._session.register_component("credential_provider", CredentialResolver([_Role(self, role_arn, source)]))


class _Role:
    """Credentials of an assumed role, as a provider that botocore asks once and that renews by itself."""

    METHOD = "certfleet-assume-role"
    CANONICAL_NAME = None

    def __init__(self, owner: AwsSession, role_arn: str, source: Any) -> None:
        self._owner = owner
        self._role_arn = role_arn
        self._source = source
        hold_to_shape(source)
        self._source.register("before-sign", owner._before_attempt)  # noqa: SLF001 (two halves of one class)

    def load(self) -> Any:
        fleet, config = self._owner.fleet, self._owner._quick  # noqa: SLF001 (as above)
        try:
            credentials = self._source.get_credentials()
        except FAILURES as error:
            raise explain(error, "sts", "AssumeRole", self._owner.where) from error
        if credentials is None:
            return None

        def client(service: str, **settings: Any) -> Any:
            settings["config"] = config.merge(settings.get("config") or Config())
            return self._source.create_client(service, region_name=fleet.region, **settings)

        fetcher = AssumeRoleCredentialFetcher(
            client, credentials, self._role_arn, extra_args={"RoleSessionName": "certfleet"}
        )

        def renew() -> Any:
            try:
                return fetcher.fetch_credentials()
            except FAILURES as error:
                raise explain(error, "sts", "AssumeRole", self._owner.where) from error

        return DeferredRefreshableCredentials(renew, self.METHOD)


def _refuse_changes(model: Any, **_: Any) -> None:
    """Refuse a call that may change something: certfleet has a defect if a reading session makes one."""
    if not model.name.startswith(_READING):
        raise RuntimeError(f"{model.name} may change something, and this session is for reading: act as WRITER")


def _wrong_account(fleet: Fleet, found: str) -> FleetError:
    return FleetError(
        f"Fleet {fleet.name!r} ({fleet.source.at('spec.account')}) is account {fleet.account} in {fleet.region}, "
        f"but {found}; nothing was read or changed",
        f"use credentials of account {fleet.account} (AWS_PROFILE, or spec.roleArn), or correct the Fleet document",
    )


def _quota_factor() -> float:
    text = os.environ.get(QUOTA_FACTOR_VARIABLE, "1")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise FleetError(
            f"{QUOTA_FACTOR_VARIABLE} is {text!r}, expected a number above 0, such as 2 if quotas were doubled",
            f"correct or unset {QUOTA_FACTOR_VARIABLE}",
        )
    return factor
