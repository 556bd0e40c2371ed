"""Ports for what is to be started."""

from __future__ import annotations

import socket

from gemarket.ports import free_port


def test_no_port_is_given_twice_before_anybody_listens() -> None:
    given = [free_port() for _ in range(600)]
    assert len(set(given)) == len(given)


def test_a_wished_port_is_given_as_often_as_it_is_free() -> None:
    wished = free_port()
    assert [free_port(wished=wished) for _ in range(2)] == [wished, wished]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", wished))
        taken.listen()
        assert free_port(wished=wished) != wished
