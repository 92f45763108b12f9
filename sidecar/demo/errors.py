"""What keeps the demo from going on, said for the person who started it."""

from __future__ import annotations

from sidecar.errors import SidecarError


class DemoError(SidecarError):
    """Something that the demo needs is missing or failed; the message says what, and what to do."""
