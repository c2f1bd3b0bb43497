"""A pytest plugin that starts no further test once SLOW_TESTS_SECONDS have passed, and says which it left out."""

from __future__ import annotations

import os
import time

import pytest

STARTED = time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the test when the time is spent."""
    if time.monotonic() - STARTED > float(os.environ["SLOW_TESTS_SECONDS"]):
        pytest.skip("not run: the time for slow tests is spent")
