"""HTTP as GitHub asks its clients to speak it: through the environment's proxy, waiting if GitHub demands that.

Source: GitHub Docs, "Best practices for using the REST API" and "Rate limits for the REST API": a request over a
limit is refused with 403 or 429; Retry-After, or X-RateLimit-Reset if X-RateLimit-Remaining is 0, shows until when.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from controller.plain_text import one_line

ATTEMPTS = 5
MAX_WAIT_SECONDS = 300.0  # for a limit; a job has more to do than to wait
TIMEOUT_SECONDS = 20.0
_LIMITED = frozenset({403, 429})
_AT_FAULT = frozenset({500, 502, 503, 504})
_REPEATABLE = frozenset({"GET", "PATCH", "PUT"})  # a POST that was lost on the way back would post twice
_WITHOUT_A_WORD = 60.0  # seconds to wait where a limit does not say how long
_REDIRECTS = urllib3.Retry(total=3, connect=0, read=0, status=0, other=0, redirect=3, respect_retry_after_header=False)


class Transport:
    """``sleep`` and ``clock`` (seconds since 1970) pace the waiting."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.time) -> None:
        self._sleep, self._clock = sleep, clock
        self._pools: dict[str | None, urllib3.PoolManager] = {}

    def request(self, method: str, address: str, **what: Any) -> urllib3.BaseHTTPResponse:
        """Return an address's answer to a method, the last that is worth waiting for; raises urllib3's HTTPError."""
        pool = self._pool(address)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = pool.request(method, address, retries=_REDIRECTS, timeout=TIMEOUT_SECONDS, **what)
            except urllib3.exceptions.HTTPError as error:
                if attempt == ATTEMPTS or not (method in _REPEATABLE or _was_not_sent(error)):
                    raise
                self._sleep(_backoff(attempt))
                continue
            pause = self._pause(response, method, attempt)
            if pause is None or attempt == ATTEMPTS:
                break
            self._sleep(pause)
        return response

    def is_limited(self, response: urllib3.BaseHTTPResponse) -> bool:
        """Return whether an answer refuses because of a rate, and not for ever."""
        headers = response.headers
        says_so = "Retry-After" in headers or headers.get("X-RateLimit-Remaining") == "0"
        return response.status in _LIMITED and (says_so or b"rate limit" in response.data.lower())

    def _pause(self, response: urllib3.BaseHTTPResponse, method: str, attempt: int) -> float | None:
        if self.is_limited(response):
            wait = self._until_allowed(response)
            return wait if wait <= MAX_WAIT_SECONDS else None
        if response.status in _AT_FAULT and method in _REPEATABLE:
            return _backoff(attempt)
        return None

    def _until_allowed(self, response: urllib3.BaseHTTPResponse) -> float:
        after, reset = response.headers.get("Retry-After", ""), response.headers.get("X-RateLimit-Reset", "")
        if after.isdecimal():
            return float(after)
        if reset.isdecimal():
            return max(0.0, float(reset) - self._clock()) + 1
        return _WITHOUT_A_WORD

    def _pool(self, address: str) -> urllib3.PoolManager:
        """Return a pool that uses the environment's proxy for this scheme, unless NO_PROXY names the host."""
        parts = urlsplit(address)
        proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
        if proxy not in self._pools:
            self._pools[proxy] = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
        return self._pools[proxy]


def _was_not_sent(error: urllib3.exceptions.HTTPError) -> bool:
    cause = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) else error
    return isinstance(cause, (urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.NewConnectionError))


def _backoff(attempt: int) -> float:
    return 0.5 * float(2**attempt)


def beginning(response: urllib3.BaseHTTPResponse) -> str:
    """Return the first characters of an answer, on one line, for a message."""
    return one_line(response.data[:300].decode(errors="replace"))
