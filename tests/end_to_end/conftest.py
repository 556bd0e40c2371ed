"""One whole market for the session; a test that kills parts of it starts its own instead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator

import pytest

from tests.end_to_end.whole_market import WholeMarket, running_market, worker_errors


@pytest.fixture(scope="session")
async def whole() -> AsyncIterator[WholeMarket]:
    """Run a market with two workers as processes of their own."""
    async with running_market() as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what the workers logged as errors beside a test that failed."""
    report = yield
    if report.failed:
        report.sections.append(("errors of the workers", worker_errors()))
    return report
