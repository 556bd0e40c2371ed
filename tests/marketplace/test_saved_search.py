"""Which rpcs search, and which criteria of theirs are kept, without a database."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor_pb2 import MethodOptions
from hypothesis import given
from hypothesis import strategies as st

from foundation.certificates import utc_now
from foundation.errors import MarketError
from foundation.validation import violations
from gem.common.v1.paging_pb2 import PageRequest
from gem.marketplace.v1 import service_request_service_pb2
from gem.marketplace.v1 import transaction_service_pb2 as log
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gemarket import core
from marketplace.saved_search import (
    CRITERIA_MAX_BYTES,
    SEARCHES,
    SEARCHES_MAX,
    SavedSearch,
    check_room,
    read_criteria,
    searches,
    shown,
)
from tests.control_plane import fields_of
from tests.interceptors.support import raises

LIST = "gem.marketplace.v1.TransactionService/ListTransactions"
REQUESTS = "gem.marketplace.v1.ServiceRequestService/SearchServiceRequests"
_INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)


def kept(given_: bytes | str, method: str = LIST) -> bytes:
    """Read criteria."""
    return read_criteria(method, given_, violations)


def saved(criteria: bytes, method: str = LIST) -> SavedSearch:
    """Give a saved search."""
    now = utc_now()
    return SavedSearch("s", "volt", "volt", "mine", method, criteria, now, now)


@pytest.mark.parametrize(
    "method",
    [
        "",
        "gem.marketplace.v1.TransactionService/GetTransaction",
        "gem.marketplace.v1.ContractService/CreateContract",
        "gem.marketplace.v1.TransactionService.ListTransactions",
        f"/{LIST}",
        "gem.charging.v1.EvseSearchService/SearchEvses",
    ],
)
def test_what_is_no_search_of_the_market_cannot_be_saved(method: str) -> None:
    with pytest.raises(MarketError, check=_INVALID) as caught:
        kept(b"", method)
    assert fields_of(caught.value) == ["method"]


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        (b"\xff", "criteria.message"),
        (b"\x0a\x05abc", "criteria.message"),
        # Field 99, at the top and inside the filter.
        (b"\x9a\x06\x01a", "criteria.message"),
        (b"\x0a\x04\x9a\x06\x01a", "criteria.message"),
        ("{", "criteria.json"),
        ("[]", "criteria.json"),
        ("null", "criteria.json"),
        ('{"no_such": 1}', "criteria.json"),
        ('{"filter": {"role": "TRANSACTION_ROLE_NONE"}}', "criteria.json"),
        ("[" * 60_000, "criteria.json"),
        ('{"filter": {"month": "' + "x" * 10 + '"}}', "criteria.json"),
    ],
)
def test_what_the_rpc_does_not_understand_is_refused_and_not_echoed(
    given_: bytes | str, field: str
) -> None:
    with pytest.raises(MarketError, check=_INVALID) as caught:
        kept(given_)
    assert fields_of(caught.value) == [field]
    assert "no_such" not in str(caught.value)


def test_what_the_rpc_would_refuse_is_refused_by_field() -> None:
    with pytest.raises(MarketError, check=_INVALID) as caught:
        kept('{"text": "ok", "country_code": "xx"}', REQUESTS)
    assert fields_of(caught.value) == ["criteria.country_code"]
    wrong = log.ListTransactionsRequest(filter=log.TransactionFilter(call_id="no uuid"))
    with pytest.raises(MarketError, check=_INVALID) as caught:
        kept(wrong.SerializeToString())
    assert fields_of(caught.value) == ["criteria.filter.call_id"]


def test_criteria_have_a_size() -> None:
    # Nothing else than the size bounds the elements of this message.
    large = descriptor_pb2.FileDescriptorProto(
        name="large.proto", package="gem.marketplace.v1", syntax="proto3"
    )
    field = large.message_type.add(name="LargeRequest").field.add(name="words", number=1)
    field.type, field.label = field.TYPE_STRING, field.LABEL_REPEATED
    path = ".gem.marketplace.v1.LargeRequest"
    method = large.service.add(name="PartnerService").method.add(name="SearchPartners")
    method.input_type = method.output_type = path
    pool = descriptor_pool.DescriptorPool()
    pool.Add(large)
    name = "gem.marketplace.v1.PartnerService/SearchPartners"
    fitting = '{"words": ["' + "x" * (CRITERIA_MAX_BYTES - 3) + '"]}'
    assert len(read_criteria(name, fitting, violations, pool)) == CRITERIA_MAX_BYTES
    too_large = fitting.replace("xx", "xxx", 1)
    with pytest.raises(MarketError, check=_INVALID) as caught:
        read_criteria(name, too_large, violations, pool)
    assert fields_of(caught.value) == ["criteria"]


def test_the_page_is_left_out_and_the_rest_comes_back_in_both_forms() -> None:
    asked = log.ListTransactionsRequest(
        filter=log.TransactionFilter(role=log.TRANSACTION_ROLE_BUYER, service_id="s-1"),
        order=log.TRANSACTION_ORDER_HIGHEST_VALUE_FIRST,
        page=PageRequest(page_size=7),
    )
    criteria = kept(asked.SerializeToString())
    asked.ClearField("page")
    assert log.ListTransactionsRequest.FromString(criteria) == asked
    name, text = shown(saved(criteria))
    assert name == "gem.marketplace.v1.ListTransactionsRequest"
    assert '"service_id": "s-1"' in text
    assert kept(text) == criteria


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50),
    st.sampled_from(["", "DE", "AT"]),
    st.booleans(),
    st.integers(0, 2),
)
def test_criteria_survive_either_way(text: str, country: str, responded: bool, owner: int) -> None:
    asked: Any = service_request_service_pb2.SearchServiceRequestsRequest(
        text=text, country_code=country, responded_only=responded
    )
    asked.owner = owner
    criteria = kept(asked.SerializeToString(), REQUESTS)
    assert kept(shown(saved(criteria, REQUESTS))[1], REQUESTS) == criteria
    assert service_request_service_pb2.SearchServiceRequestsRequest.FromString(criteria) == asked


def test_every_search_of_the_list_only_reads_and_has_its_page_known() -> None:
    assert callable(core.core_services), "which has imported every service"
    found = searches()
    assert {LIST, REQUESTS} < found.keys() <= set(SEARCHES)
    pool = descriptor_pool.Default()
    for name, request in found.items():
        service_name, _, method_name = name.partition("/")
        method = pool.FindServiceByName(service_name).methods_by_name[method_name]
        assert method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
        assert not method.client_streaming
        pages = [
            field.name for field in request.fields if field.message_type is PageRequest.DESCRIPTOR
        ]
        assert pages in ([], ["page"])


def test_only_searches_that_the_market_serves_are_known() -> None:
    pool = descriptor_pool.DescriptorPool()
    assert searches(pool) == {}
    file = descriptor_pb2.FileDescriptorProto(
        name="future.proto", package="gem.marketplace.v1", syntax="proto3"
    )
    file.message_type.add(name="SearchPartnersRequest")
    service = file.service.add(name="PartnerService")
    path = ".gem.marketplace.v1.SearchPartnersRequest"
    service.method.add(name="SearchPartners", input_type=path, output_type=path)
    pool.Add(file)
    assert list(searches(pool)) == ["gem.marketplace.v1.PartnerService/SearchPartners"]
    # What was saved when the market served more still comes back.
    assert shown(saved(b"\x0a\x00"), pool) == ("", "")


def test_searches_are_bounded() -> None:
    check_room(SEARCHES_MAX - 1)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        check_room(SEARCHES_MAX)
