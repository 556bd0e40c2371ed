"""The reference partners' way into the market, and that they go it once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from foundation.database import connect_raw
from gem.marketplace.v1 import partner_pb2
from gemarket.administration import PartnerPlan
from gemarket.onboarding import anybody, join
from gemarket.reference import REQUESTER, Reference
from tests.end_to_end.whole_market import EVSP, Party, WholeMarket, new_id, running_market

#: How often each thing was done, and what of it another set-up would change.
_DONE = """
SELECT 'approved ' || partner_id, count(*)::text FROM marketplace.partner_registration
WHERE state = 'APPROVED' AND certificate_issued GROUP BY 1
UNION ALL SELECT 'certificates ' || partner_id, count(*)::text FROM marketplace.certificate
WHERE partner_id IS NOT NULL GROUP BY 1
UNION ALL SELECT 'runs ' || provider_id, count(*)::text FROM marketplace.conformance_run
JOIN marketplace.service USING (service_id) WHERE conformance_run.state = 'PASSED' GROUP BY 1
UNION ALL SELECT 'certified ' || provider_id, count(*)::text FROM marketplace.certification
JOIN marketplace.service USING (service_id) GROUP BY 1
UNION ALL SELECT 'history ' || provider_id, string_agg(kind, ',' ORDER BY service_event.position)
FROM marketplace.service_event JOIN marketplace.service USING (service_id) GROUP BY 1
UNION ALL SELECT 'contracts ' || provider_id, count(*)::text FROM marketplace.contract GROUP BY 1
UNION ALL SELECT 'endpoint ' || provider_id, endpoint FROM marketplace.service
UNION ALL SELECT 'hosting ' || provider_id, country_code FROM marketplace.service_hosting
JOIN marketplace.service USING (service_id)
UNION ALL SELECT 'registered by the operator', count(*)::text FROM marketplace.partner
WHERE partner_id NOT IN (SELECT partner_id FROM marketplace.partner_registration)
"""


@pytest.fixture
async def own() -> AsyncIterator[WholeMarket]:
    """Run a market that has nobody but its operators."""
    async with running_market(workers=1) as running:
        yield running


async def done(own: WholeMarket) -> dict[str, str]:
    """Read what was done."""
    database = await connect_raw(own.market.database_url)
    try:
        rows: list[Any] = await database.fetch(_DONE)
        return dict(map(tuple, rows))
    finally:
        await database.close()


@pytest.mark.usecase(1374, 1250, 1485)
async def test_the_reference_partners_come_in_as_anybody_does_and_only_once(
    own: WholeMarket,
) -> None:
    reference = Reference(own.market)
    await reference.start()
    providers = list(reference.providers)
    first = await done(own)
    assert first.pop("registered by the operator") == "0"
    for name in (REQUESTER.partner_id, *providers):
        assert first[f"approved {name}"] == first[f"certificates {name}"] == "1"
    for name in providers:
        assert first[f"runs {name}"] == first[f"certified {name}"] == "1"
        assert first[f"history {name}"] == "REGISTERED,PUBLISHED"
        assert first[f"contracts {name}"] == "1"
        assert first[f"hosting {name}"] == "DE"
        assert first[f"endpoint {name}"] == reference.providers[name].endpoint
    assert f"runs {REQUESTER.partner_id}" not in first
    standings = await reference.standings()
    assert [each.partner_id for each in standings] == [REQUESTER.partner_id, *providers]
    assert all(each.registered for each in standings)
    assert all(each.certified and each.published and each.contracted for each in standings[1:])
    # They stop with the market; with the next one they are who they were, where they were.
    for provider in reference.providers.values():
        await own.market.supervisor.stop(provider.child_name, 5.0)
    again = Reference(own.market)
    await again.start()
    assert await done(own) == {**first, "registered by the operator": "0"}
    assert again.providers == reference.providers


async def test_a_partner_that_broke_off_on_its_way_in_goes_on_from_there(
    whole: WholeMarket,
) -> None:
    asked, approved = (PartnerPlan(new_id("broken"), "Broken off", [EVSP]) for _ in range(2))
    async with anybody(whole.market) as outside:
        waiting, _ = await outside.request_registration(asked)
        assert (await outside.request_registration(asked))[0] == waiting
        registration_id, _ = await outside.request_registration(approved)
        await whole.business.core.approve_registration(registration_id)
        for plan in (asked, approved):
            await join(whole.market, outside, whole.business.core, plan)
            identity = whole.market.layout.partner(plan.partner_id)
            party = Party(plan.partner_id, identity, whole.market.address)
            known = await party.core.partner("")
            assert known is not None
            assert known.state == partner_pb2.PARTNER_STATE_ACTIVE
            before = identity.read()
            await join(whole.market, outside, whole.business.core, plan)
            assert identity.read() == before, "what is there is not made again"
            await party.close()
