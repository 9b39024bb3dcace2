"""The file that SENTINEL_CONFIG_FILE names: what it says of alert types, checked as a whole, and the rest of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import durationpy
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from webhook.config_error import ConfigError
from webhook.domain.alert import AlertTypes, AlertTypeSettings
from webhook.domain.metric import format_duration
from webhook.domain.severity import EscalationStep, Severity


def _duration(value: object) -> object:
    """`15m`, `1h30m`, `0.5s`."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a duration with a unit, such as 15m")  # noqa: TRY004 - pydantic collects ValueError
    try:
        return durationpy.from_str(value)
    except durationpy.DurationError as error:
        raise ValueError("must be a duration with a unit, such as 15m") from error


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]


CHART_METRICS = {
    "CARD_TESTING": "block_rate",
    "VELOCITY_ATTACK": "transaction_rate",
    "ACCOUNT_TAKEOVER": "unusual_spend_rate",
    "CHARGEBACK_FRAUD": "chargeback_rate",
    "ANOMALY_DETECTION": "block_rate",
    "BLOCK_SURGE": "block_rate",
}
"""The metric that a chart of each alert type shows."""


OPERATIONS_FIELDS = ("alertname", "source", "instance", "rulename", "channel", "metric")
"""The labels that tell problems of operations apart; `rulename` is what Grafana calls a rule that has no data."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StepEntry(_Strict):
    """One escalation step: `{severity: P2, occurrence_count: 10}` or `{severity: P1, duration: 2h}`."""

    severity: Severity = Field(description="What the alert becomes.")
    occurrence_count: Annotated[int, Field(ge=1)] | None = Field(None, description="From so many occurrences on.")
    duration: Duration | None = Field(None, description="Or when it has lasted so long.")

    @model_validator(mode="after")
    def _reachable(self) -> StepEntry:
        if self.occurrence_count is None and self.duration is None:
            raise ValueError("an escalation step wants occurrence_count or duration")
        return self


class AlertTypeEntry(_Strict):
    """What a type does not say, the default says."""

    session_timeout: Duration | None = Field(None, description="How long without a trigger until the session is over.")
    window: Duration | None = Field(
        None, description="How long after that triggers still join the same alert, as comments."
    )
    occurrence_interval: Duration | None = Field(None, description="Deliveries within it are one occurrence.")
    escalation: list[StepEntry] | None = Field(None, description="Steps by which severity rises.")
    fingerprint_fields: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="Labels that tell attacks of one account and type apart."
    )
    default_metric: str | None = Field(None, description="What the chart shows.")
    flapping_restarts: Annotated[int, Field(ge=1)] | None = Field(
        None, description="So many restarts within the window are flapping."
    )
    flapping_window: Duration | None = Field(None, description="The time over which restarts are counted.")

    def over(self, base: AlertTypeSettings) -> AlertTypeSettings:
        steps = self.escalation
        fields = self.fingerprint_fields
        return AlertTypeSettings(
            session_timeout=self.session_timeout or base.session_timeout,
            window=self.window or base.window,
            occurrence_interval=self.occurrence_interval or base.occurrence_interval,
            escalation=base.escalation
            if steps is None
            else tuple(EscalationStep(step.severity, step.occurrence_count, step.duration) for step in steps),
            fingerprint_fields=base.fingerprint_fields if fields is None else tuple(fields),
            default_metric=self.default_metric or base.default_metric,
            flapping_restarts=self.flapping_restarts or base.flapping_restarts,
            flapping_window=self.flapping_window or base.flapping_window,
        )


def _problems(settings: AlertTypeSettings) -> list[str]:
    """What is wrong with values that are right one by one."""
    problems = []
    if settings.window < settings.session_timeout:
        problems.append("window is shorter than session_timeout: a trigger joins a session first, then its alert")
    if settings.occurrence_interval > settings.session_timeout:
        problems.append("occurrence_interval is longer than session_timeout: each occurrence would be a session")
    if len(set(settings.fingerprint_fields)) < len(settings.fingerprint_fields):
        problems.append("fingerprint_fields names a label twice")
    if settings.flapping_window < settings.session_timeout:
        spans = f"{format_duration(settings.flapping_window)}, {format_duration(settings.session_timeout)}"
        problems.append(f"flapping_window is shorter than session_timeout ({spans}): nothing fires again within it")
    return problems


class OperationsEntry(_Strict):
    """Where alerts without a merchant go: settings by channel, such as `{slack: {channel: C0ONCALL}}`."""

    channels: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = Field(
        description="Their settings by channel, such as `{slack: {channel: C0ONCALL}}`."
    )


_NO_CANARY = {"grafana", "opsgenie", "pagerduty", "webapp"}


class CanaryEntry(_Strict):
    """A test message on each channel, every so often; not where each would open an incident or ring all browsers."""

    every: Duration = Field(timedelta(minutes=5), description="How often.")
    channels: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = Field(
        description="Their settings by channel."
    )

    @model_validator(mode="after")
    def _harmless(self) -> CanaryEntry:
        if harmful := sorted(self.channels.keys() & _NO_CANARY):
            raise ValueError(
                f"channels: no canary on {', '.join(harmful)}: each message would be one more to deal with"
            )
        return self


class ConfigFile(_Strict):
    """`alert_types: {default: {...}, CARD_TESTING: {...}}`, `channels` with options of each, `grafana`, `summaries`.

    Options are checked by whoever builds the channels, `grafana` and `summaries` by their own settings. `types` raises
    ConfigError for settings of a type that contradict one another.
    """

    alert_types: dict[str, AlertTypeEntry] = Field({}, description="By type, and `default`.")
    channels: dict[str, dict[str, Any]] = Field({}, description="Options of each channel.")
    operations: OperationsEntry | None = Field(None, description="Where alerts without a merchant go.")
    canary: CanaryEntry | None = Field(None, description="Test messages.")
    summaries: dict[str, Any] = Field({}, description="Models that write the words.")
    grafana: dict[str, Any] | None = Field(None, description="Charts and annotations by Grafana.")

    def types(self) -> AlertTypes:
        """What the types of the shipped rules differ in, unless the file says otherwise.

        Velocity attacks come in slower waves: twice the default timeout. Each type has a metric that shows it best.
        Operations alerts have no merchant to keep them apart: each problem of each source and exporter is one alert.
        """
        default = self.alert_types.get("default", AlertTypeEntry()).over(AlertTypeSettings())
        base = {name: replace(default, default_metric=metric) for name, metric in CHART_METRICS.items()}
        waves = base["VELOCITY_ATTACK"]
        base["VELOCITY_ATTACK"] = replace(waves, session_timeout=2 * default.session_timeout)
        base["OPERATIONS"] = replace(default, fingerprint_fields=OPERATIONS_FIELDS)
        named = {name: entry.over(base.get(name, default)) for name, entry in self.alert_types.items()}
        merged = {**base, **named}
        problems = [f"alert_types.{name}: {problem}" for name in named for problem in _problems(merged[name])]
        for name in sorted(base.keys() - named.keys()):
            own = [problem for problem in _problems(base[name]) if problem not in _problems(default)]
            problems += [f"alert_types.{name}, from the default: {problem}" for problem in own]
        if problems:
            raise ConfigError(problems)
        return AlertTypes(default, {name: types for name, types in merged.items() if name != "default"})
