"""Whether the moment is good to change from the stock backend to ours or back, and what comes next.

Nothing is destroyed on the way: our stack stands beside the stock one under another name, its rules off. Only the
hearing of devices changes hands: the rules of the one go off before those of the other go on, because two backends
that answer one device issue it two certificates. ``docs/migration.md`` is the procedure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from controller.reconcile.values import names_text
from controller.report.checkup import CheckLine, CheckStatus
from protocol.names import BackendNames


class Hearing(Enum):
    """Whether the rules of a backend are on."""

    ABSENT = "has no rules"
    OFF = "is deaf"
    PARTLY = "hears some messages and not others"
    ON = "hears the devices"


@dataclass(frozen=True, slots=True)
class Migration:
    """The rules and functions of one fleet's account. ``rules`` holds every topic rule: name → whether it is on."""

    stock: BackendNames
    ours: BackendNames
    rules: Mapping[str, bool] | None  # None: they may not be listed
    deployed_version: str | None = None  # of ours, by its own word
    rotating: tuple[str, ...] = ()  # things with a rotation in progress
    not_one_certificate: tuple[str, ...] = ()  # things that have two, or none
    component_versions: Mapping[str | None, int] = field(default_factory=dict)  # None: not known

    def _hearing(self, rules: Iterable[str]) -> Hearing:
        """Return whether the rules of these names are on."""
        states = [(self.rules or {}).get(name) for name in rules]
        if all(state is None for state in states):
            return Hearing.ABSENT
        if all(states):
            return Hearing.ON
        return Hearing.PARTLY if any(states) else Hearing.OFF

    @property
    def stock_hearing(self) -> Hearing:
        """Whether the rules of the stock backend are on."""
        return self._hearing(self.stock.stock_rules)

    @property
    def our_hearing(self) -> Hearing:
        """Whether the rules of our backend are on."""
        return self._hearing(self.ours.rules)


def lines_of(seen: Migration) -> Iterator[CheckLine]:
    """Yield everything that must be true before anything changes hands."""
    yield _deployed(seen)
    yield _one_answers(seen)
    yield _calm(seen)
    yield _one_certificate_each(seen)
    yield _versions(seen)
    yield CheckLine(
        "notifications",
        CheckStatus.CANNOT_TELL,
        f"who is notified by {seen.stock.notification_topic} must be by {seen.ours.notification_topic} as well; "
        "subscriptions are not read here",
        (f"aws sns list-subscriptions | grep -e {seen.stock.notification_topic} -e {seen.ours.notification_topic}",),
    )


def next_steps(seen: Migration, lines: Iterable[CheckLine]) -> tuple[str, ...]:
    """Return what comes next after what was seen, as commands; nothing changes hands while a line is not ok."""
    if any(line.verdict is CheckStatus.NOT_OK for line in lines):
        return ("mend what is not ok, then ask again",)
    if seen.our_hearing is Hearing.ON:
        return ("rotate one device and look at it; then the stock stack may go, or wait (docs/migration.md)",)
    return (*_turned("disable", seen.stock), _deploy(seen, is_on=True))


def _deployed(seen: Migration) -> CheckLine:
    what = "our backend"
    if seen.stock == seen.ours:
        message = f"both stacks would be {seen.ours.stack_name}, and names of one are taken by the other"
        return CheckLine(what, CheckStatus.NOT_OK, message, ("name ours otherwise: --to Certfleet",))
    if seen.deployed_version is None:
        message = f"there is no stack {seen.ours.stack_name}, or it does not show what it is"
        return CheckLine(what, CheckStatus.NOT_OK, message, (_deploy(seen, is_on=False),))
    return CheckLine(what, CheckStatus.OK, f"version {seen.deployed_version} is deployed as {seen.ours.stack_name}")


def _one_answers(seen: Migration) -> CheckLine:
    what, stock, ours = "who answers", seen.stock_hearing, seen.our_hearing
    if seen.rules is None:
        return CheckLine(
            what, CheckStatus.CANNOT_TELL, "the topic rules may not be listed", ("allow iot:ListTopicRules",)
        )
    message = f"the stock backend {stock.value}, ours {ours.value}"
    if Hearing.ON in (stock, ours) and {stock, ours} <= {Hearing.ON, Hearing.OFF, Hearing.ABSENT} and stock != ours:
        return CheckLine(what, CheckStatus.OK, message)
    if stock in (Hearing.ON, Hearing.PARTLY) and ours in (Hearing.OFF, Hearing.ABSENT):
        return CheckLine(what, CheckStatus.NOT_OK, message, _turned("enable", seen.stock))
    if ours is Hearing.ON:  # two answers to one device are two certificates: the one that judges by evidence stays
        return CheckLine(what, CheckStatus.NOT_OK, message, _turned("disable", seen.stock))
    remedy = (*_turned("disable", seen.stock), _deploy(seen, is_on=True))
    return CheckLine(what, CheckStatus.NOT_OK, message, remedy)


def _calm(seen: Migration) -> CheckLine:
    what = "rotations in progress"
    if seen.rotating:
        message = f"{names_text(seen.rotating)}: between two certificates, of which the other backend may not know"
        return CheckLine(what, CheckStatus.NOT_OK, message, ("start none, and ask again in five minutes",))
    return CheckLine(what, CheckStatus.OK, "none")


def _one_certificate_each(seen: Migration) -> CheckLine:
    what = "certificates"
    if seen.not_one_certificate:
        message = f"{_some(seen.not_one_certificate)} not exactly one, so no backend rotates them"
        return CheckLine(what, CheckStatus.NOT_OK, message, ("certfleet explain THING shows which is in use",))
    return CheckLine(what, CheckStatus.OK, "every governed device has one")


def _versions(seen: Migration) -> CheckLine:
    what = "component"
    known = {version: number for version, number in seen.component_versions.items() if version is not None}
    told = ", ".join(f"{version} on {number}" for version, number in sorted(known.items()))
    unknown = seen.component_versions.get(None, 0)
    if unknown or not known:
        message = f"the version is not known of {unknown} devices" + (f"; {told}" if told else "")
        return CheckLine(what, CheckStatus.CANNOT_TELL, message, ("aws greengrassv2 list-installed-components",))
    return CheckLine(what, CheckStatus.OK, told)


def _turned(verb: str, names: BackendNames) -> tuple[str, ...]:
    return tuple(f"aws iot {verb}-topic-rule --rule-name {rule}" for rule in names.stock_rules)


def _deploy(seen: Migration, *, is_on: bool) -> str:
    rules = "" if is_on else " -c RulesEnabled=false"
    return f"npx cdk deploy -c StackName={seen.ours.stack_name} -c Replaces={seen.stock.stack_name}{rules}"


def _some(names: tuple[str, ...]) -> str:
    return f"{names_text(names)} {'has' if len(names) == 1 else 'have'}"
