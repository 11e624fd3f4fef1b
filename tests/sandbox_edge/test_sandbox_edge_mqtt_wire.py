"""Bytes: whatever a client sends, nothing but its own connection ends; topics match as MQTT says."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandbox.edge.jobs_topics import is_jobs_request, may_be_published
from sandbox.edge.mqtt import packets
from sandbox.edge.mqtt.session import MAX_PACKET_ID, Session, expiry_of
from sandbox.edge.mqtt.topics import SubscriptionTree, matches, problem_with_filter, problem_with_topic
from sandbox.edge.mqtt.wire import Cursor, MalformedPacketError, encode_varint

DECODERS = {
    "CONNECT": packets.decode_connect,
    "PUBLISH 3": lambda body: packets.decode_publish(2, body, 4),
    "PUBLISH 5": lambda body: packets.decode_publish(0, body, 5),
    "PUBACK": lambda body: packets.decode_puback(body, 5),
    "SUBSCRIBE": lambda body: packets.decode_subscribe(2, body, 5),
    "UNSUBSCRIBE": lambda body: packets.decode_unsubscribe(2, body, 4),
    "DISCONNECT": lambda body: packets.decode_disconnect(body, 5),
}
CONNECT_5 = b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02me"


@pytest.mark.parametrize("name", DECODERS)
@given(body=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
@example(body=CONNECT_5)
@example(body=b"")
def test_a_decoder_reads_a_packet_or_calls_it_malformed_and_nothing_else(name, body):
    with suppress(MalformedPacketError):
        DECODERS[name](body)


MALFORMED = {
    "a reserved connect flag": ("CONNECT", b"\x00\x04MQTT\x04\x03\x00\x3c\x00\x02me"),
    "another protocol": ("CONNECT", b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02me"),
    "a will flag without a will": ("CONNECT", b"\x00\x04MQTT\x04\x22\x00\x3c\x00\x02me"),
    "a will with QoS 2": ("CONNECT", b"\x00\x04MQTT\x04\x16\x00\x3c\x00\x02me\x00\x01t\x00\x00"),
    "a password without a user": ("CONNECT", b"\x00\x04MQTT\x04\x42\x00\x3c\x00\x02me\x00\x01p"),
    "bytes after the end": ("CONNECT", CONNECT_5 + b"x"),
    "a property that does not exist": ("CONNECT", b"\x00\x04MQTT\x05\x02\x00\x3c\x02\x7f\x00\x00\x02me"),
    "a property twice": ("CONNECT", b"\x00\x04MQTT\x05\x02\x00\x3c\x06\x21\x00\x01\x21\x00\x01\x00\x02me"),
    "a receive maximum of zero": ("CONNECT", b"\x00\x04MQTT\x05\x02\x00\x3c\x03\x21\x00\x00\x00\x02me"),
    "packet id zero": ("PUBACK", b"\x00\x00"),
    "no UTF-8": ("PUBLISH 5", b"\x00\x01\xff\x00"),
    "U+0000": ("PUBLISH 5", b"\x00\x01\x00\x00"),
    "a topic alias": ("PUBLISH 5", b"\x00\x01t\x03\x23\x00\x01"),
    "a length without end": ("PUBLISH 5", b"\x00\x01t\xff\xff\xff\xff\xff"),
    "no filter": ("SUBSCRIBE", b"\x00\x01\x00"),
    "reserved options": ("SUBSCRIBE", b"\x00\x01\x00\x00\x01a\xc1"),
    "QoS 3": ("SUBSCRIBE", b"\x00\x01\x00\x00\x01a\x03"),
    "no filter to end": ("UNSUBSCRIBE", b"\x00\x01"),
    "truncated": ("UNSUBSCRIBE", b"\x00\x01\x00\x05a"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_the_specification_calls_malformed_is(case):
    name, body = MALFORMED[case]
    with pytest.raises(MalformedPacketError):
        DECODERS[name](body)


def test_wrong_flags_of_publish_and_subscribe_are_malformed():
    for decode in (
        lambda: packets.decode_publish(6, b"\x00\x01t\x00\x01", 4),
        lambda: packets.decode_publish(8, b"\x00\x01t", 4),
        lambda: packets.decode_subscribe(0, b"\x00\x01\x00\x01a\x00", 4),
    ):
        with pytest.raises(MalformedPacketError):
            decode()


@given(st.integers(0, 268_435_455))
def test_a_variable_byte_integer_is_read_as_it_was_written(number):
    cursor = Cursor(encode_varint(number))
    assert cursor.varint() == number
    cursor.end()


@pytest.mark.parametrize("number", [-1, 268_435_456])
def test_a_number_beyond_four_bytes_cannot_be_written(number):
    with pytest.raises(ValueError, match="a variable byte integer holds 0 to"):
        encode_varint(number)


@given(topic=st.text(st.characters(exclude_characters="#+\0", codec="utf-8"), min_size=1, max_size=30))
def test_a_publish_is_read_as_it_was_written(topic):
    message = packets.Publish(topic, b"payload", 1, 7, duplicate=True)
    for version in (4, 5):
        raw = packets.encode_publish(version, message)
        cursor = Cursor(raw[1:])
        assert packets.decode_publish(raw[0] & 15, cursor.take(cursor.varint()), version) == message


@given(garbage=st.lists(st.binary(max_size=300), max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_ends_its_own_connection_and_no_other(garbage, fuzzed):
    endpoint, context, bystander = fuzzed
    with (
        socket.create_connection(("127.0.0.1", endpoint.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
        suppress(OSError),
    ):
        tls.sendall(bytes([0x10]) + encode_varint(len(CONNECT_5)) + CONNECT_5)
        for part in garbage:
            tls.sendall(part)
    assert_alive(bystander)


@pytest.fixture
def fuzzed(endpoint, issuer, registry):
    credential = issuer.issue("gateway")
    registry.register(credential)
    context = ssl.create_default_context(cafile=str(issuer.ca_file))
    context.load_cert_chain(credential.certificate_file, credential.key_file)
    with (
        socket.create_connection(("127.0.0.1", endpoint.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as bystander,
    ):
        bystander.settimeout(15)
        bystander.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04calm")
        assert bystander.recv(4) == b"\x20\x02\x00\x00"
        yield endpoint, context, bystander


def assert_alive(bystander):
    bystander.sendall(b"\xc0\x00")
    assert bystander.recv(2) == b"\xd0\x00"


@pytest.mark.parametrize(
    "first",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff\x01", b"\x10\xff\xff\x7f", b"\x30\x03\x00\x01a", b"\x20\x00"],
    ids=["HTTP", "endless length", "too large", "publish first", "a server's packet"],
)
def test_a_connection_that_does_not_begin_with_connect_is_closed(fuzzed, first):
    endpoint, context, bystander = fuzzed
    with (
        socket.create_connection(("127.0.0.1", endpoint.port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.settimeout(15)
        tls.sendall(first)
        answer = b""
        with suppress(ConnectionError):
            answer = tls.recv(10)
        assert answer == b""
    assert_alive(bystander)


MATCHES = {
    ("a/b", "a/b"): True,
    ("a/b", "a/c"): False,
    ("a/+", "a/b"): True,
    ("a/+", "a"): False,
    ("a/+", "a/b/c"): False,
    ("a/#", "a"): True,
    ("a/#", "a/b/c"): True,
    ("#", "a/b"): True,
    ("#", "$aws/x"): False,
    ("+/x", "$aws/x"): False,
    ("$aws/#", "$aws/x"): True,
    ("+", ""): True,
    ("/+", "/a"): True,
    ("+/b/#", "a/b"): True,
}


@pytest.mark.parametrize(("topic_filter", "topic"), MATCHES)
def test_a_filter_matches_as_the_specification_says(topic_filter, topic):
    assert matches(topic_filter, topic) is MATCHES[topic_filter, topic]


_level = st.sampled_from(["a", "b", "+", "$s"])


@given(st.lists(st.tuples(st.lists(_level, min_size=1, max_size=4), st.booleans(), st.integers(0, 1)), max_size=12))
def test_a_tree_is_empty_after_everyone_has_left_and_finds_what_single_filters_find(subscriptions):
    tree = SubscriptionTree()
    filters = ["/".join(levels) + ("/#" if rest else "") for levels, rest, _ in subscriptions]
    for number, topic_filter in enumerate(filters):
        tree.add(topic_filter, number, subscriptions[number][2])
    for topic in ("a", "a/b", "a/b/a", "$s/a"):
        assert tree.match(topic) == {n: subscriptions[n][2] for n, f in enumerate(filters) if matches(f, topic)}
    for number, topic_filter in enumerate(filters):
        tree.remove(topic_filter, number)
        tree.remove("never/there", number)
    assert tree.is_empty


TOPICS = {
    "": "it is empty",
    "a/#": "no wildcard",
    "x" * 257: "257 bytes",
    "/" * 8: "8 slashes",
    "$aws/things/t/" + "/" * 7: None,
    "a/b": None,
}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_keeps_the_limits_of_aws(topic):
    problem = problem_with_topic(topic)
    assert problem is None if TOPICS[topic] is None else TOPICS[topic] in problem


@pytest.mark.parametrize("topic_filter", ["a/#/b", "a#", "a+/b", "$share/g/a", ""])
def test_a_filter_that_means_nothing_is_refused(topic_filter):
    assert problem_with_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic", "request_", "publishable"),
    [
        ("$aws/things/t/jobs/get", True, True),
        ("$aws/things/t/jobs/start-next", True, True),
        ("$aws/things/t/jobs/$next/get", True, True),
        ("$aws/things/t/jobs/job-1/update", True, True),
        ("$aws/things/plant:line-a:gw-001/jobs/job-1/update", True, True),
        ("$aws/things/t/jobs/$next/namespace-aws-gg-deployment/get", True, True),
        ("$aws/things/t/jobs/job-1/namespace-aws-gg-deployment/update", True, True),
        ("$aws/things/t/jobs/notify-next-namespace-aws-gg-deployment", False, False),
        ("$aws/things/t/greengrassv2/health/json", False, True),
        ("$aws/things/t/jobs/job-1/update/accepted", False, False),
        ("$aws/things/t/jobs/notify", False, False),
        ("$aws/things/t/shadow/name/s/update", False, True),
        ("$aws/things/t/shadow/name/s/update/delta", False, False),
        ("$aws/rules/r/x", False, True),
        ("$aws/events/jobExecution/j/succeeded", False, False),
        ("free", False, True),
    ],
)
def test_of_the_reserved_topics_a_device_publishes_requests_only(topic, request_, publishable):
    assert (is_jobs_request(topic), may_be_published(topic)) == (request_, publishable)


def test_a_session_sends_within_the_receive_maximum_and_again_what_was_not_acknowledged():
    session = Session("c", expiry_of(None))
    for number in range(5):
        session.enqueue("t", bytes([number]))
    first = list(session.send(2))
    assert [(m.packet_id, m.payload, m.duplicate) for m in first] == [(1, b"\0", False), (2, b"\1", False)]
    assert list(session.send(2)) == []
    session.acknowledge(1)
    session.acknowledge(1)
    assert [m.packet_id for m in session.send(2)] == [3]
    assert [(m.packet_id, m.duplicate) for m in session.resend()] == [(2, True), (3, True)]


def test_packet_ids_begin_anew_and_skip_those_in_flight():
    session = Session("c", expiry_of(0))
    session.enqueue("t", b"held")
    assert next(session.send(2)).packet_id == 1
    for _ in range(MAX_PACKET_ID):
        session.enqueue("t", b"x")
        (message,) = session.send(2)
        session.acknowledge(message.packet_id)
    assert message.packet_id == 2
    assert not session.is_persistent
