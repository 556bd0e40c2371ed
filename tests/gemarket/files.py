"""Files of parties that are wrong in one way each."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from foundation.certificates import CertificateAuthority, new_key_and_csr, partner_uri
from gemarket.endpoints import Party
from gemarket.identity import Identity

DAY = timedelta(days=1)


def now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)


def party_of(identity: Identity) -> Party:
    """Name an identity's files as `endpoints.json` does."""
    files = (identity.key_file, identity.certificate_file, identity.ca_file)
    return Party(*map(str, files))


def issued(
    folder: Path,
    authority: CertificateAuthority,
    lifetime: timedelta = 30 * DAY,
    names: tuple[str, ...] = (),
    roots: bytes | None = None,
) -> Identity:
    """Write a partner's key and certificate; with names it serves too."""
    key, csr = new_key_and_csr("volt")
    uri = partner_uri(authority.trust_domain, "volt")
    made = authority.issue_from_csr(csr, uri, names, lifetime, server=bool(names))
    identity = Identity(folder)
    identity.write(key, made.chain_pem, roots or authority.root_pem)
    return identity


@contextmanager
def tls_server(identity: Identity) -> Iterator[str]:
    """Run a server that makes one handshake after the other; gives its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        serving = threading.Thread(target=_serve, args=(listener, context))
        serving.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.settimeout(5)
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            connection.close()
