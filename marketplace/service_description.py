"""How a service is described and found: words, image references, the registration contract."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

#: Words that one search may have.
WORDS_MAX = 8
#: Words of the dictionary that count as one that nothing has.
ALIKE_MAX = 5
#: Letters of a word of a search that counts as a part of words: a shorter one counts as a whole
#: word, and a longer one is looked for in the texts themselves.
SHORTEST_PART, LONGEST_PART = 3, 40
#: Letters of an entry of the dictionary and of the index of words, which have no room for any word.
_LONGEST_ENTRY = 80
_BETWEEN_WORDS = re.compile(r"[\W_]+")

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
#: The grammar of the OCI distribution specification, always with a registry and a digest.
_IMAGE = re.compile(
    rf"(?P<host>{_LABEL}(?:\.{_LABEL})*)(?::(?P<port>[0-9]{{1,5}}))?"
    rf"(?P<name>(?:/{_COMPONENT})+)@sha256:[0-9a-f]{{64}}"
)
_IMAGE_NAME_LONGEST = 255


@dataclass(frozen=True, slots=True)
class RegistrationContract:
    """One version of what a provider accepts with each registration."""

    version: int
    title: str
    text: str
    #: None for the first, which comes with the marketplace.
    published_at: datetime | None = None


#: In force until an operator publishes another one.
FIRST_REGISTRATION_CONTRACT = RegistrationContract(
    version=1,
    title="Service registration contract",
    text=(
        "1. The provider states truthfully what the service does, where it is hosted and by whom,"
        " and keeps the statements up to date.\n"
        "2. The service answers every call as its standard interface says, to the marketplace"
        " alone, and for no more than the price of the contract.\n"
        "3. The marketplace routes calls by contracts only, records each of them, and may stop a"
        " service that harms others.\n"
        "4. Current and pending calls are not harmed when the service is stopped, changed or"
        " ended; contracts are terminated before it is disabled.\n"
        "5. Data of requesters is used for answering their calls and for nothing else.\n"
    ),
)


def words_of(text: str) -> tuple[str, ...]:
    """Give the words of a text as they are compared: folded, without marks between them."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return tuple(word for word in _BETWEEN_WORDS.split(folded) if word)


def search_text(texts: Iterable[str]) -> str:
    """Give what is searched: the words with one space around each."""
    words = (word for text in texts for word in words_of(text))
    return f" {' '.join(words)} "


def indexed_words(searched: str) -> list[str]:
    """Give the words by which a searched text is found, each once and in order.

    One that is too long for an index is there in pieces: whatever part of it a search may be for
    is a part of one of them.
    """
    return sorted({piece for word in searched.split() for piece in _pieces(word)})


def _pieces(word: str) -> list[str]:
    starts = range(0, max(len(word) - LONGEST_PART, 1), _LONGEST_ENTRY - LONGEST_PART)
    return [word[start : start + _LONGEST_ENTRY] for start in starts]


def known_words(searched: str) -> list[str]:
    """Give the words of a searched text that the dictionary takes in, each once and in order."""
    return [word for word in indexed_words(searched) if len(word) >= SHORTEST_PART]


def search_words(text: str) -> tuple[str, ...]:
    """Give the words of a search, none for an empty one.

    Raises:
        MarketError: REQUEST_INVALID where a text has no word, or too many.
    """
    words = tuple(dict.fromkeys(words_of(text)))
    if len(words) > WORDS_MAX:
        raise refused("text", f"must have at most {WORDS_MAX} words", "words")
    if text.strip() and not words:
        raise refused("text", "must have a letter or a digit", "words")
    return words


def check_image(reference: str) -> str:
    """Give an image reference that names its content for good: registry, name and digest.

    Raises:
        MarketError: REQUEST_INVALID.
    """
    match = _IMAGE.fullmatch(reference)
    if (
        match is None
        or ("." not in match["host"] and match["host"] != "localhost" and match["port"] is None)
        or not 1 <= int(match["port"] or 443) <= 65535
        or len(match["host"] + match["name"]) > _IMAGE_NAME_LONGEST
    ):
        text = "must be registry.example/name@sha256: and 64 hexadecimal digits"
        raise refused("reference", text, "image_reference")
    return reference


def normal_keywords(words: Sequence[str]) -> tuple[str, ...]:
    """Give keywords without blanks around them, each once.

    Raises:
        MarketError: REQUEST_INVALID for one without a letter or digit.
    """
    for index, word in enumerate(words):
        if not words_of(word):
            field = f"keywords.words[{index}]"
            raise refused(field, "must have a letter or a digit", "keyword")
    return tuple(dict.fromkeys(word.strip() for word in words))


def refused(field: str, description: str, rule: str) -> MarketError:
    """Give the refusal of one field."""
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The request breaks a rule of the marketplace.",
        violations=(FieldViolation(field, description, rule),),
    )
