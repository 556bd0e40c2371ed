from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.check_character import din_check_character, iso_check_character
from foundation.identifiers import CheckPolicy, ContractId, EvseId, PartnerId, owner_key
from tests.strategies import contract_ids, evse_ids, owner_keys, partner_ids, spelled

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DE*ABC",
        "DE*ABC*E",
        "DE*ABC*E***",
        "DE*ABC*P1234",
        "D1*ABC*E1234",
        "DE*AB*E1234",
        "DE*ABCE1234",
        "DEABC*E1234",
        "DE*ABC*E12_34",
        "DE*ABC*E" + "1" * 32,
        "DE*ABC*E1234\n*1",
        "DE*ABC*E\N{FULLWIDTH DIGIT ONE}",
        "+49*823",
        "+49*8234*1234",
        "+99*823*1234",
        "+49823*1234",
        "+49*823*" + "1" * 32,
        "DE*ABC*E1" + " " * 5_000 + "2",
    ],
)
def test_text_that_is_no_evse_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="EVSE id"):
        EvseId.parse(text)


@pytest.mark.parametrize(
    ("text", "strict"),
    [
        ("DE*ABC*E1234", "DE*ABC*E1234"),
        ("deabce1234", "DE*ABC*E1234"),
        ("DE*ABC*E*1234", "DE*ABC*E1234"),
        ("DE*ABC*E45B*78C", "DE*ABC*E45B*78C"),
        ("DE*ABC*E45B**78C*", "DE*ABC*E45B*78C"),
        (" DE*ABC*E1 ", "DE*ABC*E1"),
        ("+49*823*1234*5678", "DE*823*E1234*5678"),
        ("+420*823*1", "CZ*823*E1"),
        ("DE*ABC*E*" + "1" * 30, "DE*ABC*E" + "1" * 30),
        ("DE*ABC*E1*" + "1" * 29, "DE*ABC*E" + "1" * 30),
        ("DE*ABC*E" + "1" * 31, "DE*ABC*E" + "1" * 31),
    ],
)
def test_an_evse_id_is_read_wide_and_written_strict(text: str, strict: str) -> None:
    identifier = EvseId.parse(text)
    assert str(identifier) == strict
    assert EvseId.parse(strict) == identifier


def test_an_evse_id_says_which_operator_it_belongs_to() -> None:
    assert EvseId.parse("de*8Aa*e1").operator_id == owner_key("DE*8AA")


def test_evse_ids_of_different_outlets_differ() -> None:
    assert EvseId.parse("DE*ABC*E12*3") == EvseId.parse("DE*ABC*E1*23")
    assert EvseId.parse("DE*ABC*E12*3") != EvseId.parse("DE*ABC*E12*4")


@given(st.data(), evse_ids())
def test_every_spelling_of_an_evse_id_is_the_same_id(data: st.DataObject, text: str) -> None:
    other = data.draw(spelled(st.just(text), "*"))
    assert EvseId.parse(other) == EvseId.parse(text)
    assert hash(EvseId.parse(other)) == hash(EvseId.parse(text))
    assert str(EvseId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NL-TNM",
        "NL-TNM-0001220",
        "NL-TNM-000122045-UU",
        "NLTNM-000122045-U",
        "NL-TNM000122045",
        "NL-TNM-00012204*-U",
        "N1-TNM-000122045-U",
        "NL-TNM-C00122045-K" + "K" * 5_000,
    ],
)
def test_text_that_is_no_contract_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="contract id"):
        ContractId.parse(text)


@pytest.mark.parametrize("parse", [EvseId.parse, ContractId.parse, PartnerId.parse, owner_key])
def test_a_refusal_does_not_repeat_the_text(parse: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="id") as refusal:
        parse("DE*ABC*SECRET-1234567890")
    assert "secret" not in str(refusal.value).lower()


@pytest.mark.parametrize("text", ["NL-TNM-000122045-K", "NL-TNM-012204-4", "NL-TST-C12345678-T"])
def test_a_wrong_check_character_is_refused_only_by_the_strict_policy(text: str) -> None:
    with pytest.raises(ValueError, match="check character"):
        ContractId.parse(text, CheckPolicy.STRICT)
    for policy in (CheckPolicy.WARN, CheckPolicy.OFF):
        ContractId.parse(text, policy)


def test_an_id_with_a_wrong_check_character_is_kept_as_its_provider_wrote_it() -> None:
    identifier = ContractId.parse("NL-TNM-000122045-K")
    assert not identifier.is_check_right
    assert str(identifier) == "NL-TNM-000122045-K"
    assert str(identifier.with_check()) == "NL-TNM-000122045-U"


@pytest.mark.parametrize("text", ["NL-TST-C12345678-S", "NL-TNM-000122045-U", "NL-TNM-C00122045-K"])
def test_published_contract_ids_have_the_right_check_character(text: str) -> None:
    identifier = ContractId.parse(text, CheckPolicy.STRICT)
    assert identifier.is_check_right
    assert str(identifier) == text
    assert str(ContractId.parse(text[:-2]).with_check()) == text


def test_a_contract_id_of_din_becomes_one_of_iso_and_of_emi3() -> None:
    for spelling in ("NL-TNM-012204-5", "NL*TNM*012204*5", "nltnm0122045", "NL-TNM-012204"):
        identifier = ContractId.parse(spelling, CheckPolicy.STRICT)
        assert str(identifier) == "NL-TNM-000122045-U"
        assert str(identifier.as_emi3()) == "NL-TNM-C00122045-K"
    emi3 = ContractId.parse("NL-TNM-C00122045-K")
    assert emi3.as_emi3() is emi3


def test_a_contract_id_says_which_provider_it_belongs_to() -> None:
    assert ContractId.parse("nl-tnm-C00122045").provider_id == owner_key("NL-TNM")


def test_din_writes_ten_as_x() -> None:
    found = [number for number in range(40) if din_check_character(f"NLTNM{number:06d}") == "X"]
    assert found
    text = f"NL-TNM-{found[0]:06d}-X"
    assert ContractId.parse(text, CheckPolicy.STRICT).instance == f"00{found[0]:06d}X"


@given(st.data(), contract_ids())
def test_every_spelling_of_a_contract_id_is_the_same_id(data: st.DataObject, text: str) -> None:
    other = data.draw(spelled(st.just(text), "-"))
    assert ContractId.parse(other, CheckPolicy.STRICT) == ContractId.parse(text)
    assert ContractId.parse(text[:-2]) == ContractId.parse(text)
    assert str(ContractId.parse(text)) == text


@given(contract_ids(), st.integers(0, 13), st.sampled_from(_ALPHABET))
def test_the_check_character_shows_every_single_wrong_character(
    text: str, place: int, wrong: str
) -> None:
    bare = ContractId.parse(text).key
    changed = bare[:place] + wrong + bare[place + 1 :]
    same = iso_check_character(changed) == iso_check_character(bare)
    assert same == (changed == bare)


@given(contract_ids(), st.integers(0, 12))
def test_the_check_character_shows_every_swap_of_neighbours(text: str, place: int) -> None:
    bare = ContractId.parse(text).key
    changed = bare[:place] + bare[place + 1] + bare[place] + bare[place + 2 :]
    same = iso_check_character(changed) == iso_check_character(bare)
    assert same == (changed == bare)


@pytest.mark.parametrize(
    "text",
    ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", "a\n", "a" * 41, "a/b", "a\0b"],
)
def test_text_that_is_no_dns_label_is_no_partner_id(text: str) -> None:
    with pytest.raises(ValueError, match="partner id"):
        PartnerId.parse(text)


@given(partner_ids())
def test_a_partner_id_has_one_spelling(text: str) -> None:
    assert str(PartnerId.parse(text)) == text


@pytest.mark.parametrize("text", ["", "DE", "DE*AB", "DE*ABCD", "1E*ABC", "DE**ABC", "DE*ABC\n"])
def test_text_that_is_no_operator_id_has_no_owner_key(text: str) -> None:
    with pytest.raises(ValueError, match="operator or provider id"):
        owner_key(text)


@given(owner_keys())
def test_owners_are_compared_without_separators_and_case(key: str) -> None:
    country, rest = key[:2], key[2:]
    for spelling in (f"{country}*{rest}", f"{country}-{rest}".lower(), key):
        assert owner_key(spelling) == key
