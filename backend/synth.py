"""Synthesise the template that the sandbox runs, for the demo's desired state.

``python -m backend.synth`` refreshes the checked-in template; it needs Node, the sandbox does not.
The code asset gets a fixed name, so that the template changes with the stack and not with each edit
of a handler: the sandbox takes the handlers from the working tree.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "backend" / "template" / "AWSLabsCertificateRotator.template.json"

DEMO_CONTEXT = {
    "DesiredState": str(ROOT / "desired_state" / "demo"),
    "GitHubRepository": "example/fleet",
}


def synthesise(context: dict[str, Any]) -> dict[str, Any]:
    """The template for a context, with a fixed name in place of the code asset's hash.

    A finding of cdk-nag that is not acknowledged is a RuntimeError.
    """
    os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
    # The CDK starts Node when it is imported: only who synthesises pays for that.
    from aws_cdk import App, AssetHashType, Validations  # noqa: PLC0415
    from aws_cdk import aws_lambda as lambda_  # noqa: PLC0415
    from cdk_nag import AwsSolutionsChecks  # noqa: PLC0415

    from .infrastructure.settings import from_context  # noqa: PLC0415
    from .stack import BackendStack  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        settings = from_context(context.get)
        app = App(outdir=folder)
        Validations.of(app).add_plugins(AwsSolutionsChecks(app))
        code = lambda_.Code.from_asset(
            str(ROOT / "backend" / "functions"), asset_hash="functions", asset_hash_type=AssetHashType.CUSTOM
        )
        stack = BackendStack(app, settings, code)
        template: dict[str, Any] = app.synth().get_stack_artifact(stack.artifact_id).template
        return template


def as_text(template: dict[str, Any]) -> str:
    """The file's text: keys sorted, so that a difference is a change of the stack."""
    return json.dumps(template, indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Write the checked-in template."""
    TEMPLATE.parent.mkdir(exist_ok=True)
    TEMPLATE.write_text(as_text(synthesise(DEMO_CONTEXT)), encoding="utf-8")


if __name__ == "__main__":
    main()
