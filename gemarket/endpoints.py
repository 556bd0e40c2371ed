"""`endpoints.json`: how to reach a running market, and as whom."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gemarket.identity import Identity


class NotRunningError(Exception):
    """There is no readable `endpoints.json`: the market was never up, or elsewhere."""


@dataclass(frozen=True, slots=True)
class Party:
    """The files with which one partner or operator calls."""

    key_file: str
    certificate_file: str
    ca_file: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses, the roots to trust, and the identities made at start."""

    #: `host:port` of the listener for mutual TLS.
    marketplace: str
    #: URL of the Prometheus metrics.
    metrics: str
    trust_domain: str
    ca_file: str
    #: SQLAlchemy URL of the database.
    database_url: str
    #: By partner id.
    partners: dict[str, Party] = field(default_factory=dict)
    #: By role: `business`, `technical`.
    operators: dict[str, Party] = field(default_factory=dict)
    #: `host:port` of the reference providers by partner id.
    providers: dict[str, str] = field(default_factory=dict)
    #: Process ids by name of the child process.
    processes: dict[str, int] = field(default_factory=dict)
    #: `host:port` of the listener for people with a session; empty where it is not known.
    sessions: str = ""

    def party(self, name: str) -> Party:
        """Give the files of a partner or operator, or those in a folder of that name.

        Raises:
            KeyError: there is neither; it says which names are known.
        """
        known = {**self.operators, **self.partners}
        if name in known:
            return known[name]
        folder = Identity(Path(name).absolute())
        if folder.certificate_file.is_file():
            files = (folder.key_file, folder.certificate_file, folder.ca_file)
            return Party(*map(str, files))
        raise KeyError(
            f"{name!r} is not known here; known are: {', '.join(sorted(known))},"
            " and any folder with key.pem, certificate.pem and ca.pem"
        )

    def write(self, path: Path) -> None:
        """Write the file in one step, so that nobody reads half of it."""
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(asdict(self), indent=2) + "\n")
        scratch.replace(path)


def read_endpoints(path: Path) -> Endpoints:
    """Read the file; raises NotRunningError with the reason."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
        for name in ("partners", "operators"):
            raw[name] = {key: Party(**value) for key, value in raw[name].items()}
        return Endpoints(**raw)
    except FileNotFoundError:
        message = f"no market has been started here: {path} does not exist (try `gemarket up`)"
        raise NotRunningError(message) from None
    except OSError as error:
        raise NotRunningError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        message = f"{path} is not an endpoints file of this version"
        raise NotRunningError(message) from None
