"""Where everything lies in the data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gemarket.identity import Identity


@dataclass(frozen=True, slots=True)
class Layout:
    """The data directory of one market."""

    root: Path

    @property
    def authority(self) -> Path:
        """The certificate authority's keys and certificates."""
        return self.root / "ca"

    @property
    def spill(self) -> Path:
        """Transaction log entries that wait for the database."""
        return self.root / "spill"

    @property
    def logs(self) -> Path:
        """What the child processes print."""
        return self.root / "logs"

    @property
    def metrics(self) -> Path:
        """The workers' shared metric files; emptied at every start."""
        return self.root / "run" / "metrics"

    @property
    def run(self) -> Path:
        """Files that matter only while the market runs."""
        return self.root / "run"

    @property
    def endpoints(self) -> Path:
        """Addresses and certificates, written when everything is ready."""
        return self.root / "endpoints.json"

    @property
    def listener(self) -> Identity:
        """The server certificate that callers see."""
        return Identity(self.root / "identities" / "listener")

    @property
    def router(self) -> Identity:
        """The client certificate with which the router calls providers."""
        return Identity(self.root / "identities" / "router")

    def operator(self, role: str) -> Identity:
        """An operator's identity; `role` is `business` or `technical`."""
        return Identity(self.root / "identities" / f"operator-{role}")

    def partner(self, partner_id: str) -> Identity:
        """A demonstration partner's identity."""
        return Identity(self.root / "partners" / partner_id)
