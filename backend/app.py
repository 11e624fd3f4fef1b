"""The CDK application: ``npx cdk synth`` and ``npx cdk deploy`` in the project's folder run it."""

from __future__ import annotations

from aws_cdk import App, Validations
from aws_cdk import aws_lambda as lambda_
from cdk_nag import AwsSolutionsChecks

from backend.build import build, build_reconcile
from backend.infrastructure.settings import from_context
from backend.stack import BackendStack


def main() -> None:
    """Build the functions' code, check the stack with cdk-nag, write the cloud assembly."""
    app = App()
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    settings = from_context(app.node.try_get_context)
    reconcile_code = lambda_.Code.from_asset(str(build_reconcile())) if settings.reconcile else None
    BackendStack(app, settings, lambda_.Code.from_asset(str(build())), reconcile_code)
    app.synth()


if __name__ == "__main__":
    main()
