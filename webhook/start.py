"""Where `sentinel-webhook` starts. Without its extra it says so in one line."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from webhook.__main__ import main as command  # noqa: PLC0415 - this is what may fail
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "webhook":
            raise
        sys.exit(f"sentinel-webhook needs {error.name}, which is not installed: pip install 'sentinel[webhook]'")
    command()
