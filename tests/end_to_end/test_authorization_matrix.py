"""Every rpc of the running server with every kind of caller: a table with no gap on either side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from grpc import StatusCode, aio, ssl_channel_credentials

from foundation.certificates import CertificateAuthority, new_key_and_csr, partner_uri, utc_now
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1 import partner_pb2, user_pb2
from gem.marketplace.v1 import partner_service_pb2 as partners
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.marketplace.v1.interface_catalog_service_pb2 import WithdrawProposalRequest
from gemarket.administration import ServicePlan, new_request_id
from gemarket.client import ReflectionClient
from gemarket.identity import Identity, channel_credentials
from tests.end_to_end.authorization import MATRIX as CORE_MATRIX
from tests.end_to_end.authorization_certification import CERTIFICATION_MATRIX
from tests.end_to_end.authorization_contracts import CONTRACT_MATRIX
from tests.end_to_end.authorization_notices import NOTICE_MATRIX
from tests.end_to_end.authorization_requests import REQUEST_MATRIX
from tests.end_to_end.authorization_routes import ROUTE_MATRIX
from tests.end_to_end.authorization_services import SERVICE_MATRIX
from tests.end_to_end.callers import CALLERS, USERS, Things
from tests.end_to_end.charging import evse, found, found_one, reason_of, search, stub
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.people import People, token_metadata
from tests.end_to_end.request_calls import RequestCalls, asked
from tests.end_to_end.scripted_provider import Script, ScriptedProvider
from tests.end_to_end.whole_market import EVSP, Party, WholeMarket, new_id
from tests.proposals import upload

#: Interfaces that other tests publish in the same market.
_OF_TESTS = "acme."
_OPERATOR_ID = "DE*MTX"
MATRIX = {
    **NOTICE_MATRIX,
    **ROUTE_MATRIX,
    **REQUEST_MATRIX,
    **CERTIFICATION_MATRIX,
    **SERVICE_MATRIX,
    **CONTRACT_MATRIX,
    **CORE_MATRIX,
}


def fingerprint_of(identity: Identity) -> bytes:
    """Give the SHA-256 of an identity's certificate."""
    leaf = x509.load_pem_x509_certificate(identity.certificate_file.read_bytes())
    return leaf.fingerprint(hashes.SHA256())


def both() -> Script:
    """Answer either method of the EVSE search."""

    async def script(path: str, _requests: object, _context: object) -> AsyncIterator[bytes]:
        one = evse(f"{_OPERATOR_ID}*E1")
        yield found(one) if path.endswith("SearchEvses") else found_one(one)

    return script


@dataclass(frozen=True)
class Cast:
    """Who calls, each with a channel, and what their requests name."""

    channels: dict[str, aio.Channel]
    #: Of those who come in a session.
    tokens: dict[str, str]
    things: Things


async def revoked_certificate(whole: WholeMarket, partner_id: str) -> Party:
    """Give a partner's party with a certificate that is revoked."""
    party = await whole.with_certificate(partner_id)
    request = partners.RevokeCertificateRequest(
        request_id=new_request_id(),
        fingerprint=fingerprint_of(party.identity),
        reason=partner_pb2.REVOCATION_REASON_NO_LONGER_USED,
    )
    await whole.business.core.partners.RevokeCertificate(request, timeout=10)
    return party


async def inactive_partner(whole: WholeMarket) -> Party:
    """Give a partner that was active and is not any more."""
    party = await whole.registered("inactive", EVSP)
    request = partners.InactivatePartnerRequest(
        request_id=new_request_id(), partner_id=party.partner_id
    )
    await whole.business.core.partners.InactivatePartner(request, timeout=10)
    return party


def forged(whole: WholeMarket, partner_id: str, authority: CertificateAuthority) -> Identity:
    """Give a certificate in a partner's name by an authority that nobody trusts, or expired."""
    key, csr = new_key_and_csr(partner_id)
    uri = partner_uri(authority.trust_domain, partner_id)
    issued = authority.issue_from_csr(csr, uri, (), timedelta(days=1))
    identity = Identity(whole.market.layout.partner(partner_id).folder.with_name(new_id("forged")))
    identity.write(key, issued.chain_pem, whole.market.authority.root_pem)
    return identity


def without_certificate(whole: WholeMarket) -> aio.Channel:
    """Open a channel that shows no certificate."""
    credentials = ssl_channel_credentials(whole.market.authority.root_pem)
    return aio.secure_channel(whole.market.address, credentials)


async def old_contract(requester: Party, service_id: str) -> str:
    """Make a contract and terminate it; gives its id."""
    contract_id = await requester.core.ensure_contract(service_id)
    request = contracts.TerminateContractRequest(
        request_id=new_request_id(), contract_id=contract_id
    )
    await requester.core.contracts.TerminateContract(request, timeout=10)
    return contract_id


async def withdrawn_proposal(party: Party) -> str:
    """Make a proposal that breaks the rules and take it back; gives its id."""
    catalog = party.core.catalog
    made = await catalog.ProposeInterface(upload({"a.proto": b"no proto"}), timeout=20)
    request = WithdrawProposalRequest(
        request_id=new_request_id(), proposal_id=made.proposal.proposal_id
    )
    await catalog.WithdrawProposal(request, timeout=10)
    return made.proposal.proposal_id


async def deleted_service_request(party: Party) -> str:
    """Make a request for a new service and delete it; gives its id."""
    made = await asked(party)
    await RequestCalls(party).ask("DeleteServiceRequest", made)
    return str(made.service_request_id)


async def things_of(
    whole: WholeMarket, contracted: Party, provider: Party, endpoint: str, inactive: Party
) -> Things:
    """Bring about what the requests name."""
    service_id = await whole.offer(provider, endpoint)
    contract_id = await old_contract(contracted, service_id)
    await contracted.core.ensure_contract(service_id)
    await stub(contracted).SearchEvses(search(), timeout=10)
    (entry,) = await entries_of(contracted)
    hidden = ServicePlan(
        provider.partner_id, "Hidden", "gem.charging.v1.EvseSearchService", endpoint
    )
    registered = await provider.core.services.RegisterService(hidden.request(), timeout=10)
    service = await provider.core.services.GetService(
        registry.GetServiceRequest(service_id=service_id), timeout=10
    )
    revoked = await revoked_certificate(whole, contracted.partner_id)
    return Things(
        contracted_id=contracted.partner_id,
        provider_id=provider.partner_id,
        inactive_id=inactive.partner_id,
        contract_id=contract_id,
        transaction_id=entry.transaction_id,
        service_id=service_id,
        hidden_service_id=registered.service.service_id,
        endpoint=endpoint,
        operator_id=_OPERATOR_ID,
        offering_id=service.service.offerings[0].offering_id,
        proposal_id=await withdrawn_proposal(contracted),
        fingerprint=fingerprint_of(revoked.identity),
        service_request_id=await deleted_service_request(contracted),
    )


async def logged_in(people: People, partner_id: str) -> dict[str, str]:
    """Have one user of each role log in; gives their tokens."""
    tokens: dict[str, str] = {}
    for name, role in USERS.items():
        by = tokens.get("administrator", "")
        tokens[name] = await people.user(partner_id, name, [role], by)
    operator = user_pb2.USER_ROLE_BUSINESS_OPERATOR
    tokens["operator in session"] = await people.user("", new_id("operator"), [operator])
    return tokens


@pytest.fixture(scope="module")
async def cast(whole: WholeMarket, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cast]:
    """Bring every kind of caller into the market."""
    contracted, scripted = await whole.requester(), ScriptedProvider(both())
    provider = await whole.provider(scripted, [_OPERATOR_ID])
    inactive = await inactive_partner(whole)
    things = await things_of(whole, contracted, provider, scripted.endpoint, inactive)
    suspended, other = await whole.requester(), await whole.requester()
    await suspended.core.suspend(await suspended.core.ensure_contract(things.service_id))
    await whole.contracted(other, ScriptedProvider(both()))

    market, domain = whole.market, whole.market.settings.trust_domain
    unknown = CertificateAuthority.create(tmp_path_factory.mktemp("unknown") / "ca", domain)
    week_ago = replace(market.authority, clock=lambda: utc_now() - timedelta(days=7))
    identities = {
        "unknown CA": forged(whole, contracted.partner_id, unknown),
        "expired": forged(whole, contracted.partner_id, week_ago),
        "revoked": (await revoked_certificate(whole, contracted.partner_id)).identity,
        "inactive partner": inactive.identity,
        "no contract": (await whole.requester()).identity,
        "contracted": contracted.identity,
        "suspended contract": suspended.identity,
        "provider": provider.identity,
        "business operator": whole.business.identity,
        "technical operator": whole.technical.identity,
        "other tenant": other.identity,
    }
    channels = {
        name: aio.secure_channel(market.address, channel_credentials(identity))
        for name, identity in identities.items()
    }
    channels["no certificate"] = without_certificate(whole)
    people = People(whole)
    tokens = await logged_in(people, contracted.partner_id)
    channels.update(dict.fromkeys(tokens, people.channel))
    yield Cast(channels, tokens, things)
    for channel in channels.values():
        await channel.close()


async def outcome(channel: aio.Channel, path: str, raw: bytes, metadata: aio.Metadata) -> str:
    """Call, and say what came of it: the first message, or the reason of the refusal."""
    ask: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
    call = ask(raw, timeout=10, metadata=metadata)
    try:
        await call.read()
        if call.done() and await call.code() is not StatusCode.OK:
            return "TLS"
    except aio.AioRpcError as error:
        if not error.trailing_metadata():
            return "TLS" if error.code() is StatusCode.UNAVAILABLE else error.code().name
        return reason_of(error)
    finally:
        call.cancel()
    return "OK"


async def test_the_table_has_a_row_for_every_rpc_of_the_running_server_and_no_other(
    whole: WholeMarket, cast: Cast
) -> None:
    client = ReflectionClient(whole.technical.core.channel)
    served = set()
    for service in await client.services():
        if not service.startswith(_OF_TESTS):
            pool = await client.pool_for(service)
            methods = pool.FindServiceByName(service).methods_by_name
            served |= {f"/{service}/{name}" for name in methods}
    assert served - MATRIX.keys() == set(), "rpcs without an expectation"
    assert MATRIX.keys() - served == set(), "expectations without an rpc"
    assert {path for path, row in MATRIX.items() if row.cells.keys() != set(CALLERS)} == set()
    assert cast.channels.keys() == set(CALLERS)


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_caller_gets_what_the_table_says(cast: Cast, caller: str) -> None:
    channel, wrong = cast.channels[caller], {}
    # Who names another's contract gets no further than who has none.
    named = (("gem-contract", cast.things.contract_id),) if caller == "other tenant" else ()
    metadata = aio.Metadata(*named)
    if caller in cast.tokens:
        metadata = token_metadata(cast.tokens[caller])
    for path, row in MATRIX.items():
        raw = row.request(cast.things).SerializeToString()
        found_here = await outcome(channel, path, raw, metadata)
        if found_here != row.cells[caller]:
            wrong[path] = f"{found_here}, not {row.cells[caller]}"
    assert wrong == {}
