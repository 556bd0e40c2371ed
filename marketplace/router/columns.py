"""A second schema for a response, in which one list of values stands for a field of all elements.

Protobuf merges a singular message that comes more than once, and appends to a repeated field. So a
response that is parsed with the lists of messages singular, and every field inside them repeated,
comes out as columns: `evses.distance_m` holds the distances of all elements, and what no element
sets costs nothing. Rules of single values then hold for the elements when they hold for the
columns, and unknown fields of any element show in one place.

Messages inside elements become columns of their own where they are plain; others become columns of
serialised messages, for a whole message is the same again and again: the few tariffs of an
operator. `plain_check` works on this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from buf.validate import validate_pb2
from marketplace.router.options import field_rules, message_rules, oneof_is_required
from marketplace.router.paths import is_map

#: Package of the second schemas; reserved, so that no published file can be in it.
PACKAGE = "gem.router.columns"


@dataclass(frozen=True, slots=True)
class Place:
    """One message type at one place of the response whose fields have columns."""

    message: Descriptor
    #: Message fields that are places themselves; all other message fields are serialised.
    inside: dict[str, Place] = field(default_factory=dict)


def place_of(response: Descriptor) -> Place | None:
    """Give the places of a response; None where columns would not help."""
    if not _has_columns(response) or not any(each.is_repeated for each in response.fields):
        return None
    return _place(response, depth=0)


def column_class(place: Place) -> type[Message]:
    """Add the second schema of a response to its pool, and give the class that parses with it."""
    file = new_file(place.message.full_name)
    _add_message(file, place)
    file.dependency.extend(sorted(_enum_files(place)))
    return compile_file(place.message.file.pool, file)


@lru_cache(maxsize=64)
def row_class(number: int) -> type[Message]:
    """Give a class that parses nothing but one repeated field, as `rows`, each serialised."""
    file = new_file(f"rows.f{number}")
    rows = file.message_type.add(name="Rows").field.add(name="rows", number=number)
    rows.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    rows.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    return compile_file(DescriptorPool(), file)


def new_file(name: str) -> descriptor_pb2.FileDescriptorProto:
    """Start a file of our own for a publisher's pool; `name` tells it from others there."""
    package = f"{PACKAGE}.{name}"
    return descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )


def compile_file(pool: DescriptorPool, file: descriptor_pb2.FileDescriptorProto) -> type[Message]:
    """Add a file of our own to a pool, and give the class of its first message."""
    pool.Add(file)
    name = f"{file.package}.{file.message_type[0].name}"
    return GetMessageClass(pool.FindMessageTypeByName(name))


def copy_type(column: descriptor_pb2.FieldDescriptorProto, original: FieldDescriptor) -> None:
    """Make a field a repeated one of the type of another, or of bytes for a message."""
    column.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    if original.message_type is not None:
        column.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
        return
    column.type = descriptor_pb2.FieldDescriptorProto.Type.ValueType(original.type)
    if original.enum_type is not None:
        column.type_name = f".{original.enum_type.full_name}"


def _place(message: Descriptor, depth: int) -> Place:
    """Give a place: the response, an element of one of its lists, or a plain message inside one."""
    inside: dict[str, Place] = {}
    for each in message.fields:
        below = each.message_type
        is_list = depth == 0 and each.is_repeated
        if below is not None and (_has_columns(below) if is_list else _is_plain(below)):
            inside[each.name] = _place(below, depth + 1)
    return Place(message, inside)


def _has_columns(message: Descriptor) -> bool:
    """Whether a type has neither rules nor a shape that columns cannot express."""
    if message_rules(message).ListFields():
        return False
    return not any(is_map(each) or not stands_alone(each) for each in message.fields)


def stands_alone(each: FieldDescriptor) -> bool:
    """Whether the rules of a field speak of its values one by one, and of their number."""
    said = field_rules(each)
    if said.ignore == validate_pb2.IGNORE_ALWAYS:
        return True
    names = {rule.name for rule, _ in said.ListFields()}
    if not each.is_repeated:
        return each.message_type is None or names <= {"required"}
    bounds = {"min_items", "max_items"} | ({"items"} if each.message_type is None else set())
    return names <= {"repeated"} and {rule.name for rule, _ in said.repeated.ListFields()} <= bounds


def _is_plain(message: Descriptor) -> bool:
    """Whether a type has single values only, each with rules that stand by themselves."""
    return (
        not message_rules(message).ListFields()
        and not any(map(oneof_is_required, message.oneofs))
        and not any(each.is_repeated or each.message_type is not None for each in message.fields)
    )


def _add_message(file: descriptor_pb2.FileDescriptorProto, place: Place) -> str:
    message = file.message_type.add(name=f"M{len(file.message_type)}")
    name = f".{file.package}.{message.name}"
    for each in place.message.fields:
        column = message.field.add(name=each.name, number=each.number)
        below = place.inside.get(each.name)
        if below is None:
            copy_type(column, each)
            continue
        column.label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
        column.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
        column.type_name = _add_message(file, below)
    return name


def _enum_files(place: Place) -> set[str]:
    found = {each.enum_type.file.name for each in place.message.fields if each.enum_type}
    return found.union(*map(_enum_files, place.inside.values()))
