"""How descriptions are read: words, images, keywords, versions (pure)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.service_lifecycle_pb2 import ServiceEventKind
from gem.marketplace.v1.service_pb2 import ServiceState as StateNumber
from gem.marketplace.v1.service_version_pb2 import ServiceVersionState
from marketplace.service import (
    TRANSITIONS,
    ServiceState,
    ServiceStep,
    blocked,
    disable,
    is_blocked,
    take_step,
)
from marketplace.service_description import (
    LONGEST_PART,
    WORDS_MAX,
    check_image,
    indexed_words,
    known_words,
    normal_keywords,
    search_text,
    search_words,
    words_of,
)
from marketplace.service_version import (
    TRANSITIONS as VERSION_TRANSITIONS,
)
from marketplace.service_version import (
    ServiceVersion,
    VersionState,
    VersionStep,
    is_unchanged,
)
from marketplace.service_version import (
    take_step as take_version_step,
)
from tests.control_plane import fields_of

DIGEST = "ab" * 32
VERSION = ServiceVersion(
    *("v-1", 1, "s-1", "2.0", 2, False, "", None),
    VersionState.PREPARED,
    datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "registry.example/volt/search:latest",
        "registry.example/volt/search",
        f"registry.example@sha256:{DIGEST}",
        f"volt/search@sha256:{DIGEST}",
        f"registry.example/Volt@sha256:{DIGEST}",
        f"registry.example/volt@sha256:{DIGEST[:-1]}",
        f"registry.example/volt@sha256:{DIGEST.upper()}",
        f"registry.example/volt@sha512:{DIGEST}",
        f"registry.example/../volt@sha256:{DIGEST}",
        f"registry.example//volt@sha256:{DIGEST}",
        f"https://registry.example/volt@sha256:{DIGEST}",
        f"registry.example:0/volt@sha256:{DIGEST}",
        f"registry.example:99999/volt@sha256:{DIGEST}",
        f"-registry.example/volt@sha256:{DIGEST}",
        f"registry.example/{'a/' * 150}b@sha256:{DIGEST}",
        f"registry.example/volt@sha256:{DIGEST}\n",
    ],
)
def test_what_names_no_content_for_good_is_no_image(reference: str) -> None:
    with pytest.raises(MarketError) as caught:
        check_image(reference)
    assert fields_of(caught.value) == ["reference"]


@pytest.mark.parametrize(
    "reference",
    [
        f"registry.example/volt@sha256:{DIGEST}",
        f"registry.example:5000/team/a-b_c.d/search@sha256:{DIGEST}",
        f"localhost/volt@sha256:{DIGEST}",
        f"registry:5000/volt@sha256:{DIGEST}",
    ],
)
def test_registry_name_and_digest_are_an_image(reference: str) -> None:
    assert check_image(reference) == reference


def test_words_are_folded_and_split_at_what_is_no_letter_or_digit() -> None:
    assert words_of("Schnell-Laden: STRASSE_7 (ﬁx)") == ("schnell", "laden", "strasse", "7", "fix")
    assert search_text(["EV", "on/off"]) == " ev on off "
    assert words_of("Straße") == words_of("STRASSE")


@given(st.text(max_size=200))
def test_no_word_has_a_mark_of_a_pattern_or_of_a_query(text: str) -> None:
    searched = search_text([text])
    for word in words_of(text):
        assert f" {word} " in searched
        assert not set("%_\\'&|!:*()<> ") & set(word)


@given(st.integers(1, 400).flatmap(lambda size: st.text("abcdefgh", min_size=size, max_size=size)))
def test_what_a_word_has_as_a_part_is_in_one_of_its_pieces(word: str) -> None:
    pieces = indexed_words(f" {word} ")
    assert all(piece in word and len(piece) <= 80 for piece in pieces)
    for start in range(max(1, len(word) - LONGEST_PART + 1)):
        part = word[start : start + LONGEST_PART]
        assert any(part in piece for piece in pieces)
    if len(word) <= LONGEST_PART:
        assert pieces == [word]
    else:
        assert min(map(len, pieces)) > LONGEST_PART


def test_a_search_has_some_words_and_not_too_many() -> None:
    assert search_words("") == search_words("  ") == ()
    assert search_words("a A b") == ("a", "b")
    for wrong in ("!?", " ".join(map(str, range(WORDS_MAX + 1)))):
        with pytest.raises(MarketError) as caught:
            search_words(wrong)
        assert fields_of(caught.value) == ["text"]


def test_the_dictionary_takes_words_in_order_that_have_parts() -> None:
    assert known_words(search_text(["zeta alpha of", "alpha in"])) == ["alpha", "zeta"]


def test_keywords_are_trimmed_and_each_there_once() -> None:
    assert normal_keywords([" fast ", "fast", "green"]) == ("fast", "green")
    with pytest.raises(MarketError) as caught:
        normal_keywords(["ok", "!!"])
    assert fields_of(caught.value) == ["keywords.words[1]"]


@pytest.mark.usecase(1486)
def test_contracts_in_the_way_are_named_and_only_after_the_state_allows_the_step() -> None:
    with pytest.raises(MarketError) as caught:
        disable(ServiceState.STOPPED, ["c-1", "c-2"], 2)
    assert is_blocked(caught.value)
    assert caught.value.metadata == {"contracts": "2"}
    with pytest.raises(MarketError) as caught:
        disable(ServiceState.PUBLISHED, ["c-1"], 1)
    assert not is_blocked(caught.value)
    assert disable(ServiceState.STOPPED, [], 0) is ServiceState.DISABLED
    assert is_blocked(blocked("text", [], 1))


def test_the_names_here_are_those_of_the_schema() -> None:
    for enum, prefix, members in (
        (StateNumber, "SERVICE_STATE_", ServiceState),
        (ServiceEventKind, "SERVICE_EVENT_KIND_", ServiceStep),
        (ServiceVersionState, "SERVICE_VERSION_STATE_", VersionState),
    ):
        names = {name.removeprefix(prefix) for name in enum.keys()}  # noqa: SIM118  # an enum wrapper
        assert names == {*(member.value for member in members), "UNSPECIFIED"}


@given(st.lists(st.sampled_from(ServiceStep), max_size=30))
def test_nothing_leads_out_of_deleted_and_only_disabled_services_get_there(
    steps: list[ServiceStep],
) -> None:
    state = ServiceState.REGISTERED
    for step in steps:
        before = state
        if (before, step) not in TRANSITIONS:
            with pytest.raises(MarketError):
                take_step(state, step)
            continue
        state = take_step(state, step)
        assert before is not ServiceState.DELETED
        if state is ServiceState.DELETED:
            assert before in {ServiceState.DISABLED, ServiceState.REGISTERED}
        if state is ServiceState.DISABLED and before is not state:
            assert before is ServiceState.STOPPED


@pytest.mark.usecase(1494)
@pytest.mark.parametrize(
    ("compatible", "interface_version", "service_version", "unchanged"),
    [
        (False, 1, "1.0", True),
        (False, 2, "1.0", True),
        (False, 1, "2.0", True),
        (False, 2, "2.0", False),
        (True, 1, "1.0", False),
    ],
)
def test_a_contract_is_changed_once_it_agrees_to_the_new_version(
    compatible: bool, interface_version: int, service_version: str, unchanged: bool
) -> None:
    version = replace(VERSION, compatible=compatible)
    assert is_unchanged(version, interface_version, service_version) is unchanged


@pytest.mark.usecase(1494)
@given(st.lists(st.sampled_from(VersionStep), max_size=10))
def test_a_version_is_published_or_withdrawn_for_good(steps: list[VersionStep]) -> None:
    state = VersionState.PREPARED
    for step in steps:
        final = state in {VersionState.PUBLISHED, VersionState.WITHDRAWN}
        try:
            state = take_version_step(state, step)
        except MarketError:
            continue
        assert not final
    assert {before for before, _ in VERSION_TRANSITIONS} == {
        VersionState.PREPARED,
        VersionState.REQUESTED,
    }
