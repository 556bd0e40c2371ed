"""What the check of a proposal finds and shows: likeness, findings, written sources, texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import FieldViolation
from marketplace.interface_text import describe
from marketplace.new_interface import new_interface, normal_digest
from marketplace.proposal_comparison import Neighbours, likenesses
from marketplace.proposal_findings import (
    FINDINGS_MAX,
    Finding,
    element_lines,
    from_buf,
    from_protoc,
    from_violations,
)
from marketplace.proposal_likeness import looks_like_ours, shape, skeleton
from marketplace.proto_source import source_tree
from marketplace.router.interface import compile_interface
from tests.control_plane import INTERFACE, INTERFACE_BODY
from tests.interfaces import descriptor_set, interface, rpc, service, without_source_info
from tests.proposals import sources

pytestmark = pytest.mark.usecase(1257)


# Likeness.


def shape_of(body: str) -> bytes:
    """Give the shape of a body's interface."""
    return shape(interface(body))


RENAMED = (
    INTERFACE_BODY.replace("Ask", "Question")
    .replace("Found", "Answer")
    .replace("Item items", "Item things")
    .replace("Item", "Thing")
    .replace("rpc Search", "rpc Look")
    .replace("string name", "string label")
)


def test_new_names_make_no_new_interface() -> None:
    assert RENAMED != INTERFACE_BODY
    assert shape_of(RENAMED) == shape_of(INTERFACE_BODY)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("string text = 1", "string text = 2"),
        ("max_len = 100", "max_len = 101"),
        ("ROUTE_ALL", "ROUTE_ALL; option deprecated = true"),
        ("NO_SIDE_EFFECTS", "IDEMPOTENT"),
        ("message Item {", "message Item { bool more = 9;"),
    ],
)
def test_what_goes_over_the_wire_makes_another_interface(old: str, new: str) -> None:
    changed = INTERFACE_BODY.replace(old, new)
    same = "deprecated" in new
    assert (shape_of(changed) == shape_of(INTERFACE_BODY)) is same


def test_the_order_of_methods_does_not_count_and_types_may_meet_themselves() -> None:
    types = "message Ask { Ask again = 1; Other other = 2; } message Other { Ask ask = 1; }\n"
    methods = [
        rpc("A", "ROUTE_ONE", response="Ask"),
        rpc("B", "ROUTE_ONE", request="Other", response="Ask"),
    ]
    one, other = (types + service(*order) for order in (methods, methods[::-1]))
    assert shape_of(one) == shape_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("acme.charging.v1.S", "acme.charg1ng.v1.S"),
        ("acme.modem.v1.S", "acme.modern.v1.S"),
        ("acme.pool.v1.S", "acme.p00l.v1.S"),
        ("acme.view.v1.S", "acme.vievv.v1.S"),
        ("acme.load_data.v1.S", "acme.loaddata.v1.S"),
    ],
)
def test_packages_that_look_alike_are_told(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)
    new = new_interface(interface(INTERFACE_BODY))
    known = Neighbours((), ((other, 3, b"another shape", skeleton(INTERFACE)),), False)
    assert [finding.rule for finding in likenesses([new], known)] == ["package.confusable"]


def test_another_version_of_the_same_interface_is_no_likeness() -> None:
    new = new_interface(interface(INTERFACE_BODY))
    known = Neighbours((), ((INTERFACE, 1, new.shape, skeleton(INTERFACE)),), False)
    assert likenesses([new], known) == ()
    renamed = Neighbours((), (("other.x.v1.S", 1, new.shape, "other.x.vl"),), False)
    (finding,) = likenesses([new], renamed)
    assert (finding.rule, finding.element) == ("interface.exists", INTERFACE)
    (finding,) = likenesses([new], Neighbours((), (), True))
    assert finding.rule == "interface.exists"


@pytest.mark.parametrize("name", ["gern.x.v1.S", "g00gle.x.v1.S", "goog1e.x.v1.S"])
def test_roots_that_look_like_the_marketplace_s_are_told(name: str) -> None:
    assert looks_like_ours(name)


@pytest.mark.parametrize("name", ["gem.charging.v1.S", "acme.gem.v1.S", "gems.x.v1.S"])
def test_other_roots_are_nobody_s(name: str) -> None:
    assert not looks_like_ours(name)


# Findings.


def test_the_compiler_s_words_are_cut_to_what_cannot_deceive() -> None:
    output = (
        'a.proto:3:5: "\u0430cme\x1b[31m" is not defined.\n'
        "a.proto:4:1: warning: Import b.proto is unused.\n"
        "stranger.proto:1:1: no file of the upload\n"
        "a.proto:99999999999999:1: far\n"
        "a.proto:5:1: " + "x" * 10_000
    )
    found = from_protoc(output, ["a.proto"])
    assert [(finding.file, finding.line) for finding in found] == [
        ("a.proto", 3),
        ("a.proto", 999_999_999),
        ("a.proto", 5),
    ]
    assert found[0].description == '"?cme?[31m" is not defined.'
    assert all(len(finding.description) <= 300 for finding in found)


@given(st.text(max_size=300) | st.integers().map(str))
def test_whatever_the_tools_say_there_is_a_bounded_list(output: str) -> None:
    assert 1 <= len(from_protoc(output, ["a.proto"])) <= FINDINGS_MAX
    assert from_buf(output, ["a.proto"]) == []


def test_findings_of_buf_carry_file_line_and_rule() -> None:
    said = '{"path":"a.proto","start_line":7,"type":"ENUM_FIRST","message":"First."}\nno json\n'
    assert from_buf(said, ["a.proto"]) == [Finding("a.proto", 7, "", "buf.ENUM_FIRST", "First.")]
    assert from_buf(said, ["b.proto"]) == [Finding("", 0, "", "buf.ENUM_FIRST", "First.")]


def test_the_catalogue_s_findings_get_the_line_of_their_element() -> None:
    lines = {"a.v1.S.M": ("a.proto", 12)}
    violations = [
        FieldViolation("a.proto:a.v1.S.M", "say it", "method.route"),
        FieldViolation("a.proto", "package", "file.package"),
        FieldViolation("", "too many", "set.files"),
    ]
    found = from_violations(violations, lines)
    assert [(each.file, each.line, each.element) for each in found] == [
        ("a.proto", 12, "a.v1.S.M"),
        ("a.proto", 0, ""),
        ("", 0, ""),
    ]
    assert [each.place for each in found] == ["a.proto:12:a.v1.S.M", "a.proto", ""]


def test_without_source_info_no_line_is_known() -> None:
    places = element_lines(without_source_info(descriptor_set(INTERFACE_BODY)))
    assert places[f"{INTERFACE}.Search"][1] == 0
    assert places["acme.test.v1.Item.name"][1] == 0


# Written sources and texts.

_EVERYTHING = """
message Odd {
  option deprecated = true;
  reserved 4, 10 to 20, 1000 to max;
  reserved "gone";
  message Inner { enum Kind { KIND_UNSPECIFIED = 0; KIND_A = -1; } Kind kind = 1; }
  oneof choice { string a = 1 [deprecated = true]; Inner b = 2; }
  optional int32 c = 3;
  map<string, Inner> d = 5;
  repeated int32 e = 6 [packed = false];
  string f = 7 [json_name = "other", (buf.validate.field).string.pattern = "^\\"\\\\d\\n$"];
  google.protobuf.Timestamp g = 8 [(buf.validate.field).cel = {
    id: "g" message: "it's late" expression: "this > timestamp('2026-01-01T00:00:00Z')"
  }];
}
enum Top {
  option allow_alias = true;
  TOP_UNSPECIFIED = 0;
  TOP_X = 1;
  TOP_Y = 1 [deprecated = true];
  reserved 5 to max;
}
"""


@pytest.mark.usecase(1487)
def test_every_kind_of_element_is_written_so_that_it_compiles_to_the_same() -> None:
    body = INTERFACE_BODY + _EVERYTHING
    raw = descriptor_set(body)
    tree = source_tree(raw)
    written = tree["acme/test/v1/test.proto"]
    again = descriptor_set(written, header="")
    assert normal_digest(again) == normal_digest(raw)
    assert source_tree(again)["acme/test/v1/test.proto"] == written
    assert not any(name.startswith(("google/", "/", ".")) for name in tree)


@pytest.mark.usecase(1476)
def test_the_text_names_every_element_of_an_interface() -> None:
    text = describe(descriptor_set(INTERFACE_BODY), [INTERFACE])
    for words in ("Implemented by: EVSE_OPERATOR", "Called by: EVSP", "Search(Ask)", "1  items"):
        assert words in text
    assert "list of acme.test.v1.Item" in text
    assert all(len(line) < 200 for line in text.splitlines())


def test_the_sample_is_an_interface_like_any() -> None:
    ((name, text),) = sources().items()
    assert name == "acme/depot/v1/slot_service.proto"
    raw = descriptor_set(text.decode(), header="")
    assert [rules.name for rules in compile_interface(raw)] == ["acme.depot.v1.SlotService"]
