"""What `nft list ruleset` prints, as text: every form, pastes of it, and what is cut off."""

import contextlib
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packets.addresses import parse_port_range, parse_prefixes
from packets.dumps.nftables import read_nftables
from packets.dumps.nftables_listing import Ruleset
from packets.dumps.nftables_words import read_elements, read_rule, tokens
from packets.netfilter import Question
from packets.nftables import answer

LISTED = """table ip kube-proxy { # handle 1
    comment "rules for kube-proxy"

    set cluster-ips { # handle 5
        type ipv4_addr
        comment "Active ClusterIPs"
        elements = { 10.0.0.1, 10.0.0.10,
        10.0.12.7 }
    }

    map service-ips { # handle 6
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.0.0.1 . tcp . 443 comment "default/kubernetes:https"
        : goto service-2QRHZV4L-default/kubernetes/tcp/https,
        10.0.0.10 . udp . 53 : goto service-FY5PMXPG-kube-system/kube-dns/udp/dns }
    }

    flowtable f {
        hook ingress priority filter
        devices = { eth0 }
    }

    ct helper ftp {
        type "ftp" protocol tcp
        l3proto ip
    }

    counter hits {
        packets 0 bytes 0
    }

    chain nat-prerouting { # handle 12
        comment "type filter hook input priority 0; policy drop;"
        type nat hook prerouting priority dstnat; policy accept;
        jump services # handle 20
    }

    chain services { # handle 13
        ip daddr . meta l4proto . th dport vmap @service-ips # handle 21
    }

    chain service-2QRHZV4L-default/kubernetes/tcp/https {
        ip saddr != 10.244.0.0/16 jump mark-for-masquerade
        numgen random mod 1 vmap { 0 : goto endpoint-7X }
    }

    chain filter-input { # handle 14
        type filter hook input priority -110; policy accept;
        ct state vmap { established : accept,
                related : accept } # handle 22

        ip daddr @cluster-ips reject # handle 23
        tcp dport 10250 ip saddr 10.240.0.128/25 drop # handle 24
    }
}
table ip6 empty {
}
""".replace("    ", "\t")
NODES = "10.240.0.0/24"


def sorted_out(text: str, destination: str = "10.240.0.4") -> tuple[tuple[str, ...], ...]:
    """Allowed, blocked and unknown sources of TCP 10250."""
    question = Question.to_node(
        "tcp",
        parse_port_range("10250"),
        sources=parse_prefixes([NODES]),
        destinations=parse_prefixes([destination]),
    )
    said = answer(read_nftables(text), question)
    return said.allowed, said.blocked, said.unknown


def test_structure() -> None:
    """Tables, chains, sets; rules with their places, texts and handles."""
    first, second = read_nftables(LISTED).tables
    assert (first.family, first.name, [*first.sets]) == ("ip", "kube-proxy", ["cluster-ips", "service-ips"])
    assert (second.family, second.name, [*second.chains]) == ("ip6", "empty", [])
    assert {name: len(chain.read()) for name, chain in first.chains.items()} == {
        "nat-prerouting": 1,
        "services": 1,
        "service-2QRHZV4L-default/kubernetes/tcp/https": 2,
        "filter-input": 3,
    }
    assert [(rule.text, rule.handle) for rule in first.chains["filter-input"].read()] == [
        ("ct state vmap { established : accept, related : accept }", 22),
        ("ip daddr @cluster-ips reject", 23),
        ("tcp dport 10250 ip saddr 10.240.0.128/25 drop", 24),
    ]
    assert first.sets["cluster-ips"].read() == (("10.0.0.1", None), ("10.0.0.10", None), ("10.0.12.7", None))
    assert first.sets["service-ips"].read()[1] == (
        {"concat": ["10.0.0.10", "udp", "53"]},
        {"goto": {"target": "service-FY5PMXPG-kube-system/kube-dns/udp/dns"}},
    )


HALVES = (("10.240.0.0/25",), ("10.240.0.128/25",), ())


@pytest.mark.parametrize(
    "text",
    [
        LISTED,
        LISTED.replace("\n", "\r\n"),
        "\ufeff" + LISTED,
        LISTED.replace("\t", "        "),
        LISTED.replace("\t", ""),
        "\n\n" + LISTED.replace("\n", "\n\n"),
        f"azureuser@aks-agentpool-1-vmss000000:~$ sudo nft -a list ruleset\n{LISTED}azureuser@aks:~$ ",
        f"# nft list ruleset\n{LISTED}#\n",
        f"Enable succeeded: \n[stdout]\n{LISTED}\n[stderr]\n",
        f"```\n{LISTED}```",
        "# Warning: table ip filter is managed by iptables-nft, do not touch!\n" + LISTED,
        f"{LISTED}# Warning: table ip filter is managed by iptables-nft, do not touch!\ntable ip x {{\n}}\n",
        "\n".join(line.partition(" # handle")[0] for line in LISTED.split("\n")),
    ],
)
def test_pastes(text: str) -> None:
    """What stands around the ruleset and between its lines changes nothing."""
    assert sorted_out(text) == HALVES


@pytest.mark.parametrize("line", range(1, LISTED.count("\n")))
def test_cut_off_at_the_end(line: int) -> None:
    """Whatever is cut off, nothing is allowed for sure; what is blocked is so by what is left."""
    lines = LISTED.split("\n")
    # In the middle of the line: half of a prefix is another prefix.
    text = "\n".join([*lines[:line], lines[line][: len(lines[line]) // 2 + 1]])
    allowed, blocked, unknown = sorted_out(text)
    if lines[line] == "}":
        # Between two tables nobody can tell.
        assert (allowed, blocked) == HALVES[:2]
    else:
        assert not allowed
        assert unknown
        assert blocked in {(), HALVES[1]}


@pytest.mark.parametrize("line", range(1, LISTED.count("\n") - 2))
def test_cut_off_at_the_beginning(line: int) -> None:
    """Without the name of a table before it nothing is known of what is there."""
    text = "\n".join(LISTED.split("\n")[line:])
    allowed, blocked, unknown = sorted_out(text)
    assert (allowed, blocked, unknown) == ((), (), (NODES,))


def test_a_hole_in_the_middle() -> None:
    """Lines that were lost, or that something else was printed between, leave the rest in doubt."""
    lines = LISTED.split("\n")
    for first, last in ((5, 40), (9, 20), (34, 46)):
        allowed, _, unknown = sorted_out("\n".join([*lines[:first], *lines[last:]]))
        assert not allowed, (first, last)
        assert unknown, (first, last)
    for noise in (
        "--More--",
        "[ 12.345678] eth0: link up",
        "Error: cache initialization failed: Interrupted",
    ):
        assert sorted_out(LISTED.replace("\tcounter hits", f"{noise}\n\tcounter hits"))[0] == ()
        assert sorted_out(LISTED + noise + "\n")[0] == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the text is empty"),
        (" \r\n\t\n", "the text is empty"),
        ("nft: command not found\n", "nft is not installed"),
        ("sh: 1: nft: not found\n", "nft is not installed"),
        ("Operation not permitted (you must be root)\nnetlink: Error\n", "not run as root"),
        ("# ls\nbin  etc\n# ", 'line 1 is "# ls"'),
        ("Status: active\n", 'line 1 is "Status: active"'),
        ("\t}\n}\n", "the beginning of the listing is missing"),
        (
            "\t\ttype filter hook input priority filter; policy accept;\n",
            "the beginning of the listing is missing",
        ),
    ],
)
def test_no_ruleset(text: str, says: str) -> None:
    """Refused with the line at fault."""
    with pytest.raises(ValueError, match=says):
        read_nftables(text)


def test_an_empty_ruleset() -> None:
    """Nothing but the command: there is none. A part of it was asked for: that says nothing."""
    for above in ("# nft list ruleset", "root@node:/# nft -a list ruleset", "$ sudo nft list ruleset"):
        assert read_nftables(f"{above}\n") == Ruleset(())
    for above in ("# nft list table ip filter", "# nft list ruleset | grep drop"):
        with pytest.raises(ValueError, match="no ruleset"):
            read_nftables(f"{above}\n")


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("", []),
        ("22, 80-90", [("22", None), ("80-90", None)]),
        ('"eth0", "lo"', [("eth0", None), ("lo", None)]),
        ("22 : accept, * : drop", [("22", {"accept": None}), ("*", {"drop": None})]),
        (
            '10.0.0.1 counter packets 1 bytes 40 timeout 1h expires 59m59s comment "a, b : c }" : jump x',
            [("10.0.0.1", {"jump": {"target": "x"}})],
        ),
        (
            "fd00::/8 . 22, ::1 . 23",
            [({"concat": ["fd00::/8", "22"]}, None), ({"concat": ["::1", "23"]}, None)],
        ),
        ("syn | ack, syn", [({"|": ["syn", "ack"]}, None), ("syn", None)]),
        ("10.0.0.1 limit rate 10/second burst 5 packets", [("10.0.0.1", None)]),
    ],
)
def test_elements(text: str, elements: list[tuple[object, object]]) -> None:
    """Members of sets and maps, without what is kept of them."""
    assert read_elements(text) == elements


def test_tokens() -> None:
    """Strings stay whole; signs stand alone, with spaces around them or without."""
    assert tokens('tcp flags&(fin|syn)==syn log prefix "a { b" # x') == [
        *("tcp", "flags", "&", "(", "fin", "|", "syn", ")", "==", "syn", "log", "prefix", '"a { b"'),
    ]
    assert tokens('tcp dport {22,23} @th,16,16 "# xt_y" # xt_recent') == [
        *("tcp", "dport", "{", "22", ",", "23", "}", "@th,16,16", '"# xt_y"', "xt", "unreadable", "recent"),
    ]


WORDS = st.sampled_from(
    (
        *(
            "ip",
            "saddr",
            "tcp",
            "dport",
            "10250",
            "{",
            "}",
            "(",
            ")",
            ",",
            ".",
            ":",
            ";",
            "==",
            "!=",
            "&",
            "|",
        ),
        *("/", "@s", "@th,16,16", "vmap", "map", "drop", "accept", "jump", "x", '"a b"', '"', "#", "comment"),
        *(
            "ct",
            "state",
            "new",
            "limit",
            "rate",
            "over",
            "meter",
            "update",
            "log",
            "prefix",
            "reject",
            "with",
        ),
        *("set", "meta", "mark", "-", "*", "xt", "match", "fib", "numgen", "jhash", "tcp", "{", "}"),
    )
)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12))
def test_any_words_are_a_rule(words: list[str]) -> None:
    """The reader of rules never fails; and what it reads is judged, whatever it is."""
    line = " ".join(words)
    read_rule(line)
    rules = line.replace("{", "").replace("}", "")
    for rule in (line, rules):
        text = f"table ip t {{\n chain c {{\n  type filter hook input priority 0; policy accept;\n  {rule}\n"
        allowed, blocked, unknown = sorted_out(f"{text} }}\n}}\n")
        assert (*allowed, *blocked, *unknown) == (NODES,)


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from(LISTED + '"'), max_size=300), st.integers(0, len(LISTED)))
def test_any_text_is_read_or_refused(text: str, at: int) -> None:
    """With a `ValueError`, and nothing else, wherever it stands."""
    for one in (text, LISTED[:at] + text, LISTED[:at] + text + LISTED[at:]):
        with contextlib.suppress(ValueError):
            found = sorted_out(one)
            assert parse_prefixes(chain(*found)) == parse_prefixes([NODES])
