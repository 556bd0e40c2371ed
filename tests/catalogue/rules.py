"""The catalogue's rules as functions: descriptors in, findings out. None of them touches a file.

They hold over `FileDescriptorProto`s with source info. `buf lint` holds the general rules of
protobuf; these are the rules that `architecture.md` adds. A finding names the element and the rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    MethodOptions,
)

from buf.validate import validate_pb2
from gem.options.v1 import options_pb2
from tests.catalogue.descriptors import Catalogue, elements_of

Field = FieldDescriptorProto

CORE = "gem.marketplace.v1"

#: Last words of a name that are a unit. A new unit is added here on purpose, by its author.
UNITS = {
    *("wh", "w", "va", "var", "v", "mv", "a", "ma", "micros", "bytes", "kg", "g", "celsius"),
    *("us", "ms", "s", "minutes", "minute", "days", "m", "e7", "permille", "percent", "ppm"),
    "kwh",  # of a rate per kilowatt-hour; amounts of energy are in `wh`
}
#: Last words of a name that say that the number has no unit: it counts, orders or names.
COUNTS = {
    *(
        "count",
        "size",
        "limit",
        "code",
        "revision",
        "version",
        "number",
        "sequence",
        "index",
        "phases",
    ),
    *("positions", "weekday", "weekdays"),
    "revision",
}

SIGNED = {
    Field.TYPE_INT32,
    Field.TYPE_INT64,
    Field.TYPE_SINT32,
    Field.TYPE_SINT64,
    Field.TYPE_SFIXED32,
    Field.TYPE_SFIXED64,
}
UNSIGNED = {Field.TYPE_UINT32, Field.TYPE_UINT64, Field.TYPE_FIXED32, Field.TYPE_FIXED64}
FLOATS = {Field.TYPE_FLOAT, Field.TYPE_DOUBLE}


def every_element_is_commented(catalogue: Catalogue) -> Iterator[str]:
    """A comment stands before every file's syntax and before every element."""
    for file in catalogue.files:
        locations = file.source_code_info.location
        commented = {tuple(at.path) for at in locations if at.leading_comments.strip()}
        if (12,) not in commented:
            yield f"{file.name}: no comment before `syntax` says what the file is for"
        for element in elements_of(file):
            if element.path not in commented:
                yield f"{element.name}: no comment"


def _last_word(name: str) -> str:
    return name.rsplit("_", 1)[-1]


def integers_name_their_unit(catalogue: Catalogue) -> Iterator[str]:
    """An integer's last word is a unit, or says that it has none."""
    for element, field in catalogue.fields():
        if field.type in SIGNED and _last_word(field.name) not in UNITS | COUNTS:
            yield f"{element.name}: an integer whose name says neither its unit nor that it counts"


def numbers_are_signed_integers(catalogue: Catalogue) -> Iterator[str]:
    """No unsigned number, no float; money has 64 bits."""
    for element, field in catalogue.fields():
        if field.type in UNSIGNED:
            yield f"{element.name}: unsigned"
        if field.type in FLOATS:
            yield f"{element.name}: a float"
        if _last_word(field.name) == "micros" and field.type not in {
            Field.TYPE_INT64,
            Field.TYPE_SINT64,
        }:
            yield f"{element.name}: money needs 64 bits"


def enums_start_unspecified(catalogue: Catalogue) -> Iterator[str]:
    """The first value of an enum is `<ENUM NAME>_UNSPECIFIED = 0`."""
    for element in catalogue.elements:
        if isinstance(element.proto, EnumDescriptorProto):
            prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", element.proto.name).upper()
            first = element.proto.value[0]
            if (first.name, first.number) != (f"{prefix}_UNSPECIFIED", 0):
                yield f"{element.name}: does not start with {prefix}_UNSPECIFIED = 0"


def _bounded_pattern(pattern: str) -> bool:
    """Tell whether only strings of limited length match: anchored, and no open repetition."""
    bare = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern)
    anchored = bare.startswith("^") and bare.endswith("$")
    ungrouped = bare
    while (shorter := re.sub(r"\([^()]*\)", "x", ungrouped)) != ungrouped:
        ungrouped = shorter
    return anchored and "|" not in ungrouped and not re.search(r"[*+]|\{\d*,\}", bare)


def _bounded_string(rules: validate_pb2.StringRules) -> bool:
    sized = rules.HasField("max_len") or rules.HasField("len") or rules.HasField("const")
    sized_in_bytes = rules.HasField("max_bytes") or rules.HasField("len_bytes")
    of_fixed_form = rules.uuid or rules.tuuid or rules.hostname or _bounded_pattern(rules.pattern)
    return sized or sized_in_bytes or of_fixed_form or bool(getattr(rules, "in"))


def _bounded_bytes(rules: validate_pb2.BytesRules) -> bool:
    sized = rules.HasField("max_len") or rules.HasField("len") or rules.HasField("const")
    return sized or bool(getattr(rules, "in"))


def _unbounded(field: Field, rules: validate_pb2.FieldRules) -> Iterator[str]:
    if field.type == Field.TYPE_STRING and not _bounded_string(rules.string):
        yield "string"
    if field.type == Field.TYPE_BYTES and not _bounded_bytes(rules.bytes):
        yield "bytes"


def everything_that_grows_is_bounded(catalogue: Catalogue) -> Iterator[str]:
    """Every string, bytes, list and map has a largest size in its `buf.validate` rules."""
    for element, field in catalogue.fields():
        rules = field.options.Extensions[validate_pb2.field]
        open_ends: list[str] = []
        entry = catalogue.messages.get(field.type_name)
        if entry is not None and entry.options.map_entry:
            open_ends += [] if rules.map.HasField("max_pairs") else ["map"]
            open_ends += _unbounded(entry.field[0], rules.map.keys)
            open_ends += _unbounded(entry.field[1], rules.map.values)
        elif field.label == Field.LABEL_REPEATED:
            open_ends += [] if rules.repeated.HasField("max_items") else ["list"]
            open_ends += _unbounded(field, rules.repeated.items)
        else:
            open_ends += _unbounded(field, rules)
        yield from (f"{element.name}: a {what} without a limit" for what in open_ends)


def services_have_their_own_file(catalogue: Catalogue) -> Iterator[str]:
    """`<noun>_service.proto` holds exactly one service, `<Noun>Service`; other files hold none."""
    for file in catalogue.files:
        stem = file.name.rsplit("/", 1)[-1].removesuffix(".proto")
        expected = ["".join(word.capitalize() for word in stem.split("_"))]
        found = [service.name for service in file.service]
        if found != (expected if stem.endswith("_service") else []):
            yield f"{file.name}: holds the services {found}"


def methods_state_their_idempotency(catalogue: Catalogue) -> Iterator[str]:
    """Every rpc says whether it may be repeated."""
    for element, method in catalogue.methods():
        if method.options.idempotency_level == MethodOptions.IDEMPOTENCY_UNKNOWN:
            yield f"{element.name}: no idempotency_level"


def _refuses_empty(rules: validate_pb2.StringRules) -> bool:
    by_pattern = rules.HasField("pattern") and not re.search(rules.pattern, "")
    return by_pattern or rules.uuid or rules.min_len > 0 or rules.len > 0


def commands_carry_a_request_id(catalogue: Catalogue) -> Iterator[str]:
    """Whatever changes something has a required `request_id`, so that a repeat does no harm."""
    for element, method in catalogue.methods():
        if method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS:
            continue
        request = catalogue.messages[method.input_type]
        given = [field for field in request.field if field.name == "request_id"]
        if not given or given[0].type != Field.TYPE_STRING:
            yield f"{element.name}: a command whose request has no string `request_id`"
            continue
        rules = given[0].options.Extensions[validate_pb2.field]
        if not (rules.required or _refuses_empty(rules.string)):
            yield f"{element.name}: its `request_id` may be empty"


def core_methods_say_who_may_call(catalogue: Catalogue) -> Iterator[str]:
    """Core services have roles and no routes; all other services are standard interfaces."""
    for element, service in catalogue.services():
        standard = service.options.HasExtension(options_pb2.standard_interface)
        if standard == (element.file.package == CORE):
            yield f"{element.name}: core services, and only they, are no standard interfaces"
        for method in service.method:
            access = list(method.options.Extensions[options_pb2.access])
            if standard and access:
                yield f"{element.name}.{method.name}: contracts say who may call, not `access`"
            if not standard and (not access or 0 in access):
                yield f"{element.name}.{method.name}: `access` names nobody"


def _at_path(catalogue: Catalogue, message: DescriptorProto, path: str) -> Field | None:
    found: Field | None = None
    for name in path.split("."):
        found = next((field for field in message.field if field.name == name), None)
        if found is None:
            return None
        message = catalogue.messages.get(found.type_name, DescriptorProto())
    return found


def no_provider_hides_another(catalogue: Catalogue) -> Iterator[str]:
    """`distinct_by` names a stamped field, so one provider's results never displace another's."""
    for element, field in catalogue.fields():
        paths = field.options.Extensions[options_pb2.merge].distinct_by
        inside = catalogue.messages.get(field.type_name, DescriptorProto())
        keys = [_at_path(catalogue, inside, path) for path in paths]
        stamps = [key.options.Extensions[options_pb2.stamp] for key in keys if key is not None]
        if paths and not any(stamps):
            yield f"{element.name}: no key of `distinct_by` is stamped"


RULES: tuple[Callable[[Catalogue], Iterator[str]], ...] = (
    every_element_is_commented,
    integers_name_their_unit,
    numbers_are_signed_integers,
    enums_start_unspecified,
    everything_that_grows_is_bounded,
    services_have_their_own_file,
    methods_state_their_idempotency,
    commands_carry_a_request_id,
    core_methods_say_who_may_call,
    no_provider_hides_another,
)
