"""The secret by which an applicant follows its request."""

from __future__ import annotations

import pytest

from marketplace import partner_registration_servicer as servicer
from marketplace.session import SECRET_BYTES, secret_digest


def test_a_reference_can_be_typed_after_a_command_and_is_kept_as_a_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("secrets.token_urlsafe", lambda size: "-" * size)
    reference, digest = servicer._new_reference()
    assert reference == "r" + "-" * SECRET_BYTES
    assert digest == secret_digest(reference)


def test_references_differ_and_fit_their_field() -> None:
    made = {servicer._new_reference()[0] for _ in range(50)}
    assert len(made) == 50
    assert all(SECRET_BYTES < len(reference) <= 64 for reference in made)
