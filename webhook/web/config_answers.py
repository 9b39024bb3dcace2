"""What the API of merchant configurations answers: models for the document, filled from what is stored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from webhook.domain.access import named_to
from webhook.domain.configuration import Difference, document_of, masked_document
from webhook.storage.config_rows import StoredConfig
from webhook.storage.configs import VersionRecord
from webhook.web.access import principal
from webhook.web.answers import Time
from webhook.web.config_document import FrequencyControl, NotificationStrategy, with_defaults


class ConditionShown(BaseModel):
    metric_name: str
    operator: str
    threshold: float | str | list[float | str]
    time_window: str
    priority: int
    is_active: bool = True


class ConfigEntry(BaseModel):
    """One configuration, secrets masked; what the merchant left open with what then holds."""

    config_id: str
    alert_type: str
    enabled: bool
    logic: Literal["all", "any"]
    channels: dict[str, dict[str, Any]] = Field(
        json_schema_extra={"example": {"slack": {"enabled": True, "webhook_url": "https://hooks.slack.com/…abcd"}}}
    )
    trigger_conditions: list[ConditionShown]
    frequency_control: FrequencyControl
    notification_strategy: NotificationStrategy
    snooze_until: str | None
    language: str = Field(description="Of the words that a model writes, as BCP 47 has it.")
    version: int
    updated_at: Time
    updated_by: str


class ConfigList(BaseModel):
    merchant_id: str
    alert_configs: list[ConfigEntry]


class VersionEntry(BaseModel):
    version: int
    changed_by: str
    created_at: Time
    deleted: bool
    document: dict[str, Any] = Field(description="As in the body of PUT, secrets masked; empty for a deletion.")


class VersionList(BaseModel):
    merchant_id: str
    alert_type: str
    data: list[VersionEntry]


class ConfigSaved(BaseModel):
    config_id: str
    message: str = Field(json_schema_extra={"example": "Alert configuration updated successfully"})
    updated_at: Time
    version: int
    warnings: list[str]
    webhook_secret: str | None = Field(
        None, description="What signs messages to the merchant's webhook, where it was made now: it is not shown again."
    )


class ChangedField(BaseModel):
    """Null where it is absent on that side."""

    model_config = ConfigDict(serialize_by_alias=True)
    field: str
    before: Any = Field(alias="from")
    after: Any = Field(alias="to")


class DryRunAnswer(BaseModel):
    """What a PUT would have changed."""

    dry_run: Literal[True]
    change: Literal["added", "changed", "unchanged"]
    version: int = Field(description="The present one, 0 for none.")
    changes: list[ChangedField]
    warnings: list[str]


class SavedOrDryRun(RootModel[ConfigSaved | DryRunAnswer]):
    """With `dry_run=true` what would change, else what became of it."""


class ConfigDeleted(BaseModel):
    message: str
    updated_at: Time
    version: int = Field(description="Marks the deletion among the versions.")


class Counts(BaseModel):
    stored: int
    proposed: int
    unchanged: int
    appear: int
    vanish: int
    change: int


class OutcomeCount(BaseModel):
    stored: str
    proposed: str
    triggers: int


class PreviewExample(BaseModel):
    kind: str
    change: str
    time: str
    alert_name: str
    old: str
    new: str
    reason: str
    old_channels: list[str] = Field(description="Of a message: where it went. Empty for none, or where not known.")
    new_channels: list[str] = Field(description="Of a message: where it would go. Empty for none.")


class MissingMetric(BaseModel):
    metric_name: str
    reason: str


class UndeterminedCount(BaseModel):
    """Firing triggers that pass for want of a metric, and what the conditions say of Prometheus' values of it."""

    triggers: int
    met: int
    not_met: int
    unknown: int


class PreviewAnswer(BaseModel):
    """As `previewing.preview_answer` makes it."""

    since: str = Field(alias="from")
    until: str = Field(alias="to")
    truncated: bool = Field(description="There are more triggers than are decided: `from` is later than asked.")
    triggers: int
    alerts_left_out: int = Field(description="Alerts whose beginning is not stored or not read: not compared.")
    alerts: Counts
    messages: Counts = Field(description="Changed are those of another reason, or on other channels.")
    ends: Counts = Field(description="Alerts that ended by themselves, of which people were told before.")
    rises: Counts = Field(description="Rises in severity that nothing but the duration of an alert caused.")
    outcomes: list[OutcomeCount]
    examples: list[PreviewExample] = Field(description="Of each kind of change the first ones, `examples` at most.")
    undetermined: UndeterminedCount
    metrics_from_history: list[str]
    metrics_missing: list[MissingMetric]
    message: str


def config_entry(item: StoredConfig) -> ConfigEntry:
    return ConfigEntry(
        config_id=item.id,
        **with_defaults(masked_document(document_of(item.config))),
        version=item.config.version,
        updated_at=item.updated_at,
        updated_by=named_to(principal(), item.updated_by, item.updated_by_role),
    )


def version_entry(item: VersionRecord) -> VersionEntry:
    return VersionEntry(
        version=item.version,
        changed_by=named_to(principal(), item.changed_by, item.changed_by_role),
        created_at=item.created_at,
        deleted=not item.document,
        document=masked_document(item.document),
    )


def dry_run_answer(known: StoredConfig | None, changes: list[Difference], warnings: list[str]) -> DryRunAnswer:
    return DryRunAnswer(
        dry_run=True,
        change=("changed" if changes else "unchanged") if known else "added",
        version=known.config.version if known else 0,
        changes=[ChangedField(field=path, **{"from": before, "to": after}) for path, before, after in changes],
        warnings=warnings,
    )
