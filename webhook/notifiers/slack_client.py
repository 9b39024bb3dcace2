"""slack-sdk's client over sessions of ours: connections are kept, and each call is kept to a deadline.

The library opens a connection for each call, which with TLS takes longer than the call, and has time-outs of each read.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.request import Request

import requests
from slack_sdk import WebClient
from slack_sdk.web.file_upload_v2_result import FileUploadV2Result

from webhook.notifiers.deadline import deadline
from webhook.notifiers.outgoing import timed
from webhook.notifiers.slack_errors import by_status
from webhook.ports import TemporaryDeliveryError


class SlackClient(WebClient):
    """Raises TemporaryDeliveryError where there is no answer."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the library's
        super().__init__(retry_handlers=[], **options)
        self._kept = timed(requests.Session())

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        assert req.data is None or isinstance(req.data, bytes)
        status, headers, body = self._posted(url, req.data, dict(req.header_items()))
        return {"status": status, "headers": headers, "body": body}

    def _upload_file(self, *, url: str, data: bytes, **_: Any) -> FileUploadV2Result:  # noqa: ANN401 - the library's
        status, headers, body = self._posted(url, data, {})
        if status != HTTPStatus.OK:
            raise by_status(status, headers.get("Retry-After"), f"HTTP {status}")
        return FileUploadV2Result(status=status, body=body)

    def _posted(self, url: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], str]:
        """Whatever the answer says: its body decides."""
        with deadline(self.timeout) as until:
            try:
                answer = self._kept.post(url, data, headers=headers, timeout=self.timeout, allow_redirects=False)
            except requests.RequestException as failure:
                words = f"Timeout after {self.timeout:g} s" if until.passed else type(failure).__name__
                raise TemporaryDeliveryError(f"Slack: {words}", unsure=until.handed_over) from None
        return answer.status_code, answer.headers, answer.content.decode(errors="replace")
