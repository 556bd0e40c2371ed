"""The registry of services over mutual TLS: short ways to ask it, and to be refused."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import aio

from gem.marketplace.v1 import (
    notification_service_pb2,
    partner_service_pb2,
    service_lifecycle_pb2,
    service_search_pb2,
    service_version_pb2,
)
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.marketplace.v1.notification_pb2 import NotificationKind
from gem.marketplace.v1.notification_service_pb2_grpc import NotificationServiceStub
from gem.marketplace.v1.service_pb2 import ServiceState
from gemarket.administration import ServicePlan, new_request_id
from tests.end_to_end.charging import detail_of, reason_of
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket
from tests.interfaces import descriptor_set, rpc, service

_MODULES = (registry, service_lifecycle_pb2, service_version_pb2, service_search_pb2)
#: Where nobody listens: these services are not called.
ENDPOINT = "127.0.0.1:9"
IMAGE = f"registry.example/volt/search@sha256:{'ab' * 32}"
_BODY = """
message Ask {{ string text = 1 [(buf.validate.field).string.max_len = 100]; }}
message Found {{
  {item} name = 1;
  {more}
}}
"""
_HEADER = """
syntax = "proto3";
package {package};
import "buf/validate/validate.proto";
import "gem/options/v1/options.proto";
"""


def request_of(method: str, **fields: Any) -> Any:
    """Make the request of a method; a command without `request_id` gets a fresh one."""
    name = f"{method}Request"
    (kind,) = [getattr(module, name) for module in _MODULES if hasattr(module, name)]
    if "request_id" in kind.DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", new_request_id())
    return kind(**fields)


async def ask(party: Party, method: str, **fields: Any) -> Any:
    """Call a method of ServiceRegistryService."""
    return await getattr(party.core.services, method)(request_of(method, **fields), timeout=20)


async def refusal(party: Party, method: str, **fields: Any) -> aio.AioRpcError:
    """Call a method that must be refused."""
    with pytest.raises(aio.AioRpcError) as refused:
        await ask(party, method, **fields)
    return refused.value


async def refused(party: Party, method: str, reason: str, **fields: Any) -> str:
    """Call a method that must be refused for this reason; gives the text."""
    error = await refusal(party, method, **fields)
    assert reason_of(error) == reason
    return error.details() or ""


def blocking(error: aio.AioRpcError) -> list[str]:
    """Give the contracts that a refusal lists."""
    return list(detail_of(error, partner_service_pb2.BlockingContracts).contract_ids)


def registration(party: Party, **fields: Any) -> dict[str, Any]:
    """Give the fields of a registration."""
    plan = ServicePlan(party.partner_id, "A service", EVSE_SEARCH, ENDPOINT).request()
    values = {field.name: value for field, value in plan.ListFields()}
    return {**values, "request_id": new_request_id(), **fields}


async def registered(party: Party, **fields: Any) -> Any:
    """Register a service; gives it."""
    return (await ask(party, "RegisterService", **registration(party, **fields))).service


async def published(party: Party, **fields: Any) -> Any:
    """Register and publish a service, both as its provider; gives it."""
    made = await registered(party, **fields)
    return (await ask(party, "PublishService", service_id=made.service_id)).service


def state_of(service: Any) -> str:
    """Give the state by name."""
    return ServiceState.Name(service.state).removeprefix("SERVICE_STATE_")


async def kinds(party: Party) -> list[str]:
    """Give the kinds of a party's notices, the oldest first."""
    request = notification_service_pb2.ListNotificationsRequest()
    stub = NotificationServiceStub(party.core.channel)
    found = (await stub.ListNotifications(request, timeout=10)).notifications
    prefix = "NOTIFICATION_KIND_"
    return [NotificationKind.Name(each.kind).removeprefix(prefix) for each in reversed(found)]


async def publish_version(
    whole: WholeMarket, package: str, *, item: str = "string", more: str = ""
) -> str:
    """Publish the next version of a small interface; gives its name."""
    body = _BODY.format(item=item, more=more) + service(rpc(route="ROUTE_ONE"))
    await whole.technical.core.publish_interface(descriptor_set(body, package, header=_HEADER))
    return f"{package}.S"
