"""YAML is read with the line of every field, and what is not a plain document is refused by name."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.desired.limits import Limits
from controller.desired.yaml_documents import Place, parse_documents


def test_every_field_and_item_knows_its_line_and_column():
    text = b"# first\na: 1\nb:\n  - x\n  - {c: 2}\n---\nd: true\n"
    (first, second), problems = parse_documents("f.yaml", text)
    assert problems == []
    assert first.value == {"a": 1, "b": ["x", {"c": 2}]}
    assert first.places == {
        (): Place(2, 1),
        ("a",): Place(2, 1),
        ("b",): Place(3, 1),
        ("b", 0): Place(4, 5),
        ("b", 1): Place(5, 5),
        ("b", 1, "c"): Place(5, 6),
    }
    assert (second.value, second.place(("d", "missing", 3))) == ({"d": True}, Place(7, 1))


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("010", 10),
        ("0x1f", "0x1f"),
        ("2026-11-01", "2026-11-01"),
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        ("True", True),
        ("~", None),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("9" * 30, "9" * 30),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(scalar, value):
    ((document,), problems) = parse_documents("f.yaml", f"a: {scalar}\n".encode())
    assert (document.value, problems) == ({"a": value}, [])
    assert type(document.value["a"]) is type(value)


def test_documents_without_content_are_left_out():
    documents, problems = parse_documents("f.yaml", b"---\n---\n# nothing\n---\na: 1\n---\n~\n")
    assert ([each.value for each in documents], problems) == ([{"a": 1}], [])


def test_files_with_a_byte_order_mark_or_dos_lines_are_read_alike():
    plain, _ = parse_documents("f.yaml", b"a: 1\nb: 2\n")
    dos, problems = parse_documents("f.yaml", b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert (dos[0].value, problems) == (plain[0].value, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            b"a: &x [1]\nb: *x\n",
            "f.yaml:1: found the anchor &x; anchors are not supported: write the value out",
            id="an anchor",
        ),
        pytest.param(
            b"a: 1\nb: *x\n",
            "f.yaml:2: found the alias *x; aliases are not supported: write the value out",
            id="an alias",
        ),
        pytest.param(
            b"a: !!python/object/apply:os.system [x]\n",
            "f.yaml:1: found the tag 'tag:yaml.org,2002:python/object/apply:os.system'; "
            "tags are not supported: write the plain value",
            id="a tag that would run something",
        ),
        pytest.param(
            b"a: 1\n<<: {b: 2}\n",
            "f.yaml:2: found the merge key <<; merging is not supported: write the keys out",
            id="a merge key",
        ),
        pytest.param(b"a: 1\nb: 2\na: 3\n", "f.yaml:3: the key 'a' stands twice, first in line 1", id="a key twice"),
        pytest.param(b"1: 2\n", "f.yaml:1: found the key '1'; allowed: keys that are text", id="a number as key"),
        pytest.param(b"~: 2\n", "f.yaml:1: found the key '~'; allowed: keys that are text", id="an empty key"),
        pytest.param(
            b"? [a]\n: 2\n",
            "f.yaml:1: found a mapping or list as a key; allowed: keys that are text",
            id="a list as key",
        ),
        pytest.param(
            b"a: 1\nb: [\n",
            "f.yaml:3: no valid YAML: expected the node content, but found '<stream end>'",
            id="an open list",
        ),
        pytest.param(
            b"a: 1\n\tb: 2\n", "f.yaml:2: no valid YAML: found character '\\t' that cannot start any token", id="a tab"
        ),
        pytest.param(b"a: 1\nb: \xff\n", "f.yaml:2: found the byte 0xff; allowed: text in UTF-8", id="not UTF-8"),
        pytest.param(
            b"a: 1\nb: \x07\n", "f.yaml:2: found the character U+0007; allowed: text", id="a control character"
        ),
        pytest.param(
            b'a: "\\ud800"\n', "f.yaml:1: found half a surrogate pair; allowed: text", id="half a surrogate pair"
        ),
        pytest.param(
            b'a: 1\nb: "\\UFFFFFFFF"\n',
            "f.yaml:2: no valid YAML: an escape or a number in a directive is out of range",
            id="an escape beyond Unicode",
        ),
    ],
)
def test_what_is_no_plain_document_is_refused(text, problem):
    _, problems = parse_documents("f.yaml", text)
    assert [str(each) for each in problems] == [problem]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(b"a: " + b"x" * 50, "the file has 53 bytes; allowed: at most 50", id="a large file"),
        pytest.param(b"[[[[1]]]]", "more than 3 levels of mappings and lists", id="deep nesting"),
        pytest.param(b"[1, 2, 3, 4, 5, 6, 7, 8]", "more than 8 values; split the file", id="many values"),
        pytest.param(b"a\n---\nb\n---\nc\n", "more than 2 documents; split the file", id="many documents"),
        pytest.param(b"a: abcdefghijk", "a text of 11 characters; allowed: at most 10", id="a long text"),
    ],
)
def test_input_is_bounded(text, problem):
    limits = Limits(max_file_bytes=50, max_depth=3, max_nodes=8, max_documents=2, max_scalar=10)
    _, problems = parse_documents("f.yaml", text, limits)
    assert [each.message for each in problems] == [problem]


def test_the_documents_before_a_mistake_are_still_read():
    documents, problems = parse_documents("f.yaml", b"a: 1\n---\nb: *x\n---\nc: 3\n")
    assert [each.value for each in documents] == [{"a": 1}]
    assert len(problems) == 1


def test_a_billion_laughs_end_at_the_first_anchor():
    lines = [b"a0: &a0 [lol]"] + [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)]
    documents, problems = parse_documents("f.yaml", b"\n".join(lines))
    assert (documents, [each.line for each in problems]) == ([], [1])


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}#&*!|>'\"%@`?,\\ \n\tu0\ufeff", max_size=60).map(str.encode))
@example(b"%YAML 1.1\n%YAML 1.1\n---\n")
@example(b"%TAG ! !\n--- !<%FF> a")
@example(b'"\\x"')
@example(b"\xef\xbb\xbf\xef\xbb\xbf")
def test_no_bytes_make_the_reader_raise(data):
    documents, problems = parse_documents("f.yaml", data)
    for problem in problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message
    for document in documents:
        assert () in document.places
