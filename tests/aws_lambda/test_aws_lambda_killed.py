"""``kill -9`` of a function in the middle of a fleet: the others are unharmed, the next run goes on there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from aws_lambda_machines import Machines

SCRIPT = Path(__file__).with_name("killed_function.py")
DEVICES = 6


class Killing:
    """Runs functions as processes; once, the one that describes DEVICES / 2 certificates of a region is killed there.

    ``fleets`` is how many regions it must have begun with by then.
    """

    def __init__(self, sites):
        self.fleets, self.killed = 1, []  # the region in whose middle it was
        self._processes, self._described = {}, Counter()  # by region
        self._regions = {site.cloud.site.region: site.cloud.endpoint_url for site in sites}
        for site in sites:
            self._listen(site.cloud)

    def _listen(self, cloud):
        api, region = cloud.services["iot"], cloud.site.region
        find = api._method

        def method(operation):
            self._described[region] += operation == "DescribeCertificate"
            is_there = self._described[region] == DEVICES // 2 and len(+self._described) >= self.fleets
            if is_there and not self.killed:
                self.killed.append(region)
                os.kill(self._processes[region].pid, signal.SIGKILL)
            return find(operation)

        api._method = method

    def run(self, event, *regions):
        """What the function answered; RuntimeError, as Lambda has it, if it was killed."""
        path = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, SCRIPT, json.dumps(self._regions), json.dumps(event)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}) as process:
            self._processes |= dict.fromkeys(regions or self._regions, process)
            out, _ = process.communicate(timeout=600)
        if process.returncode == -signal.SIGKILL:
            raise RuntimeError("Runtime exited with error: signal: killed")
        assert process.returncode == 0, out
        return json.loads(out.splitlines()[-1])


@pytest.fixture
def killing(site, two_fleets):
    for plant in (site, two_fleets):
        for number in range(DEVICES):
            plant.device(f"old-{number}", age=200)
    return Killing((site, two_fleets))


def test_the_single_function_killed_in_its_second_fleet_has_done_the_first_and_goes_on_there(killing, site, two_fleets):
    killing.fleets = 2
    with pytest.raises(RuntimeError):
        killing.run({})
    plants = {plant.cloud.site.region: plant for plant in (site, two_fleets)}
    killed = plants[killing.killed[0]]
    [done] = [plant for plant in plants.values() if plant is not killed]
    assert (len(done.jobs()), killed.jobs()) == (1, [])
    killing.run({})
    for plant in plants.values():
        [job] = plant.jobs()
        assert plant.has_ended(job)
        assert set(plant.rotations.values()) == {1}


@pytest.mark.soak  # in every run: its functions raise instead (test_aws_states_machine)
def test_one_of_the_machines_functions_killed_harms_no_other_fleet_and_its_fleet_is_begun_once_more(
    killing, site, two_fleets, monkeypatch
):
    regions = {"factory": [site.cloud.site.region], "elsewhere": [two_fleets.cloud.site.region]}

    def run(event, _context):
        return killing.run(event, *regions.get(event.get("fleet"), ()))

    monkeypatch.setattr("aws_lambda_machines.aws_states.handler", run)
    machines = Machines(site, monkeypatch)
    ran = machines.run()
    assert (ran.status, ran.output) == ("SUCCEEDED", {"failed": 0, "left": 0, "asked": 0})
    [killed] = killing.killed
    fleets = [fleet for _task, fleet in machines.invoked if fleet]
    assert sorted(fleets) == sorted(["factory", "elsewhere", *(name for name in regions if killed in regions[name])])
    assert (len(site.jobs()), len(two_fleets.jobs())) == (1, 1)
