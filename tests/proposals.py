"""Proposals as authors write them: an interface that keeps every rule, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gemarket.administration import new_request_id

_SOURCE = """\
// Slots at the depots of a fleet.
syntax = "proto3";

package {package};

import "buf/validate/validate.proto";
import "gem/mesh/v1/provider_answer.proto";
import "gem/options/v1/options.proto";

// Finds free slots.
//
// Every depot answers for itself.
service {service} {{
  option (gem.options.v1.standard_interface) = {{
    title: "Depot slots"
    category: "depot"
  }};
  // Finds the slots of all depots.
  rpc FindSlots(FindSlotsRequest) returns (FindSlotsResponse) {{
    option idempotency_level = NO_SIDE_EFFECTS;
    option (gem.options.v1.route) = ROUTE_ALL;
  }}
}}

// What to look for.
message FindSlotsRequest {{
  // Part of the depot's name. Empty means any.
  string text = 1 [(buf.validate.field).string.max_len = {text_length}];
}}

// What was found.
message FindSlotsResponse {{
  // The slots, by name.
  repeated Slot slots = 1 [
    (buf.validate.field).repeated.max_items = 1000,
    (gem.options.v1.merge) = {{
      rule: MERGE_RULE_CONCAT
      order_by: ["name"]
    }}
  ];
  // How each provider answered.
  repeated gem.mesh.v1.ProviderAnswer provider_answers = 2
    [(buf.validate.field).repeated.max_items = 1000];
}}

// A slot.
message Slot {{
  // Its name.
  string name = 1 [(buf.validate.field).string.max_len = 100];
  // Who has it.
  string provider_id = 2 [
    (buf.validate.field).string.max_len = 63,
    (gem.options.v1.stamp) = STAMP_PROVIDER_ID
  ];
}}
"""

Sources = Mapping[str, bytes]


def file_of(package: str) -> str:
    """Give the path of the one file of a package."""
    return f"{package.replace('.', '/')}/slot_service.proto"


def sources(
    package: str = "acme.depot.v1", service: str = "SlotService", text_length: int = 100
) -> dict[str, bytes]:
    """Write an interface; another length of texts makes it another interface."""
    text = _SOURCE.format(package=package, service=service, text_length=text_length)
    return {file_of(package): text.encode()}


def upload(
    files: Sources | bytes, request_id: str = "", note: str = "", part_bytes: int = 300
) -> Iterator[catalog.ProposeInterfaceRequest]:
    """Give the messages of an upload, in pieces that are small enough to be many."""
    request_id = request_id or new_request_id()

    def message(**part: object) -> catalog.ProposeInterfaceRequest:
        return catalog.ProposeInterfaceRequest(request_id=request_id, **part)  # type: ignore[arg-type]  # one of the parts

    yield message(header=catalog.ProposalHeader(note=note))
    if isinstance(files, bytes):
        for start in range(0, len(files), 100_000):
            yield message(descriptor_set_part=files[start : start + 100_000])
        return
    for name, content in files.items():
        for start in range(0, len(content) or 1, part_bytes):
            part = catalog.SourcePart(name=name, content=content[start : start + part_bytes])
            yield message(source_part=part)
