"""`summaries:` of the configuration file: models in order, their time, their budget; checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

import durationpy
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, TypeAdapter, ValidationError, field_validator

from webhook.alert_type_settings import Duration
from webhook.channel_options import with_secrets

LONGEST_BUDGET = timedelta(seconds=30)
"""What a worker's lease on a message, a minute, leaves for it beside sending."""

BUDGET = timedelta(seconds=5)
_URL: TypeAdapter[HttpUrl] = TypeAdapter(HttpUrl)
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ModelOptions(BaseModel):
    """One model behind an OpenAI-compatible `/chat/completions`; `price_in`, `price_out` for a million tokens.

    `name` is how metrics, logs and alerts call it. Without `timeout` it gets an equal part of the time that is left.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="How metrics, logs and alerts call it."
    )
    model: Annotated[str, Field(min_length=1)] = Field(description="What the provider calls it.")
    base_url: str | None = Field(None, description="Of an OpenAI-compatible API; OpenAI's by default.")
    api_key: SecretStr | None = Field(None, description="The provider's key.")
    timeout: Duration | None = Field(None, description="Of one try; an equal part of what is left by default.")
    max_tokens: Annotated[int, Field(ge=100, le=100_000)] = Field(1200, description="Of an answer.")
    price_in: Price = Field(0, description="For a million tokens, in any currency.")
    price_out: Price = Field(0, description="The same, of answers.")

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        _URL.validate_python(value)
        return value.rstrip("/")


class SummarySettings(BaseModel):
    """`budget` holds for all models and tries together. `tokens_per_day` is over all processes; none: no bound."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    models: Annotated[list[ModelOptions], Field(max_length=10)] = Field([], description="Asked in this order.")
    budget: Duration = Field(BUDGET, description="For all models and tries together, at most 30s.")
    tokens_per_day: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Over all processes, a day is UTC; without it there is no bound."
    )
    cache_age: Duration = Field(timedelta(hours=1), description="How long texts are kept for alerts much like them.")
    cache_size: Annotated[int, Field(ge=0, le=100_000)] = Field(500, description="How many; 0 keeps none.")
    batch_size: Annotated[int, Field(ge=1, le=16)] = Field(8, description="Most alerts of one merchant in one call.")
    batch_wait: Duration = Field(timedelta(milliseconds=300), description="How long P2 and P3 wait for each other.")
    rest_after: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Failures in a row after which a model is rested."
    )
    rest: Duration = Field(timedelta(seconds=30), description="For how long; twice as long each time.")

    @field_validator("models")
    @classmethod
    def _names(cls, models: list[ModelOptions]) -> list[ModelOptions]:
        names = [model.name for model in models]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two models are called {', '.join(twice)}")
        return models

    @field_validator("budget")
    @classmethod
    def _within_a_lease(cls, value: timedelta) -> timedelta:
        if value > LONGEST_BUDGET:
            raise ValueError(f"must be at most {durationpy.to_str(LONGEST_BUDGET)}")
        return value

    def secrets(self) -> list[SecretStr]:
        return [model.api_key for model in self.models if model.api_key is not None]


def summary_settings(given: Mapping[str, Any], environment: Mapping[str, str], problems: list[str]) -> SummarySettings:
    """As the file has it, keys read from where it says; what is wrong is added to `problems`."""
    models = given.get("models") or []
    if isinstance(models, list) and all(isinstance(model, dict) for model in models):
        numbered = {str(number): model for number, model in enumerate(models)}
        read = with_secrets(numbered, environment, problems, under="summaries.models")
        given = {**given, "models": list(read.values())}
    try:
        return SummarySettings.model_validate(given)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            place = ".".join(map(str, ("summaries", *detail["loc"])))
            problems.append(f"{place}: {detail['msg'].removeprefix('Value error, ')}")
        return SummarySettings()
