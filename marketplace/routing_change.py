"""What a commit changed of the routing table: the text of a notification, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

#: PostgreSQL refuses notifications of 8000 bytes or more.
PAYLOAD_MAX_BYTES = 7000


@dataclass(frozen=True, slots=True)
class RoutingChange:
    """Keys of what to read again; it carries no state, so that reading twice does no harm."""

    #: Requester id and interface name of each list of targets.
    routes: frozenset[tuple[str, str]] = frozenset()
    #: Ids of services whose every route changed.
    services: frozenset[str] = frozenset()
    #: Fingerprints.
    certificates: frozenset[bytes] = frozenset()
    #: Ids of partners whose every certificate changed.
    partners: frozenset[str] = frozenset()
    #: Value of `gem.common.v1.IdentifierKind` and normalised identifier.
    owners: frozenset[tuple[int, str]] = frozenset()
    #: Names of interfaces.
    interfaces: frozenset[str] = frozenset()
    #: True when all is to be read again.
    everything: bool = False

    def encode(self) -> str:
        """Give the text of the change; a change too large for a notification says `everything`."""
        content = {
            "routes": sorted(self.routes),
            "services": sorted(self.services),
            "certificates": sorted(item.hex() for item in self.certificates),
            "partners": sorted(self.partners),
            "owners": sorted(self.owners),
            "interfaces": sorted(self.interfaces),
            "everything": self.everything,
        }
        text = json.dumps({key: value for key, value in content.items() if value})
        if len(text.encode()) > PAYLOAD_MAX_BYTES:
            return RoutingChange(everything=True).encode()
        return text

    @classmethod
    def decode(cls, text: str) -> RoutingChange:
        """Read the text of a change; one that is not understood says `everything`."""
        try:
            content = json.loads(text)
            return cls(
                routes=frozenset((who, what) for who, what in content.pop("routes", ())),
                services=frozenset(content.pop("services", ())),
                certificates=frozenset(map(bytes.fromhex, content.pop("certificates", ()))),
                partners=frozenset(content.pop("partners", ())),
                owners=frozenset((int(kind), value) for kind, value in content.pop("owners", ())),
                interfaces=frozenset(content.pop("interfaces", ())),
                everything=bool(content.pop("everything", False)) or bool(content),
            )
        except (ValueError, TypeError, AttributeError):
            return cls(everything=True)


def united(changes: Iterable[RoutingChange]) -> RoutingChange:
    """Give one change that stands for several."""
    found = tuple(changes)
    return RoutingChange(
        routes=frozenset().union(*(change.routes for change in found)),
        services=frozenset().union(*(change.services for change in found)),
        certificates=frozenset().union(*(change.certificates for change in found)),
        partners=frozenset().union(*(change.partners for change in found)),
        owners=frozenset().union(*(change.owners for change in found)),
        interfaces=frozenset().union(*(change.interfaces for change in found)),
        everything=any(change.everything for change in found),
    )


def parse_notification(payload: str) -> tuple[int, RoutingChange]:
    """Split a notification, `<version> <change>`; version 0 stands for one that makes no sense."""
    head, _, text = payload.partition(" ")
    if not (head.isascii() and head.isdecimal()):
        return 0, RoutingChange(everything=True)
    return int(head), RoutingChange.decode(text)
