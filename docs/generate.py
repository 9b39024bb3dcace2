"""`make docs`: docs/reference/, written from the models that check the configuration."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import click
import durationpy
from pydantic import BaseModel, SecretStr
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from docs.tables import Page
from exporter.__main__ import main as exporter_commands
from exporter.collectors.base import SourceConfig
from exporter.collectors.registry import SOURCE_TYPES, config_model
from exporter.schema import config_schema
from webhook.alert_type_settings import ConfigFile
from webhook.config import PREFIX, SECRETS, Settings
from webhook.domain.alert import AlertTypeSettings
from webhook.domain.severity import EscalationStep
from webhook.grafana_settings import GrafanaSettings
from webhook.notifiers.apprise import AppriseOptions
from webhook.notifiers.console import ConsoleOptions
from webhook.notifiers.email import EmailOptions
from webhook.notifiers.grafana import GrafanaOptions
from webhook.notifiers.opsgenie import OpsGenieOptions
from webhook.notifiers.pagerduty import PagerDutyOptions
from webhook.notifiers.registry import Pace
from webhook.notifiers.settings import Channels
from webhook.notifiers.slack import SlackOptions
from webhook.notifiers.sms import SmsOptions
from webhook.notifiers.teams import TeamsOptions
from webhook.notifiers.webapp import WebAppOptions
from webhook.notifiers.webhook import WebhookOptions
from webhook.summary_settings import SummarySettings
from webhook.web.config_document import MerchantEntry
from webhook.worker_options import PREFIX as WORKER_PREFIX
from webhook.worker_options import WorkerOptions

FOLDER = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by `make docs` from the models: change those, not this page. -->"

OPTIONS: dict[str, type[BaseModel]] = {
    "console": ConsoleOptions,
    "slack": SlackOptions,
    "webapp": WebAppOptions,
    "sms": SmsOptions,
    "email": EmailOptions,
    "teams": TeamsOptions,
    "opsgenie": OpsGenieOptions,
    "pagerduty": PagerDutyOptions,
    "webhook": WebhookOptions,
    "apprise": AppriseOptions,
    "grafana": GrafanaOptions,
}


class _Generator(GenerateJsonSchema):
    """As it is written in a file: durations are text, checked text is text."""

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:  # noqa: ARG002
        return {"type": "string"}

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - pydantic's signature
        if isinstance(dft, timedelta):
            return _duration(dft)
        return dft.get_secret_value() if isinstance(dft, SecretStr) else super().encode_default(dft)


def _duration(span: timedelta) -> str:
    return f"{span.days}d" if span and not span % timedelta(days=1) else durationpy.to_str(span)


def _schema(model: type[BaseModel]) -> JsonSchemaValue:
    return model.model_json_schema(schema_generator=_Generator)


def pages() -> dict[str, str]:
    """By name, what stands on them."""
    made = {
        "exporter-config": exporter_config(),
        "webhook-config": webhook_config(),
        "channels": channels(),
        "alert-config": alert_config(),
        "environment": environment(),
    }
    return {f"{name}.md": "\n\n".join(text) + "\n" for name, text in made.items()}


def exporter_config() -> list[str]:
    schema = config_schema()
    page = Page(schema["$defs"])
    page.text += [
        "# exporter-config.yaml: every key",
        NOTE,
        "With examples, costs and errors: [../exporter.md](../exporter.md) and the page of each type.",
        "Durations are a number with a unit (`30s`, `1h30m`). `${VARIABLE}` may stand for any value.",
        "`sentinel-exporter schema` prints the same for editors, `sentinel-exporter check FILE` says what is wrong.",
    ]
    page.section("`exporter`: the process itself", schema["$defs"]["ServerConfig"])
    common = set(SourceConfig.model_fields)
    definitions = {kind: schema["$defs"][config_model(kind).__name__] for kind in SOURCE_TYPES}
    own = set(definitions["database"]["properties"]) - common
    of_all = {**definitions["database"], "description": "One entry of `data_sources`, of whatever type."}
    page.section("`data_sources[]`: every source", of_all, leave_out=own | {"type"})
    for kind, definition in definitions.items():
        shown = common - ({"metrics"} if kind == "kafka" else set())
        page.section(f"Sources of type {kind}", definition, of=kind, leave_out=shown)
    return page.text


def webhook_config() -> list[str]:
    schema = _schema(ConfigFile)
    usual = AlertTypeSettings()
    for name, value in schema["$defs"]["AlertTypeEntry"]["properties"].items():
        shown = getattr(usual, name)
        steps = [_step(step) for step in shown] if name == "escalation" else shown
        value["default"] = _duration(shown) if isinstance(shown, timedelta) else steps
    text = [
        "# The file that SENTINEL_CONFIG_FILE names",
        NOTE,
        "Options of `channels`: [channels.md](channels.md#options-of-the-installation).",
        "A secret is read from the variable or the file that the key with `_env` or `_file` behind it names.",
        "Settings of alert types at work: [../alert-decisions.md](../alert-decisions.md).",
        "The rest: [../channels.md](../channels.md).",
    ]
    page = Page(schema["$defs"], text=text)
    page.section("The file", {**schema, "description": "All of it may be left out."})
    for name, model in (("summaries", SummarySettings), ("grafana", GrafanaSettings)):
        inner = _schema(model)
        page = Page(inner.get("$defs", {}), secrets=True, text=text)
        page.section(f"`{name}`", inner, of=name)
    return text


def _step(step: EscalationStep) -> str:
    return f"{step.severity}: {step.occurrence_count or _duration(step.duration or timedelta(0))}"


def channels() -> list[str]:
    text = [
        "# Channels: every option",
        NOTE,
        "How each is set up: [../channels.md](../channels.md).",
        "# Options of the installation",
        "Under `channels.<name>` of the [file](webhook-config.md) that `SENTINEL_CONFIG_FILE` names.",
    ]
    Page({}, text=text).section("Every channel", _schema(Pace))
    for name, model in OPTIONS.items():
        schema = _schema(model)
        Page(schema.get("$defs", {}), secrets=True, text=text).section(f"Options of {name}", schema, of=name)
    text += [
        "# Settings of a merchant",
        "Under `channels.<name>` of a [merchant's configuration](alert-config.md). Secrets rest encrypted.",
    ]
    for name, info in Channels.model_fields.items():
        (model, _) = get_args(info.annotation)
        schema = _schema(model)
        Page(schema.get("$defs", {}), text=text).section(f"Settings of {name}", schema, of=name)
    return text


def alert_config() -> list[str]:
    schema = _schema(MerchantEntry)
    definitions = dict(schema["$defs"])
    definitions["Channels"] = {"type": "object"}
    schema["properties"]["channels"].pop("default")
    page = Page(definitions)
    page.text += [
        "# A merchant's configuration: every field",
        NOTE,
        "One entry of the file that `sentinel-webhook config import` takes.",
        "With `merchant_id` for `account_id` it is the body of `PUT /api/v1/alerts/config`.",
        "What the fields do: [../configuration.md](../configuration.md).",
        "`channels`: [channels.md](channels.md#settings-of-a-merchant).",
    ]
    page.section("An entry", {**schema, "description": "What is left out takes its default."})
    return page.text


def environment() -> list[str]:
    schema = _schema(Settings)
    hidden = {name for name, info in Settings.model_fields.items() if info.exclude}
    rows = {f"{PREFIX}{name.upper()}": value for name, value in schema["properties"].items() if name not in hidden}
    for name in SECRETS:
        rows[f"{PREFIX}{name.upper()}"]["description"] += f" Or `{PREFIX}{name.upper()}_FILE`: a file that holds it."
    page = Page(schema.get("$defs", {}))
    page.text += ["# Environment variables", NOTE]
    page.section("`sentinel-webhook`", {"description": "Of all its commands.", "properties": rows})
    worker = _schema(WorkerOptions)["properties"]
    given = {f"{WORKER_PREFIX}{name.upper()}": value for name, value in worker.items()}
    page.section("`sentinel-webhook worker`", {"description": "Of the worker alone.", "properties": given})
    options = [each for each in exporter_commands.params if isinstance(each, click.Option) and each.envvar]
    given = {str(each.envvar): {"type": "string", "description": each.help} for each in options}
    page.section(
        "`sentinel-exporter`", {"description": "Options of the command line come before them.", "properties": given}
    )
    return page.text


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
