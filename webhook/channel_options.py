"""Options of channels as the configuration file has them, their secrets read from where it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

_ENV, _FILE = "_env", "_file"


def with_secrets(
    channels: Mapping[str, Mapping[str, Any]],
    environment: Mapping[str, str],
    problems: list[str],
    *,
    under: str = "channels",
) -> dict[str, dict[str, Any]]:
    """`{token_env: NAME}` and `{token_file: PATH}` become `{token: …}`; what cannot be read is added to `problems`."""
    return {
        channel: dict(
            _read(f"{under}.{channel}.{name}", name, value, environment, problems) for name, value in of.items()
        )
        for channel, of in channels.items()
    }


def _read(place: str, name: str, value: object, environment: Mapping[str, str], problems: list[str]) -> tuple[str, Any]:
    if name.endswith(_ENV) and isinstance(value, str):
        if not environment.get(value):
            problems.append(f"{place}: the variable {value} is not set")
        return name.removesuffix(_ENV), SecretStr(environment.get(value, ""))
    if name.endswith(_FILE) and isinstance(value, str):
        try:
            return name.removesuffix(_FILE), SecretStr(Path(value).read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            problems.append(f"{place}: {value}: {why}")
            return name.removesuffix(_FILE), SecretStr("")
    return name, value
