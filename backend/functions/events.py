"""The events that the topic rules hand to the handlers, validated.

Payload fields come from devices and may be forged; ``thingName``, ``topic``, ``clientId``,
``principal`` and ``receivedAt`` are put there by the rule's SQL, after the payload's own fields. Fields that a newer
version may add are ignored.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from protocol import topics

from .verdicts import Ending

JobId = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
ThingName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9:_-]{1,128}$")]
CertificateId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

_MILLISECONDS_FROM = 100_000_000_000  # as seconds this lies in the year 5138: it must be milliseconds


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Request(_Event):
    """The fields that create and commit share."""

    job_id: JobId = Field(alias="jobId")
    thing_name: ThingName = Field(alias="thingName")
    topic: str
    client_id: str = Field(alias="clientId", max_length=128)
    principal: CertificateId
    received_at: int | None = Field(default=None, alias="receivedAt")  # ms since 1970; None from a rule that lacks it

    def sent(self, now: datetime) -> datetime:
        """Return when the message reached AWS IoT; Lambda may have held the event back for a minute since."""
        return now if self.received_at is None else _instant(self.received_at)


_AnyRequest = TypeVar("_AnyRequest", bound=Request)


class CreateEvent(Request):
    """A device asks for a certificate; ``csr`` is bounded and parsed by ``csr.parse``."""

    csr: str
    in_place: str | None = Field(default=None, alias="certificateId", max_length=128)  # stock components leave it out

    @model_validator(mode="after")
    def _topic_is_of_this_thing(self) -> CreateEvent:
        return _require_topic(self, topics.create(self.thing_name))


class CommitEvent(Request):
    """A device reports that it is connected with its new certificate."""

    @model_validator(mode="after")
    def _topic_is_of_this_thing(self) -> CommitEvent:
        return _require_topic(self, topics.commit(self.thing_name))


def _require_topic(request: _AnyRequest, expected: str) -> _AnyRequest:
    if request.topic != expected:
        raise ValueError(f"topic is {request.topic!r}, expected {expected!r}")
    return request


class TerminalEvent(_Event):
    """``$aws/events/jobExecution/<jobId>/<operation>``: an execution has ended."""

    event_type: Literal["JOB_EXECUTION"] = Field(alias="eventType")
    operation: str
    timestamp: int  # seconds or milliseconds since 1970
    job_id: JobId = Field(alias="jobId")
    thing_arn: str = Field(alias="thingArn", pattern=r"^arn:[^:]+:iot:[^:]*:[0-9]*:thing/[a-zA-Z0-9:_-]{1,128}$")
    status: str = ""
    status_details: dict[str, Any] = Field(default_factory=dict, alias="statusDetails")

    @property
    def thing_name(self) -> str:
        """The thing's name: the last part of its ARN."""
        return self.thing_arn.split(":thing/", 1)[1]

    @property
    def ending(self) -> Ending:
        """The end that the operation names; a deleted execution's status is whatever it last was."""
        return Ending(self.operation.upper())

    @property
    def at(self) -> datetime:
        """The instant at which the execution ended."""
        return _instant(self.timestamp)

    @model_validator(mode="after")
    def _operation_is_known(self) -> TerminalEvent:
        if self.operation.upper() not in Ending.__members__:
            raise ValueError(f"operation is {self.operation!r}, allowed: {', '.join(Ending).lower()}")
        return self


class PresenceEvent(_Event):
    """``$aws/events/presence/connected/<clientId>``: a client has connected."""

    event_type: Literal["connected"] = Field(alias="eventType")
    client_id: str = Field(alias="clientId", min_length=1, max_length=256)  # of whatever client
    timestamp: int  # milliseconds since 1970
    principal: str = Field(alias="principalIdentifier")  # a certificate id, for clients that used one

    @property
    def thing_name(self) -> str:
        """The thing's name, if the client is a thing's: Greengrass appends ``#n`` to it for its further connections."""
        return self.client_id.split("#", 1)[0] or self.client_id

    @property
    def at(self) -> datetime:
        """The instant at which the client connected."""
        return _instant(self.timestamp)


_TERMINAL: TypeAdapter[TerminalEvent | PresenceEvent] = TypeAdapter(
    Annotated[TerminalEvent | PresenceEvent, Field(discriminator="event_type")]
)


def parse_terminal(event: object) -> TerminalEvent | PresenceEvent:
    """Read what the terminal function is given; pydantic's ValidationError if it is neither."""
    return _TERMINAL.validate_python(event)


def problems(error: ValidationError) -> str:
    """Return the problems as one line: field and what is wrong, never the values, which a stranger wrote."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'event'}: {problem['msg']}" for problem in error.errors()[:5]
    )


def _instant(timestamp: int) -> datetime:
    seconds = timestamp / 1000 if timestamp >= _MILLISECONDS_FROM else timestamp
    return datetime.fromtimestamp(seconds, UTC)
