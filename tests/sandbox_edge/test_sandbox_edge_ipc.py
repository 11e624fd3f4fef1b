"""Greengrass IPC framing against botocore's decoder, and the rules of access control."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st
from sandbox_edge_device import wait_until

from sandbox.edge.loop_thread import LoopThread
from sandbox.edge.nucleus.access import MQTT_SERVICE, is_allowed
from sandbox.edge.nucleus.eventstream import Frame, FramingError, decode, encode, remaining_bytes
from sandbox.edge.nucleus.iot_core import IotCore
from sandbox.edge.nucleus.ipc_server import ConfigurationReply, IpcServer
from sandbox.edge.nucleus.pkcs11_credential import TokenError, label_of
from sandbox.edge.nucleus.recipe import RecipeError, Variant, interpolate, load_recipe, merge, reset
from sandbox.edge.nucleus.traits import Profile

_values = st.one_of(st.booleans(), st.integers(-(2**31), 2**31 - 1), st.text(max_size=20), st.binary(max_size=20))
_frames = st.builds(
    Frame, st.dictionaries(st.text(min_size=1, max_size=10), _values, max_size=5), st.binary(max_size=100)
)


def read(raw):
    assert remaining_bytes(raw[:12]) == len(raw) - 12
    return decode(raw[:12], raw[12:])


@given(_frames)
def test_botocore_reads_what_we_write_and_so_do_we(frame):
    raw = encode(frame)
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    (event,) = list(buffer)
    assert (event.headers, event.payload) == (dict(frame.headers), frame.payload)
    assert read(raw) == frame


def test_identifiers_travel_too():
    frame = Frame({"id": uuid.UUID(int=7)})
    assert read(encode(frame)) == frame


@given(_frames, st.data())
def test_one_changed_byte_is_noticed(frame, data):
    raw = bytearray(encode(frame))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FramingError):
        read_checked(bytes(raw))


def read_checked(raw):
    rest = remaining_bytes(raw[:12])
    if rest != len(raw) - 12:
        raise FramingError("it waits for bytes that do not come")
    return decode(raw[:12], raw[12:])


@given(st.binary(max_size=60))
def test_headers_of_any_bytes_are_read_or_called_wrong(headers):
    from zlib import crc32

    prelude = struct.pack("!II", 16 + len(headers), len(headers))
    prelude += struct.pack("!I", crc32(prelude))
    raw = prelude + headers + struct.pack("!I", crc32(prelude + headers))
    with contextlib.suppress(FramingError):
        assert isinstance(read_checked(raw), Frame)


class Configurations(dict):
    """Nothing is allowed, and the nucleus has one setting."""

    def access_control(self, component):
        return self.get(component, {}).get("accessControl")

    def system(self, key):
        return {"privateKeyPath": "/key.pem"}.get(key)


@pytest.fixture
def loop():
    loop = LoopThread("ipc-test")
    loop.start()
    yield loop
    loop.stop()


@pytest.fixture(params=[Profile.CLASSIC], ids=str)
def server(request, tmp_path, loop):
    iot_core = IotCore(loop.call, lambda _: None)
    server = IpcServer(tmp_path / "s", Configurations({"component": {"a": 1}}), iot_core, request.param)
    loop.run(server.start())
    yield server
    loop.run(server.stop())


CONNECT = {":message-type": 4, ":message-flags": 0, ":stream-id": 0, ":version": "0.1.0"}


class Client:
    """Speaks frames to the server, right or wrong."""

    def __init__(self, server, token=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(15)
        self.socket.connect(str(server.path))
        self.send(CONNECT, {"authToken": token or server.admit("component")})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, headers, payload=None):
        self.socket.sendall(encode(Frame(headers, json.dumps(payload).encode() if payload is not None else b"")))

    def request(self, stream, operation, payload=None):
        headers = {":message-type": 0, ":message-flags": 0, ":stream-id": stream}
        self.send(headers | {"operation": f"aws.greengrass#{operation}"}, payload or {})

    def receive(self):
        prelude = self._exactly(12)
        return decode(prelude, self._exactly(remaining_bytes(prelude)))

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data


def test_a_component_with_its_token_is_accepted_and_answered(server):
    with Client(server) as client:
        assert client.receive().headers == {":message-type": 5, ":message-flags": 1, ":stream-id": 0}
        client.request(1, "GetConfiguration")
        answer = client.receive()
        assert answer.headers["service-model-type"] == "aws.greengrass#GetConfigurationResponse"
        assert answer.headers[":content-type"] == "application/json"
        assert answer.headers[":message-flags"] == 2
        assert json.loads(answer.payload) == {"componentName": "component", "value": {"a": 1}}
        client.send({":message-type": 2, ":message-flags": 0, ":stream-id": 0})
        assert client.receive().headers[":message-type"] == 3


@pytest.mark.parametrize("server", [Profile.LITE_2_6], indirect=True)
def test_on_lite_a_response_leaves_its_stream_open_and_an_error_has_two_members(server):
    with Client(server) as client:
        client.receive()
        client.request(1, "GetConfiguration")
        assert client.receive().headers[":message-flags"] == 0
        for number, operation in enumerate(("SubscribeToValidateConfigurationUpdates", "DeferComponentUpdate"), 2):
            client.request(number, operation)
            error = client.receive()
            assert error.headers["service-model-type"] == "aws.greengrass#ServiceError"
            assert set(json.loads(error.payload)) == {"_message", "_errorCode"}


@pytest.fixture
def ask(server, loop):
    """A deployment that asks before it changes anything; it notes how long it waits each time, and does not."""
    waits = []

    async def sleep(span):
        waits.append(span.total_seconds())

    with ThreadPoolExecutor(1) as pool:

        def begin(limit=60.0):
            return pool.submit(loop.run, server.ask_before_update("component", "d-1", limit, sleep))

        begin.waits = waits
        yield begin


def listening(server):
    client = Client(server)
    client.receive()
    client.request(1, "SubscribeToComponentUpdates")
    assert client.receive().headers["service-model-type"] == "aws.greengrass#SubscribeToComponentUpdatesResponse"
    return client


def answer(client, stream, **request):
    client.request(stream, "DeferComponentUpdate", request)
    return client.receive().headers["service-model-type"].partition("#")[2]


def test_a_deployment_asks_who_listens_again_after_each_deferral_until_it_may_go_on(server, ask):
    with listening(server) as client:
        done = ask()
        for stream, milliseconds in ((2, 5000), (3, 0)):
            event = json.loads(client.receive().payload)
            assert event == {"preUpdateEvent": {"deploymentId": "d-1", "isGgcRestarting": False}}
            reply = answer(client, stream, deploymentId="d-1", recheckAfterMs=milliseconds)
            assert reply == "DeferComponentUpdateResponse"
        done.result(15)
        assert ask.waits == [5.0]
        assert answer(client, 4, deploymentId="d-1") == "ServiceError"
        assert answer(client, 5) == "InvalidArgumentsError"


def test_a_deployment_goes_on_without_those_that_do_not_listen_or_do_not_answer(server, ask):
    ask().result(15)
    with Client(server) as client:
        client.receive()
        assert answer(client, 1, deploymentId="d-1") == "InvalidArgumentsError"
    with listening(server):
        ask(limit=0.01).result(15)
    assert ask.waits == []


def test_a_deployment_asks_a_component_anew_whose_connection_has_ended(server, ask):
    with listening(server) as client:
        done = ask()
        client.receive()
    with listening(server) as client:
        assert "preUpdateEvent" in json.loads(client.receive().payload)
        assert answer(client, 2, deploymentId="d-1", recheckAfterMs=0) == "DeferComponentUpdateResponse"
        done.result(15)


def test_a_configuration_is_judged_by_a_component_that_listens_at_that_moment_and_else_comes_into_force(server, loop):
    def propose():
        return loop.run(server.propose("component", "d-1", {"a": 2}, 15.0))

    assert propose().accepted
    with Client(server) as client, ThreadPoolExecutor(1) as pool:
        client.receive()
        client.request(1, "SubscribeToValidateConfigurationUpdates")
        client.receive()
        verdict = pool.submit(propose)
        proposal = json.loads(client.receive().payload)["validateConfigurationUpdateEvent"]
        assert proposal == {"configuration": {"a": 2}, "deploymentId": "d-1"}
        report = {"deploymentId": "d-1", "status": "REJECTED", "message": "no"}
        client.request(2, "SendConfigurationValidityReport", {"configurationValidityReport": report})
        assert verdict.result(15) == ConfigurationReply(accepted=False, message="no")
    wait_until(lambda: not server.is_validated_by("component"))
    assert propose().accepted


@pytest.mark.parametrize("server", [Profile.LITE_2_6], indirect=True)
def test_on_lite_the_nucleus_own_configuration_is_told_to_whoever_asks(server):
    ask = {":message-type": 0, ":message-flags": 0, "operation": "aws.greengrass.private#GetSystemConfig"}
    with Client(server) as client:
        client.receive()
        client.send(ask | {":stream-id": 1}, {"key": "privateKeyPath"})
        answer = client.receive()
        assert "service-model-type" not in answer.headers
        assert json.loads(answer.payload) == {"value": "/key.pem"}
        for stream, request, shape in ((2, {"key": "x"}, "ServiceError"), (3, {}, "InvalidArgumentsError")):
            client.send(ask | {":stream-id": stream}, request)
            assert client.receive().headers["service-model-type"] == f"aws.greengrass#{shape}"


@pytest.mark.parametrize("server", [Profile.LITE_2_6], indirect=True)
@pytest.mark.parametrize(("size", "survives"), [(6_000, True), (7_400, False)])
def test_on_lite_a_message_that_is_too_long_costs_the_whole_connection(server, size, survives):
    with Client(server) as client:
        client.receive()
        payload = base64.b64encode(b"x" * size).decode()
        client.request(1, "PublishToIoTCore", {"topicName": "t", "qos": "0", "payload": payload})
        if survives:
            assert client.receive().headers["service-model-type"] == "aws.greengrass#UnauthorizedError"
        else:
            with pytest.raises(EOFError):
                client.receive()


@pytest.mark.parametrize(
    ("server", "shape"),
    [(Profile.CLASSIC, "InvalidArgumentsError"), (Profile.LITE_2_6, "ServiceError")],
    indirect=["server"],
)
def test_a_publish_without_payload_is_refused_by_classic_alone(server, shape):
    server._configurations["component"] = {"accessControl": policy(["t"])}
    with Client(server) as client:
        client.receive()
        client.request(1, "PublishToIoTCore", {"topicName": "t", "qos": "0"})
        assert client.receive().headers["service-model-type"] == f"aws.greengrass#{shape}"  # lite: it is offline


def test_a_stranger_is_refused(server):
    with Client(server, "stranger") as client:
        assert client.receive().headers[":message-flags"] == 0
        with pytest.raises(EOFError):
            client.receive()


def test_a_token_is_void_after_a_restart(server):
    token = server.admit("component")
    server.disconnect_all()
    with Client(server, token) as client:
        assert client.receive().headers[":message-flags"] == 0


ERRORS = {
    "unknown operation": ("ListComponents", {}, "ServiceError"),
    "unknown component": ("GetConfiguration", {"componentName": "x"}, "ResourceNotFoundError"),
    "no topic": ("PublishToIoTCore", {}, "InvalidArgumentsError"),
    "not allowed": ("PublishToIoTCore", {"topicName": "t"}, "UnauthorizedError"),
    "unknown state": ("UpdateState", {"state": "?"}, "InvalidArgumentsError"),
    "nobody asked": ("SendConfigurationValidityReport", {}, "InvalidArgumentsError"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_each_mistake_has_its_error_and_ends_its_stream_alone(server, case):
    operation, payload, shape = ERRORS[case]
    with Client(server) as client:
        client.receive()
        client.request(1, operation, payload)
        error = client.receive()
        assert error.headers[":message-type"] == 1
        assert error.headers[":message-flags"] == 2
        assert error.headers["service-model-type"] == f"aws.greengrass#{shape}"
        client.request(2, "GetConfiguration")
        assert client.receive().headers[":stream-id"] == 2


PROTOCOL_ERRORS = {
    "a stream used twice": ({":message-type": 0, ":message-flags": 0, ":stream-id": 1, "operation": "x"}, {}),
    "a message type that is the server's": ({":message-type": 5, ":message-flags": 0, ":stream-id": 0}, None),
    "no stream": ({":message-type": 0, ":message-flags": 0}, None),
    "a header of another type": ({":message-type": "0", ":message-flags": 0, ":stream-id": 3}, None),
}


@pytest.mark.parametrize("case", PROTOCOL_ERRORS)
def test_who_breaks_the_protocol_is_told_and_disconnected(server, case):
    with Client(server) as client:
        client.receive()
        client.request(1, "GetConfiguration")
        client.receive()
        client.send(*PROTOCOL_ERRORS[case])
        assert client.receive().headers[":message-type"] == 6
        with pytest.raises(EOFError):
            client.receive()


def test_a_subscription_that_is_closed_is_confirmed(server):
    with Client(server) as client:
        client.receive()
        client.request(1, "SubscribeToConfigurationUpdate")
        assert client.receive().headers[":message-flags"] == 0
        client.send({":message-type": 0, ":message-flags": 2, ":stream-id": 1})
        assert client.receive().headers == {":message-type": 0, ":message-flags": 2, ":stream-id": 1}


def policy(resources, operations=("aws.greengrass#PublishToIoTCore",)):
    return {MQTT_SERVICE: {"p": {"operations": list(operations), "resources": list(resources)}}}


ACCESS = {
    "exact": (policy(["a/b"]), "a/b", True),
    "other": (policy(["a/b"]), "a/c", False),
    "any": (policy(["*"]), "a/b/c", True),
    "star within": (policy(["a/*/c"]), "a/x/y/c", True),
    "plus is one level": (policy(["a/+/c"]), "a/x/y/c", False),
    "plus": (policy(["a/+/c"]), "a/x/c", True),
    "hash": (policy(["a/#"]), "a/x/y", True),
    "hash covers its parent": (policy(["a/#"]), "a", True),
    "characters that mean something in patterns": (policy(["$aws/things/t.1/jobs"]), "$aws/things/tx1/jobs", False),
    "every operation": (policy(["a"], ["*"]), "a", True),
    "another operation": (policy(["a"], ["aws.greengrass#SubscribeToIoTCore"]), "a", False),
    "a variable that was not filled in": (policy(["{iot:thingName}/a"]), "t/a", False),
    "no policy": ({}, "a", False),
    "nothing": (None, "a", False),
}


@pytest.mark.parametrize("case", ACCESS)
def test_access_control_allows_what_is_listed(case):
    access_control, topic, allowed = ACCESS[case]
    assert is_allowed(access_control, "PublishToIoTCore", topic) is allowed


def test_variables_are_filled_in_texts_keys_and_lists_and_unknown_ones_stay():
    value = {"{iot:thingName}": ["{iot:thingName}/{other:x}", 1]}
    assert interpolate(value, {"iot:thingName": "t"}) == {"t": ["t/{other:x}", 1]}


def test_merge_replaces_values_and_lists_and_descends_into_maps():
    assert merge({"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2]}, "e": 2}) == {
        "a": {"b": 1, "c": [2]},
        "d": 1,
        "e": 2,
    }


def test_reset_returns_to_the_default_or_removes():
    defaults = {"a": {"b": 1}, "c": 2}
    now = {"a": {"b": 5, "x": 6}, "c": 7, "d": 8}
    assert reset(now, ["/a/b", "/d"], defaults) == {"a": {"b": 1, "x": 6}, "c": 7}
    assert reset(now, ["/absent/deep"], defaults) == now
    assert reset(now, [""], defaults) == defaults


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a: 1", "found no ComponentName"), ("ComponentName: x\nManifests: [{Platform: {os: windows}}]", "no manifest")],
)
def test_a_recipe_that_cannot_run_here_is_refused(tmp_path, text, complaint):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=complaint):
        load_recipe(tmp_path / "r.yaml", Variant.LITE)


def test_a_pkcs11_uri_names_its_object():
    assert label_of("pkcs11:object=my%20key;type=private") == "my key"
    for wrong in ("pkcs11:type=private", "file:///x"):
        with pytest.raises(TokenError, match="expected pkcs11:object=LABEL"):
            label_of(wrong)
