"""How fast each AWS API may be called: one table, and the token bucket that keeps to it.

Numbers are AWS's default quotas per account and region (Service Quotas, service ``iotcore`` and
``acm-pca``; the code of each stands beside it). We run at 80 % of them, because devices, consoles
and other tools of the account draw on the same quotas.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

SHARE = 0.8  # of the quota
DEFAULT_PER_SECOND = 10.0  # for an API that the table does not name: the lowest quota in it


@dataclass(frozen=True, slots=True)
class Quota:
    """Calls per second that AWS allows by default; ``code`` is that of Service Quotas, if known."""

    per_second: float
    code: str | None = None


QUOTAS: Final[dict[str, Quota]] = {
    # listings of the registry
    "ListThings": Quota(10, "L-57AAC135"),
    "ListThingsInThingGroup": Quota(25, "L-D33FD5F9"),
    "ListThingPrincipals": Quota(10, "L-FC3EF4D9"),
    "ListThingPrincipalsV2": Quota(10, "L-00ACEBE9"),
    "ListPrincipalThings": Quota(10, "L-C481616A"),
    "ListPrincipalThingsV2": Quota(10, "L-ED45A70B"),
    # certificates, and what they are attached to
    "DescribeCertificate": Quota(10, "L-FC864907"),
    "ListCertificates": Quota(10, "L-97DA2C60"),
    "ListCertificatesByCA": Quota(10, "L-5A0AFD83"),
    "UpdateCertificate": Quota(10, "L-77B523DC"),
    "DeleteCertificate": Quota(10, "L-EEB8F0B1"),
    "CreateCertificateFromCsr": Quota(15, "L-01BCDDCA"),
    "AttachPolicy": Quota(15, "L-CA7D4E3E"),
    "AttachThingPrincipal": Quota(15, "L-F64D1AA6"),  # 100 in newer tables
    "DetachThingPrincipal": Quota(15),  # 100 in newer tables
    "AddThingToThingGroup": Quota(60, "L-2904683A"),  # 100 in newer tables
    # control plane of jobs
    "CreateJob": Quota(10, "L-23F244D4"),
    "DescribeJob": Quota(10),
    "ListJobs": Quota(10),
    "ListJobExecutionsForJob": Quota(10),
    "ListJobExecutionsForThing": Quota(10),
    "DescribeJobExecution": Quota(10),
    # fleet indexing
    "SearchIndex": Quota(15, "L-908D0FBE"),
    "GetStatistics": Quota(15),
    "GetCardinality": Quota(15),
    "GetPercentiles": Quota(15),
    # Systems Manager
    "GetParameter": Quota(40),
    # a table that is billed by request
    "GetItem": Quota(1000),
    "BatchGetItem": Quota(100),
    "Query": Quota(100),
    "Scan": Quota(10),
    "PutItem": Quota(1000),
    "DeleteItem": Quota(1000),
    # ACM-PCA
    "IssueCertificate": Quota(25, "L-CAFB4993"),
    "GetCertificate": Quota(75, "L-1725E639"),
}


OF_A_LOOK: Final = ("ListThingsInThingGroup", "ListThingPrincipalsV2", "DescribeCertificate", "ListCertificates")
"""The calls of a look at the devices."""


def seconds_for(calls: Mapping[str, int], factor: float) -> float:
    """Return how long so many calls of each API take, side by side, at our rates with quotas times ``factor``."""
    rates = {api: QUOTAS.get(api, Quota(DEFAULT_PER_SECOND)).per_second * SHARE * factor for api in calls}
    return max((number / rates[api] for api, number in calls.items()), default=0.0)


class TokenBucket:
    """Lets callers of any thread pass at ``per_second``, with a burst of one second's worth.

    ``take`` reserves its place at once and sleeps outside the lock, so callers pass in order.
    """

    def __init__(
        self,
        per_second: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._tokens = self._burst = max(1.0, per_second)
        self._filled_at = monotonic()

    def take(self) -> None:
        """Wait for one token and take it."""
        with self._lock:
            now = self._monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
            self._filled_at = now
            self._tokens -= 1
            delay = -self._tokens / self._per_second
        if delay > 0:
            self._sleep(delay)


class RateLimits:
    """One bucket per API, made when the API is first called.

    ``factor`` multiplies every quota: 2 for an account whose quotas were doubled.
    """

    def __init__(
        self,
        factor: float = 1.0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._factor = factor
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, api: str) -> None:
        """Wait until one more call of ``api`` keeps within its rate."""
        with self._lock:
            bucket = self._buckets.get(api)
            if bucket is None:
                quota = QUOTAS.get(api, Quota(DEFAULT_PER_SECOND))
                bucket = TokenBucket(
                    quota.per_second * SHARE * self._factor, monotonic=self._monotonic, sleep=self._sleep
                )
                self._buckets[api] = bucket
        bucket.take()
