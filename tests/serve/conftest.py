"""A small model that is served, and a client of it."""

import pytest

from tests.serve.served import client, listening, served


@pytest.fixture(scope="module")
def toy():
    one = served()
    yield one
    one.engine.close(drain=False)


@pytest.fixture(scope="module")
def address(toy):
    with listening(toy) as address:
        yield address


@pytest.fixture
def api(address):
    with client(address) as found:
        yield found
