from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.message import Message

from buf.validate import validate_pb2
from foundation import validation
from foundation.errors import MarketError, reason_name
from foundation.validation import MAX_VIOLATIONS, require_valid, violations
from gem.common.v1.money_pb2 import Money
from gem.common.v1.paging_pb2 import PageRequest
from gem.common.v1.time_range_pb2 import TimeRange

_SECRET = "Mallory"
_BELOW = (
    "google/protobuf/descriptor.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/timestamp.proto",
    "buf/validate/validate.proto",
)
#: Gets the message type `shop.v1.Order` with a string `name`, to add to it.
Shape = Callable[[descriptor_pb2.DescriptorProto], None]


def _dynamic(shape: Shape) -> type[Message]:
    """Make `shop.v1.Order` in a pool of its own, as an interface comes from the catalogue."""
    pool = descriptor_pool.DescriptorPool()
    for name in _BELOW:
        pool.AddSerializedFile(descriptor_pool.Default().FindFileByName(name).serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="shop.proto", package="shop.v1", syntax="proto3", dependency=_BELOW[-1:]
    )
    order = file.message_type.add(name="Order")
    order.field.add(name="name", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    shape(order)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.v1.Order"))


def _at_least(length: int) -> Shape:
    def shape(order: descriptor_pb2.DescriptorProto) -> None:
        order.field[0].options.Extensions[validate_pb2.field].string.min_len = length

    return shape


def _field_rule(expression: str, message: str = "") -> Shape:
    def shape(order: descriptor_pb2.DescriptorProto) -> None:
        rules = order.field[0].options.Extensions[validate_pb2.field]
        rules.cel.add(id="own", expression=expression, message=message)

    return shape


def _message_rule(expression: str, message: str = "", rule_id: str = "own") -> Shape:
    def shape(order: descriptor_pb2.DescriptorProto) -> None:
        rules = order.options.Extensions[validate_pb2.message]
        rules.cel.add(id=rule_id, expression=expression, message=message)

    return shape


def _short_expression(expression: str) -> Shape:
    def shape(order: descriptor_pb2.DescriptorProto) -> None:
        order.options.Extensions[validate_pb2.message].cel_expression.append(expression)

    return shape


def _labels(order: descriptor_pb2.DescriptorProto) -> None:
    entry = order.nested_type.add(name="LabelsEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), start=1):
        entry.field.add(
            name=name, number=number, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL
        )
    labels = order.field.add(
        name="labels",
        number=2,
        type=Field.TYPE_MESSAGE,
        type_name=".shop.v1.Order.LabelsEntry",
        label=Field.LABEL_REPEATED,
    )
    labels.options.Extensions[validate_pb2.field].map.values.string.min_len = 3


def _tree(order: descriptor_pb2.DescriptorProto) -> None:
    order.field.add(
        name="parts",
        number=2,
        type=Field.TYPE_MESSAGE,
        type_name=".shop.v1.Order",
        label=Field.LABEL_REPEATED,
    )
    _message_rule("this.name != 'Mallory'", "must not be that name")(order)


def _one_of(order: descriptor_pb2.DescriptorProto) -> None:
    order.oneof_decl.add(name="choice").options.Extensions[validate_pb2.oneof].required = True
    order.field[0].oneof_index = 0


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (_at_least(20), "must be at least 20 characters"),
        (_field_rule("this == 'x'", "must be x"), "must be x"),
        (_field_rule("'no ' + this"), "breaks this rule of the interface"),
        (_field_rule("this == 'x'"), "breaks this rule of the interface"),
        (_message_rule("this.name == 'x'", "must be x"), "must be x"),
        (_message_rule("'no ' + this.name"), "breaks this rule of the interface"),
        (
            _message_rule("'no ' + this.name", rule_id="required"),
            "breaks this rule of the interface",
        ),
        (_short_expression("'no ' + this.name"), "breaks this rule of the interface"),
    ],
)
def test_a_violation_explains_the_rule_and_never_repeats_the_value(shape: Shape, text: str) -> None:
    (violation,) = violations(_dynamic(shape)(name=_SECRET))
    assert violation.description == text
    assert _SECRET not in violation.field + violation.description


def test_keys_of_maps_are_not_repeated() -> None:
    (violation,) = violations(_dynamic(_labels)(labels={_SECRET: "x"}))
    assert (violation.field, violation.rule) == ("labels[*]", "string.min_len")


def test_a_violation_deep_in_a_message_is_named_by_its_path() -> None:
    order = _dynamic(_tree)
    inner = order(name="ok", parts=[order(name="ok"), order(name=_SECRET)])
    (violation,) = violations(order(name="ok", parts=[inner]))
    assert violation.field == "parts[0].parts[1]"
    assert (violation.description, violation.rule) == ("must not be that name", "own")


def test_a_choice_that_was_not_made_is_named() -> None:
    (violation,) = violations(_dynamic(_one_of)())
    assert (violation.field, violation.rule) == ("choice", "required")
    assert violation.description == "exactly one field is required in oneof"


def test_a_rule_that_cannot_be_decided_refuses_the_message() -> None:
    (violation,) = violations(_dynamic(_field_rule("1 / int(this) == 1"))(name="0"))
    assert violation.rule == "undecided"


def test_a_rule_that_does_not_compile_is_the_interfaces_fault() -> None:
    with pytest.raises(MarketError) as refusal:
        violations(_dynamic(_field_rule("this ="))(name="x"))
    assert reason_name(refusal.value.reason) == "INTERFACE_INVALID"


def test_two_versions_of_an_interface_keep_their_own_rules() -> None:
    strict, lenient = _dynamic(_at_least(5)), _dynamic(_at_least(1))
    for _ in range(2):
        assert len(violations(strict(name="abc"))) == 1
        assert violations(lenient(name="abc")) == ()


def test_the_number_of_remembered_interfaces_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_MAX_POOLS", 2)
    for length in range(5):
        assert len(violations(_dynamic(_at_least(length + 1))())) == 1
    assert len(validation._validators) == 2


def test_the_list_of_violations_is_bounded() -> None:
    order = _dynamic(_tree)
    many = order(parts=[order(name=_SECRET) for _ in range(MAX_VIOLATIONS + 10)])
    assert len(violations(many)) == MAX_VIOLATIONS
    huge = order(parts=[order(name=_SECRET) for _ in range(10_000)])
    assert len(violations(huge)) == 1


def test_messages_of_the_catalogue_are_checked() -> None:
    assert violations(Money(amount_micros=1, currency_code="EUR")) == ()
    (violation,) = violations(Money(amount_micros=1, currency_code="eur"))
    assert (violation.field, violation.rule) == ("currency_code", "string.pattern")
    backwards = TimeRange()
    backwards.start_time.seconds = 2
    backwards.end_time.seconds = 1
    (violation,) = violations(backwards)
    assert violation.description == "end_time must be after start_time"


def test_an_invalid_request_is_refused_with_every_field() -> None:
    with pytest.raises(MarketError) as refusal:
        require_valid(PageRequest(page_size=5_000, page_token="x" * 600))
    assert reason_name(refusal.value.reason) == "REQUEST_INVALID"
    assert [v.field for v in refusal.value.violations] == ["page_size", "page_token"]
    require_valid(PageRequest(page_size=50))
