"""What the parts of `ClearingContractService` have in common."""

from __future__ import annotations

from clearinghouse.parts import Parts
from gem.roaming.v1 import clearing_contract_service_pb2_grpc as services


class ContractRpcs(services.ClearingContractServiceServicer):
    """Holds what every rpc works with."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
