"""UFW's engine: against an oracle that walks single packets, by laws, and by table."""

import ipaddress
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from packets.addresses import EVERY_PORT, IntervalSet, parse_prefix, parse_prefixes, to_prefixes
from packets.dumps.ufw import read_ufw_status
from packets.ufw import RATE_LIMITED, Side, UfwQuestion, UfwRule, UfwStatus, answer, evaluate

LAW = settings(deadline=None, max_examples=200)

PORT = IntervalSet(((10250, 10250),))
NODES = "10.240.0.0/16"

VERBOSE = """Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
"""
PLAIN = f"Status: active\n{VERBOSE.partition('skip')[2]}"


def ask(
    lines: str,
    sources: str = NODES,
    *,
    head: str = VERBOSE,
    destination: str = "",
    interface: str = "eth0",
    protocol: str = "tcp",
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], list[tuple[str, int, str]]]:
    """Allowed, blocked and unknown sources, and name, number and access of what decides."""
    found = answer(
        read_ufw_status(head + lines),
        protocol,
        sources=parse_prefixes(sources.split(",")),
        ports=PORT,
        destinations=parse_prefixes(destination.split(",")) if destination else None,
        interface=interface,
    )
    parts = [(part.name, part.priority, part.access) for part in found.rules]
    return found.allowed, found.blocked, found.unknown, parts


ALL, HALF, OTHER = ("10.240.0.0/16",), ("10.240.0.0/17",), ("10.240.128.0/17",)
DEFAULT = "default (incoming)"


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("10250/tcp                  ALLOW IN    10.240.0.0/16", ALL),
        ("10250                      ALLOW IN    Anywhere", ALL),
        ("10000:11000/tcp            ALLOW IN    10.0.0.0/8", ALL),
        ("443,10250/tcp              ALLOW IN    10.240.0.0/17", HALF),
        ("443,10240:10260/tcp        ALLOW IN    10.240.0.0/17", HALF),
        # It never names the port, and opens it all the same.
        ("Anywhere                   ALLOW IN    10.240.0.0/16", ALL),
        ("Anywhere                   ALLOW IN    10.240.0.0/17/tcp", HALF),
        ("Anywhere/tcp               ALLOW IN    Anywhere/tcp", ALL),
        ("Anywhere on eth0           ALLOW IN    10.240.0.0/17", HALF),
        ("Anywhere on eth+           ALLOW IN    10.240.0.0/17", HALF),
        ("Anywhere on e+             ALLOW IN    10.240.0.0/17", HALF),
        ("Anywhere on +              ALLOW IN    10.240.0.0/17", HALF),
        ("10250/tcp (Kubelet)        ALLOW IN    10.240.0.0/17", HALF),
        ("10250/tcp                  ALLOW IN    10.240.0.0/17              (log) # nodes", HALF),
        ("10250/tcp                  ALLOW IN    10.240.0.7", ("10.240.0.7/32",)),
        ("10250/udp                  ALLOW IN    10.240.0.0/16", ()),
        ("10251/tcp                  ALLOW IN    10.240.0.0/16", ()),
        ("22/tcp                     ALLOW IN    Anywhere", ()),
        ("Anywhere                   ALLOW IN    10.240.0.0/16/esp", ()),
        ("Anywhere on eth1           ALLOW IN    10.240.0.0/16", ()),
        ("Anywhere on eth            ALLOW IN    10.240.0.0/16", ()),
        ("Anywhere on lo             ALLOW IN    10.240.0.0/16", ()),
        ("Anywhere on ens+           ALLOW IN    10.240.0.0/16", ()),
        ("Anywhere on eth1+          ALLOW IN    10.240.0.0/16", ()),
        ("10250/tcp                  ALLOW IN    10.241.0.0/16", ()),
        ("10250/tcp (v6)             ALLOW IN    Anywhere (v6)", ()),
        ("10250/tcp                  ALLOW OUT   Anywhere", ()),
        ("10250/tcp                  ALLOW FWD   Anywhere", ()),
        # No packet from outside is for one of these.
        ("127.0.0.1 10250/tcp        ALLOW IN    10.240.0.0/16", ()),
        ("224.0.0.0/4 10250/tcp      ALLOW IN    10.240.0.0/16", ()),
        # From some ports is not from all.
        ("10250/tcp                  ALLOW IN    10.240.0.0/16 1024:65535/tcp", ()),
        ("OpenSSH                    ALLOW IN    Anywhere", ()),
        ("Nginx Full                 ALLOW IN    Anywhere", ()),
    ],
)
@pytest.mark.parametrize("policy", ["deny", "reject"])
def test_one_rule_that_allows(line: str, allowed: tuple[str, ...], policy: str) -> None:
    """Sources that a rule opens TCP 10250 for; the others are left to the default policy."""
    head = VERBOSE.replace("deny (incoming)", f"{policy} (incoming)")
    found = ask(line, head=head)
    blocked = parse_prefix(NODES) - parse_prefixes(allowed)
    assert found[:3] == (allowed, to_prefixes(blocked), ())
    written = " ".join(line.partition(" (log")[0].split())
    last = [(DEFAULT, 2, policy.upper())] if blocked else []
    partly = [(written, 1, "ALLOW")] if allowed or "1024:" in line else []
    assert found[3] == partly + last
    # Nothing is decided by a rule for IPv4 in IPv6.
    if "v6" not in line:
        assert ask(line, "fd00::/64", head=head)[:3] == ((), ("fd00::/64",), ())


@pytest.mark.parametrize(
    ("lines", "allowed", "blocked", "unknown", "deciding"),
    [
        (
            ("10250/tcp  DENY IN  10.240.0.0/17", "10250/tcp  ALLOW IN  Anywhere"),
            OTHER,
            HALF,
            (),
            ["10250/tcp DENY IN 10.240.0.0/17", "10250/tcp ALLOW IN Anywhere"],
        ),
        (
            (
                "10250/tcp  ALLOW IN  10.240.0.0/17",
                "10250/tcp  REJECT IN  Anywhere",
                "10250  ALLOW IN  Anywhere",
            ),
            HALF,
            OTHER,
            (),
            ["10250/tcp ALLOW IN 10.240.0.0/17", "10250/tcp REJECT IN Anywhere"],
        ),
        # Most specific is no reason to be first.
        (
            ("Anywhere  ALLOW IN  10.0.0.0/8", "10250/tcp  DENY IN  10.240.0.7"),
            ALL,
            (),
            (),
            ["Anywhere ALLOW IN 10.0.0.0/8"],
        ),
        (("10250/tcp  LIMIT IN  Anywhere",), (), (), ALL, ["10250/tcp LIMIT IN Anywhere"]),
        (
            ("10250/tcp  LIMIT IN  10.240.0.0/17", "10250/tcp  ALLOW IN  Anywhere"),
            OTHER,
            (),
            HALF,
            ["10250/tcp LIMIT IN 10.240.0.0/17", "10250/tcp ALLOW IN Anywhere"],
        ),
        (
            ("10250/tcp  DENY IN  10.240.0.0/17", "10250/tcp  LIMIT IN  Anywhere"),
            (),
            HALF,
            OTHER,
            ["10250/tcp DENY IN 10.240.0.0/17", "10250/tcp LIMIT IN Anywhere"],
        ),
        # A rule about some address may or may not be about the node's, unless the rest says the same.
        (
            ("10.240.0.4 10250/tcp  ALLOW IN  10.240.0.0/17",),
            (),
            OTHER,
            HALF,
            ["10.240.0.4 10250/tcp ALLOW IN 10.240.0.0/17", DEFAULT],
        ),
        (("10.240.0.4 10250/tcp  DENY IN  10.240.0.0/17",), (), ALL, (), [DEFAULT]),
        (
            ("10.240.0.4 10250/tcp  DENY IN  10.240.0.0/17", "10250  ALLOW IN  Anywhere"),
            OTHER,
            (),
            HALF,
            ["10.240.0.4 10250/tcp DENY IN 10.240.0.0/17", "10250 ALLOW IN Anywhere"],
        ),
        (
            ("0.0.0.0/1 10250/tcp  ALLOW IN  Anywhere",),
            (),
            (),
            ALL,
            ["0.0.0.0/1 10250/tcp ALLOW IN Anywhere"],
        ),
        # What is not shown, or not read.
        (("Kubelet  ALLOW IN  Anywhere",), (), (), ALL, ["Kubelet ALLOW IN Anywhere"]),
        (
            ("Kubelet  DENY IN  10.240.0.0/17", "10250/tcp  ALLOW IN  Anywhere"),
            OTHER,
            (),
            HALF,
            ["Kubelet DENY IN 10.240.0.0/17", "10250/tcp ALLOW IN Anywhere"],
        ),
        (
            ("10250/tcp  ALLOW IN  10.240.0.0/255.255.0.255",),
            (),
            (),
            ALL,
            ["10250/tcp ALLOW IN 10.240.0.0/255.255.0.255"],
        ),
        (
            ("10250/tcp  ALLOW IN  10.0.0.0/8 Kubelet",),
            (),
            (),
            ALL,
            ["10250/tcp ALLOW IN 10.0.0.0/8 Kubelet"],
        ),
    ],
)
def test_several(
    lines: Sequence[str],
    allowed: tuple[str, ...],
    blocked: tuple[str, ...],
    unknown: tuple[str, ...],
    deciding: list[str],
) -> None:
    """The first to match decides; what cannot be known decides nothing, and is remembered."""
    found = ask("\n".join(lines))
    assert found[:3] == (allowed, blocked, unknown)
    assert [name for name, _, _ in found[3]] == deciding
    assert [number for _, number, _ in found[3]] == [
        len(lines) + 1
        if name == DEFAULT
        else next(place for place, line in enumerate(lines, 1) if " ".join(line.split()) == name)
        for name in deciding
    ]


@pytest.mark.parametrize(
    ("line", "destination", "lists"),
    [
        ("10.240.0.4 10250/tcp  ALLOW IN  Anywhere", "10.240.0.4", (ALL, (), ())),
        ("10.240.0.4 10250/tcp  ALLOW IN  Anywhere", "10.240.0.5", ((), ALL, ())),
        # Allowed is what gets to all that is asked for.
        ("10.240.0.4 10250/tcp  ALLOW IN  Anywhere", "10.240.0.4,10.240.0.5", ((), ALL, ())),
        ("10.240.0.4/31 10250/tcp  ALLOW IN  Anywhere", "10.240.0.4,10.240.0.5", (ALL, (), ())),
        ("Anywhere  ALLOW IN  10.240.0.0/17", "10.240.0.4", (HALF, OTHER, ())),
        ("Kubelet  ALLOW IN  Anywhere", "10.240.0.4", ((), (), ALL)),
        ("10.240.0.5 Kubelet  ALLOW IN  Anywhere", "10.240.0.4", ((), ALL, ())),
    ],
)
def test_destinations(line: str, destination: str, lists: tuple[tuple[str, ...], ...]) -> None:
    """With the node's addresses a rule about one of them is as good as any."""
    assert ask(line, destination=destination)[:3] == lists


@pytest.mark.parametrize(
    ("profile", "protocol", "port", "matches"),
    [
        ("OpenSSH", "tcp", 22, True),
        ("OpenSSH", "udp", 22, False),
        ("OpenSSH", "tcp", 10250, False),
        ("Nginx Full", "tcp", 443, True),
        ("DNS", "udp", 53, True),
        ("DNS", "tcp", 53, True),
    ],
)
def test_profiles_that_ubuntu_installs(profile: str, protocol: str, port: int, matches: bool) -> None:
    """Their ports are known though `ufw status` does not show them."""
    status = read_ufw_status(f"{PLAIN}{profile}    DENY        Anywhere\nAnywhere   ALLOW     Anywhere")
    found = answer(status, protocol, sources=parse_prefix(NODES), ports=IntervalSet(((port, port),)))
    assert found.outcome == ("blocked" if matches else "allowed")


def test_families_are_apart() -> None:
    """Each family has rules of its own, and sources go only to destinations of their own."""
    lines = """10250/tcp                  ALLOW IN    Anywhere
10250/tcp (v6)             DENY IN     Anywhere (v6)
Anywhere (v6)              ALLOW IN    fd00::/64
"""
    both = f"{NODES},fd00::/64"
    assert ask(lines, both)[:3] == (ALL, ("fd00::/64",), ())
    assert ask(lines, both, destination="10.240.0.4")[:3] == (ALL, (), ())
    assert ask(lines, both, destination="fd00::4")[:3] == ((), ("fd00::/64",), ())
    with pytest.raises(ValueError, match="no address family in common"):
        ask(lines, "fd00::/64", destination="10.240.0.4")


def test_inactive() -> None:
    """What is not active blocks nothing, and no rule is named."""
    found = ask("", f"{NODES},fd00::/64", head="Status: inactive")
    assert found == ((*ALL, "fd00::/64"), (), (), [])


def test_default_policies() -> None:
    """What no rule matches is left to the default policy, which only verbose tells."""
    allow = VERBOSE.replace("deny (incoming)", "allow (incoming)")
    ssh, ssh6 = "22/tcp  DENY IN  Anywhere\n", "22/tcp (v6)  DENY IN  Anywhere (v6)\n"
    assert ask(ssh) == ((), ALL, (), [(DEFAULT, 2, "DENY")])
    assert ask(ssh, head=allow) == (ALL, (), (), [(DEFAULT, 2, "ALLOW")])
    assert ask(ssh, head=PLAIN) == ((), (), ALL, [(DEFAULT, 2, "UNKNOWN")])
    assert ask("10250  ALLOW  10.240.0.0/17", head=PLAIN)[:3] == (HALF, (), OTHER)
    assert ask("10250  DENY  10.240.0.0/17", head=PLAIN)[:3] == ((), HALF, OTHER)
    # UFW that does not manage IPv6 drops all of it, whatever the policy; without a rule it may be like that.
    assert ask(ssh, "fd00::/64", head=allow)[:3] == ((), (), ("fd00::/64",))
    assert ask(ssh + ssh6, "fd00::/64", head=allow)[:3] == (("fd00::/64",), (), ())
    assert ask(ssh, "fd00::/64")[:3] == ((), ("fd00::/64",), ())


def question(**fields: object) -> UfwQuestion:
    """TCP 10250 from the nodes, unless said otherwise."""
    return UfwQuestion(**{"protocol": "tcp", "sources": parse_prefix(NODES), "ports": PORT} | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "head", "fields", "code", "why"),
    [
        ("10250/tcp  LIMIT IN  Anywhere", VERBOSE, {}, RATE_LIMITED, "six or more new connections"),
        ("22/tcp  ALLOW  Anywhere", PLAIN, {}, "unknown_default_policy", "deny, unless somebody changed it"),
        ("Kubelet  ALLOW IN  Anywhere", VERBOSE, {}, "unknown_profile", 'profile "Kubelet" are not shown'),
        ("10.0.0.4  ALLOW IN  Anywhere", VERBOSE, {}, "unknown_destination", "has an address in 10.0.0.4"),
        (
            "10.0.0.4 10250/tcp  LIMIT IN  Anywhere",
            VERBOSE,
            {},
            "unknown_destination",
            "whether the node has an address in 10.0.0.4",
        ),
        (
            "10.0.0.4 10250/tcp  LIMIT IN  Anywhere",
            VERBOSE,
            {"destinations": parse_prefix("10.0.0.4")},
            RATE_LIMITED,
            "LIMIT turns away",
        ),
        (
            "10250/tcp on eth0  ALLOW IN  Anywhere",
            VERBOSE,
            {"interface": ""},
            "unknown_interface",
            "whether packets come in on eth0 is not known",
        ),
        (
            "10250/tcp  ALLOW IN  10.0.0.0/255.0.255.0",
            VERBOSE,
            {},
            "unknown_rule_value",
            "source netmask 255.0.255.0",
        ),
    ],
)
def test_doubts(lines: str, head: str, fields: dict[str, object], code: str, why: str) -> None:
    """Why it is not known: a code for programs, and words that follow "but"."""
    (decision,) = evaluate(read_ufw_status(head + lines), question(**fields))
    assert decision.verdict == "unknown"
    assert decision.possible == {"allowed", "denied"}
    assert decision.doubt is not None
    assert decision.doubt.code == code
    assert why in decision.doubt.why


def test_words() -> None:
    """What each rule did, in words."""
    lines = """10.240.0.4 10250/tcp       ALLOW       10.240.0.0/24
10250/tcp                  LIMIT       10.240.0.0/17
10250                      DENY        10.240.128.0/18"""
    status = read_ufw_status(PLAIN + lines)
    found = answer(status, "tcp", sources=parse_prefix(NODES), ports=PORT)
    assert [part.why.partition(":")[0].partition(", but")[0] for part in found.rules] == [
        "may decide",
        "first to match",
        "first to match",
        "no rule matches",
    ]
    assert found.rules[0].why.endswith("but whether the node has an address in 10.240.0.4 is not known")
    assert "but LIMIT turns away" in found.rules[1].why
    assert found.rules[2].why == "first to match: denied"
    assert "but the default policy is not shown" in found.rules[3].why
    found = answer(
        status, "tcp", sources=parse_prefix(NODES), ports=PORT, destinations=parse_prefix("10.240.0.4")
    )
    assert found.rules[0].why == "first to match what goes to 10.240.0.4/32: allowed"


# --- an oracle -----------------------------------------------------------------------------------

SOURCES = ("10.240.0.1", "10.240.0.2", "10.240.1.1", "fd00::1", "fd00::2", "fd00:1::1")
DESTINATIONS = ("10.240.0.4", "10.240.1.4", "fd00::4", "fd00:1::4")
PORTS = (22, 10250)
SOURCE_PORTS = (1024, 45000)
PREFIXES: dict[int, tuple[str, ...]] = {
    4: ("", "10.240.0.0/16", "10.240.0.0/24", "10.240.0.2", "10.240.0.4", "10.240.1.0/24", "127.0.0.1"),
    6: ("", "fd00::/16", "fd00::/64", "fd00::2", "fd00::4", "fd00:1::/64", "::1"),
}


class Packet(Struct, frozen=True):
    """A packet of TCP that comes in on eth0."""

    source: str
    source_port: int
    destination: str
    port: int


def in_prefix(address: str, prefix: str) -> bool:
    """Whether an address is in a prefix."""
    return not prefix or ipaddress.ip_address(address) in ipaddress.ip_network(prefix)


def in_ports(port: int, ports: str) -> bool:
    """Whether a port is in a list of ports and ranges."""
    if not ports:
        return True
    spans = [part.split(":") for part in ports.split(",")]
    return any(int(span[0]) <= port <= int(span[-1]) for span in spans)


def walk(status: UfwStatus, packet: Packet) -> str:
    """What becomes of one packet, rule by rule; `limited` for what a LIMIT rule decides."""
    if not status.active:
        return "allowed"
    family = 6 if ":" in packet.source else 4
    for rule in status.rules:
        if (
            rule.direction == "in"
            and rule.family == family
            and rule.protocol in {"any", "tcp"}
            and rule.interface in {"", "eth0", "eth+"}
            and in_prefix(packet.source, rule.source.address)
            and in_prefix(packet.destination, rule.to.address)
            and in_ports(packet.source_port, rule.source.ports)
            and in_ports(packet.port, rule.to.ports)
        ):
            return {"ALLOW": "allowed", "LIMIT": "limited"}.get(rule.action, "denied")
    return "allowed" if status.incoming == "allow" else "denied"


@st.composite
def rules(draw: st.DrawFn) -> UfwRule:
    """A rule that leaves no doubt."""
    family = draw(st.sampled_from((4, 6)))
    ports = st.sampled_from(("", "10250", "22", "22,10250", "22:10249", "10000:11000"))
    return UfwRule(
        written="",
        place=1,
        action=draw(st.sampled_from(("ALLOW", "ALLOW", "DENY", "REJECT", "LIMIT"))),
        direction=draw(st.sampled_from(("in",) * 8 + ("out", "routed"))),
        family=4 if family == 4 else 6,
        protocol=draw(st.sampled_from(("any", "tcp", "tcp", "udp", "esp"))),
        source=Side(
            draw(st.sampled_from(PREFIXES[family])), draw(st.sampled_from(("", "", "45000", "40000:50000")))
        ),
        to=Side(draw(st.sampled_from(PREFIXES[family])), draw(ports)),
        interface=draw(st.sampled_from(("", "", "", "eth0", "eth+", "eth1"))),
    )


STATUSES = st.builds(
    UfwStatus,
    active=st.sampled_from((True, True, True, False)),
    incoming=st.sampled_from(("allow", "deny", "reject")),
    rules=st.lists(rules(), max_size=8).map(tuple),
)
# A rule of IPv6, so that IPv6 is managed.
MANAGED = UfwRule(written="", place=9, action="DENY", family=6, protocol="esp")


def managed(status: UfwStatus) -> UfwStatus:
    """The same, of a UFW that certainly manages IPv6."""
    return UfwStatus(active=status.active, incoming=status.incoming, rules=(*status.rules, MANAGED))


def spans(numbers: Sequence[int]) -> IntervalSet:
    """The set of some ports."""
    return IntervalSet.of((number, number) for number in numbers)


def at(address: str) -> int:
    """An address on the number line of sets."""
    return parse_prefix(address).intervals[0][0]


@LAW
@given(STATUSES)
def test_oracle(status: UfwStatus) -> None:
    """Every packet has one decision, and it is that of a walk through the rules."""
    status = managed(status)
    asked = question(
        sources=parse_prefixes(SOURCES),
        source_ports=spans(SOURCE_PORTS),
        destinations=parse_prefixes(DESTINATIONS),
        ports=spans(PORTS),
    )
    decisions = evaluate(status, asked)
    for packet in map(Packet, *zip(*product(SOURCES, SOURCE_PORTS, DESTINATIONS, PORTS), strict=True)):
        found = [
            decision
            for decision in decisions
            if any(
                at(packet.source) in box.sources
                and packet.source_port in box.source_ports
                and at(packet.destination) in box.destinations
                and packet.port in box.destination_ports
                for box in decision.packets
            )
        ]
        if (":" in packet.source) != (":" in packet.destination):
            assert not found
            continue
        (decision,) = found
        walked = walk(status, packet)
        if walked == "limited":
            assert decision.verdict == "unknown"
            assert decision.doubt is not None
            assert decision.doubt.code == RATE_LIMITED
        else:
            assert decision.verdict == walked


@LAW
@given(STATUSES)
def test_what_is_said_without_destinations_holds_for_each(status: UfwStatus) -> None:
    """A verdict for a node whose addresses are not known is the verdict for whatever address it has."""
    status = managed(status)
    for decision in evaluate(status, question(sources=parse_prefixes(SOURCES))):
        for source, destination in product(SOURCES, DESTINATIONS):
            if at(source) not in decision.sources or (":" in source) != (":" in destination):
                continue
            for port in SOURCE_PORTS:
                if (
                    any(at(source) in box.sources and port in box.source_ports for box in decision.packets)
                    and decision.verdict != "unknown"
                ):
                    assert walk(status, Packet(source, port, destination, 10250)) == decision.verdict


@LAW
@given(STATUSES, st.sampled_from(("tcp", "udp")))
def test_decisions_cover_the_question(status: UfwStatus, protocol: str) -> None:
    """All sources are in some decision, and none is both allowed and blocked in an answer."""
    sources = parse_prefixes((NODES, "fd00::/32"))
    found = answer(status, protocol, sources=sources, ports=EVERY_PORT)
    lists = [parse_prefixes(listed) for listed in (found.allowed, found.blocked, found.unknown)]
    assert lists[0] | lists[1] | lists[2] == sources
    assert not lists[0] & lists[1]
    assert not lists[0] & lists[2]
    assert not lists[1] & lists[2]
    assert found.rules or not status.active


@LAW
@given(STATUSES)
def test_less_is_known_without_the_policy(status: UfwStatus) -> None:
    """Without the default policy nothing turns from allowed to blocked or back: it may become unknown."""
    less = UfwStatus(active=status.active, incoming=None, rules=status.rules)
    whole, part = (answer(one, "tcp", sources=parse_prefixes(SOURCES), ports=PORT) for one in (status, less))
    assert not parse_prefixes(part.allowed) - parse_prefixes(whole.allowed)
    assert not parse_prefixes(part.blocked) - parse_prefixes(whole.blocked)
