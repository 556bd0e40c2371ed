"""What a compiled interface says about its methods: the values that the router's parts read.

`interface.compile_interface` makes them, once per publication; everything that a call needs is
worked out there, so that no part of the router looks at a descriptor while a call waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from protovalidate import Validator

from marketplace.router.merge_plan import MergePlan
from marketplace.router.plain_check import PlainCheck
from marketplace.router.quick_check import KeepsRules
from marketplace.router.units import UnitReaders

#: Writes provider id and contract id over every stamped string of one answer.
Stamper = Callable[[Any, str, str], None]


@dataclass(frozen=True, slots=True)
class RouteKeyField:
    """The request field whose identifier decides a BY_KEY call."""

    #: Value of `gem.options.v1.RouteKey`.
    kind: int
    #: Dotted path of the field inside the request.
    path: str
    #: Reads the field of a parsed request; an empty string where it is unset.
    read: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class MethodRules:
    """Everything that the router needs to know about one method of a standard interface."""

    #: Full method as on the wire, `/package.Service/Method`.
    path: str
    #: Full name of the service, which is the name of the interface.
    interface: str
    #: Value of `gem.options.v1.Route`; never ROUTE_UNSPECIFIED.
    route: int
    route_key: RouteKeyField | None
    client_streaming: bool
    server_streaming: bool
    #: False for methods marked NO_SIDE_EFFECTS: those alone may be asked again.
    side_effects: bool
    request_class: type[Message]
    response_class: type[Message]
    #: Whether a request surely keeps every rule; where it is False, the validator decides.
    keeps_rules: KeepsRules
    #: Overwrites stamped strings in an answer: `stamp(message, provider_id, contract_id)`.
    stamp: Stamper
    #: How answers merge; None unless the route is ALL and the answer is one message.
    merge_plan: MergePlan | None
    #: Name of the response's field of provider answers; None unless the route is ALL.
    answers_field: str | None
    #: Gives the number of result elements in one answer.
    count_items: Callable[[Any], int]
    #: Shows quickly that an answer keeps every rule; where it gives None, `validator` decides.
    plain_check: PlainCheck
    #: Holds the compiled rules of this interface's messages; shared by its methods.
    validator: Validator
    #: Read the units of an answer, by the path that a price names.
    unit_readers: UnitReaders


@dataclass(frozen=True, slots=True)
class InterfaceRules:
    """One standard interface: a service with the option `standard_interface`, compiled."""

    #: Full name of the service, for instance `gem.charging.v1.EvseSearchService`.
    name: str
    title: str
    category: str
    #: Values of `gem.options.v1.PartnerRole` that may implement it; empty means any role.
    implemented_by: frozenset[int]
    #: Values of `gem.options.v1.PartnerRole` that may contract and call it; empty means any role.
    called_by: frozenset[int]
    #: Methods by their path on the wire.
    methods: Mapping[str, MethodRules]
    #: The `FileDescriptorSet` that compiles on its own, dependencies first, with the marketplace's
    #: own files in place of whatever the publisher sent under their names.
    descriptor_set: bytes
