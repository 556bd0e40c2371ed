"""Pages of long lists by keyset: a page starts behind the last key of the page before."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Row, Select

from foundation.errors import FieldViolation, MarketError
from gem.common.v1.paging_pb2 import PageInfo, PageRequest
from gem.mesh.v1.error_reason_pb2 import ErrorReason

DEFAULT_SIZE = 100
MOST_SIZE = 1000
_BIGINT_MAX = 2**63 - 1
_BIGINT_DIGITS = len(str(_BIGINT_MAX))

K = TypeVar("K", int, str)


@dataclass(frozen=True, slots=True)
class Page(Generic[K]):
    """Which part of a list is wanted: at most `size` rows behind the key `after`."""

    size: int
    after: K | None

    def of(
        self, query: Select[Any], key: ColumnElement[K], *, descending: bool = False
    ) -> Select[Any]:
        """Narrow a query to the page, and one row more, which tells whether another one follows."""
        if self.after is not None:
            query = query.where(key < self.after if descending else key > self.after)
        return query.order_by(key.desc() if descending else key).limit(self.size + 1)

    def cut(
        self, rows: Sequence[Row[Any]], key: Callable[[Row[Any]], K]
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """Give the page's rows and what follows them."""
        if len(rows) <= self.size:
            return rows, PageInfo()
        shown = rows[: self.size]
        token = base64.urlsafe_b64encode(str(key(shown[-1])).encode())
        return shown, PageInfo(next_page_token=token.decode())


def page_by_number(request: PageRequest, most: int = MOST_SIZE) -> Page[int]:
    """Read a page request of a list whose key is a position; MarketError REQUEST_INVALID.

    `most` entries are on a page whatever is asked for, where entries may be large.
    """
    size = min(request.page_size or DEFAULT_SIZE, most)
    text = _after(request)
    if text is None:
        return Page(size, None)
    if not (text.isascii() and text.isdecimal() and len(text) <= _BIGINT_DIGITS):
        raise refused_token()
    return Page(size, min(int(text), _BIGINT_MAX))


def page_by_text(request: PageRequest, most: int = MOST_SIZE) -> Page[str]:
    """Read a page request of a list whose key is a name; MarketError REQUEST_INVALID.

    `most` entries are on a page whatever is asked for, where entries may be large.
    """
    return Page(min(request.page_size or DEFAULT_SIZE, most), _after(request))


def _after(request: PageRequest) -> str | None:
    if not request.page_token:
        return None
    try:
        text = base64.urlsafe_b64decode(request.page_token.encode()).decode()
    except (binascii.Error, ValueError):
        raise refused_token() from None
    # PostgreSQL's text holds no NUL.
    if not text or "\0" in text:
        raise refused_token()
    return text


def refused_token() -> MarketError:
    """Give the error for a page token that is none of the list's."""
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The page token is none that this list gave.",
        violations=(FieldViolation("page.page_token", "must be a next_page_token", "page_token"),),
    )
