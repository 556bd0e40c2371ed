"""What each side sees of a record, and how large an answer may be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clearinghouse.cdr_intake import Receipt
from clearinghouse.cdr_reading_servicer import fitting_count
from clearinghouse.cdr_rendering import MOST_BYTES, render, render_receipt
from clearinghouse.cdr_state import CdrState, Submission
from clearinghouse.plausibility_context import Finding
from gem.roaming.v1 import cdr_clearing_pb2 as cdrs
from tests.clearinghouse.clearing import numbered
from tests.clearinghouse.test_cdr_review import NOW, row_of

pytestmark = pytest.mark.usecase(1511)


def test_nobody_sees_the_token_and_only_the_evsp_the_contract() -> None:
    record = numbered(1)
    record.identification.contract_id, record.identification.token_uid = "", "a hash"
    row = row_of(content=record.SerializeToString(), contract_id="NL-TNM-C00122045-K")
    shown = {who: render(row, who).record.identification for who in ("op", "evsp")}
    assert {who: each.contract_id for who, each in shown.items()} == {
        "op": "",
        "evsp": "NL-TNM-C00122045-K",
    }
    assert [each.token_uid for each in shown.values()] == ["", ""]


def test_the_contract_that_the_operator_knows_stays_as_he_wrote_it() -> None:
    row = row_of(contract_id="NL-TNM-C00000000-0")
    assert render(row, "evsp").record.identification.contract_id == "NL-TNM-C00122045-K"


def test_a_rendered_record_says_where_it_stands() -> None:
    made = render(row_of(decline_text="no"), "op", credit_cdr_id="CREDIT")
    assert made.state == cdrs.CDR_STATE_APPROVED
    assert made.revision_number == 1
    assert (made.operator_partner_id, made.evsp_partner_id) == ("op", "evsp")
    assert (made.decline_text, made.credit_cdr_id) == ("no", "CREDIT")
    assert made.received_time.ToDatetime(NOW.tzinfo) == NOW


def test_a_record_without_an_evsp_has_none() -> None:
    assert render(row_of(evsp_partner_id=None), "op").evsp_partner_id == ""


def test_the_lines_of_a_rating_that_is_too_long_are_left_out() -> None:
    assessment = cdrs.ClearedCdr()
    for _ in range(20_000):
        assessment.rating.rating.lines.add(tariff_id="x" * 36, without_tax_micros=10**9)
    assessment.rating.rating.with_tax_micros = 7
    made = render(row_of(assessment=assessment.SerializeToString()), "op")
    assert made.ByteSize() < MOST_BYTES
    assert (len(made.rating.rating.lines), made.rating.rating.with_tax_micros) == (0, 7)


@pytest.mark.parametrize(("size", "count"), [(10, 50), (MOST_BYTES // 3, 2), (MOST_BYTES, 1)])
def test_an_answer_holds_what_fits_and_one_record_always(size: int, count: int) -> None:
    records = [cdrs.ClearedCdr(decline_text="x" * size) for _ in range(50)]
    assert fitting_count(records) == count
    assert fitting_count([]) == 0


@pytest.mark.parametrize("submission", Submission)
def test_a_receipt_says_what_became_of_a_record(submission: Submission) -> None:
    receipt = Receipt("CDR-1", submission, CdrState.FORWARDED, NOW)
    made = render_receipt(receipt)
    assert cdrs.SubmissionStatus.Name(made.status) == f"SUBMISSION_STATUS_{submission}"
    assert made.state == cdrs.CDR_STATE_FORWARDED
    assert made.received_time.ToDatetime(NOW.tzinfo) == NOW


def test_a_receipt_of_what_was_refused_says_why() -> None:
    finding = Finding(cdrs.PlausibilityReason.PLAUSIBILITY_REASON_EVSE_OPERATOR, "f", "words")
    made = render_receipt(Receipt("CDR-1", None, findings=(finding,)))
    assert made.status == cdrs.SUBMISSION_STATUS_REFUSED
    assert (made.state, made.HasField("received_time")) == (cdrs.CDR_STATE_UNSPECIFIED, False)
    assert [(each.field, each.description) for each in made.findings] == [("f", "words")]


def test_what_a_record_became_is_not_taken_from_its_bytes() -> None:
    """The assessment is ours alone: a record cannot bring one along."""
    forged = cdrs.ClearedCdr(decline_text="forged", state=cdrs.CDR_STATE_RETURNED)
    row = replace(row_of(), assessment=forged.SerializeToString())
    made = render(row, "op")
    assert (made.state, made.decline_text) == (cdrs.CDR_STATE_APPROVED, "")
