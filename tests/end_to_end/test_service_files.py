"""Files and certification of services on a running market, over mutual TLS, by rpc and command."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from grpc import StatusCode, aio
from typer.testing import CliRunner, Result

from gem.charging.v1 import evse_search_service_pb2
from gem.marketplace.v1 import certification_pb2, notification_service_pb2
from gem.marketplace.v1 import service_content_pb2 as wire
from gem.marketplace.v1.notification_service_pb2_grpc import NotificationServiceStub
from gem.marketplace.v1.service_registry_service_pb2_grpc import ServiceRegistryServiceStub
from gemarket.administration import ServicePlan, descriptor_set, new_request_id
from gemarket.commands.application import application
from gemarket.service_files import download, file_named, upload
from marketplace.router.interface import compile_interface
from marketplace.service_content import PART_BYTES
from proto.generate import PROTO
from tests.conforming_provider import ConformingProvider
from tests.end_to_end.charging import reason_of
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket, running_market
from tests.service_files import announced, content_of, in_pieces

_BIG_BYTES = 96 << 20
#: What a worker may grow by while a big file passes through it: buffers of the transport, more of
#: them where a machine is busy, and what the allocator keeps of them (10 to 37 MiB were seen, of a
#: file of 32 MiB as of one of 96). That does not follow the file; one copy of it would be twice
#: this.
_GROWTH_BYTES = _BIG_BYTES // 2
MANUAL = wire.SERVICE_FILE_KIND_MANUAL


def registry(party: Party, channel: aio.Channel | None = None) -> Any:
    """Give the stub over a party's connection, or over another one."""
    return ServiceRegistryServiceStub(channel or party.core.channel)


async def service_of(party: Party, endpoint: str = "127.0.0.1:1") -> str:
    """Register a service of a provider; gives its id."""
    plan = ServicePlan(party.partner_id, "A service", EVSE_SEARCH, endpoint)
    answer = await registry(party).RegisterService(plan.request(), timeout=10)
    return str(answer.service.service_id)


async def received(party: Party, file_id: str) -> Any:
    """Ask how far an upload is."""
    request = wire.GetServiceFileUploadRequest(file_id=file_id)
    return (await registry(party).GetServiceFileUpload(request, timeout=10)).upload


@pytest.mark.usecase(1488, 1478)
async def test_an_upload_that_is_cut_off_goes_on_over_another_connection(
    whole: WholeMarket, tmp_path: Path
) -> None:
    party, requester = await whole.operator(), await whole.requester()
    service_id = await service_of(party)
    content = content_of(5 * PART_BYTES + 77)
    begun = await registry(party).BeginServiceFileUpload(announced(service_id, content), timeout=10)
    file_id = begun.upload.file.file_id
    pieces = list(in_pieces(file_id, content))

    async def broken() -> AsyncIterator[wire.UploadServiceFileRequest]:
        for piece in pieces[:3]:
            yield piece
        await asyncio.Event().wait()

    channel = party.channel()
    call = registry(party, channel).UploadServiceFile(broken(), timeout=30)
    async with asyncio.timeout(10):
        while (await received(party, file_id)).received_bytes < 3 * PART_BYTES:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)
    call.cancel()
    await channel.close()
    at = (await received(party, file_id)).received_bytes
    assert at == 3 * PART_BYTES
    rest = iter(in_pieces(file_id, content, at))
    done = await registry(party).UploadServiceFile(rest, timeout=30)
    assert done.upload.file.state == wire.SERVICE_FILE_STATE_STORED
    # Hidden like the service, until it is published.
    with pytest.raises(aio.AioRpcError) as refused:
        await file_named(registry(requester), service_id, "manual.pdf")
    assert refused.value.code() is StatusCode.NOT_FOUND
    await whole.technical.core.publish_service(service_id)
    file = await file_named(registry(requester), service_id, "manual.pdf")
    # An earlier attempt left a part of it.
    target = tmp_path / "manual.pdf"
    scratch = target.with_name(f".manual.pdf.{file.digest.hex()[:16]}.part")
    scratch.write_bytes(content[: PART_BYTES + 5])
    seen: list[int] = []
    await download(registry(requester), file, target, lambda at, _: seen.append(at))
    assert target.read_bytes() == content
    assert min(seen) >= PART_BYTES + 5
    # What an earlier attempt left is not the file: nothing gets its name.
    scratch.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="SHA-256"):
        await download(registry(requester), file, tmp_path / "manual.pdf", lambda *_: None)


@pytest.mark.usecase(1488, 1478)
async def test_a_big_file_passes_through_without_filling_memory(
    whole: WholeMarket, tmp_path: Path
) -> None:
    party = await whole.operator()
    service_id = await service_of(party)
    small, big = tmp_path / "small.zip", tmp_path / "big.zip"
    small.write_bytes(content_of(PART_BYTES * 4))
    block = content_of(1 << 20)
    with big.open("wb") as file:
        for number in range(_BIG_BYTES >> 20):
            file.write(number.to_bytes(8) + block[8:])
    processes = [psutil.Process(pid) for pid in whole.worker_pids().values()]
    stub = registry(party)

    async def both_ways(path: Path) -> None:
        stored = await upload(stub, service_id, path, MANUAL, "application/zip", lambda *_: None)
        await download(stub, stored, tmp_path / f"{path.name}.back", lambda *_: None)

    await both_ways(small)
    before = [process.memory_info().rss for process in processes]
    most = list(before)

    async def watch() -> None:
        while True:
            sizes = [process.memory_info().rss for process in processes]
            most[:] = map(max, zip(most, sizes, strict=True))
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    await both_ways(big)
    watching.cancel()
    growth = max(high - low for high, low in zip(most, before, strict=True))
    assert growth < _GROWTH_BYTES
    digests = [
        hashlib.sha256(path.read_bytes()).digest() for path in (big, tmp_path / "big.zip.back")
    ]
    assert digests[0] == digests[1]


@pytest.mark.fault
@pytest.mark.torture
@pytest.mark.usecase(1488)
async def test_an_upload_survives_the_death_of_its_worker(tmp_path: Path) -> None:
    path = tmp_path / "manual.pdf"
    path.write_bytes(content_of(24 * PART_BYTES + 1))
    async with running_market(workers=1) as own:
        party = await own.operator()
        service_id = await service_of(party)
        killed: list[int] = []

        def kill(done: int, _: int) -> None:
            if done > 8 * PART_BYTES and not killed:
                (pid,) = own.worker_pids().values()
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

        stored = await upload(registry(party), service_id, path, MANUAL, "application/pdf", kill)
        assert killed
        assert stored.state == wire.SERVICE_FILE_STATE_STORED
        target = tmp_path / "back.pdf"
        await download(registry(party), stored, target, lambda *_: None)
        assert target.read_bytes() == path.read_bytes()


async def conforming(whole: WholeMarket) -> tuple[Party, ConformingProvider, str]:
    """Bring in an operator whose server keeps to the EVSE search; gives its service too."""
    party = await whole.operator()
    (rules,) = compile_interface(descriptor_set(evse_search_service_pb2.DESCRIPTOR))
    provider = ConformingProvider(rules)
    endpoint = await provider.listen(*party.identity.read())
    return party, provider, await service_of(party, endpoint)


async def checked(party: Party, service_id: str) -> Any:
    """Have a service checked over the wire, and wait for the report."""
    request = certification_pb2.RunConformanceRequest(
        request_id=new_request_id(), service_id=service_id
    )
    report = (await registry(party).RunConformance(request, timeout=10)).report
    asked = certification_pb2.GetConformanceReportRequest(run_id=report.run_id)
    async with asyncio.timeout(30):
        while report.state == certification_pb2.CONFORMANCE_STATE_RUNNING:
            await asyncio.sleep(0.1)
            report = (await registry(party).GetConformanceReport(asked, timeout=10)).report
    return report


async def test_a_service_is_checked_certified_and_billed_nothing(whole: WholeMarket) -> None:
    party, provider, service_id = await conforming(whole)
    requester = await whole.requester()
    try:
        report = await checked(party, service_id)
    finally:
        await provider.stop()
    assert report.state == certification_pb2.CONFORMANCE_STATE_PASSED, report
    assert {name for name, _ in provider.calls} == {"SearchEvses", "GetEvse"}
    assert await entries_of(party) == []
    certify = certification_pb2.CertifyServiceRequest(
        request_id=new_request_id(), run_id=report.run_id
    )
    with pytest.raises(aio.AioRpcError) as refused:
        await registry(party).CertifyService(certify, timeout=10)
    assert reason_of(refused.value) == "ROLE_NOT_ALLOWED"
    await registry(whole.technical).CertifyService(certify, timeout=10)
    await whole.technical.core.publish_service(service_id)
    asked = certification_pb2.GetCertificationRequest(service_id=service_id)
    seen = (await registry(requester).GetCertification(asked, timeout=10)).certification
    assert (seen.interface_name, seen.run_id) == (EVSE_SEARCH, "")
    assert seen.HasField("certify_time")
    inbox: Any = NotificationServiceStub(party.core.channel)
    listed = await inbox.ListNotifications(
        notification_service_pb2.ListNotificationsRequest(), timeout=10
    )
    titles = [each.title for each in listed.notifications]
    about = [title for title in titles if title.startswith(("Service cert", "Conf"))]
    assert about[:2] == ["Service certified", "Conformance run passed"]


async def run(whole: WholeMarket, *arguments: str) -> Result:
    """Run `gemarket` beside the event loop of the market's providers."""

    def work() -> Result:
        environment = {"COLUMNS": "300", "TERM": "dumb"}
        given = (*arguments, "--data-dir", str(whole.market.layout.root))
        return CliRunner().invoke(application, given, env=environment)

    return await asyncio.to_thread(work)


async def told(whole: WholeMarket, *arguments: str) -> str:
    """Run a command that has to succeed; gives what it printed."""
    result = await run(whole, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.usecase(1488, 1478, 1489, 1487)
async def test_files_and_specifications_by_command(whole: WholeMarket, tmp_path: Path) -> None:
    party = await whole.operator()
    service_id = await service_of(party)
    whole.market.endpoints({party.partner_id: party.identity}, {}).write(
        whole.market.layout.endpoints
    )
    manual = tmp_path / "manual.md"
    manual.write_bytes(b"# How to use it\n" * 40_000)
    files = ("service-files",)
    assert "no files" in await told(whole, *files, "list", service_id)
    upload_it = (*files, "upload", service_id, str(manual), "--kind", "manual")
    shown = json.loads(await told(whole, *upload_it, "--json"))
    assert shown["media_type"] == "text/markdown"
    assert json.loads(await told(whole, *upload_it, "--json")) == shown
    assert "manual.md" in await told(whole, *files, "list", service_id)
    back = tmp_path / "back.md"
    said = await told(whole, *files, "download", service_id, "manual.md", "--to", str(back))
    assert str(manual.stat().st_size) in said
    assert back.read_bytes() == manual.read_bytes()
    tree = tmp_path / "documents"
    await told(whole, *files, "download-documents", service_id, str(tree), "--all")
    assert (tree / "manual.md").read_bytes() == manual.read_bytes()
    assert (
        b"EvseSearchService"
        in (tree / "proto/gem/charging/v1/evse_search_service.proto").read_bytes()
    )
    # What the market handed out has no comments: it was published without.
    own = tmp_path / "own"
    shutil.copytree(PROTO / "gem/charging", own / "gem/charging")
    send = (*files, "upload-specification", service_id, str(own), "--description", "d")
    assert "Version 1 is stored" in await told(whole, *send)
    broken = own / "gem/charging/v1/tariff.proto"
    broken.write_text(broken.read_text().replace("syntax", "sintax", 1))
    failed = await run(whole, *send)
    assert (failed.exit_code, "tariff.proto" in failed.stdout) == (1, True)
    await told(whole, *files, "delete", service_id, "manual.md")
    gone = await run(whole, *files, "download", service_id, "manual.md")
    assert (gone.exit_code, "no file 'manual.md'" in gone.stderr) == (2, True)


async def test_checks_and_certification_by_command(whole: WholeMarket) -> None:
    party, provider, service_id = await conforming(whole)
    whole.market.endpoints({party.partner_id: party.identity}, {}).write(
        whole.market.layout.endpoints
    )
    assert "never checked" in await told(whole, "conformance", "list", service_id)
    try:
        made = await told(whole, "conformance", "run", service_id)
    finally:
        await provider.stop()
    assert "passed" in made
    assert "refused with INVALID_ARGUMENT" in made
    listed = await told(whole, "conformance", "list", service_id, "--json")
    run_id = json.loads(listed)["run_id"]
    assert "SERVING" in await told(whole, "conformance", "show", run_id)
    assert "not certified" in await told(whole, "conformance", "status", service_id)
    assert "Certified since" in await told(whole, "conformance", "certify", run_id)
    assert "Certified since" in await told(whole, "conformance", "status", service_id)
    await told(whole, "conformance", "revoke", service_id, "--reason", "It is gone.")
    # Nobody is there any more.
    failed = await run(whole, "conformance", "run", service_id)
    assert (failed.exit_code, "failed" in failed.stdout) == (1, True)
