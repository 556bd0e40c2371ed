"""A listener's certificate follows its file: renewal needs no restart and breaks no connection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import grpc
import structlog

from foundation.certificates import utc_now
from foundation.errors import SettingsError
from foundation.server_certificate import check_server_certificate

_log = structlog.get_logger(__name__)


class WatchedFile:
    """A certificate file that may be replaced at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()

    def changed(self) -> bool:
        """Say, once for each change, whether the file is another than before."""
        stamp = self._stamp()
        changed = stamp is not None and stamp != self._seen
        if changed:
            self._seen = stamp
        return changed

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_ino)


def listener_credentials(
    certificate_file: Path, key_file: Path, roots: Path | None
) -> grpc.ServerCredentials:
    """Make server credentials that take a renewed certificate for new connections.

    With `roots` callers must show a certificate that these issued; without, they show none.

    A bad pair of files keeps the old pair, and is logged as an error: grpc itself would be silent.
    """
    watched = WatchedFile(certificate_file)

    def read() -> grpc.ServerCertificateConfiguration:
        pair = (key_file.read_bytes(), certificate_file.read_bytes())
        trusted = roots.read_bytes() if roots is not None else None
        return grpc.ssl_server_certificate_configuration([pair], trusted)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        if not watched.changed():
            return None
        try:
            check_server_certificate(certificate_file, key_file, (), utc_now())
            return read()
        except (OSError, SettingsError) as error:
            _log.error("listener_certificate_not_renewed", reason=type(error).__name__)
            return None

    # None means that nothing changed, which the stubs do not know.
    fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch)
    mutual = roots is not None
    return grpc.dynamic_ssl_server_credentials(
        read(), fetcher, require_client_authentication=mutual
    )
