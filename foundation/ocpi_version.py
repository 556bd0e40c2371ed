"""The versions of OCPI that are spoken, and all in which they differ."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OcpiVersion:
    """One version of OCPI, by what it does otherwise than the other."""

    name: str
    #: Member of an amount without tax.
    before_tax: str
    #: Member of an amount with tax: in a cost, where it has one, and in a tariff's limit.
    cost_after_tax: str | None
    limit_after_tax: str
    #: Whether a cost lists its taxes.
    lists_taxes: bool
    #: Whether a tariff says if its prices contain tax.
    tariff_says_tax: bool
    #: Word for a vehicle that identifies itself; None where there is none.
    plug_and_charge: str | None


V2_2_1 = OcpiVersion(
    name="2.2.1",
    before_tax="excl_vat",
    cost_after_tax="incl_vat",
    limit_after_tax="incl_vat",
    lists_taxes=False,
    tariff_says_tax=False,
    plug_and_charge=None,
)
V2_3_0 = OcpiVersion(
    name="2.3.0",
    before_tax="before_taxes",
    cost_after_tax=None,
    limit_after_tax="after_taxes",
    lists_taxes=True,
    tariff_says_tax=True,
    plug_and_charge="EMAID",
)
VERSIONS = {version.name: version for version in (V2_2_1, V2_3_0)}
