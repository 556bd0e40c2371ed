"""Puts settlement and tariffs into the clearing house's server."""

from __future__ import annotations

from clearinghouse.settlement_servicer import SettlementServicer
from clearinghouse.storage import Pool
from clearinghouse.storage_settlement import SettlementStorage
from clearinghouse.storage_tariff import TariffStorage
from clearinghouse.tariff_servicer import TariffServicer
from gem.roaming.v1 import (
    settlement_service_pb2,
    settlement_service_pb2_grpc,
    tariff_service_pb2,
    tariff_service_pb2_grpc,
)
from interceptors.provider_server import ProviderServer

#: Full names of the services, for the health service.
SERVICES = (
    settlement_service_pb2.DESCRIPTOR.services_by_name["SettlementService"].full_name,
    tariff_service_pb2.DESCRIPTOR.services_by_name["TariffService"].full_name,
)


def add_settlement(server: ProviderServer, pool: Pool, house_id: str) -> None:
    """Add SettlementService and TariffService; `house_id` is the clearing house's partner id."""
    settlement = SettlementServicer(SettlementStorage(pool), house_id)
    settlement_service_pb2_grpc.add_SettlementServiceServicer_to_server(settlement, server.server)
    tariffs = TariffServicer(TariffStorage(pool))
    tariff_service_pb2_grpc.add_TariffServiceServicer_to_server(tariffs, server.server)
