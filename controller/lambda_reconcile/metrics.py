"""Metrics in CloudWatch's embedded format: one JSON line on stdout per fleet, no call to AWS.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

NAMESPACE = "certfleet"
DIMENSION = "Fleet"


def embedded_metrics(
    fleet: str, now: datetime, values: Mapping[str, float], properties: Mapping[str, str | None]
) -> str:
    """Return one line of ``properties`` and ``values``: metrics of unit Count, or Seconds if their name ends so."""
    metrics = [{"Name": name, "Unit": "Seconds" if name.endswith("Seconds") else "Count"} for name in values]
    return json.dumps(
        {
            "_aws": {
                "Timestamp": int(now.timestamp() * 1000),
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics}],
            },
            DIMENSION: fleet,
            **values,
            **{name: value for name, value in properties.items() if value is not None},
        },
        separators=(",", ":"),
    )
