"""Keys and certificates of the parties of a test market; the fixtures in conftest make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foundation.certificates import CertificateAuthority, IssuedCertificate, new_key_and_csr

TRUST_DOMAIN = "gem.example"


@dataclass(frozen=True, slots=True)
class Identity:
    """A key with its certificate, as its owner presents them in a handshake."""

    key_pem: bytes
    certificate: IssuedCertificate
    #: Trust anchor of the other side.
    root_pem: bytes

    @property
    def chain_pem(self) -> bytes:
        """The certificate and the issuing one."""
        return self.certificate.chain_pem

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate in DER."""
        return self.certificate.fingerprint


#: Makes a key and certificate of the partner with this id, for client and server side alike.
MakeIdentity = Callable[[str], Identity]
#: Makes those of an operator: role (`business` or `technical`) and name.
MakeOperator = Callable[[str, str], Identity]


def identity_of(
    authority: CertificateAuthority, uri: str, host_names: tuple[str, ...] = ()
) -> Identity:
    """Make a key and have a client certificate issued for it; with host names a server's too."""
    key_pem, csr_pem = new_key_and_csr(uri)
    issued = authority.issue_from_csr(csr_pem, uri, host_names, server=bool(host_names))
    return Identity(key_pem, issued, authority.root_pem)
