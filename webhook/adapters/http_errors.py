"""Words for what went wrong on the way: requests' own hold the URL, and with it a password that stands in it."""

from __future__ import annotations

import requests


def plain(error: Exception) -> str:
    """The kind of error and the status of the answer, if there was one."""
    response = error.response if isinstance(error, requests.RequestException) else None
    status = f" {response.status_code}" if response is not None else ""
    return f"{type(error).__name__}{status}"
