"""Refusals that need time to pass, or a clock to run out: their numbers, and that what they print lets them pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

INCIDENT = """\
---
apiVersion: certfleet/v1
kind: Incident
metadata: {{name: leak}}
spec: {{reason: a key was found on a laptop, keyType: RSA-2048, deadline: {deadline}}}
"""


def printed_override(refused) -> list[str]:
    """The override that a refusal prints, as arguments."""
    assert refused.code == 3, refused.out + refused.err
    return refused.err.strip().splitlines()[-1].removeprefix("→ ").split()


def test_a_plan_whose_group_has_changed_since_is_refused_and_its_override_lets_it_pass(factory):
    for number in range(4):
        factory.device(f"old-{number}", age=200)
    assert factory.run("plan", "--plan", "plan.json").code == 2
    for number in range(4):
        factory.device(f"new-{number}")

    refused = factory.run("apply", "--plan", "plan.json")

    assert "line-a had 4 things when the plan was made and has 8 now: 100 % changed, 90 % are allowed" in refused.err
    assert factory.jobs() == []
    assert factory.run("apply", "--plan", "plan.json", "--override", "groupChangePercent=99").code == 3
    assert factory.run("apply", "--plan", "plan.json", *printed_override(refused)).code == 0
    assert len(factory.jobs()) == 1


@pytest.mark.parametrize(
    ("limits", "guardrails"),
    [
        ("maxChangePercent: 90, minExisting: 40", ("lateDevices",)),
        ("maxChangePercent: 20, minExisting: 4", ("maxChangePercent", "lateDevices")),  # each would refuse by itself
    ],
)
def test_a_deadline_that_the_rates_cannot_meet_is_refused_and_what_is_printed_lets_it_pass(
    factory, rsa_key, limits, guardrails
):
    for number in range(4):
        factory.device(f"leaked-{number}", key=rsa_key)
    deadline = (datetime.now(UTC) + timedelta(minutes=10)).isoformat(timespec="seconds").replace("+00:00", "Z")
    text = (factory.desired / "factory.yaml").read_text().replace('waves: ["1", "100%"], soak: 0s', 'waves: ["100%"]')
    text = text.replace("maximumPerMinute: 1000", "maximumPerMinute: 1, maxInFlight: 1")
    text = text.replace("maxChangePercent: 90, minExisting: 4", limits)
    factory.write(text + INCIDENT.format(deadline=deadline))
    factory.commit()

    planned = factory.run("plan")
    assert planned.code == 3
    assert "the deadline will be missed: the given rates and windows need until" in " ".join(planned.out.split())
    refused = factory.run("apply")

    assert "devices of policy line-a must be rotated by" in refused.err
    assert "0.2 devices a minute (maximumPerMinute 1, maxInFlight 1) in 1 waves" in refused.err
    assert factory.jobs() == []
    printed = printed_override(refused)
    assert [text.partition("=")[0] for text in printed[1::2]] == list(guardrails), "one refusal names all"
    comment = factory.run("plan", "--format", "markdown").out
    assert all(text in comment for text in printed[1::2])
    assert factory.run("apply", *printed).code == 0
    assert len(factory.jobs()) == 1


SLOWLY = ('waves: ["1", "100%"]', 'waves: ["100%"], maxInFlight: 4')


@pytest.mark.parametrize(
    ("limits", "overrides", "code", "rotated"),
    [
        ("maxChangePercent: 50, minExisting: 4", (), 3, 4),  # four more would make 80 %
        ("maxChangePercent: 50, minExisting: 4", ("--override", "maxChangePercent=100"), 0, 10),
        ("maxChangePercent: 50, minExisting: 11", (), 0, 10),  # a fleet so small is not bounded
    ],
)
def test_what_one_apply_starts_in_all_its_rounds_is_bounded_like_a_plan(factory, limits, overrides, code, rotated):
    for number in range(10):
        factory.device(f"old-{number}", age=200)
    text = (factory.desired / "factory.yaml").read_text().replace(*SLOWLY)
    factory.write(text.replace("maxChangePercent: 90, minExisting: 4", limits))
    factory.commit()

    applied = factory.run("apply", "--wait", "--timeout", "60s", *overrides)

    assert (applied.code, sum(factory.rotations.values())) == (code, rotated), applied.out + applied.err
    if code:
        assert f"{rotated} that this run started before" in " ".join(applied.out.split())
