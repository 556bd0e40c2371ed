"""`services-search`: a hundred thousand services, found by text and filters.

Through a whole market with one worker, over mutual TLS, as a partner sees it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from grpc import aio

from bench.load import measure
from bench.stage import market
from foundation.database import connect_raw
from gem.charging.v1 import evse_search_service_pb2
from gem.marketplace.v1 import service_search_pb2 as wire
from gem.marketplace.v1.service_pb2 import ServiceState
from gem.marketplace.v1.service_registry_service_pb2_grpc import ServiceRegistryServiceStub
from gem.options.v1 import options_pb2
from gemarket.administration import Connection, PartnerPlan, descriptor_set
from gemarket.identity import Identity, channel_credentials
from gemarket.market import Market

SERVICES = 100_000
_PARTNER = "requester-1"
_PROVIDERS = 500
_SEARCHES = 1000
_IN_FLIGHT = 2
#: From what most services have to what one in fifty has; names of places are rarer still.
_WORDS = (
    *("charging", "public", "fast", "green", "parking", "station", "roaming", "session"),
    *("tariff", "invoice", "depot", "airport", "harbour", "hotel", "bicycle", "truck"),
    *("battery", "solar", "highway", "forecast", "heating", "storage", "weather", "ferry"),
)
_CATEGORIES = ("charging", "roaming", "parking", "energy", "fleet")
_PLACES = 2000

_PROVIDER_ROWS = """
INSERT INTO marketplace.partner
SELECT 'provider-' || n, 'ACTIVE', '{{1}}', 'Provider ' || n, 'Street', 'DE', 'Person',
  'a@b.example', '', 1, now()
FROM generate_series(1, {providers}) AS n
"""
# Each word by a rank of its own: the first in about half of the services, the last in few.
_SERVICE_ROWS = """
INSERT INTO marketplace.service (service_id, provider_id, title, description, interface_name,
  interface_version, service_version, endpoint, state, registration_contract_version,
  registered_at, category, keywords, search_text, words)
SELECT 'service-' || n, 'provider-' || 1 + n % {providers}, title, description,
  'gem.charging.v1.EvseSearchService', 1, '1.0.0', 'a.example:443',
  CASE WHEN n % 10 = 0 THEN 'STOPPED' ELSE 'PUBLISHED' END, 1, now(), category, '{{}}',
  ' ' || searched || ' ', array_to_tsvector(string_to_array(searched, ' '))
FROM (
  SELECT n, ($1::text[])[1 + n % {categories}] AS category,
    (SELECT string_agg(word, ' ') FROM unnest($2::text[]) WITH ORDINALITY AS w(word, place)
      WHERE random() < 1.0 / (1 + place + n * 0)) || ' place' || (random() * {places})::int
      AS title,
    'Offers ' || (SELECT string_agg(word, ' ') FROM unnest($2::text[]) WITH ORDINALITY
      AS w(word, place) WHERE random() < 2.0 / (2 + place + n * 0))
      || ' to partners of the market, at place' || (random() * {places})::int AS description
  FROM generate_series(1, {services}) AS n
) AS made, translate(lower(title || ' ' || category || ' ' || description), ',', '') AS searched
WHERE title IS NOT NULL AND description IS NOT NULL
"""
_WORD_ROWS = """
INSERT INTO marketplace.service_word SELECT DISTINCT word
FROM marketplace.service, regexp_split_to_table(search_text, ' ') AS word
WHERE length(word) BETWEEN 3 AND 40 ON CONFLICT DO NOTHING
"""


async def fill(database_url: str, services: int) -> None:
    """Put so many services of hundreds of providers into the registry."""
    numbers = {
        "providers": _PROVIDERS,
        "categories": len(_CATEGORIES),
        "places": _PLACES,
        "services": services,
    }
    connection = await connect_raw(database_url, None)
    try:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(_PROVIDER_ROWS.format(**numbers))
        await connection.execute(_SERVICE_ROWS.format(**numbers), list(_CATEGORIES), list(_WORDS))
        await connection.execute(_WORD_ROWS)
        await connection.execute("VACUUM ANALYZE marketplace.service")
        await connection.execute("ANALYZE marketplace.service_word")
    finally:
        await connection.close()


@asynccontextmanager
async def _stage(services: int) -> AsyncIterator[aio.Channel]:
    async with market(1) as running:
        identity = await _partner(running)
        await fill(running.database_url, services)
        credentials = channel_credentials(identity)
        async with aio.secure_channel(running.address, credentials) as channel:
            yield channel


async def _partner(running: Market) -> Identity:
    """Bring the partner in that searches, and the interface of the services."""
    layout = running.layout
    identity = Identity(layout.partner(_PARTNER).folder)
    async with (
        Connection(running.address, layout.operator("business")) as business,
        Connection(running.address, layout.operator("technical")) as technical,
    ):
        await technical.publish_interface(descriptor_set(evse_search_service_pb2.DESCRIPTOR))
        roles = [options_pb2.PARTNER_ROLE_EVSP]
        await business.ensure_partner(PartnerPlan(_PARTNER, "Partner", roles))
        await business.issue_identity(_PARTNER, identity, running.authority.root_pem)
    return identity


def _request(dice: random.Random) -> wire.SearchServicesRequest:
    """Ask as people do: one to three words, or none, with some of the filters."""
    words = dice.sample(_WORDS, dice.randrange(4))
    if dice.random() < 0.3:
        words.append(f"place{dice.randrange(_PLACES)}")
    if dice.random() < 0.1 and words:
        words[0] = words[0][:3] + words[0][4:]
    request = wire.SearchServicesRequest(text=" ".join(words))
    request.page.page_size = 50
    if dice.random() < 0.4:
        request.categories.append(dice.choice(_CATEGORIES))
    if dice.random() < 0.2:
        request.provider_id = f"provider-{dice.randrange(1, _PROVIDERS)}"
    if dice.random() < 0.2:
        request.states.append(ServiceState.SERVICE_STATE_STOPPED)
    if dice.random() < 0.3:
        request.relation = wire.SERVICE_RELATION_AVAILABLE
    return request


async def services_search(services: int = SERVICES) -> Mapping[str, object]:
    """Reach: text and filters, p99 ≤ 50 ms."""
    async with _stage(services) as channel:
        stub, dice = ServiceRegistryServiceStub(channel), random.Random(1239)
        found = [0, 0]

        async def ask() -> object:
            answer = await stub.SearchServices(_request(dice), timeout=30)
            found[0] += bool(answer.found)
            found[1] += answer.spelled_alike
            return answer

        await measure(ask, 50, [], _IN_FLIGHT)
        found[:] = [0, 0]
        measured = await measure(ask, _SEARCHES, [], _IN_FLIGHT)
    return {
        "p50_ms": round(measured.percentile_ms(50), 2),
        "p99_ms": round(measured.percentile_ms(99), 2),
        "per_s": round(measured.per_s, 1),
        "services": services,
        "searches_that_found": found[0],
        "of_words_spelled_alike": found[1],
    }
