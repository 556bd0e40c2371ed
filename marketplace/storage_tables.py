"""The control plane's tables as queries name them; the migrations are what makes them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP, TSVECTOR

METADATA = MetaData(schema="marketplace")
_TIME = TIMESTAMP(timezone=True)


def _table(name: str, *columns: Column[object]) -> Table:
    return Table(name, METADATA, *columns)


def _event_table(name: str, subject: str, *more: Column[object]) -> Table:
    """Give a history: one row for each step that something took, in the order of `position`."""
    return _table(
        name,
        Column("position", BigInteger, primary_key=True),
        Column(subject, Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("actor", Text, nullable=False),
        Column("occurred_at", _TIME, nullable=False),
        *more,
    )


PARTNER = _table(
    "partner",
    Column("partner_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("roles", ARRAY(SmallInteger), nullable=False),
    Column("company_name", Text, nullable=False),
    Column("postal_address", Text, nullable=False),
    Column("country_code", Text, nullable=False),
    Column("person_name", Text, nullable=False),
    Column("person_email", Text, nullable=False),
    Column("person_phone", Text, nullable=False),
    Column("partner_contract_version", Integer, nullable=False),
    Column("registered_at", _TIME, nullable=False),
    Column("revision", Integer, nullable=False),
)
PARTNER_EVENT = _event_table("partner_event", "partner_id", Column("detail", Text, nullable=False))

OWNED_IDENTIFIER = _table(
    "owned_identifier",
    Column("kind", SmallInteger, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("partner_id", Text, nullable=False),
    Column("added_at", _TIME, nullable=False),
)

CERTIFICATE = _table(
    "certificate",
    Column("fingerprint", LargeBinary, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("partner_id", Text),
    Column("operator_name", Text),
    Column("operator_role", SmallInteger),
    Column("serial_number", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("not_before_at", _TIME, nullable=False),
    Column("not_after_at", _TIME, nullable=False),
    Column("registered_at", _TIME, nullable=False),
    Column("revoked_at", _TIME),
    Column("revocation_reason", SmallInteger, nullable=False),
)

INTERFACE_PUBLICATION = _table(
    "interface_publication",
    Column("publication_id", BigInteger, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("descriptor_set", LargeBinary, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("published_at", _TIME, nullable=False),
)

INTERFACE_VERSION = _table(
    "interface_version",
    Column("interface_name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("publication_id", BigInteger, nullable=False),
    Column("title", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("implemented_by", ARRAY(SmallInteger), nullable=False),
    Column("called_by", ARRAY(SmallInteger), nullable=False),
    Column("methods", JSONB, nullable=False),
    Column("shape", LargeBinary, nullable=False),
    Column("skeleton", Text, nullable=False),
)

INTERFACE_LABEL = _table(
    "interface_label",
    Column("interface_name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("effective_at", _TIME, nullable=False),
)
INTERFACE_LABEL_EVENT = _table(
    "interface_label_event",
    Column("position", BigInteger, primary_key=True),
    Column("interface_name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("label", Text, nullable=False),
    Column("set", Boolean, nullable=False),
    Column("effective_at", _TIME),
    Column("actor", Text, nullable=False),
    Column("occurred_at", _TIME, nullable=False),
)

INTERFACE_PROPOSAL = _table(
    "interface_proposal",
    Column("proposal_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("proposer_id", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("interface_names", ARRAY(Text), nullable=False),
    Column("title", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("findings", JSONB, nullable=False),
    Column("descriptor_set", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("decision_reason", Text, nullable=False),
    Column("proposed_at", _TIME, nullable=False),
)
INTERFACE_PROPOSAL_EVENT = _event_table("interface_proposal_event", "proposal_id")
INTERFACE_PROPOSAL_VOTE = _table(
    "interface_proposal_vote",
    Column("proposal_id", Text, primary_key=True),
    Column("partner_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("voted_at", _TIME, nullable=False),
)

SERVICE = _table(
    "service",
    Column("service_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("provider_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("interface_name", Text, nullable=False),
    Column("interface_version", Integer, nullable=False),
    Column("service_version", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("registration_contract_version", Integer, nullable=False),
    Column("registered_at", _TIME, nullable=False),
    Column("category", Text, nullable=False),
    Column("keywords", ARRAY(Text), nullable=False),
    Column("search_text", Text, nullable=False),
    Column("words", TSVECTOR, nullable=False),
)
SERVICE_EVENT = _event_table("service_event", "service_id")
SERVICE_EVENT.append_column(Column("reason", Text, nullable=False))

OFFERING = _table(
    "offering",
    Column("offering_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("withdrawn_at", _TIME),
    Column("revision", Integer, nullable=False),
    Column("previous_offering_id", Text),
)

CONTRACT = _table(
    "contract",
    Column("contract_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("requester_id", Text, nullable=False),
    Column("provider_id", Text, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("offering_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("terms", LargeBinary, nullable=False),
    Column("price_per_call_micros", BigInteger, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("price_id", BigInteger),
    Column("created_at", _TIME, nullable=False),
    Column("terminated_at", _TIME),
    Column("starts_at", _TIME),
    Column("ends_at", _TIME),
    Column("ending", Text, nullable=False),
    Column("prolongation_days", Integer, nullable=False),
    Column("trial_ends_at", _TIME),
    Column("trial_pending", Boolean, nullable=False),
    Column("remind_at", _TIME),
    Column("changes_at", _TIME),
    Column("due_at", _TIME),
    Column("revision", Integer, nullable=False),
)
CONTRACT_EVENT = _event_table("contract_event", "contract_id")

COMMAND = _table(
    "command",
    Column("subject_id", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("result", LargeBinary, nullable=False),
    Column("accepted_at", _TIME, nullable=False),
)

USER_ACCOUNT = _table(
    "user_account",
    Column("user_id", Text, primary_key=True),
    Column("partner_id", Text, nullable=False),
    Column("user_name", Text, nullable=False),
    Column("full_name", Text, nullable=False),
    Column("roles", ARRAY(SmallInteger), nullable=False),
    Column("state", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
)
USER_EVENT = _event_table("user_event", "user_id")

ONE_TIME_LINK = _table(
    "one_time_link",
    Column("user_id", Text, primary_key=True),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("expires_at", _TIME, nullable=False),
)

SESSION = _table(
    "session",
    Column("session_id", Text, primary_key=True),
    Column("token_digest", LargeBinary, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("last_used_at", _TIME, nullable=False),
    Column("ended_at", _TIME),
)

LOGIN_ATTEMPT = _table(
    "login_attempt",
    Column("login_digest", LargeBinary, primary_key=True),
    Column("failure_count", Integer, nullable=False),
    Column("last_at", _TIME, nullable=False),
    Column("locked_until_at", _TIME, nullable=False),
)

INBOX = _table(
    "inbox",
    Column("recipient_id", Text, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
)
NOTICE = _table(
    "notice",
    Column("recipient_id", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("contract_id", Text, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("interface_name", Text, nullable=False),
    Column("sender_id", Text, nullable=False),
    Column("in_inbox", Boolean, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("read_at", _TIME),
)
NOTICE_PREFERENCE = _table(
    "notice_preference",
    Column("partner_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("inbox", Boolean, nullable=False),
    Column("email", Boolean, nullable=False),
)
NOTICE_OUTBOX = _table(
    "notice_outbox",
    Column("recipient_id", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    Column("due_at", _TIME, nullable=False),
    Column("failure", Text),
    Column("smtp_code", Integer, nullable=False),
    Column("failed_at", _TIME),
)
