"""Pictures of Grafana's panels, by its image renderer. What it sends is looked at before it is believed.

Why there is none (`PanelUnavailable.why`):
no_panel       no dashboard is configured for this alert type
odd_account    an account id that a dashboard's variable might read as more than one account
busy           as many pictures as allowed are being made
unknown_panel  the dashboard, or the panel on it, does not exist for this token
timeout        the budget is spent
status_<code>  its answer, such as status_401
error          no connection, or an answer that is none
not_png, wrong_size, blank   an error page, one of Grafana's own pictures of a failure, a panel without data
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

import requests
from cachetools import TTLCache

from webhook.adapters.http_errors import plain
from webhook.ports import PanelUnavailable

WIDTH, HEIGHT = 1000, 561
"""Pixels. The pictures that Grafana sends in place of a panel have sizes of their own, none of them this odd."""

BLANK = 0.99
"""The share of one colour from which on a picture shows nothing."""

_LARGEST = 5 * 1024 * 1024
_CHUNK = 64 * 1024
_PLAIN = re.compile(r"[\w.:@+-]{1,128}")
_KNOWN_FOR = 600.0  # seconds that a dashboard is taken to be as it was
_OK, _LOGIN = 200, (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. In the values of `variables`, {account_id} and {alert_type} stand for those of the alert."""

    uid: str
    panel: int
    variables: Mapping[str, str] = field(default_factory=dict)


class GrafanaPanels:
    """At most `parallel` at once; who comes then is refused at once. `budget` in seconds, for all of one picture."""

    def __init__(self, url: str, token: str, panels: Mapping[str, Panel], *, budget: float, parallel: int) -> None:
        from grafana_client import GrafanaApi  # noqa: PLC0415 - an extra

        self._url, self._panels, self._budget = url.rstrip("/"), panels, budget
        self._places = threading.BoundedSemaphore(parallel)
        self._session = requests.Session()
        self._session.auth = bearer(token)
        self._api: Any = GrafanaApi.from_url(f"{self._url}/", credential=bearer(token), timeout=budget)
        self._slugs: TTLCache[tuple[str, int], str] = TTLCache(256, _KNOWN_FOR)
        self._lock = threading.Lock()

    def render(self, alert_type: str, account_id: str, start: datetime, end: datetime, theme: str) -> bytes:
        panel = self._panels.get(alert_type) or self._panels.get("default")
        if panel is None:
            raise PanelUnavailable("no_panel", alert_type)
        if not _PLAIN.fullmatch(account_id) or account_id.lower() == "all":
            raise PanelUnavailable("odd_account", account_id)
        names = {"{account_id}": account_id, "{alert_type}": alert_type}
        query: dict[str, str | int] = {
            "panelId": panel.panel,
            "from": int(start.timestamp() * 1000),
            "to": int(end.timestamp() * 1000),
            "theme": theme,
            "width": WIDTH,
            "height": HEIGHT,
            "scale": 1,
            "tz": "UTC",
            "timeout": max(1, int(self._budget)),
        }
        for name, value in panel.variables.items():
            query[f"var-{name}"] = re.sub(r"\{\w+\}", lambda found: names.get(found[0], found[0]), value)
        image = self._within_budget(lambda deadline: self._fetch(panel, query, deadline))
        verify(image, (WIDTH, HEIGHT))
        return image

    def close(self) -> None:
        self._session.close()
        self._api.client.s.close()

    def _within_budget(self, fetch: Callable[[float], bytes]) -> bytes:
        """In a thread of its own: a server that sends a byte now and then ends no time-out of a socket."""
        if not self._places.acquire(blocking=False):
            raise PanelUnavailable("busy")
        fetched: Future[bytes] = Future()

        def run() -> None:
            try:
                fetched.set_result(fetch(monotonic() + self._budget))
            except Exception as error:  # noqa: BLE001 - told to who waits
                fetched.set_exception(error)
            finally:
                self._places.release()

        threading.Thread(target=run, name="grafana", daemon=True).start()
        try:
            return fetched.result(self._budget)
        except TimeoutError:
            raise PanelUnavailable("timeout", f"nothing within {self._budget:g} s") from None

    def _fetch(self, panel: Panel, query: Mapping[str, str | int], deadline: float) -> bytes:
        try:
            slug = self._slug(panel)
            address = f"{self._url}/render/d-solo/{panel.uid}/{slug}"
            with self._session.get(
                address, params=query, timeout=self._budget, stream=True, allow_redirects=False
            ) as response:
                _check_head(response)
                image = b""
                while chunk := response.raw.read1(_CHUNK):
                    image += chunk
                    if monotonic() > deadline:
                        raise PanelUnavailable("timeout", "its answer comes too slowly")
                    if len(image) > _LARGEST:
                        raise PanelUnavailable("wrong_size", "its answer does not end")
                return image
        except requests.Timeout:
            raise PanelUnavailable("timeout") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PanelUnavailable("error", plain(error)) from None

    def _slug(self, panel: Panel) -> str:
        """The dashboard's name in addresses; raise PanelUnavailable where there is no such panel.

        Of what does not exist the renderer makes a picture too, which nothing tells from a chart.
        """
        from grafana_client.client import GrafanaException  # noqa: PLC0415 - an extra

        wanted = (panel.uid, panel.panel)
        with self._lock:
            if (known := self._slugs.get(wanted)) is not None:
                return known
        try:
            found: Any = self._api.dashboard.get_dashboard(panel.uid)
        except GrafanaException as error:
            why = "unknown_panel" if error.status_code == requests.codes.not_found else f"status_{error.status_code}"
            raise PanelUnavailable(why, f"dashboard {panel.uid}") from None
        if panel.panel not in _panel_ids(found["dashboard"]):
            raise PanelUnavailable("unknown_panel", f"panel {panel.panel} of dashboard {panel.uid}")
        slug = str(found["meta"].get("slug") or panel.uid)
        with self._lock:
            self._slugs[wanted] = slug
        return slug


def bearer(token: str) -> requests.auth.AuthBase:
    """As an auth object: a header alone would give way to a password in ~/.netrc."""
    from grafana_client.client import TokenAuth  # noqa: PLC0415 - an extra

    auth: requests.auth.AuthBase = TokenAuth(token)
    return auth


def _panel_ids(of: Mapping[str, Any]) -> set[int]:
    """Of a dashboard or a row, with those in collapsed rows."""
    found: set[int] = set()
    for panel in of.get("panels") or ():
        found |= {int(panel["id"])} | _panel_ids(panel)
    return found


def _check_head(response: requests.Response) -> None:
    if response.status_code in _LOGIN:
        raise PanelUnavailable(f"status_{response.status_code}", "it asks for a login")
    if response.status_code != _OK:
        raise PanelUnavailable(f"status_{response.status_code}")
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "image/png":
        raise PanelUnavailable("not_png", response.headers.get("Content-Type", "")[:100])


def verify(image: bytes, size: tuple[int, int]) -> None:
    """Raise PanelUnavailable unless it is a whole PNG of this size that shows something."""
    from PIL import Image  # noqa: PLC0415 - matplotlib brings it along; takes its time

    try:
        with Image.open(io.BytesIO(image), formats=["PNG"]) as picture:
            if picture.size != size:
                raise PanelUnavailable("wrong_size", "{}x{}".format(*picture.size))
            colours = picture.convert("RGB").getcolors(size[0] * size[1]) or []
    except (OSError, SyntaxError, ValueError) as error:
        raise PanelUnavailable("not_png", plain(error)) from None
    if max(count for count, _ in colours) > BLANK * size[0] * size[1]:
        raise PanelUnavailable("blank")
