"""`type: s3_file`: a file of rows in an S3 bucket, of AWS or of anything else that speaks S3."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from exporter.collectors.file_config import BucketConfig
from exporter.collectors.file_source import FileSourceCollector
from exporter.environment import references
from exporter.model import OptionalTemplate, at_most_one


class S3FileConfig(BucketConfig):
    """An object in a bucket. Without keys here, credentials come from where AWS clients look for them."""

    type: Literal["s3_file"] = Field(description="`s3_file`.")
    region: OptionalTemplate = Field(None, description="Where the bucket is; the environment's by default.")
    endpoint_url: OptionalTemplate = Field(None, description="Address of another server than AWS.")
    access_key_env: str | None = Field(None, description="Variable that holds the access key.")
    access_key_file: str | None = Field(None, description="File that holds the access key.")
    secret_key_env: str | None = Field(None, description="Variable that holds the secret key.")
    secret_key_file: str | None = Field(None, description="File that holds the secret key.")
    session_token_env: str | None = Field(None, description="Variable that holds the session token, if there is one.")
    session_token_file: str | None = Field(None, description="File that holds the session token, if there is one.")

    @property
    def own_keys(self) -> bool:
        """Whether the configuration names the access key."""
        return self.access_key_env is not None or self.access_key_file is not None

    @property
    def key_origin(self) -> str:
        """Where the secret key comes from, for messages."""
        return self.secret_key_env or self.secret_key_file or "the environment"

    def needs(self) -> tuple[str, ...]:
        names = [self.access_key_env, self.secret_key_env, self.session_token_env]
        for template in (self.region, self.endpoint_url):
            names += references(template or "")
        return (*super().needs(), *(name for name in names if name))

    @model_validator(mode="after")
    def _whole_credentials(self) -> S3FileConfig:
        for key in ("access_key", "secret_key", "session_token"):
            at_most_one(self, f"{key}_env", f"{key}_file")
        secret = self.secret_key_env is not None or self.secret_key_file is not None
        token = self.session_token_env is not None or self.session_token_file is not None
        if self.own_keys != secret:
            missing = "secret_key_env" if self.own_keys else "access_key_env"
            raise ValueError(f"{missing} is missing: an access key and a secret key belong together")
        if token and not secret:
            raise ValueError("session_token belongs to an access key and a secret key: add them, or remove it")
        if self.anonymous and (secret or token):
            raise ValueError("anonymous uses no keys: remove it, or the keys")
        return self


class S3FileCollector(FileSourceCollector):
    """Reads an object of an S3 bucket."""

    def __init__(self, config: S3FileConfig) -> None:
        from exporter.collectors.s3_objects import S3Objects  # noqa: PLC0415 - needs boto3, which may be missing

        super().__init__(config, S3Objects(config))
