"""Reading what the caller sends beside the request itself: how many messages, and its hints."""

from __future__ import annotations

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.router.plan import Hints

_NO_HINTS = Hints()


async def read_one(call: Call) -> bytes:
    """Read the one message of a call that takes one.

    Raises:
        MarketError: REQUEST_COUNT.
    """
    call.single_request = True
    wire = call.wire
    raw = await wire.read()
    if raw is None or await wire.read() is not None:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_COUNT, "This method takes exactly one message."
        )
    return raw


def hints_of(call: Call) -> Hints:
    """Give what the caller's metadata says about the provider.

    Raises:
        MarketError: METADATA_INVALID.
    """
    metadata = call.metadata
    provider, contract = metadata.get("gem-provider"), metadata.get("gem-contract")
    if provider is None and contract is None:
        return _NO_HINTS
    if isinstance(provider, bytes) or isinstance(contract, bytes):
        raise MarketError(
            ErrorReason.ERROR_REASON_METADATA_INVALID,
            "The metadata gem-provider and gem-contract must be ASCII text.",
        )
    return Hints(provider, contract)
