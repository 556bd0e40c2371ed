"""Short ways through the life of a partner, for tests of PartnerService."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from foundation.certificates import new_key_and_csr
from tests.control_plane import BUSINESS, EVSE_OPERATOR, PROFILE, ControlPlane

#: Somebody who is no partner; the methods that it calls are for everybody.
ANYBODY = "anybody"


def profile_of(email: str, **fields: Any) -> dict[str, Any]:
    """Give a profile whose responsible person has this address."""
    person = {"full_name": "Ada Byron", "email": email, "phone": "+49301234567"}
    return {**PROFILE, "responsible_person": person, **fields}


class Office:
    """Calls PartnerService for applicants, partners and the business operator."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane

    async def ask(self, who: str, method: str, **fields: Any) -> Any:
        """Call a method of PartnerService."""
        return await self.plane.ask(who, f"PartnerService/{method}", **fields)

    async def apply(self, partner_id: str = "acme", **fields: Any) -> Any:
        """Make a registration request."""
        values: dict[str, Any] = {
            "partner_id": partner_id,
            "profile": profile_of(f"ada@{partner_id}.example"),
            "roles": [EVSE_OPERATOR],
            "accepted_partner_contract_version": 1,
            **fields,
        }
        return await self.ask(ANYBODY, "RequestPartnerRegistration", **values)

    async def track(self, reference: str) -> Any:
        """Look how a request stands, as its applicant."""
        method = "TrackPartnerRegistration"
        return (await self.ask(ANYBODY, method, reference=reference)).registration

    async def approve(self, applied: Any) -> Any:
        """Approve a request."""
        registration_id = applied.registration.registration_id
        method = "ApprovePartnerRegistration"
        return (await self.ask(BUSINESS, method, registration_id=registration_id)).partner

    async def refuse(self, applied: Any, reason: str = "No such company.") -> Any:
        """Refuse a request."""
        fields = {"registration_id": applied.registration.registration_id, "reason": reason}
        return (await self.ask(BUSINESS, "RefusePartnerRegistration", **fields)).registration

    async def certificate(self, reference: str, **fields: Any) -> Any:
        """Use a reference for the first certificate."""
        _, csr = new_key_and_csr("acme")
        values = {"reference": reference, "certificate_signing_request_pem": csr, **fields}
        return await self.ask(ANYBODY, "IssueFirstCertificate", **values)

    async def administrator(self, reference: str, **fields: Any) -> Any:
        """Use a reference for the first administrator."""
        values = {"reference": reference, "user_name": "ada", "full_name": "Ada Byron", **fields}
        return await self.ask(ANYBODY, "CreateFirstAdministrator", **values)

    async def inactive(self, partner_id: str = "acme", **fields: Any) -> None:
        """Register, activate and inactivate a partner."""
        await self.plane.partner(partner_id, **fields)
        await self.ask(BUSINESS, "InactivatePartner", partner_id=partner_id)

    async def events(self, partner_id: str, who: str = BUSINESS) -> list[Any]:
        """Give the history of a partner."""
        return list((await self.ask(who, "ListPartnerEvents", partner_id=partner_id)).events)

    async def rows(self, query: str, **parameters: Any) -> list[Any]:
        """Read what is stored."""
        async with self.plane.engine.connect() as connection:
            return list((await connection.execute(text(query), parameters)).all())
