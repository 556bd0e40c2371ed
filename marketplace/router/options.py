"""The catalogue's options of descriptors that live in a private pool.

A private pool gives options as messages in which our extensions are unknown fields: their bytes are
parsed again with the generated classes, which know the extensions.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import (
    Descriptor,
    EnumValueDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    OneofDescriptor,
    ServiceDescriptor,
)

from buf.validate import validate_pb2
from gem.options.v1 import options_pb2


def field_options(field: FieldDescriptor) -> descriptor_pb2.FieldOptions:
    """Give a field's options with our extensions readable."""
    return descriptor_pb2.FieldOptions.FromString(field.GetOptions().SerializeToString())


def stamp_of(field: FieldDescriptor) -> int:
    """Give the stamp of a field; STAMP_UNSPECIFIED without one."""
    return field_options(field).Extensions[options_pb2.stamp]


def route_key_of(field: FieldDescriptor) -> int | None:
    """Give the kind of identifier that a field routes by; None where it is not marked."""
    options = field_options(field)
    if not options.HasExtension(options_pb2.route_key):
        return None
    return options.Extensions[options_pb2.route_key]


def merge_of(field: FieldDescriptor) -> options_pb2.Merge | None:
    """Give how a field merges; None where it does not say."""
    options = field_options(field)
    if not options.HasExtension(options_pb2.merge):
        return None
    return options.Extensions[options_pb2.merge]


def field_rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    """Give the validation rules of a field; empty where it has none."""
    return field_options(field).Extensions[validate_pb2.field]


def message_rules(message: Descriptor) -> validate_pb2.MessageRules:
    """Give the validation rules of a message as a whole; empty where it has none."""
    raw = message.GetOptions().SerializeToString()
    return descriptor_pb2.MessageOptions.FromString(raw).Extensions[validate_pb2.message]


def order_by_of(value: EnumValueDescriptor) -> tuple[str, ...] | None:
    """Give the sort order that an enum value stands for; None where it does not say."""
    raw = value.GetOptions().SerializeToString()
    options = descriptor_pb2.EnumValueOptions.FromString(raw)
    if not options.HasExtension(options_pb2.order_by_value):
        return None
    return tuple(options.Extensions[options_pb2.order_by_value].order_by)


def method_options(method: MethodDescriptor) -> descriptor_pb2.MethodOptions:
    """Give a method's options with our extensions readable."""
    return descriptor_pb2.MethodOptions.FromString(method.GetOptions().SerializeToString())


def standard_interface_of(service: ServiceDescriptor) -> options_pb2.StandardInterface | None:
    """Give what a service says about itself as a standard interface; None for a core service."""
    raw = service.GetOptions().SerializeToString()
    options = descriptor_pb2.ServiceOptions.FromString(raw)
    if not options.HasExtension(options_pb2.standard_interface):
        return None
    return options.Extensions[options_pb2.standard_interface]


def oneof_is_required(oneof: OneofDescriptor) -> bool:
    """Say whether a message without any member of a oneof breaks its rules."""
    raw = oneof.GetOptions().SerializeToString()
    return descriptor_pb2.OneofOptions.FromString(raw).Extensions[validate_pb2.oneof].required
