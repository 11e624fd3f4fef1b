"""Payloads: what is written is read back, and nothing else is."""

from __future__ import annotations

import contextlib
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProtocolError
from protocol.messages import (
    MAX_CSR_CHARACTERS,
    MAX_PAYLOAD_BYTES,
    CommitAccepted,
    CommitRequest,
    CreateAccepted,
    CreateRequest,
    ExecutionStatus,
    JobsAnswer,
    Rejected,
    decode_execution,
    decode_jobs_answer,
    encode_update,
)
from protocol.rejections import RejectionCode

TEXT = st.text(min_size=1, max_size=50)
DECODERS = {
    "create": CreateRequest.decode,
    "create accepted": CreateAccepted.decode,
    "commit": CommitRequest.decode,
    "commit accepted": CommitAccepted.decode,
    "rejected": Rejected.decode,
    "execution": decode_execution,
    "answer": decode_jobs_answer,
}


@given(
    st.one_of(
        st.builds(CreateRequest, TEXT, TEXT, st.none() | TEXT),
        st.builds(CreateAccepted, TEXT, st.none() | TEXT),
        st.builds(CommitAccepted, st.none() | TEXT),
        st.builds(CommitRequest, TEXT),
        st.builds(Rejected, TEXT, st.none() | TEXT, st.none() | TEXT),
    )
)
def test_every_message_is_read_as_it_was_written(message):
    assert type(message).decode(message.encode()) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["jobId", "csr", "certificatePem", "errorMsg", "errorCode", "execution", "status", "code", "clientToken"]


@given(
    st.sampled_from(sorted(DECODERS)),
    st.binary(max_size=64)
    | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5).map(lambda message: json.dumps(message).encode()),
)
def test_whatever_comes_a_decoder_gives_a_message_or_a_protocol_error(name, payload):
    with contextlib.suppress(ProtocolError):  # any other exception fails the test
        DECODERS[name](payload)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b" " * (MAX_PAYLOAD_BYTES + 1), "at most"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected an object"),
    ],
    ids=["too large", "cut off", "nested too deep", "no object"],
)
@pytest.mark.parametrize("name", DECODERS)
def test_what_is_no_bounded_json_object_is_refused(name, payload, expected):
    with pytest.raises(ProtocolError, match=expected):
        DECODERS[name](payload)


@pytest.mark.parametrize(
    ("name", "message", "expected"),
    [
        ("create", {"jobId": "j"}, "csr is None"),
        ("create", {"jobId": "", "csr": "c"}, "jobId is ''"),
        ("create", {"jobId": "j", "csr": "c" * (MAX_CSR_CHARACTERS + 1)}, f"at most {MAX_CSR_CHARACTERS}"),
        ("create accepted", {"certificatePem": 7}, "certificatePem is 7"),
        ("commit", {}, "jobId is None"),
        ("rejected", {"errorMsg": None}, "errorMsg is None"),
        ("execution", {"execution": []}, "execution is list"),
        ("execution", {"execution": {"jobId": "j", "status": "DONE"}}, "'DONE' is unknown"),
        ("execution", {"execution": {"status": "QUEUED"}}, "jobId is None"),
    ],
)
def test_a_field_that_is_missing_or_wrong_is_named(name, message, expected):
    with pytest.raises(ProtocolError, match=expected):
        DECODERS[name](json.dumps(message).encode())


@pytest.mark.parametrize("payload", [b"{}", b'{"execution":{}}', b'{"execution":null,"timestamp":1}'])
def test_no_pending_execution_is_none(payload):
    assert decode_execution(payload) is None


def test_an_execution_is_read_with_what_is_optional_left_out_where_it_is_no_number_or_object():
    full = {
        "jobId": "j",
        "status": "QUEUED",
        "jobDocument": {"a": 1},
        "statusDetails": {"k": "v"},
        "versionNumber": 2,
        "executionNumber": 3,
    }
    execution = decode_execution(json.dumps({"execution": full}).encode())
    assert execution is not None
    assert (execution.version_number, execution.execution_number, execution.status_details) == (2, 3, {"k": "v"})
    odd = {"jobId": "j", "status": "QUEUED", "statusDetails": [], "versionNumber": True, "executionNumber": "3"}
    execution = decode_execution(json.dumps({"execution": odd}).encode())
    assert execution is not None
    assert (execution.version_number, execution.execution_number, execution.status_details) == (None, None, {})


def test_a_status_report_carries_the_mark_and_cuts_a_reason_that_is_too_long():
    message = json.loads(encode_update(ExecutionStatus.FAILED, "rolled back", "x" * 5000, "token"))
    assert message["statusDetails"]["CertificateRotator"] == "rolled back"
    assert len(message["statusDetails"]["DeviceFailureReason"]) == 1024
    assert message["clientToken"] == "token"
    assert json.loads(encode_update(ExecutionStatus.IN_PROGRESS, "p", attempt=2))["executionNumber"] == 2
    assert json.loads(encode_update(ExecutionStatus.IN_PROGRESS, "p")) == {
        "status": "IN_PROGRESS",
        "statusDetails": {"CertificateRotator": "p"},
    }


@given(st.text(min_size=1, max_size=2000))
def test_a_reason_of_any_characters_reaches_the_job_in_a_form_that_aws_iot_takes(reason):
    details = json.loads(encode_update(ExecutionStatus.FAILED, "rolled back", reason))["statusDetails"]
    assert 1 <= len(details["DeviceFailureReason"]) <= 1024
    assert not [c for c in details["DeviceFailureReason"] if unicodedata.category(c).startswith("C")]


def test_the_lines_of_a_reason_become_one():
    message = json.loads(
        encode_update(ExecutionStatus.FAILED, "p", "ended with 1: Failed to restart\n\tunit not found\n")
    )
    assert message["statusDetails"]["DeviceFailureReason"] == "ended with 1: Failed to restart unit not found"


def test_an_answer_to_a_report_tells_code_message_and_token_where_they_are_text():
    payload = b'{"code":"InvalidStateTransition","message":"over","clientToken":"t"}'
    assert decode_jobs_answer(payload) == JobsAnswer("InvalidStateTransition", "over", "t")
    assert decode_jobs_answer(b'{"code":1,"clientToken":[]}') == JobsAnswer()


@pytest.mark.parametrize(
    ("state", "status"),
    [({"status": "SUCCEEDED", "versionNumber": 3}, "SUCCEEDED"), ({}, None), ({"status": 1}, None), ("x", None)],
)
def test_a_refused_report_tells_how_the_execution_stands_if_that_can_be_read(state, status):
    payload = json.dumps({"code": "InvalidStateTransition", "executionState": state}).encode()
    assert decode_jobs_answer(payload) == JobsAnswer("InvalidStateTransition", status=status)


def test_each_code_of_a_rejection_is_one_word_and_stands_for_one_cause():
    codes = [code.value for code in RejectionCode]
    assert len(codes) == len(set(codes)) > 20
    assert all(code.isalpha() and code[0].isupper() for code in codes)
    rejected = Rejected.decode(Rejected("why", RejectionCode.NO_EXECUTION.value).encode())
    assert RejectionCode(rejected.code) is RejectionCode.NO_EXECUTION


def test_only_queued_and_in_progress_can_still_change():
    assert {s for s in ExecutionStatus if not s.is_terminal} == {ExecutionStatus.QUEUED, ExecutionStatus.IN_PROGRESS}
