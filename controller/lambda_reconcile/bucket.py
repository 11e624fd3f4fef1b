"""The bucket: the bundle that CI puts there, and what the Lambda keeps.

Whatever is kept is written under the condition that nobody wrote since it was read (If-Match, or
If-None-Match if there was nothing), so two runs at once cannot undo each other's record.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from controller.errors import CertfleetError, FleetError

_NOT_FOUND = frozenset({"NoSuchKey", "404"})
_LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class LostRaceError(CertfleetError):
    """Another run wrote the object after this one had read it."""


@dataclass(frozen=True, slots=True)
class Version:
    """One state of one object; ``etag`` is None if there was no object."""

    key: str
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read."""

    version: Version
    data: bytes | None  # None: there was no object


class Bucket:
    """One S3 bucket; ``client`` is a boto3 client. Raises FleetError if S3 refuses."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name

    def read(self, key: str, most: int) -> Stored:
        """Return the object of a key, of at most ``most`` bytes; a longer one is cut there."""
        try:
            answer = self._client.get_object(Bucket=self._name, Key=key)
            with closing(answer["Body"]) as body:
                return Stored(Version(key, answer["ETag"]), body.read(most))
        except ClientError as error:
            if _code(error) in _NOT_FOUND:
                return Stored(Version(key), None)
            raise self._explain("read", key, error) from error
        except (BotoCoreError, OSError) as error:
            raise self._explain("read", key, error) from error

    def fetch(self, key: str, path: Path) -> Version:
        """Copy the object of a key to a file, whole or not at all; leaves no file if there is no object."""
        try:
            answer = self._client.get_object(Bucket=self._name, Key=key)
            with closing(answer["Body"]) as body, path.open("wb") as file:
                for chunk in body.iter_chunks(1024 * 1024):
                    file.write(chunk)
        except ClientError as error:
            if _code(error) in _NOT_FOUND:
                return Version(key)
            raise self._explain("read", key, error) from error
        except (BotoCoreError, OSError) as error:
            path.unlink(missing_ok=True)
            raise self._explain("read", key, error) from error
        return Version(key, answer["ETag"])

    def write(self, before: Version, data: bytes | Path) -> Version:
        """Replace the state ``before`` of the object and no other; LostRaceError if it has changed."""
        condition = {"IfNoneMatch": "*"} if before.etag is None else {"IfMatch": before.etag}
        try:
            if isinstance(data, Path):
                with data.open("rb") as file:
                    answer = self._client.put_object(Bucket=self._name, Key=before.key, Body=file, **condition)
            else:
                answer = self._client.put_object(Bucket=self._name, Key=before.key, Body=data, **condition)
        except ClientError as error:
            if _code(error) in _LOST or (before.etag is not None and _code(error) in _NOT_FOUND):
                raise LostRaceError(
                    f"another run wrote s3://{self._name}/{before.key} in the meantime; this run's copy is discarded",
                    "Nothing need be done: the next run reads what the other one wrote.",
                ) from error
            raise self._explain("write", before.key, error) from error
        except (BotoCoreError, OSError) as error:
            raise self._explain("write", before.key, error) from error
        return Version(before.key, answer["ETag"])

    def _explain(self, verb: str, key: str, error: Exception) -> FleetError:
        return FleetError(
            f"s3://{self._name}/{key}: cannot {verb}: {error}",
            "See that the function's role may use the bucket and its key, and that the bucket exists.",
        )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
