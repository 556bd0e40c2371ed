"""The half of SessionService in which administrators say who their users are."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import uuid4

from gem.marketplace.v1 import session_service_pb2, user_pb2
from interceptors.call import Call
from marketplace.notice_user import user_notices
from marketplace.partner import check_not_deleted
from marketplace.rendering import enum_number, timestamp
from marketplace.session import SECRET_BYTES, secret_digest
from marketplace.storage_command import Commands, Work
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_text
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_session import SessionStorage
from marketplace.storage_user import UserStorage
from marketplace.user import (
    ADMINISTRATOR,
    LINK_LIFETIME,
    User,
    UserState,
    UserStep,
    check_may_change,
    check_may_create,
    check_may_invite,
    check_roles,
    check_room,
    check_stays_administered,
    take_step,
    whose_users,
)


class UserServicer:
    """Users of partners, and operators (use case 1618: roles and access rights)."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def CreateUser(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.CreateUserRequest, call: Call
    ) -> session_service_pb2.CreateUserResponse:
        """Create a user without a password, and the link to set one."""
        secret = ""

        async def work(w: Work) -> session_service_pb2.CreateUserResponse:
            nonlocal secret
            partner_id = whose_users(w.actor, request.partner_id)
            roles = tuple(sorted(request.roles))
            new = NewUser(partner_id, request.user_name, request.full_name, roles)
            user, secret, link = await create_user(w, new)
            return session_service_pb2.CreateUserResponse(
                user=render_user(user), one_time_link=link
            )

        response_class = session_service_pb2.CreateUserResponse
        response = await self._commands.run(request, call, response_class, work)
        response.one_time_link.secret = secret
        return response

    async def CreateOneTimeLink(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.CreateOneTimeLinkRequest, call: Call
    ) -> session_service_pb2.CreateOneTimeLinkResponse:
        """Give a user a new link for a password."""
        secret = ""

        async def work(w: Work) -> session_service_pb2.CreateOneTimeLinkResponse:
            nonlocal secret
            user = await _named(w, request)
            check_may_invite(w.actor, user)
            after = replace(user, state=take_step(user.state, UserStep.LINK_MADE))
            storage = UserStorage(w.connection)
            await storage.remember(after, UserStep.LINK_MADE, w.actor.name, w.now)
            secret, link = await _new_link(w, after)
            await _told(w, after, UserStep.LINK_MADE)
            return session_service_pb2.CreateOneTimeLinkResponse(
                user=render_user(after), one_time_link=link
            )

        response_class = session_service_pb2.CreateOneTimeLinkResponse
        response = await self._commands.run(request, call, response_class, work)
        response.one_time_link.secret = secret
        return response

    async def SetUserRoles(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.SetUserRolesRequest, call: Call
    ) -> session_service_pb2.SetUserRolesResponse:
        """Replace a user's roles."""

        async def work(w: Work) -> session_service_pb2.SetUserRolesResponse:
            before = await _named(w, request)
            after = replace(before, roles=tuple(sorted(request.roles)))
            check_roles(after.partner_id, after.roles)
            await _check_change(w, after)
            storage = UserStorage(w.connection)
            await storage.set_roles(after.user_id, after.roles)
            await storage.remember(after, UserStep.ROLES_SET, w.actor.name, w.now)
            await _told(w, after, UserStep.ROLES_SET)
            return session_service_pb2.SetUserRolesResponse(user=render_user(after))

        response = session_service_pb2.SetUserRolesResponse
        return await self._commands.run(request, call, response, work)

    async def DisableUser(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.DisableUserRequest, call: Call
    ) -> session_service_pb2.DisableUserResponse:
        """End that a user may log in, and its sessions."""

        async def work(w: Work) -> session_service_pb2.DisableUserResponse:
            after = await _switched(w, request, UserStep.DISABLED)
            await UserStorage(w.connection).drop_link(after.user_id)
            await SessionStorage(w.connection).end(w.now, after.user_id)
            await _told(w, after, UserStep.DISABLED)
            return session_service_pb2.DisableUserResponse(user=render_user(after))

        response = session_service_pb2.DisableUserResponse
        return await self._commands.run(request, call, response, work)

    async def EnableUser(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.EnableUserRequest, call: Call
    ) -> session_service_pb2.EnableUserResponse:
        """Let a disabled user in again, with a new password."""

        async def work(w: Work) -> session_service_pb2.EnableUserResponse:
            after = await _switched(w, request, UserStep.ENABLED)
            await _told(w, after, UserStep.ENABLED)
            return session_service_pb2.EnableUserResponse(user=render_user(after))

        response = session_service_pb2.EnableUserResponse
        return await self._commands.run(request, call, response, work)

    async def ListUsers(  # noqa: N802  # the rpc's name
        self, request: session_service_pb2.ListUsersRequest, call: Call
    ) -> session_service_pb2.ListUsersResponse:
        """List users by name."""
        page = page_by_text(request.page)
        async with self._commands.read(call) as w:
            partner_id = whose_users(w.actor, request.partner_id)
            if partner_id:
                await PartnerStorage(w.connection).get(partner_id)
            users, info = await UserStorage(w.connection).page(page, partner_id)
        return session_service_pb2.ListUsersResponse(users=map(render_user, users), page=info)


def render_user(user: User) -> user_pb2.User:
    """Render a user; nobody but administrators and the user itself sees it."""
    rendered: Any = user_pb2.User(
        partner_id=user.partner_id,
        user_name=user.user_name,
        full_name=user.full_name,
        create_time=timestamp(user.created_at),
    )
    rendered.roles.extend(user.roles)
    rendered.state = enum_number(user_pb2.UserState, "USER_STATE", user.state)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to create."""

    #: Empty for an operator of the marketplace.
    partner_id: str
    user_name: str
    full_name: str
    #: Values of `gem.marketplace.v1.UserRole`, ascending.
    roles: tuple[int, ...]

    @classmethod
    def administrator(cls, partner_id: str, user_name: str, full_name: str) -> Self:
        """Give the first user of a partner."""
        return cls(partner_id, user_name, full_name, (ADMINISTRATOR,))


async def create_user(w: Work, new: NewUser) -> tuple[User, str, user_pb2.OneTimeLink]:
    """Create a user; gives the secret of its link, and the link without it.

    Raises:
        MarketError: NOT_FOUND, ALREADY_EXISTS, REQUEST_INVALID, ROLE_NOT_ALLOWED; STATE_NOT_ALLOWED
            where the partner is deleted, has an administrator already, or has no room.
    """
    await _held(w, new.partner_id)
    check_roles(new.partner_id, new.roles)
    storage = UserStorage(w.connection)
    users = await storage.all_of(new.partner_id)
    check_may_create(w.actor, new.partner_id, new.roles, users)
    check_room(users)
    user = User(
        user_id=str(uuid4()),
        partner_id=new.partner_id,
        user_name=new.user_name,
        full_name=new.full_name,
        roles=new.roles,
        state=UserState.INVITED,
        created_at=w.now,
    )
    await storage.add(user)
    await storage.remember(user, UserStep.CREATED, w.actor.name, w.now)
    secret, link = await _new_link(w, user)
    await _told(w, user, UserStep.CREATED)
    return user, secret, link


async def _held(w: Work, partner_id: str) -> str:
    """Hold a partner, so that changes of its users come one by one.

    Raises:
        MarketError: NOT_FOUND; STATE_NOT_ALLOWED where it is deleted.
    """
    if partner_id:
        check_not_deleted(await PartnerStorage(w.connection).locked(partner_id))
    return partner_id


async def _named(w: Work, request: Any) -> User:
    """Give the user that a request means, held until the end; MarketError NOT_FOUND."""
    partner_id = await _held(w, whose_users(w.actor, request.partner_id))
    return await UserStorage(w.connection).locked(partner_id, request.user_name)


async def _check_change(w: Work, after: User) -> None:
    check_may_change(w.actor, after)
    users = await UserStorage(w.connection).all_of(after.partner_id)
    check_stays_administered(after, users)


async def _switched(w: Work, request: Any, step: UserStep) -> User:
    """Disable or enable a user; either way the password before is not accepted any more."""
    before = await _named(w, request)
    check_may_change(w.actor, before)
    after = replace(before, state=take_step(before.state, step))
    await _check_change(w, after)
    storage = UserStorage(w.connection)
    await storage.set_state(after.user_id, after.state, "")
    await storage.remember(after, step, w.actor.name, w.now)
    return after


async def _told(w: Work, user: User, step: UserStep) -> None:
    """Tell of a step of a user, as the last part of the transaction."""
    await tell(w.connection, user_notices(user, step, w.actor.name, w.now))


async def _new_link(w: Work, user: User) -> tuple[str, user_pb2.OneTimeLink]:
    """Make a user's link; the message is kept for repetitions and so lacks the secret."""
    secret = secrets.token_urlsafe(SECRET_BYTES)
    expires_at = w.now + LINK_LIFETIME
    await UserStorage(w.connection).put_link(user.user_id, secret_digest(secret), expires_at)
    return secret, user_pb2.OneTimeLink(expire_time=timestamp(expires_at))
