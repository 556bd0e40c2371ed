"""A market of canned answers for the command line, one for all tests that want it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from gemarket.identity import Identity
from gemarket.layout import Layout
from tests.gemarket.fake_market import FakeMarket, serve
from tests.identities import Identity as Made
from tests.identities import MakeIdentity, MakeOperator

PARTNERS = ("volt", "ampere")


def written(made: Made, identity: Identity) -> Identity:
    """Write a party's files as the market does."""
    identity.write(made.key_pem, made.chain_pem, made.root_pem)
    return identity


@pytest.fixture(scope="session")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    make_identity: MakeIdentity,
    make_operator: MakeOperator,
    marketplace_identity: Made,
) -> Iterator[FakeMarket]:
    """Serve a market of canned answers."""
    folder: Path = tmp_path_factory.mktemp("fake-market")
    layout = Layout(folder)
    for name in PARTNERS:
        written(make_identity(name), layout.partner(name))
    for role in ("business", "technical"):
        written(make_operator(role, "ada"), layout.operator(role))
    listener = written(marketplace_identity, layout.listener)
    market = FakeMarket(folder)
    stop = serve(market, listener, PARTNERS)
    with pytest.MonkeyPatch.context() as patch:
        # To build all commands takes longer than most of them run.
        patch.setattr("typer.testing._get_command", cache(get_command))
        yield market
    stop()


@pytest.fixture
def market(served: FakeMarket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeMarket:
    """Give the market without answers, calls and sessions; work in an empty folder."""
    served.reset()
    monkeypatch.chdir(tmp_path)
    return served
