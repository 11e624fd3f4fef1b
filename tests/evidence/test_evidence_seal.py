"""A sealed document is accepted as it was sealed, by the key that the reader trusts, and not otherwise."""

from __future__ import annotations

import copy
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import assume, given
from hypothesis import strategies as st

from controller.evidence import EvidenceError, check, seal

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
HASH = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
ROWS = [
    {"thing": f"a-{n}", "certificate_id": f"{n}" * 64, "gaps": ["no-record"], "oldest_seconds": n} for n in range(3)
]
DOCUMENT = {"kind": "Evidence", "created_at": "2026-11-30T00:00:00Z", "fleets": [{"fleet": "plant", "rows": ROWS}]}


def sign(digest):
    return KEY.sign(digest, HASH)


def verified_by(key):
    def verify(digest, signature):
        try:
            key.public_key().verify(signature, digest, HASH)
        except InvalidSignature:
            return False
        return True

    return verify


SEALED = seal(DOCUMENT, sign, "key-1")
BY_THE_KEY = verified_by(KEY)


def refusal(document, verify=BY_THE_KEY):
    with pytest.raises(EvidenceError) as refused:
        check(document if isinstance(document, str) else json.dumps(document), verify, "evidence.json")
    return str(refused.value)


def test_what_was_signed_is_accepted_however_it_is_laid_out():
    for text in (json.dumps(SEALED), json.dumps(SEALED, indent=4, ensure_ascii=False)):
        assert check(text, verified_by(KEY), "evidence.json")["fleets"][0]["fleet"] == "plant"


def test_a_changed_row_is_named():
    changed = copy.deepcopy(SEALED)
    changed["fleets"][0]["rows"][1]["oldest_seconds"] = 0
    assert "the row of certificate 111111111111 of a-1 was changed" in refusal(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda fleet: fleet["rows"].pop(),
        lambda fleet: fleet["rows"].reverse(),
        lambda fleet: fleet["rows"].append(fleet["rows"][0]),
        lambda fleet: fleet.update(fleet="other"),
    ],
    ids=["taken out", "moved", "doubled", "around them"],
)
def test_so_is_what_stands_around_the_rows(change):
    changed = copy.deepcopy(SEALED)
    change(changed["fleets"][0])
    assert "was changed after it was made" in refusal(changed)


def test_whoever_renews_the_digests_has_no_signature():
    forged = copy.deepcopy(DOCUMENT)
    forged["fleets"][0]["rows"][0]["oldest_seconds"] = 7
    again = seal(forged, lambda _digest: b"", "key-1")
    again["seal"]["signature"] = SEALED["seal"]["signature"]
    assert "is not of the key that you named" in refusal(again)
    assert "is not of the key that you named" in refusal(seal(forged, lambda digest: OTHER.sign(digest, HASH), "key-1"))


def test_unsigned_evidence_is_not_accepted_silently():
    assert "is not signed" in refusal(seal(DOCUMENT, None, None))
    downgraded = {**SEALED, "seal": {"digest": SEALED["seal"]["digest"], "is_signed": False}}
    assert "was changed" in refusal(downgraded)


def test_the_key_that_the_file_names_is_not_trusted_for_that():
    assert "which key do you trust" in refusal(SEALED, None)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"kind": "Evidence"}', '{"kind": "Evidence", "seal": {}, "fleets": [1]}', "[" * 100_000]
)
def test_what_is_no_evidence_is_said_to_be_none(text):
    assert "is not evidence" in refusal(text)


def paths(value, at=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths(inner, (*at, number))
    else:
        yield at


@given(st.sampled_from(list(paths(SEALED))), st.text(max_size=3))
def test_no_value_can_be_changed(path, text):
    changed = copy.deepcopy(SEALED)
    place = changed
    for step in path[:-1]:
        place = place[step]
    assume(place[path[-1]] != text)
    place[path[-1]] = text
    refusal(changed)
