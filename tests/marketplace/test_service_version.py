"""Later versions of services: their states, and which contracts stand in their way (1494)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.contract_pb2 import AddedService, ContractTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.service import Service, ServiceState
from marketplace.service_version import (
    NO_VERSION,
    OPEN,
    TRANSITIONS,
    ServiceVersion,
    VersionState,
    VersionStep,
    agreed_on,
    check_new,
    is_unchanged,
    take_step,
)
from tests.interceptors.support import raises

pytestmark = pytest.mark.usecase(1494)

NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
_VERSION = ServiceVersion(
    version_id="v-1",
    position=1,
    service_id="s-1",
    service_version="2.0",
    interface_version=2,
    compatible=False,
    endpoint="",
    terms=None,
    state=VersionState.PREPARED,
    prepared_at=NOW,
)
_SERVICE = Service(
    *("s-1", 1, "volt", "Search", "Finds.", "a.S", 1, "1.0", "h:1"),
    state=ServiceState.PUBLISHED,
    registered_at=NOW,
)
versions = st.tuples(st.integers(1, 3), st.sampled_from(["1.0", "2.0", "2.1"]))


@given(st.lists(st.sampled_from(VersionStep), max_size=12))
def test_only_the_table_moves_a_version_and_what_is_closed_stays_closed(
    steps: Sequence[VersionStep],
) -> None:
    state, was_closed = VersionState.PREPARED, False
    for step in steps:
        if (state, step) in TRANSITIONS:
            assert not was_closed
            state = take_step(state, step)
        else:
            with pytest.raises(MarketError, check=NOT_NOW):
                take_step(state, step)
        was_closed = state not in OPEN


@pytest.mark.parametrize(
    ("state", "step", "text"),
    [
        (VersionState.REQUESTED, VersionStep.REQUESTED, "asked for already"),
        (VersionState.PREPARED, VersionStep.REFUSED, "not asked for"),
        (VersionState.PUBLISHED, VersionStep.PUBLISHED, NO_VERSION),
        (VersionState.WITHDRAWN, VersionStep.WITHDRAWN, NO_VERSION),
    ],
)
def test_each_refusal_says_what_is_the_matter(
    state: VersionState, step: VersionStep, text: str
) -> None:
    with pytest.raises(MarketError, match=text, check=NOT_NOW):
        take_step(state, step)


def test_a_refused_version_can_be_asked_for_again() -> None:
    state = VersionState.PREPARED
    for step in (VersionStep.REQUESTED, VersionStep.REFUSED, VersionStep.REQUESTED):
        state = take_step(state, step)
    assert take_step(state, VersionStep.PUBLISHED) is VersionState.PUBLISHED


def test_a_version_is_not_called_like_the_published_one() -> None:
    with pytest.raises(MarketError, check=NOT_NOW):
        check_new(_SERVICE, "1.0")
    for other in ("1.0.0", "2.0", "0.9"):
        check_new(_SERVICE, other)


@given(agreed=versions, wanted=versions)
def test_a_contract_is_in_the_way_until_it_agrees_on_both_versions(
    agreed: tuple[int, str], wanted: tuple[int, str]
) -> None:
    version = replace(_VERSION, interface_version=wanted[0], service_version=wanted[1])
    assert is_unchanged(version, *agreed) == (agreed != wanted)
    assert not is_unchanged(replace(version, compatible=True), *agreed)


@given(own=versions, added=st.dictionaries(st.sampled_from(["s-2", "s-3", "s-4"]), versions))
def test_of_each_service_counts_what_the_contract_says_of_that_one(
    own: tuple[int, str], added: dict[str, tuple[int, str]]
) -> None:
    terms = ContractTerms(
        interface_version=own[0],
        service_version=own[1],
        added_services=[
            AddedService(service_id=name, interface_version=number, service_version=text)
            for name, (number, text) in added.items()
        ],
    )
    for name, wanted in {"s-1": own, **added}.items():
        found = agreed_on(terms, name)
        assert (found.interface_version, found.service_version) == wanted
