"""The channels there are. Each module owns its options and is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from limits import parse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from webhook.ports import Notifier

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """What channels may need to know of this installation. `insecure_webhooks`: of a demo or a test of one's own."""

    public_url: str
    insecure_webhooks: bool = False


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


def _grafana(options: Options, _site: Site) -> Notifier:
    try:
        from webhook.notifiers.grafana import GrafanaAnnotations, GrafanaOptions  # noqa: PLC0415 - lazy by design
    except ImportError:
        raise BadOptions(["channels.grafana: install sentinel[grafana]"]) from None
    return GrafanaAnnotations(GrafanaOptions.model_validate(options))


CHANNELS: Mapping[str, Callable[[Options, Site], Notifier]] = {
    "console": _console,
    "slack": _slack,
    "grafana": _grafana,
}

READY = ("console", "slack")
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


Between = Annotated[timedelta | None, BeforeValidator(_between)]


class Pace(BaseModel):
    """Options that every channel has: sends of a worker at once, and rates of all workers, in all and to one target."""

    model_config = ConfigDict(extra="ignore")

    parallel: Annotated[int, Field(ge=1, le=64)] | None = None
    rate: Between = None
    target_rate: Between = None


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
            for detail in error.errors(include_input=False, include_url=False):
                place = ".".join(map(str, ("channels", channel, *detail["loc"])))
                problems.append(f"{place}: {detail['msg'].removeprefix('Value error, ')}")
    if problems:
        raise BadOptions(problems)
    return built


def _build(channel: str, options: Options, site: Site) -> Notifier:
    pace = Pace.model_validate(options)
    notifier = CHANNELS[channel](
        {name: value for name, value in options.items() if name not in Pace.model_fields}, site
    )
    if pace.parallel is not None:
        notifier.parallel = pace.parallel
    return notifier
