"""What the errors of Google Cloud Storage's client mean for a source, and what to do about them."""

from __future__ import annotations

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from exporter.collectors.bucket_objects import LONGEST_WORDS, words
from exporter.collectors.file_source import changed, missing
from exporter.collectors.gcs_file import GcsFileConfig
from exporter.errors import (
    BadAnswer,
    CollectError,
    Denied,
    RateLimited,
    ServerFailed,
    TimedOut,
    Unauthorized,
    Unreachable,
)


def failure_of(error: Exception, place: str, config: GcsFileConfig) -> CollectError:
    """What an error of the client means."""
    match error:
        case api.RetryError() if isinstance(error.cause, Exception):
            return failure_of(error.cause, place, config)
        case api.GoogleAPICallError():
            return _answered(error, place, config)
        case auth.GoogleAuthError():
            return _not_identified(error, place, config)
        case requests.Timeout():
            return TimedOut(f"{place}: no answer in time")
        case ValueError():  # an address or a name that cannot be, or an answer that is no JSON
            return BadAnswer(f"{place}: is bucket or endpoint right? {words(error)}")
        case _:
            return Unreachable(f"{place}: {_cause(error)}")


def _answered(error: api.GoogleAPICallError, place: str, config: GcsFileConfig) -> CollectError:
    said = words(error)
    match error:
        case api.NotFound():
            return missing(place)
        case api.PreconditionFailed():
            return changed(place)
        case api.Unauthorized():
            return _refused(place, config, said)
        case api.Forbidden():
            hint = "grant the role Storage Object Viewer (storage.objects.get, and storage.objects.list for globs)"
            return Denied(f"{place} may not be read ({said}): {hint}")
        case _:
            kinds = {api.TooManyRequests: RateLimited, api.ServerError: ServerFailed}
            kind = next((ours for theirs, ours in kinds.items() if isinstance(error, theirs)), BadAnswer)
            return kind(f"{place}: {said}")


def _not_identified(error: auth.GoogleAuthError, place: str, config: GcsFileConfig) -> CollectError:
    said = words(error)
    match error:
        case auth.DefaultCredentialsError():
            hint = "set credentials_file, GOOGLE_APPLICATION_CREDENTIALS, or anonymous: true"
            return Denied(f"{place}: no default credentials ({said}): {hint}")
        case auth.TransportError():
            return Unreachable(f"{place}: Google's token service: {said}")
        case auth.RefreshError() if error.retryable:
            return ServerFailed(f"{place}: Google's token service: {said}")
        case _:
            return _refused(place, config, said)


def _refused(place: str, config: GcsFileConfig, said: str) -> Denied:
    if config.credentials_file is not None:
        return Unauthorized(f"{place}: the key in {config.credentials_file} was refused ({said})")
    if config.anonymous:
        return Denied(f"{place} is not public ({said}): set credentials_file instead of anonymous")
    return Denied(f"{place}: the default credentials were refused ({said})")


def _cause(error: Exception) -> str:
    """The reason of a connection failure, such as `Connection refused`, without the address."""
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", inner)).rpartition(": ")[2][:LONGEST_WORDS] or type(error).__name__
