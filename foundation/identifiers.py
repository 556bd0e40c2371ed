"""Identifiers of the field: read wide, written strict, compared without separators and case.

Sources: ISO 15118 and the eMI3 identifier rules (EVSE id, contract id), DIN SPEC 91286 (older forms
of both); the check character is in `foundation.check_character`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from foundation.check_character import din_check_character, iso_check_character

#: A partner id is a DNS label of at most 40 characters: it is part of the provider's host name.
PARTNER_ID_PATTERN = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"

_PARTNER_ID = re.compile(PARTNER_ID_PATTERN)
_OWNER = re.compile(r"([A-Za-z]{2})[*-]?([A-Za-z0-9]{3})")
_EVSE = re.compile(r"([A-Z]{2})(\*?)([A-Z0-9]{3})\2E([A-Z0-9*]{1,31})")
_EVSE_DIN = re.compile(r"\+([0-9]{2,3})\*([0-9]{3})\*([0-9*]{1,31})")
#: Country, provider, instance, check character: of ISO and eMI3, and of DIN.
_CONTRACT = re.compile(r"([A-Z]{2})(-?)([A-Z0-9]{3})\2([A-Z0-9]{9})(?:\2([A-Z0-9]))?")
_CONTRACT_DIN = re.compile(r"([A-Z]{2})([-*]?)([A-Z0-9]{3})\2([A-Z0-9]{6})(?:\2([0-9X]))?")
#: No spelling of an identifier is longer.
_MAX_LENGTH = 64
#: Telephone prefixes of ITU-T E.164 as the DIN form of an EVSE id uses them.
_COUNTRY_OF_PREFIX = {
    "30": "GR", "31": "NL", "32": "BE", "33": "FR", "34": "ES", "36": "HU", "39": "IT",
    "40": "RO", "41": "CH", "43": "AT", "44": "GB", "45": "DK", "46": "SE", "47": "NO",
    "48": "PL", "49": "DE", "90": "TR", "351": "PT", "352": "LU", "353": "IE", "354": "IS",
    "356": "MT", "357": "CY", "358": "FI", "359": "BG", "370": "LT", "371": "LV", "372": "EE",
    "380": "UA", "385": "HR", "386": "SI", "420": "CZ", "421": "SK", "423": "LI",
}  # fmt: skip


class CheckPolicy(Enum):
    """What a wrong check character of a contract id means; published samples have wrong ones."""

    #: The character is not looked at.
    OFF = "off"
    #: The id is taken, and says that its character is wrong.
    WARN = "warn"
    #: The id is refused.
    STRICT = "strict"


def owner_key(identifier: str) -> str:
    """Give the key under which an operator or provider id is compared: `DE*abc` gives `DEABC`.

    Raises ValueError unless it is a country of two letters and three letters or digits.
    """
    match = _OWNER.fullmatch(identifier)
    if match is None:
        raise ValueError("an operator or provider id is a country and three characters, DE*ABC")
    return (match[1] + match[2]).upper()


@dataclass(frozen=True, slots=True)
class PartnerId:
    """Names a business partner in the market, in certificates and in host names."""

    value: str

    def __post_init__(self) -> None:
        if _PARTNER_ID.fullmatch(self.value) is None:
            raise ValueError("a partner id has 1 to 40 of a-z, 0-9 and inner hyphens")

    @classmethod
    def parse(cls, text: str) -> PartnerId:
        """Read a partner id; there is one spelling only. Raises ValueError."""
        return cls(text)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class EvseId:
    """Names one EVSE: country, operator, `E`, outlet. Two spellings of one id are equal."""

    #: Country and operator without separators, as `owner_key` gives it: `DEABC`.
    operator_id: str
    #: The whole id without separators, upper case: `DEABCE1234`.
    key: str
    #: The outlet as it is written, single asterisks inside, without the leading `E`.
    outlet: str = field(compare=False)

    @classmethod
    def parse(cls, text: str) -> EvseId:
        """Read an EVSE id in the form of ISO 15118 or DIN SPEC 91286. Raises ValueError.

        An asterisk right after the `E` and outlets of 31 characters occur and are accepted.
        """
        country, operator, outlet = _evse_parts(_tidy(text))
        outlet = re.sub(r"\*+", "*", outlet).strip("*")
        bare = outlet.replace("*", "")
        if not bare:
            raise ValueError("an EVSE id names an outlet after the E")
        if len(outlet) > 30:
            outlet = bare
        operator_id = country + operator
        return cls(operator_id, f"{operator_id}E{bare}", outlet)

    def __str__(self) -> str:
        """Give the strict spelling: `DE*ABC*E1234*5678`."""
        return f"{self.operator_id[:2]}*{self.operator_id[2:]}*E{self.outlet}"


def _tidy(text: str) -> str:
    """Take away what is no part of any spelling; text that is too long becomes none at all."""
    return text.strip().upper() if len(text) <= _MAX_LENGTH else ""


def _evse_parts(text: str) -> tuple[str, str, str]:
    """Give country, operator and outlet of either form."""
    match = _EVSE.fullmatch(text)
    if match is not None:
        return match[1], match[3], match[4]
    match = _EVSE_DIN.fullmatch(text)
    if match is None or match[1] not in _COUNTRY_OF_PREFIX:
        raise ValueError("an EVSE id is country, operator, E and outlet: DE*ABC*E1234")
    return _COUNTRY_OF_PREFIX[match[1]], match[2], match[3]


@dataclass(frozen=True, slots=True)
class ContractId:
    """Names a customer's contract (eMAID): country, provider, instance, perhaps a check character.

    Equal without separators, case and check character. The character is kept as it was given: the
    provider that issued the id may compare it.
    """

    #: Country and provider without separators, as `owner_key` gives it: `NLTNM`.
    provider_id: str
    #: The nine characters of the instance; eMI3's begin with `C`.
    instance: str
    #: The check character as given; None where there was none.
    check_character: str | None = field(default=None, compare=False)

    @classmethod
    def parse(cls, text: str, policy: CheckPolicy = CheckPolicy.WARN) -> ContractId:
        """Read a contract id of ISO 15118, eMI3 or DIN SPEC 91286; the last is turned into ISO's.

        Raises ValueError, also for a wrong check character where the policy is STRICT.
        """
        text = _tidy(text)
        match = _CONTRACT.fullmatch(text)
        if match is not None:
            identifier = cls(match[1] + match[3], match[4], match[5])
            # Computing it takes longer than all the rest.
            right = policy is not CheckPolicy.STRICT or identifier.is_check_right
        else:
            identifier, right = _contract_of_din(text)
        if policy is CheckPolicy.STRICT and not right:
            raise ValueError("the check character of the contract id is wrong")
        return identifier

    @property
    def key(self) -> str:
        """The fourteen characters that are compared: `NLTNMC00122045`."""
        return self.provider_id + self.instance

    @property
    def is_check_right(self) -> bool:
        """Whether the check character is right; an id without one has none that is wrong."""
        return self.check_character in (None, iso_check_character(self.key))

    def with_check(self) -> ContractId:
        """Give the same id with the check character that belongs to it."""
        return ContractId(self.provider_id, self.instance, iso_check_character(self.key))

    def as_emi3(self) -> ContractId:
        """Give eMI3's form of an id that came from DIN; others are given back as they are."""
        if not self.instance.startswith("00"):
            return self
        return ContractId(self.provider_id, "C" + self.instance[1:]).with_check()

    def __str__(self) -> str:
        """Give the strict spelling: `NL-TNM-C00122045-K`."""
        text = f"{self.provider_id[:2]}-{self.provider_id[2:]}-{self.instance}"
        return text if self.check_character is None else f"{text}-{self.check_character}"


def _contract_of_din(text: str) -> tuple[ContractId, bool]:
    """Turn DIN's form, six characters and a check, into ISO's; say whether its check was right."""
    match = _CONTRACT_DIN.fullmatch(text)
    if match is None:
        raise ValueError("a contract id is country, provider and instance: NL-TNM-C00122045-K")
    provider_id = match[1] + match[3]
    computed = din_check_character(provider_id + match[4])
    given = match[5] or computed
    return ContractId(provider_id, f"00{match[4]}{given}").with_check(), given == computed
