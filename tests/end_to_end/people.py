"""People in a market: they come over TLS without a certificate and send the session's token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grpc import aio, ssl_channel_credentials

from gem.marketplace.v1 import session_service_pb2 as sessions
from gem.marketplace.v1 import session_service_pb2_grpc
from gemarket.administration import new_request_id
from tests.end_to_end.whole_market import WholeMarket

PASSWORD = "seven green herons"
TIMEOUT_S = 20.0


def token_metadata(token: str) -> aio.Metadata:
    """Give what a call in a session carries."""
    return aio.Metadata(("gem-session", token))


class People:
    """The listener for people, as somebody without a certificate reaches it."""

    def __init__(self, whole: WholeMarket) -> None:
        credentials = ssl_channel_credentials(whole.market.authority.root_pem)
        local = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = aio.secure_channel(whole.market.session_address, credentials, options=local)
        self.stub = session_service_pb2_grpc.SessionServiceStub(self.channel)
        self.operators = session_service_pb2_grpc.SessionServiceStub(whole.business.core.channel)

    async def ask(self, method: str, token: str = "", **fields: Any) -> Any:
        """Call SessionService; a command without `request_id` gets a fresh one."""
        return await ask(self.stub, method, token, **fields)

    async def created(
        self, partner_id: str, user_name: str, roles: Sequence[int], token: str = ""
    ) -> str:
        """Create a user, as the business operator or in a session; gives the link's secret."""
        fields = {"partner_id": partner_id, "user_name": user_name, "roles": roles}
        stub = self.stub if token else self.operators
        response = await ask(stub, "CreateUser", token, full_name="Ada B.", **fields)
        return str(response.one_time_link.secret)

    async def user(
        self, partner_id: str, user_name: str, roles: Sequence[int], token: str = ""
    ) -> str:
        """Create a user who sets a password and logs in; gives the token."""
        secret = await self.created(partner_id, user_name, roles, token)
        await self.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)
        return await self.login(partner_id, user_name)

    async def login(self, partner_id: str, user_name: str, password: str = PASSWORD) -> str:
        """Log in; gives the token."""
        names = {"partner_id": partner_id, "user_name": user_name}
        response = await self.ask("Login", password=password, **names)
        return str(response.session_token)


async def ask(stub: Any, method: str, token: str = "", **fields: Any) -> Any:
    """Call a method of SessionService with a stub."""
    request_class = getattr(sessions, f"{method}Request")
    if "request_id" in request_class.DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", new_request_id())
    metadata = token_metadata(token) if token else None
    request = request_class(**fields)
    return await getattr(stub, method)(request, timeout=TIMEOUT_S, metadata=metadata)
