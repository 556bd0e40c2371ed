"""Saved searches: which rpcs search, and which criteria they take (use case 1239 and others)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

#: Searches of one owner.
SEARCHES_MAX = 200
#: Criteria as they are kept.
CRITERIA_MAX_BYTES = 16_384
_PACKAGE = "gem.marketplace.v1"
#: Every rpc whose criteria can be saved, where this market serves it. Exports and sums take the
#: filter of the list of their kind.
SEARCHES = (
    f"{_PACKAGE}.ContractService/ListContracts",
    f"{_PACKAGE}.ContractService/SearchContracts",
    f"{_PACKAGE}.InterfaceCatalogService/ListInterfaces",
    f"{_PACKAGE}.InterfaceCatalogService/ListProposals",
    f"{_PACKAGE}.InterfaceCatalogService/SearchInterfaces",
    f"{_PACKAGE}.PartnerService/ListPartners",
    f"{_PACKAGE}.PartnerService/SearchPartners",
    f"{_PACKAGE}.ServiceRegistryService/ListServices",
    f"{_PACKAGE}.ServiceRegistryService/SearchServices",
    f"{_PACKAGE}.ServiceRequestService/SearchServiceRequests",
    f"{_PACKAGE}.TransactionService/ExportTransactions",
    f"{_PACKAGE}.TransactionService/ListFailedCalls",
    f"{_PACKAGE}.TransactionService/ListTransactions",
    f"{_PACKAGE}.TransactionService/SummarizeTransactions",
)

Validate = Callable[[Message], tuple[FieldViolation, ...]]


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """Criteria under a name."""

    saved_search_id: str
    #: Whose it is: a partner's back end, one of its users, or an operator; see `Actor.name`.
    owner: str
    #: Empty for an operator's.
    partner_id: str
    name: str
    method: str
    #: The serialised request of the method, without its page.
    criteria: bytes
    created_at: datetime
    changed_at: datetime


def searches(pool: Any = None) -> dict[str, Descriptor]:
    """Give the request of every search that exists, by the rpc's name; of the default pool."""
    known = pool or descriptor_pool.Default()
    found = {}
    for name in SEARCHES:
        service_name, _, method = name.partition("/")
        try:
            service = known.FindServiceByName(service_name)
        except KeyError:
            continue
        if method in service.methods_by_name:
            found[name] = service.methods_by_name[method].input_type
    return found


def read_criteria(method: str, given: bytes | str, validate: Validate, pool: Any = None) -> bytes:
    """Give criteria as they are kept: what the rpc takes, without its page.

    `given` is a serialised request or one in JSON. The same criteria give the same bytes.

    Raises:
        MarketError: REQUEST_INVALID where the rpc is no search or would refuse the request.
    """
    descriptor = searches(pool).get(method)
    if descriptor is None:
        raise _refused("method", "must name a search of this market", "saved_search.method")
    message = message_factory.GetMessageClass(descriptor)()
    if isinstance(given, bytes):
        _parse(message, given)
    else:
        _parse_json(message, given, pool)
    if "page" in descriptor.fields_by_name:
        message.ClearField("page")
    broken = validate(message)
    if broken:
        named = tuple(replace(each, field=_within(each.field)) for each in broken)
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The search would refuse these criteria.",
            violations=named,
        )
    kept = message.SerializeToString(deterministic=True)
    if len(kept) > CRITERIA_MAX_BYTES:
        text = f"must have {CRITERIA_MAX_BYTES} bytes at most"
        raise _refused("criteria", text, "saved_search.criteria")
    return bytes(kept)


def shown(search: SavedSearch, pool: Any = None) -> tuple[str, str]:
    """Give the name of the request's message and the criteria as JSON; empty for a lost rpc."""
    descriptor = searches(pool).get(search.method)
    if descriptor is None:
        return "", ""
    message = message_factory.GetMessageClass(descriptor)()
    message.ParseFromString(search.criteria)
    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, indent=None, descriptor_pool=pool
    )
    return descriptor.full_name, text


def check_room(count: int) -> None:
    """Refuse a search beyond the limit; MarketError STATE_NOT_ALLOWED."""
    if count >= SEARCHES_MAX:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            f"{SEARCHES_MAX} searches are saved already: delete one first.",
        )


def name_taken() -> MarketError:
    """Give the error for a name that its owner has used for another search."""
    return MarketError(
        ErrorReason.ERROR_REASON_ALREADY_EXISTS,
        "There is a saved search of this name already.",
        metadata={"kind": "saved search"},
    )


def _parse(message: Message, given: bytes) -> None:
    try:
        message.ParseFromString(given)
    except DecodeError:
        text = "must be a serialised request of the rpc"
        raise _refused("criteria.message", text, "saved_search.message") from None
    # What is not known here cannot be checked, and would come back unseen.
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        text = "must have no field that the rpc does not know"
        raise _refused("criteria.message", text, "saved_search.message")


def _parse_json(message: Message, given: str, pool: Any) -> None:
    try:
        value = json.loads(given or "{}")
        if not isinstance(value, dict):
            raise TypeError
        json_format.ParseDict(value, message, descriptor_pool=pool, max_recursion_depth=20)
    # The parser's texts quote what was sent.
    except (json_format.ParseError, ValueError, TypeError, RecursionError):
        text = "must be a request of the rpc as JSON"
        raise _refused("criteria.json", text, "saved_search.json") from None


def _within(field: str) -> str:
    return f"criteria.{field}" if field else "criteria"


def _refused(field: str, text: str, rule: str) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The search cannot be saved.",
        violations=(FieldViolation(field, text, rule),),
    )
