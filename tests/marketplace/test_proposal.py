"""Proposals without storage: states, votes, uploads, likeness, findings and written sources."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import interface_proposal_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.interface_publication import new_interface, normal_digest
from marketplace.interface_text import describe
from marketplace.proposal import (
    OPEN,
    OPEN_MAX,
    PRIVATE,
    TRANSITIONS,
    Proposal,
    ProposalState,
    ProposalStep,
    VoteKind,
    check_may_propose,
    check_overruled,
    check_visible,
    take_step,
)
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
from marketplace.proposal_upload import (
    FILES_MAX,
    MESSAGES_MAX,
    UPLOAD_BYTES_MAX,
    Upload,
    read_upload,
)
from marketplace.proto_source import source_tree
from marketplace.router.interface import compile_interface
from tests.control_plane import INTERFACE, INTERFACE_BODY
from tests.interceptors.support import raises
from tests.interfaces import descriptor_set, interface, rpc, service, without_source_info
from tests.proposals import sources, upload

pytestmark = pytest.mark.usecase(1257)

AUTHOR, OTHER = Actor("author", is_partner=True), Actor("other", is_partner=True)
OPERATOR = Actor("technical", is_partner=False)
STATES, STEPS = st.sampled_from(ProposalState), st.sampled_from(ProposalStep)
ENDED = {ProposalState.REJECTED, ProposalState.PUBLISHED, ProposalState.WITHDRAWN}


def proposal(state: ProposalState = ProposalState.IN_REVIEW, **values: Any) -> Proposal:
    """Give a proposal of `author`."""
    known: dict[str, Any] = {
        "proposal_id": "p",
        "proposer_id": "author",
        "note": "",
        "state": state,
        "interface_names": (INTERFACE,),
        "title": "T",
        "category": "c",
        "findings": (),
        "digest": bytes(32),
        "decision_reason": "",
        "proposed_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Proposal(**{**known, **values})


@given(STATES, STEPS)
def test_what_the_table_does_not_have_is_refused(state: ProposalState, step: ProposalStep) -> None:
    actor = OTHER if step is ProposalStep.VOTED else AUTHOR
    hidden = actor is OTHER and state in PRIVATE
    if (state, step) in TRANSITIONS and not hidden:
        assert take_step(proposal(state), step, actor) is TRANSITIONS[state, step]
        return
    reason = "NOT_FOUND" if hidden else "STATE_NOT_ALLOWED"
    wanted = ErrorReason.Value(f"ERROR_REASON_{reason}")
    with pytest.raises(MarketError, check=raises(wanted)):
        take_step(proposal(state), step, actor)


def test_what_has_ended_never_begins_again() -> None:
    assert {state for state, _ in TRANSITIONS}.isdisjoint(ENDED)
    assert OPEN.isdisjoint(ENDED | {ProposalState.INVALID})
    assert ProposalState.PUBLISHED not in {
        after for (before, _), after in TRANSITIONS.items() if before is not ProposalState.ACCEPTED
    }


def test_the_names_are_those_of_the_interface() -> None:
    for members, enum, prefix in (
        (ProposalState, interface_proposal_pb2.ProposalState, "PROPOSAL_STATE_"),
        (ProposalStep, interface_proposal_pb2.ProposalEventKind, "PROPOSAL_EVENT_KIND_"),
        (VoteKind, interface_proposal_pb2.ProposalVoteKind, "PROPOSAL_VOTE_KIND_"),
    ):
        names = [f"{prefix}{member.value}" for member in members]
        assert [f"{prefix}UNSPECIFIED", *names] == enum.keys()


@pytest.mark.parametrize(
    ("step", "actor"),
    [
        (ProposalStep.WITHDRAWN, OTHER),
        (ProposalStep.WITHDRAWN, OPERATOR),
        (ProposalStep.VOTED, AUTHOR),
    ],
)
def test_only_the_author_withdraws_and_only_others_vote(step: ProposalStep, actor: Actor) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        take_step(proposal(), step, actor)


@given(STATES)
def test_what_is_private_is_seen_by_author_and_operators(state: ProposalState) -> None:
    for actor in (AUTHOR, OPERATOR):
        check_visible(proposal(state), actor)
    if state not in PRIVATE:
        check_visible(proposal(state), OTHER)
        return
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        check_visible(proposal(state), OTHER)


@given(st.integers(0, 5), st.integers(0, 5))
def test_an_acceptance_names_the_votes_that_it_overrules(against: int, overruled: int) -> None:
    counted = proposal(votes_against=against)
    if against == overruled:
        check_overruled(counted, overruled)
        return
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        check_overruled(counted, overruled)


def test_undecided_proposals_of_one_partner_are_bounded() -> None:
    check_may_propose(OPEN_MAX - 1)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        check_may_propose(OPEN_MAX)


# Uploads.


async def read(messages: Iterable[catalog.ProposeInterfaceRequest]) -> Upload:
    """Read an upload as it comes in."""

    async def coming() -> AsyncIterator[catalog.ProposeInterfaceRequest]:
        for message in messages:
            yield message

    return await read_upload(coming())


def message(**part: Any) -> catalog.ProposeInterfaceRequest:
    """Give one message of an upload."""
    return catalog.ProposeInterfaceRequest(**{"request_id": "r", **part})


def piece(name: str, content: bytes = b"x") -> catalog.ProposeInterfaceRequest:
    """Give one piece of a source."""
    return message(source_part=catalog.SourcePart(name=name, content=content))


HEADER = message(header=catalog.ProposalHeader())


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "header"),
        ([piece("a.proto")], "header"),
        ([HEADER], "part"),
        ([HEADER, HEADER], "part"),
        ([HEADER, message()], "part"),
        ([HEADER, piece("a.proto"), message(descriptor_set_part=b"x")], "part"),
        ([HEADER, piece("a"), piece("b"), piece("a")], "source_part.name"),
        ([HEADER, message(request_id="s", descriptor_set_part=b"x")], "request_id"),
        (
            [message(header=catalog.ProposalHeader(content_digest=bytes(32))), piece("a")],
            "header.content_digest",
        ),
    ],
)
async def test_an_upload_out_of_order_is_refused(
    messages: list[catalog.ProposeInterfaceRequest], field: str
) -> None:
    with pytest.raises(MarketError) as caught:
        await read(messages)
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    "make",
    [
        lambda: [message(descriptor_set_part=bytes(250_000))] * (UPLOAD_BYTES_MAX // 250_000 + 1),
        lambda: [piece("a", b"")] * MESSAGES_MAX,
        lambda: [piece(f"{number}", b"") for number in range(FILES_MAX + 1)],
    ],
    ids=["bytes", "messages", "files"],
)
async def test_an_upload_without_end_is_cut_off(
    make: Callable[[], list[catalog.ProposeInterfaceRequest]],
) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE)):
        await read([HEADER, *make()])


async def test_pieces_make_the_files_again_however_they_are_cut() -> None:
    whole = {"a.proto": b"abcdefgh", "b.proto": b"", "c.proto": b"xyz"}
    digest = hashlib.sha256(b"abcdefghxyz").digest()
    commands = set()
    for size in (1, 3, 100):
        read_back = await read(upload(whole, "r", part_bytes=size))
        assert {name: bytes(text) for name, text in read_back.sources.items()} == whole
        assert list(read_back.sources) == list(whole)
        assert read_back.digest == digest
        commands.add(read_back.command().SerializeToString(deterministic=True))
    assert len(commands) == 1
    moved = await read(upload({"a.proto": b"abcdefg", "c.proto": b"hxyz"}, "r"))
    assert moved.digest == digest
    assert moved.command().SerializeToString(deterministic=True) not in commands


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
