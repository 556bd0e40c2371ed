"""Pages take longest of all: they begin first, so that nobody waits for them at the end."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the pages before everything else, whatever the order of the rest is."""
    items.sort(key=lambda item: item.path.parent.name != "guides")
