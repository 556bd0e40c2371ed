"""The routing table as one immutable value: who may reach whom, through which interface.

It is derived from the contracts and kept in memory by every worker. A change makes a new snapshot
that shares all but the changed parts with the old one, so a call plans on one consistent state.
Use cases 1241 (call through the marketplace) and 1250 (contract).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING

from foundation.identifiers import ContractId, EvseId, owner_key
from gem.options.v1.options_pb2 import RouteKey
from marketplace.router.method_rules import InterfaceRules, MethodRules
from marketplace.router.sharded_map import ShardedMap
from marketplace.router.target import Target

if TYPE_CHECKING:
    from interceptors.certificate import CertificateRecord

#: Requester id and interface name.
RouteName = tuple[str, str]
#: Value of `RouteKey` and the owner key of an operator id or provider id.
OwnerName = tuple[int, str]


class RoutingSnapshot:
    """Routes, interfaces, owners of identifiers and certificates at one version of the registry.

    `targets` are in contract order: the order in which the contracts came into force.
    """

    __slots__ = ("_certificates", "_interfaces", "_methods", "_owners", "_routes", "version")

    def __init__(
        self,
        version: int = 0,
        *,
        interfaces: Iterable[InterfaceRules] = (),
        routes: Iterable[tuple[str, str, Target]] = (),
        owners: Iterable[tuple[int, str, str]] = (),
        certificates: Iterable[tuple[bytes, CertificateRecord]] = (),
    ) -> None:
        """Build a snapshot from rows.

        Args:
            version: Version of the registry that the rows are of.
            interfaces: Compiled interfaces.
            routes: Requester id, interface name and target of each contract in force, in contract
                order.
            owners: `RouteKey` value, operator id or provider id in any spelling, and id of the
                partner that owns it.
            certificates: SHA-256 fingerprint of the certificate in DER, and its record.
        """
        grouped: dict[RouteName, list[Target]] = {}
        for requester_id, interface, target in routes:
            grouped.setdefault((requester_id, interface), []).append(target)
        self._take(
            version,
            ShardedMap((name, tuple(found)) for name, found in grouped.items()),
            ShardedMap(((kind, owner_key(text)), who) for kind, text, who in owners),
            ShardedMap(certificates),
        )
        self._take_interfaces(interfaces)

    def targets(self, requester_id: str, interface: str) -> tuple[Target, ...]:
        """Give the targets that the requester has a contract in force with; empty for none."""
        return self._routes.get((requester_id, interface), ())

    def method(self, path: str) -> MethodRules | None:
        """Give the rules of a routed method by its path on the wire."""
        return self._methods.get(path)

    def methods(self) -> Mapping[str, MethodRules]:
        """Give the rules of every routed method by path."""
        return self._methods

    def interfaces(self) -> Mapping[str, InterfaceRules]:
        """Give the compiled interfaces by name."""
        return self._interfaces

    def owner(self, route_key_kind: int, identifier: str) -> str | None:
        """Give the id of the partner that owns an identifier; None where nobody known does.

        An identifier that does not parse as its kind has no owner.
        """
        try:
            if route_key_kind == RouteKey.ROUTE_KEY_EVSE_ID:
                key = owner_key(EvseId.parse(identifier).operator_id)
            elif route_key_kind == RouteKey.ROUTE_KEY_CONTRACT_ID:
                key = owner_key(ContractId.parse(identifier).provider_id)
            else:
                return identifier or None
        except ValueError:
            return None
        return self._owners.get((route_key_kind, key))

    def by_fingerprint(self, fingerprint: bytes) -> CertificateRecord | None:
        """Give what is registered about a certificate; None for an unknown one."""
        return self._certificates.get(fingerprint)

    def certificates(self) -> Mapping[bytes, CertificateRecord]:
        """Give every certificate record by fingerprint."""
        return self._certificates

    def with_changes(
        self,
        version: int,
        *,
        routes: Mapping[RouteName, tuple[Target, ...] | None] | None = None,
        interfaces: Mapping[str, InterfaceRules | None] | None = None,
        owners: Mapping[OwnerName, str | None] | None = None,
        certificates: Mapping[bytes, CertificateRecord | None] | None = None,
    ) -> RoutingSnapshot:
        """Give the snapshot of a later version; None in a mapping removes its key.

        A route's value is the whole list of targets for that requester and interface. The text of
        an owner's name may be in any spelling.
        """
        keyed = {(kind, owner_key(text)): who for (kind, text), who in (owners or {}).items()}
        result = copy(self)
        result._take(  # noqa: SLF001  # the same class makes its own copy
            version,
            self._routes.changed(routes or {}),
            self._owners.changed(keyed),
            self._certificates.changed(certificates or {}),
        )
        if interfaces:
            merged = {**self._interfaces, **interfaces}
            kept = (rules for rules in merged.values() if rules is not None)
            result._take_interfaces(kept)  # noqa: SLF001  # as above
        return result

    def _take(
        self,
        version: int,
        routes: ShardedMap[RouteName, tuple[Target, ...]],
        owners: ShardedMap[OwnerName, str],
        certificates: ShardedMap[bytes, CertificateRecord],
    ) -> None:
        """Set what a new snapshot holds, before anybody else sees it."""
        self.version = version
        self._routes = routes
        self._owners = owners
        self._certificates = certificates

    def _take_interfaces(self, interfaces: Iterable[InterfaceRules]) -> None:
        self._interfaces = {rules.name: rules for rules in interfaces}
        self._methods = {
            path: method
            for rules in self._interfaces.values()
            for path, method in rules.methods.items()
        }

    def with_routes(
        self, version: int, requester_id: str, interface: str, targets: tuple[Target, ...]
    ) -> RoutingSnapshot:
        """Give the snapshot in which this requester reaches exactly these targets."""
        return self.with_changes(version, routes={(requester_id, interface): targets or None})
