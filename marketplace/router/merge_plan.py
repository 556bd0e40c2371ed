"""How the answers of one method become one answer; `merge_compile` makes it from the options."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.router.list_plan import ListPlan
from marketplace.router.rows import RowsPlan
from marketplace.router.singular_merge import Combine


@dataclass(frozen=True, slots=True)
class SingularPlan:
    """How one singular field of the response is worked out from those of the answers."""

    field: str
    #: Writes the field of the merged answer: `combine(merged, messages in contract order)`.
    combine: Combine


@dataclass(frozen=True, slots=True)
class MergePlan:
    """How the answers of one ALL method merge, field by field."""

    singular: tuple[SingularPlan, ...]
    #: The lists on which there is more to do than to concatenate them.
    lists: tuple[ListPlan, ...]
    #: A quicker way to the same result; None where the response does not lend itself to it.
    rows: RowsPlan | None = None
