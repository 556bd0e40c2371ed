"""`gem.roaming.v1.ClearingContractService`, put together."""

from __future__ import annotations

from clearinghouse.agreement_servicer import AgreementServicer
from clearinghouse.blacklist_servicer import BlacklistServicer
from clearinghouse.contract_load_servicer import ContractLoadServicer
from clearinghouse.customer_contract_servicer import CustomerContractServicer
from clearinghouse.explanation_servicer import ExplanationServicer


class ClearingContractServicer(
    AgreementServicer,
    CustomerContractServicer,
    ContractLoadServicer,
    ExplanationServicer,
    BlacklistServicer,
):
    """Serves every rpc of the interface; each base has the rpcs of one subject."""
