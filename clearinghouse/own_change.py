"""What a customer changes of his contract himself, within what his EVSP allows (use case 1517).

Pure: gives the contract as it shall be, or refuses.
"""

from __future__ import annotations

from clearinghouse.customer_contract import HeldTokenRow, HeldVersion, render_contract
from clearinghouse.refusals import invalid, not_found, not_in_this_state
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1.clearing_contract_service_pb2 import ChangeOwnContractRequest
from gem.roaming.v1.identification_pb2 import TokenStatus

_BLOCK = wire.CUSTOMER_CHANGE_BLOCK_TOKEN
_UNBLOCK = wire.CUSTOMER_CHANGE_UNBLOCK_TOKEN
_ROAMING = wire.CUSTOMER_CHANGE_ROAMING
_SERVICES = wire.CUSTOMER_CHANGE_VALUE_ADDED_SERVICES
_LANGUAGE = wire.CUSTOMER_CHANGE_LANGUAGE
_LIMITS = wire.CUSTOMER_CHANGE_LIMITS


def changed_by_customer(
    held: HeldVersion, request: ChangeOwnContractRequest
) -> wire.CustomerContract:
    """Give the contract after the change.

    Raises:
        MarketError: ROLE_NOT_ALLOWED where the EVSP lets its customer not change this;
            STATE_NOT_ALLOWED for a token that he did not block; NOT_FOUND for one he has not;
            REQUEST_INVALID for more than the EVSP's contract gives.
    """
    contract = render_contract(held)
    change = request.WhichOneof("change")
    if change == "block_token_hash":
        _check_allowed(contract, _BLOCK)
        _token_of(held, request.block_token_hash)
        _set_status(contract, request.block_token_hash, TokenStatus.TOKEN_STATUS_BLOCKED)
    elif change == "unblock_token_hash":
        _check_allowed(contract, _UNBLOCK)
        if not _token_of(held, request.unblock_token_hash).blocked_by_customer:
            raise not_in_this_state("Only a token that its customer blocked can he unblock.")
        _set_status(contract, request.unblock_token_hash, TokenStatus.TOKEN_STATUS_VALID)
    elif change == "roaming_allowed":
        _check_allowed(contract, _ROAMING)
        _set_roaming(contract, held, request.roaming_allowed)
    elif change == "language":
        _check_allowed(contract, _LANGUAGE)
        contract.language = request.language
    else:
        _set_level(contract, held, request.service_level)
    return contract


def limits_of(held: HeldVersion) -> wire.ServiceLevel | None:
    """Give the level within which the customer may choose; None where the EVSP set none."""
    limits = wire.CustomerContract.FromString(held.limits or b"")
    return limits.service_level if limits.HasField("service_level") else None


def _check_allowed(contract: wire.CustomerContract, change: int) -> None:
    if change not in contract.customer_changes:
        raise MarketError(
            ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
            "The EVSP does not let its customer change this.",
        )


def _token_of(held: HeldVersion, token_hash: bytes) -> HeldTokenRow:
    for token in held.tokens:
        if token.token_hash == token_hash:
            return token
    raise not_found("token")


def _set_status(
    contract: wire.CustomerContract, token_hash: bytes, status: TokenStatus.ValueType
) -> None:
    for token in contract.tokens:
        if token.token_hash == token_hash:
            token.status = status


def _set_roaming(contract: wire.CustomerContract, held: HeldVersion, wanted: bool) -> None:
    limits = limits_of(held)
    if wanted and limits is not None and not limits.roaming_allowed:
        raise invalid("roaming_allowed", "not more than the EVSP's contract gives", "limits")
    if limits is None and not contract.HasField("service_level"):
        contract.service_level.roaming_allowed = True
    contract.service_level.roaming_allowed = wanted


def _set_level(
    contract: wire.CustomerContract, held: HeldVersion, wanted: wire.ServiceLevel
) -> None:
    """Take the chosen part of a service level, each part where it may be chosen."""
    limits = limits_of(held) or wire.ServiceLevel(roaming_allowed=True)
    level = contract.service_level if contract.HasField("service_level") else limits
    if set(wanted.value_added_services) != set(level.value_added_services):
        _check_allowed(contract, _SERVICES)
        if not set(wanted.value_added_services) <= set(limits.value_added_services):
            raise invalid("service_level.value_added_services", "within the contract", "limits")
    for name in ("max_power_w", "max_energy_wh"):
        if getattr(wanted, name) != getattr(level, name):
            _check_allowed(contract, _LIMITS)
            if not _within(getattr(wanted, name), getattr(limits, name)):
                raise invalid(f"service_level.{name}", "within the contract", "limits")
    if wanted.roaming_allowed != level.roaming_allowed:
        _check_allowed(contract, _ROAMING)
        _set_roaming(contract, held, wanted.roaming_allowed)
    for name in ("minimum_level", "min_power_w"):
        if getattr(wanted, name) != getattr(level, name):
            raise invalid(f"service_level.{name}", "the EVSP's alone to set", "limits")
    contract.service_level.CopyFrom(wanted)


def _within(wanted: int, limit: int) -> bool:
    """Zero is no limit, which only a contract without one gives."""
    return limit == 0 or 0 < wanted <= limit
