"""Pages of long lists by keyset: a page starts behind the last key of the page before."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from clearinghouse.refusals import invalid
from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageInfo, PageRequest

T = TypeVar("T")

DEFAULT_SIZE = 100
#: Entries are large: so many keep an answer below 1 MiB.
MOST_SIZE = 200
_BIGINT_MAX = 2**63 - 1


def page_size(request: PageRequest, most: int = MOST_SIZE) -> int:
    """Give how many entries the page has at most."""
    return min(request.page_size or DEFAULT_SIZE, most)


def after_text(request: PageRequest) -> str:
    """Give the key behind which the page starts; empty for the first one."""
    try:
        text = base64.urlsafe_b64decode(request.page_token.encode()).decode()
    except (binascii.Error, ValueError):
        raise _refused() from None
    if "\0" in text:
        raise _refused()
    return text


def after_number(request: PageRequest, first: int) -> int:
    """Give the number behind which the page starts; `first` for the first one."""
    text = after_text(request)
    if not text:
        return first
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_BIGINT_MAX))):
        raise _refused()
    return min(int(text), _BIGINT_MAX)


def cut(rows: Sequence[T], size: int, key: Callable[[T], object]) -> tuple[Sequence[T], PageInfo]:
    """Give the page's entries of one more than fit, and what follows them."""
    if len(rows) <= size:
        return rows, PageInfo()
    shown = rows[:size]
    token = base64.urlsafe_b64encode(str(key(shown[-1])).encode())
    return shown, PageInfo(next_page_token=token.decode())


def _refused() -> MarketError:
    return invalid("page.page_token", "a token of the page before", "page_token")
