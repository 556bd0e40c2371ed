"""What takes longest of all begins first, so that nobody waits for it at the end."""

from __future__ import annotations

import pytest

#: Files whose tests stay together and take half a minute or more.
_LONG = {"test_guides.py", "test_hostile_messages.py", "test_up.py", "test_drain.py"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files before everything else, whatever the order of the rest is."""
    items.sort(key=lambda item: item.path.name not in _LONG)
