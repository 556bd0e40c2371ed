"""Ids of commands that follow from their content: the same command again changes nothing."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message


def request_id_of(request: Message, number: int = 0) -> str:
    """Make the id of a command from its content and its number among equal ones."""
    content = number.to_bytes(8) + request.SerializeToString(deterministic=True)
    return hashlib.sha256(content).hexdigest()[:48]
