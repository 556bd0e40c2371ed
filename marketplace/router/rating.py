"""Counting what a contract's price counts in an answer."""

from __future__ import annotations

from typing import Any

from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.method_rules import MethodRules
from marketplace.router.unit_price import VALUE_MAX_MICROS, UnitPrice
from marketplace.router.verify import InvalidAnswer


def counted(method: MethodRules, price: UnitPrice, message: Any, before: int | None) -> int | None:
    """Give the units of a verified answer, `before` added; None where the price counts none here.

    `before` are those of earlier messages of the same stream.

    Raises:
        InvalidAnswer: ANSWER_INVALID for a negative value, more units than the price allows, or a
            value beyond what one answer may cost.
    """
    if not price.field_path:
        return None
    if price.methods and method.path.rpartition("/")[2] not in price.methods:
        return None
    read = method.unit_readers[price.field_path]
    if read is None:
        return None
    units = read(message)
    total = units + (before or 0)
    if units < 0 or total > price.most_units or price.value_micros(total) > VALUE_MAX_MICROS:
        raise InvalidAnswer(ErrorReason.ERROR_REASON_ANSWER_INVALID, "units that cannot be billed")
    return total
