"""SessionService: logs people in and out (use cases 1618, 1619)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from foundation.certificates import utc_now
from gem.marketplace.v1 import session_service_pb2
from interceptors.call import Call
from marketplace.common_passwords import common_passwords
from marketplace.notice_user import user_notices
from marketplace.open_sessions import partner_not_active
from marketplace.partner import PartnerState
from marketplace.password import check_password
from marketplace.password_hashing import PasswordHashing
from marketplace.rendering import timestamp
from marketplace.session import (
    SECRET_BYTES,
    Session,
    SessionLimits,
    login_digest,
    login_failed,
    secret_digest,
    session_not_accepted,
)
from marketplace.storage_command import Commands, transaction
from marketplace.storage_notice import tell
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_session import OpenedBy, SessionStorage
from marketplace.storage_user import UserStorage
from marketplace.user import User, UserState, UserStep, link_not_found, take_step
from marketplace.user_servicer import UserServicer, render_user


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What sessions stand on."""

    engine: AsyncEngine
    hashing: PasswordHashing
    limits: SessionLimits
    clock: Callable[[], datetime] = utc_now


class SessionServicer(UserServicer):
    """Serves `gem.marketplace.v1.SessionService`.

    What has a password in its request is not run as a command: a command's request leaves a digest
    behind, from which a password could be guessed far faster than from its hash.
    """

    def __init__(self, commands: Commands, parts: SessionParts) -> None:
        super().__init__(commands)
        self._engine = parts.engine
        self._hashing = parts.hashing
        self._limits = parts.limits
        self._clock = parts.clock

    async def Login(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.LoginRequest, call: Call
    ) -> session_service_pb2.LoginResponse:
        """Open a session for who proves to be a user."""
        name = (request.partner_id, request.user_name.lower())
        async with self._hashing.turn():
            user, kept = await self._proven(name, request.password)
            renewed = kept
            if self._hashing.is_outdated(kept):
                renewed = await self._hashing.hashed(request.password)
        token = secrets.token_urlsafe(SECRET_BYTES)
        now = self._clock()
        async with transaction(self._engine) as connection:
            await _check_unchanged(connection, user, kept)
            if renewed != kept:
                await UserStorage(connection).set_state(user.user_id, user.state, renewed)
            storage = SessionStorage(connection)
            await storage.forgive(login_digest(*name))
            session = await storage.open(
                Session(str(uuid4()), user.user_id, now, now),
                secret_digest(token),
                request.request_id,
            )
        return session_service_pb2.LoginResponse(
            session_token=token, session=self._render(session), user=render_user(user)
        )

    async def Logout(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.LogoutRequest, call: Call
    ) -> session_service_pb2.LogoutResponse:
        """End the calling session, or all of its user's."""
        async with transaction(self._engine) as connection:
            opened = await _calling(connection, call)
            only = "" if request.all_sessions else opened.session.session_id
            count = await SessionStorage(connection).end(
                self._clock(), opened.user.user_id, only=only
            )
        return session_service_pb2.LogoutResponse(ended_session_count=count)

    async def WhoAmI(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.WhoAmIRequest, call: Call
    ) -> session_service_pb2.WhoAmIResponse:
        """Say who calls."""
        assert call.caller is not None, "the method is not public"
        response = session_service_pb2.WhoAmIResponse(subject_id=call.caller.subject_id)
        response.access_roles.extend(sorted(call.caller.roles))  # type: ignore[arg-type]  # numbers
        if call.caller.session_id:
            async with transaction(self._engine) as connection:
                opened = await _calling(connection, call)
            response.user.CopyFrom(render_user(opened.user))
            response.session.CopyFrom(self._render(opened.session))
        return response

    async def RedeemOneTimeLink(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.RedeemOneTimeLinkRequest, call: Call
    ) -> session_service_pb2.RedeemOneTimeLinkResponse:
        """Set the password of whoever has the link."""
        digest, now = secret_digest(request.secret), self._clock()
        async with transaction(self._engine) as connection:
            user = await UserStorage(connection).invited_by(digest, now)
        if user is None:
            raise link_not_found()
        await _check_policy(request.password, user, "password")
        async with self._hashing.turn():
            password_hash = await self._hashing.hashed(request.password)
        async with transaction(self._engine) as connection:
            # The link may have been used or replaced meanwhile.
            before = await UserStorage(connection).invited_by(digest, now)
            if before is None:
                raise link_not_found()
            after = await _set_password(connection, before, password_hash, now)
            await SessionStorage(connection).end(now, after.user_id)
            await _told(connection, after, now)
        return session_service_pb2.RedeemOneTimeLinkResponse(user=render_user(after))

    async def ChangePassword(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.ChangePasswordRequest, call: Call
    ) -> session_service_pb2.ChangePasswordResponse:
        """Replace the calling user's password."""
        async with transaction(self._engine) as connection:
            opened = await _calling(connection, call)
        user = opened.user
        await _check_policy(request.new_password, user, "new_password")
        async with self._hashing.turn():
            name = (user.partner_id, user.user_name)
            _, kept = await self._proven(name, request.current_password)
            password_hash = await self._hashing.hashed(request.new_password)
        now = self._clock()
        async with transaction(self._engine) as connection:
            await _check_unchanged(connection, user, kept)
            await _set_password(connection, user, password_hash, now)
            count = await SessionStorage(connection).end(
                now, user.user_id, but=opened.session.session_id
            )
            await _told(connection, user, now)
        return session_service_pb2.ChangePasswordResponse(ended_session_count=count)

    async def _proven(self, name: tuple[str, str], password: str) -> tuple[User, str]:
        """Give the user of the name and password, and the hash; the same work for any name.

        Raises:
            MarketError: LOGIN_FAILED, LOGIN_LOCKED.
        """
        async with transaction(self._engine) as connection:
            storage = SessionStorage(connection)
            await storage.count_attempt(login_digest(*name), self._clock())
            found = await UserStorage(connection).credentials(*name)
        kept = found[1] if found is not None else ""
        if not await self._hashing.matches(password, kept) or found is None:
            raise login_failed()
        return found

    def _render(self, session: Session) -> session_service_pb2.Session:
        return session_service_pb2.Session(
            session_id=session.session_id,
            create_time=timestamp(session.created_at),
            expire_time=timestamp(session.created_at + self._limits.longest),
            idle_timeout_s=int(self._limits.idle.total_seconds()),
        )


async def _calling(connection: AsyncConnection, call: Call) -> OpenedBy:
    """Give the session in which a call comes; MarketError SESSION_NOT_ACCEPTED without one."""
    session_id = call.caller.session_id if call.caller else ""
    found = await SessionStorage(connection).by_ids([session_id])
    if not found:
        raise session_not_accepted()
    return found[0]


async def _check_unchanged(connection: AsyncConnection, user: User, kept: str) -> None:
    """Refuse a user that was changed while its password was compared.

    Raises:
        MarketError: LOGIN_FAILED; PARTNER_NOT_ACTIVE where its partner may not act.
    """
    if user.partner_id:
        partner = await PartnerStorage(connection).shared(user.partner_id)
        if partner.state is not PartnerState.ACTIVE:
            raise partner_not_active()
    storage = UserStorage(connection)
    found = await storage.credentials(user.partner_id, user.user_name, held=True)
    if found is None or found[1] != kept or found[0].state is not UserState.ACTIVE:
        raise login_failed()


async def _check_policy(password: str, user: User, field: str) -> None:
    common = await asyncio.to_thread(common_passwords)
    check_password(password, user.user_name, common, field)


async def _set_password(
    connection: AsyncConnection, user: User, password_hash: str, now: datetime
) -> User:
    after = replace(user, state=take_step(user.state, UserStep.PASSWORD_SET))
    storage = UserStorage(connection)
    await storage.set_state(after.user_id, after.state, password_hash)
    await storage.drop_link(after.user_id)
    await storage.remember(after, UserStep.PASSWORD_SET, _itself(after), now)
    name = login_digest(after.partner_id, after.user_name)
    await SessionStorage(connection).forgive(name)
    return after


def _itself(user: User) -> str:
    """Give the actor who sets a password: nobody but the user itself."""
    if user.partner_id:
        return f"{user.partner_id}:{user.user_name}"
    return f"operator/{user.user_name}"


async def _told(connection: AsyncConnection, user: User, now: datetime) -> None:
    """Tell that a user has set a password, as the last part of the transaction."""
    await tell(connection, user_notices(user, UserStep.PASSWORD_SET, _itself(user), now))
