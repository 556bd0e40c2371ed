"""Whose certificate an endpoint shows, and for how long it will be valid."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from marketplace.conformance import Check, CheckKind, Outcome
from marketplace.endpoint_policy import EndpointCheck, EndpointRefusedError, split_endpoint
from marketplace.router.transport import ProviderTransport

#: A certificate that ends sooner is as good as ended: nobody would hear of it in time.
VALIDITY_LEFT = timedelta(hours=24)
_REFUSED = "the endpoint is at an address that this market does not call"
_NOWHERE = "the endpoint's name has no address"
#: Reasons of OpenSSL's verification.
_NAME_MISMATCH, _EXPIRED, _NOT_YET_VALID = 62, 10, 9


@dataclass(frozen=True, slots=True)
class Market:
    """How the marketplace meets an endpoint: as itself, over mutual TLS."""

    transport: ProviderTransport
    trust_domain: str
    #: Gives a context with the marketplace's certificate that trusts the market's authority.
    tls: Callable[[], ssl.SSLContext]
    #: Where the marketplace may connect.
    endpoints: EndpointCheck


async def check_certificate(
    endpoint: str, name: str, market: Market, now: datetime, timeout_s: float
) -> Check:
    """Connect as the marketplace, and look at the certificate; nothing is sent.

    `name` is the DNS name that has to be in it.
    """
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    try:
        async with asyncio.timeout(timeout_s):
            raw = await _certificate(endpoint, name, market)
        outcome, detail = _validity(raw, now)
    except EndpointRefusedError as refused:
        outcome, detail = Outcome.FAILED, _REFUSED if refused.resolved else _NOWHERE
    except TimeoutError:
        outcome, detail = Outcome.FAILED, "the endpoint did not complete the TLS handshake in time"
    except ssl.SSLCertVerificationError as error:
        outcome, detail = Outcome.FAILED, _refusal(error.verify_code)
    except (ssl.SSLError, ConnectionError, EOFError):
        outcome, detail = Outcome.FAILED, "the endpoint broke the TLS handshake off"
    except OSError:
        outcome, detail = Outcome.FAILED, "the endpoint is out of reach"
    took_us = int((loop.time() - begun_s) * 1e6)
    return Check(CheckKind.CERTIFICATE, "", outcome, detail, took_us)


async def _certificate(endpoint: str, name: str, market: Market) -> bytes:
    # Only an address that was checked is connected to.
    address, *_ = await market.endpoints.addresses(endpoint)
    _, port = split_endpoint(endpoint)
    _, writer = await asyncio.open_connection(
        address, int(port), ssl=market.tls(), server_hostname=name
    )
    try:
        shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return shown.getpeercert(binary_form=True) or b""
    finally:
        # Not closed politely: an endpoint that does not answer would be waited for.
        writer.transport.abort()


def _validity(raw: bytes, now: datetime) -> tuple[Outcome, str]:
    try:
        until = x509.load_der_x509_certificate(raw).not_valid_after_utc
    except ValueError:
        return Outcome.FAILED, "the certificate cannot be read"
    if until - now < VALIDITY_LEFT:
        hours = int(VALIDITY_LEFT.total_seconds() // 3600)
        return Outcome.FAILED, f"the certificate is valid for less than {hours} hours more"
    return Outcome.PASSED, f"the provider's own certificate, valid until {until:%Y-%m-%d %H:%M} UTC"


def _refusal(code: int) -> str:
    if code == _NAME_MISMATCH:
        return "the certificate is not the provider's: it has another name"
    if code in (_EXPIRED, _NOT_YET_VALID):
        return "the certificate is not valid at this time"
    return "the certificate does not lead to the market's authority"
