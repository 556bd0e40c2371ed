"""Puts settlement and tariffs into the clearing house's server."""

from __future__ import annotations

from typing import Protocol

import grpc

from clearinghouse.provider_settings import ProviderSettings
from clearinghouse.settlement_servicer import SettlementServicer
from clearinghouse.storage import Pool
from clearinghouse.storage_settlement import SettlementStorage
from clearinghouse.storage_tariff import TariffStorage
from clearinghouse.tariff_servicer import TariffServicer
from gem.roaming.v1 import settlement_service_pb2_grpc, tariff_service_pb2_grpc


class SettlementParts(Protocol):
    """What they need of the clearing house's parts."""

    @property
    def settings(self) -> ProviderSettings: ...
    @property
    def pool(self) -> Pool: ...


def add_settlement(server: grpc.aio.Server, parts: SettlementParts) -> None:
    """Add `gem.roaming.v1.SettlementService`."""
    servicer = SettlementServicer(SettlementStorage(parts.pool), parts.settings.partner_id)
    settlement_service_pb2_grpc.add_SettlementServiceServicer_to_server(servicer, server)


def add_tariffs(server: grpc.aio.Server, parts: SettlementParts) -> None:
    """Add `gem.roaming.v1.TariffService`."""
    servicer = TariffServicer(TariffStorage(parts.pool))
    tariff_service_pb2_grpc.add_TariffServiceServicer_to_server(servicer, server)
