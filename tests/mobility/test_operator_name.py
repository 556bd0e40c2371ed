"""Partner, operator and EVSE ids that follow from a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.identifiers import PartnerId, owner_key
from mobility.operator_name import OperatorIds, name_key, operator_id_of, partner_id_of

names = st.text(min_size=1, max_size=128).filter(lambda name: name.strip() != "")


@pytest.mark.parametrize("country", ["", "D", "DEU", "D1", "Ü!"])
def test_an_operator_id_needs_a_country_of_two_letters(country: str) -> None:
    with pytest.raises(ValueError, match="two letters"):
        operator_id_of("EnBW", country)


def test_an_id_that_belongs_to_another_is_not_given_away() -> None:
    first = operator_id_of("EnBW", "DE")
    second = operator_id_of("EnBW", "DE", taken={first})
    assert second != first
    assert OperatorIds({"other": [first]}).of("EnBW", "DE") == second


def test_a_name_keeps_the_id_it_has() -> None:
    ids = OperatorIds({name_key("EnBW"): ["DE*ENB"]})
    assert ids.of("enbw", "de") == "DE*ENB"
    assert ids.of("EnBW", "AT") == operator_id_of("EnBW", "AT")


@pytest.mark.parametrize(("one", "other"), [("E.ON", "e-on"), ("RWE Effizienz", "RWE-Effizienz")])
def test_spellings_of_one_name_are_one_operator(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)
    assert operator_id_of(one, "DE") == operator_id_of(other, "DE")


@pytest.mark.parametrize(
    ("name", "partner_id"),
    [
        ("EnBW", "enbw"),
        ("Tesla Motors Inc.", "tesla-motors-inc"),
        ("ČEZ", "cez"),
        ("Stadtwerke Gießen", "stadtwerke-giessen"),
        ("Stadtwerke Mainz / Daimler", "stadtwerke-mainz-daimler"),
    ],
)
def test_a_partner_id_reads_like_the_name(name: str, partner_id: str) -> None:
    assert partner_id_of(name) == partner_id


@given(names)
def test_every_name_has_a_partner_id_and_an_operator_id_that_are_valid(name: str) -> None:
    PartnerId.parse(partner_id_of(name))
    owner_key(operator_id_of(name, "DE"))


@given(names, names)
def test_different_operators_have_different_partner_ids(one: str, other: str) -> None:
    if name_key(one) != name_key(other):
        assert partner_id_of(one) != partner_id_of(other)
