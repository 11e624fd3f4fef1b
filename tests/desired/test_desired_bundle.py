"""A bundle brings the desired state to a run without git, and anything wrong with it is told apart."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from botocore.session import get_session
from botocore.stub import Stubber
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from controller.desired import GitRef, Limits, WorkingTree, load
from controller.desired.bundle import Bundle, BundledFile, LastApplied, make_bundle, require_successor, write_bundle
from controller.desired.bundle_reader import BundleSource, read_bundle
from controller.errors import BundleError, DesiredStateError
from controller.fleet.kms_signature import KmsKey

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FILE = BundledFile("desired/f.yaml", "f.yaml", "a: ä\n")
BUNDLE = Bundle("github.com/acme/fleet", "a" * 40, NOW - 2 * HOUR, NOW - HOUR, (FILE,))
DEFAULTS = Limits()


class EcKey:
    """Signs and verifies as KMS does, with a key of this process."""

    key_id = "test-key"

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def sign(self, digest: bytes) -> bytes:
        return self._key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))

    def verify(self, digest: bytes, signature: bytes) -> bool:
        try:
            self._key.public_key().verify(signature, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        except InvalidSignature:
            return False
        return True


def rewritten(
    data: bytes, *, header: dict | None = None, body: dict | None = None, file: dict | None = None, without: str = ""
) -> bytes:
    """Change fields of a bundle and make length and digest of the whole right again."""
    head, _, tail = data.partition(b"\n")
    fields = json.loads(tail)
    fields.update(body or {})
    fields.pop(without, None)
    fields["files"][0].update(file or {})
    new = json.dumps(fields).encode()
    digests = {"length": len(new), "sha256": sha256(new).hexdigest()}
    return json.dumps({**json.loads(head), **digests, **(header or {})}).encode() + b"\n" + new


def refusal(data: bytes, **options) -> str:
    with pytest.raises(BundleError) as raised:
        read_bundle(data, now=NOW, **options)
    assert raised.value.remedy
    return str(raised.value)


def test_a_bundle_loads_as_the_commit_it_was_made_of(repository, documents):
    files = {"desired/fleet.yaml": documents["fleet"], "desired/sub/p.yaml": documents["policy"]}
    commit = repository.commit(files)
    repository.git("remote", "add", "origin", "git@github.com:acme/fleet.git")
    source = GitRef(repository.root / "desired", "HEAD")
    data = write_bundle(make_bundle(source.read(DEFAULTS), NOW))
    bundle = read_bundle(data, now=NOW)
    assert (bundle.repository, bundle.commit, bundle.created_at) == ("github.com/acme/fleet", commit, NOW)
    assert load(BundleSource(bundle), now=NOW) == load(source, now=NOW)


def test_equal_input_gives_equal_bytes():
    other = BundledFile("desired/g.yaml", "g.yaml", "b")
    assert write_bundle(BUNDLE) == write_bundle(replace(BUNDLE))
    assert write_bundle(replace(BUNDLE, files=(FILE, other))) != write_bundle(BUNDLE)


def test_only_a_commit_is_bundled(repository, tmp_path):
    repository.commit({"desired/f.yaml": "a"})
    clean = WorkingTree(repository.root / "desired").read(DEFAULTS)
    assert make_bundle(clean, NOW, repository="github.com/acme/fleet").commit == clean.commit
    with pytest.raises(BundleError, match="without a remote called origin"):
        make_bundle(clean, NOW)
    repository.write({"desired/f.yaml": "edited"})
    with pytest.raises(BundleError, match="not committed"):
        make_bundle(WorkingTree(repository.root / "desired").read(DEFAULTS), NOW, repository="r")


def test_files_that_cannot_be_read_are_not_bundled(repository):
    repository.commit({"a/f.yaml": b"\xff"})
    (repository.root / "b").mkdir()
    (repository.root / "b/f.yaml").symlink_to("/etc/passwd")
    repository.commit()
    with pytest.raises(BundleError, match="not text in UTF-8"):
        make_bundle(GitRef(repository.root / "a", "HEAD").read(DEFAULTS), NOW, repository="r")
    with pytest.raises(BundleError, match="symbolic link"):
        make_bundle(GitRef(repository.root / "b", "HEAD").read(DEFAULTS), NOW, repository="r")


DATA = write_bundle(BUNDLE)
UP = {"path": "desired/../../etc.yaml", "inner": "../../etc.yaml"}


def test_truncation_at_any_byte_is_told_as_such():
    header = DATA.index(b"\n")
    for end in range(len(DATA)):
        message = refusal(DATA[:end])
        if end <= header:
            assert message == "found no header line: this is not a bundle, or its beginning is missing"
        else:
            assert message == f"found {end - header - 1} of {len(DATA) - header - 1} bytes: the bundle is truncated"


def test_a_change_of_any_byte_is_told():
    for index in range(len(DATA)):
        changed = DATA[:index] + bytes([DATA[index] ^ 1]) + DATA[index + 1 :]
        assert refusal(changed)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(DATA.replace(b"a: ", b"b: "), "the bundle was changed after it was written", id="a changed text"),
        pytest.param(DATA + b"more", "found 4 bytes after the end of the bundle", id="something after the end"),
        pytest.param(b"\x00" * 9000, "found no header line", id="no text at all"),
        pytest.param(b"[]\n", "found no certfleet-bundle header: this is not a bundle", id="another file"),
        pytest.param(b"{\n", "found a header that is not JSON", id="a header that is not JSON"),
        pytest.param(b"[" * 8000 + b"\n", "found a header that is not JSON", id="a header that is too deep"),
        pytest.param(
            rewritten(DATA, header={"format_version": 3}),
            "found a bundle of format version 3; this certfleet reads 1 to 2",
            id="a newer format",
        ),
        pytest.param(
            rewritten(DATA, header={"sha256": "x"}), "found a wrong header: sha256", id="a wrong digest's form"
        ),
        pytest.param(
            rewritten(DATA, header={"length": 10**9}),
            "found a bundle of 1000000000 bytes; allowed: at most 33554432",
            id="a size beyond every bound",
        ),
        pytest.param(rewritten(DATA, body={"commit": "HEAD"}), "found a wrong body: commit", id="a ref for a commit"),
        pytest.param(
            rewritten(DATA, body={"created_at": "2026-11-23T12:00:00"}),
            "found a wrong body: created_at",
            id="a creation without a zone",
        ),
        pytest.param(
            rewritten(DATA, body={"created_at": "2026-11-23T13:00:01Z"}),
            "found a bundle created in the future",
            id="a creation in the future",
        ),
        pytest.param(rewritten(DATA, body={"extra": 1}), "found a wrong body: extra", id="an unknown field"),
        pytest.param(
            rewritten(DATA, file={"text": "a: b\n", "size": 5}),
            "desired/f.yaml: found a text that does not have the SHA-256 of its entry",
            id="a text exchanged under its digest",
        ),
        pytest.param(
            rewritten(DATA, file={"size": 4}), "desired/f.yaml: found 6 bytes, its entry shows 4", id="a wrong size"
        ),
        pytest.param(
            rewritten(DATA, file=UP), "found the path 'desired/../../etc.yaml' in the bundle", id="a path out"
        ),
        pytest.param(rewritten(DATA, file={"inner": "/f.yaml"}), "found the path '/f.yaml'", id="an absolute path"),
        pytest.param(rewritten(DATA, file={"inner": "..\\f.yaml"}), "found the path", id="a path out on Windows"),
        pytest.param(rewritten(DATA, file={"inner": "f.py"}), "found the file 'f.py'", id="a file of another kind"),
        pytest.param(
            rewritten(DATA, file={"text": "\ud800"}), "desired/f.yaml: found half a surrogate pair", id="half a pair"
        ),
    ],
)
def test_a_bundle_that_is_not_what_it_says_is_refused(data, message):
    assert message in refusal(data)


def test_a_file_stands_once_in_a_bundle():
    assert (
        refusal(write_bundle(replace(BUNDLE, files=(FILE, FILE)))) == "found two files of the same path in the bundle"
    )


def test_the_documents_of_a_bundle_are_bounded_like_any_others():
    bundle = read_bundle(write_bundle(replace(BUNDLE, files=(replace(FILE, text="x" * 50),))), now=NOW)
    with pytest.raises(DesiredStateError, match="the file has 50 bytes; allowed: at most 20"):
        load(BundleSource(bundle), now=NOW, limits=Limits(max_file_bytes=20))


class TestSignature:
    def test_a_bundle_signed_by_the_trusted_key_is_read(self):
        key = EcKey()
        assert read_bundle(write_bundle(BUNDLE, key), now=NOW, verifier=key) == BUNDLE

    def test_an_unsigned_bundle_is_refused_where_signatures_are_wanted(self):
        assert "found no signature" in refusal(DATA, verifier=EcKey())

    def test_a_signature_by_another_key_is_refused(self):
        message = refusal(write_bundle(BUNDLE, EcKey()), verifier=EcKey())
        assert "does not belong to this bundle and the trusted key (it names test-key)" in message

    def test_a_signature_does_not_fit_a_body_with_digests_made_right_again(self):
        key = EcKey()
        forged = rewritten(write_bundle(BUNDLE, key), body={"repository": "github.com/evil/fleet"})
        assert "does not belong to this bundle" in refusal(forged, verifier=key)

    def test_a_signature_that_is_none_is_refused(self):
        key = EcKey()
        forged = rewritten(write_bundle(BUNDLE, key), header={"signature": "?", "key_id": None})
        assert "it names an unnamed key" in refusal(forged, verifier=key)


class TestKms:
    """Against KMS' published shapes: botocore checks every parameter and answer."""

    KEY = "arn:aws:kms:eu-west-1:123456789012:key/1"
    DIGEST = sha256(b"body").digest()

    @pytest.fixture
    def kms(self):
        client = get_session().create_client(
            "kms", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        with Stubber(client) as stubber:
            yield client, stubber
            stubber.assert_no_pending_responses()

    def parameters(self, **more):
        return {
            "KeyId": self.KEY,
            "Message": self.DIGEST,
            "MessageType": "DIGEST",
            "SigningAlgorithm": "ECDSA_SHA_256",
            **more,
        }

    def test_the_digest_is_signed_by_the_key(self, kms):
        client, stubber = kms
        stubber.add_response("sign", {"Signature": b"signature"}, self.parameters())
        key = KmsKey(client, self.KEY)
        assert (key.sign(self.DIGEST), key.key_id) == (b"signature", self.KEY)

    @pytest.mark.parametrize("is_valid", [True, False])
    def test_what_kms_says_of_a_signature_counts(self, kms, is_valid):
        client, stubber = kms
        stubber.add_response("verify", {"SignatureValid": is_valid}, self.parameters(Signature=b"signature"))
        assert KmsKey(client, self.KEY).verify(self.DIGEST, b"signature") is is_valid

    def test_a_signature_that_kms_calls_invalid_is_not_good(self, kms):
        client, stubber = kms
        stubber.add_client_error("verify", "KMSInvalidSignatureException", http_status_code=400)
        assert not KmsKey(client, self.KEY).verify(self.DIGEST, b"signature")

    def test_no_signature_is_not_good_and_not_asked_for(self, kms):
        client, _ = kms
        assert not KmsKey(client, self.KEY).verify(self.DIGEST, b"")


LAST = LastApplied(BUNDLE.repository, "b" * 40, BUNDLE.committed_at - HOUR, BUNDLE.created_at)
NOT_NEXT = "found a bundle of aaaaaaaaaaaa, packed 2026-11-23T{}:00:00Z, which does not follow the one applied last, "
OF_LAST = "bbbbbbbbbbbb, packed 2026-11-23T11:00:00Z"


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        pytest.param(
            replace(BUNDLE, repository="github.com/evil/fleet"),
            "found a bundle of github.com/evil/fleet; github.com/acme/fleet was applied before",
            id="another repository",
        ),
        pytest.param(
            replace(BUNDLE, created_at=BUNDLE.created_at - HOUR), NOT_NEXT.format(10) + OF_LAST, id="an older bundle"
        ),
        pytest.param(
            replace(BUNDLE, committed_at=LAST.committed_at - HOUR, created_at=NOW),
            NOT_NEXT.format(12) + OF_LAST,
            id="an older commit in a new bundle",
        ),
        pytest.param(
            replace(BUNDLE, committed_at=LAST.committed_at, created_at=NOW),
            NOT_NEXT.format(12) + OF_LAST,
            id="another commit of the same second, of which nobody knows what lies behind it",
        ),
        pytest.param(
            replace(BUNDLE, committed_at=NOW, created_at=NOW, ancestors=("c" * 40,)),
            NOT_NEXT.format(12) + OF_LAST,
            id="a commit that does not contain the last, whatever its date",
        ),
    ],
)
def test_what_must_not_follow_the_last_bundle_is_refused(bundle, message):
    with pytest.raises(BundleError) as raised:
        require_successor(bundle, LAST)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("bundle", "last"),
    [
        pytest.param(BUNDLE, None, id="the first one"),
        pytest.param(BUNDLE, replace(LAST, commit=BUNDLE.commit, created_at=NOW), id="the same commit again"),
        pytest.param(replace(BUNDLE, committed_at=NOW, created_at=NOW), LAST, id="a newer one"),
        pytest.param(
            replace(BUNDLE, committed_at=LAST.committed_at - HOUR, ancestors=("b" * 40,)),
            LAST,
            id="one that contains the last, whatever its date",
        ),
        pytest.param(
            BUNDLE,
            replace(LAST, committed_at=NOW + timedelta(days=900), created_at=NOW - 3 * HOUR),
            id="one that follows a commit of a date to come",
        ),
    ],
)
def test_what_may_follow_is_taken(bundle, last):
    assert require_successor(bundle, last) is None


def test_a_bundle_says_what_lies_behind_its_commit_and_one_of_before_does_not():
    packed = replace(BUNDLE, ancestors=("b" * 40, "c" * 40))
    assert read_bundle(write_bundle(packed), now=NOW) == packed
    of_before = rewritten(DATA, header={"format_version": 1}, without="ancestors")
    assert read_bundle(of_before, now=NOW) == BUNDLE
