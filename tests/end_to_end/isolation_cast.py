"""The partners of the isolation test with their things, each text of which is marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from foundation.database import connect_raw
from gem.charging.v1.evse_search_service_pb2_grpc import EvseSearchServiceStub
from gem.marketplace.v1 import service_content_pb2 as content
from gemarket.administration import ServicePlan
from tests.contracts import framework_terms, section
from tests.end_to_end.charging import evse, found, search
from tests.end_to_end.isolation_calls import Rpc, partner_rpcs
from tests.end_to_end.isolation_market import Tenancy, fields_with_id
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.service_desk import ENDPOINT, IMAGE
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket
from tests.proposals import sources, upload
from tests.service_files import announced, content_of, in_pieces
from tests.service_requests import later, wish

_SEARCHES = "gem.marketplace.v1.ServiceRegistryService/SearchServices"
_CALLS = 2


class Cast:
    """Brings the partners in and has each of them do its part."""

    def __init__(self, tenancy: Tenancy, rpcs: dict[str, Rpc]) -> None:
        self.tenancy = tenancy
        self.rpcs = rpcs
        self._mark = tenancy.mark

    async def do(self, party: Party, name: str, /, *messages: Message, **fields: Any) -> Any:
        """Do something that has to work; gives the one answer."""
        rpc = self.rpcs[name]
        requests: Sequence[Message] = messages or [fields_with_id(rpc.request, **fields)]
        outcome = await self.tenancy.act(party, rpc, *requests)
        assert outcome.is_ok, f"{name}: {outcome.code} {outcome.refusal[:1]}"
        return outcome.messages[0]

    async def service(self, party: Party, endpoint: str, *, published: bool) -> str:
        """Register a service with everything that one can have; gives its id."""
        plan = ServicePlan(party.partner_id, self._mark(), EVSE_SEARCH, endpoint).request()
        plan.description = self._mark()
        plan.keywords.words.append(self._mark()[:11])
        service_id = (await self.do(party, "RegisterService", plan)).service.service_id
        about = {"service_id": service_id}
        await self.do(party, "CreateOffering", **about, terms=self.terms())
        image = f"{IMAGE[:-2]}{len(self.tenancy.marked) % 100:02}"
        await self.do(party, "RegisterServiceImage", reference=image, title=self._mark())
        document = content_of(600) + self._mark().encode()
        begin = announced(service_id, document, f"{self._mark()[:11]}.pdf")
        file_id = (await self.do(party, "BeginServiceFileUpload", begin)).upload.file.file_id
        await self.do(party, "UploadServiceFile", *in_pieces(file_id, document))
        begin = announced(service_id, document, "half.pdf", kind=content.SERVICE_FILE_KIND_OTHER)
        await self.do(party, "BeginServiceFileUpload", begin)
        if published:
            await self.do(party, "PublishService", **about)
        else:
            await self.do(party, "RunConformance", **about)
        return str(service_id)

    def terms(self) -> Any:
        """Give terms by the framework with one section of the provider's own text."""
        return framework_terms(extra=(section("support") | {"text": self._mark()},))

    def proposed(self) -> Any:
        """Give terms for a contract that is in force."""
        terms = self.terms()
        return {"sections": terms["sections"], "price": terms["price"]}

    async def own_things(self, party: Party) -> str:
        """Leave what every partner has; gives the id of its request for a service."""
        criteria = {"json": f'{{"text": "{self._mark()}"}}'}
        await self.do(party, "SaveSearch", name=self._mark(), method=_SEARCHES, criteria=criteria)
        await self.do(party, "RequestPartnerInactivation", note=self._mark())
        texts = {name: self._mark() for name in ("title", "description", "region")}
        asked = await self.do(
            party, "CreateServiceRequest", wish=wish(**texts), valid_until_time=later()
        )
        deleted = await self.do(
            party,
            "CreateServiceRequest",
            wish=wish(title=self._mark()),
            valid_until_time=later(),
        )
        gone = deleted.service_request.service_request_id
        await self.do(party, "DeleteServiceRequest", service_request_id=gone)
        return str(asked.service_request.service_request_id)

    async def agree(self, requester: Party, provider: Party, service_id: str) -> None:
        """Contract a service, change the contract in private, and call by it."""
        listed = await self.do(requester, "ListOfferings", service_id=service_id)
        offering = listed.offerings[-1]
        names = [each.section_id for each in offering.terms.sections]
        made = await self.do(
            requester,
            "CreateContract",
            offering_id=offering.offering_id,
            section_ids=names,
            accepted=True,
        )
        about = {"contract_id": made.contract.contract_id, "reason": self._mark()}
        change = await self.do(requester, "RequestContractChange", **about, terms=self.proposed())
        amendment_id = change.amendment.amendment_id
        await self.do(provider, "AcceptContractAmendment", amendment_id=amendment_id)
        about["reason"] = self._mark()
        await self.do(provider, "RequestContractChange", **about, terms=self.proposed())
        texts = {"title": self._mark(), "text": self._mark()}
        await self.do(provider, "NotifyServiceRequesters", service_id=service_id, **texts)
        for _ in range(_CALLS):
            await EvseSearchServiceStub(requester.core.channel).SearchEvses(search(), timeout=10)
        assert len(await entries_of(requester)) == _CALLS


async def four_partners(whole: WholeMarket, package: str) -> Tenancy:
    """Bring in two providers and a requester of each, none of which knows the others."""
    scripts = [ScriptedProvider(answers(found(evse("DE*ISO*E1")))) for _ in range(2)]
    providers = [await whole.provider(script) for script in scripts]
    requesters = [await whole.requester() for _ in range(2)]
    parties = [*providers, *requesters]
    for party in parties:
        await whole.with_certificate(party.partner_id)
    database = await connect_raw(whole.market.database_url)
    tenancy = await Tenancy.of(whole, database, parties)
    cast = Cast(tenancy, partner_rpcs())
    wanted = {party.partner_id: await cast.own_things(party) for party in parties}
    for script, provider, requester in zip(scripts, providers, requesters, strict=True):
        tenancy.endpoints[script.endpoint] = provider.partner_id
        service_id = await cast.service(provider, script.endpoint, published=True)
        await cast.service(provider, ENDPOINT, published=False)
        await cast.agree(requester, provider, service_id)
        await cast.do(
            provider,
            "RespondToServiceRequest",
            service_request_id=wanted[requester.partner_id],
            text=tenancy.mark(),
        )
    author, voter = requesters
    await cast.do(voter, "ProposeInterface", *upload({"a.proto": tenancy.mark().encode()}))
    made = await cast.do(author, "ProposeInterface", *upload(sources(package), note=tenancy.mark()))
    await cast.do(
        voter,
        "VoteOnProposal",
        proposal_id=made.proposal.proposal_id,
        kind=1,
        comment=tenancy.mark(),
    )
    await tenancy.refresh()
    return tenancy
