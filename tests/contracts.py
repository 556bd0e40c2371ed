"""Offerings of the contract framework for tests, and short ways to ask for contracts by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from gem.marketplace.v1.contract_amendment_pb2 import AmendmentState
from gem.marketplace.v1.contract_pb2 import ContractEventKind, ContractState
from tests.control_plane import ControlPlane

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def price(micros: int) -> Any:
    """Give a price for one call."""
    return {"per_call": {"price": {"amount_micros": micros, "currency_code": "EUR"}}}


def section(name: str, *, required: bool = True, of: str = "", **value: Any) -> dict[str, Any]:
    """Give a section that fills the framework's `of`, by default that of the same name."""
    return {
        "section_id": name,
        "title": name.title(),
        "text": f"About {name}.",
        "required": required,
        "framework_section_id": of or name,
        **value,
    }


def framework_terms(
    *,
    term: dict[str, Any] | None = None,
    notice_days: int = 0,
    trial: dict[str, Any] | None = None,
    micros: int = 20_000,
    without: tuple[str, ...] = (),
    extra: tuple[dict[str, Any], ...] = (),
) -> Any:
    """Give terms of an offering by version 1 of the framework."""
    sections = [
        section("parties"),
        section("term", term=term or {}),
        section("notice", notice={"notice_days": notice_days}),
        section("service-level", service_level={"availability_permille": 990}),
        section("price"),
        section("data-protection", purposes={"purposes": ["billing", "support"]}),
        section("liability"),
        *([section("trial", trial=trial)] if trial else []),
        *extra,
    ]
    kept = [each for each in sections if each["section_id"] not in without]
    return {"framework_version": 1, "sections": kept, "price": price(micros)}


def time(instant: datetime) -> Timestamp:
    """Give an instant as a message."""
    made = Timestamp()
    made.FromDatetime(instant)
    return made


def state_of(contract: Any) -> str:
    """Give the name of a contract's state."""
    return ContractState.Name(contract.state).removeprefix("CONTRACT_STATE_")


def amendment_state(amendment: Any) -> str:
    """Give the name of a request's state."""
    return AmendmentState.Name(amendment.state).removeprefix("AMENDMENT_STATE_")


class Deal:
    """One contract of `evsp` with `volt` on a control plane whose clock the test moves."""

    def __init__(self, plane: ControlPlane, service: Any, contract: Any) -> None:
        self.plane = plane
        self.service = service
        self.contract_id = contract.contract_id
        self.made = contract

    async def ask(self, who: str, method: str, **fields: Any) -> Any:
        """Call ContractService as somebody, about the contract unless a request is named."""
        if "amendment_id" not in fields:
            fields.setdefault("contract_id", self.contract_id)
        return await self.plane.ask(who, f"ContractService/{method}", **fields)

    async def contract(self, who: str = "evsp") -> Any:
        """Give the contract as it is now."""
        return (await self.ask(who, "GetContract")).contract

    async def request(self, kind: str, who: str = "evsp", **fields: Any) -> Any:
        """Ask the other party for something."""
        rpc = "RequestServiceAddition" if kind == "Addition" else f"RequestContract{kind}"
        return (await self.ask(who, rpc, **{"reason": "Because.", **fields})).amendment

    async def decide(self, step: str, amendment: Any, who: str = "volt") -> Any:
        """Accept, reject or revoke a request."""
        amendment_id = amendment.amendment_id
        rpc = f"{step}ContractAmendment"
        return (await self.ask(who, rpc, amendment_id=amendment_id)).amendment

    async def history(self) -> list[str]:
        """Give the kinds of the history's entries, the oldest first."""
        events = (await self.ask("evsp", "ListContractEvents")).events
        prefix = "CONTRACT_EVENT_KIND_"
        return [ContractEventKind.Name(event.kind).removeprefix(prefix) for event in events]

    def later(self, **delta: float) -> None:
        """Move the clock on."""
        assert self.plane.now is not None
        self.plane.now += timedelta(**delta)


async def deal(plane: ControlPlane, terms: dict[str, Any] | None = None, **fields: Any) -> Deal:
    """Offer a service of `volt` by the framework and contract it for `evsp`, at START."""
    plane.now = START
    (service,) = await plane.market("volt")
    offering = await offer(plane, service, terms or framework_terms())
    names = [each.section_id for each in offering.terms.sections]
    values = {"section_ids": names, "offering_id": offering.offering_id, **fields}
    contract = await plane.contract("evsp", service, **values)
    return Deal(plane, service, contract)


async def offer(plane: ControlPlane, service: Any, terms: dict[str, Any]) -> Any:
    """Offer a service by the framework."""
    method = "ContractService/CreateOffering"
    answer = await plane.ask(
        service.provider_id, method, service_id=service.service_id, terms=terms
    )
    return answer.offering
