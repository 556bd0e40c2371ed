"""The catalogue keeps its own rules, and each rule finds what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from proto.generate import dependency_set, protoc
from tests.catalogue.descriptors import Catalogue
from tests.catalogue.rules import RULES

# Every element of this file breaks a rule; MISTAKES says which.
MISTAKEN = """
syntax = "proto3";
package gem.marketplace.v1;
import "buf/validate/validate.proto";
import "gem/options/v1/options.proto";

enum Colour {
  COLOUR_RED = 0;
}
message Bad {
  uint32 weight_kg = 1;
  double price_micros = 2;
  int32 price_micros_too = 3;
  int64 power = 4;
  string name = 5;
  string open_pattern = 6 [(buf.validate.field).string.pattern = "^[a-z]+$"];
  string loose_pattern = 7 [(buf.validate.field).string.pattern = "^a$|b"];
  bytes digest = 8;
  repeated string tags = 9 [(buf.validate.field).repeated.max_items = 5];
  repeated Bad bads = 10 [(buf.validate.field).repeated.items.required = true];
  map<string, string> labels = 11 [(buf.validate.field).map.max_pairs = 5];
  string request_id = 12 [(buf.validate.field).string.max_len = 36];
  repeated Bad hidden = 13 [
    (buf.validate.field).repeated.max_items = 5,
    (gem.options.v1.merge).distinct_by = "name"
  ];
  int32 due_micros = 14;
}
message Empty {}
service Paint {
  rpc Stir(Bad) returns (Empty);
  rpc Pour(Empty) returns (Empty) {
    option idempotency_level = IDEMPOTENT;
    option (gem.options.v1.access) = ACCESS_ROLE_UNSPECIFIED;
  }
}
service Routed {
  option (gem.options.v1.standard_interface).title = "Routed";
  rpc Look(Empty) returns (Empty) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (gem.options.v1.access) = ACCESS_ROLE_PARTNER;
  }
}
"""
NAME = "gem/marketplace/v1/paint_service.proto"
MISTAKES = {
    "every_element_is_commented": {NAME, "Colour", "Colour.COLOUR_RED", "Paint.Stir", "Bad.name"},
    "integers_name_their_unit": {"Bad.power", "Bad.price_micros_too"},
    "numbers_are_signed_integers": {"Bad.weight_kg", "Bad.price_micros", "Bad.due_micros"},
    "enums_start_unspecified": {"Colour"},
    "everything_that_grows_is_bounded": {
        "Bad.name",
        "Bad.open_pattern",
        "Bad.loose_pattern",
        "Bad.digest",
        "Bad.tags",
        "Bad.bads",
        "Bad.labels",
    },
    "services_have_their_own_file": {NAME},
    "methods_state_their_idempotency": {"Paint.Stir"},
    "commands_carry_a_request_id": {"Paint.Stir", "Paint.Pour"},
    "core_methods_say_who_may_call": {"Paint.Stir", "Paint.Pour", "Routed", "Routed.Look"},
    "no_provider_hides_another": {"Bad.hidden"},
}
#: Rules that find something in nearly everything: the mistakes named are examples.
EXAMPLES_ONLY = {"every_element_is_commented"}

Rule = Callable[[Catalogue], Iterator[str]]


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("mistaken")
    source, target, needed = folder / NAME, folder / "image.binpb", folder / "needed.binpb"
    source.parent.mkdir(parents=True)
    source.write_text(MISTAKEN)
    needed.write_bytes(dependency_set().SerializeToString())
    flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={target}"]
    protoc(needed, f"-I{folder}", *flags, NAME)
    files = FileDescriptorSet.FromString(target.read_bytes())
    return Catalogue.of(file for file in files.file if file.name == NAME)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_finds_each_mistake_and_nothing_else(rule: Rule, mistaken: Catalogue) -> None:
    found = {
        finding.split(": ")[0].removeprefix("gem.marketplace.v1.") for finding in rule(mistaken)
    }
    expected = MISTAKES[rule.__name__]
    assert found >= expected if rule.__name__ in EXAMPLES_ONLY else found == expected


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_catalogue_keeps_the_rule(rule: Rule, catalogue: Catalogue) -> None:
    findings = list(rule(catalogue))
    assert not findings, "\n".join(findings)


def test_the_rules_look_at_every_source_file(catalogue: Catalogue) -> None:
    folder = Path(__file__).parents[2] / "proto"
    sources = {str(path.relative_to(folder)) for path in folder.rglob("*.proto")}
    assert {file.name for file in catalogue.files} == sources
