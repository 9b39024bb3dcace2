"""Reloading Prometheus by a command, where HTTP is closed to that: SIGHUP gives no answer, so its API is asked."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from webhook.adapters.prometheus_api import PrometheusApi, PrometheusError

_PATIENCE = 60.0
_PAUSE = 0.2
_SECOND = timedelta(seconds=1)
"""Prometheus tells when it last loaded to the second: two in one could not be told apart."""


class DeployError(Exception):
    pass


def _wait_until_later(api: PrometheusApi, at: datetime) -> None:
    deadline = time.monotonic() + _PATIENCE
    while api.now() < at + _SECOND:
        if time.monotonic() > deadline:
            raise DeployError(f"{api.url}: its clock is behind its last reload: set it right first")
        time.sleep(_PAUSE)


def reload_with(command: str, apis: Sequence[PrometheusApi]) -> None:
    """Raise DeployError where the command fails, PrometheusError where one does not load what it has read."""
    before = [api.loaded() for api in apis]
    for api, (_, at) in zip(apis, before, strict=True):
        _wait_until_later(api, at)
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            shlex.split(command), check=False, capture_output=True, text=True, timeout=_PATIENCE
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise DeployError(f"--reload-with: {error}") from None
    if done.returncode:
        raise DeployError(f"--reload-with: {command} ends with {done.returncode}: {done.stderr.strip()[:500]}")
    deadline = time.monotonic() + _PATIENCE
    for api, (was_well, at) in zip(apis, before, strict=True):
        while True:
            well, loaded = api.loaded()
            if well and loaded > at:
                break
            if was_well and not well:
                raise PrometheusError(f"{api.url} refuses to reload: its log says why")
            if time.monotonic() > deadline:
                raise PrometheusError(f"{api.url} has not loaded anything since {command}")
            time.sleep(_PAUSE)
