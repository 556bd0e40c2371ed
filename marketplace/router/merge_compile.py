"""Compiles the merge options of a response into a `MergePlan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from gem.options.v1.options_pb2 import Merge, MergeRule
from marketplace.router.columns import place_of, row_class
from marketplace.router.findings import Findings
from marketplace.router.list_plan import ListPlan
from marketplace.router.merge_plan import MergePlan, SingularPlan
from marketplace.router.options import merge_of, order_by_of, stamp_of
from marketplace.router.ordering import Key, Ordering, compile_ordering, plain_key
from marketplace.router.paths import FLOATS, INTEGERS, is_instant, is_map, reader, resolve
from marketplace.router.rows import RowsPlan, suffix_maker
from marketplace.router.singular_merge import compile_singular
from marketplace.router.stamps import stamped_types

#: More paths than this in one `distinct_by` are refused.
DISTINCT_PATHS_MAX = 8


def compile_merge(
    request: Descriptor, response: Descriptor, answers_field: str | None, findings: Findings
) -> MergePlan:
    """Give the plan for a unary ALL method; what does not fit together becomes a finding."""
    singular: list[SingularPlan] = []
    lists: list[ListPlan] = []
    for field in response.fields:
        if field.name == answers_field:
            if merge_of(field) is not None:
                findings.about(field, "merge.answers", "provider answers do not merge")
            continue
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
            findings.about(field, "merge.oneof", "a oneof of many answers cannot be merged")
        try:
            if is_map(field):
                raise ValueError("maps of many answers cannot be merged; use a repeated message")
            if field.is_repeated:
                lists.append(_list_plan(request, field))
            else:
                singular.append(_singular_plan(field))
        except ValueError as refusal:
            findings.about(field, "merge.rule", str(refusal))
    return MergePlan(
        tuple(singular),
        tuple(each for each in lists if not each.is_plain),
        _rows_plan(response, lists),
    )


def _rows_plan(response: Descriptor, lists: Sequence[ListPlan]) -> RowsPlan | None:
    """Give the plan where one list of messages comes before all other fields of a response.

    All stamps are in its elements, and what it is sorted by either has columns or no stamp.
    """
    first = min(response.fields, key=attrgetter("number"), default=None)
    # A group is not delimited by its length, as serialised elements are.
    if first is None or first.type != FieldDescriptor.TYPE_MESSAGE:
        return None
    place, element = place_of(response), first.message_type
    if place is None or first.name not in place.inside or element is None:
        return None
    if [each.field for each in lists] != [first.name]:
        return None
    (plan,) = lists
    stamps = {each.name: stamp for each in element.fields if (stamp := stamp_of(each))}
    is_only_there = stamped_types(response) <= {response.full_name, element.full_name}
    is_once = [each.message_type for each in response.fields].count(element) == 1
    is_above = any(stamp_of(each) for each in response.fields) or any(
        each.message_type == element for each in element.fields
    )
    if not is_only_there or not is_once or is_above:
        return None
    if any(not key.is_plain and stamps.keys() & set(key.paths) for key in plan.all_keys()):
        return None
    suffix = suffix_maker(GetMessageClass(element), stamps)
    return RowsPlan(plan, row_class(first.number), stamps, suffix)


def _singular_plan(field: FieldDescriptor) -> SingularPlan:
    merge = merge_of(field)
    if merge is None or not merge.rule:
        raise ValueError("a singular field needs a merge rule")
    if merge.distinct_by or merge.order_from or merge.limit_from:
        raise ValueError("only lists are made distinct, ordered and limited")
    latest = None
    if merge.order_by:
        is_latest = merge.rule == MergeRule.MERGE_RULE_LATEST and len(merge.order_by) == 1
        if not is_latest or field.message_type is None or is_instant(field):
            raise ValueError("only LATEST of a message names one path in order_by: its time")
        latest = resolve(field.message_type, merge.order_by[0])
        time = latest.leaf.message_type
        if time is None or time.full_name != "google.protobuf.Timestamp":
            raise ValueError("the time that LATEST compares is a google.protobuf.Timestamp")
    return SingularPlan(field.name, compile_singular(field, merge.rule, latest))


def _list_plan(request: Descriptor, field: FieldDescriptor) -> ListPlan:
    merge = merge_of(field) or Merge()
    if merge.rule not in {MergeRule.MERGE_RULE_UNSPECIFIED, MergeRule.MERGE_RULE_CONCAT}:
        raise ValueError("a repeated field merges by CONCAT only")
    limit = compile_limit(request, merge.limit_from) if merge.limit_from else None
    element = field.message_type
    if element is None:
        if merge.distinct_by or merge.order_by or merge.order_from:
            raise ValueError("only lists of messages are made distinct and ordered")
        return ListPlan(field.name, limit=limit)
    plan = ListPlan(
        field.name,
        identity=compile_identity(element, merge.distinct_by),
        ordering=compile_ordering(element, merge.order_by),
        limit=limit,
    )
    if not merge.order_from:
        return plan
    chosen, orderings = compile_orderings(request, element, merge.order_from)
    return replace(plan, chosen_order=chosen, orderings=orderings)


def compile_identity(element: Descriptor, paths: Sequence[str]) -> Key | None:
    """Give the key behind `distinct_by`; None for no paths.

    Raises:
        ValueError: with our own words, where a path names no field fit to identify.
    """
    if len(paths) > DISTINCT_PATHS_MAX:
        raise ValueError(f"an identity has at most {DISTINCT_PATHS_MAX} paths")
    found = [resolve(element, path) for path in paths]
    for path in found:
        if path.leaf.message_type is not None and not is_instant(path.leaf):
            raise ValueError("elements cannot be identified by a message other than a time")
        if path.leaf.cpp_type in FLOATS:
            raise ValueError("elements cannot be identified by a floating-point number")
    if not found:
        return None
    if not any(path.may_be_unset for path in found):
        return plain_key(found)
    readers = tuple(reader(path) for path in found)
    dotted = tuple(path.dotted for path in found)
    return Key(lambda target: tuple(read(target) for read in readers), dotted)


def compile_orderings(
    request: Descriptor, element: Descriptor, name: str
) -> tuple[Callable[[Any], int], dict[int, Ordering]]:
    """Give the reader of the request's ordering enum and the order of each of its values.

    Raises:
        ValueError: with our own words, where the field is no enum or no value carries an order.
    """
    field = request.fields_by_name.get(name)
    if field is None or field.is_repeated or field.enum_type is None:
        raise ValueError("order_from names no singular enum field of the request")
    orderings = {
        value.number: compile_ordering(element, paths)
        for value in field.enum_type.values
        if (paths := order_by_of(value)) is not None
    }
    if not orderings:
        raise ValueError("no value of the enum that order_from names carries order_by_value")
    return attrgetter(name), orderings


def compile_limit(request: Descriptor, name: str) -> Callable[[Any], int]:
    """Give the reader of the request's limit.

    Raises:
        ValueError: with our own words, where the request has no such integer.
    """
    field = request.fields_by_name.get(name)
    if field is None or field.is_repeated or field.cpp_type not in INTEGERS:
        raise ValueError("limit_from names no singular integer field of the request")
    return attrgetter(name)


def compile_counter(response: Descriptor, answers_field: str | None) -> Callable[[Any], int]:
    """Give the function that counts the result elements of one answer."""
    lists = [field for field in response.fields if field.is_repeated]
    names = [field.name for field in lists if field.name != answers_field]
    return lambda message: sum(len(getattr(message, name)) for name in names)
