"""The tasks of the state machine, ``controller.aws_states.handler``; and ``answer``, behind a function URL, for people.

The machine reads fleets side by side: it starts a function for each fleet, and another one until that fleet is done.
``summary`` decides what failed, from the record of each fleet in the bucket; the failures that Step Functions
tolerates decide nothing. Only names travel through the machine: of fleets, of a bundle, of a plan.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from controller.aws_lambda import BUNDLE, LambdaContext, Run
from controller.errors import CertfleetError
from controller.lambda_reconcile.bucket import LostRaceError
from controller.lambda_reconcile.bundles import BundleVersion, ReplacedBundleError
from controller.lambda_reconcile.questions import Answer, AnswerError, Questions, overrides_of, question_of
from controller.lambda_reconcile.reconcile import FleetRun
from controller.lambda_reconcile.records import FleetClaim, FleetRecord, FleetRecords, News
from controller.lambda_reconcile.step_functions import StepFunctions
from controller.reconcile.values import NO_OVERRIDES, DesiredState, Overrides, Plan, parse_overrides
from controller.report.attention import Attention, attention_of, failure_attention

MAX_NAMES_BYTES = (
    200_000  # of all fleets' names; Step Functions passes on 262,144 bytes, the rest of the state included
)
MAX_ROUNDS = 200  # functions that one run gives a fleet: two days of them
OTHERS_TURN = 60  # seconds until who may not yet begin tries again


class Began(BaseModel):
    """One execution of the state machine."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run: str
    started: AwareDatetime


class OfFleets(Began):
    """The input of ``summary``: the run, its bundle and its fleets."""

    bundle: BundleVersion
    fleets: tuple[str, ...]


class OfFleet(Began):
    """One function's share of a run."""

    fleet: str
    bundle: BundleVersion
    rounds: int = 0  # functions that this run has given the fleet before
    plan: str | None = None  # digest of the plan that a person has permitted
    by: str | None = None  # their ARN


class Asking(BaseModel):
    """The input of ``ask``: a task that waits for a person."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fleet: str
    bundle: BundleVersion
    plan: str
    token: str
    seconds: int  # how long it waits


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do one task of the state machine; its answer is what the machine goes on with."""
    return TASKS[event["task"]](Run(context), event)


def fleets(run: Run, _event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fleets of the bundle, and which bundle that is."""
    try:
        found, version = run.versioned()
        run.notices.tell(Attention(BUNDLE))
        return {"fleets": _names(found), "bundle": version.model_dump(mode="json")}
    except Exception as raised:
        error = run.failed(BUNDLE, raised)
        run.notices.tell(failure_attention(BUNDLE, str(error), error.remedy))
        raise


def _names(found: tuple[DesiredState, ...]) -> list[str]:
    names = [desired.fleet.name for desired in found]
    if len(json.dumps(names)) > MAX_NAMES_BYTES:
        raise CertfleetError(
            f"the names of {len(names):,} fleets do not fit into what a state machine passes on",
            "Use shorter names, or fewer fleets in one repository.",
        )
    return names


def fleet(run: Run, event: Mapping[str, Any]) -> dict[str, Any]:
    """Do one function's share of one fleet.

    Returns ``again``, which is whether the fleet needs another function, and ``wait``, the seconds until then.
    """
    return _Share(run, OfFleet.model_validate(event)).work()


class _Share:
    def __init__(self, run: Run, of: OfFleet) -> None:
        self._run, self._of = run, of
        prefix = run.settings.state_prefix
        self._records, self._questions = FleetRecords(run.bucket, prefix), Questions(run.bucket, prefix)

    def work(self) -> dict[str, Any]:
        run, of = self._run, self._of
        claim = self._records.claim(of.fleet, of.run, run.now, run.budget.left + run.settings.reserve_seconds)
        if isinstance(claim, FleetRecord):
            run.say(f"fleet {of.fleet}: run {claim.run} is at work on it")
            return self._answer(again=of.plan is not None, wait=OTHERS_TURN)
        record, again = self._outcome(claim)
        if again:
            return self._answer(again=True)
        try:
            claim.end(record.model_copy(update={"ended_at": run.now}))
        except LostRaceError as error:
            run.say(f"fleet {of.fleet}: {error}")
        return self._answer(again=False)

    def _outcome(self, claim: FleetClaim) -> tuple[FleetRecord, bool]:
        """Return the record to keep, and whether another function must go on before the record is final."""
        of, run = self._of, self._run
        try:
            found = self._reconcile()
            if found.stopped is not None:
                self._require_an_end()
                return claim.record, True
            self._tell_who_permitted(found)
            return claim.record.model_copy(update=self._told(found)), False
        except ReplacedBundleError as error:
            run.say(f"fleet {of.fleet}: {error}")
            self._publish(f"was not applied: {error}")
            return claim.record, False
        except Exception as raised:  # noqa: BLE001 (one fleet's failure, of whatever kind, is no other's)
            failure = run.failed(of.fleet, raised)
            news = failure_attention(of.fleet, str(failure), failure.remedy)
            self._publish("could not be applied: " + "\n".join(news.lines))
            return claim.record.model_copy(update={"failure": str(failure), "news": News.of(news)}), False

    def _require_an_end(self) -> None:
        if self._of.rounds + 1 >= MAX_ROUNDS:
            raise CertfleetError(
                f"{MAX_ROUNDS} functions in a row have not finished fleet {self._of.fleet}",
                "See in the log at what each stopped; the next run goes on there.",
            )

    def _reconcile(self) -> FleetRun:
        of = self._of
        given: Plan | None = None
        overrides: Overrides = NO_OVERRIDES
        if of.plan is not None:
            given = self._questions.plan(of.fleet, of.plan)
            overrides = parse_overrides(overrides_of(given))
        [desired] = self._run.desired(of.fleet, of.bundle)
        return self._run.one(desired, given, overrides)

    def _told(self, found: FleetRun) -> dict[str, Any]:
        if found.report is None:
            return {}
        told: dict[str, Any] = {"news": News.of(attention_of(found.report))}
        plan = found.report.plan
        if plan is not None and plan.refusals and self._of.plan is None:
            self._questions.keep(plan)
            told["refused"] = plan.digest
        return told

    def _tell_who_permitted(self, found: FleetRun) -> None:
        refusals = found.report.plan.refusals if found.report is not None and found.report.plan is not None else ()
        if refusals:
            self._publish("is refused now: " + "; ".join(refusal.message for refusal in refusals))
            return
        jobs = found.result.created if found.result is not None else ()
        lines = [f"is applied: {len(jobs)} jobs made, {sum(job.device_count for job in jobs)} devices start."]
        lines += [f"{device} is left out: {why}" for device, why in sorted(found.left_out.items())[:50]]
        self._publish("\n".join(lines))

    def _publish(self, what: str) -> None:
        """Notify people of what became of a plan that a person permitted; do nothing if nobody was asked."""
        of = self._of
        if of.by is None:
            return
        text = f"Plan {of.plan} of fleet {of.fleet}, which {of.by} permitted, {what}"
        self._run.say(text)
        self._run.notices.publish(f"fleet {of.fleet}", f"certfleet: {of.fleet}: what was permitted", text)

    def _answer(self, *, again: bool, wait: int = 0) -> dict[str, Any]:
        return {"again": again, "wait": wait, "rounds": self._of.rounds + 1}


def summary(run: Run, event: Mapping[str, Any]) -> dict[str, Any]:
    """Return what became of every fleet; notify people in one message, and ask them about refused plans."""
    of = OfFleets.model_validate(event)
    records = FleetRecords(run.bucket, run.settings.state_prefix)
    failed, left, news = 0, 0, []
    asked = 0
    for name in of.fleets:
        record = records.of(name)
        if record is not None and record.run == of.run and record.ended_at is not None:
            failed += record.failure is not None
            told = record.news
            if record.refused is not None:
                asked += _ask(run, of, name, record.refused)
                told = _with_the_way_to_answer(run, told)
        elif record is not None and record.run != of.run and _has_worked_since(record, of.started, run.now):
            run.say(f"fleet {name}: run {record.run} has taken it over")
            left, told = left + 1, None
        else:
            error = CertfleetError(
                "the function was ended before it could report what became of it",
                "See the log of the function, and the history of the state machine; the next run goes on.",
            )
            run.failed(name, error)
            failed, told = failed + 1, News.of(failure_attention(name, str(error), error.remedy))
        news += [told] if told is not None else []
    run.notices.tell(*news)
    return {"fleets": len(of.fleets), "failed": failed, "left": left, "asked": asked}


def _has_worked_since(record: FleetRecord, started: datetime, now: datetime) -> bool:
    return record.is_at_work(now) or (record.ended_at is not None and record.ended_at >= started)


def _ask(run: Run, of: OfFleets, name: str, plan: str) -> bool:
    """Ask a person about a refused plan, unless that question still waits for its answer; returns whether it is new."""
    machine = run.settings.question_machine_arn
    standing = Questions(run.bucket, run.settings.state_prefix).of(name)
    if not machine or (standing is not None and standing.plan == plan and standing.expires_at > run.now):
        return False
    given = {"fleet": name, "bundle": of.bundle.model_dump(mode="json"), "plan": plan}
    execution = f"{name[:40]}-{plan[:16]}-{run.now:%Y%m%dT%H%M%S}"
    return StepFunctions(run.client("stepfunctions")).start(machine, execution, given)


def _with_the_way_to_answer(run: Run, news: News | None) -> News | None:
    url = run.settings.answer_url
    if news is None or not url:
        return news
    way = (
        f"GET {url}?fleet={news.fleet} shows what exactly is asked; POST the same fleet, plan and overrides permits it."
    )
    return news.model_copy(update={"body": f"{news.body}\n\n{way}"})


def ask(run: Run, event: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the question and the token of the task that waits for its answer."""
    of = Asking.model_validate(event)
    questions = Questions(run.bucket, run.settings.state_prefix)
    plan = questions.plan(of.fleet, of.plan)
    questions.ask(question_of(plan, of.bundle, of.token, run.now, run.now + timedelta(seconds=of.seconds)))
    return {}


TASKS: Mapping[str, Callable[[Run, Mapping[str, Any]], dict[str, Any]]] = {
    "fleets": fleets,
    "fleet": fleet,
    "summary": summary,
    "ask": ask,
}


def answer(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Return the question that a person reads at the function URL, or take the answer; IAM decides who may call it."""
    try:
        by = str(event["requestContext"]["authorizer"]["iam"]["userArn"])
    except (KeyError, TypeError):
        return _response(
            HTTPStatus.FORBIDDEN,
            {"error": "found no IAM principal in the request: sign it with the credentials of a role that may answer"},
        )
    run = Run(context)
    questions = Questions(run.bucket, run.settings.state_prefix)
    try:
        if event["requestContext"].get("http", {}).get("method") == "POST":
            return _response(HTTPStatus.OK, _permit(run, questions, _body(event), by))
        question = questions.standing(str((event.get("queryStringParameters") or {}).get("fleet", "")))
        return _response(HTTPStatus.OK, question.shown())
    except AnswerError as error:
        return _response(HTTPStatus.CONFLICT, {"error": str(error), "remedy": error.remedy})


def _permit(run: Run, questions: Questions, said: Answer, by: str) -> dict[str, Any]:
    question = questions.answer(said, by, run.now)
    given = {"by": question.answered_by, "at": question.answered_at.isoformat() if question.answered_at else None}
    is_heard = StepFunctions(run.client("stepfunctions")).succeed(question.token, given)
    run.say(json.dumps({"question": said.fleet, "plan": said.plan, **given, "asked_by": by, "is_heard": is_heard}))
    return {**question.shown(), "is_applied_now": is_heard}


def _body(event: Mapping[str, Any]) -> Answer:
    text = event.get("body") or ""
    try:
        data = base64.b64decode(text) if event.get("isBase64Encoded") else text
        return Answer.model_validate_json(data)
    except (ValueError, ValidationError):
        raise AnswerError(
            "found a body that is not the JSON of an answer",
            'Send {"fleet": …, "plan": …, "overrides": […]}, as the question has them.',
        ) from None


def _response(status: HTTPStatus, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"statusCode": int(status), "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
