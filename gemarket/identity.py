"""Key, certificate and trusted roots of one party, together in one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

KEY, CERTIFICATE, ROOTS = "key.pem", "certificate.pem", "ca.pem"


@dataclass(frozen=True, slots=True)
class Identity:
    """A folder with `key.pem`, `certificate.pem` (leaf first, then its chain) and `ca.pem`."""

    folder: Path

    @property
    def key_file(self) -> Path:
        """The private key, readable by its owner only."""
        return self.folder / KEY

    @property
    def certificate_file(self) -> Path:
        """The certificate with its chain."""
        return self.folder / CERTIFICATE

    @property
    def ca_file(self) -> Path:
        """The roots that this party trusts."""
        return self.folder / ROOTS

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Give key, certificate chain and roots in PEM; raises OSError where one is missing."""
        files = (self.key_file, self.certificate_file, self.ca_file)
        key, certificate, roots = (path.read_bytes() for path in files)
        return key, certificate, roots

    def write(self, key_pem: bytes, certificate_pem: bytes, roots_pem: bytes) -> None:
        """Write the three files; the key first and for its owner only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key_file.touch(mode=0o600)
        self.key_file.chmod(0o600)
        self.key_file.write_bytes(key_pem)
        self.certificate_file.write_bytes(certificate_pem)
        self.ca_file.write_bytes(roots_pem)


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Make client credentials for mutual TLS."""
    key, certificate, roots = identity.read()
    return grpc.ssl_channel_credentials(roots, key, certificate)


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """Make server credentials that demand a client certificate."""
    key, certificate, roots = identity.read()
    return grpc.ssl_server_credentials([(key, certificate)], roots, require_client_auth=True)
