"""The states of a service, and what an endpoint is, apart from any storage."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.service import (
    TRANSITIONS,
    ServiceState,
    ServiceStep,
    check_registration_contract,
    check_role,
    parse_endpoint,
    take_step,
)
from tests.control_plane import fields_of
from tests.interceptors.support import raises


@pytest.mark.usecase(1250, 1477)
@pytest.mark.parametrize("version", [0, 1, 3])
def test_any_but_the_current_registration_contract_is_refused(version: int) -> None:
    with pytest.raises(MarketError) as caught:
        check_registration_contract(version, 2)
    assert fields_of(caught.value) == ["accepted_registration_contract_version"]


@pytest.mark.usecase(1255)
@pytest.mark.parametrize(
    ("state", "step", "refusal"),
    [
        (ServiceState.REGISTERED, ServiceStep.STOPPED, "The service is not published."),
        (ServiceState.REGISTERED, ServiceStep.STARTED, "The service is not published."),
        (ServiceState.PUBLISHED, ServiceStep.STARTED, "The service is not stopped."),
        (ServiceState.STOPPED, ServiceStep.STOPPED, "The service is not started."),
        (ServiceState.PUBLISHED, ServiceStep.PUBLISHED, "The service is published already."),
        (ServiceState.STOPPED, ServiceStep.PUBLISHED, "The service is published already."),
    ],
)
def test_each_failure_of_publishing_stopping_and_starting_has_its_own_text(
    state: ServiceState, step: ServiceStep, refusal: str
) -> None:
    with pytest.raises(MarketError) as caught:
        take_step(state, step)
    assert caught.value.reason == ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED
    assert caught.value.message == refusal


@given(st.lists(st.sampled_from(ServiceStep), max_size=20))
def test_whatever_is_tried_only_the_table_moves_the_state(steps: list[ServiceStep]) -> None:
    state = ServiceState.REGISTERED
    for step in steps:
        if (state, step) in TRANSITIONS:
            state = take_step(state, step)
            assert step is not ServiceStep.STOPPED or state is ServiceState.STOPPED
        else:
            with pytest.raises(MarketError):
                take_step(state, step)


@pytest.mark.usecase(1250, 1485)
def test_a_partner_needs_one_of_the_roles_that_the_interface_allows() -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        check_role([2, 3], [1], "call")
    check_role([2, 3], [1, 3], "call")
    check_role([2], [], "call")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":443",
        "host:0",
        "host:65536",
        "host:999999",
        "host:-1",
        "host:4 4",
        "host:443/path",
        "https://host:443",
        "user@host:443",
        "a b:443",
        "-host:443",
        "host-:443",
        "host_name:443",
        "ho..st:443",
        f"{'a' * 64}:443",
        f"{'a.' * 130}a:443",
        "::1:443",
        "[::1]",
        "[host]:443",
        "[::1%eth0]:443",
        "1.2.3:443",
        "2130706433:443",
        "127.0.0.01:443",
        "0.0.0.0:443",
        "[::]:443",
        "224.0.0.1:443",
        "255.255.255.255:443",
        "[ff02::1]:443",
        "host:\uff14\uff14\uff13",
        "h\u043est:443",
        "host:443\n",
        "host\0:443",
    ],
)
def test_what_names_no_one_machine_and_port_is_no_endpoint(text: str) -> None:
    with pytest.raises(MarketError) as caught:
        parse_endpoint(text)
    assert fields_of(caught.value) == ["endpoint"]
    assert text not in caught.value.message or not text


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Provider.Example:8443", "provider.example:8443"),
        ("host:443", "host:443"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("[2001:DB8:0:0::1]:65535", "[2001:db8::1]:65535"),
    ],
)
def test_an_endpoint_has_one_normal_form(text: str, normal: str) -> None:
    assert parse_endpoint(text) == normal
    assert parse_endpoint(normal) == normal


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_an_endpoint(text: str) -> None:
    with suppress(MarketError):
        assert parse_endpoint(parse_endpoint(text)) == parse_endpoint(text)
