"""A rollout under way, told as the jobs that AWS remembers and the devices that are there."""

from __future__ import annotations

from datetime import timedelta

from controller.reconcile.values import family_of, result_of

HOUR = timedelta(hours=1)
OLD = timedelta(days=200)


class World:
    """A fleet of 100 old devices in line-a under waves 1, 10 %, 100 %, with jobs as AWS remembers them."""

    def __init__(self, make, *, number=100, waves=("1", "10%", "100%"), policy=None, **rollout):
        self.make = make
        settings = {"abort": (make.abort(20, 5),), "soak": 24 * HOUR} | rollout
        self.policy = policy or make.policy(rollout=make.rollout(waves, **settings))
        self.desired = make.desired(self.policy)
        self.family = family_of(self.policy, self.desired.authorities)
        self.kind = result_of(make.certificate(), self.policy, self.desired, None).kind
        self.devices = {f"g{n:03d}": make.device(f"g{n:03d}", age=OLD) for n in range(number)}
        self.jobs = []
        self.options = {}

    def job_id(self, wave, tail="0000000001", family=None):
        part = f"w{wave}" if wave else "standing"
        return f"cf-line-a-{part}-{family or self.family}{self.kind}{tail[-6:]}"

    def wave(
        self, wave, statuses, *, ended=30 * HOUR, queued=None, tail="0000000001", status=None, healthy=True, **fields
    ):
        """A job whose executions stand as ``statuses`` says (name to status)."""
        job_id = self.job_id(wave, tail)
        asked = queued or ended + HOUR
        executions = {n: self.make.execution(job_id, s, queued=asked, updated=ended) for n, s in statuses.items()}
        is_open = {"QUEUED", "IN_PROGRESS", "PAUSED"} & set(statuses.values())
        state = status or ("IN_PROGRESS" if is_open else "COMPLETED")
        self.jobs.append(self.make.job(job_id, executions, status=state, age=asked, **fields))
        for name, execution in executions.items():
            if execution.status.value == "SUCCEEDED" and healthy:
                self.devices[name] = self.make.device(name, age=ended)
            elif not execution.status.is_terminal and is_open and state == "IN_PROGRESS":
                self.devices[name] = self.make.replace(self.devices[name], executions=(execution,))
            elif execution.status.value in {"FAILED", "TIMED_OUT", "REJECTED"}:
                self.devices[name] = self.make.replace(self.devices[name], failures=(execution,))
        return self

    def earlier(self, job_id, executions):
        self.jobs.append(self.make.job(job_id, executions, status="COMPLETED"))
        return self

    def plan(self, **options):
        state = self.make.state(*self.jobs, group_sizes={"line-a": len(self.devices)})
        return self.make.plan(list(self.devices.values()), self.desired, state, **self.options, **options)


def names(statuses, status, start=0):
    return {f"g{n:03d}": status for n in range(start, start + statuses)}
