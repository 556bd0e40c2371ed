"""Requests for new services between wire and domain: nothing is lost, nothing beyond is taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from foundation.validation import violations
from gem.marketplace.v1 import service_request_pb2 as wire
from marketplace.service_request import RequestState, RequestStep, Response, Wish
from marketplace.service_request_rendering import (
    instant,
    read_wish,
    render_event,
    render_response,
    render_wish,
)
from tests.control_plane import fields_of
from tests.service_requests import wish

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_LINE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip)
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=60)
_FIRST, _LAST = (NOW.replace(year=year, tzinfo=None) for year in (1970, 9998))
_INSTANT = st.datetimes(_FIRST, _LAST, timezones=st.just(UTC))
_COUNTRY = st.text(st.characters(min_codepoint=65, max_codepoint=90), min_size=2, max_size=2)
WISHES = st.builds(
    Wish,
    title=_LINE.filter(bool),
    description=_TEXT.filter(lambda text: bool(text.strip())),
    preconditions=_TEXT,
    postconditions=_TEXT,
    interface_name=st.sampled_from(["", "acme.v1.S"]),
    category=_LINE.filter(bool),
    country_codes=st.lists(_COUNTRY, max_size=5, unique=True).map(tuple),
    region=_LINE,
    monthly_call_count=st.integers(0, 10**12),
    wished_start_at=st.none() | _INSTANT,
)


@given(WISHES)
def test_a_wish_comes_through_the_wire_whole(one: Wish) -> None:
    message = wire.ServiceWish.FromString(render_wish(one).SerializeToString())
    assert read_wish(message) == one


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", "a\u202eb"),
        ("title", "a\u2028b"),
        ("title", "x" * 201),
        ("description", "a\x1b[2J"),
        ("preconditions", "a\x00"),
        ("postconditions", "x" * 4001),
        ("category", "a\nb"),
        ("region", "a\rb"),
        ("monthly_call_count", 10**12 + 1),
        ("country_codes", ["DEU"]),
    ],
)
def test_what_a_wish_cannot_say_is_refused(field: str, value: object) -> None:
    assert not violations(wire.ServiceWish(**wish()))
    found = violations(wire.ServiceWish(**wish(**{field: value})))
    assert {each.field.partition("[")[0] for each in found} == {field}


@pytest.mark.parametrize("seconds", [253_402_300_800, -62_135_596_801, 2**62, -(2**62)])
def test_a_time_beyond_the_calendar_is_refused_by_its_field(seconds: int) -> None:
    with pytest.raises(MarketError) as caught:
        instant(Timestamp(seconds=seconds), "planned_start_time")
    assert fields_of(caught.value) == ["planned_start_time"]


@given(_INSTANT)
def test_a_time_is_kept_to_the_microsecond(moment: datetime) -> None:
    message = Timestamp()
    message.FromDatetime(moment)
    assert instant(message, "f") == moment


@pytest.mark.parametrize("planned", [None, NOW + timedelta(days=3)])
def test_a_response_says_when_only_where_it_does(planned: datetime | None) -> None:
    rendered = render_response(Response("a", "r", "seller", "Text", "s", planned, 2, NOW))
    assert rendered.HasField("planned_start_time") is (planned is not None)
    assert (rendered.response_id, rendered.service_request_id) == ("a", "r")
    assert (rendered.responder_id, rendered.service_id) == ("seller", "s")
    assert (rendered.text, rendered.revision_number) == ("Text", 2)


@pytest.mark.parametrize("step", RequestStep)
@pytest.mark.parametrize("state", [RequestState.OPEN, RequestState.CLOSED, RequestState.DELETED])
def test_every_step_and_state_of_a_history_has_its_number(
    step: RequestStep, state: RequestState
) -> None:
    row = SimpleNamespace(
        kind=step.value,
        state=state.value,
        revision=3,
        wish=b"",
        actor="author:ada",
        occurred_at=NOW,
    )
    rendered = render_event(row)
    assert wire.ServiceRequestEventKind.Name(rendered.kind).endswith(step.value)
    assert wire.ServiceRequestState.Name(rendered.state).endswith(state.value)
    assert rendered.actor == "author", "the person is the partner's own matter"
    assert not rendered.HasField("wish")
