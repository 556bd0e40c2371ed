"""Login and logout over the listener for people (use cases 1618, 1619), with generated stubs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2

from gem.charging.v1 import evse_search_service_pb2_grpc
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1 import (
    contract_service_pb2_grpc,
    partner_service_pb2_grpc,
    transaction_service_pb2_grpc,
)
from gem.marketplace.v1 import partner_service_pb2 as partners
from gem.marketplace.v1 import transaction_service_pb2 as log
from gem.marketplace.v1.user_pb2 import UserRole, UserState
from gem.options.v1.options_pb2 import AccessRole
from gemarket.administration import new_request_id
from tests.end_to_end.charging import reason_of, search
from tests.end_to_end.people import PASSWORD, TIMEOUT_S, People, ask, token_metadata
from tests.end_to_end.whole_market import EVSP, WholeMarket, new_id

ADMINISTRATOR = UserRole.USER_ROLE_ADMINISTRATOR
VIEWER = UserRole.USER_ROLE_VIEWER
BUSINESS = UserRole.USER_ROLE_BUSINESS_OPERATOR


@pytest.fixture
async def people(whole: WholeMarket) -> AsyncIterator[People]:
    opened = People(whole)
    yield opened
    await opened.channel.close()


async def refused(call: Any) -> str:
    """Give the reason of a refusal."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return reason_of(caught.value)


@pytest.mark.usecase(1618)
async def test_a_wrong_password_a_wrong_name_and_an_invited_user_fail_alike(
    whole: WholeMarket, people: People
) -> None:
    acme = (await whole.registered("acme", EVSP)).partner_id
    await people.user(acme, "ada", [ADMINISTRATOR])
    token = await people.login(acme, "ada")
    await people.created(acme, "bob", [VIEWER], token)
    statuses = set()
    for partner_id, user_name, password in (
        (acme, "ada", "not the password"),
        (acme, "bob", ""),
        (acme, "nobody", PASSWORD),
        ("nobody", "ada", PASSWORD),
        ("", "ada", PASSWORD),
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await people.login(partner_id, user_name, password or PASSWORD)
        error = caught.value
        statuses.add((error.code(), error.details(), reason_of(error)))
    ((code, _, reason),) = statuses
    assert (code, reason) == (StatusCode.UNAUTHENTICATED, "LOGIN_FAILED")


@pytest.mark.usecase(1618)
async def test_without_a_good_token_nothing_but_what_is_public_is_answered(people: People) -> None:
    assert await refused(people.ask("WhoAmI")) == "SESSION_MISSING"
    assert await refused(people.ask("WhoAmI", "x" * 43)) == "SESSION_NOT_ACCEPTED"
    routed = evse_search_service_pb2_grpc.EvseSearchServiceStub(people.channel)
    assert await refused(routed.SearchEvses(search(), timeout=TIMEOUT_S)) == "SESSION_MISSING"
    check: Any = people.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answer = await check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.usecase(1618)
async def test_a_user_has_access_by_its_roles_and_never_makes_a_routed_call(
    whole: WholeMarket, people: People
) -> None:
    acme = await whole.registered("acme", EVSP)
    administrator = await people.user(acme.partner_id, "ada", [ADMINISTRATOR])
    viewer = await people.user(acme.partner_id, "vic", [VIEWER], administrator)
    known = await people.ask("WhoAmI", viewer)
    assert (known.subject_id, known.user.user_name) == (acme.partner_id, "vic")
    assert list(known.access_roles) == [AccessRole.ACCESS_ROLE_VIEWER]
    assert known.user.state == UserState.USER_STATE_ACTIVE

    for token in (administrator, viewer):
        metadata = token_metadata(token)
        routed = evse_search_service_pb2_grpc.EvseSearchServiceStub(people.channel)
        call = routed.SearchEvses(search(), timeout=TIMEOUT_S, metadata=metadata)
        assert await refused(call) == "ROLE_NOT_ALLOWED"
        entries = transaction_service_pb2_grpc.TransactionServiceStub(people.channel)
        request = log.ListTransactionsRequest()
        await entries.ListTransactions(request, timeout=TIMEOUT_S, metadata=metadata)

    stub = contract_service_pb2_grpc.ContractServiceStub(people.channel)
    outcomes = []
    for token in (viewer, administrator):
        suspend = contracts.SuspendContractRequest(
            request_id=new_request_id(), contract_id="of-nobody"
        )
        refusal = refused(
            stub.SuspendContract(suspend, timeout=TIMEOUT_S, metadata=token_metadata(token))
        )
        outcomes.append(await refusal)
    assert outcomes == ["ROLE_NOT_ALLOWED", "NOT_FOUND"]
    wanted = {"user_name": "eve", "full_name": "Eve", "roles": [VIEWER]}
    assert await refused(people.ask("CreateUser", viewer, **wanted)) == "ROLE_NOT_ALLOWED"


@pytest.mark.usecase(1618)
async def test_an_operator_in_a_session_operates_and_a_token_is_nothing_beside_a_certificate(
    whole: WholeMarket, people: People
) -> None:
    name = new_id("olga")
    token = await people.user("", name, [BUSINESS])
    stub = partner_service_pb2_grpc.PartnerServiceStub(people.channel)
    metadata = token_metadata(token)
    listed = await stub.ListPartners(
        partners.ListPartnersRequest(), timeout=TIMEOUT_S, metadata=metadata
    )
    assert listed.partners is not None
    acme = await whole.registered("acme", EVSP)
    by_certificate = partner_service_pb2_grpc.PartnerServiceStub(acme.core.channel)
    call = by_certificate.ListPartners(
        partners.ListPartnersRequest(), timeout=TIMEOUT_S, metadata=metadata
    )
    assert await refused(call) == "ROLE_NOT_ALLOWED"


@pytest.mark.usecase(1619)
async def test_after_logout_the_token_opens_nothing_and_other_sessions_go_on(
    whole: WholeMarket, people: People
) -> None:
    acme = (await whole.registered("acme", EVSP)).partner_id
    first = await people.user(acme, "ada", [ADMINISTRATOR])
    second, third = [await people.login(acme, "ada") for _ in range(2)]
    assert (await people.ask("Logout", first)).ended_session_count == 1
    assert await refused(people.ask("WhoAmI", first)) == "SESSION_NOT_ACCEPTED"
    assert await refused(people.ask("Logout", first)) == "SESSION_NOT_ACCEPTED"
    assert (await people.ask("WhoAmI", second)).user.user_name == "ada"
    assert (await people.ask("Logout", second, all_sessions=True)).ended_session_count == 2
    assert await refused(people.ask("WhoAmI", third)) == "SESSION_NOT_ACCEPTED"


@pytest.mark.usecase(1619)
async def test_logout_without_a_session_is_refused(people: People) -> None:
    assert await refused(people.ask("Logout")) == "SESSION_MISSING"
    assert await refused(ask(people.operators, "Logout")) == "SESSION_NOT_ACCEPTED"


@pytest.mark.usecase(1619)
async def test_a_stream_ends_with_its_session(whole: WholeMarket, people: People) -> None:
    acme = (await whole.registered("acme", EVSP)).partner_id
    token = await people.user(acme, "ada", [ADMINISTRATOR])
    watch: Any = people.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    call = watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S, metadata=token_metadata(token))
    assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
    await people.ask("Logout", token)
    assert await refused(call.read()) == "SESSION_NOT_ACCEPTED"
