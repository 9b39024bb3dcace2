"""Grafana as the configuration file names it: for charts of messages and, where wanted, for annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, SecretStr, TypeAdapter, ValidationError

from webhook.alert_type_settings import Duration
from webhook.channel_options import with_secrets

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_KNOWN = ("account_id", "alert_type")
LONGEST_BUDGET = timedelta(seconds=60)


def _url(value: str) -> str:
    TypeAdapter(HttpUrl).validate_python(value)
    return value.rstrip("/")


def _template(value: str) -> str:
    if unknown := [name for name in _PLACEHOLDER.findall(value) if name not in _KNOWN]:
        raise ValueError(f"names {unknown[0]!r}; there are {', '.join(_KNOWN)}")
    return value


def _short(value: timedelta) -> timedelta:
    if value > LONGEST_BUDGET:
        raise ValueError("must be at most a minute")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class DashboardPanel(_Strict):
    """Where an alert type is drawn. In the values of `variables` {account_id} and {alert_type} are the alert's."""

    uid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = Field(description="The dashboard's.")
    panel: Annotated[int, Field(ge=1)] = Field(description="The panel's id.")
    variables: dict[Annotated[str, Field(pattern=r"^\w+$")], Annotated[str, AfterValidator(_template)]] = Field(
        {"account_id": "{account_id}", "alert_type": "{alert_type}"},
        description="Of the dashboard; {account_id} and {alert_type} are the alert's.",
    )


class GrafanaSettings(_Strict):
    """`dashboards`: by alert type, and `default` for the others; without either a chart is drawn locally."""

    url: Annotated[str, AfterValidator(_url)] = Field(description="Where Grafana is.")
    token: SecretStr = Field(description="Of a service account.")
    dashboards: dict[str, DashboardPanel] = Field(
        {}, description="By alert type, and `default`; without either a chart is drawn locally."
    )
    budget: Annotated[Duration, AfterValidator(_short)] = Field(
        timedelta(seconds=10), description="For one picture, at most 1m."
    )
    parallel: Annotated[int, Field(ge=1, le=20)] = Field(2, description="Pictures at a time.")
    annotations: bool = Field(False, description="Whether alerts are marked on the dashboards.")

    def channel_options(self) -> dict[str, Any]:
        """Of the channel that writes annotations."""
        dashboards = {name: {"uid": one.uid, "panel": one.panel} for name, one in self.dashboards.items()}
        return {"url": self.url, "token": self.token, "dashboards": dashboards}


def grafana_settings(
    given: Mapping[str, Any] | None, environment: Mapping[str, str], problems: list[str]
) -> GrafanaSettings | None:
    """None where it is not configured, or wrongly: then `problems` says how."""
    if given is None:
        return None
    found: list[str] = []
    options = with_secrets({"grafana": given}, environment, found)["grafana"]
    problems += [problem.removeprefix("channels.") for problem in found]
    try:
        return GrafanaSettings.model_validate(options)
    except ValidationError as error:
        for detail in error.errors(include_input=False, include_url=False):
            place = ".".join(map(str, ("grafana", *detail["loc"])))
            problems.append(f"{place}: {detail['msg'].removeprefix('Value error, ')}")
        return None
