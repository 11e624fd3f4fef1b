"""What cdk-nag (AwsSolutions) finds and we accept, each with its reason."""

from __future__ import annotations

from constructs import Construct


def acknowledge(_stack: Construct) -> None:
    """Record the reasons in the construct tree."""
