"""A file of what OCPI objects say and the market has no field for, by kind and key of the object.

Each object's part is a JSON Patch (RFC 6902) of the object as the market writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from clearinghouse.ocpi_rest import Change
from clearinghouse.ocpi_values import write_json

Rests = dict[str, dict[str, tuple[Change, ...]]]


def read_kept_aside(path: Path) -> Rests:
    """Read the file; empty where there is none. Raises ValueError where it is another's."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(), parse_float=Decimal)
        return {
            kind: {
                key: tuple(Change.of_json(change) for change in changes)
                for key, changes in objects.items()
            }
            for kind, objects in content.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise ValueError("the file of what is kept aside was not written by an import") from None


def keep_aside(path: Path, kind: str, kept: Iterable[tuple[str, tuple[Change, ...]]]) -> None:
    """Add to the file, readable by its owner only; a newer object's part replaces an older one."""
    rests = read_kept_aside(path)
    rests.setdefault(kind, {}).update(kept)
    content = {
        name: {key: [change.as_json() for change in changes] for key, changes in objects.items()}
        for name, objects in rests.items()
    }
    path.touch(mode=0o600)
    path.write_text(write_json(content) + "\n")
