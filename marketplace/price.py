"""Price models of contracts: what the router needs of one, and what makes one acceptable.

Free, per call and per unit give every entry of the log its value. A monthly fee and tiers are of
the month: their entries have the value zero, and the statement charges them (decision 10).
"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import MethodDescriptor

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1.contract_pb2 import PriceModel
from gem.marketplace.v1.price_pb2 import TieredPrice, UnitField
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.price_tiers import Tier
from marketplace.router.target import Price
from marketplace.router.unit_price import UNITS_MAX, UnitPrice
from marketplace.router.units import compile_units

#: Models that are wholly said by a price per call and a currency.
SIMPLE_MODELS = frozenset({"free", "per_call"})
#: The field of an answer that the router itself writes; counting it would count nothing.
ANSWER_TYPE = "gem.mesh.v1.ProviderAnswer"


def price_of(model: PriceModel, price_id: int = 0) -> Price:
    """Give what the router needs of a model; raises ValueError where no model is set.

    `price_id` identifies the model where it is none of `SIMPLE_MODELS`.
    """
    match model.WhichOneof("model"):
        case "free":
            return Price()
        case "per_call":
            price = model.per_call.price
            return Price(price.amount_micros, price.currency_code)
        case "per_unit":
            per_unit = model.per_unit
            rated = _unit_price(
                price_id, per_unit.unit, per_unit.price.amount_micros, per_unit.per_unit_count
            )
            return Price(0, per_unit.price.currency_code, rated)
        case "per_month":
            return Price(0, model.per_month.price.currency_code, UnitPrice(price_id))
        case "tiered":
            tiered = model.tiered
            counts_units = tiered.HasField("unit")
            rated = _unit_price(price_id, tiered.unit) if counts_units else UnitPrice(price_id)
            return Price(0, tiered.tiers[0].price.currency_code, rated)
        case _:
            raise ValueError("a price has a model")


def _unit_price(price_id: int, unit: UnitField, micros: int = 0, per_units: int = 1) -> UnitPrice:
    most_units = unit.unit_limit or UNITS_MAX
    methods = frozenset(unit.methods)
    return UnitPrice(price_id, unit.field_path, methods, most_units, micros, per_units)


def unit_of(model: PriceModel) -> UnitField | None:
    """Give the field that a model counts; None where it counts none."""
    if model.HasField("per_unit"):
        return model.per_unit.unit
    if model.HasField("tiered") and model.tiered.HasField("unit"):
        return model.tiered.unit
    return None


def tiers_of(price: TieredPrice) -> list[Tier]:
    """Give the tiers, ascending."""
    return [Tier(tier.from_count, tier.price.amount_micros) for tier in price.tiers]


def check_tiers(model: PriceModel, field: str) -> None:
    """Refuse tiers that do not ascend; `field` names the model in the request.

    Raises:
        MarketError: REQUEST_INVALID.
    """
    starts = [tier.from_count for tier in model.tiered.tiers]
    wrong = [n for n in range(1, len(starts)) if starts[n] <= starts[n - 1]]
    if wrong:
        named = f"{field}.tiered.tiers[{wrong[0]}].from_count"
        raise _refused(FieldViolation(named, "must be above the tier before", "ascending"))


def check_unit(model: PriceModel, methods: Mapping[str, MethodDescriptor], field: str) -> None:
    """Refuse a model whose unit the interface's answers do not have.

    Args:
        model: A model of which `unit_of` gives a field.
        methods: All methods of the interface by name.
        field: How the request names the model.

    Raises:
        MarketError: REQUEST_INVALID, naming the field.
    """
    unit, kind = unit_of(model), model.WhichOneof("model")
    assert unit is not None, "a unit is checked where there is one"
    for index, name in enumerate(unit.methods):
        if name not in methods:
            named = f"{field}.{kind}.unit.methods[{index}]"
            raise _refused(FieldViolation(named, "must be a method of the interface", "method"))
    for name in unit.methods or methods:
        response = methods[name].output_type
        answers = [
            each.name
            for each in response.fields
            if each.message_type is not None and each.message_type.full_name == ANSWER_TYPE
        ]
        try:
            compile_units(response, unit.field_path, *answers[:1])
        except ValueError as refusal:
            named = f"{field}.{kind}.unit.field_path"
            raise _refused(FieldViolation(named, str(refusal), "unit")) from None


def _refused(violation: FieldViolation) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The price cannot be worked out as it is stated.",
        violations=(violation,),
    )
