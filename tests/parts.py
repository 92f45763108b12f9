"""Parts that tests need and a machine may lack: a test without its part is skipped, and the reason is printed.

Where REQUIRE_PARTS is set in the environment, as in CI, a missing part fails the test instead.
"""

from __future__ import annotations

import os

import pytest


def require(there: bool, missing: str) -> None:
    """Skip the test, or fail it where parts are required, unless the part is there. missing: what, and whence."""
    if there:
        return
    if os.environ.get("REQUIRE_PARTS"):
        pytest.fail(f"{missing} (REQUIRE_PARTS is set, so this is no skip)", pytrace=False)
    pytest.skip(missing)
