"""The channels there are. Each module owns its options and is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from webhook.ports import Notifier

Options = Mapping[str, Any]


def _console(options: Options) -> Notifier:
    from webhook.notifiers.console import Console, ConsoleOptions  # noqa: PLC0415 - lazy by design

    return Console(ConsoleOptions.model_validate(options))


def _slack(options: Options) -> Notifier:
    from webhook.notifiers.slack import Slack, SlackOptions  # noqa: PLC0415 - lazy by design

    return Slack(SlackOptions.model_validate(options))


CHANNELS: Mapping[str, Callable[[Options], Notifier]] = {
    "console": _console,
    "slack": _slack,
}


def build_notifiers(channels: Iterable[str], options: Mapping[str, Options]) -> dict[str, Notifier]:
    """A notifier for each channel, from `options[channel]`; raise ValueError for an unknown name or bad options."""
    built = {}
    for channel in channels:
        if channel not in CHANNELS:
            raise ValueError(f"unknown channel {channel!r}; there are {', '.join(CHANNELS)}")
        built[channel] = CHANNELS[channel](options.get(channel, {}))
    return built
