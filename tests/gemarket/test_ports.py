"""Ports for what is to be started."""

from __future__ import annotations

import socket

from gemarket.ports import free_port, hold_port


def test_no_port_is_given_twice_before_anybody_listens() -> None:
    given = [free_port() for _ in range(600)]
    assert len(set(given)) == len(given)


def test_a_port_to_share_is_none_that_was_given_and_is_not_given_again() -> None:
    given, held = [], []
    try:
        for _ in range(300):
            given.append(free_port())
            held.append(hold_port("127.0.0.1", 0))
        shared = [each.getsockname()[1] for each in held]
        assert len({*given, *shared}) == 600
    finally:
        for each in held:
            each.close()
    assert not set(shared) & {free_port() for _ in range(300)}


def test_a_wished_port_is_given_as_often_as_it_is_free() -> None:
    wished = free_port()
    assert [free_port(wished=wished) for _ in range(2)] == [wished, wished]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", wished))
        taken.listen()
        assert free_port(wished=wished) != wished
