"""Names that a strict parser refuses become readable; nothing else changes, and what is not DER is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.der import der_of, with_readable_names


@pytest.mark.parametrize("kind", ["CERTIFICATE", "CERTIFICATE REQUEST"])
def test_a_pem_text_tells_its_first_certificate_or_request(kind):
    text = f"key\r\n-----BEGIN {kind}-----\r\nAQ\nID\n-----END {kind}-----\n-----BEGIN {kind}-----\nBA==\n"
    assert der_of(text) == b"\x01\x02\x03"


@pytest.mark.parametrize("pem", ["", "-----BEGIN CERTIFICATE-----\nAQID\n", "-----BEGIN X-----\nAQID\n-----END X-----"])
def test_a_text_without_one_is_refused(pem):
    with pytest.raises(ValueError, match="no PEM"):
        der_of(pem)


def element(tag, content):
    length = len(content)
    head = bytes([length]) if length < 0x80 else bytes([0x82]) + length.to_bytes(2, "big")
    return bytes([tag]) + head + content


def name(tag, text):
    return element(0x30, element(0x31, element(0x30, element(0x06, b"\x55\x04\x03") + element(tag, text))))


@pytest.mark.parametrize("text", [b"gw_1", b"line*a", b"a@b", b"x" * 300 + b"_"])
def test_text_that_a_printable_string_may_not_hold_becomes_utf8(text):
    assert with_readable_names(element(0x30, name(0x13, text))) == element(0x30, name(0x0C, text))


@pytest.mark.parametrize(
    "der",
    [name(0x13, b"Gateway 1, (a) +b/c:d=e?"), name(0x0C, b"gw_1"), name(0x16, b"gw_1"), name(0x13, b"\xff_"), b""],
    ids=["a proper PrintableString", "UTF-8", "IA5", "no ASCII", "nothing"],
)
def test_all_else_stays_as_it_is(der):
    assert with_readable_names(der) == der


def test_what_an_octet_string_holds_is_not_looked_into():
    der = element(0x04, name(0x13, b"gw_1"))
    assert with_readable_names(der) == der


@pytest.mark.parametrize("der", [b"\x30", b"\x30\x05\x00", b"\x30\x82\xff", element(0x30, b"\x13\x09gw_1")])
def test_what_is_cut_off_is_refused(der):
    with pytest.raises(ValueError, match=r"ends behind|cut off"):
        with_readable_names(der)


def test_endless_nesting_is_refused():
    der = b""
    for _ in range(20):
        der = element(0x30, der)
    with pytest.raises(ValueError, match="nested deeper"):
        with_readable_names(der)


@given(st.binary(max_size=64))
def test_whatever_comes_it_is_read_or_refused(der):
    with contextlib.suppress(ValueError):
        assert len(with_readable_names(der)) == len(der)
