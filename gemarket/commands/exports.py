"""`gemarket export ocpi-…`: what a partner has at a clearing house, as OCPI files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from grpc import aio
from rich.progress import Progress, SpinnerColumn, TextColumn

from clearinghouse.ocpi_exchange import (
    RECORDS,
    SESSIONS,
    TARIFFS,
    TOKENS,
    OcpiKind,
    unsaid,
    write_file,
)
from clearinghouse.ocpi_session import OcpiSession, session_of
from foundation.import_report import DefectReport, Place
from foundation.ocpi_version import VERSIONS
from gem.common.v1.paging_pb2 import PageRequest
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1 import tariff_service_pb2 as tariffs
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.clearing_contract_pb2 import ClearingContractState, CustomerContract
from gem.roaming.v1.clearing_contract_service_pb2_grpc import ClearingContractServiceStub
from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceStub
from gem.roaming.v1.tariff_service_pb2_grpc import TariffServiceStub
from gem.roaming.v1.tariff_version_pb2 import TariffVersion
from gemarket.client import open_channel
from gemarket.commands.ending import ending
from gemarket.commands.ocpi_imports import As, Aside, Provider, Version, VersionName
from gemarket.console import errors, output
from gemarket.defects import AllDefects, show_defects
from gemarket.endpoints import read_endpoints
from gemarket.kept_aside import read_kept_aside
from gemarket.options import DataDir, layout_of

application = typer.Typer(help="Write what a clearing house has as files.", no_args_is_help=True)
_PAGE = 200
_CALL_S = 60.0

Target = Annotated[Path, typer.Argument(dir_okay=False, metavar="FILE", help="File to write.")]
Metadata = tuple[tuple[str, str], ...]
Fetch = Callable[[aio.Channel, Metadata], AsyncIterator[Any]]


@application.command("ocpi-tokens")
def ocpi_tokens(
    file: Target,
    *,
    caller: As,
    provider: Provider = "",
    version: Version = VersionName.V2_3_0,
    aside: Aside = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Write an EVSP's tokens; the clearing house keeps their hashes alone, which stand for uids."""
    _run(TOKENS, _tokens, file, caller, provider, version, aside, all_defects, data_dir)


@application.command("ocpi-tariffs")
def ocpi_tariffs(
    file: Target,
    *,
    caller: As,
    provider: Provider = "",
    version: Version = VersionName.V2_3_0,
    aside: Aside = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Write the tariffs that a partner may see, each in its latest version."""
    _run(TARIFFS, _tariffs, file, caller, provider, version, aside, all_defects, data_dir)


@application.command("ocpi-sessions")
def ocpi_sessions(
    file: Target,
    *,
    caller: As,
    provider: Provider = "",
    version: Version = VersionName.V2_3_0,
    aside: Aside = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Write the ended sessions of which the clearing house has records."""
    _run(SESSIONS, _sessions, file, caller, provider, version, aside, all_defects, data_dir)


@application.command("ocpi-cdrs")
def ocpi_cdrs(
    file: Target,
    *,
    caller: As,
    provider: Provider = "",
    version: Version = VersionName.V2_3_0,
    aside: Aside = None,
    all_defects: AllDefects = False,
    data_dir: DataDir = None,
) -> None:
    """Write the charge detail records that a partner may see."""
    _run(RECORDS, _records, file, caller, provider, version, aside, all_defects, data_dir)


async def _tokens(channel: aio.Channel, metadata: Metadata) -> AsyncIterator[CustomerContract]:
    """Give contracts of one token each, out of every contract in force."""
    request = contracts.StreamCustomerContractsRequest()
    stub = ClearingContractServiceStub(channel)
    async for answer in stub.StreamCustomerContracts(request, metadata=metadata, timeout=_CALL_S):
        for contract in answer.contracts:
            if contract.state != ClearingContractState.CLEARING_CONTRACT_STATE_ACTIVE:
                continue
            for token in contract.tokens:
                single = CustomerContract()
                single.CopyFrom(contract)
                del single.tokens[:]
                single.tokens.append(token)
                yield single


async def _tariffs(channel: aio.Channel, metadata: Metadata) -> AsyncIterator[TariffVersion]:
    request = tariffs.ListTariffsRequest(page=PageRequest(page_size=_PAGE))
    stub = TariffServiceStub(channel)
    while True:
        answer = await stub.ListTariffs(request, metadata=metadata, timeout=_CALL_S)
        for version in answer.versions:
            yield version
        request.page.page_token = answer.page.next_page_token
        if not request.page.page_token:
            return


async def _records(channel: aio.Channel, metadata: Metadata) -> AsyncIterator[ChargeDetailRecord]:
    request = clearing.ListChargeDetailRecordsRequest(page=PageRequest(page_size=_PAGE))
    stub = ClearingServiceStub(channel)
    while True:
        answer = await stub.ListChargeDetailRecords(request, metadata=metadata, timeout=_CALL_S)
        for cleared in answer.records:
            yield cleared.record
        request.page.page_token = answer.page.next_page_token
        if not request.page.page_token:
            return


async def _sessions(channel: aio.Channel, metadata: Metadata) -> AsyncIterator[OcpiSession]:
    async for record in _records(channel, metadata):
        if not record.credited_cdr_id:
            yield session_of(record)


def _run(
    kind: OcpiKind[Any],
    fetch: Fetch,
    file: Path,
    caller: str,
    provider: str,
    version: VersionName,
    aside: Path | None,
    all_defects: bool,
    data_dir: Path | None,
) -> None:
    """Fetch, write the file, and tell what OCPI cannot say."""
    report = DefectReport()
    written: list[dict[str, Any]] = []
    with ending("gemarket export"):
        endpoints = read_endpoints(layout_of(data_dir).endpoints)
        party = endpoints.party(caller)
        rests = {} if aside is None else read_kept_aside(aside)

        async def collect() -> None:
            metadata = (("gem-provider", provider),) if provider else ()
            columns = (SpinnerColumn(), TextColumn("{task.completed} {task.description}"))
            with Progress(*columns, console=errors) as progress:
                task = progress.add_task(f"{kind.name}s", total=None)
                async with open_channel(endpoints.marketplace, party) as channel:
                    async for message in fetch(channel, metadata):
                        content = kind.write(message, VERSIONS[version])
                        place = Place(file.name) / len(written)
                        for name in sorted(unsaid(kind, message, content, VERSIONS[version])):
                            text = "OCPI has no member for the field, or not for its value"
                            report.keep(place, f"{name}.unsaid", text)
                        written.append(content)
                        progress.advance(task)

        uvloop.run(collect())
        file.touch(mode=0o600)
        file.write_text(write_file(kind, written, rests.get(kind.name, {})))
    show_defects(report, all_defects)
    output.print(f"{len(written)} {kind.name}s written", highlight=False)
