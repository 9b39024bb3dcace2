"""What a merchant may configure, checked: the body of the API's PUT and an entry of a YAML file are the same."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import ErrorDetails

from webhook.domain.circumstances import DEFAULT_LANGUAGE, LANGUAGE_TAG
from webhook.domain.evaluation import COMPARISONS, OPERATORS, Condition, MerchantConfig, number_of
from webhook.domain.patterns import BadPattern, check_pattern
from webhook.notifiers.settings import Channels
from webhook.web.parameters import Instant

_NUMERIC = (">", ">=", "<", "<=")
_LISTS = ("in", "not_in")
_TEXTS = ("contains", "regex")
_TEXT = r"^[^\x00]*$"

Number = Annotated[float, Field(strict=True)]
Word = Annotated[str, Field(max_length=256, pattern=_TEXT)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ConditionEntry(_Strict):
    """`metric_name operator threshold`. `threshold` is a list for in and not_in, a text for contains and regex."""

    metric_name: Annotated[str, Field(min_length=1, max_length=255, pattern=_TEXT)] = Field(
        description="What is compared; a label where there is no such metric."
    )
    operator: Annotated[str, Field(json_schema_extra={"enum": list(OPERATORS)})] = Field(description="How.")
    threshold: Number | Word | Annotated[list[Number | Word], Field(max_length=1000)] = Field(
        description="With what: a list for in and not_in, a text for contains and regex."
    )
    time_window: Annotated[str, Field(max_length=16, pattern=_TEXT)] = Field(
        "", description="Kept and shown: over which time a metric is taken its rule says."
    )
    priority: Annotated[int, Field(ge=-1000, le=1000)] = Field(0, description="Lower is judged and shown first.")
    is_active: bool = Field(True, description="`false` keeps it without judging it.")

    @model_validator(mode="after")
    def _operator_fits_threshold(self) -> ConditionEntry:
        if self.operator not in OPERATORS:
            raise ValueError(f"operator {self.operator!r} is none of {', '.join(OPERATORS)}")
        threshold = self.threshold = self._as_compared()
        if self.operator in _NUMERIC and not isinstance(threshold, float):
            raise ValueError(f"operator {self.operator} wants a number as threshold")
        if (self.operator in _LISTS) != isinstance(threshold, list):
            raise ValueError("a list as threshold belongs to the operators in and not_in, and to no other")
        if self.operator in _TEXTS and not isinstance(threshold, str):
            raise ValueError(f"operator {self.operator} wants a text as threshold: put quotes around the number")
        if self.operator == "regex":
            _check_pattern(threshold)
        return self

    def _as_compared(self) -> float | str | list[float | str]:
        """A text that is a number as that number where it is compared (YAML takes `1e3` for a text), if a float can."""
        number = number_of(self.threshold) if self.operator in COMPARISONS else None
        return float(number) if number is not None and float(number) == number else self.threshold


def _check_pattern(pattern: object) -> None:
    try:
        check_pattern(str(pattern))
    except BadPattern as error:
        raise ValueError(f"threshold: {error}") from error


class FrequencyControl(_Strict):
    """Sliding windows over all alerts of the account and type. `digest`: what was held back is summed up hourly."""

    max_alerts_per_hour: Annotated[int, Field(ge=0, le=1000)] = Field(5, description="Messages within an hour.")
    max_alerts_per_day: Annotated[int, Field(ge=0, le=10_000)] = Field(20, description="Messages within 24 hours.")
    min_interval_minutes: Annotated[float, Field(ge=0, le=1440)] = Field(0, description="Between two of them.")
    digest: StrictBool = Field(True, description="Whether what was held back is summed up hourly.")


def _a_minute_or_never(minutes: float) -> float:
    if 0 < minutes < 1:
        raise ValueError("is less than a minute; 0 means never")
    return minutes


class NotificationStrategy(_Strict):
    """`first`: when an alert opens; `thresholds`: at these counts; `interval_minutes`: while it lasts, 0 never.

    Shorter than a minute is refused.
    """

    first: bool = Field(True, description="When an alert opens.")
    thresholds: Annotated[list[Annotated[int, Field(ge=1, le=1_000_000_000)]], Field(max_length=100)] = Field(
        [], description="When it has occurred so often."
    )
    interval_minutes: Annotated[float, Field(ge=0, le=525_600), AfterValidator(_a_minute_or_never)] = Field(
        60,
        description="While it lasts: every so many minutes, 0 never, at least 1.",
        json_schema_extra={"anyOf": [{"const": 0}, {"type": "number", "minimum": 1}]},
    )


AlertType = Annotated[str, Field(min_length=1, max_length=64, pattern=_TEXT)]


class Settings(_Strict):
    """All of a configuration but whose it is; what is left out takes its default."""

    alert_type: AlertType = Field(description="Of which alerts.")
    enabled: StrictBool = Field(True, description="`false`: all of them are suppressed.")
    logic: Literal["all", "any"] = Field("all", description="Whether all conditions must be met or any.")
    trigger_conditions: Annotated[list[ConditionEntry], Field(max_length=100)] = Field(
        [], description="When the merchant wants to hear of it; without any the rule decides."
    )
    channels: Channels = Field(Channels(), description="By which ways.")
    frequency_control: FrequencyControl | None = Field(None, description="How often at most.")
    notification_strategy: NotificationStrategy | None = Field(None, description="On which occasions.")
    snooze_until: Instant | None = Field(None, description="Nothing is sent until then.")
    language: Annotated[
        str | None,
        Field(
            max_length=35,
            pattern=LANGUAGE_TAG,
            description="BCP 47, of the words that a model writes.",
            examples=["de-CH"],
        ),
    ] = None

    def config_for(self, account_id: str) -> MerchantConfig:
        named = {"frequency_control", "notification_strategy", "snooze_until", "language"}
        return MerchantConfig(
            account_id=account_id,
            alert_type=self.alert_type,
            enabled=self.enabled,
            logic=self.logic,
            conditions=tuple(_condition(entry) for entry in self.trigger_conditions if entry.is_active),
            inactive=tuple(_condition(entry) for entry in self.trigger_conditions if not entry.is_active),
            channel_preferences=self.channels.model_dump(mode="json", exclude_none=True),
            notification_settings=self.model_dump(mode="json", include=named, exclude_none=True),
        )


AccountId = Annotated[str, Field(min_length=1, max_length=255, pattern=_TEXT)]
Version = Annotated[int, Field(ge=0, le=2**31 - 1)]


class MerchantEntry(Settings):
    """One entry of a YAML file."""

    account_id: AccountId = Field(description="Whose it is.")

    def config(self) -> MerchantConfig:
        return self.config_for(self.account_id)


class ConfigBody(Settings):
    """The body of PUT. `version` is the one that was seen, 0 for none; without it the body replaces what there is."""

    merchant_id: AccountId
    version: Version | None = None

    def config(self) -> MerchantConfig:
        return self.config_for(self.merchant_id)


def _condition(entry: ConditionEntry) -> Condition:
    return Condition(entry.metric_name, entry.operator, entry.threshold, entry.priority, entry.time_window)


def message_of(detail: ErrorDetails) -> str:
    """What is wrong, without the value, which may be a secret."""
    place = detail["loc"]
    if detail["type"] == "extra_forbidden" and place[-2:-1] == ("channels",):
        return f"unknown channel {place[-1]!r}; there are {', '.join(Channels.model_fields)}"
    return detail["msg"].removeprefix("Value error, ")


def warnings_of(config: MerchantConfig, set_up: Collection[str]) -> list[str]:
    """What is taken, but may not do what its merchant expects. `set_up`: the channels that this installation has."""
    return [
        f"channels.{name}: kept, but this installation has not set up this channel: nothing can be sent there"
        for name, settings in config.channel_preferences.items()
        if name not in set_up and settings.get("enabled", True)
    ]


def with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """A stored document as the API shows it: what the merchant left open with what then holds."""
    return {
        **document,
        "frequency_control": document.get("frequency_control") or FrequencyControl().model_dump(),
        "notification_strategy": document.get("notification_strategy") or NotificationStrategy().model_dump(),
        "snooze_until": document.get("snooze_until"),
        "language": document.get("language") or DEFAULT_LANGUAGE,
    }
