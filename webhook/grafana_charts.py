"""Grafana's pictures as the settings ask for them, for both processes."""

from __future__ import annotations

from webhook.adapters.grafana import GrafanaPanels, Panel
from webhook.config_error import ConfigError
from webhook.grafana_settings import GrafanaSettings


def grafana_panels(settings: GrafanaSettings | None) -> GrafanaPanels | None:
    """None where no dashboard is named; raise ConfigError where the client is not installed."""
    if settings is None or not settings.dashboards:
        return None
    panels = {name: Panel(one.uid, one.panel, one.variables) for name, one in settings.dashboards.items()}
    try:
        return GrafanaPanels(
            settings.url,
            settings.token.get_secret_value(),
            panels,
            budget=settings.budget.total_seconds(),
            parallel=settings.parallel,
        )
    except ImportError as error:
        raise ConfigError([f"grafana: install sentinel[grafana]: {error}"]) from error
