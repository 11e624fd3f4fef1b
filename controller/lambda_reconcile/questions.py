"""Questions to a person who alone may lift a guardrail's refusal, and what they answered.

The question names one plan by its digest, and the exact overrides that lift its refusals. Whoever answers repeats both;
AWS reports who they are. The bucket keeps the plan and the answer; a newer question replaces an older one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from controller.errors import CertfleetError, PlanError
from controller.reconcile.planning import MAX_PLAN_BYTES, plan_from_json, plan_to_json
from controller.reconcile.values import Plan

from .bucket import Bucket, LostRaceError, Version
from .bundles import BundleVersion

MAX_RECORD_BYTES = 1024 * 1024
_PLAN_AGAIN = "Nothing need be done: a later run plans again, and asks again if a guardrail still refuses."


class AnswerError(CertfleetError):
    """An answer that does not fit the question."""


class Question(BaseModel):
    """One refused plan, and the answer once there is one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = 1
    fleet: str
    plan: str  # digest
    bundle: BundleVersion
    refusals: tuple[str, ...]  # what each guardrail says
    overrides: tuple[str, ...]  # exactly these lift them
    devices: int  # that the plan starts
    asked_at: AwareDatetime
    expires_at: AwareDatetime
    token: str = Field(repr=False)  # of the task that waits; whoever holds it and may call Step Functions can answer
    answered_by: str | None = None  # ARN
    answered_at: AwareDatetime | None = None

    def shown(self) -> dict[str, Any]:
        """Return all that a person sees of it."""
        return self.model_dump(mode="json", exclude={"token", "format_version"})


class Answer(BaseModel):
    """The answer that a person sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str
    plan: str
    overrides: tuple[str, ...]


class Questions:
    """Questions and plans below one prefix of the bucket."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix

    def keep(self, plan: Plan) -> None:
        """Keep a plan that was refused, under its digest; the same situation planned anew replaces it."""
        key = self._plan_key(plan.fleet, plan.digest)
        self._bucket.write(self._bucket.read(key, 0).version, plan_to_json(plan).encode())

    def plan(self, fleet: str, digest: str) -> Plan:
        """Return the plan kept under a digest; PlanError if it is gone or was changed."""
        stored = self._bucket.read(self._plan_key(fleet, digest), MAX_PLAN_BYTES)
        if stored.data is None:
            raise PlanError(f"the plan {digest[:16]} of fleet {fleet} is kept no more", _PLAN_AGAIN)
        plan = plan_from_json(stored.data)
        if (plan.fleet, plan.digest) != (fleet, digest):
            raise PlanError(f"found plan {plan.digest[:16]} of fleet {plan.fleet}, expected {digest[:16]}", _PLAN_AGAIN)
        return plan

    def of(self, fleet: str) -> Question | None:
        """Return the last question about a fleet; None if there is none."""
        return self._read(fleet)[0]

    def standing(self, fleet: str) -> Question:
        """Return the last question about a fleet; AnswerError if there is none."""
        return _asked(self.of(fleet), fleet)

    def ask(self, question: Question) -> None:
        """Put a question in the place of the last one; LostRaceError if another does so in the same moment."""
        self._write(self._read(question.fleet)[1], question)

    def answer(self, answer: Answer, by: str, now: datetime) -> Question:
        """Record the answer that ``by``, an ARN, gave; the first answer stands.

        Raises AnswerError if the answer does not repeat the question.
        """
        found, version = self._read(answer.fleet)
        question = _asked(found, answer.fleet)
        if question.plan != answer.plan:
            raise AnswerError(
                f"found an answer about plan {answer.plan[:16]}; the question is about plan {question.plan[:16]}",
                f"Look at it: GET ?fleet={answer.fleet}",
            )
        if question.answered_by is not None:
            return question
        if now >= question.expires_at:
            raise AnswerError(f"the question of {question.asked_at:%Y-%m-%d %H:%M}Z has expired", _PLAN_AGAIN)
        if sorted(answer.overrides) != sorted(question.overrides):
            raise AnswerError(
                f"found the overrides {', '.join(answer.overrides) or 'none'}; the plan needs exactly "
                f"{', '.join(question.overrides)}",
                "Repeat them as they stand in the question.",
            )
        answered = question.model_copy(update={"answered_by": by, "answered_at": now})
        try:
            self._write(version, answered)
        except LostRaceError:
            raise AnswerError(
                "somebody else answered, or another question came, in the same moment",
                f"Look at it: GET ?fleet={answer.fleet}",
            ) from None
        return answered

    def _read(self, fleet: str) -> tuple[Question | None, Version]:
        stored = self._bucket.read(f"{self._prefix}questions/{fleet}.json", MAX_RECORD_BYTES)
        try:
            return (None if stored.data is None else Question.model_validate_json(stored.data)), stored.version
        except ValidationError:
            return None, stored.version  # damaged: whoever is asked next replaces it

    def _write(self, before: Version, question: Question) -> None:
        self._bucket.write(before, question.model_dump_json(indent=1).encode())

    def _plan_key(self, fleet: str, digest: str) -> str:
        return f"{self._prefix}plans/{fleet}-{digest[:32]}.json"


def _asked(question: Question | None, fleet: str) -> Question:
    if question is None:
        raise AnswerError(f"nothing is asked about fleet {fleet or '(none named)'}", "Name one: GET ?fleet=NAME.")
    return question


def question_of(plan: Plan, bundle: BundleVersion, token: str, now: datetime, expires_at: datetime) -> Question:
    """Return what a refused plan asks until ``expires_at``; the answer goes to the waiting task of this token."""
    return Question(
        fleet=plan.fleet,
        plan=plan.digest,
        bundle=bundle,
        refusals=tuple(refusal.message for refusal in plan.refusals),
        overrides=overrides_of(plan),
        devices=sum(len(job.devices) for job in plan.jobs),
        asked_at=now,
        expires_at=expires_at,
        token=token,
    )


def overrides_of(plan: Plan) -> tuple[str, ...]:
    """Return the overrides that lift a plan's refusals, as a person repeats them."""
    return tuple(dict.fromkeys(refusal.override.removeprefix("--override ") for refusal in plan.refusals))
