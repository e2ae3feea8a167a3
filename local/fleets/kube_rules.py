"""What iptables-save prints on a node of the sample as AKS leaves it.

Chains of the kubelet and of kube-proxy (https://kubernetes.io/docs/reference/networking/virtual-ips/), of
ip-masq-agent, and the rules by which Azure's agents keep pods away from the wire server, 168.63.129.16.
"""

import base64
import hashlib
from collections.abc import Iterator

_MANGLE = """*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
"""
_NAT_CHAINS = """*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:IP-MASQ-AGENT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
"""
_NAT = """:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "ip-masq-agent: what goes elsewhere" -m addrtype ! --dst-type LOCAL \
-j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 10.244.0.0/16 -m comment --comment "ip-masq-agent: not masqueraded" -j RETURN
-A IP-MASQ-AGENT -d 10.80.0.0/16 -m comment --comment "ip-masq-agent: not masqueraded" -j RETURN
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: masqueraded" -j MASQUERADE
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes traffic that needs SNAT" -j MASQUERADE --random-fully
"""
_NODE_PORTS = (
    '-A KUBE-SERVICES -m comment --comment "kubernetes node ports; this has to be the last rule" '
    "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n"
)
_FILTER = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "load balancer firewall" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "service portals" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "service portals" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -d 168.63.129.16/32 -p tcp -m tcp --dport 80 -j DROP
-A FORWARD -d 168.63.129.16/32 -p tcp -m tcp --dport 32526 -j DROP
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "load balancer firewall" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "service portals" -j KUBE-SERVICES
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "shop/gone:http has no endpoints" \
-m addrtype --dst-type LOCAL -m tcp --dport 31380 -j REJECT --reject-with icmp-port-unreachable
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" \
-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" \
-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NODEPORTS -p tcp -m comment --comment "shop/web:http health check node port" -m tcp --dport 30781 \
-j ACCEPT
-A KUBE-SERVICES -d 10.0.3.232/32 -p tcp -m comment --comment "shop/gone:http has no endpoints" \
-m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
COMMIT
"""
_SECURITY = """*security
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A OUTPUT -d 168.63.129.16/32 -p tcp -m tcp --dport 53 -j ACCEPT
-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT
-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j DROP
COMMIT
"""


def node_rules(services: int, *inputs: str) -> str:
    """A node's rules, with so many services of a pod each, and further rules at the end of INPUT."""
    extra = "".join(f"{rule}\n" for rule in inputs)
    last = "-A INPUT -j KUBE-FIREWALL\n"
    return f"{_MANGLE}{_nat(services)}{_FILTER.replace(last, last + extra)}{_SECURITY}"


def _nat(services: int) -> str:
    chains, rules, portals = list[str](), list[str](), list[str]()
    for number in range(services):
        name, pod = f"shop/s{number}:http", f"10.244.{number % 3}.{number // 3 + 10}"
        service, endpoint = f"KUBE-SVC-{_mark(name)}", f"KUBE-SEP-{_mark(name + pod)}"
        address = f"10.0.{number // 250}.{number % 250 + 1}/32"
        chains += [f":{service} - [0:0]\n", f":{endpoint} - [0:0]\n"]
        rules += _service(name, pod, address, service, endpoint)
        portals.append(
            f'-A KUBE-SERVICES -d {address} -p tcp -m comment --comment "{name} cluster IP" '
            f"-m tcp --dport 80 -j {service}\n"
        )
    first, _, rest = _NAT.partition("\n")
    return "".join((_NAT_CHAINS, first, "\n", *chains, rest, *rules, *portals, _NODE_PORTS))


def _service(name: str, pod: str, address: str, service: str, endpoint: str) -> Iterator[str]:
    said = f'-m comment --comment "{name}"'
    yield f"-A {endpoint} -s {pod}/32 {said} -j KUBE-MARK-MASQ\n"
    yield f"-A {endpoint} -p tcp {said} -m tcp -j DNAT --to-destination {pod}:8080\n"
    yield (
        f'-A {service} ! -s 10.244.0.0/16 -d {address} -p tcp -m comment --comment "{name} cluster IP" '
        "-m tcp --dport 80 -j KUBE-MARK-MASQ\n"
    )
    yield f'-A {service} -m comment --comment "{name} -> {pod}:8080" -j {endpoint}\n'


def _mark(name: str) -> str:
    """As kube-proxy makes the names of chains: the first letters of a digest in base32."""
    return base64.b32encode(hashlib.sha256(name.encode()).digest()).decode()[:16]
