"""Where a message goes: what a provider's limits are for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def target_of(channel: str, settings: Mapping[str, Any]) -> str:
    """32 hexadecimal digits for a channel with these settings; secrets in them may be encrypted.

    The same for all merchants that share a place, and for one merchant until its settings change.
    """
    text = json.dumps([channel, settings], sort_keys=True, default=str)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
