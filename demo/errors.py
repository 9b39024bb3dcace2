"""What goes wrong in the demo and can be put right by the person who runs it."""

from __future__ import annotations


class DemoError(Exception):
    """The message is one or more plain lines, shown as they are. A retry without a change does not help."""
