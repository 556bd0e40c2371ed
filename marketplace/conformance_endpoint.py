"""Whose certificate an endpoint shows, and for how long it will be valid."""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime, timedelta

from cryptography import x509

from marketplace.conformance import Check, CheckKind, Outcome

#: A certificate that ends sooner is as good as ended: nobody would hear of it in time.
VALIDITY_LEFT = timedelta(hours=24)
#: Reasons of OpenSSL's verification.
_NAME_MISMATCH, _EXPIRED, _NOT_YET_VALID = 62, 10, 9


async def check_certificate(
    endpoint: str, name: str, tls: ssl.SSLContext, now: datetime, timeout_s: float
) -> Check:
    """Connect as the marketplace, and look at the certificate; nothing is sent.

    `name` is the DNS name that has to be in it; `tls` trusts the market's authority alone.
    """
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    try:
        async with asyncio.timeout(timeout_s):
            raw = await _certificate(endpoint, name, tls)
        outcome, detail = _validity(raw, now)
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


async def _certificate(endpoint: str, name: str, tls: ssl.SSLContext) -> bytes:
    host, _, port = endpoint.rpartition(":")
    _, writer = await asyncio.open_connection(
        host.strip("[]"), int(port), ssl=tls, server_hostname=name
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
