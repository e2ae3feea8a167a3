"""What a node's own firewalls do to TCP 10250: UFW as it tells it, iptables and nftables as they are."""

from checks._kubelet import KUBELET
from checks._probed import Probed, Sources
from facts.filters import Missing
from packets.addresses import IntervalSet
from packets.decisions import Decision
from packets.dumps.ufw import read_ufw_status
from packets.ufw import UfwQuestion, UfwRule
from packets.ufw import evaluate as evaluate_ufw

_PORT = IntervalSet(((KUBELET, KUBELET),))


def judge_ufw(probed: Probed, sources: Sources) -> tuple[Decision[UfwRule | None], ...] | Missing:
    """What UFW of a node does to TCP 10250, from wherever a machine may be.

    Nothing where it is not installed; raises `ValueError` if it cannot be read.
    """
    ufw = probed.report.ufw
    if isinstance(ufw, Missing):
        return ufw
    if not ufw.installed:
        return ()
    question = UfwQuestion(
        protocol="tcp",
        sources=sources.to(probed),
        ports=_PORT,
        destinations=probed.addresses,
        interface=probed.report.interface,
    )
    decisions = evaluate_ufw(read_ufw_status(ufw.status), question)
    return tuple(decision for decision in decisions if sources.matter(decision.sources, probed))
