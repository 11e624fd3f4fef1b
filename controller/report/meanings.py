"""The meaning of the words of reports, for readers who meet them first: in docs/reports.md and SARIF's rules."""

from __future__ import annotations

from collections.abc import Mapping

from controller.reconcile.values import Health

HEALTH: Mapping[Health, str] = {
    Health.HEALTHY: "nothing is wrong; a device that must rotate and only waits for its turn is healthy too",
    Health.PROGRESSING: "a rotation is under way, or its job waits for a device that is offline",
    Health.SUSPENDED: "a waiver, or the policy's `suspend`, leaves the device out",
    Health.DEGRADED: "a rotation has failed, or a person must put something right before one can start",
    Health.MISSING: "the device has no certificate: it cannot connect",
}
