"""The settings of the reconcile Lambda, from its environment; checked before anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from controller.errors import CertfleetError

PREFIX = "CERTFLEET_"


class ReconcileSettings(BaseModel):
    """``CERTFLEET_`` and the field's name in capitals is its variable."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    bucket: Annotated[str, Field(min_length=3, max_length=63)] = Field(
        description="The bucket that holds the bundle and what the function keeps."
    )
    repository: Annotated[str, Field(min_length=1)] = Field(
        description="Host and path of the one repository whose bundles are taken, such as `github.com/acme/fleet`."
    )
    bundle_key: Annotated[str, Field(min_length=1)] = Field(
        default="desired-state.bundle", description="The bundle's key in the bucket."
    )
    state_prefix: Annotated[str, Field(pattern=r"^[\w./-]+/$")] = Field(
        default="reconcile/", description="The prefix of what the function keeps in the bucket."
    )
    topic_arn: str = Field(default="", description="The topic for notifications. Left out: nobody is notified.")
    kms_key_arn: str = Field(
        default="",
        description="The KMS key that must have signed the bundle. Left out: any writer to the bucket is trusted.",
    )
    fleet: str = Field(default="", description="One fleet of the bundle. Left out: every fleet.")
    question_machine_arn: str = Field(
        default="",
        description="The state machine that asks about a refused plan. Left out: a refusal is reported, and no one is "
        "asked.",
    )
    answer_url: str = Field(
        default="", description="The page for looking at questions and answering them. Left out: there is none."
    )
    reserve_seconds: Annotated[float, Field(ge=1, le=300)] = Field(
        default=30.0, description="Seconds that are kept for saving the inventory and for the report."
    )

    @model_validator(mode="after")
    def _bundle_is_apart(self) -> Self:
        if self.bundle_key.startswith(self.state_prefix):
            raise ValueError("the bundle may not lie below the state prefix: CI writes the one, the Lambda the other")
        return self


def read_settings(environment: Mapping[str, str]) -> ReconcileSettings:
    """Return the settings; CertfleetError names every variable that is wrong."""
    variables = {name: PREFIX + name.upper() for name in ReconcileSettings.model_fields}
    values = {name: environment[variable] for name, variable in variables.items() if environment.get(variable)}
    try:
        return ReconcileSettings.model_validate(values)
    except ValidationError as error:
        wrong = [
            f"{PREFIX}{'.'.join(str(part) for part in each['loc']).upper() or '…'}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise CertfleetError(
            "the function's environment is wrong: " + "; ".join(wrong),
            "Deploy the stack again with the context that docs/lambda-reconcile.md describes.",
        ) from None
