"""The MQTT endpoint with clients that others wrote: paho for 3.1.1 and 5, awscrt, mosquitto."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta

import paho.mqtt.client as paho
import pytest
from awscrt import mqtt5 as crt
from awsiot import mqtt5_client_builder
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sandbox.bus import Message
from sandbox.edge.faults import Direction, Fault, delay, drop, duplicate, rewrite

VERSIONS = [paho.MQTTv311, paho.MQTTv5]
WAIT = 15


class Peer:
    """A paho client that remembers what happened to it."""

    def __init__(self, endpoint, issuer, credential, client_id, version, *, persistent=False, will=None, keep_alive=60):
        arguments = {"clean_session": not persistent} if version == paho.MQTTv311 else {}
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False, **arguments
        )
        context = ssl.create_default_context(cafile=str(issuer.ca_file))
        context.load_cert_chain(credential.certificate_file, credential.key_file)
        self.client.tls_set_context(context)
        self.changed = threading.Condition()
        self.connack = self.disconnected = None
        self.messages, self.subacks, self.unsubacks = [], [], []
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self._note(
            "connack", (reason, flags.session_present)
        )
        self.client.on_connect_fail = lambda _c, _u: self._note("disconnected", "refused")
        self.client.on_disconnect = lambda _c, _u, _f, reason, _p: self._note("disconnected", reason)
        self.client.on_message = lambda _c, _u, m: self._append(self.messages, (m.topic, m.payload, m.qos))
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self._append(self.subacks, codes)
        self.client.on_unsubscribe = lambda _c, _u, _m, codes, _p: self._append(self.unsubacks, codes)
        if will:
            self.client.will_set(*will)
        properties = None
        if version == paho.MQTTv5 and persistent:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600
        clean = {"clean_start": not persistent} if version == paho.MQTTv5 else {}
        try:
            self.client.connect("localhost", endpoint.port, keepalive=keep_alive, properties=properties, **clean)
        except OSError:  # refused while the handshake was under way
            self.client._reset_sockets()
            raise
        self.client.loop_start()

    def _note(self, name, value):
        with self.changed:
            setattr(self, name, value)
            self.changed.notify_all()

    def _append(self, to, value):
        with self.changed:
            to.append(value)
            self.changed.notify_all()

    def wait(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, WAIT), (self.connack, self.disconnected, self.messages)

    def up(self):
        self.wait(lambda: self.connack is not None)
        assert not self.connack[0].is_failure, self.connack
        return self

    def subscribe(self, *filters, qos=1):
        before = len(self.subacks)
        self.client.subscribe([(f, qos) for f in filters])
        self.wait(lambda: len(self.subacks) > before)
        return self.subacks[-1]

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # a pair that wakes its thread, which it leaves to the collector


@contextmanager
def peer(*arguments, **options):
    it = Peer(*arguments, **options)
    try:
        yield it
    finally:
        it.close()


@pytest.fixture
def gateway(issuer, registry):
    credential = issuer.issue("gateway")
    registry.register(credential)
    return credential


@pytest.mark.parametrize("version", VERSIONS)
def test_a_registered_device_connects_and_its_messages_reach_the_bus_with_its_certificate(
    endpoint, issuer, gateway, registry, recorder, version
):
    with peer(endpoint, issuer, gateway, "gateway", version) as device:
        device.up()
        registry.wait_for("connected", "gateway", certificate_id=gateway.certificate_id)
        device.client.publish("a/b", b"hello", qos=1).wait_for_publish(WAIT)
        message = recorder.wait_for("a/b")
        assert message == Message("a/b", b"hello", 1, gateway.certificate_id, "gateway")
        assert endpoint.connected_clients() == {"gateway": gateway.certificate_id}
    registry.wait_for("disconnected", "gateway")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_of_the_cloud_reaches_each_subscriber_once_at_the_lower_qos(
    endpoint, issuer, gateway, bus, version, qos
):
    with peer(endpoint, issuer, gateway, "gateway", version) as device:
        device.up().subscribe("a/+", "a/#", qos=qos)
        bus.publish(Message("a/b", b"1", 1))
        bus.publish(Message("end", b"", 1))
        bus.publish(Message("a/c", b"2", 0))
        device.wait(lambda: len(device.messages) >= 2)
        assert device.messages == [("a/b", b"1", qos), ("a/c", b"2", 0)]


@pytest.mark.parametrize("version", VERSIONS)
def test_unsubscribing_ends_the_messages_and_a_second_time_is_answered_too(endpoint, issuer, gateway, bus, version):
    with peer(endpoint, issuer, gateway, "gateway", version) as device:
        device.up().subscribe("a", "z")
        for count in (1, 2):
            device.client.unsubscribe("a")
            device.wait(lambda count=count: len(device.unsubacks) == count)
        bus.publish(Message("a", b"unheard", 1))
        bus.publish(Message("z", b"heard", 1))
        device.wait(lambda: device.messages)
        assert device.messages == [("z", b"heard", 1)]


@pytest.mark.parametrize(
    ("status", "registered"), [("INACTIVE", True), ("ACTIVE", False)], ids=["inactive", "deleted from the registry"]
)
def test_a_certificate_that_the_registry_does_not_hold_active_is_refused(
    endpoint, issuer, registry, status, registered
):
    credential = issuer.issue("gateway")
    registry.register(credential, status)
    if not registered:
        del registry.status[credential.certificate_id]
    with peer(endpoint, issuer, credential, "gateway", paho.MQTTv311) as device:
        device.wait(lambda: device.connack is not None)
        assert device.connack[0].is_failure
    assert registry.presence == []


def test_a_certificate_that_was_never_registered_does_not_pass_tls(endpoint, issuer, registry):
    stranger = issuer.issue("stranger")
    context = ssl.create_default_context(cafile=str(issuer.ca_file))
    context.load_cert_chain(stranger.certificate_file, stranger.key_file)
    with (
        socket.create_connection(("127.0.0.1", endpoint.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.settimeout(WAIT)
        answer = b""
        with suppress(ConnectionError):  # with TLS 1.3 a client learns of the refusal when it reads
            answer = tls.recv(1)
        assert answer == b""
    assert registry.presence == []


def test_an_expired_certificate_is_refused_by_the_sandbox_clock_though_it_is_active(endpoint, issuer, registry, clock):
    credential = issuer.issue("gateway", days=30)
    registry.register(credential)
    clock.advance(timedelta(days=31))
    with peer(endpoint, issuer, credential, "gateway", paho.MQTTv5) as device:
        device.wait(lambda: device.connack is not None)
        assert device.connack[0].is_failure


def test_a_certificate_issued_after_the_clock_moved_ahead_is_let_in(endpoint, issuer, registry, clock):
    clock.advance(timedelta(days=400))
    credential = issuer.issue("gateway", not_before=clock.now() - timedelta(minutes=1))
    registry.register(credential)
    with peer(endpoint, issuer, credential, "gateway", paho.MQTTv5) as device:
        device.up()


@pytest.mark.parametrize("version", VERSIONS)
def test_deactivating_the_certificate_drops_the_client_and_keeps_others(endpoint, issuer, gateway, registry, version):
    other = issuer.issue("other")
    registry.register(other)
    with (
        peer(endpoint, issuer, gateway, "gateway", version) as device,
        peer(endpoint, issuer, other, "other", version) as bystander,
    ):
        device.up()
        bystander.up()
        registry.deactivate(gateway.certificate_id)
        device.wait(lambda: device.disconnected is not None)
        registry.wait_for("disconnected", "gateway")
        assert list(endpoint.connected_clients()) == ["other"]


@pytest.mark.parametrize("version", VERSIONS)
def test_of_two_clients_with_one_id_the_newest_wins(endpoint, issuer, gateway, registry, version):
    with peer(endpoint, issuer, gateway, "gateway", version) as older:
        older.up()
        with peer(endpoint, issuer, gateway, "gateway", version) as newer:
            newer.up()
            older.wait(lambda: older.disconnected is not None)
            if version == paho.MQTTv5:
                assert older.disconnected.getName() == "Session taken over"
            assert newer.disconnected is None
            assert list(endpoint.connected_clients()) == ["gateway"]


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_wait_in_a_persistent_session_and_are_gone_with_a_clean_one(endpoint, issuer, gateway, bus, version):
    with peer(endpoint, issuer, gateway, "gateway", version, persistent=True) as device:
        device.up().subscribe("a")
        assert device.connack[1] is False
    bus.publish(Message("a", b"lost: QoS 0", 0))
    bus.publish(Message("a", b"kept", 1))
    with peer(endpoint, issuer, gateway, "gateway", version, persistent=True) as device:
        device.up()
        assert device.connack[1] is True
        device.wait(lambda: device.messages)
        assert device.messages == [("a", b"kept", 1)]
    with peer(endpoint, issuer, gateway, "gateway", version) as device:
        device.up()
        assert device.connack[1] is False
        device.subscribe("z")
        bus.publish(Message("a", b"unheard", 1))
        bus.publish(Message("z", b"heard", 1))
        device.wait(lambda: device.messages)
        assert device.messages == [("z", b"heard", 1)]


def test_a_persistent_session_ends_after_an_hour(endpoint, issuer, gateway, registry, clock):
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv311, persistent=True) as device:
        device.up()
    registry.wait_for("disconnected", "gateway")
    clock.advance(timedelta(minutes=61))
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv311, persistent=True) as device:
        assert device.up().connack[1] is False


@pytest.mark.parametrize("version", VERSIONS)
def test_publishing_what_no_policy_allows_ends_the_connection_and_reaches_nobody(
    endpoint, issuer, gateway, registry, recorder, version
):
    registry.denied.add(("iot:Publish", "topic/secret"))
    with peer(endpoint, issuer, gateway, "gateway", version) as device:
        device.up().client.publish("secret", b"x")
        device.wait(lambda: device.disconnected is not None)
    assert recorder.on("secret") == []


@pytest.mark.parametrize(
    "topic",
    [
        "$aws/events/presence/connected/gateway",
        "$aws/things/gateway/jobs/notify-next",
        "$aws/things/gateway/jobs/j1/update/accepted",
        "$SYS/x",
        "a/" * 8 + "b",
        "x" * 257,
    ],
)
def test_no_device_can_forge_what_the_cloud_says_or_exceed_the_limits_of_a_topic(
    endpoint, issuer, gateway, recorder, topic
):
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv311) as device:
        device.up().client.publish(topic, b"{}")
        device.wait(lambda: device.disconnected is not None)
    assert recorder.on(topic) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_subscription_is_told_and_the_connection_lives_on(endpoint, issuer, gateway, registry, bus, version):
    registry.denied.add(("iot:Subscribe", "topicfilter/secret"))
    with peer(endpoint, issuer, gateway, "gateway", version) as device:
        device.up()
        codes = device.subscribe("secret", "open")
        assert [code.is_failure for code in codes] == [True, False]
        bus.publish(Message("secret", b"x", 1))
        bus.publish(Message("open", b"y", 1))
        device.wait(lambda: device.messages)
        assert device.messages == [("open", b"y", 1)]


def test_what_may_not_be_received_is_not_delivered(endpoint, issuer, gateway, registry, bus):
    registry.denied.add(("iot:Receive", "topic/a/secret"))
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv5) as device:
        device.up().subscribe("a/#")
        bus.publish(Message("a/secret", b"x", 1))
        bus.publish(Message("a/open", b"y", 1))
        device.wait(lambda: device.messages)
        assert device.messages == [("a/open", b"y", 1)]


def test_a_connection_that_no_policy_allows_is_refused(endpoint, issuer, gateway, registry):
    registry.denied.add(("iot:Connect", "client/other"))
    with peer(endpoint, issuer, gateway, "other", paho.MQTTv5) as device:
        device.wait(lambda: device.connack is not None)
        assert device.connack[0].getName() == "Not authorized"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_will_is_published_when_the_client_is_lost_and_not_when_it_says_goodbye(
    endpoint, issuer, gateway, recorder, registry, version
):
    with peer(endpoint, issuer, gateway, "gateway", version, will=("will/polite", b"x", 1)) as device:
        device.up()
    registry.wait_for("disconnected", "gateway")
    with peer(endpoint, issuer, gateway, "gateway", version, will=("will/lost", b"x", 1)) as device:
        device.up()
        endpoint.interrupt("gateway")
        recorder.wait_for("will/lost")
    assert recorder.on("will/polite") == []


def test_a_silent_client_is_dropped_after_one_and_a_half_keep_alives(endpoint, issuer, gateway, registry):
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv5, keep_alive=1) as device:
        device.up()
        device.client.loop_stop()  # no more pings
        started = time.monotonic()
        registry.wait_for("disconnected", "gateway")
        assert 0.3 < time.monotonic() - started < 4


def test_a_client_without_an_id_gets_one(endpoint, issuer, gateway, registry):
    with peer(endpoint, issuer, gateway, "", paho.MQTTv5) as device:
        device.up()
        with registry.changed:  # presence is told after the client has been
            assert registry.changed.wait_for(lambda: registry.presence, 15)
        assert registry.presence[0][2].startswith("$GEN/")


def test_a_blocked_client_is_offline_until_it_is_unblocked(endpoint, issuer, gateway):
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv5) as device:
        device.up()
        endpoint.block("gateway")
        device.wait(lambda: device.disconnected is not None)
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv5) as device:
        device.wait(lambda: device.connack is not None)
        assert device.connack[0].is_failure
    endpoint.unblock("gateway")
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv5) as device:
        device.up()


JOBS_REQUESTS = {
    "get all": ("get", {}, "get/accepted", {"inProgressJobs": [], "queuedJobs": []}),
    "start the next": ("start-next", {}, "start-next/accepted", {"execution": {"jobId": "j1"}}),
    "get the next": ("$next/get", {}, "$next/get/accepted", {"execution": {"jobId": "j1"}}),
    "a nucleus asks for its deployments": (
        "$next/namespace-aws-gg-deployment/get",
        {},
        "$next/namespace-aws-gg-deployment/get/accepted",
        {},
    ),
    "a nucleus reports on a deployment that is not there": (
        "j1/namespace-aws-gg-deployment/update",
        {"status": "SUCCEEDED"},
        "j1/namespace-aws-gg-deployment/update/rejected",
        {"code": "ResourceNotFound"},
    ),
    "update": ("j1/update", {"status": "SUCCEEDED"}, "j1/update/accepted", {}),
    "rejected": (
        "j1/update",
        {"status": "NONSENSE"},
        "j1/update/rejected",
        {"code": "InvalidRequest", "message": "status NONSENSE is unknown"},
    ),
    "not an object": ("j1/update", [], "j1/update/rejected", {"code": "InvalidRequest"}),
}


@pytest.mark.parametrize("case", JOBS_REQUESTS)
def test_jobs_requests_are_answered_to_the_client_that_asked_alone(endpoint, issuer, gateway, jobs, recorder, case):
    request, payload, answer, expected = JOBS_REQUESTS[case]
    jobs.executions["gateway"] = {"jobId": "j1"}
    prefix = "$aws/things/gateway/jobs/"
    if isinstance(payload, dict):
        payload = payload | {"clientToken": "t1"}
        expected = expected | {"clientToken": "t1"}
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv5) as device:
        device.up().client.publish(prefix + request, json.dumps(payload))
        device.wait(lambda: device.messages)
        topic, body, _ = device.messages[0]
        assert topic == prefix + answer
        assert expected.items() <= json.loads(body).items()
        assert "timestamp" in json.loads(body)
    assert recorder.on(prefix + answer) == []


def test_a_jobs_service_that_fails_leaves_the_connection_alone(endpoint, issuer, gateway, jobs):
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv5) as device:
        device.up().client.publish("$aws/things/gateway/jobs/broken/update", b"{}")
        device.client.publish("$aws/things/gateway/jobs/j1/update", b"no json")
        device.wait(lambda: device.messages)
        assert json.loads(device.messages[0][1])["code"] == "InvalidJson"


FAULTS = {
    "lost": (drop(), []),
    "doubled": (duplicate(), [b"1", b"1"]),
    "late": (delay(0.05), [b"1"]),
    "changed": (rewrite(lambda payload: payload[::-1] + b"!"), [b"1!"]),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("direction", Direction)
def test_faults_strike_the_messages_they_name(endpoint, issuer, gateway, bus, case, direction):
    effect, expected = FAULTS[case]
    fault = endpoint.faults.add(Fault("a/+", effect, direction, "gateway", times=1))
    with peer(endpoint, issuer, gateway, "gateway", paho.MQTTv5) as device:
        device.up().subscribe("a/b", "end")
        device.client.publish("a/b", b"1", qos=1)
        device.wait(lambda: len(device.messages) >= len(expected))
        device.client.publish("end", b"", qos=1)
        device.wait(lambda: device.messages[-1:] == [("end", b"", 1)])
        assert [payload for topic, payload, _ in device.messages if topic == "a/b"] == expected
        assert fault.struck == 1
        endpoint.faults.clear()
        device.client.publish("a/b", b"healed", qos=1)
        device.wait(lambda: device.messages[-1:] == [("a/b", b"healed", 1)])


def test_the_client_that_greengrass_uses_connects_publishes_and_subscribes(endpoint, issuer, gateway, recorder, bus):
    received, up, down = [], threading.Event(), threading.Event()
    client = mqtt5_client_builder.mtls_from_path(
        str(gateway.certificate_file),
        str(gateway.key_file),
        endpoint="localhost",
        port=endpoint.port,
        ca_filepath=str(issuer.ca_file),
        client_id="gateway",
        on_publish_received=lambda data: received.append(data.publish_packet),
        on_lifecycle_connection_success=lambda _: up.set(),
        on_lifecycle_stopped=lambda _: down.set(),
    )
    client.start()
    assert up.wait(WAIT)
    subscription = crt.SubscribePacket([crt.Subscription("a/#", crt.QoS.AT_LEAST_ONCE)])
    assert client.subscribe(subscription).result(WAIT).reason_codes == [crt.SubackReasonCode.GRANTED_QOS_1]
    client.publish(crt.PublishPacket(topic="a/b", payload=b"x", qos=crt.QoS.AT_LEAST_ONCE)).result(WAIT)
    recorder.wait_for("a/b")
    bus.publish(Message("a/c", b"y", 1))
    deadline = time.monotonic() + WAIT
    while len(received) < 2 and time.monotonic() < deadline:
        down.wait(0.01)
    assert [(p.topic, p.payload) for p in received] == [("a/b", b"x"), ("a/c", b"y")]
    client.stop()
    assert down.wait(WAIT)


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_the_mosquitto_clients_publish_and_subscribe(endpoint, issuer, gateway, registry, version):
    common = ["-h", "localhost", "-p", str(endpoint.port), "-V", version, "--cafile", str(issuer.ca_file)]
    common += ["--cert", str(gateway.certificate_file), "--key", str(gateway.key_file), "-q", "1"]
    with subprocess.Popen(
        ["stdbuf", "-oL", "mosquitto_sub", *common, "-i", "sub", "-t", "a/#", "-C", "1", "-W", "15", "-d"],
        stdout=subprocess.PIPE,
        text=True,
    ) as subscriber:
        assert any("SUBACK" in line for line in iter(subscriber.stdout.readline, ""))
        subprocess.run(["mosquitto_pub", *common, "-i", "pub", "-t", "a/b", "-m", "hello"], check=True, timeout=15)
        assert "hello\n" in subscriber.stdout.read()
        assert subscriber.wait(15) == 0
