"""Device shadows, classic and named, over HTTPS and over MQTT.

Merging is AWS's: objects merge, null removes, everything else (lists too) replaces. ``delta`` is what
``desired`` holds and ``reported`` does not.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from sandbox.bus import Message

from .errors import AwsError, not_found
from .iot.things import Things
from .paging import answer, page
from .site import Site, epoch_seconds

MAX_DOCUMENT_BYTES = 8 * 1024
_TOPIC = re.compile(r"\$aws/things/(?P<thing>[^/]+)/shadow(?:/name/(?P<name>[^/]+))?/(?P<method>get|update|delete)")


@dataclass(slots=True)
class Shadow:
    """One shadow; ``version`` goes on counting over deletions."""

    state: dict[str, Any]
    metadata: dict[str, Any]
    version: int


class Shadows:
    """All shadows, and the calls about them. Keys are thing and shadow name, "" for the classic one."""

    def __init__(self, site: Site, things: Things) -> None:
        self._site = site
        self._things = things
        self._by_key: dict[tuple[str, str], Shadow] = {}
        self._last_version: dict[tuple[str, str], int] = {}
        site.bus.listen(self._heard)
        things.on_deleted.append(self._thing_deleted)

    # -- the API of iot-data

    def get_thing_shadow(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the document with metadata and delta."""
        key = self._key(request)
        return {"payload": json.dumps(self._document(self._require(key))).encode()}

    def update_thing_shadow(self, request: dict[str, Any]) -> dict[str, Any]:
        """Merge a document into the shadow."""
        return {"payload": json.dumps(self._update(self._key(request), request["payload"])).encode()}

    def delete_thing_shadow(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete the shadow."""
        return {"payload": json.dumps(self._delete(self._key(request))).encode()}

    def list_named_shadows_for_thing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the names of a thing's named shadows."""
        self._things.require(request["thingName"])
        names = [name for thing, name in self._by_key if thing == request["thingName"] and name]
        found, token = page(names, str, request, size="pageSize")
        return {**answer("results", found, token), "timestamp": epoch_seconds(self._site.now())}

    # -- inside

    def _key(self, request: dict[str, Any]) -> tuple[str, str]:
        return self._things.require(request["thingName"]).name, request.get("shadowName") or ""

    def _require(self, key: tuple[str, str]) -> Shadow:
        if key not in self._by_key:
            raise not_found("shadow", "/".join(part for part in key if part))
        return self._by_key[key]

    def _update(self, key: tuple[str, str], payload: bytes) -> dict[str, Any]:
        request = _parsed(payload)
        before = self._by_key.get(key)
        version = before.version if before else self._last_version.get(key, 0)
        if request.get("version") not in (None, version):
            raise AwsError("ConflictException", f"version conflict: the shadow has version {version}")
        changes = {part: request["state"][part] for part in ("desired", "reported") if part in request["state"]}
        now = epoch_seconds(self._site.now())
        state = _merged(before.state if before else {}, changes)
        metadata = _merged(before.metadata if before else {}, {k: _stamped(v, now) for k, v in changes.items()})
        shadow = Shadow(state, metadata, version + 1)
        self._by_key[key], self._last_version[key] = shadow, shadow.version
        answer_ = {"state": changes, "metadata": {k: _stamped(v, now) for k, v in changes.items() if v is not None},
                   "version": shadow.version, "timestamp": now}  # fmt: skip
        if "clientToken" in request:
            answer_["clientToken"] = request["clientToken"]
        self._tell(key, "update/accepted", answer_)
        self._tell(key, "update/documents", {
            "previous": _whole(before) if before else None, "current": _whole(shadow), "timestamp": now,
        })  # fmt: skip
        delta = _difference(state.get("desired") or {}, state.get("reported") or {})
        if delta and "desired" in changes:
            self._tell(key, "update/delta", {"state": delta, "version": shadow.version, "timestamp": now})
        return answer_

    def _delete(self, key: tuple[str, str]) -> dict[str, Any]:
        shadow = self._require(key)
        del self._by_key[key]
        gone = {"version": shadow.version, "timestamp": epoch_seconds(self._site.now())}
        self._tell(key, "delete/accepted", gone)
        return gone

    def _document(self, shadow: Shadow) -> dict[str, Any]:
        state = dict(shadow.state)
        delta = _difference(state.get("desired") or {}, state.get("reported") or {})
        if delta:
            state["delta"] = delta
        return {"state": state, "metadata": shadow.metadata, "version": shadow.version,
                "timestamp": epoch_seconds(self._site.now())}  # fmt: skip

    def _tell(self, key: tuple[str, str], outcome: str, payload: dict[str, Any]) -> None:
        thing, name = key
        self._site.publish(f"$aws/things/{thing}/shadow/{f'name/{name}/' if name else ''}{outcome}", payload)

    def _heard(self, message: Message) -> None:
        """Handle a device's message about a shadow."""
        match = _TOPIC.fullmatch(message.topic) if message.client_id is not None else None
        if match is None:
            return
        key, method = (match["thing"], match["name"] or ""), match["method"]
        with self._site.transaction():
            try:
                self._things.require(match["thing"])
                if method == "update":
                    self._update(key, message.payload)
                elif method == "delete":
                    self._delete(key)
                else:
                    self._tell(key, "get/accepted", self._document(self._require(key)))
            except AwsError as error:
                code = {"ResourceNotFoundException": 404, "ConflictException": 409}.get(error.code, 400)
                self._tell(key, f"{method}/rejected", {"code": code, "message": error.message})

    def _thing_deleted(self, thing: str) -> None:
        for key in [key for key in self._by_key if key[0] == thing]:
            del self._by_key[key]


def _parsed(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_DOCUMENT_BYTES:
        raise AwsError("RequestEntityTooLargeException", f"a shadow update has at most {MAX_DOCUMENT_BYTES} bytes")
    try:
        request = json.loads(payload)
    except ValueError as error:
        raise AwsError("InvalidRequestException", f"the payload is not JSON: {error}") from None
    state = request.get("state") if isinstance(request, dict) else None
    if not isinstance(state, dict) or any(not isinstance(v, dict | None) for v in state.values()):
        raise AwsError("InvalidRequestException", "the payload needs a state of desired and reported objects")
    return dict(request)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _stamped(value: Any, now: int) -> Any:
    """Return the metadata of a state: a timestamp for each leaf."""
    if isinstance(value, dict):
        return {key: _stamped(inner, now) if inner is not None else None for key, inner in value.items()}
    return None if value is None else {"timestamp": now}


def _difference(desired: dict[str, Any], reported: dict[str, Any]) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    for key, value in desired.items():
        if isinstance(value, dict) and isinstance(reported.get(key), dict):
            inner = _difference(value, reported[key])
            if inner:
                delta[key] = inner
        elif key not in reported or reported[key] != value:
            delta[key] = value
    return delta


def _whole(shadow: Shadow) -> dict[str, Any]:
    return {"state": shadow.state, "metadata": shadow.metadata, "version": shadow.version}
