"""Memory that a collection has freed goes back to the system at once, instead of being kept for the next one.

The two allocators of the process, glibc's for Python and jemalloc for Polars, keep what is freed for as long as nothing
is allocated, which is until the next collection. Texts of a family are as large as nothing else, and of changing size,
so that what one left free seldom fits the next.
"""

from __future__ import annotations

import ctypes
import os

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h
_LARGE = 1 << 20
_VARIABLE = "_RJEM_MALLOC_CONF"
_SETTINGS = "muzzy_decay_ms:0,dirty_decay_ms:150,narenas:1"
"""What is freed goes back within 150 ms. At once would cost a collection half of its CPU again: pieces of text come and
go, and what was given back has to be asked for again. Threads share one heap, so that one's pages serve the other.
"""


def return_freed_memory() -> None:
    """Set both allocators up. Call before Polars is imported; what the environment says of jemalloc wins."""
    given = os.environ.get(_VARIABLE, "")
    if not given.startswith(_SETTINGS):
        os.environ[_VARIABLE] = f"{_SETTINGS},{given}".rstrip(",")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not there without glibc
    if mallopt is not None:
        # Otherwise the first large text that is freed makes glibc keep all of up to its size.
        mallopt(_MMAP_THRESHOLD, _LARGE)
