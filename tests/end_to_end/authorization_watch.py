"""The row of the authorization matrix for the feeds of clearing houses: no caller there is one."""

from __future__ import annotations

from collections.abc import Mapping

from gem.marketplace.v1 import contract_watch_pb2
from tests.end_to_end.callers import FORBIDDEN, Row, row

#: The rpc by its path.
WATCH_MATRIX: Mapping[str, Row] = {
    "/gem.marketplace.v1.ContractService/WatchContractEvents": row(
        lambda _: contract_watch_pb2.WatchContractEventsRequest(),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=FORBIDDEN,
    )
}
