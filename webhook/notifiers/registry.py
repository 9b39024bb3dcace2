"""The channels there are. Each module owns its options and is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from limits import parse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from webhook.ports import Notifier
from webhook.reader_ports import Readers

if TYPE_CHECKING:
    from webhook.notifiers.sms import SmsLog

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """What channels may need of this installation. `insecure_webhooks`: of a demo or a test of one's own.

    `readers`: who reads the web app; without them nothing can be sent there. Without `sms_log` it is not remembered who
    got a text.
    """

    public_url: str
    insecure_webhooks: bool = False
    sms_log: SmsLog | None = None
    readers: Readers | None = None


class BadOptions(ValueError):  # noqa: N818 - a value that is refused
    """A channel cannot be built; `problems` names each option and shows no value."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


def _console(options: Options, _site: Site) -> Notifier:
    from webhook.notifiers.console import Console, ConsoleOptions  # noqa: PLC0415 - lazy by design

    ConsoleOptions.model_validate(options)
    return Console()


def _slack(options: Options, site: Site) -> Notifier:
    from webhook.notifiers.slack import Slack, SlackOptions  # noqa: PLC0415 - lazy by design

    return Slack(SlackOptions.model_validate(options), insecure_webhooks=site.insecure_webhooks)


def _sms(options: Options, site: Site) -> Notifier:
    from webhook.notifiers.sms import Sms, SmsOptions  # noqa: PLC0415 - lazy by design

    return Sms(SmsOptions.model_validate(options), site.public_url, site.sms_log)


def _email(options: Options, _site: Site) -> Notifier:
    from webhook.notifiers.email import Email, EmailOptions  # noqa: PLC0415 - lazy by design

    return Email(EmailOptions.model_validate(options))


def _teams(options: Options, site: Site) -> Notifier:
    from webhook.notifiers.teams import Teams, TeamsOptions  # noqa: PLC0415 - lazy by design

    return Teams(TeamsOptions.model_validate(options), insecure_webhooks=site.insecure_webhooks)


def _opsgenie(options: Options, _site: Site) -> Notifier:
    from webhook.notifiers.opsgenie import OpsGenie, OpsGenieOptions  # noqa: PLC0415 - lazy by design

    return OpsGenie(OpsGenieOptions.model_validate(options))


def _pagerduty(options: Options, _site: Site) -> Notifier:
    from webhook.notifiers.pagerduty import PagerDuty, PagerDutyOptions  # noqa: PLC0415 - lazy by design

    return PagerDuty(PagerDutyOptions.model_validate(options))


def _webhook(options: Options, site: Site) -> Notifier:
    from webhook.notifiers.webhook import SignedWebhook, WebhookOptions  # noqa: PLC0415 - lazy by design

    return SignedWebhook(WebhookOptions.model_validate(options), insecure_webhooks=site.insecure_webhooks)


def _apprise(options: Options, _site: Site) -> Notifier:
    try:
        from webhook.notifiers.apprise import AppriseOptions, AppriseServices  # noqa: PLC0415 - lazy by design
    except ImportError:
        raise BadOptions(["channels.apprise: install sentinel[apprise]"]) from None
    return AppriseServices(AppriseOptions.model_validate(options))


def _webapp(options: Options, site: Site) -> Notifier:
    from webhook.notifiers.webapp import WebApp, WebAppOptions  # noqa: PLC0415 - lazy by design

    try:
        return WebApp(WebAppOptions.model_validate(options), site.readers, insecure=site.insecure_webhooks)
    except ImportError:
        raise BadOptions(["channels.webapp: install sentinel[push]"]) from None


def _grafana(options: Options, _site: Site) -> Notifier:
    try:
        from webhook.notifiers.grafana import GrafanaAnnotations, GrafanaOptions  # noqa: PLC0415 - lazy by design
    except ImportError:
        raise BadOptions(["channels.grafana: install sentinel[grafana]"]) from None
    return GrafanaAnnotations(GrafanaOptions.model_validate(options))


CHANNELS: Mapping[str, Callable[[Options, Site], Notifier]] = {
    "console": _console,
    "slack": _slack,
    "webapp": _webapp,
    "sms": _sms,
    "email": _email,
    "teams": _teams,
    "opsgenie": _opsgenie,
    "pagerduty": _pagerduty,
    "webhook": _webhook,
    "apprise": _apprise,
    "grafana": _grafana,
}

READY = ("console", "slack", "webapp", "teams", "opsgenie", "pagerduty", "webhook")
"""Channels that merchants may choose without any option of the installation."""


TARGET_RATES: Mapping[str, str] = {"slack": "1/second"}
"""What providers document for one place; `target_rate` says otherwise."""


def _between(value: object) -> object:
    """`1/second` → the time between two messages; `off` is none."""
    if value is None:
        return None
    if value == "off":
        return timedelta(0)
    try:
        limit = parse(str(value))
    except ValueError as error:
        raise ValueError("must be a rate such as 1/second, or off") from error
    return timedelta(seconds=limit.get_expiry()) / limit.amount


Between = Annotated[timedelta | None, BeforeValidator(_between), WithJsonSchema({"type": "string", "format": "rate"})]


class Pace(BaseModel):
    """Options that every channel has: sends of a worker at once, and rates of all workers, in all and to one target."""

    model_config = ConfigDict(extra="ignore")

    parallel: Annotated[int, Field(ge=1, le=64)] | None = Field(None, description="Sends of one worker at a time.")
    rate: Between = Field(None, description="Of all workers together, such as `10/second`, or `off`.")
    target_rate: Between = Field(None, description="The same to one target; for Slack `1/second` by default.")


def paces(channels: Iterable[str], options: Mapping[str, Options]) -> tuple[dict[str, timedelta], dict[str, timedelta]]:
    """Times between messages to one target, and of a channel in all, by channel; the options are known to be good."""
    targets, totals = {}, {}
    for channel in channels:
        pace = Pace.model_validate({"target_rate": TARGET_RATES.get(channel), **options.get(channel, {})})
        if pace.target_rate:
            targets[channel] = pace.target_rate
        if pace.rate:
            totals[channel] = pace.rate
    return targets, totals


def build_notifiers(channels: Iterable[str], options: Mapping[str, Options], site: Site) -> dict[str, Notifier]:
    """A notifier for each channel, from `options[channel]`; raise BadOptions for unknown names and bad options."""
    built: dict[str, Notifier] = {}
    problems: list[str] = []
    for channel in channels:
        if channel not in CHANNELS:
            problems.append(f"unknown channel {channel!r}; there are {', '.join(CHANNELS)}")
            continue
        try:
            built[channel] = _build(channel, options.get(channel, {}), site)
        except BadOptions as error:
            problems += error.problems
        except ValidationError as error:
            problems += option_problems(channel, error)
    if problems:
        raise BadOptions(problems)
    return built


def option_problems(channel: str, error: ValidationError) -> list[str]:
    """What is wrong with the options of a channel, without their values."""
    return [
        f"{'.'.join(map(str, ('channels', channel, *detail['loc'])))}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_input=False, include_url=False)
    ]


def _build(channel: str, options: Options, site: Site) -> Notifier:
    pace = Pace.model_validate(options)
    notifier = CHANNELS[channel](
        {name: value for name, value in options.items() if name not in Pace.model_fields}, site
    )
    if pace.parallel is not None:
        notifier.parallel = pace.parallel
    return notifier
