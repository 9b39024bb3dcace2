"""What S3's errors mean for a source, and what to do about them."""

from __future__ import annotations

import botocore.exceptions as faults  # type: ignore[import-untyped]  # has no types
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # has no types

from exporter.collectors.bucket_objects import LONGEST_WORDS, words
from exporter.collectors.file_source import missing
from exporter.collectors.s3_file import S3FileConfig
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

_SERVER_ERROR = 500
_BAD_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"}
_DENIED = {"AccessDenied", "403", "401", "AllAccessDisabled", "AccountProblem", "RequestTimeTooSkewed"}
_TOO_MANY = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "429", "TooManyRequests"}
_MISSING = {"NoSuchKey", "404"}
_HINTS = {
    "NoSuchBucket": "there is no such bucket: is bucket right, or endpoint_url?",
    "InvalidBucketName": "no bucket can have this name: is bucket right?",
    "InvalidObjectState": "the file is archived: restore it first",
    "PermanentRedirect": "the bucket is in another region: set region",
    "301": "the bucket is in another region: set region",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set region",
}
_PERMISSIONS = "allow s3:GetObject, and s3:ListBucket too, without which a file that is not there is denied as well"


def service_failure(error: faults.ClientError, place: str, config: S3FileConfig) -> CollectError:
    """What an answer of the server means."""
    fault = error.response.get("Error", {})
    code = str(fault.get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{status}, {code}: {fault.get('Message', '')}"[:LONGEST_WORDS]
    if code in _MISSING:
        return missing(place)
    if code in _BAD_KEYS or code in _DENIED:
        return _denied(code, said, place, config)
    if code in _TOO_MANY:
        return RateLimited(f"{place}: {said}")
    if status >= _SERVER_ERROR:
        return ServerFailed(f"{place}: {said}")
    return BadAnswer(f"{place}: {_HINTS.get(code, 'is endpoint_url right?')} ({said})")


def client_failure(error: Exception, place: str) -> CollectError:
    """What it means that no answer came, or none that S3 gives."""
    said = words(error)
    match error:
        case faults.ConnectTimeoutError() | faults.ReadTimeoutError():
            return TimedOut(f"{place}: no answer in time")
        case faults.NoCredentialsError():
            return Denied(f"{place}: no credentials found: set access_key_env and secret_key_env, or anonymous: true")
        case faults.PartialCredentialsError() | faults.CredentialRetrievalError() | faults.ProfileNotFound():
            return Denied(f"{place}: {said}")
        case faults.ParamValidationError() | faults.NoRegionError() | ValueError():
            return BadAnswer(f"{place}: is bucket, region or endpoint_url right? {said}")
        case ResponseParserError():
            return BadAnswer(f"{place}: the answer is none that S3 gives: is endpoint_url right? {said}")
        case _:
            return Unreachable(f"{place}: {said}")


def _denied(code: str, said: str, place: str, config: S3FileConfig) -> Denied:
    if code in _DENIED:
        return Denied(f"{place} may not be read ({said}): {_PERMISSIONS}")
    if config.own_keys:
        return Unauthorized(f"{place}: the keys from {config.key_origin} were refused ({said})")
    return Denied(f"{place}: the credentials of the exporter's environment were refused ({said})")
