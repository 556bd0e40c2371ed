"""Whatever people did for a partner: its deletion leaves no trace of who they were (1386)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from gem.marketplace.v1.partner_pb2 import PartnerState
from marketplace.proposal_compiler import ProposalCompiler
from marketplace.storage_tables import METADATA
from tests.contracts import framework_terms
from tests.control_plane import BUSINESS, EVSE_OPERATOR, EVSP, TECHNICAL, ControlPlane
from tests.proposals import sources
from tests.request_desk import create
from tests.service_files import announced, content_of, specification

#: Who acts for the partner that is deleted, and for one whose id begins like it.
ADA, OTHER = "acme:ada.lovelace", "acme-2:ada.lovelace"
CONTACT = "night-desk@acme.example"
PACKAGE = "acme.depot.v1"
_REGISTRY = "ServiceRegistryService"
_SEARCH = {
    "name": "mine",
    "method": "gem.marketplace.v1.ContractService/ListContracts",
    "criteria": {"json": "{}"},
}
#: Where the name of a person who worked for a while is found.
EXPECTED = {
    "certification_event",
    "conformance_run",
    "contract_event",
    "saved_search",
    "service_file_event",
    "service_event",
    "service_request_event",
}


async def traces(plane: ControlPlane, word: str) -> set[str]:
    """Give the tables with a row that has a word in any column, as text or in bytes."""
    found = set()
    async with plane.engine.connect() as connection:
        for table in METADATA.tables.values():
            query = (
                f"SELECT count(*) FROM {table.fullname} AS r"  # our tables
                " WHERE position(:word IN r::text) > 0 OR position(:bytes IN r::text) > 0"
            )
            parameters = {"word": word, "bytes": word.encode().hex()}
            if await connection.scalar(text(query), parameters):
                found.add(table.name)
    return found


async def registry(plane: ControlPlane, who: str, method: str, service: Any, **fields: Any) -> Any:
    """Call a method of the registry about a service."""
    wanted = {"service_id": service.service_id, **fields}
    return await plane.ask(who, f"{_REGISTRY}/{method}", **wanted)


async def furnish(plane: ControlPlane, who: str, interface_name: str) -> Any:
    """Register a service as a person, with all that belongs to one; gives it."""
    hosting = {"country_code": "DE", "operator_name": "Rack", "contact_email": CONTACT}
    fields = {"interface_name": interface_name, "hosting": hosting, "endpoint": "127.0.0.1:9"}
    service = await plane.register_service(who, **fields)
    await plane.send(
        who, f"{_REGISTRY}/BeginServiceFileUpload", announced(service.service_id, content_of(100))
    )
    if who == ADA:  # for a compiler of its own takes seconds
        messages = specification(service.service_id, sources())
        await plane.send(who, f"{_REGISTRY}/UploadServiceSpecification", *messages)
    run = (await registry(plane, who, "RunConformance", service)).report
    await plane.runner.wait(run.run_id)
    await registry(plane, TECHNICAL, "PublishService", service)
    return service


async def work(plane: ControlPlane, who: str, interface_name: str) -> tuple[Any, Any]:
    """Do a bit of everything as a person; gives a service and a contract."""
    service = await furnish(plane, who, interface_name)
    await plane.ask(who, "SavedSearchService/SaveSearch", **_SEARCH)
    await create(plane, who)
    contract = await plane.contract("evsp", service)
    step = {"contract_id": contract.contract_id, "reason": "Because."}
    asked = await plane.ask(who, "ContractService/RequestContractTermination", **step)
    which = {"amendment_id": asked.amendment.amendment_id}
    await plane.ask(who, "ContractService/RevokeContractAmendment", **which)
    offering = {"service_id": service.service_id, "terms": framework_terms()}
    await plane.ask(who, "ContractService/CreateOffering", **offering)
    await plane.ask(who, "ContractService/TerminateContract", contract_id=contract.contract_id)
    return service, contract


async def end(plane: ControlPlane, partner_id: str) -> None:
    """Inactivate a partner and delete it."""
    for method in ("InactivatePartner", "DeletePartner"):
        await plane.ask(BUSINESS, f"PartnerService/{method}", partner_id=partner_id)


@pytest.fixture
async def interface_name(plane: ControlPlane) -> str:
    """Publish an interface that specifications can be compared with, and bring in a requester."""
    compiled = (await ProposalCompiler().examine(sources(), b"")).descriptor_set
    publish = "InterfaceCatalogService/PublishInterface"
    await plane.ask(TECHNICAL, publish, descriptor_set=compiled)
    await plane.partner("evsp", EVSP)
    for partner_id in ("acme", "acme-2"):
        await plane.partner(partner_id, EVSE_OPERATOR, EVSP)
    return f"{PACKAGE}.SlotService"


async def test_no_table_names_a_person_of_a_deleted_partner(
    plane: ControlPlane, interface_name: str
) -> None:
    service, contract = await work(plane, ADA, interface_name)
    theirs, _ = await work(plane, OTHER, interface_name)
    assert await traces(plane, ADA) >= EXPECTED
    assert "service_hosting" in await traces(plane, CONTACT)
    before = await traces(plane, OTHER)
    await end(plane, "acme")
    assert await traces(plane, ADA) == set()
    assert await traces(plane, OTHER) == before, "whose id only begins like it"
    async with plane.engine.connect() as connection:
        query = "SELECT service_id FROM marketplace.service_hosting WHERE contact_email <> ''"
        kept = list(await connection.scalars(text(query)))
    assert kept == [theirs.service_id]

    # What others have to be able to read is there, and says which partner it was.
    method = "ContractService/ListContractEvents"
    events = (await plane.ask("evsp", method, contract_id=contract.contract_id)).events
    assert [each.actor for each in events] == ["evsp", "acme", "acme", "acme"]
    reports = await registry(plane, TECHNICAL, "ListConformanceReports", service)
    assert [each.requested_by for each in reports.reports] == ["acme"]
    found = await plane.ask(BUSINESS, "PartnerService/GetPartner", partner_id="acme")
    assert found.partner.state == PartnerState.PARTNER_STATE_DELETED


async def test_saved_searches_of_the_back_end_and_of_its_people_go_and_others_stay(
    plane: ControlPlane,
) -> None:
    for partner_id in ("acme", "acme-2"):
        await plane.partner(partner_id)
    for who in ("acme", ADA, "acme-2", OTHER, BUSINESS):
        await plane.ask(who, "SavedSearchService/SaveSearch", **_SEARCH)
    await end(plane, "acme")
    async with plane.engine.connect() as connection:
        query = 'SELECT owner FROM marketplace.saved_search ORDER BY owner COLLATE "C"'
        owners = list(await connection.scalars(text(query)))
    assert owners == ["acme-2", OTHER, "operator/business"]
