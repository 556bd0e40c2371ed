"""Graduated prices: each tier prices what lies within it and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.router.unit_price import amount_micros


@dataclass(frozen=True, slots=True)
class Tier:
    """What is paid from a number on."""

    from_count: int
    price_micros: int


@dataclass(frozen=True, slots=True)
class TierAmount:
    """What lies within one tier, and what it costs."""

    from_count: int
    count: int
    value_micros: int


def graduated(tiers: Sequence[Tier], per_count: int, count: int) -> list[TierAmount]:
    """Share `count` out among tiers, the lowest first; tiers that nothing reaches are left out.

    The counts add up to `count`. Each tier's amount is rounded by itself, as it is shown, so that
    the total is the exact sum of the lines. `tiers` begin at zero and ascend.
    """
    ends = [tier.from_count for tier in tiers[1:]] + [count]
    found = []
    for tier, end in zip(tiers, ends, strict=True):
        within = min(count, end) - tier.from_count
        if within > 0:
            value = amount_micros(tier.price_micros, within, per_count)
            found.append(TierAmount(tier.from_count, within, value))
    return found
