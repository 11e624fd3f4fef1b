"""What the reconcile Lambda is told by its environment; checked before anything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from controller.errors import CertfleetError

PREFIX = "CERTFLEET_"


class Settings(BaseModel):
    """``CERTFLEET_`` and the field's name in capitals is its variable."""

    model_config = ConfigDict(frozen=True, extra="ignore", str_strip_whitespace=True)

    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    repository: Annotated[str, Field(min_length=1)]  # host and path, such as github.com/acme/fleet; no other is taken
    bundle_key: Annotated[str, Field(min_length=1)] = "desired-state.bundle"
    state_prefix: Annotated[str, Field(pattern=r"^[\w./-]+/$")] = "reconcile/"
    topic_arn: str = ""  # empty: nobody is notified
    kms_key_arn: str = ""  # empty: whoever may write to the bucket is trusted
    fleet: str = ""  # empty: every fleet of the bundle
    question_machine_arn: str = ""  # empty: nobody is asked about a refused plan
    answer_url: str = ""  # where people look at questions and answer them
    reserve_seconds: Annotated[float, Field(ge=1, le=300)] = 30.0  # kept for saving what is known, and for reporting

    @model_validator(mode="after")
    def _bundle_is_apart(self) -> Self:
        if self.bundle_key.startswith(self.state_prefix):
            raise ValueError("the bundle may not lie below the state prefix: CI writes the one, the Lambda the other")
        return self


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings; CertfleetError names every variable that is wrong."""
    variables = {name: PREFIX + name.upper() for name in Settings.model_fields}
    values = {name: environment[variable] for name, variable in variables.items() if environment.get(variable)}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        wrong = [
            f"{PREFIX}{'.'.join(str(part) for part in each['loc']).upper() or '…'}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        ]
        raise CertfleetError(
            "the function's environment is wrong: " + "; ".join(wrong),
            "Deploy the stack again with the context that docs/lambda-reconcile.md describes.",
        ) from None
