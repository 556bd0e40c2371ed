"""The clearing house: who may charge where, what a session costs, who owes whom.

What its parts are entered by, all of it pure: `decide` for authorizations, `submitted`, `take_step`
and `revise` for the states of charge detail records, `check_record` for their plausibility, `rate`
and `compare` for what they cost.
"""

from clearinghouse.authorization import AskEvsp, Decision, Situation, answered, decide
from clearinghouse.cdr_state import (
    CdrKey,
    CdrState,
    CdrStep,
    StoredCdr,
    revise,
    submitted,
    take_step,
)
from clearinghouse.ocpi_tariff import read_tariff_json
from clearinghouse.plausibility import Assessment, check_record
from clearinghouse.rateable import NotRateableError, read_session
from clearinghouse.rating import Rating, rate
from clearinghouse.rating_comparison import compare

__all__ = [
    "AskEvsp",
    "Assessment",
    "CdrKey",
    "CdrState",
    "CdrStep",
    "Decision",
    "NotRateableError",
    "Rating",
    "Situation",
    "StoredCdr",
    "answered",
    "check_record",
    "compare",
    "decide",
    "rate",
    "read_session",
    "read_tariff_json",
    "revise",
    "submitted",
    "take_step",
]
