"""SessionService over a real database, without a transport and with cheap hashes."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

from argon2 import PasswordHasher
from google.protobuf import message_factory
from sqlalchemy import text

from foundation.certificates import utc_now
from foundation.validation import violations
from gem.marketplace.v1 import session_service_pb2
from gem.marketplace.v1.user_pb2 import UserRole
from gem.options.v1.options_pb2 import AccessRole
from interceptors.access import AccessCheck
from interceptors.call import Call, Caller
from interceptors.core_services import CoreServices
from interceptors.session import SESSION_KEY, SessionCheck
from marketplace.open_sessions import OpenSessions
from marketplace.password_hashing import PasswordHashing
from marketplace.session import SessionLimits
from marketplace.session_servicer import SessionParts, SessionServicer
from marketplace.storage_command import Commands
from tests.control_plane import ControlPlane
from tests.interceptors.support import MemoryWire, make_call

ADMINISTRATOR = int(UserRole.USER_ROLE_ADMINISTRATOR)
BUYER = int(UserRole.USER_ROLE_BUYER)
SELLER = int(UserRole.USER_ROLE_SELLER)
VIEWER = int(UserRole.USER_ROLE_VIEWER)
BUSINESS = int(UserRole.USER_ROLE_BUSINESS_OPERATOR)
TECHNICAL = int(UserRole.USER_ROLE_TECHNICAL_OPERATOR)

PASSWORD = "seven green herons"
OTHER_PASSWORD = "eight purple storks"
LIMITS = SessionLimits(idle=timedelta(minutes=30), longest=timedelta(hours=12))
_SERVICE = session_service_pb2.DESCRIPTOR.services_by_name["SessionService"]
_OPERATOR = Caller(
    "business", frozenset({int(AccessRole.ACCESS_ROLE_BUSINESS_OPERATOR)}), b"operator"
)


class CountingHashing(PasswordHashing):
    """Counts what it hashes and compares."""

    def __init__(self) -> None:
        super().__init__(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.compared = 0

    async def matches(self, password: str, kept: str) -> bool:
        self.compared += 1
        return await super().matches(password, kept)


class SessionPlane:
    """The service with the interceptors before it; the test sets the time."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.now: datetime = utc_now()
        self.hashing = CountingHashing()
        self._numbers = itertools.count(1)
        self._core = CoreServices(violations)
        engine = plane.engine
        parts = SessionParts(engine, self.hashing, LIMITS, self._clock)
        self._core.add(_SERVICE, SessionServicer(Commands(engine, self._clock), parts))
        self._access = AccessCheck(self._core.access(), lambda _: False)
        self.sessions = OpenSessions(engine, LIMITS, self._clock)
        self._check = SessionCheck(self.sessions, self._access.is_public)

    def later(self, **delta: float) -> None:
        """Let time pass."""
        self.now += timedelta(**delta)

    async def ask(self, method: str, token: str = "", **fields: Any) -> Any:
        """Call as who has the token; without one as nobody."""
        return await self._ask(method, {SESSION_KEY: token} if token else {}, None, fields)

    async def operate(self, method: str, **fields: Any) -> Any:
        """Call with the business operator's certificate."""
        return await self._ask(method, {}, _OPERATOR, fields)

    async def user(
        self, partner_id: str, user_name: str, *roles: int, token: str = "", **fields: Any
    ) -> str:
        """Create a user who sets a password; gives the token of a first session."""
        secret = await self.created(partner_id, user_name, *roles, token=token, **fields)
        await self.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)
        return await self.login(partner_id, user_name)

    async def created(
        self, partner_id: str, user_name: str, *roles: int, token: str = "", **fields: Any
    ) -> str:
        """Create a user; gives the secret of the one-time link."""
        names = {"partner_id": partner_id, "user_name": user_name, "full_name": "Ada Byron"}
        values = {**names, "roles": roles, **fields}
        if token:
            response = await self.ask("CreateUser", token, **values)
        else:
            response = await self.operate("CreateUser", **values)
        return str(response.one_time_link.secret)

    async def login(
        self, partner_id: str, user_name: str, password: str = PASSWORD, **fields: Any
    ) -> str:
        """Log in; gives the token."""
        names = {"partner_id": partner_id, "user_name": user_name, "password": password}
        return str((await self.ask("Login", **names, **fields)).session_token)

    async def rows(self, query: str) -> list[Any]:
        """Read what is stored."""
        async with self.plane.engine.connect() as connection:
            return list((await connection.execute(text(query))).all())

    def _clock(self) -> datetime:
        return self.now

    async def _ask(
        self, method: str, metadata: dict[str, str], caller: Caller | None, fields: Any
    ) -> Any:
        found = _SERVICE.methods_by_name[method]
        if "request_id" in found.input_type.fields_by_name:
            fields.setdefault("request_id", f"of-people-{next(self._numbers)}")
        request = message_factory.GetMessageClass(found.input_type)(**fields)
        path = f"/{_SERVICE.full_name}/{method}"
        # Who has a certificate comes to the other listener.
        certificate = b"pem" if caller else None
        call = make_call(
            request.SerializeToString(),
            method=path,
            metadata=metadata,
            caller=caller,
            peer_certificate=certificate,
        )

        async def accessed(identified: Call) -> None:
            await self._access(identified, self._core.methods()[path])

        await self._check(call, accessed)
        assert isinstance(call.wire, MemoryWire)
        (raw,) = call.wire.written
        return message_factory.GetMessageClass(found.output_type).FromString(raw)
