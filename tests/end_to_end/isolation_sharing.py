"""What partners may know of each other's things: the only ways in which one comes to see another's.

Texts carry markers, and every thing has an id. Whoever is no owner sees one only by a rule below,
which asks the database as it is at that moment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.isolation_rows import Change, Row

MARKER = re.compile(r"zq\d{8}x")

_SERVICE_SEEN = """EXISTS (
  SELECT FROM marketplace.service v WHERE v.service_id = {service}
  AND (v.state IN ('PUBLISHED', 'STOPPED') OR EXISTS (
    SELECT FROM marketplace.contract c
    WHERE c.service_id = v.service_id AND c.requester_id = $2)))"""


def _of_service(table: str, key: str, more: str = "true") -> str:
    seen = _SERVICE_SEEN.format(service="x.service_id")
    return (
        f"SELECT EXISTS (SELECT FROM marketplace.{table} x"
        f" WHERE x.{key} = $1 AND {more} AND {seen})"
    )


#: Whether the partner `$2` may see the thing `$1` of another, by table.
SEEN_BY: Mapping[str, str] = {
    "service": _of_service("service", "service_id"),
    "service_file": _of_service("service_file", "file_id", "x.state = 'STORED'"),
    "service_version": _of_service("service_version", "version_id"),
    # Its next revision names it.
    "offering": _of_service("offering", "offering_id"),
    # Withdrawn, its terms stay known to whoever accepted them.
    "text of offering": _of_service(
        "offering",
        "offering_id",
        "(x.withdrawn_at IS NULL OR EXISTS (SELECT FROM marketplace.contract d"
        " WHERE d.offering_id = x.offering_id AND d.requester_id = $2))",
    ),
    "service_image": _of_service("service_hosting", "image_id"),
    # Who responded is told of its end.
    "service_request": "SELECT EXISTS (SELECT FROM marketplace.service_request"
    " WHERE service_request_id = $1 AND (state <> 'DELETED' OR EXISTS ("
    "  SELECT FROM marketplace.service_request_response"
    "  WHERE service_request_id = $1 AND responder_id = $2)))",
    # Its author reads what others respond.
    "service_request_response": "SELECT EXISTS (SELECT FROM marketplace.service_request_response"
    " JOIN marketplace.service_request USING (service_request_id)"
    " WHERE response_id = $1 AND author_id = $2)",
    "interface_proposal": "SELECT EXISTS (SELECT FROM marketplace.interface_proposal"
    " WHERE proposal_id = $1 AND state NOT IN ('PROPOSED', 'INVALID', 'WITHDRAWN') AND $2 <> '')",
    # Told to everybody who has a contract for the service.
    "told of service": "SELECT EXISTS (SELECT FROM marketplace.contract"
    " WHERE service_id = $1 AND requester_id = $2)",
}
#: Where the texts of a command end up: the field that names the thing, and its table. The texts of
#: all other commands are for their author alone.
TEXTS_OF: Mapping[str, tuple[str, str]] = {
    "RegisterService": ("service_id", "service"),
    "ChangeServiceDescription": ("service_id", "service"),
    "UploadServiceSpecification": ("service_id", "service"),
    "PrepareServiceVersion": ("version_id", "service_version"),
    "RegisterServiceImage": ("image_id", "service_image"),
    "BeginServiceFileUpload": ("file_id", "service_file"),
    "UploadServiceFile": ("file_id", "service_file"),
    "CreateOffering": ("offering_id", "text of offering"),
    "ChangeOffering": ("offering_id", "text of offering"),
    "RequestContractChange": ("amendment_id", "contract_amendment"),
    "RequestContractTermination": ("amendment_id", "contract_amendment"),
    "RequestContractProlongation": ("amendment_id", "contract_amendment"),
    "RequestServiceAddition": ("amendment_id", "contract_amendment"),
    "AcceptContractAmendment": ("amendment_id", "contract_amendment"),
    "RejectContractAmendment": ("amendment_id", "contract_amendment"),
    "CreateServiceRequest": ("service_request_id", "service_request"),
    "ChangeServiceRequest": ("service_request_id", "service_request"),
    "RespondToServiceRequest": ("response_id", "service_request_response"),
    "ProposeInterface": ("proposal_id", "interface_proposal"),
    "VoteOnProposal": ("proposal_id", "interface_proposal"),
    "NotifyServiceRequesters": ("service_id", "told of service"),
}
_AGREED = frozenset(
    {
        *("contract", "contract_event", "contract_amendment", "contract_revision"),
        *("contract_added_service", "contract_price"),
    }
)
#: Commands by which somebody else is told something.
TELLS = frozenset(
    {
        *("CreateContract", "SuspendContract", "ResumeContract", "TerminateContract"),
        *("RequestContractChange", "RequestContractTermination", "RequestContractProlongation"),
        *("RequestServiceAddition", "AcceptContractAmendment", "RejectContractAmendment"),
        *("RevokeContractAmendment", "NotifyServiceRequesters", "RespondToServiceRequest"),
        *("ChangeServiceRequest", "CloseServiceRequest", "DeleteServiceRequest"),
        *("ProposeInterface", "VoteOnProposal", "WithdrawProposal"),
        *("StopService", "StartService", "ChangeServiceEndpoint", "DisableService"),
        *("EnableService", "DeleteService", "PublishService", "PrepareServiceVersion"),
        *("PublishServiceVersion", "WithdrawServiceVersion", "ChangeServiceDescription"),
    }
)
#: Histories to which a command adds a row at another's thing.
_HISTORIES = {
    "interface_proposal_event": "VoteOnProposal",
    "service_request_event": "RespondToServiceRequest",
}


@dataclass(frozen=True, slots=True)
class Marked:
    """A text that somebody gave: who, by which command, and the thing that it belongs to."""

    author: str
    method: str
    table: str
    key: str


def is_allowed(change: Change, caller: str, method: str) -> bool:
    """Say whether a call may do this: to the caller's own rows anything, to others' by a rule."""
    row = change.row
    if row.owners <= {caller}:
        return True
    if row.table in _AGREED:
        return caller in row.owners
    if row.table == "notice":
        return method in TELLS and change.is_new
    if row.table == "inbox":
        return method in TELLS and change.after is not None
    return change.is_new and _HISTORIES.get(row.table) == method


async def may_see(
    database: Any, rows: Mapping[tuple[str, str], Row], table: str, key: str, caller: str
) -> bool:
    """Say whether a partner may see another's thing."""
    row = rows.get((table.removeprefix("text of "), key))
    if row is not None and caller in row.owners:
        return True
    rule = SEEN_BY.get(table)
    return rule is not None and bool(await database.fetchval(rule, key, caller))
