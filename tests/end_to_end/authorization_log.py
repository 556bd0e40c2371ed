"""The rows of the authorization matrix for the log's chains."""

from __future__ import annotations

from gem.marketplace.v1 import transaction_service_pb2 as log
from tests.end_to_end.callers import FORBIDDEN, OK, row

CHAIN_ROWS = {
    "GetLogHeads": row(
        lambda _: log.GetLogHeadsRequest(last_day="2026-01-01"),
        OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
    "ExportLogEvidence": row(
        lambda _: log.ExportLogEvidenceRequest(day="2026-01-01"),
        OK,
        business=FORBIDDEN,
        technical=FORBIDDEN,
        users=OK,
    ),
}
