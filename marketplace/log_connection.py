"""What the transaction log uses of a connection to PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol


class Connection(Protocol):
    """What the log uses of an `asyncpg.Connection`."""

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Sequence[Any]],
        columns: Sequence[str],
        schema_name: str,
    ) -> str: ...

    async def copy_to_table(
        self,
        table_name: str,
        *,
        source: Any,
        columns: Sequence[str],
        schema_name: str,
        format: Literal["binary"],  # noqa: A002  # asyncpg's name for it
    ) -> str: ...

    async def execute(self, query: str, *arguments: Any) -> str: ...

    async def fetch(self, query: str, *arguments: Any) -> Sequence[Any]: ...

    async def fetchval(self, query: str, *arguments: Any) -> Any: ...

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...

    async def close(self) -> None: ...
