"""The clearing house's process: settings, keys, who may call, its database and certificate."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse import market_client
from clearinghouse.provider import SERVICES, serve
from clearinghouse.provider_settings import read_settings
from clearinghouse.token_hash import (
    KEY_BYTES_MIN,
    TokenHashing,
    read_token_key,
    tidy_uid,
    write_token_key,
)
from foundation.certificates import provider_dns_name
from foundation.errors import SettingsError
from gem.roaming.v1.clearing_service_pb2 import AuthorizeRequest
from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceStub
from gem.roaming.v1.identification_pb2 import Identification, IdentificationKind
from tests.clearinghouse.house import (
    EVSE,
    EVSP,
    HOUSE,
    PATIENCE_S,
    House,
    contract,
    house_settings,
    refused,
    running_house,
    shows,
)
from tests.clearinghouse.market_stand import MarketStand, says
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity

RFID = IdentificationKind.IDENTIFICATION_KIND_RFID
APP = IdentificationKind.IDENTIFICATION_KIND_APP
AWAY = "postgresql+asyncpg://nobody@/nothing?host=/nonexistent"


def test_a_key_that_is_short_missing_or_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(SettingsError, match="cannot be read"):
        read_token_key(path)
    write_token_key(path)
    assert len(read_token_key(path)) == KEY_BYTES_MIN
    assert read_token_key(path) != b"\0" * KEY_BYTES_MIN
    with pytest.raises(FileExistsError):
        write_token_key(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="only its owner"):
        read_token_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match="bytes"):
        read_token_key(path)


def test_hashes_depend_on_the_key_the_kind_and_the_contract() -> None:
    one, other = TokenHashing(b"1" * 32), TokenHashing(b"2" * 32)
    assert one.token(RFID, "04A1B2C3") == one.token(RFID, "04:a1-b2 c3")
    assert one.token(RFID, "04A1B2C3") != one.token(APP, "04A1B2C3")
    assert one.token(RFID, "04A1B2C3") != other.token(RFID, "04A1B2C3")
    assert one.secret("DEEVSC00000001", "s") != one.secret("DEEVSC00000002", "s")
    assert one.content(b"ab", b"c") != one.content(b"a", b"bc")
    assert one.identification(Identification(kind=APP)) is None
    assert b"1" * 32 not in repr(one).encode()


@given(st.text(max_size=24))
def test_a_cards_id_is_hexadecimal_of_known_length_or_refused(uid: str) -> None:
    try:
        tidy = tidy_uid(RFID, uid)
    except ValueError:
        return
    assert len(tidy) in {8, 14, 20}
    assert int(tidy, 16) >= 0
    assert tidy == tidy.upper()


def config(tmp_path: Path, identity: Identity, **changes: Any) -> Path:
    """Write a file of settings."""
    made = house_settings(tmp_path, identity, database_url=AWAY, market_address="localhost:1")
    values = made.model_dump(mode="json", exclude_unset=True)
    values |= {name: Path(path).name for name, path in values.items() if name.endswith("_file")}
    path = tmp_path / "house.json"
    path.write_text(json.dumps({**values, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"unknown": 1}, "unknown"),
        ({"partner_id": "No Partner"}, "partner_id"),
        ({"question_s": 0}, "question_s"),
        ({"check_policy": "sometimes"}, "check_policy"),
        ({"currency_code": "euro"}, "currency_code"),
    ],
)
def test_wrong_settings_are_refused_with_their_key(
    tmp_path: Path, make_identity: MakeIdentity, changes: dict[str, Any], key: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(config(tmp_path, make_identity(HOUSE), **changes))
    assert caught.value.key == key


async def test_a_port_that_is_taken_or_a_missing_file_stops_the_start(
    tmp_path: Path, make_identity: MakeIdentity, stand: MarketStand
) -> None:
    identity = make_identity(HOUSE)
    assert read_settings(config(tmp_path, identity)).key_file == tmp_path / "key_file"
    made = read_settings(config(tmp_path, identity, port=stand.port))
    with pytest.raises(SettingsError):
        await serve(made)
    path = config(tmp_path, identity)
    (tmp_path / "certificate_file").unlink()
    with pytest.raises(SettingsError):
        await serve(read_settings(path))


@pytest.mark.usecase(1502)
async def test_only_the_marketplace_may_ask(house: House, make_identity: MakeIdentity) -> None:
    identity = make_identity("some-partner")
    credentials = grpc.ssl_channel_credentials(
        identity.root_pem, identity.key_pem, identity.chain_pem
    )
    options = (("grpc.ssl_target_name_override", provider_dns_name(TRUST_DOMAIN, HOUSE)),)
    address = f"127.0.0.1:{house.provider.port}"
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        request = AuthorizeRequest(request_id="r", evse_id=EVSE, identification=shows())
        call = ClearingServiceStub(channel).Authorize(
            request, metadata=house.as_partner("operator"), timeout=PATIENCE_S
        )
        assert await refused(call) == "NOT_THE_MARKETPLACE"


@pytest.mark.fault
@pytest.mark.usecase(1497, 1500, 1502, 1512, 1513, 1514, 1515, 1516, 1517)
async def test_without_its_database_every_call_is_refused_and_nothing_is_granted(
    tmp_path: Path, make_identity: MakeIdentity, stand: MarketStand, marketplace_identity: Identity
) -> None:
    made = house_settings(
        tmp_path,
        make_identity(HOUSE),
        database_url=AWAY,
        market_address=f"localhost:{stand.port}",
    )
    agreement = {
        "operator_partner_id": "operator",
        "evsp_partner_id": EVSP,
        "currency_code": "EUR",
    }
    calls: list[tuple[str, dict[str, Any]]] = [
        ("Authorize", {"identification": shows(), "evse_id": EVSE}),
        ("CreateRoamingAgreement", {"agreement": agreement}),
        ("ChangeRoamingAgreement", {"agreement": agreement, "expected_version_number": 1}),
        ("DisableRoamingAgreement", {"agreement_id": "a"}),
        ("CreateCustomerContract", {"contract": contract()}),
        ("ChangeCustomerContract", {"contract": contract(), "expected_version_number": 1}),
        ("DisableCustomerContract", {"contract_id": "DE-EVS-C00000001"}),
        (
            "ChangeOwnContract",
            {"contract_id": "DE-EVS-C00000001", "customer_secret": "s", "language": "de"},
        ),
    ]
    async with running_house(made, stand, marketplace_identity) as house:
        for rpc, fields in calls:
            assert await refused(house.ask(EVSP, rpc, **fields)) == "STORAGE_UNAVAILABLE", rpc


async def test_health_follows_the_database(house: House) -> None:
    # The channel is the marketplace's, which the house's own stubs use.
    stub = health_pb2_grpc.HealthStub(house.channel)
    for name in ("", *SERVICES):
        request = health_pb2.HealthCheckRequest(service=name)
        async with asyncio.timeout(PATIENCE_S):
            async for answer in stub.Watch(request):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break


@pytest.mark.fault
async def test_a_renewed_certificate_is_shown_from_the_next_question_on(
    house: House, make_identity: MakeIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_client, "_LOOK_EVERY_S", 0.0)
    await house.agree()
    await house.hold(contract(policy="NEVER"))
    house.stand.holders[EVSP] = says("ALLOWED")
    house.stand.certificates.clear()
    assert (await house.authorize(shows())).session_id
    renewed = make_identity(HOUSE)
    settings = house.provider.parts.settings
    settings.key_file.write_bytes(renewed.key_pem)
    settings.certificate_file.write_bytes(renewed.chain_pem)
    assert (await house.authorize(shows())).session_id
    assert len(house.stand.certificates) == 2
    settings.certificate_file.unlink()
    assert (await house.authorize(shows())).session_id, "what was there goes on"


async def test_the_program_serves_says_its_port_and_ends_on_sigterm(
    tmp_path: Path, make_identity: MakeIdentity
) -> None:
    path = config(tmp_path, make_identity(HOUSE))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "clearinghouse.provider", "--config", str(path)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    assert json.loads(line)["port"] > 0
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 30) == 0
