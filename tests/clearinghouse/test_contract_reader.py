"""What EVSPs send of their customers, as it is read, compared and given back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.customer_contract import (
    ContractDraft,
    ContractReader,
    HeldTokenRow,
    HeldVersion,
    RefusedDraft,
    render_contract,
)
from clearinghouse.instants import ALWAYS_SINCE, ALWAYS_UNTIL
from clearinghouse.token_hash import TokenHashing
from foundation.errors import MarketError
from foundation.identifiers import CheckPolicy
from gem.common.v1.time_range_pb2 import TimeRange
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1.identification_pb2 import IdentificationKind
from tests.clearinghouse.house import CARD, card, contract

pytestmark = pytest.mark.usecase(1514, 1515)

HASHING = TokenHashing(b"k" * 32)
READER = ContractReader(HASHING, CheckPolicy.WARN)
GUEST = IdentificationKind.IDENTIFICATION_KIND_GUEST
#: Beyond what any calendar has.
NEVER = Timestamp(seconds=400_000_000_000)


def field_of(held: wire.CustomerContract, reader: ContractReader = READER) -> str:
    """Give the field for which a contract is refused."""
    with pytest.raises(MarketError) as caught:
        reader.read(held)
    (violation,) = caught.value.violations
    return violation.field


def held_version(draft: ContractDraft) -> HeldVersion:
    """Give a draft as it is stored."""
    tokens = [
        HeldTokenRow(
            token.token_hash, token.kind, token.visual_number, token.status, token.expires_at
        )
        for token in draft.tokens
    ]
    return HeldVersion(
        evsp_id="evsp",
        contract_key=draft.contract_key,
        version_number=1,
        active=draft.active,
        content=draft.content,
        limits=draft.limits,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        tokens=tokens,
    )


@pytest.mark.parametrize(
    ("held", "field"),
    [
        (contract(""), "contract.contract_id"),
        (contract("DE-EVS-C0000000"), "contract.contract_id"),
        (contract("DE-EVS-C00000001", card("12")), "contract.tokens[0].token_uid"),
        (contract("DE-EVS-C00000001", card(""), card()), "contract.tokens[0]"),
        (contract("DE-EVS-C00000001", card("", token_hash=b"12")), "contract.tokens[0]"),
        (contract("DE-EVS-C00000001", card(), card()), "contract.tokens[1]"),
        (contract("DE-EVS-C00000001", card("1", kind=GUEST)), "contract.tokens[0].expiry_time"),
        (
            contract("DE-EVS-C00000001", card(expiry_time=NEVER)),
            "contract.tokens[0].expiry_time",
        ),
        (contract(validity=TimeRange(start_time=NEVER)), "contract.validity.start_time"),
        (contract(validity=TimeRange(end_time=NEVER)), "contract.validity.end_time"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(held: wire.CustomerContract, field: str) -> None:
    assert field_of(held) == field
    refused = READER.try_read(held)
    assert isinstance(refused, RefusedDraft)
    assert refused.field == field.removeprefix("contract.")
    assert refused.description
    known = "" if field == "contract.contract_id" else "DEEVSC00000001"
    assert refused.contract_key == known


def test_a_wrong_check_character_is_a_matter_of_policy() -> None:
    wrong = contract("NL-TST-C12345678-A")
    strict = ContractReader(HASHING, CheckPolicy.STRICT)
    assert field_of(wrong, strict) == "contract.contract_id"
    assert READER.read(wrong).contract_key == "NLTSTC12345678"
    assert strict.read(contract("NL-TST-C12345678-S")).contract_id == "NL-TST-C12345678-S"


def test_spellings_of_one_contract_and_card_are_one_content() -> None:
    plain = READER.read(contract("DE-EVS-C00000001", card("04A1B2C3")))
    other = READER.read(contract("deevsc00000001", card("04:a1:b2:c3")))
    assert plain == other
    # Whose DIN form it is: the same customer.
    assert READER.key("DE-8AA-012204-5") == READER.read(contract("DE*8AA*012204*5")).contract_key


def test_nothing_plain_is_in_what_is_stored() -> None:
    draft = READER.read(contract(customer_secret="open sesame"))
    assert CARD not in repr(draft)
    assert "sesame" not in repr(draft)
    assert draft.secret_hash != READER.read(contract(customer_secret="other")).secret_hash
    assert READER.read(contract()).secret_hash is None


def test_an_unset_level_lets_roam_and_a_set_one_says_so() -> None:
    assert READER.read(contract()).roaming_allowed
    assert not READER.read(contract(service_level=wire.ServiceLevel())).roaming_allowed
    level = wire.ServiceLevel(roaming_allowed=True)
    assert READER.read(contract(service_level=level)).roaming_allowed


def test_open_ends_are_always() -> None:
    draft = READER.read(contract())
    assert (draft.valid_from, draft.valid_until) == (ALWAYS_SINCE, ALWAYS_UNTIL)
    assert draft.tokens[0].expires_at == ALWAYS_UNTIL


_contracts = st.builds(
    lambda number, uids, status, language, level: contract(
        f"DE-EVS-C{number:08d}",
        *[card(f"{uid:08X}", status) for uid in uids] or [card()],
        language=language,
        service_level=None if level is None else wire.ServiceLevel(max_power_w=level),
    ),
    st.integers(0, 99_999_999),
    st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=4),
    st.sampled_from(["VALID", "BLOCKED", "NO_CREDIT"]),
    st.sampled_from(["", "de", "en-GB"]),
    st.none() | st.integers(0, 10_000_000),
)


@given(_contracts)
def test_what_is_stored_and_read_again_is_the_same_content(held: wire.CustomerContract) -> None:
    draft = READER.read(held)
    shown = render_contract(held_version(draft))
    assert not any(token.token_uid for token in shown.tokens)
    again = READER.read(shown)
    assert all(token.kept for token in again.tokens)
    assert again.digest == draft.digest
    plain = replace(again, tokens=tuple(replace(token, kept=False) for token in again.tokens))
    assert plain == draft


@given(_contracts, _contracts)
def test_contents_are_equal_exactly_where_their_digests_are(
    one: wire.CustomerContract, other: wire.CustomerContract
) -> None:
    def content(draft: ContractDraft) -> Any:
        return draft.content, sorted(draft.tokens, key=lambda token: token.token_hash)

    first, second = READER.read(one), READER.read(other)
    assert (first.digest == second.digest) == (content(first) == content(second))


def test_the_order_of_tokens_is_no_content() -> None:
    one, two = card("00000001"), card("00000002")
    first = READER.read(contract("DE-EVS-C00000001", one, two))
    assert first.digest == READER.read(contract("DE-EVS-C00000001", two, one)).digest
