"""Fixtures that several test modules share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The project is run from its directory, not installed; pytest's importlib mode leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.processes import Azurite, running_azurite


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """One Azurite for all tests, which must choose names of their own for what they store in it."""
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running
        running.start()  # for a test that stopped it, and failed
