"""The clearing house: who may charge where, what a session costs, who owes whom.

What its parts are entered by, all of it pure: `rate` and `compare` for prices, `check_record` for
plausibility, `CdrClearing` for the states of records, `decide` for authorizations.
"""

from clearinghouse.ocpi_tariff import read_tariff_json
from clearinghouse.rateable import NotRateableError, read_session
from clearinghouse.rating import Rating, rate
from clearinghouse.rating_comparison import compare

__all__ = ["NotRateableError", "Rating", "compare", "rate", "read_session", "read_tariff_json"]
