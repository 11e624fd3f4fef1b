"""A plugin for pytest: each error that a test raises must be on the page of messages.

It hears the errors themselves, so that it finds what the collector of the page would overlook.
"""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import messages

from backend.functions.errors import RejectionError
from component.certificate_rotator.errors import RotationError
from controller.errors import CertfleetError, DesiredStateError

LEAST = 12  # characters: a shorter text proves nothing
_heard = set()


def _hear(kind):
    made = kind.__init__

    def init(self, *given, **named):
        made(self, *given, **named)
        if not isinstance(self, DesiredStateError):  # its lines are problems, with a file before each
            _heard.add(str(self.args[0]) if self.args else "")

    kind.__init__ = init


for _kind in (CertfleetError, RotationError, RejectionError):
    _hear(_kind)


def missing(heard):
    """Messages of which no part is on the page."""
    groups = [prefixes for one in messages.GROUPS.values() for prefixes in one.values()]
    texts = {one.text for prefixes in groups for one in messages.messages_of(prefixes)}
    parts = (map(re.escape, text.split(messages.HOLE)) for text in texts if len(text) > LEAST)
    patterns = [re.compile(".*?".join(fixed), re.DOTALL) for fixed in parts]
    return sorted(one for one in heard if one and " " in one and not any(pattern.search(one) for pattern in patterns))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    found = missing(_heard)
    lines = [f"heard {len(_heard)} errors, {len(found)} of them on no page", *(f"missing: {one}" for one in found)]
    sys.__stdout__.write("\n" + "\n".join(lines) + "\n")
    if found:
        session.exitstatus = 1
