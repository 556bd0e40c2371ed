"""The probe market as a process of its own: `python -m tests.interceptors.probe_server FOLDER`.

The folder holds `key.pem`, `chain.pem` and `root.pem` of the server, and the PEM certificates of
the partners that are registered, `<partner id>.partner.pem`. The port is printed; it ends when its
input is closed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import grpc
import uvloop

from foundation.certificates import read_identity
from interceptors.certificate import CertificateRecord
from interceptors.grpc_server import GrpcServer, ServerLimits
from tests.interceptors.support import PARTNER, ProbeMarket

LIMITS = ServerLimits(request_read_timeout_s=1.0)


async def serve(partners: list[bytes], key: bytes, chain: bytes, root: bytes) -> None:
    """Serve until the input ends; everything in PEM."""
    market = ProbeMarket()
    for pem in partners:
        identity = read_identity(pem)
        market.registry.records[identity.fingerprint] = CertificateRecord(
            subject_id=identity.subject_id,
            kind="partner",
            roles=frozenset({PARTNER}),
            active=True,
            revoked=False,
            not_after_s=identity.not_after.timestamp(),
        )
    server = GrpcServer(market.handle, market.live, LIMITS, market.core.answers_one)
    credentials = grpc.ssl_server_credentials([(key, chain)], root, require_client_auth=True)
    port = server.listen("127.0.0.1:0", credentials)
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.drain(1.0)


def main(folder: Path) -> None:
    """Read the folder and serve."""
    partners = [path.read_bytes() for path in folder.glob("*.partner.pem")]
    key, chain, root = ((folder / f"{name}.pem").read_bytes() for name in ("key", "chain", "root"))
    uvloop.run(serve(partners, key, chain, root))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
