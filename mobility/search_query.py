"""A search as one SQL query with its arguments. Pure: the database is elsewhere.

A query gives rows of (message, status, status_time, chord): the EVSE's stored message and the
chord, in database metres, under its distance.
"""

from __future__ import annotations

from typing import Any

from gem.charging.v1 import evse_pb2, evse_search_service_pb2
from mobility import area
from mobility.evse_row import mask

#: Most EVSEs in the answer of one provider.
MOST_EVSES = 1000

_PRICE = evse_search_service_pb2.EVSE_ORDERING_PRICE
_POWER = evse_search_service_pb2.EVSE_ORDERING_POWER
_ORDER = {
    _PRICE: "currency_code, reference_price_micros, chord, evse_key",
    _POWER: "max_power_w DESC, chord, evse_key",
}
_NEAREST = "chord, evse_key"
_COLUMNS = "message, status, status_time"


class Query:
    """Text and arguments that grow together."""

    def __init__(self) -> None:
        self.arguments: list[Any] = []
        self.conditions: list[str] = []

    def argument(self, value: Any) -> str:
        """Add an argument; give its placeholder."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def where(self, condition: str, *values: Any) -> None:
        """Add a condition; each `{}` in it stands for the next value."""
        self.conditions.append(condition.format(*(self.argument(value) for value in values)))

    def conditions_text(self) -> str:
        """Give all conditions as one."""
        return " AND ".join(self.conditions)


def search_query(
    operator_ref: int, request: evse_search_service_pb2.SearchEvsesRequest
) -> tuple[str, list[Any]]:
    """Give the query for a request that keeps the rules of the interface.

    It gives one row more than the answer may have, so that the answer can say that it is truncated.

    Raises:
        AreaTooLargeError: the corridor is too long.
    """
    query = Query()
    query.where("operator_ref = {}::integer", operator_ref)
    _add_filter(query, request.filter)
    order = _ORDER.get(request.ordering, _NEAREST)
    limit = (request.limit or MOST_EVSES) + 1
    if request.WhichOneof("area") == "corridor":
        text = _along(query, area.corridor(request.corridor))
    else:
        text = _around(query, request)
    # The limit is part of the text: the planner must see how few rows are wanted.
    return f"{text} ORDER BY {order} LIMIT {limit:d}", query.arguments


def _around(query: Query, request: evse_search_service_pb2.SearchEvsesRequest) -> str:
    """Search a ball; the index gives its EVSEs by distance, so that a limit ends the scan early."""
    if request.WhichOneof("area") == "box":
        box = area.box(request.box)
        ball = box.ball
        query.where("latitude_e7 BETWEEN {}::integer AND {}::integer", box.south_e7, box.north_e7)
        crossing = "OR" if box.west_e7 > box.east_e7 else "AND"
        longitude = f"(longitude_e7 >= {{}}::integer {crossing} longitude_e7 <= {{}}::integer)"
        query.where(longitude, box.west_e7, box.east_e7)
    else:
        ball = area.circle(request.circle)
    latitude, longitude = query.argument(ball.latitude), query.argument(ball.longitude)
    center = f"ll_to_earth({latitude}::float8, {longitude}::float8)"
    if ball.chord < area.LARGEST_CHORD:
        chord = query.argument(ball.chord)
        query.where(f"position <@ cube_enlarge({center}, {chord}::float8, 3)")
        query.where(f"position <-> {center} <= {chord}::float8")
    return (
        f"SELECT {_COLUMNS}, position <-> {center} AS chord FROM mobility.evse"  # noqa: S608  # placeholders
        f" WHERE {query.conditions_text()}"
    )


def _along(query: Query, corridor: area.Corridor) -> str:
    """Search along pieces; an EVSE near several counts once, with its least distance."""
    axes = [
        query.argument([place[axis] for place in places])
        for places in (corridor.starts, corridor.ends)
        for axis in range(3)
    ]
    chord = query.argument(corridor.chord)
    pieces = ", ".join(f"{axis}::float8[]" for axis in axes)
    # How far along its piece a place is, and so how far from it, follows from the squares of its
    # distances from both ends and of the piece's length.
    return f"""
WITH piece AS (
    SELECT start, stop, (start <-> stop) ^ 2 AS length2,
        cube_enlarge(cube_union(start, stop), {chord}::float8, 3) AS space
    FROM unnest({pieces}) AS p(ax, ay, az, bx, by, bz),
        LATERAL (SELECT cube(ARRAY[ax, ay, az]) AS start, cube(ARRAY[bx, by, bz]) AS stop) AS ends
), candidate AS (
    SELECT evse_key, length2, (position <-> start) ^ 2 AS start2, (position <-> stop) ^ 2 AS stop2
    FROM piece CROSS JOIN LATERAL (
        SELECT evse_key, position FROM mobility.evse
        WHERE {query.conditions_text()} AND position <@ space OFFSET 0
    ) AS inside
), near AS (
    SELECT evse_key, min(sqrt(CASE
        WHEN start2 - stop2 <= -length2 THEN start2
        WHEN start2 - stop2 >= length2 THEN stop2
        ELSE greatest(0, start2 - (start2 - stop2 + length2) ^ 2 / (4 * length2))
    END)) AS chord
    FROM candidate GROUP BY evse_key
)
SELECT {_COLUMNS}, chord FROM near JOIN mobility.evse USING (evse_key)
WHERE operator_ref = $1 AND chord <= {chord}::float8"""  # noqa: S608  # placeholders, no values


def _add_filter(query: Query, wanted: evse_search_service_pb2.EvseFilter) -> None:
    """Add a condition for every field of the filter that is set."""
    if wanted.statuses:
        query.where("status = ANY({}::smallint[])", list(wanted.statuses))
    if wanted.accesses:
        query.where("access = ANY({}::smallint[])", list(wanted.accesses))
    if wanted.membership:
        membership = wanted.membership.casefold()
        is_open = f"access = {evse_pb2.ACCESS_KIND_OPEN:d}"
        query.where(f"({is_open} OR memberships @> ARRAY[{{}}::text])", membership)
    for flag, column in (
        (wanted.green_energy_only, "green"),
        (wanted.always_open_only, "always_open"),
        (wanted.reservable_only, "reservable"),
    ):
        if flag:
            query.where(column)
    _add_energy_and_price(query, wanted)
    _add_connector(query, wanted)


def _add_energy_and_price(query: Query, wanted: evse_search_service_pb2.EvseFilter) -> None:
    if wanted.energy_sources:
        query.where("energy_mask & {}::integer <> 0", mask(wanted.energy_sources))
    if wanted.excluded_energy_sources:
        excluded = mask(wanted.excluded_energy_sources)
        query.where("energy_mask <> 0 AND energy_mask & {}::integer = 0", excluded)
    for field, column in (
        ("max_reference_price", "reference_price_micros"),
        ("max_price_per_kwh", "energy_price_micros"),
    ):
        if wanted.HasField(field):  # type: ignore[arg-type]  # one of the two names above
            price = getattr(wanted, field)
            condition = f"currency_code = {{}}::text AND {column} <= {{}}::bigint"
            query.where(condition, price.currency_code, price.amount_micros)


def _add_connector(query: Query, wanted: evse_search_service_pb2.EvseFilter) -> None:
    """Ask that one connector has all that is wanted of connectors.

    The columns of the whole EVSE decide first, and alone where only one thing is wanted.
    """
    together: list[tuple[str, Any]] = []
    for values, mask_column, name in (
        (wanted.kinds, "kind_mask", "kind"),
        (wanted.plugs, "plug_mask", "plug"),
        (wanted.phases, "phases_mask", "phases"),
    ):
        if values:
            query.where(f"{mask_column} & {{}}::integer <> 0", mask(values))
            together.append((f"{name} = ANY({{}}::smallint[])", list(values)))
    if wanted.min_power_w:
        query.where("max_power_w >= {}::integer", wanted.min_power_w)
        together.append(("power_w >= {}::integer", wanted.min_power_w))
    if len(together) > 1:
        conditions = " AND ".join(condition for condition, _ in together)
        # Of a single connector the columns of the whole EVSE have said all.
        query.where(
            "(cardinality(connector_kinds) = 1 OR EXISTS (SELECT FROM unnest(connector_kinds,"
            " connector_plugs, connector_powers_w, connector_phases)"
            f" AS c(kind, plug, power_w, phases) WHERE {conditions}))",
            *(value for _, value in together),
        )
