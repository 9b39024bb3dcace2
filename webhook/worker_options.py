"""The settings of the worker alone."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from webhook.alert_type_settings import Duration
from webhook.config import ConfigError

PREFIX = "SENTINEL_WORKER_"


class WorkerOptions(BaseSettings):
    """`SENTINEL_WORKER_*`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, description="Where metrics and health are served; without it they are not."
    )
    metrics_host: str = Field("127.0.0.1", description="The address to listen on.")
    sweep_interval: Duration | None = Field(
        None, description="How often sessions are settled; follows the shortest timeout by default."
    )
    parallel: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Messages of each channel at a time.")


def worker_options() -> WorkerOptions:
    """From the environment; raise ConfigError with everything that is wrong."""
    try:
        return WorkerOptions()
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        raise ConfigError(
            f"{PREFIX}{str(detail['loc'][0]).upper()}: {detail['msg'].removeprefix('Value error, ')}"
            for detail in details
        ) from None
