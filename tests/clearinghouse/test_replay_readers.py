"""Real sessions as they were recorded: every record is one, and everything odd has its class."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.replay_acn import read_acn
from clearinghouse.replay_dundee import read_dundee
from clearinghouse.replay_sample import write_sample
from clearinghouse.replay_session import RecordedSession, SessionClass
from tests.external_data import FOLDER, needs
from tests.json_values import json_values

pytestmark = pytest.mark.usecase(1511)
C = SessionClass
SESSIONS = FOLDER / "charging-sessions"
HEAD = "Charging event,User ID,CP ID,Connector,Start Date,Start Time,End Date,End Time,Total kWh,"
HEAD += "Cost,Site,Group,Model,,,\n"
DAY = "06/09/2018"


def acn_item(**changes: Any) -> dict[str, Any]:
    return {
        "_id": "5cd1",
        "connectionTime": "Mon, 25 Mar 2019 16:24:42 GMT",
        "disconnectTime": "Tue, 26 Mar 2019 01:32:12 GMT",
        "doneChargingTime": "Mon, 25 Mar 2019 17:32:48 GMT",
        "kWhDelivered": 6.146,
        "siteID": "0019",
        "stationID": "19-102-260-1633",
        "timezone": "America/Los_Angeles",
        "userID": "7",
        **changes,
    }


def acn(*items: Any) -> list[RecordedSession]:
    return list(read_acn(io.StringIO(json.dumps({"_meta": {}, "_items": items}, indent=1))))


def row(**changes: str) -> str:
    members = {
        "event": "7751157",
        "user": "601838",
        "cp": "50914",
        "connector": "1",
        "start_date": DAY,
        "start": "10:55",
        "end_date": DAY,
        "end": "11:03",
        "kwh": "22.287",
    }
    return ",".join((members | changes).values()) + ',0,"Lochee, Dundee",APT; CYC,22kW,,,\n'


def dundee(*rows: str) -> list[RecordedSession]:
    return list(read_dundee(io.StringIO(HEAD + "".join(rows))))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {C.CLEAN}),
        ({"userID": None}, {C.CLEAN, C.USER_MISSING}),
        ({"doneChargingTime": None}, {C.CLEAN, C.CHARGING_END_MISSING}),
        ({"doneChargingTime": "Tue, 26 Mar 2019 01:32:13 GMT"}, {C.CHARGING_AFTER_UNPLUG}),
        ({"doneChargingTime": "Mon, 25 Mar 2019 16:24:41 GMT"}, {C.END_BEFORE_START}),
        (
            {"disconnectTime": "Mon, 25 Mar 2019 16:24:42 GMT"},
            {C.ZERO_LENGTH, C.CHARGING_AFTER_UNPLUG},
        ),
        ({"disconnectTime": None}, {C.END_MISSING}),
        ({"connectionTime": None}, {C.START_MISSING}),
        ({"connectionTime": "yesterday"}, {C.START_MISSING, C.TIME_UNREADABLE}),
        ({"connectionTime": 7}, {C.START_MISSING, C.TIME_UNREADABLE}),
        ({"kWhDelivered": 0}, {C.ZERO_ENERGY}),
        ({"kWhDelivered": -1.5}, {C.NEGATIVE_ENERGY}),
        ({"kWhDelivered": None}, {C.ENERGY_MISSING}),
        ({"kWhDelivered": "much"}, {C.ENERGY_UNREADABLE}),
        ({"kWhDelivered": float("nan")}, {C.ENERGY_UNREADABLE}),
        ({"kWhDelivered": 1e12}, {C.ENERGY_UNREADABLE}),
        ({"kWhDelivered": True}, {C.ENERGY_UNREADABLE}),
        ({"timezone": "Mars/Olympus"}, {C.ZONE_UNKNOWN}),
        ({"stationID": None}, {C.UNIDENTIFIED}),
        ({"connectionTime": "Mon, 25 Mar 1019 16:24:42 GMT"}, {C.TOO_LONG}),
    ],
)
def test_what_is_odd_about_a_workplace_session_is_its_class(
    changes: dict[str, Any], expected: set[SessionClass]
) -> None:
    (read,) = acn(acn_item(**changes))
    assert read.classes == expected


def test_times_without_a_zone_are_those_of_the_place() -> None:
    (read,) = acn(acn_item(connectionTime="Mon, 25 Mar 2019 09:24:42 -0000"))
    assert read.start == datetime(2019, 3, 25, 16, 24, 42, tzinfo=UTC)
    assert (read.energy_milli_wh, read.time_zone) == (6_146_000, "America/Los_Angeles")


def test_a_record_that_is_no_session_is_given_as_one_that_cannot_be_told() -> None:
    read = acn(17, acn_item(), None)
    assert [each.number for each in read] == [1, 2, 3]
    assert [each.is_session for each in read] == [False, True, False]
    assert C.UNIDENTIFIED in read[0].classes


@pytest.mark.parametrize("text", ["", "{}", '{"_items": [', '{"_items": [{"_id": 1', "[1, 2]"])
def test_a_file_that_is_not_whole_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(ValueError, match="the file"):
        list(read_acn(io.StringIO(text)))


@settings(max_examples=25)
@given(st.lists(json_values(), max_size=5))
def test_no_json_makes_the_reader_fail_or_lose_a_record(items: list[Any]) -> None:
    assert len(acn(*items)) == len(items)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {C.CLEAN}),
        ({"end": "10:55"}, {C.ZERO_LENGTH}),
        ({"end": "10:54"}, {C.END_BEFORE_START}),
        ({"kwh": "0"}, {C.ZERO_ENERGY}),
        ({"kwh": "-0.5"}, {C.NEGATIVE_ENERGY}),
        ({"kwh": ""}, {C.ENERGY_MISSING}),
        ({"kwh": "1,5".replace(",", ".") + "x"}, {C.ENERGY_UNREADABLE}),
        ({"end_date": "", "end": ""}, {C.END_MISSING}),
        ({"start_date": ""}, {C.START_MISSING}),
        ({"end": "25:00"}, {C.END_MISSING, C.TIME_UNREADABLE}),
        ({"end_date": "31/09/2018"}, {C.END_MISSING, C.TIME_UNREADABLE}),
        ({"end_date": "2018-09-06"}, {C.END_MISSING, C.TIME_UNREADABLE}),
        ({"cp": ""}, {C.UNIDENTIFIED}),
        ({"user": ""}, {C.CLEAN, C.USER_MISSING}),
        (
            {"start_date": "25/03/2018", "start": "01:30", "end_date": "25/03/2018"},
            {C.IMPOSSIBLE_LOCAL_TIME},
        ),
        (
            {"start_date": "28/10/2018", "start": "01:30", "end_date": "28/10/2018"},
            {C.AMBIGUOUS_LOCAL_TIME},
        ),
    ],
)
def test_what_is_odd_about_a_city_session_is_its_class(
    changes: dict[str, str], expected: set[SessionClass]
) -> None:
    (read,) = dundee(row(**changes))
    assert read.classes == expected


def test_an_end_that_the_clock_showed_twice_is_not_before_the_start() -> None:
    night = {"start_date": "28/10/2018", "end_date": "28/10/2018"}
    (read,) = dundee(row(start="01:50", end="01:10", **night))
    assert (read.start, read.end) == (
        datetime(2018, 10, 28, 0, 50, tzinfo=UTC),
        datetime(2018, 10, 28, 1, 10, tzinfo=UTC),
    )
    assert read.classes == {C.AMBIGUOUS_LOCAL_TIME}


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", HEAD + "x" * 200_000])
def test_a_table_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the file"):
        list(read_dundee(io.StringIO(text)))


def test_a_row_that_is_too_short_is_a_record_all_the_same() -> None:
    (read,) = dundee("7751157,601838\n")
    assert not read.is_session
    assert {C.START_MISSING, C.UNIDENTIFIED, C.ENERGY_MISSING} <= read.classes


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_characters='\r\n",'), max_size=12), min_size=9))
def test_no_row_makes_the_reader_fail_or_lose_it(fields: list[str]) -> None:
    assert len(dundee("x" + ",".join(fields) + "\n")) == 1


class Endless:
    """A file of many equal lines that is never whole in memory."""

    def __init__(self, head: str, line: str, lines: int, tail: str) -> None:
        self._parts = iter([head, *([line] * lines), tail])

    def read(self, _size: int) -> str:
        return "".join(part for _, part in zip(range(100), self._parts, strict=False))

    def __iter__(self) -> Endless:
        return self

    def __next__(self) -> str:
        return next(self._parts)


@pytest.mark.parametrize("form", ["acn", "dundee"])
def test_memory_does_not_grow_with_the_file(form: str) -> None:
    def peak(lines: int) -> int:
        if form == "acn":
            source = Endless('{"_items": [', json.dumps(acn_item()) + ",\n", lines, "]}")
            sessions: Iterable[RecordedSession] = read_acn(cast("TextIO", source))
        else:
            sessions = read_dundee(cast("TextIO", Endless(HEAD, row(), lines, "")))
        tracemalloc.start()
        count = sum(1 for _ in sessions)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count >= lines
        return most

    peak(100)
    assert peak(1_000) < peak(250) + 200_000


@pytest.mark.external_data
@needs("charging-sessions")
def test_the_sessions_of_a_workplace_are_classified() -> None:
    with (SESSIONS / "acn-office-1.json").open() as file:
        read = list(read_acn(file))
    counts = Counter(kind for each in read for kind in each.classes)
    assert len(read) == 1_481
    assert all(each.is_session for each in read)
    assert counts == {
        C.CLEAN: 1_473,
        C.CHARGING_AFTER_UNPLUG: 8,
        C.CHARGING_END_MISSING: 38,
        C.USER_MISSING: 1_096,
    }


@pytest.mark.external_data
@needs("charging-sessions")
def test_the_sessions_of_a_city_are_classified() -> None:
    with (SESSIONS / "dundee-2018-06-to-09.csv").open(newline="") as file:
        read = list(read_dundee(file))
    counts = Counter(kind for each in read for kind in each.classes)
    assert len(read) == 19_227
    assert all(each.is_session for each in read)
    assert counts[C.ZERO_LENGTH] == 129
    assert counts[C.ZERO_ENERGY] == 733
    assert counts[C.NEGATIVE_ENERGY] == 8
    assert counts[C.END_MISSING] == 72


def test_made_up_sessions_are_read_like_recorded_ones_and_some_are_odd() -> None:
    first, again = io.StringIO(), io.StringIO()
    write_sample(first, 100)
    write_sample(again, 100)
    assert first.getvalue() == again.getvalue()
    read = list(read_dundee(io.StringIO(first.getvalue())))
    assert len({each.source_id for each in read}) == 100
    classes = Counter(kind for each in read for kind in each.classes)
    assert classes[SessionClass.CLEAN] == 85
    for kind in ("ZERO_ENERGY", "ZERO_LENGTH", "END_MISSING", "END_BEFORE_START", "USER_MISSING"):
        assert classes[SessionClass[kind]] > 0
