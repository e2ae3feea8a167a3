"""What findings about nodes recommend, run on nodes that are network namespaces: it helps."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from local.nodes.client import unavailable
from tests.end_to_end.monitor import Monitor, monitoring
from tests.local.node_fleet import send

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=f"no simulated nodes here: {unavailable()}")

CLUSTER = "aks-web-weu"
UFW = {"firewall": {"ufw": ["default deny incoming", "allow 22/tcp", "--force enable"]}}
PROBED = ("kubelet-reachability", "ufw-kubelet-port", "iptables-kubelet-port")


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """A monitor that probes the nodes of a healthy cluster."""
    options = ("--run-command-seconds", "0.05")
    with monitoring(
        tmp_path_factory.mktemp("monitor"), CLUSTER, env={"NODE_PROBES": "on"}, options=options
    ) as running:
        running.scan()
        yield running


NFT = """table inet own {
	chain input {
		type filter hook input priority 10; policy accept;
		tcp dport { 22, 10250-10259 } counter drop comment "it's ours"
	}
}
"""
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    # the check that finds it, and the node
    "ufw": ("ufw-kubelet-port", UFW),
    "ufw deny": (
        "ufw-kubelet-port",
        {"firewall": {"ufw": ["deny 10250", "default allow incoming", "--force enable"]}},
    ),
    "iptables": (
        "iptables-kubelet-port",
        {
            "firewall": {
                "iptables": [
                    "-N team",
                    "-A INPUT ! -i lo -p tcp -m multiport --dports 22,10250 -j team",
                    """-A team -m comment --comment "it's \\"ours\\" -j ACCEPT" -j REJECT""",
                ]
            }
        },
    ),
    "iptables-legacy": (
        "iptables-kubelet-port",
        {"firewall": {"backend": "legacy", "iptables": ["-A INPUT -p tcp --dport 10000:11000 -j DROP"]}},
    ),
    "a policy": ("iptables-kubelet-port", {"firewall": {"iptables": ["-P INPUT DROP"]}}),
    "another table": (
        "iptables-kubelet-port",
        {"firewall": {"iptables": ["-t raw -A PREROUTING -p tcp --dport 10250 -j DROP"]}},
    ),
    "nftables": ("iptables-kubelet-port", {"firewall": {"nftables": NFT}}),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_is_recommended_helps(monitor: Monitor, name: str) -> None:
    """The first command of a finding, run on the node as it stands, and the next probes find nothing."""
    check, node = FAULTS[name]
    first = next(
        request["path"].removesuffix("/runCommand")
        for request in monitor.azure.requests()
        if request["path"].endswith("/runCommand")
    )
    assert monitor.azure.set_nodes({first: node}) == {}
    monitor.scan(probes=True)
    [finding] = monitor.findings(check=check)
    [command] = finding["remediation"][0]["commands"]
    words = shlex.split(command)
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert first.endswith(f"/{options['--name']}/virtualMachines/{options['--instance-id']}")
    await send(monitor.azure, first, options["--scripts"])
    monitor.scan(probes=True)
    assert monitor.findings() == []
    assert {check: monitor.check(CLUSTER, check)["outcome"] for check in PROBED} == dict.fromkeys(
        PROBED, "pass"
    )
    assert monitor.azure.set_nodes({first: {}}) == {}
