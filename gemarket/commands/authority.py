"""`gemarket ca`: the certificate authority and the partners' certificates."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from grpc import aio
from rich.markup import escape

from foundation.certificates import CertificateAuthority, new_key_and_csr, write_secret
from foundation.errors import SettingsError
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_service_pb2 as wire
from gemarket.administration import Connection, new_request_id
from gemarket.console import errors, output, show_failure, table
from gemarket.endpoints import NotRunningError, read_endpoints
from gemarket.options import DataDir, layout_of, settings_of

application = typer.Typer(
    help="The market's certificate authority and the partners' certificates.",
    no_args_is_help=True,
)
_TIMEOUT_S = 20.0

Partner = Annotated[str, typer.Argument(metavar="PARTNER", help="Partner id.")]
Reason = Annotated[str, typer.Option(help="key-compromised, superseded or no-longer-used.")]


@application.command("init")
def init(*, data_dir: DataDir = None) -> None:
    """Make the authority: a root that everybody trusts and the issuing certificate below it."""
    layout = layout_of(data_dir)
    try:
        settings = settings_of(data_dir)
        layout.root.mkdir(parents=True, exist_ok=True)
        authority = CertificateAuthority.create(layout.authority, settings.trust_domain)
    except (SettingsError, OSError) as error:
        raise _failed(str(error)) from None
    output.print(f"authority of {authority.trust_domain} in {layout.authority}", highlight=False)
    output.print(f"give to partners: {layout.authority / 'ca.pem'}", highlight=False)
    output.print(f"keep offline: {layout.authority / 'root.key'}", highlight=False)


@application.command("request")
def request(partner: Partner, folder: Path) -> None:
    """Make a key and a certificate signing request in FOLDER; the key never leaves it."""
    key, csr = new_key_and_csr(partner)
    if (folder / "key.pem").exists():
        raise _failed(f"{folder / 'key.pem'} exists already")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_secret(folder / "key.pem", key)
        (folder / "request.pem").write_bytes(csr)
    except OSError as error:
        raise _failed(str(error)) from None
    output.print(f"key and request in {folder}", highlight=False)


@application.command("issue")
def issue(
    partner: Partner,
    csr: Annotated[Path, typer.Argument(help="The signing request, PEM.")],
    *,
    target: Annotated[Path | None, typer.Option("--out", help="Certificate; else shown.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Issue and register a certificate for a partner's own key (business operator)."""

    async def work(connection: Connection) -> None:
        message = wire.IssueCertificateRequest(
            request_id=new_request_id(),
            partner_id=partner,
            certificate_signing_request_pem=csr.read_bytes(),
        )
        response = await connection.partners.IssueCertificate(message, timeout=_TIMEOUT_S)
        if target is None:
            output.print(response.chain_pem.decode(), highlight=False)
        else:
            target.write_bytes(response.chain_pem)
            ends = response.certificate.not_after_time.ToDatetime()
            output.print(f"{target}, valid until {ends:%Y-%m-%d}", highlight=False)

    _as_business_operator(data_dir, work)


@application.command("list")
def listing(partner: Partner, *, data_dir: DataDir = None) -> None:
    """List a partner's certificates."""

    async def work(connection: Connection) -> None:
        message = wire.ListCertificatesRequest(partner_id=partner)
        response = await connection.partners.ListCertificates(message, timeout=_TIMEOUT_S)
        rows = (
            (
                certificate.fingerprint.hex(),
                f"{certificate.not_after_time.ToDatetime():%Y-%m-%d}",
                "revoked" if certificate.HasField("revoke_time") else "good",
            )
            for certificate in response.certificates
        )
        output.print(table(f"Certificates of {partner}", ("fingerprint", "until", "state"), rows))

    _as_business_operator(data_dir, work)


@application.command("revoke")
def revoke(
    fingerprint: Annotated[str, typer.Argument(help="SHA-256 of the certificate, hexadecimal.")],
    *,
    reason: Reason = "no-longer-used",
    data_dir: DataDir = None,
) -> None:
    """Revoke a certificate: from its next call on it is refused, and its live calls are cut."""
    try:
        raw = bytes.fromhex(fingerprint)
        name = f"REVOCATION_REASON_{reason.upper().replace('-', '_')}"
        code = partner_pb2.RevocationReason.Value(name)
    except ValueError:
        raise _failed("the fingerprint must be hexadecimal, the reason one of the three") from None

    async def work(connection: Connection) -> None:
        message = wire.RevokeCertificateRequest(
            request_id=new_request_id(), fingerprint=raw, reason=code
        )
        await connection.partners.RevokeCertificate(message, timeout=_TIMEOUT_S)
        output.print("revoked")

    _as_business_operator(data_dir, work)


def _as_business_operator(data_dir: Path | None, work: Any) -> None:
    layout = layout_of(data_dir)

    async def run() -> None:
        endpoints = read_endpoints(layout.endpoints)
        async with Connection(endpoints.marketplace, layout.operator("business")) as connection:
            await work(connection)

    _run(run())


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        uvloop.run(work)
    except aio.AioRpcError as error:
        show_failure(error)
        raise typer.Exit(1) from None
    except (NotRunningError, OSError) as error:
        raise _failed(str(error)) from None


def _failed(message: str) -> typer.Exit:
    errors.print(f"[red]gemarket ca:[/] {escape(message)}", highlight=False)
    return typer.Exit(1)
