"""What tests of several packages stand on: a real PostgreSQL, real certificates."""

from __future__ import annotations

import gc
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from foundation.certificates import (
    CertificateAuthority,
    marketplace_uri,
    operator_uri,
    partner_uri,
    provider_dns_name,
)
from foundation.database import connect_raw
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from gemarket.supervisor import OWN_POLLING
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity, MakeOperator, identity_of
from tests.memory import memory_folder

#: Room for the databases of one test session; small, because many sessions may share a machine.
_SMALL_SERVER = {"shared_buffers": "64MB", "max_connections": "120"}
#: Gives every database of a session its own name.
_numbers = itertools.count(1)

os.environ["COLUMNS"] = "300"  # Tables are never folded, whatever the terminal of a run is.
# Calls go the way here that they go in a market's processes.
for _name, _value in OWN_POLLING.items():
    os.environ.setdefault(_name, _value)

# Few examples keep a run short, and the same ones each time let it fail for a change alone, not by
# chance; `make torture` sets HYPOTHESIS_PROFILE=deep, for many, and others each time.
hypothesis_settings.register_profile(
    "market", deadline=None, print_blob=True, max_examples=40, derandomize=True
)
hypothesis_settings.register_profile("deep", deadline=None, print_blob=True, max_examples=500)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "market"))


#: Files whose tests stay together and take half a minute or more.
_LONG = {"test_guides.py", "test_hostile_messages.py", "test_up.py", "test_drain.py"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files before everything else, so that nobody waits for one at the end."""
    items.sort(key=lambda item: item.path.name not in _LONG)


def pytest_collection_finish() -> None:
    """Spare the collector what lives as long as the run: a third of a test's time went into it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def short_tmp_dir() -> Iterator[Path]:
    """Give a private folder with a path that is short enough for unix sockets."""
    with memory_folder() as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(short_tmp_dir: Path) -> Iterator[EmbeddedPostgres]:
    """Run one PostgreSQL for the session; a test that kills or stops it brings its own instead."""
    server = EmbeddedPostgres(short_tmp_dir, options=_SMALL_SERVER)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """Give the URL of an empty database that is this test's own."""
    async for url in fresh_database(postgres, "template0"):
        yield url


@pytest.fixture(scope="session")
async def _templates() -> dict[tuple[str, ...], str]:
    """Remember the migrated databases that `migrated_database` copies."""
    return {}


#: Gives the URL of a fresh database with the schemas of the named packages.
MigratedDatabase = Callable[..., Awaitable[str]]


@pytest.fixture
async def migrated_database(
    postgres: EmbeddedPostgres, _templates: dict[tuple[str, ...], str]
) -> AsyncIterator[MigratedDatabase]:
    """Give databases with the schemas of packages, migrated once a session and copied per test.

    For instance `url = await migrated_database("marketplace")`.
    """
    opened: list[AsyncIterator[str]] = []

    async def fresh(*packages: str) -> str:
        if packages not in _templates:
            name = f"template_{next(_numbers)}"
            await _execute(postgres, f"CREATE DATABASE {name} TEMPLATE template0")
            for package in packages:
                await migrate(_url_of(postgres, name), package)
            _templates[packages] = name
        databases = fresh_database(postgres, _templates[packages])
        opened.append(databases)
        return await anext(databases)

    yield fresh
    for databases in opened:
        async for _ in databases:
            raise AssertionError("a database is made once")


async def fresh_database(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """Make a database that is dropped when the iterator goes on; give its URL."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    await _execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _url_of(postgres, name)
    await _execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def _url_of(postgres: EmbeddedPostgres, database: str) -> str:
    head, _, query = postgres.url.partition("?")
    return f"{head.rpartition('/')[0]}/{database}?{query}"


async def _execute(postgres: EmbeddedPostgres, statement: str) -> None:
    connection = await connect_raw(postgres.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Make the certificate authority of the session's market."""
    return CertificateAuthority.create(tmp_path_factory.mktemp("authority") / "ca", TRUST_DOMAIN)


@pytest.fixture(scope="session")
def make_identity(authority: CertificateAuthority) -> MakeIdentity:
    """Give `make_identity(partner_id)`: a certificate for clients and for a provider's server."""

    def make(partner_id: str) -> Identity:
        names = (provider_dns_name(TRUST_DOMAIN, partner_id), "localhost", "127.0.0.1")
        return identity_of(authority, partner_uri(TRUST_DOMAIN, partner_id), names)

    return make


@pytest.fixture(scope="session")
def make_operator(authority: CertificateAuthority) -> MakeOperator:
    """Give `make_operator(role, name)`; the role is `business` or `technical`."""

    def make(role: str, name: str) -> Identity:
        return identity_of(authority, operator_uri(TRUST_DOMAIN, role, name))

    return make


@pytest.fixture(scope="session")
def marketplace_identity(authority: CertificateAuthority) -> Identity:
    """Give the marketplace's own certificate, for its server and towards providers."""
    return identity_of(authority, marketplace_uri(TRUST_DOMAIN), ("localhost", "127.0.0.1"))
