"""Pages of long lists by keyset: a page starts behind the last key of the page before. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from foundation.errors import FieldViolation, MarketError
from gem.common.v1.paging_pb2 import PageInfo, PageRequest
from gem.mesh.v1.error_reason_pb2 import ErrorReason

R = TypeVar("R")
DEFAULT_SIZE = 100
_MOST_NUMBER = 2**63 - 1
_MOST_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted: at most `size` entries behind the key `after`."""

    size: int
    #: Empty is the first page.
    after: tuple[str, ...]

    @property
    def after_number(self) -> int | None:
        """The key of a list that has one number for a key; MarketError REQUEST_INVALID."""
        if not self.after:
            return None
        (text,) = self.after
        if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
            raise _refused_token()
        return min(int(text), _MOST_NUMBER)

    def cut(
        self, rows: Sequence[R], key: Callable[[R], tuple[str, ...]]
    ) -> tuple[Sequence[R], PageInfo]:
        """Give the page's rows of up to `size + 1`, and what follows them."""
        if len(rows) <= self.size:
            return rows, PageInfo()
        shown = rows[: self.size]
        return shown, PageInfo(next_page_token=token_of(key(shown[-1])))


def token_of(key: tuple[str, ...]) -> str:
    """Give the token of the page behind a key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def read_page(request: PageRequest, parts: int) -> Page:
    """Read a page request of a list whose key has so many parts; MarketError REQUEST_INVALID."""
    size = request.page_size or DEFAULT_SIZE
    if not request.page_token:
        return Page(size, ())
    try:
        key = json.loads(base64.urlsafe_b64decode(request.page_token.encode()))
    except (binascii.Error, ValueError, RecursionError):
        raise _refused_token() from None
    if not isinstance(key, list) or len(key) != parts:
        raise _refused_token()
    if not all(isinstance(part, str) and _is_text(part) for part in key):
        raise _refused_token()
    return Page(size, tuple(key))


def _is_text(part: str) -> bool:
    """Say whether PostgreSQL can hold it: no NUL, no half of a surrogate pair."""
    return not re.search("[\0\ud800-\udfff]", part)


def _refused_token() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "the page token is none that this list gave",
        violations=(FieldViolation("page.page_token", "must be a next_page_token", "page_token"),),
    )
