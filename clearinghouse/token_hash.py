"""Tokens, payments and secrets are known by their keyed hash only.

A card's id has few bits: without the key a list of plain hashes could be turned back within hours.
"""

from __future__ import annotations

import hmac
import re
import secrets
from pathlib import Path

from foundation.errors import SettingsError
from gem.roaming.v1.identification_pb2 import Identification, IdentificationKind

#: Fewer bytes are no key.
KEY_BYTES_MIN = 32
_KEY_BYTES_MAX = 4096
_KEY_NAME = "token_key_file"
_RFID = re.compile(r"(?:[0-9A-F]{8}|[0-9A-F]{14}|[0-9A-F]{20})")
_SEPARATORS = str.maketrans("", "", ": -")
#: What is paid without a contract is known by its reference.
PAYMENTS = frozenset(
    {
        IdentificationKind.IDENTIFICATION_KIND_PREPAID,
        IdentificationKind.IDENTIFICATION_KIND_PAYMENT_REFERENCE,
    }
)


def tidy_uid(kind: int, uid: str) -> str:
    """Give a token's id as it is hashed: a card's in capitals without separators.

    Raises ValueError for a card whose id has not 8, 14 or 20 hexadecimal digits.
    """
    if kind != IdentificationKind.IDENTIFICATION_KIND_RFID:
        return uid
    tidy = uid.translate(_SEPARATORS).upper()
    if _RFID.fullmatch(tidy) is None:
        raise ValueError("a card's id has 8, 14 or 20 hexadecimal digits")
    return tidy


class TokenHashing:
    """Hashes by HMAC-SHA256 with the clearing house's key; the key shows nowhere."""

    def __init__(self, key: bytes) -> None:
        assert len(key) >= KEY_BYTES_MIN, "checked where the file is read"
        self._key = key

    def __repr__(self) -> str:
        return "TokenHashing()"

    def token(self, kind: int, uid: str) -> bytes:
        """Hash a token's id; the same id of two kinds is two tokens. Raises ValueError."""
        return self._hash("token", str(kind), tidy_uid(kind, uid))

    def identification(self, shown: Identification) -> bytes | None:
        """Hash what a customer shows beside his contract id; None where there is nothing.

        A payment is known by its reference, all else by the token. Raises ValueError.
        """
        uid = shown.token_uid
        if shown.kind in PAYMENTS:
            uid = shown.payment_reference or uid
        return self.token(shown.kind, uid) if uid else None

    def secret(self, contract_key: str, secret: str) -> bytes:
        """Hash the secret of a customer, for his contract only."""
        return self._hash("secret", contract_key, secret)

    def content(self, *parts: bytes) -> bytes:
        """Hash serialised messages that may hold a token's id, to tell them apart."""
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, b"content" + text, "sha256")

    def _hash(self, *parts: str) -> bytes:
        text = "\0".join(parts).encode()
        return hmac.digest(self._key, text, "sha256")


def read_token_key(path: Path) -> bytes:
    """Read the key of the hashes.

    Raises:
        SettingsError: it cannot be read, is too short, or others than its owner may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError(_KEY_NAME, "only its owner may read it: chmod 600")
        with path.open("rb") as file:
            key = file.read(_KEY_BYTES_MAX + 1)
    except OSError as error:
        raise SettingsError(_KEY_NAME, f"the file cannot be read: {error.strerror}") from None
    if not KEY_BYTES_MIN <= len(key) <= _KEY_BYTES_MAX:
        raise SettingsError(_KEY_NAME, f"a key has {KEY_BYTES_MIN} to {_KEY_BYTES_MAX} bytes")
    return key


def write_token_key(path: Path) -> None:
    """Make a new random key, for its owner only; raises FileExistsError where there is one."""
    path.touch(mode=0o600, exist_ok=False)
    path.chmod(0o600)
    path.write_bytes(secrets.token_bytes(KEY_BYTES_MIN))
