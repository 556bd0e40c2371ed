"""What follows from the name of an operator whose data brings no identifiers of its own.

Everything here is a pure function of the name, so that an import on another day or machine gives
the same partner, operator id and EVSE ids.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Container, Iterable, Mapping

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PARTNER_ID_LENGTH = 40
#: Probes of `operator_id_of` before it gives up; 46,656 ids exist in a country.
_MOST_PROBES = 1000

#: Letters that do not decompose into a base letter and a mark.
_SPELLED = str.maketrans({"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d"})


def _folded(text: str) -> str:
    """Give the text in lower case without accents: `ČEZ` becomes `cez`."""
    spelled = text.casefold().translate(_SPELLED)
    parts = unicodedata.normalize("NFKD", spelled)
    return "".join(part for part in parts if not unicodedata.combining(part))


def name_key(name: str) -> str:
    """Give what two spellings of one operator's name share: `E.ON` and `e-on` are both `eon`.

    A name without any letter or digit has its code points as key, so that no two such names meet.
    """
    key = "".join(letter for letter in _folded(name) if letter.isalnum())
    return key or "-".join(f"{ord(letter):x}" for letter in name.strip())


def partner_id_of(name: str) -> str:
    """Give the partner id, a DNS label, under which an operator of that name serves.

    A name that has no spelling in a DNS label, or too long a one, ends in a digest of its key.
    """
    label = "-".join(re.findall(r"[a-z0-9]+", _folded(name)))
    if label and len(label) <= _PARTNER_ID_LENGTH and name_key(name).isascii():
        return label
    digest = hashlib.sha256(name_key(name).encode()).hexdigest()[:8]
    return f"{label[: _PARTNER_ID_LENGTH - 9].rstrip('-') or 'operator'}-{digest}"


def base36(raw: bytes, length: int) -> str:
    """Give the first `length` base-36 characters that stand for a digest."""
    number = int.from_bytes(raw, "big")
    characters = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        characters.append(_ALPHABET[digit])
    return "".join(characters)


def operator_id_of(name: str, country_code: str, taken: Container[str] = ()) -> str:
    """Derive the operator id, for instance `DE*7QK`, of an operator that brings none.

    `taken` holds ids that belong to other operators; the next probe of the name's digests is used
    instead.

    Raises:
        ValueError: the country code is not two letters, or no free id was found.
    """
    country = country_code.upper()
    if not re.fullmatch(r"[A-Z]{2}", country):
        raise ValueError("a country code is two letters")
    for probe in range(_MOST_PROBES):
        digest = hashlib.sha256(f"{name_key(name)}\n{probe}".encode()).digest()
        operator_id = f"{country}*{base36(digest, 3)}"
        if operator_id not in taken:
            return operator_id
    raise ValueError("no operator id is free for this name")


class OperatorIds:
    """Operator ids of operators by name: known ones, and for others a derived one each."""

    def __init__(self, known: Mapping[str, Iterable[str]] | None = None) -> None:
        """Start from the ids, for instance `DE*ABC`, that are known for keys of names."""
        self._by_name: dict[tuple[str, str], str] = {}
        for key, operator_ids in (known or {}).items():
            for operator_id in operator_ids:
                self._by_name.setdefault((key, operator_id[:2]), operator_id)
        self._taken = set(self._by_name.values())

    def of(self, name: str, country_code: str) -> str:
        """Give the operator id of an operator in a country; the same each time.

        Raises ValueError as `operator_id_of` does.
        """
        place = (name_key(name), country_code.upper())
        if place not in self._by_name:
            operator_id = operator_id_of(name, country_code, self._taken)
            self._by_name[place] = operator_id
            self._taken.add(operator_id)
        return self._by_name[place]
