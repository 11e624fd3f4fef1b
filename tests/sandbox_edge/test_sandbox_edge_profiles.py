"""Each trait of the nuclei, played against the stand-in; the table itself is the page of the documentation."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sandbox_edge_device import ECHO, wait_until

from sandbox.bus import Message
from sandbox.clock import SandboxClock
from sandbox.edge import Component, ConfigurationUpdate, LifecycleState, Nucleus, Profile, Provisioning, provision
from sandbox.edge.nucleus import effective_config, traits, traits_page
from sandbox.edge.nucleus.budget import FailureBudget
from sandbox.edge.nucleus.recipe import RecipeError, load_recipe

PAGE = Path(__file__).parents[2] / "docs" / "nuclei.md"
LITE = [Profile.LITE_2_6, Profile.LITE_MAIN]
NOW = datetime(2026, 11, 29, tzinfo=UTC)


def test_the_page_of_the_documentation_is_made_from_the_table():
    assert PAGE.read_text() == traits_page.page(), "run: python -m sandbox.edge.nucleus.traits_page > docs/nuclei.md"


@pytest.mark.parametrize("name", traits.TABLE)
def test_a_trait_says_how_it_is_known_and_each_profile_has_its_value(name):
    trait = traits.TABLE[name]
    assert any(word in trait.known for word in ("Seen", "Read", "Assumed"))
    for profile in Profile:
        trait.on(profile)


PLAYED = {  # by these tests, here or in the other files of this folder
    "MAX_COUNTED": "test_a_component_that_ends_three_times_is_broken_and_stays_so",
    "COUNTED": "test_on_lite_the_fourth_start_within_an_hour_is_refused_whoever_asks",
    "INSTALL": "test_on_lite_a_restart_runs_the_install_step_beside_the_run_step",
    "INSTALL_LIMIT": "test_an_install_step_that_says_nothing_of_time_has_two_minutes",
    "COMPONENT_USER": "test_what_needs_no_privilege_runs_as_its_own_user_where_that_is_possible",
    "ARTIFACT_OWNER": "test_what_needs_no_privilege_runs_as_its_own_user_where_that_is_possible",
    "RESTART_SECONDS": "test_a_restart_takes_its_time_by_the_worlds_clock",
    "RESTART_KEEPS_COMPONENT": "test_a_restart_of_iotcored_drops_subscriptions_and_nobody_is_told",
    "ENDS_FIRST": "test_a_restart_ends_what_the_component_has_started_before_the_component_itself",
    "FORGETS_SUBSCRIPTIONS": "test_a_restart_of_iotcored_drops_subscriptions_and_nobody_is_told",
    "SUBSCRIBING_OFFLINE": "test_on_classic_a_request_to_subscribe_waits_until_the_device_is_online_for_the_first_time",
    "PUBLISHING_OFFLINE": (
        "test_a_device_cut_off_can_ask_for_nothing_is_back_late_and_never_hears_what_was_said_meanwhile"
    ),
    "ANSWERS_BEFORE_SUBACK": "test_who_tells_that_the_broker_refused_a_subscription",
    "FORGETS_ANEW": "test_on_classic_a_subscription_made_anew_before_the_end_of_the_old_one_is_through_is_none",
    "ERROR_ENDS_STREAM": "test_each_mistake_has_its_error_and_ends_its_stream_alone",
    "ERROR_MEMBERS": "test_where_the_sdk_finds_the_message_of_an_error",
    "TERMINATES_RESPONSES": "test_on_lite_a_response_leaves_its_stream_open_and_an_error_has_two_members",
    "SCALARS_ARE_TEXT": "test_every_scalar_of_a_yaml_recipe_is_text_on_lite",
    "FILLS_IN_ACCESS_CONTROL": "test_where_variables_count_in_access_control_depends_on_the_nucleus",
    "FILLS_IN_CONFIGURATION": "test_configuration_is_read_whole_and_by_path_with_variables_as_they_stand",
    "WILDCARDS": "test_access_control_of_the_recipe_is_honoured",
    "MAX_RECIPE_BYTES": "test_a_recipe_that_is_too_long_for_lite_is_refused",
    "UPGRADE": "test_an_upgrade_installs_beside_the_old_process_on_lite_and_brings_changed_defaults_there_only",
    "KEEPS_SESSION": "test_a_device_cut_off_can_ask_for_nothing_is_back_late_and_never_hears_what_was_said_meanwhile",
    "RECONNECT_SECONDS": "test_an_offline_device_gets_its_deployment_when_it_returns",
    "MAX_PACKET_BYTES": "test_what_is_too_large_for_lite_never_arrives",
    "MAX_FRAME_BYTES": "test_on_lite_a_message_that_is_too_long_costs_the_whole_connection",
    "REFUSES_EMPTY_PAYLOAD": "test_a_publish_without_payload_is_refused_by_classic_alone",
    "VALIDATES": "test_on_nucleus_lite_nothing_validates_and_a_deployment_is_stored_at_once",
    "OPERATIONS_REFUSED": "test_what_the_nucleus_lacks_is_an_error_and_a_state_is_taken",
    "ASKS_BEFORE_UPDATE": "test_a_deployment_asks_who_listens_again_after_each_deferral_until_it_may_go_on",
    "CREDENTIAL_PATHS": "test_a_fleet_provisioned_classic_knows_its_credential_but_does_not_write_where_it_is",
    "TOKENS": "test_a_credential_in_a_token_rotates_too",
    "READS_CREDENTIAL": "test_nucleus_lite_reads_its_files_for_each_new_connection_and_keeps_the_component",
    "RESTARTS_DEPENDENTS": "test_other_components_that_depend_on_the_token_exchange_die_with_its_third_restart_on_lite",
    "ASKS_BY_ITSELF": "test_jobs_requests_are_answered_to_the_client_that_asked_alone",
    "LOGS": "test_a_component_runs_by_its_recipe_and_talks_through_the_nucleus",
}


def test_every_trait_is_played_by_a_test():
    texts = [file.read_text() for file in Path(__file__).parent.glob("test_*.py")]
    assert set(PLAYED) == set(traits.TABLE)
    assert [name for name in PLAYED.values() if not any(f"def {name}(" in text for text in texts)] == []


# What is held against a component -----------------------------------------------------------------


class Hours:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now

    def pass_(self, **span):
        self.now += timedelta(**span)


def test_on_classic_the_third_error_within_an_hour_is_the_last():
    hours = Hours()
    budget = FailureBudget(Profile.CLASSIC, hours)
    for _ in range(5):  # an error now and then never ends it
        assert budget.may_start()
        budget.failed()
        hours.pass_(minutes=31)
    for _ in range(2):
        assert budget.may_start()
        budget.failed()
    assert not budget.may_start()
    budget.launched()
    assert budget.may_start()


@pytest.mark.parametrize("profile", LITE)
def test_on_lite_the_fourth_start_within_an_hour_is_refused_whoever_asks(profile):
    hours = Hours()
    budget = FailureBudget(profile, hours)
    assert [budget.may_start() for _ in range(4)] == [True, True, True, False]
    hours.pass_(hours=1)
    assert budget.may_start()


@pytest.mark.parametrize("profile", LITE)
def test_on_lite_a_restart_of_everything_forgives_starts_but_not_failed_installs(profile):
    budget = FailureBudget(profile, Hours())
    assert [budget.may_install_again() for _ in range(2)] == [True, True]
    for _ in range(3):
        assert budget.may_start()
    budget.launched()
    assert budget.may_start()
    assert not budget.may_install_again()


# A component of two lines of shell ------------------------------------------------------------------


class Device:
    """A nucleus of its own with a component that writes down what happens to it."""

    def __init__(self, root, issuer):
        self.root, self.issuer = root, issuer
        self.nucleus = None
        self.clock = SandboxClock(skips_waits=True)

    @property
    def work(self):
        return self.root / "work" / "com.example.Shell"

    def component(self, version="1.0.0", *, run="sleep 300", install="true", timeout=60, **component):
        recipe = self.root / f"recipe-{version}.yaml"
        recipe.write_text(
            yaml.safe_dump({
                "ComponentName": "com.example.Shell",
                "ComponentVersion": version,
                "Manifests": [
                    {
                        "Platform": {"os": "linux", "runtime": "*"},
                        "Lifecycle": {
                            "install": {"Script": f"echo install >> log; {install}", "Timeout": timeout},
                            "run": {"Script": f"echo run >> log; {run}", "RequiresPrivilege": True},
                        },
                    }
                ],
                "ComponentConfiguration": {"DefaultConfiguration": {"changed": version}},
            })
        )  # fmt: skip
        return Component(recipe, self.root, run_install=True, **component)

    def start(self, profile, *, restart_takes=timedelta(), **component):
        provision(self.root, Provisioning("shell", "localhost", 1, self.issuer.ca_file, profile=profile))
        self.nucleus = Nucleus(
            self.root, self.component(**component), profile=profile, clock=self.clock, restart_takes=restart_takes
        )
        self.nucleus.start()
        return self.nucleus

    def wait_log(self, *steps):
        """Wait until the steps have run, in whatever order."""
        wait_until(lambda: sorted(self.log()) == sorted(steps))

    def log(self):
        return (self.work / "log").read_text().split() if (self.work / "log").exists() else []


@pytest.fixture
def device(tmp_path, issuer):
    device = Device(tmp_path, issuer)
    yield device
    if device.nucleus:
        device.nucleus.stop()


@pytest.mark.parametrize("profile", Profile)
def test_a_component_that_ends_three_times_is_broken_and_stays_so(device, profile):
    nucleus = device.start(profile, run="exit 1")
    assert nucleus.wait_component(LifecycleState.BROKEN)
    device.clock.advance(timedelta(hours=2))
    assert (nucleus.component_state, device.log()) == (LifecycleState.BROKEN, ["install", "run", "run", "run"])
    nucleus.restart()
    device.wait_log(*["install"] * 2, *["run"] * 6)
    assert nucleus.wait_component(LifecycleState.BROKEN)


def test_a_component_whose_errors_lie_apart_is_started_for_ever(device):
    nucleus = device.start(Profile.CLASSIC, run="while ! rm die; do sleep 0.02; done 2>/dev/null; exit 1")
    for starts in range(1, 7):
        device.wait_log("install", *["run"] * starts)
        device.clock.advance(timedelta(minutes=31))
        (device.work / "die").touch()
    assert nucleus.component_state is LifecycleState.RUNNING


@pytest.mark.parametrize("profile", Profile)
def test_an_install_step_that_fails_is_tried_three_times_and_nothing_is_run(device, profile):
    nucleus = device.start(profile, install="exit 1")
    assert nucleus.wait_component(LifecycleState.BROKEN)
    assert device.log() == ["install"] * 3


def test_an_install_step_that_takes_too_long_has_failed(device):
    nucleus = device.start(Profile.CLASSIC, install="sleep 300", timeout=0.1)
    assert nucleus.wait_component(LifecycleState.BROKEN)
    assert device.log() == ["install"] * 3


def test_an_install_step_that_says_nothing_of_time_has_two_minutes(device):
    component = device.start(Profile.CLASSIC, timeout=None)
    assert component._installation.launch(dict, beside=False).install.limit == traits.INSTALL_LIMIT.classic == 120


def test_on_classic_the_install_step_runs_at_every_launch_before_the_run_step(device):
    nucleus = device.start(Profile.CLASSIC)
    for launches in range(1, 4):
        device.wait_log(*["install", "run"] * launches)
        assert device.log() == ["install", "run"] * launches
        nucleus.restart()


@pytest.mark.parametrize("profile", LITE)
def test_on_lite_a_restart_runs_the_install_step_beside_the_run_step(device, profile):
    nucleus = device.start(profile, install="test -e once || exec touch once; exec sleep 300")
    device.wait_log("install", "run")
    nucleus.restart()  # from now on the install step never ends
    device.wait_log("install", "install", "run", "run")


@pytest.mark.parametrize("profile", Profile)
def test_a_restart_takes_its_time_by_the_worlds_clock(device, profile):
    nucleus = device.start(profile, restart_takes=timedelta(seconds=30))
    assert device.clock.ahead == timedelta()
    nucleus.restart()
    assert device.clock.ahead == timedelta(seconds=30)


def test_a_restart_ends_what_the_component_has_started_before_the_component_itself(device):
    helper = "trap 'echo helper >> log; exit' TERM; echo ready >> log; while :; do sleep 0.05; done"
    own = "trap 'echo own >> log; exit 143' TERM; while :; do sleep 0.05; done"
    nucleus = device.start(Profile.CLASSIC, run=f'setsid sh -c "{helper}" & {own}')
    device.wait_log("install", "run", "ready")
    nucleus.restart()
    assert device.log()[3:5] == ["helper", "own"]


def test_what_needs_no_privilege_runs_as_its_own_user_where_that_is_possible(device):
    if os.geteuid():  # then everything is run as who we are
        device.start(Profile.CLASSIC, install="id -un > who")
        device.wait_log("install", "run")
        return
    shared = Path(tempfile.mkdtemp(prefix="gg-", dir="/tmp"))
    shared.chmod(0o755)  # the test's own folder is root's alone
    try:
        device.root = shared
        (shared / "archive.zip").touch()
        who = "id -un > who; touch mine; test -w {artifacts:path}/archive.zip && touch may-change"
        device.start(Profile.CLASSIC, install=who, user="nobody", archive=shared / "archive.zip")
        device.wait_log("install", "run")
        assert (device.work / "who").read_text() == "nobody\n"
        assert {path.name: path.owner() for path in device.work.glob("m*")} == {
            "mine": "nobody",
            "may-change": "nobody",
        }
        device.nucleus.stop()
    finally:
        shutil.rmtree(shared)


@pytest.mark.parametrize("profile", LITE)
def test_a_recipe_that_is_too_long_for_lite_is_refused(device, profile):
    with pytest.raises(RecipeError, match="takes at most 8195"):
        device.start(profile, run=f"exit 1 # {'x' * 9000}")


@pytest.mark.parametrize("profile", Profile)
def test_an_upgrade_installs_beside_the_old_process_on_lite_and_brings_changed_defaults_there_only(device, profile):
    is_lite = profile is not Profile.CLASSIC
    nucleus = device.start(profile, run="echo $$ > pid; sleep 300")
    device.wait_log("install", "run")
    nucleus.upgrade(device.component("1.0.1", install="kill -0 $(cat pid) && echo beside >> log; true"))
    device.wait_log(*["install", "run"] * 2, *["beside"] * is_lite)
    assert (nucleus.recipe.version, nucleus.component_state) == ("1.0.1", LifecycleState.RUNNING)
    assert nucleus.get("com.example.Shell") == {"changed": "1.0.1" if is_lite else "1.0.0"}


@pytest.mark.parametrize("profile", Profile)
def test_other_components_that_depend_on_the_token_exchange_die_with_its_third_restart_on_lite(device, profile):
    nucleus = device.start(profile)
    dependent = nucleus.add_dependent("com.example.Other")
    for _ in range(2):
        nucleus._loop.run(nucleus._restart_unit("ggl.core.tesd.service"))
    assert dependent.is_running
    nucleus._loop.run(nucleus._restart_unit("ggl.core.tesd.service"))
    assert dependent.is_running is (profile is Profile.CLASSIC)


@pytest.mark.parametrize("profile", LITE)
def test_every_scalar_of_a_yaml_recipe_is_text_on_lite(tmp_path, profile):
    (tmp_path / "r.yaml").write_text(
        "ComponentName: x\nComponentConfiguration: {DefaultConfiguration: {n: 10, t: true, l: [1], e: [], m: {}}}\n"
        "Manifests: [{Platform: {os: linux, runtime: '*'}}]\n"
    )
    text = traits.SCALARS_ARE_TEXT.on(profile)
    found = load_recipe(tmp_path / "r.yaml", profile.variant, scalars_are_text=text).default_configuration
    assert found == {"n": "10", "t": "true", "l": ["1"], "e": [], "m": {}}


def test_an_hour_of_sleep_by_a_clock_that_runs_is_cut_short_when_it_is_moved():
    clock = SandboxClock()

    async def sleeps():
        sleeper = asyncio.create_task(clock.sleep(timedelta(hours=1)))
        await asyncio.sleep(0)  # it has begun
        clock.advance(timedelta(hours=1))
        await asyncio.wait_for(sleeper, 60)

    asyncio.run(sleeps())


def test_nothing_is_written_for_a_device_whose_configuration_is_there(device):
    nucleus = device.start(Profile.CLASSIC)
    before = nucleus.config.path.stat().st_mtime_ns
    nucleus.restart()
    assert nucleus.config.path.stat().st_mtime_ns == before


# Where the configuration stands ---------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1), JSON, max_size=4))
def test_the_last_line_of_the_log_for_each_path_counts(document):
    assert effective_config._folded("\n".join(map(json.dumps, effective_config._lines([], document)))) == document


def snapshot(root):
    return yaml.safe_load((root / "config" / "effectiveConfig.yaml").read_text())


def test_a_fleet_provisioned_classic_knows_its_credential_but_does_not_write_where_it_is(core):
    nucleus = core.start(by_fleet=True)
    assert nucleus.config.system()["privateKeyPath"] == f"file://{core.key}"
    for _ in range(2):
        assert (snapshot(core.root)["system"]["privateKeyPath"], nucleus.is_connected) == ("", True)
        nucleus.restart()
        assert nucleus.wait_connected()


def test_what_classic_writes_for_others_is_as_old_as_its_launch(core):
    nucleus = core.start()
    assert nucleus.deploy(ConfigurationUpdate("d", {"greeting": "hi"})).status == "SUCCEEDED"
    assert snapshot(core.root)["services"][ECHO]["configuration"]["greeting"] == "hello"
    nucleus.restart()
    assert snapshot(core.root)["services"][ECHO]["configuration"]["greeting"] == "hi"


@pytest.mark.parametrize("profile", LITE)
def test_lite_writes_its_configuration_for_nobody(core, profile):
    nucleus = core.start(profile=profile)
    assert not (core.root / "config" / "effectiveConfig.yaml").exists()
    assert nucleus.system("thingName") == "core1"


# With a component that speaks over IPC: see conftest.py ---------------------------------------------


@pytest.mark.parametrize("profile", LITE)
def test_a_restart_of_iotcored_drops_subscriptions_and_nobody_is_told(core, profile):
    nucleus = core.start(profile=profile)
    core.tell("systemctl", None, arguments=["restart", "ggl.core.iotcored.service"])
    assert nucleus.wait_connected(connections=2)
    core.tell_in_file("publish", topic="echo/core1/alive")  # it runs, its publishing works, its streams stand
    core.recorder.wait_for("echo/core1/alive")
    assert core.subscriptions() == set()
    assert nucleus.component_starts == 1


@pytest.mark.parametrize("profile", LITE)
def test_on_lite_the_network_may_come_and_go(core, profile):
    nucleus = core.start(profile=profile)
    core.endpoint.interrupt("core1")
    assert nucleus.wait_connected(connections=2)
    wait_until(lambda: core.subscriptions() == {"echo/core1/do"})


@pytest.mark.parametrize("profile", Profile)
def test_who_tells_that_the_broker_refused_a_subscription(core, registry, profile):
    registry.denied.add(("iot:Subscribe", "topicfilter/deep/secret"))
    core.start(profile=profile)
    if profile is Profile.CLASSIC:
        assert core.tell("subscribe", "error", topic="deep/secret")["name"] == "ServiceError"
    else:
        core.tell("subscribe", "done", topic="deep/secret")
    assert core.subscriptions() == {"echo/core1/do"}


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("profile", [Profile.CLASSIC, Profile.LITE_2_6])
def test_on_classic_a_subscription_made_anew_before_the_end_of_the_old_one_is_through_is_none(core, profile, beside):
    """It stands if it is made first: ``beside`` the old one."""
    core.start(profile=profile)
    core.tell("renew", topic="echo/core1/watched", beside=beside)
    stands = {"echo/core1/watched"} if beside or profile is not Profile.CLASSIC else set()
    wait_until(lambda: core.subscriptions() == {"echo/core1/do"} | stands)


@pytest.mark.parametrize("profile", Profile)
def test_where_the_sdk_finds_the_message_of_an_error(core, profile):
    core.start(profile=profile)
    answer = core.tell("subscribe", "error", topic="not/allowed")
    assert answer["name"] == "UnauthorizedError"
    assert (answer["message"] is None) is (profile is not Profile.CLASSIC)


@pytest.mark.parametrize(("profile", "padding", "is_heard"), [
    (Profile.LITE_2_6, 4_700, True),
    (Profile.LITE_2_6, 5_000, False),
    (Profile.CLASSIC, 20_000, True),
])  # fmt: skip
def test_what_is_too_large_for_lite_never_arrives(core, profile, padding, is_heard):
    core.start(profile=profile)
    order = {"do": "publish", "topic": "echo/core1/large", "padding": "x" * padding}
    core.bus.publish(Message("echo/core1/do", json.dumps(order).encode(), 1))
    core.tell("publish", topic="echo/core1/small")
    if is_heard:
        core.recorder.wait_for("echo/core1/large")
    else:
        assert core.recorder.on("echo/core1/large") == []


@pytest.mark.parametrize("profile", Profile)
def test_a_device_cut_off_can_ask_for_nothing_is_back_late_and_never_hears_what_was_said_meanwhile(core, profile):
    nucleus = core.start(profile=profile)
    nucleus.disconnect()
    for request in ("subscribe", "publish"):
        core.tell_in_file(request, topic="echo/core1/missed")
        wait_until(lambda: (core.outcome() or {}).get("name") == "ServiceError")
    order = json.dumps({"do": "publish", "topic": "echo/core1/missed"})
    core.bus.publish(Message("echo/core1/do", order.encode(), 1))
    nucleus.connect()
    assert core.clock.ahead == timedelta(seconds=traits.RECONNECT_SECONDS.on(profile))
    assert nucleus.wait_connected(connections=2)
    wait_until(lambda: core.subscriptions() == {"echo/core1/do"})
    core.tell("publish", topic="echo/core1/heard")
    assert core.recorder.on("echo/core1/missed") == []


def test_on_classic_a_request_to_subscribe_waits_until_the_device_is_online_for_the_first_time(core):
    nucleus = core.build(profile=Profile.CLASSIC)
    nucleus.disconnect()
    nucleus.start()
    wait_until(lambda: nucleus.asked("SubscribeToIoTCore") == 1)  # its very first request; there is no answer
    assert (core.subscriptions(), nucleus.component_state) == (set(), LifecycleState.RUNNING)
    nucleus.connect()
    core.heard("ready")
    assert core.subscriptions() == {"echo/core1/do"}
