"""Tokens of OCPI as customer contracts, and back. One contract has many tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from clearinghouse.ocpi_values import given, kind_word, party_of, read_kind, time_text
from foundation.identifiers import CheckPolicy, ContractId
from foundation.import_report import DefectReport, Place
from foundation.json_reader import Node
from foundation.ocpi_file import timestamp_of
from foundation.ocpi_version import OcpiVersion
from gem.roaming.v1.clearing_contract_pb2 import ClearingContractState, CustomerContract
from gem.roaming.v1.identification_pb2 import Token, TokenStatus, WhitelistPolicy

#: The later one is the stricter one.
_POLICIES = ("ALWAYS", "ALLOWED", "ALLOWED_OFFLINE", "NEVER")
_LONGEST_UID = 36


def read_token(node: Node, version: OcpiVersion) -> CustomerContract | None:
    """Read a token as a contract with it alone; None, noted, where it names nobody."""
    uid, contract_id = node.text("uid", 64), node.text("contract_id", 40)
    if uid is None or contract_id is None:
        return None
    token = Token(
        kind=read_kind(node, version),
        token_uid=uid,
        visual_number=node.text("visual_number", 64) or "",
        status=TokenStatus.TOKEN_STATUS_BLOCKED,
    )
    valid = node.flag("valid")
    if valid is None:
        node.wrong("valid", "missing", "whether it may be used is not said; taken as blocked")
    elif valid:
        token.status = TokenStatus.TOKEN_STATUS_VALID
    contract = CustomerContract(
        contract_id=contract_id,
        tokens=[token],
        whitelist_policy=_read_policy(node),
        state=ClearingContractState.CLEARING_CONTRACT_STATE_ACTIVE,
        language=node.text("language", 16) or "",
    )
    changed = timestamp_of(node, "last_updated")
    if changed is not None:
        contract.changed_time.CopyFrom(changed)
    return contract


def write_tokens(contract: CustomerContract, version: OcpiVersion) -> list[dict[str, Any]]:
    """Write the tokens of a contract. One that is known by its hash alone is named by the hash."""
    policy = WhitelistPolicy.Name(contract.whitelist_policy).removeprefix("WHITELIST_POLICY_")
    active = contract.state == ClearingContractState.CLEARING_CONTRACT_STATE_ACTIVE
    return [
        {
            **party_of(contract.contract_id),
            "uid": token.token_uid or token.token_hash.hex()[:_LONGEST_UID],
            "type": kind_word(token.kind, version),
            "contract_id": contract.contract_id,
            **given(visual_number=token.visual_number, issuer=contract.evsp_partner_id),
            "valid": active and token.status == TokenStatus.TOKEN_STATUS_VALID,
            "whitelist": policy,
            **given(language=contract.language),
            **(
                {"last_updated": time_text(contract.changed_time)}
                if contract.HasField("changed_time")
                else {}
            ),
        }
        for token in contract.tokens
    ]


def as_contracts(
    tokens: Iterable[tuple[Place, CustomerContract]], report: DefectReport
) -> Iterator[CustomerContract]:
    """Put the tokens of each contract together, in the form of a request.

    Of different policies the strictest holds, which is noted; so is a token that comes twice.
    """
    contracts: dict[str, CustomerContract] = {}
    for at, read in tokens:
        (token,) = read.tokens
        contract = contracts.setdefault(_contract_key(read.contract_id), read)
        contract.ClearField("changed_time")
        if contract is read:
            continue
        if contract.whitelist_policy != read.whitelist_policy:
            report.keep(at / "whitelist", "whitelist.differs", "the contract's strictest holds")
            policies = (contract.whitelist_policy, read.whitelist_policy)
            contract.whitelist_policy = max(policies)
        if any((t.kind, t.token_uid) == (token.kind, token.token_uid) for t in contract.tokens):
            report.skip(at, "uid.duplicate", "a token before this one is the same")
            continue
        contract.tokens.append(token)
    yield from contracts.values()


def _contract_key(contract_id: str) -> str:
    """Give what contract ids are compared by; one that follows no standard is compared as text."""
    try:
        return ContractId.parse(contract_id, CheckPolicy.OFF).key
    except ValueError:
        return contract_id.upper()


def _read_policy(node: Node) -> WhitelistPolicy.ValueType:
    word = node.text("whitelist", 32, required=True) or ""
    if word not in _POLICIES:
        node.wrong("whitelist", "unknown", "not a kind of whitelisting; taken as NEVER")
        word = "NEVER"
    return WhitelistPolicy.Value(f"WHITELIST_POLICY_{word}")
