"""How the reference partners come into the market: as anybody does, through its services.

A request at the listener for people, its approval, the first certificate; then a service that is
checked, certified and published.
"""

from __future__ import annotations

from foundation.errors import SettingsError
from gem.marketplace.v1 import certification_pb2
from gemarket.administration import Connection, PartnerPlan, ServicePlan
from gemarket.market import Market
from gemarket.ports import free_port
from gemarket.preparation import needs_renewal


def anybody(market: Market) -> Connection:
    """Connect to the listener for people, as somebody who is no partner yet."""
    return Connection(market.session_address, None, market.authority.root_pem)


async def join(
    market: Market, outside: Connection, business: Connection, plan: PartnerPlan
) -> None:
    """Bring a partner in, from its request on, or renew the certificate of one that is in."""
    identity = market.layout.partner(plan.partner_id)
    roots = market.authority.root_pem
    if await business.partner(plan.partner_id) is None:
        registration_id, reference = await outside.request_registration(plan)
        await business.approve_registration(registration_id)
        await outside.first_identity(plan.partner_id, reference, identity, roots)
    elif needs_renewal(identity):
        # Its certificate may have ended, or it was lost before it was fetched.
        await business.issue_identity(plan.partner_id, identity, roots)
    await business.activate(plan.partner_id)


async def endpoint_of(market: Market, partner_id: str, interface_name: str) -> str:
    """Give where a partner is to serve: where its service is registered, if that is free."""
    async with Connection(market.address, market.layout.partner(partner_id)) as seller:
        known = await seller.services_of(partner_id, interface_name)
    wished = int(known[0].endpoint.rpartition(":")[2]) if known else 0
    return f"127.0.0.1:{free_port(wished=wished)}"


async def publish(market: Market, technical: Connection, plan: ServicePlan) -> None:
    """Register a partner's service, have it checked and certified, and publish it.

    Raises:
        SettingsError: it does not keep to its interface.
    """
    identity = market.layout.partner(plan.provider_id)
    async with Connection(market.address, identity) as seller:
        service_id = await seller.ensure_service(plan)
        if await seller.certified(service_id) is None:
            report = await seller.run_conformance(service_id)
            if report.state != certification_pb2.CONFORMANCE_STATE_PASSED:
                raise SettingsError(plan.provider_id, _failures(report))
            await technical.certify_service(report.run_id)
        await seller.publish_service(service_id)


def _failures(report: certification_pb2.ConformanceReport) -> str:
    failed = certification_pb2.CONFORMANCE_OUTCOME_FAILED
    named = [f"{each.method} {each.detail}" for each in report.checks if each.outcome == failed]
    return f"the service does not keep to its interface: {'; '.join(named)}"
