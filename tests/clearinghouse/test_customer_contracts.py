"""One customer's contract at a time: by his EVSP (1514 to 1516) and by himself (1517)."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from foundation.validation import violations
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1.identification_pb2 import TokenStatus
from tests.clearinghouse.house import (
    CARD,
    CONTRACT,
    EVSP,
    OTHER_EVSP,
    House,
    broken_fields,
    card,
    contract,
    new_request_id,
    reason_of,
    refused,
    shows,
)
from tests.clearinghouse.market_stand import hangs

LIST = "CLEARING_HOUSE_LIST"
ALLOWED, BLOCKED, UNKNOWN = ("ALLOWED", LIST), ("BLOCKED", LIST), ("UNKNOWN", LIST)
SECRET = "open sesame"
GREEN = wire.VALUE_ADDED_SERVICE_GREEN_ENERGY


async def broken(call: Any) -> tuple[str, list[str]]:
    """Await a refusal; give its reason and the fields that it names."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason_of(caught.value), broken_fields(caught.value)


@pytest.mark.usecase(1514)
@pytest.mark.parametrize(
    ("held", "field"),
    [
        (contract("not an id at all"), "contract.contract_id"),
        (contract(CONTRACT, card("12")), "contract.tokens[0].token_uid"),
        (contract(CONTRACT, card(), card("04:a1:b2:c3")), "contract.tokens[1]"),
        (contract(CONTRACT, card("")), "contract.tokens[0]"),
        (contract(CONTRACT, card("", token_hash=b"1" * 32)), "contract.tokens"),
        (contract(state=wire.CLEARING_CONTRACT_STATE_DISABLED), "contract.state"),
        (contract(policy="UNSPECIFIED"), "contract.whitelist_policy"),
    ],
)
async def test_a_contract_that_breaks_rules_is_not_created_and_the_refusal_says_where(
    house: House, held: wire.CustomerContract, field: str
) -> None:
    assert await broken(house.hold(held)) == ("REQUEST_INVALID", [field])
    assert not (await house.ask(EVSP, "ListCustomerContracts")).contracts


@pytest.mark.usecase(1514)
async def test_a_contract_and_a_card_are_one_evsps_once(house: House) -> None:
    await house.hold(contract())
    assert await refused(house.hold(contract())) == "ALREADY_EXISTS"
    again = contract("DE-EVS-C00000002", card(CARD))
    assert await broken(house.hold(again)) == ("REQUEST_INVALID", ["contract.tokens"])


@pytest.mark.usecase(1514)
async def test_a_provider_id_is_one_evsps_by_the_marketplaces_word_and_by_use(
    house: House,
) -> None:
    house.stand.holders = dict.fromkeys((EVSP, OTHER_EVSP), hangs)
    house.stand.owners["DEOTH"] = OTHER_EVSP
    foreign = ("REQUEST_INVALID", ["contract.contract_id"])
    assert await broken(house.hold(contract("DE-OTH-C00000001"))) == foreign
    await house.hold(contract())
    taken = contract("DE-EVS-C00000002", card("FFFFFFFF"))
    assert await broken(house.hold(taken, OTHER_EVSP)) == foreign
    explained = house.stand.explained
    await house.hold(contract("DE-EVS-C00000002", card("FFFFFFFF")))
    assert house.stand.explained == explained, "whose it is was known"


@pytest.mark.fault
@pytest.mark.usecase(1514)
async def test_without_the_marketplace_a_new_provider_id_waits(house: House) -> None:
    await house.stand.stop()
    assert await refused(house.hold(contract())) == "PROVIDER_UNREACHABLE"


@pytest.mark.usecase(1514)
async def test_a_contract_has_many_tokens_which_it_shows_by_their_hashes_only(
    house: House,
) -> None:
    await house.agree()
    uids = ["04A1B2C3", "04A1B2C3D4E5F6", "04A1B2C3D4E5F6070809"]
    made = await house.hold(
        contract(CONTRACT, *map(card, uids), customer_secret=SECRET, language="de")
    )
    assert not violations(made)
    assert [len(token.token_hash) for token in made.tokens] == [32, 32, 32]
    assert not any(token.token_uid for token in made.tokens)
    assert (made.customer_secret, made.evsp_partner_id, made.version_number) == ("", EVSP, 1)
    for uid in uids:
        assert await house.decided(shows(uid)) == ALLOWED
    read = await house.ask(EVSP, "GetCustomerContract", contract_id="deevsc00000001")
    assert read.contract == made


@pytest.mark.usecase(1515)
async def test_a_change_on_an_old_version_or_of_anothers_contract_is_refused(
    house: House,
) -> None:
    made = await house.hold(contract())
    change = {"contract": made, "expected_version_number": 2}
    assert await refused(house.ask(EVSP, "ChangeCustomerContract", **change)) == "CONFLICT"
    for rpc, fields in (
        ("ChangeCustomerContract", {**change, "expected_version_number": 1}),
        ("GetCustomerContract", {"contract_id": CONTRACT}),
        ("DisableCustomerContract", {"contract_id": CONTRACT}),
    ):
        assert await refused(house.ask(OTHER_EVSP, rpc, **fields)) == "NOT_FOUND"
    kept = (await house.ask(EVSP, "GetCustomerContract", contract_id=CONTRACT)).contract
    assert kept == made


@pytest.mark.usecase(1515)
async def test_a_change_takes_effect_on_the_next_question_and_keeps_what_is_given_by_hash(
    house: House,
) -> None:
    await house.agree()
    await house.hold(contract(CONTRACT, card(), card("00000002")))
    first = house.provider.parts.hashing.token(card().kind, CARD)
    kept = card("", "BLOCKED", token_hash=first)
    made = contract(CONTRACT, kept, card("00000003"))
    change = {"contract": made, "expected_version_number": 1, "request_id": new_request_id()}
    changed = (await house.ask(EVSP, "ChangeCustomerContract", **change)).contract
    assert changed.version_number == 2
    assert first in {token.token_hash for token in changed.tokens}
    decided = [await house.decided(shows(uid)) for uid in (CARD, "00000002", "00000003")]
    assert decided == [BLOCKED, UNKNOWN, ALLOWED]
    again = (await house.ask(EVSP, "ChangeCustomerContract", **change)).contract
    assert again == changed
    same = {"contract": changed, "expected_version_number": 2}
    unchanged = (await house.ask(EVSP, "ChangeCustomerContract", **same)).contract
    assert unchanged.version_number == 2, "what changes nothing is no version"


@pytest.mark.usecase(1516)
async def test_a_disabled_contract_is_refused_at_once_for_ever_and_kept(house: House) -> None:
    await house.agree()
    made = await house.hold(contract(policy="NEVER"))
    ended = (await house.ask(EVSP, "DisableCustomerContract", contract_id=CONTRACT)).contract
    assert ended.state == wire.CLEARING_CONTRACT_STATE_DISABLED
    assert await house.decided(shows()) == BLOCKED
    assert not house.stand.asked
    for rpc, fields in (
        ("DisableCustomerContract", {"contract_id": CONTRACT}),
        ("ChangeCustomerContract", {"contract": made, "expected_version_number": 2}),
    ):
        assert await refused(house.ask(EVSP, rpc, **fields)) == "STATE_NOT_ALLOWED"
    assert await refused(house.hold(contract())) == "ALREADY_EXISTS"
    assert not (await house.ask(EVSP, "ListCustomerContracts")).contracts
    everything = await house.ask(EVSP, "ListCustomerContracts", with_disabled=True)
    assert list(everything.contracts) == [ended]
    # His card may be given to another customer.
    await house.hold(contract("DE-EVS-C00000002"))
    assert await house.decided(shows()) == ALLOWED


@pytest.mark.usecase(1514)
async def test_lists_come_in_pages_by_contract_id(house: House) -> None:
    for number in (3, 1, 2):
        await house.hold(contract(f"DE-EVS-C0000000{number}", card(f"0000000{number}")))
    first = await house.ask(EVSP, "ListCustomerContracts", page={"page_size": 2})
    token = first.page.next_page_token
    rest = await house.ask(EVSP, "ListCustomerContracts", page={"page_token": token})
    found = [each.contract_id[-1] for each in (*first.contracts, *rest.contracts)]
    assert found == ["1", "2", "3"]


def own(*changes: str, **fields: Any) -> wire.CustomerContract:
    """Give a contract of which the customer may change some parts."""
    allowed = [wire.CustomerChange.Value(f"CUSTOMER_CHANGE_{name}") for name in changes]
    return contract(customer_changes=allowed, customer_secret=SECRET, **fields)


async def change(house: House, **fields: Any) -> wire.CustomerContract:
    values = {"contract_id": CONTRACT, "customer_secret": SECRET, **fields}
    made = await house.ask("portal", "ChangeOwnContract", **values)
    found: wire.CustomerContract = made.contract
    return found


@pytest.mark.usecase(1517)
async def test_a_wrong_secret_meets_no_contract_and_a_few_of_them_end_the_trying(
    house: House,
) -> None:
    await house.hold(own("LANGUAGE"))
    assert await refused(change(house, contract_id="DE-EVS-C9", language="de")) == "REQUEST_INVALID"
    nobody = change(house, contract_id="DE-EVS-C99999999", language="de")
    assert await refused(nobody) == "NOT_FOUND"
    for number in range(5):
        wrong = change(house, customer_secret=f"guess {number}", language="de")
        assert await refused(wrong) == "NOT_FOUND"
    assert await refused(change(house, language="de")) == "NOT_FOUND"
    # Others are not stopped by somebody's guessing.
    values = {"contract_id": CONTRACT, "customer_secret": SECRET, "language": "fr"}
    assert (await house.ask(EVSP, "ChangeOwnContract", **values)).contract.language == "fr"


@pytest.mark.usecase(1517)
async def test_a_contract_without_a_secret_is_changed_by_nobody_but_its_evsp(house: House) -> None:
    await house.hold(contract(customer_changes=[wire.CUSTOMER_CHANGE_LANGUAGE]))
    assert await refused(change(house, language="de")) == "NOT_FOUND"


@pytest.mark.usecase(1517)
async def test_what_the_evsp_does_not_allow_is_refused(house: House) -> None:
    made = await house.hold(own("UNBLOCK_TOKEN"))
    token_hash = made.tokens[0].token_hash
    wishes: list[dict[str, Any]] = [
        {"block_token_hash": token_hash},
        {"roaming_allowed": False},
        {"language": "de"},
        {"service_level": wire.ServiceLevel(roaming_allowed=True, max_power_w=1)},
        {"service_level": wire.ServiceLevel(roaming_allowed=True, value_added_services=[GREEN])},
        {"service_level": wire.ServiceLevel()},
    ]
    for wish in wishes:
        assert await refused(change(house, **wish)) == "ROLE_NOT_ALLOWED"
    unblocked = change(house, unblock_token_hash=token_hash)
    assert await refused(unblocked) == "STATE_NOT_ALLOWED", "he did not block it"
    read = (await house.ask(EVSP, "GetCustomerContract", contract_id=CONTRACT)).contract
    assert read == made


@pytest.mark.usecase(1517)
async def test_a_customer_blocks_and_unblocks_his_own_card(house: House) -> None:
    await house.agree()
    made = await house.hold(own("BLOCK_TOKEN", "UNBLOCK_TOKEN"))
    token_hash = made.tokens[0].token_hash
    assert await refused(change(house, block_token_hash=b"x" * 32)) == "NOT_FOUND"
    await change(house, block_token_hash=token_hash)
    assert await house.decided(shows()) == BLOCKED
    back = await change(house, unblock_token_hash=token_hash)
    assert await house.decided(shows()) == ALLOWED
    assert back.version_number == 3
    # What his EVSP blocked he cannot unblock.
    back.tokens[0].status = TokenStatus.TOKEN_STATUS_BLOCKED
    fields = {"contract": back, "expected_version_number": 3}
    await house.ask(EVSP, "ChangeCustomerContract", **fields)
    assert await refused(change(house, unblock_token_hash=token_hash)) == "STATE_NOT_ALLOWED"


@pytest.mark.usecase(1517)
async def test_a_customer_chooses_within_what_his_contract_gives_and_back_again(
    house: House,
) -> None:
    await house.agree()
    given = wire.ServiceLevel(
        minimum_level="GOLD",
        max_power_w=22_000,
        roaming_allowed=True,
        value_added_services=[GREEN, wire.VALUE_ADDED_SERVICE_RESERVATION],
    )
    await house.hold(own("ROAMING", "VALUE_ADDED_SERVICES", "LIMITS", service_level=given))

    def level(**fields: Any) -> wire.ServiceLevel:
        wanted = wire.ServiceLevel()
        wanted.CopyFrom(given)
        for name, value in fields.items():
            wanted.ClearField(name)  # type: ignore[arg-type]  # names of this message
            wanted.MergeFrom(wire.ServiceLevel(**{name: value}))
        return wanted

    for too_much in (
        level(max_power_w=50_000),
        level(max_power_w=0),
        level(value_added_services=[GREEN, wire.VALUE_ADDED_SERVICE_PARKING]),
        level(minimum_level="PLATINUM"),
        level(min_power_w=5),
    ):
        assert await refused(change(house, service_level=too_much)) == "REQUEST_INVALID"
    less = level(max_power_w=11_000, value_added_services=[GREEN])
    assert (await change(house, service_level=less)).service_level == less
    assert (await house.authorize(shows())).service_level == less
    await change(house, roaming_allowed=False)
    assert await house.decided(shows()) == ("NOT_ALLOWED", LIST)
    assert (await change(house, service_level=given)).service_level == given
    assert await house.decided(shows()) == ALLOWED


@pytest.mark.usecase(1517)
async def test_a_disabled_contract_is_changed_by_nobody(house: House) -> None:
    await house.hold(own("LANGUAGE"))
    await house.ask(EVSP, "DisableCustomerContract", contract_id=CONTRACT)
    assert await refused(change(house, language="de")) == "STATE_NOT_ALLOWED"
