"""Checks of the moment: why a rotation that is called for does not start, what runs, and what is coming."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import takewhile

from controller.plain_text import one_line
from controller.reconcile.schedule import MAX_FAILURES, next_attempt_at
from controller.reconcile.values import (
    UNHEARD_OF,
    CertificateStatus,
    DeviceExecution,
    Finding,
    Reason,
    RotationResult,
    Unknown,
    blocked,
    count_text,
    instant_text,
    local_text,
    names_text,
    parse_job_id,
    span_text,
    waiting,
)
from protocol.messages import ExecutionStatus
from protocol.names import COMPONENT_NAME

from .case import COMING_WITHIN, Case, Check
from .rotated import is_other, is_settling, left_alone_until

STOCK_REFUSAL = "Create was rejected."
"""All that the stock component reports of a rejected request; ours reports the backend's reason, and its version."""

REFUSALS = 3  # in a row, hours apart: no outage, no authority that was busy; see docs/decisions/0146


def quarantined(case: Case) -> Finding | None:
    """Report a device that is to be cut off, or is: nothing rotates it, whatever else is found."""
    documents = case.governance.quarantines_of(case.device)
    if not documents:
        return None
    found, name = documents[0], case.device.name
    held = [attachment.certificate for attachment in case.device.attachments]
    meant = [one for one in held if any(document.concerns(name, [one.certificate_id]) for document in documents)]
    active = [one.certificate_id[:12] for one in meant if one.status is CertificateStatus.ACTIVE]
    values = {"quarantine": found.name, "certificates": ",".join(one.certificate_id for one in meant)}
    remedy = f"ask {found.owner}; to lift it, take the device out of the document"
    state = ""
    if active:
        state = f"; not cut off yet: {names_text(active)} is still ACTIVE"
        remedy = "cut it off: approve the plan of the workflow heal, or: certfleet heal plan --only quarantine"
        values |= {"active": ",".join(active)}
        values |= {"incidents": ",".join(i.name for i in case.taints)} if case.taints else {}
    return blocked(
        Reason.QUARANTINED,
        f"in quarantine {found.name} of {found.owner} since {instant_text(found.since)}: {found.reason}{state}",
        remedy,
        "spec",
        **values,
    )


def waived(case: Case) -> Finding | None:
    """Report a device that a waiver in force leaves out."""
    waiver = case.governance.waiver_of(case.device.name)
    if waiver is None:
        return None
    return blocked(
        Reason.WAIVED,
        f"waiver {waiver.name} of {waiver.owner} leaves it out until {instant_text(waiver.expires)}: {waiver.reason}",
        f"ask {waiver.owner}, or let the waiver expire",
        "spec",
        waiver=waiver.name,
    )


def suspended(case: Case) -> Finding | None:
    """Report a policy that does not rotate for now."""
    suspension = case.policy.suspend
    if suspension is None or not case.governed.is_suspended:
        return None
    return blocked(
        Reason.SUSPENDED,
        f"policy {case.policy.name} is suspended until {instant_text(suspension.until)}: {suspension.reason}",
        "remove suspend from the policy, or wait until it ends by itself",
        "spec.suspend",
    )


def repeatedly_failed(case: Case) -> Finding | None:
    """Report a device whose rotations have failed so often that a person must find the cause."""
    failures = case.failures
    if len(failures) < MAX_FAILURES or case.is_tried_again:
        return None
    told = Counter(failure.failure_reason or f"no reason given ({failure.status.value})" for failure in failures)
    reasons = "; ".join(f"{reason} ({number}×)" for reason, number in sorted(told.items(), key=lambda i: (-i[1], i[0])))
    last = case.since(failures[-1].last_updated_at)
    return blocked(
        Reason.REPEATEDLY_FAILED,
        f"{len(failures)} rotations failed, the last {last} ago: {reasons}",
        f"remove the cause, then apply once with {_again(case)}; a new component version or a change of the policy's "
        "certificate rule starts afresh",
        "spec.rollout.retries",
        failures=len(failures),
    )


def rotation_ineffective(case: Case) -> Finding | None:
    """Report a device that was rotated under this very rule and still has the drift that this should have mended."""
    last, demand = case.last_rotation, case.in_vain
    resumed = case.governance.resumed_at(case.policy.name)
    if last is None or demand is None or case.is_tried_again or last.was_looked_at(resumed):
        return None
    return blocked(
        Reason.ROTATION_INEFFECTIVE,
        f"rotated by job {last.job_id} {case.since(last.last_updated_at)} ago, and yet: {demand.message}",
        "find out why the backend issued that (is it deployed as git demands?) and put it right; then apply once with "
        f"--override resume={case.policy.name}; or, for this device alone, with {_again(case)}; a changed certificate "
        "rule and a certificate put there by hand are judged anew",
        demand.policy_field,
        job=last.job_id,
    )


def preflight_failed(case: Case) -> Finding | None:
    """Report a device that has answered that this very rotation would fail, unless the device is urgent."""
    found = case.preflight
    if found is None or found.reason is None or case.is_urgent or case.is_tried_again:
        return None
    return blocked(
        Reason.PREFLIGHT_FAILED,
        f"asked by job {found.job_id} {case.since(found.at)} ago, the device reports that its rotation would "
        f"fail: {found.reason}",
        f"put it right, then ask again: certfleet preflight --policy {case.policy.name} --wait; or let the device try, "
        f"with {_again(case)}: nothing is issued while the reason lasts",
        "spec",
        job=found.job_id,
    )


def _again(case: Case) -> str:
    """Return the override that lets the device be tried again; a halted rollout has one of its own."""
    return f"--override again={case.device.name} (if the rollout has halted, resume it too)"


def rotated_recently(case: Case) -> Finding | None:
    """Report a device that was rotated too short a time ago, unless it went well and an incident calls for another."""
    last = case.last_rotation
    until = left_alone_until(case, last)
    if last is None or until is None or until <= case.now or case.is_tried_again:
        return None
    if case.taints and case.in_vain is None and not is_other(case, last):
        return None
    return waiting(
        Reason.ROTATED_RECENTLY,
        f"rotated by job {last.job_id} {case.since(last.last_updated_at)} ago; left alone until {instant_text(until)}",
        "spec.schedule.leastInterval",
    )


def backing_off(case: Case) -> Finding | None:
    """Report a device that is left alone for a while after a failure."""
    failures, certificate = case.failures, case.certificate
    if not failures or certificate is None or len(failures) >= MAX_FAILURES or case.is_tried_again:
        return None
    until = next_attempt_at(failures, case.policy.name, certificate.certificate_id)
    if until <= case.now:
        return None
    reason = failures[-1].failure_reason or f"no reason given ({failures[-1].status.value})"
    if _refused_in_a_row(failures):
        reason += (
            " (by the stock component, of whatever reason: the backend was down, or it makes another key than asked)"
        )
    return waiting(
        Reason.BACKING_OFF,
        f"{count_text(len(failures), 'rotation')} failed, last: {reason}; tried again from {instant_text(until)}",
        "spec.rollout.retries",
        failures=len(failures),
    )


_NONE = "none opens within five years"


def outside_window(case: Case) -> Finding | None:
    """Report that no window is open and nothing makes the device urgent."""
    if case.is_urgent or case.governed.is_open_now:
        return None
    window = case.governed.opens
    zones = case.policy.schedule.zones
    opens = f"the next opens at {instant_text(window.start)}{local_text(window.start, zones)}" if window else _NONE
    return waiting(Reason.OUTSIDE_WINDOW, f"no maintenance window is open; {opens}", "spec.schedule.windows")


def unsupported_by_backend(case: Case) -> Finding | None:
    """Hold a device back if what its stock backend and component are set to would not meet the policy."""
    rule, result = case.policy.certificate, case.result
    if not case.governance.is_stock or not isinstance(result, RotationResult):
        return None
    meets = rule.key_type in {None, result.key_type} and rule.authority in {None, result.authority}
    if meets:
        return None
    demands = " and ".join(str(getattr(d, "value", d)) for d in (rule.key_type, rule.authority) if d is not None)
    return blocked(
        Reason.UNSUPPORTED_BY_BACKEND,
        f"the deployed backend is the stock one: a rotation would make {result.holding}, as component and stack are "
        f"set, and the policy demands {demands}",
        f"set keyAlgorithm of {COMPONENT_NAME} in the device's deployment, and the stack's CA, to what the policy "
        "demands; or deploy this project's backend",
        "spec.certificate",
    )


def unsupported_by_component(case: Case) -> Finding | None:
    """Report a stock component whose configured key our backend refuses.

    One refusal does not prove it: the stock component reports an outage of the backend in the same words.
    """
    result, refused = case.result, _refused_in_a_row(case.failures) if case.failures else 0
    if refused < REFUSALS or case.is_tried_again or not isinstance(result, RotationResult) or not result.is_told:
        return None
    wanted = f"{result.key_type.value} with {result.signing_algorithm.value}"
    return blocked(
        Reason.UNSUPPORTED_BY_COMPONENT,
        f"the backend refused the stock component {refused} times in a row ({STOCK_REFUSAL}): that component makes "
        f"the key that its configuration sets, and the job asks for {wanted} from {result.authority}",
        f"set keyAlgorithm and signingAlgorithm of the component's deployment to {wanted}, or deploy this project's "
        "component (if they are so already, the create function's log shows why it refused); then apply once with "
        f"{_again(case)}",
        "spec.certificate.keyType",
        wanted=result.key_type.value,
    )


def _refused_in_a_row(failures: tuple[DeviceExecution, ...]) -> int:
    """Return how often the backend has refused a stock component, up to the last failure."""
    is_refusal = (one.component_version is None and one.failure_reason == STOCK_REFUSAL for one in reversed(failures))
    return sum(1 for _ in takewhile(bool, is_refusal))


def result_unknown(case: Case) -> Finding | None:
    """Report a device whose rotation would change what its policy leaves out."""
    result = case.result
    if not isinstance(result, Unknown):
        return None
    remedy = result.remedy
    if case.governance.is_stock:
        rule = case.policy.certificate
        if rule.key_type is None and rule.authority is None:
            if case.policy.name in case.governance.overrides.result:
                return None  # a person has looked
            remedy = f"{remedy}; or look at both, and apply with --override result={case.policy.name}"
    return blocked(Reason.RESULT_UNKNOWN, result.message, remedy, result.policy_field)


def rotating(case: Case) -> Finding | None:
    """Report a rotation that has not ended, or whose old certificate is not removed yet."""
    if not case.device.executions:
        return _settling(case)
    strange = next((one for one in case.device.executions if one.status.name == UNHEARD_OF), None)
    if strange is not None:
        return _execution_unknown(case.device.name, strange)
    execution = case.device.executions[0]
    since = case.now - execution.queued_at
    job = parse_job_id(execution.job_id)
    is_standing = job is not None and job.wave is None
    is_late = execution.status is ExecutionStatus.QUEUED and since >= case.policy.rollout.stragglers_after
    # Who is asked ahead of its wave counts as in flight for as long as who is asked in a wave.
    if not is_late and (not is_standing or case.policy.rollout.offline_first):
        text = f"job {execution.job_id} is {execution.status.value} here since {instant_text(execution.queued_at)}"
        return waiting(Reason.ROTATING, text, "spec.rollout")
    seen = case.device.last_seen
    last = f"last seen {case.since(seen)} ago" if seen else "last connection not known"
    return waiting(
        Reason.STRAGGLER,
        f"the device has not answered job {execution.job_id} for {span_text(since)}; {last}",
        "spec.rollout.stragglersAfter",
        hoursSinceSeen=int((case.now - seen) / timedelta(hours=1)) if seen else None,
    )


def _settling(case: Case) -> Finding | None:
    done = is_settling(case)
    if done is None:
        return None
    ended = f"job {done.job_id} has succeeded here at {instant_text(done.last_updated_at)}"
    text = f"{ended}; the backend has still to remove the certificate that it replaced"
    return waiting(Reason.ROTATING, text, "spec.rollout")


def _execution_unknown(device: str, execution: DeviceExecution) -> Finding:
    """Report an execution of a status that is not known here: it may be a rotation under way."""
    which = f"--job-id {execution.job_id} --thing-name {device}"
    return blocked(
        Reason.EXECUTION_UNKNOWN,
        f"job {execution.job_id} is {one_line(execution.status.value)} here since "
        f"{instant_text(execution.queued_at)}, a status that this certfleet does not know",
        f"run a certfleet that knows it; or look (aws iot describe-job-execution {which}), and end it if nothing "
        f"goes on there (aws iot cancel-job-execution {which} --force)",
        "spec.rollout",
        job=execution.job_id,
    )


def not_yet_due(case: Case) -> Finding | None:
    """Report drift that comes within a week."""
    timing = case.timing
    if timing is None or case.is_triggered or timing.start - case.now > COMING_WITHIN:
        return None
    missed = ", after maxAge, because no window opens before" if timing.misses_max_age else ""
    return waiting(
        Reason.NOT_YET_DUE,
        f"rotates from {instant_text(timing.start)} on{missed}; due {instant_text(timing.due)}",
        "spec.certificate.maxAge",
    )


GATES: tuple[Check, ...] = (
    unsupported_by_backend,  # nobody can say what it would become
    result_unknown,  # likewise
    unsupported_by_component,  # it was refused again and again
    rotation_ineffective,  # rotating has not helped
    repeatedly_failed,  # no accident any more
    preflight_failed,  # it would fail
    waived,  # someone answers for it
    suspended,  # the policy rests
    rotated_recently,  # not long ago
    backing_off,  # a failure not long ago
    outside_window,  # not now
)
