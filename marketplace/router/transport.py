"""What the router asks of a transport towards providers; a transport is replaced by replacing this.

A transport connects, proves that the endpoint is that partner's, and carries bytes. It knows
nothing of interfaces, contracts or merging.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from marketplace.router.target import Target

#: Metadata towards a provider: pairs of a lower-case key and its text.
Metadata = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class ProviderFailure(Exception):  # noqa: N818 - a failed provider is an answer, see ask.py
    """Asking a provider gave no message. Carries no text of the provider's.

    `status` and `reason` are values of `gem.mesh.v1.AnswerStatus` and `ErrorReason`, `code` the
    gRPC status code that the provider gave or that describes what happened.
    """

    status: int
    reason: int
    code: int
    #: No byte of an answer had arrived: a query may be asked once more.
    before_any_byte: bool = False
    #: The request provably never reached the provider: even a command may be asked elsewhere.
    never_sent: bool = False


class ProviderStream(Protocol):
    """One streaming call to one provider. Every method may raise `ProviderFailure`.

    One reader and one writer at a time; reading and writing may overlap.
    """

    async def write(self, message: bytes) -> None:
        """Send one request message; returns when the transport takes more."""

    async def done_writing(self) -> None:
        """Half-close: the provider sees the end of the requests."""

    async def read(self) -> bytes | None:
        """Give the next answer message; None once the provider has ended the call with OK."""

    def cancel(self) -> None:
        """End the call now, without waiting; harmless on a call that has ended."""


class ProviderTransport(Protocol):
    """Carries calls to providers. The transport enforces `timeout_s`, also on drip-fed answers.

    Cancelling the awaiting task cancels the call to the provider.
    """

    async def unary(
        self, target: Target, method: str, request: bytes, metadata: Metadata, timeout_s: float
    ) -> bytes:
        """Ask with one message for one message.

        Raises:
            ProviderFailure: there is no message, for whatever reason.
        """

    def stream(
        self, target: Target, method: str, metadata: Metadata, timeout_s: float
    ) -> ProviderStream:
        """Start a call of any kind as a stream; failures show when it is read or written."""

    async def close(self) -> None:
        """Close all connections; calls in flight end as unreachable."""
