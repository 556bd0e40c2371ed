"""ExplainRoute over a real database: the present as the router sees it, and the past replayed."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1 import route_explanation_pb2 as wire
from gem.marketplace.v1.partner_pb2 import RevocationReason
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import (
    BUSINESS,
    EVSP,
    TECHNICAL,
    ControlPlane,
    fields_of,
)
from tests.routed_market import METHODS, RoutedMarket
from tests.transaction_log_support import connected

pytestmark = pytest.mark.usecase(1491)

PROVIDERS = ("amp", "volt", "watt")
KEY = "DE*VLT*E1"
ID_KIND = IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID


@pytest.fixture
async def market(plane: ControlPlane, control_plane_url: str) -> RoutedMarket:
    return RoutedMarket(plane, control_plane_url)


def reasons(explanation: Any) -> dict[str, str]:
    """Give the reason of each provider's row, in words."""
    return {
        each.provider_id: wire.RouteReason.Name(each.reason).removeprefix("ROUTE_REASON_")
        for each in explanation.candidates
    }


def whole(explanation: Any) -> str:
    return wire.RouteReason.Name(explanation.reason).removeprefix("ROUTE_REASON_")


def asked(explanation: Any) -> list[str]:
    """Give the contracts that are asked, in the order of their places."""
    routed = [each for each in explanation.candidates if each.routed]
    assert [each.place_number for each in routed] == list(range(1, len(routed) + 1))
    return [each.contract_id for each in routed]


async def refused_with(reason: int, asking: Any) -> MarketError:
    with pytest.raises(MarketError) as refused:
        await asking
    assert refused.value.reason == reason
    return refused.value


async def test_what_does_not_exist_or_has_not_happened_is_not_explained(
    market: RoutedMarket,
) -> None:
    await market.begin("volt")
    not_found = ErrorReason.ERROR_REASON_NOT_FOUND
    await refused_with(not_found, market.explain(interface_name="acme.test.v1.Nothing"))
    await refused_with(not_found, market.explain(BUSINESS))
    later = utc_now() + timedelta(minutes=1)
    invalid = ErrorReason.ERROR_REASON_REQUEST_INVALID
    error = await refused_with(invalid, market.explain(at=later))
    assert fields_of(error) == ["time"]
    unknown = await market.explain(method="Nothing")
    assert (whole(unknown), unknown.route) == ("METHOD_UNKNOWN", 0)


async def test_nobody_is_told_about_those_with_whom_it_has_no_contract(
    market: RoutedMarket,
) -> None:
    await market.begin("volt", "amp")
    await market.plane.partner("other", EVSP)
    await market.contract("volt")
    not_found = ErrorReason.ERROR_REASON_NOT_FOUND
    texts = {
        (await refused_with(not_found, market.explain(who, requester=requester))).message
        for who, requester in (("other", "evsp"), ("amp", "evsp"), ("amp", "nobody"))
    }
    assert len(texts) == 1
    await refused_with(not_found, market.explain("evsp", requester="volt"))


async def test_a_provider_is_told_of_its_own_services_alone(market: RoutedMarket) -> None:
    """Not even by a place in the order, or by a choice between several, is it told of others."""
    await market.begin("volt", "amp", "watt")
    for provider in ("amp", "volt"):
        await market.contract(provider)
    for method in METHODS:
        told = await market.explain("volt", method, requester="evsp")
        assert reasons(told) == {"volt": "IN_FORCE"}
        assert [each.place_number for each in told.candidates] == [1]
    everything = await market.explain(BUSINESS, requester="evsp")
    assert reasons(everything) == {"amp": "IN_FORCE", "volt": "IN_FORCE", "watt": "NO_CONTRACT"}
    await market.plane.ask(BUSINESS, "PartnerService/SetPartnerRoles", partner_id="evsp", roles=[1])
    fingerprint = await market.certificate("volt")
    assert fingerprint
    async with connected(market.url) as connection:
        await connection.execute(
            "UPDATE marketplace.certificate SET revoked_at = now() WHERE partner_id = 'evsp'"
        )
    assert whole(await market.explain("volt", requester="evsp")) == "REQUESTER_NOT_ADMITTED"
    assert whole(await market.explain()) == "CERTIFICATE_REVOKED"


async def test_a_requester_is_told_which_published_services_it_could_contract(
    market: RoutedMarket,
) -> None:
    await market.begin("volt", "amp")
    await market.plane.partner("other", EVSP)
    await market.plane.contract("other", market.services["amp"])
    await market.plane.register_service("volt", title="Hidden")
    explanation = await market.explain()
    assert [each.service_id for each in explanation.candidates] == [
        market.services[name].service_id for name in ("volt", "amp")
    ]
    assert reasons(explanation) == {"volt": "NO_CONTRACT", "amp": "NO_CONTRACT"}
    assert not any(each.contract_id for each in explanation.candidates)
    await market.plane.ask(BUSINESS, "PartnerService/SetPartnerRoles", partner_id="evsp", roles=[1])
    assert set(reasons(await market.explain()).values()) == {"ROLE_NOT_ALLOWED"}


@pytest.mark.parametrize(
    ("step", "who", "reason", "event", "section_id"),
    [
        ("ContractService/SuspendContract", "evsp", "CONTRACT_SUSPENDED", "SUSPENDED", ""),
        (
            "ContractService/TerminateContract",
            "volt",
            "CONTRACT_TERMINATED",
            "TERMINATED",
            "notice",
        ),
        (
            "ServiceRegistryService/StopService",
            TECHNICAL,
            "SERVICE_STOPPED",
            "STOPPED",
            "service-level",
        ),
    ],
)
async def test_what_stands_in_the_way_is_told_with_who_did_it_and_when(
    market: RoutedMarket, step: str, who: str, reason: str, event: str, section_id: str
) -> None:
    await market.begin("volt")
    contract_id = await market.contract("volt")
    before = utc_now()
    await market.step(step, who, "volt")
    after = utc_now()
    # Further events leave the state as it is: since when is still the first.
    await market.plane.ask(
        "volt",
        "ServiceRegistryService/ChangeServiceEndpoint",
        service_id=market.services["volt"].service_id,
        endpoint="elsewhere.example:1",
    )
    (row,) = (await market.explain()).candidates
    assert (row.contract_id, row.routed, row.place_number) == (contract_id, False, 0)
    assert reasons(await market.explain("volt", requester="evsp")) == {"volt": reason}
    assert row.event.history == reason.partition("_")[0].lower()
    assert (row.event.kind, row.event.actor) == (event, who.replace("operator:", "operator/"))
    assert before <= row.event.event_time.ToDatetime(tzinfo=UTC) <= after
    assert row.section_id == section_id
    (then,) = (await market.explain(at=before)).candidates
    assert (then.routed, then.event.kind) == (True, "CREATED")


async def test_an_inactive_party_and_its_certificates_are_reasons(market: RoutedMarket) -> None:
    await market.begin("volt")
    await market.contract("volt")
    async with connected(market.url) as connection:
        # An account with contracts is not inactivated by any step that exists: set it aside.
        await connection.execute(
            "UPDATE marketplace.partner SET state = 'INACTIVE' WHERE partner_id = 'volt'"
        )
        assert reasons(await market.explain()) == {"volt": "PROVIDER_NOT_ACTIVE"}
        await connection.execute("UPDATE marketplace.partner SET state = 'INACTIVE'")
        assert whole(await market.explain()) == "REQUESTER_NOT_ACTIVE"
        await connection.execute("UPDATE marketplace.partner SET state = 'ACTIVE'")
        assert whole(await market.explain()) == "IN_FORCE"
        await connection.execute("DELETE FROM marketplace.certificate")
    refused = await market.explain()
    assert whole(refused) == "CERTIFICATE_ABSENT"
    assert reasons(refused) == {"volt": "CERTIFICATE_ABSENT"}


async def test_a_revoked_certificate_refused_calls_from_its_revocation_on(
    market: RoutedMarket,
) -> None:
    await market.begin("volt")
    await market.contract("volt")
    fingerprint = await market.certificate("evsp")
    async with connected(market.url) as connection:
        await connection.execute(
            "DELETE FROM marketplace.certificate WHERE fingerprint <> $1", fingerprint
        )
    before = utc_now()
    await market.plane.ask(
        BUSINESS,
        "PartnerService/RevokeCertificate",
        fingerprint=fingerprint,
        reason=RevocationReason.REVOCATION_REASON_KEY_COMPROMISED,
    )
    now = await market.explain()
    assert (whole(now), now.event.kind) == ("CERTIFICATE_REVOKED", "REVOKED")
    assert whole(await market.explain(at=before)) == "IN_FORCE"
    assert asked(await market.explain(at=before)) == [market.contracts["volt"]]


async def test_before_its_publication_an_interface_was_not_routed(market: RoutedMarket) -> None:
    start = utc_now()
    await market.begin("volt")
    await market.contract("volt")
    assert (await market.explain()).interface_version == 1
    before = await market.explain(BUSINESS, requester="evsp", at=start)
    assert (whole(before), before.interface_version) == ("CERTIFICATE_ABSENT", 0)
    assert len(before.candidates) == 0
    async with connected(market.url) as connection:
        await connection.execute("SET session_replication_role = replica")
        # As it was published before labels had a history.
        await connection.execute("DELETE FROM marketplace.interface_label_event")
    assert (await market.explain(at=utc_now())).interface_version == 1
    async with connected(market.url) as connection:
        await connection.execute("DELETE FROM marketplace.interface_label")
    assert whole(await market.explain()) == "INTERFACE_NOT_PUBLISHED"


async def test_the_owner_of_an_identifier_is_that_of_the_instant(market: RoutedMarket) -> None:
    await market.begin("volt", "amp")
    for provider in ("amp", "volt"):
        await market.contract(provider)
    identifier = {"kind": ID_KIND, "value": "DE*VLT"}
    nobody = utc_now()
    for method, owner in (
        ("AddPartnerIdentifier", "volt"),
        ("RemovePartnerIdentifier", "volt"),
        ("AddPartnerIdentifier", "amp"),
    ):
        await market.plane.ask(
            BUSINESS, f"PartnerService/{method}", partner_id=owner, identifier=identifier
        )
        if method == "AddPartnerIdentifier" and owner == "volt":
            volts = utc_now()
    now = await market.explain(method="GetByKey", key=KEY)
    assert reasons(now) == {"amp": "IN_FORCE", "volt": "KEY_OF_ANOTHER"}
    assert asked(now) == (await market.planned(KEY))["GetByKey"] == [market.contracts["amp"]]
    then = await market.explain(method="GetByKey", key=KEY, at=volts)
    assert asked(then) == [market.contracts["volt"]]
    before = await market.explain(method="GetByKey", key=KEY, at=nobody)
    assert set(reasons(before).values()) == {"PROVIDER_AMBIGUOUS"}
    for odd in ("", "no identifier", "SE*NOB*E1"):
        assert asked(await market.explain(method="GetByKey", key=odd)) == []
        assert (await market.planned(odd))["GetByKey"] == []


STEPS = (
    ("ContractService/SuspendContract", "evsp"),
    ("ContractService/ResumeContract", "evsp"),
    ("ContractService/ResumeContract", "evsp"),
    ("ContractService/TerminateContract", "evsp"),
    ("ServiceRegistryService/StopService", TECHNICAL),
    ("ServiceRegistryService/StartService", TECHNICAL),
    ("ServiceRegistryService/StartService", TECHNICAL),
)


@dataclass(frozen=True)
class Memory:
    """What the router would have done at an instant."""

    at: datetime
    asked: dict[str, list[str]]
    shown: dict[str, str]


@pytest.mark.usecase(1241)
@pytest.mark.parametrize("seed", range(2))
async def test_in_random_markets_it_agrees_with_the_router_now_and_remembers_it_later(
    market: RoutedMarket, seed: int
) -> None:
    """Whatever happened: the present is whom the router plans to ask, the past whom it planned."""
    dice = random.Random(seed)
    await market.begin(*PROVIDERS)
    identifier = {"kind": ID_KIND, "value": "DE*VLT"}
    await market.plane.ask(
        BUSINESS, "PartnerService/AddPartnerIdentifier", partner_id="volt", identifier=identifier
    )
    remembered: list[Memory] = []
    for _ in range(14):
        provider = dice.choice(PROVIDERS)
        with suppress(MarketError, KeyError):
            if provider not in market.contracts or not dice.randrange(4):
                await market.contract(provider)
            else:
                step, who = dice.choice(STEPS)
                await market.step(step, who, provider)
        now = await market.planned(KEY)
        found = {method: await market.explain(method=method, key=KEY) for method in METHODS}
        assert {method: asked(each) for method, each in found.items()} == now
        remembered.append(Memory(utc_now(), now, reasons(found["Search"])))
    for memory in remembered:
        for method in METHODS:
            then = await market.explain(method=method, key=KEY, at=memory.at)
            assert asked(then) == memory.asked[method], f"seed {seed}"
        assert reasons(await market.explain(at=memory.at)) == memory.shown
    assert len({str(memory.asked) for memory in remembered}) > 3, "something happened"


async def test_more_services_than_are_shown_are_said_to_exist(
    market: RoutedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marketplace.storage_route_history.UNCONTRACTED_MAX", 1)
    await market.begin("volt", "amp")
    explanation = await market.explain(TECHNICAL, requester="evsp")
    assert (len(explanation.candidates), explanation.more_without_contract) == (1, True)
