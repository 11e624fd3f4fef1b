"""The subset of AWS IoT SQL, and the intrinsic functions of templates."""

from __future__ import annotations

import pytest

from sandbox.stack import TemplateError, sql
from sandbox.stack.resources import ResourceSite, make
from sandbox.stack.template import Resolver

CONTEXT = sql.MessageContext(
    payload={"a": 1, "b": {"c": "x"}, "flag": True, "thingName": "forged"},
    topic="awslabs/things/gw-1/certificate/create",
    client_id="gw-1",
    principal="0" * 64,
    timestamp=1_764_000_000_000,
)


def select(statement):
    return sql.parse(statement).apply(CONTEXT)


CONDITIONS = {
    "a = 1": True,
    "a <> 1": False,
    "a < 2 AND a >= 1": True,
    "a > 2 OR a <= 1": True,
    "b.c = 'x'": True,
    "b.c = 'it''s'": False,
    "a = 1.5": False,
    "NOT a = 2": True,
    "NOT (a = 1 AND flag = true)": False,
    "flag": True,
    "isUndefined(b.d)": True,
    "isUndefined(b.d) = false": False,
    "isUndefined(b.c) = false": True,
    "isUndefined(a.b.c)": True,
    "nothing = 1": False,
    "NOT nothing = 1": False,
    "nothing = null": False,
    "a < 'text'": False,
    "topic(3) = 'gw-1'": True,
    "topic(9) = 'gw-1'": False,
    "topic(a) = 'awslabs'": True,
    "timestamp() > 0": True,
}


@pytest.mark.parametrize(("condition", "holds"), CONDITIONS.items())
def test_a_condition(condition, holds):
    assert (select(f"SELECT a AS a FROM '#' WHERE {condition}") is not None) is holds


def test_columns_win_over_fields_of_the_payload():
    assert select("SELECT *, topic(3) AS thingName FROM '#'")["thingName"] == "gw-1"


def test_a_column_that_is_undefined_is_left_out():
    assert select("SELECT nothing AS x, principal() AS p FROM '#'") == {"p": "0" * 64}


def test_what_no_client_published_has_no_principal_and_the_client_id_of_aws():
    context = sql.MessageContext({}, "t", None, None, 0)
    assert sql.parse("SELECT clientid() AS c, principal() AS p FROM 't'").apply(context) == {"c": "n/a"}


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM 'x'",
        "SELECT a FROM 'x'",
        "SELECT * FROM x",
        "SELECT * FROM 'x' WHERE",
        "SELECT * FROM 'x' WHERE a LIKE 'b'",
        "SELECT * FROM 'x' WHERE a + 1 = 2",
        "SELECT get_thing_shadow('x') AS s FROM 'x'",
        "SELECT topic(1, 2) AS s FROM 'x'",
        "SELECT topic(1 AS s FROM 'x'",
        "SELECT (a AS s FROM 'x'",
        "SELECT b. AS s FROM 'x'",
    ],
)
def test_what_is_not_in_the_subset_is_refused_when_it_is_read(statement):
    with pytest.raises(sql.SqlError):
        sql.parse(statement)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a/b/c", True),
        ("a/b", "a", False),
    ],
)
def test_a_topic_filter(topic_filter, topic, matches):
    assert sql.matches(topic_filter, topic) is matches


RESOLVER = Resolver(
    {"AWS::Region": "eu-west-1"}, lambda name: f"ref-{name}", lambda name, attribute: f"{name}.{attribute}"
)


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ({"Ref": "AWS::Region"}, "eu-west-1"),
        ({"Ref": "X"}, "ref-X"),
        ({"Fn::GetAtt": ["X", "Arn"]}, "X.Arn"),
        ({"Fn::GetAtt": "X.Arn"}, "X.Arn"),
        ({"Fn::Join": ["-", ["a", {"Ref": "X"}]]}, "a-ref-X"),
        ({"Fn::Sub": "${AWS::Region}/${X}/${X.Arn}"}, "eu-west-1/ref-X/X.Arn"),
        ({"Fn::Sub": ["${v}", {"v": {"Ref": "X"}}]}, "ref-X"),
        ({"Fn::Select": [1, {"Fn::Split": ["/", "a/b"]}]}, "b"),
        ([{"a": {"Ref": "X"}, "b": 1}], [{"a": "ref-X", "b": 1}]),
    ],
)
def test_an_intrinsic_function(node, value):
    assert RESOLVER.value(node) == value


def test_an_intrinsic_function_that_is_not_had_is_named():
    with pytest.raises(TemplateError, match="Fn::Cidr"):
        RESOLVER.value({"Fn::Cidr": ["10.0.0.0/8", 1]})


def test_a_resource_type_that_is_not_had_is_named():
    with pytest.raises(TemplateError, match="AWS::EC2::Instance"):
        make(ResourceSite(None, None, "1", "r", "s"), "Box", "AWS::EC2::Instance", {})
