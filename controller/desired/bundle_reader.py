"""Reading a bundle: nothing of it is believed before its length, digests and paths were checked."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from controller.errors import BundleError

from .bundle import FORMAT, FORMAT_VERSION, Bundle, BundledFile, Verifier, snapshot_of
from .limits import DEFAULT_LIMITS, MAX_ANCESTORS, Limits
from .sources import Snapshot, is_document_name

MAX_HEADER_BYTES = 8 * 1024
BODY_FACTOR = 2  # JSON escapes and fields make a body at most so much longer than its documents
CLOCK_TOLERANCE = timedelta(hours=1)  # a bundle "from the future" beyond this would block all later ones

_PUBLISH = "Publish the bundle again: certfleet bundle."


_Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}(?:[0-9a-f]{24})?$")]


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["certfleet-bundle"]
    format_version: int
    length: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    key_id: str | None = None
    signature: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    inner: str
    size: int
    sha256: str
    text: str


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    repository: Annotated[str, Field(min_length=1)]
    commit: _Commit
    committed_at: AwareDatetime
    created_at: AwareDatetime
    ancestors: Annotated[list[_Commit], Field(max_length=MAX_ANCESTORS)] | None = None  # not in bundles of old
    files: list[_File]


@dataclass(frozen=True, slots=True)
class BundleSource:
    """Documents of a bundle that ``read_bundle`` accepted."""

    bundle: Bundle

    def read(self, limits: Limits) -> Snapshot:
        """Return the bundle's files under the limits."""
        return snapshot_of(self.bundle, limits)


def read_bundle(
    data: bytes, *, now: datetime, verifier: Verifier | None = None, limits: Limits = DEFAULT_LIMITS
) -> Bundle:
    """Check and read a bundle's bytes; BundleError shows which check failed.

    With a ``verifier`` a bundle must be signed, by the key that it trusts. Without one a signature
    is not looked at: then whoever can write the bundle is trusted.
    """
    header, body = _split(data, limits)
    digest = sha256(body)
    if digest.hexdigest() != header.sha256:
        raise BundleError(
            f"found a body with the SHA-256 {digest.hexdigest()[:16]}…, the header shows {header.sha256[:16]}…: "
            "the bundle was changed after it was written",
            _PUBLISH,
        )
    if verifier is not None:
        _require_signature(header, digest.digest(), verifier)
    fields = _parse_body(body)
    if fields.created_at > now + CLOCK_TOLERANCE:
        found = fields.created_at.astimezone(UTC).isoformat()
        raise BundleError(f"found a bundle created in the future, at {found}", "Set the clock of whoever published it.")
    files = tuple(_file(each) for each in fields.files)
    if len({each.inner for each in files}) != len(files):
        raise BundleError("found two files of the same path in the bundle", _PUBLISH)
    behind = None if fields.ancestors is None else tuple(fields.ancestors)
    return Bundle(fields.repository, fields.commit, fields.committed_at, fields.created_at, files, behind)


def _split(data: bytes, limits: Limits) -> tuple[_Header, bytes]:
    """Return header and body, of the lengths that the header gives."""
    line, newline, body = data[: MAX_HEADER_BYTES + 1].partition(b"\n")
    if not newline:
        raise BundleError("found no header line: this is not a bundle, or its beginning is missing", _PUBLISH)
    body = data[len(line) + 1 :]
    found = _json(line, "header")
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BundleError(f"found no {FORMAT} header: this is not a bundle", _PUBLISH)
    version = found.get("format_version")
    if version not in range(1, FORMAT_VERSION + 1):
        message = f"found a bundle of format version {version!r}; this certfleet reads 1 to {FORMAT_VERSION}"
        raise BundleError(message, "Install the certfleet that wrote it, on both sides.")
    try:
        header = _Header.model_validate(found)
    except ValidationError as error:
        raise BundleError(f"found a wrong header: {_first(error)}", _PUBLISH) from None
    most = limits.max_total_bytes * BODY_FACTOR
    if header.length > most:
        raise BundleError(
            f"found a bundle of {header.length} bytes; allowed: at most {most}", "Split the desired state."
        )
    if len(body) < header.length:
        message = f"found {len(body)} of {header.length} bytes: the bundle is truncated"
        raise BundleError(message, "Fetch it again; if that does not help, publish it again: certfleet bundle.")
    if len(body) > header.length:
        raise BundleError(f"found {len(body) - header.length} bytes after the end of the bundle", _PUBLISH)
    return header, body


def _require_signature(header: _Header, digest: bytes, verifier: Verifier) -> None:
    if header.signature is None:
        raise BundleError(
            "found no signature; this reconcile run takes signed bundles only",
            "Publish it signed: certfleet bundle --kms-key ARN --output s3://BUCKET/KEY.",
        )
    try:
        signature = base64.b64decode(header.signature, validate=True)
    except binascii.Error:
        signature = b""
    if not verifier.verify(digest, signature):
        key = header.key_id or "an unnamed key"
        message = f"found a signature that does not belong to this bundle and the trusted key (it names {key})"
        raise BundleError(message, "Find out who published it before publishing again.")


def _parse_body(body: bytes) -> _Body:
    try:
        return _Body.model_validate(_json(body, "body"))
    except ValidationError as error:
        raise BundleError(f"found a wrong body: {_first(error)}", _PUBLISH) from None


def _json(data: bytes, part: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise BundleError(f"found a {part} that is not JSON", _PUBLISH) from None


def _file(file: _File) -> BundledFile:
    """Return one file if it is what its entry gives and its path stays inside."""
    for path in (file.path, file.inner):
        parts = path.split("/")
        if not path.isprintable() or "\\" in path or any(part in {"", ".", ".."} for part in parts):
            raise BundleError(f"found the path {path!r} in the bundle; allowed: paths inside the folder", _PUBLISH)
    if not is_document_name(file.inner.rpartition("/")[2]):
        raise BundleError(f"found the file {file.inner!r} in the bundle; allowed: *.yaml, *.yml", _PUBLISH)
    try:
        data = file.text.encode("utf-8")
    except UnicodeEncodeError:
        raise BundleError(f"{file.path}: found half a surrogate pair; allowed: text", _PUBLISH) from None
    if len(data) != file.size:
        raise BundleError(f"{file.path}: found {len(data)} bytes, its entry shows {file.size}", _PUBLISH)
    if sha256(data).hexdigest() != file.sha256:
        raise BundleError(f"{file.path}: found a text that does not have the SHA-256 of its entry", _PUBLISH)
    return BundledFile(file.path, file.inner, file.text)


def _first(error: ValidationError) -> str:
    detail = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in detail["loc"]) or "the whole"
    return f"{place}: {detail['msg']}"
