"""Names of API servers: what each answer of a DNS server becomes, asked over the wire."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from facts.filters import Missing
from pipeline.clients import Clients
from pipeline.collect import names
from pipeline.settings import Settings
from tests.simulator import RunningSimulator

NAMES = {
    "one.hcp.westeurope.azmk8s.io": ["20.1.2.3"],
    "both.hcp.westeurope.azmk8s.io": ["20.1.2.4", "2603:1020::4"],
    "six.hcp.westeurope.azmk8s.io": ["2603:1020::6"],
    "several.hcp.westeurope.azmk8s.io": ["20.1.2.9", "20.1.2.5"],
    "gone.hcp.westeurope.azmk8s.io": [],
    "silent.hcp.westeurope.azmk8s.io": "timeout",
    "ill.hcp.westeurope.azmk8s.io": "servfail",
}


@pytest.fixture(scope="module")
def dns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """A DNS server that knows these names."""
    fleet = tmp_path_factory.mktemp("fleet")
    (fleet / "names.json").write_text(json.dumps(NAMES))
    with RunningSimulator(Path(fleet), dns=True) as running:
        yield running


def asking(port: int | None) -> Clients:
    """Clients whose settings name a DNS server of this machine, or none."""
    return Clients(Settings(storage={}, dns_server=None if port is None else ("127.0.0.1", port)))


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("one", ("20.1.2.3",)),
        ("ONE", ("20.1.2.3",)),
        ("both", ("20.1.2.4", "2603:1020::4")),
        ("six", ("2603:1020::6",)),
        ("several", ("20.1.2.5", "20.1.2.9")),
    ],
)
async def test_a_name_resolves(dns: RunningSimulator, name: str, addresses: tuple[str, ...]) -> None:
    """All addresses of both families, in an order that does not change from scan to scan."""
    found = await names.resolve(asking(dns.dns_port), f"{name}.hcp.westeurope.azmk8s.io")
    assert found == addresses


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("gone", "name_not_resolved", "does not know it"),
        ("silent", "timeout", "did not answer within"),
        ("ill", "name_not_resolved", "could not be asked"),
    ],
)
async def test_a_name_that_does_not_resolve(
    dns: RunningSimulator, monkeypatch: pytest.MonkeyPatch, name: str, code: str, words: str
) -> None:
    """It is missing, with whom was asked and what he said; never an empty list of addresses."""
    monkeypatch.setattr(names, "ANSWER_SECONDS", 1.0)
    began = time.monotonic()
    found = await names.resolve(asking(dns.dns_port), f"{name}.hcp.westeurope.azmk8s.io")
    assert isinstance(found, Missing)
    assert (found.reason.code, words in found.reason.message) == (code, True), found.reason.message
    assert "DNS server 127.0.0.1" in found.reason.message
    assert f"{name}.hcp.westeurope.azmk8s.io" in found.reason.message
    assert time.monotonic() - began < 5


async def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: that is told like any silence."""
    monkeypatch.setattr(names, "ANSWER_SECONDS", 1.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        found = await names.resolve(asking(held.getsockname()[1]), "one.hcp.westeurope.azmk8s.io")
    assert isinstance(found, Missing)
    assert found.reason.code == "timeout"


async def test_the_systems_resolver() -> None:
    """Where no server is named: this machine's own names resolve, what cannot be one does not."""
    found = await names.resolve(asking(None), "localhost")
    assert not isinstance(found, Missing)
    assert set(found) <= {"127.0.0.1", "::1"}
    lost = await names.resolve(asking(None), "no-such-name.invalid")
    assert isinstance(lost, Missing)
    assert "the system's resolver" in lost.reason.message


@pytest.mark.parametrize("name", ["aks..azmk8s.io", f"{'a' * 64}.azmk8s.io"])
async def test_a_name_that_cannot_be_one(name: str) -> None:
    """It is not resolved, whoever is asked; the scan goes on."""
    found = await names.resolve(asking(None), name)
    assert isinstance(found, Missing)
    assert found.reason.code == "name_not_resolved"
